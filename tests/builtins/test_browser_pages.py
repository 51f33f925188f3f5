"""Documents made pages: HTML to text, lines, views; whatever the document is."""

import re
import textwrap
import time

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from timing import assert_linear

import harmony_kit as hk
from harmony_kit.builtins.browser import Document, Page
from harmony_kit.builtins.browser._document_page import page_of_document
from harmony_kit.builtins.browser._find import find_in_page
from harmony_kit.builtins.browser._marks import clean_text, without_links
from harmony_kit.builtins.browser._page import WIDTH, wrap_line
from harmony_kit.builtins.browser._page_view import render_view

URL = "https://site.example/a/b"


def page_of(html, url=URL):
    return page_of_document(Document(url, html))


def text_of(html):
    """The text of a page without the lines that every page begins with."""
    return page_of(html).text.removeprefix(f"\nURL: {URL}\n")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h1>One</h1><h3>Two</h3><p>three", "# One\n\n### Two\n\nthree"),
        ("<p>a\n  b<b>c</b> <i>d</i></p>e<br>f<hr>g", "a bc d\n\ne\nf\n\n---\n\ng"),
        (
            "<ul><li>a<li>b<ol start=3><li>c<li><p>d</ol><li>e</ul>f",
            "  * a\n  * b\n    3. c\n    4. d\n  * e\n\nf",
        ),
        ("<li>alone", "* alone"),
        ("<ul><li>a<p>more</ul>", "  * a\n    more"),
        (
            "<table><tr><th>A<th>B<tr><td>1<td>2<br>3</table>",
            "| A | B |\n| --- | --- |\n| 1 | 2 3 |",
        ),
        ("<table><tr><th>A<td>1<tr><td><td></table>", "| A | 1 |\n| --- | --- |"),
        ("<table><tr><td><h2>x</h2><p>y</table>", "## x\n\ny"),
        ("<table><tr><td>a<td><table><tr><td>b<td>c</table></table>", "a\n\n| b | c |"),
        ("<td>no table", "no table"),
        ("<pre>a\n  b\n</pre>c <code>d</code> <code> </code>", "```\na\n  b\n```\n\nc `d`"),
        ("<pre><code>x<br>\ty</code></pre>", "```\nx\n        y\n```"),
        ("<blockquote>a<blockquote>b</blockquote></blockquote>c", "> a\n\n> > b\n\nc"),
        ("x<sup>2</sup> y<sub>i</sub> z<sup>a b</sup>", "x^{2} y_{i} za b"),
        ("<img alt='a cat' src=x><img src=y><img alt=''>", "[Image 0: a cat]"),
        ("<script>if (a<b) '</p>'</script>a<style>b</style><svg><title>c</title></svg>", "a"),
        ("a<div hidden>b<p>c</div><p style='color:red; DISPLAY : none'>d</p>e", "a\n\ne"),
        ("<select><option>a</select><textarea>b</textarea><noscript>c</noscript>d", "cd"),
        ("<!-- a --><?b c?><![CDATA[d]]>e", "e"),
        ("&lt;b&gt; &copy; &#x1F600; &nosuch; &#0;", "<b> © 😀 &nosuch; \ufffd"),
        ("", ""),
        ("<", "<"),
        ("</div></p>a</table>b", "ab"),
    ],
)
def test_what_is_read_of_html(html, text):
    assert re.sub(r"\n+", "\n", text_of(html)) == re.sub(r"\n+", "\n", text)
    assert text_of(html).count("\n\n") <= text.count("\n\n") + 1


@pytest.mark.parametrize(
    ("html", "text", "urls"),
    [
        ("<a href='c'>x</a>", "【0†x】", ["https://site.example/a/c"]),
        ("<a href='//o.example:81/'> x </a>y", "【0†x†o.example:81】 y", ["https://o.example:81/"]),
        (
            "<base href='/z/'><base href='/q/'><a href='c'>x</a>",
            "【0†x】",
            ["https://site.example/z/c"],
        ),
        ("<a href='?q=1&copy=2'>x</a>", "【0†x】", ["https://site.example/a/b?q=1&copy=2"]),
        (
            "<a href=c>x</a>, <a href=d>y</a>, <a href=c>z</a>",
            "【0†x】, 【1†y】, 【0†z】",
            ["https://site.example/a/c", "https://site.example/a/d"],
        ),
        ("<a href=#c>x</a><a href=mailto:y>y</a><a href='javascript:z'>z</a><a>w</a>", "xyzw", []),
        ("<a href=c><div><h2>x</h2><p>y</div></a>z", "【0†x y】 z", ["https://site.example/a/c"]),
        ("<a href=c><img alt=x></a>", "【0†[Image 0: x]】", ["https://site.example/a/c"]),
        (
            "<a href=c aria-label=x><svg></svg></a><a href=d></a>",
            "【0†x】",
            ["https://site.example/a/c"],
        ),
        ("<a href='http://[x/'>y</a>", "y", []),
        ("<a href='c\n d'>x</a>", "【0†x】", ["https://site.example/a/c%20d"]),
        ("<h2><a href=c>x</a></h2>", "## 【0†x】", ["https://site.example/a/c"]),
        ("a<sup><a href=c>[1]</a></sup>", "a【0†[1]】", ["https://site.example/a/c"]),
    ],
)
def test_links(html, text, urls):
    page = page_of(html)
    assert text_of(html) == text
    assert [link.url for link in page.links] == urls


def test_a_link_that_is_never_closed_does_not_swallow_the_page():
    text = text_of("<p><a href=c>" + "word " * 100 + "<h2>Next</h2><ul><li>item")
    assert text.startswith("【0†word")
    assert len(text[: text.index("】")]) < 450
    assert text.endswith("## Next\n\n  * item")


def test_titles():
    assert page_of("<title> A\n B </title><title>C</title>x").title == "A B"
    assert page_of("x", "https://site.example/some%20page/").title == "some page"
    assert page_of("x", "https://site.example/").title == "site.example"
    assert page_of_document(Document(URL, "<title>A", title="B")).title == "B"


TAGS = ("p", "div", "table", "tr", "td", "ul", "li", "pre", "b", "sup", "code", "h1", "script")
TAGS += ("title", "blockquote", "svg")
MARKUP = st.sampled_from(
    [f"<{tag}>" for tag in TAGS]
    + [f"</{tag}>" for tag in (*TAGS, "a")]
    + ["<a href=x>", "<br>", "<img alt=i>", "<td hidden>", "<base href=z>"]
    + ["&#x3010;", "&#xd800;", "<!--", "-->", "<", "†", "【0†x】"]
)


@examples(200)
@given(st.lists(st.one_of(MARKUP, st.text(max_size=5)), max_size=40).map("".join))
def test_any_document_is_read(html):
    page = page_of(html)
    assert (
        page.text == clean_text(page.text.replace("【", "").replace("】", "")) or "【" in page.text
    )
    marks = re.findall("【(\\d+)†[^【】†]*】", page.text)
    assert page.text.count("【") == page.text.count("】") == len(marks)
    assert {int(mark) for mark in marks} <= set(range(len(page.links)))
    for start in range(0, len(page.lines), 7):
        render_view(page, 0, line=start, num_lines=None, tokens=50)


@examples(200)
@given(st.text())
def test_no_text_can_hold_marks_or_invisible_characters(text):
    clean = clean_text(text)
    assert not re.search("[【】\r\u2028\u200b\u202e\0-\x08\ud800-\udfff]", clean)
    assert clean_text(clean) == clean


HOSTILE = {
    "nesting": lambda n: "<div>" * n + "x",
    "closing": lambda n: "<div>" * (n // 2) + "</p>" * (n // 2),
    "tables": lambda n: "<table><tr><td>" * n,
    "cells": lambda n: "<table><tr>" + "<td>x<br>y" * n,
    "lists": lambda n: "<ul><li>x" * n,
    "quotes": lambda n: "<blockquote>x" * n,
    "links": lambda n: "".join(f"<a href=/{index}>x</a> " for index in range(n)),
    "open links": lambda n: "<a href=/x>x<p>y" * n,
    "formatting": lambda n: "".join(f"<font size={i}>" for i in range(n)) + "<p>x" * n,
    "attributes": lambda n: "<p " + " ".join(f"a{index}=1" for index in range(n)) + ">",
    "one word": lambda n: "<p>" + "x" * (10 * n),
    "hyphens": lambda n: "<p>" + "a-" * (5 * n),
    "punctuation": lambda n: "<p>" + ("!" * 150 + " - ") * (n // 10),
    "blanks": lambda n: "<pre>" + " " * (10 * n) + "</pre>",
    "superscripts": lambda n: "<sup>x" * n,
    "open quotes": lambda n: '<a href="' * n,
    "comments": lambda n: "<!--" * n,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_law_9_pages_are_linear(kind):
    def measure(size):
        html = HOSTILE[kind](size)
        start = time.process_time()
        page = page_of(html)
        render_view(page, 0, line=0, num_lines=None, tokens=100)
        find_in_page(page, "x - y")
        return time.process_time() - start

    assert_linear(measure, 2000, 20_000)


def test_a_page_nested_a_hundred_thousand_deep_keeps_its_text():
    def measure(depth):
        start = time.process_time()
        text = text_of("<div>" * depth + "deep" + "</div>" * depth + "<p>after</p>")
        assert text.split() == ["deep", "after"]
        return time.process_time() - start

    assert_linear(measure, 10_000, 100_000)


# --- Lines and views ------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(
            st.text(alphabet="abc .,é日", max_size=100), st.text(alphabet="ab- ", max_size=100)
        ),
        max_size=8,
    ).map("".join)
)
def test_lines_break_where_textwrap_breaks_them(line):
    longest = max(map(len, re.findall(r"\S+|\s+", line)), default=0)
    expected = textwrap.wrap(line, WIDTH, replace_whitespace=False, drop_whitespace=False) or [""]
    if longest <= 160 or "-" not in line:
        assert wrap_line(line) == expected
    assert "".join(wrap_line(line)) == line
    assert max(map(len, wrap_line(line))) <= WIDTH


@given(st.text(alphabet="ab \n日", max_size=300), st.data())
def test_every_character_has_its_line(text, data):
    page = Page(URL, "", text)
    index = data.draw(st.integers(0, len(text)))
    line = page.line_at(index)
    before = text[:index]
    if index < len(text) and text[index] not in "\n":
        assert text[index] in page.lines[line]
    assert line >= before.count("\n")


@examples(50)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=600), st.integers(1, 60))
def test_a_view_never_takes_more_tokens_than_it_may(text, tokens):
    page = Page(URL, "", clean_text(text))
    shown = render_view(page, 3, line=0, num_lines=None, tokens=tokens).partition("\n\n")[2]
    lines = shown.split("\n")
    assert len(hk.encode(shown)) <= tokens or len(lines) == 1
    assert lines == [f"L{n}: {line}" for n, line in enumerate(page.lines[: len(lines)])]


def test_links_cut_by_a_line_end_are_bare_in_what_is_found():
    page = Page(URL, "", "x " * 36 + "【12†a link with words†other.example】 needle")
    found = find_in_page(page, "needle")
    assert found.text == "# 【0†match at L1】\nlink with words needle"
    assert without_links("a link†b.example】 c 【3†d") == "a link c d"


@given(st.text(alphabet="aB\n İ【†】1", max_size=60), st.text(alphabet="aB İ", max_size=4))
def test_find_agrees_with_a_plain_search(text, pattern):
    page = Page(URL, "", clean_text(text))
    plain = " ".join(page.text.split()).lower()
    wanted = " ".join(pattern.split()).lower()
    if not wanted or "İ" in text + pattern:
        return
    assert bool(find_in_page(page, pattern).links) == (wanted in plain)
