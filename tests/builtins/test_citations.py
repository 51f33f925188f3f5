"""Citation marks in answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmony_kit.builtins.browser import CitationStream, Link, Page, resolve_citations

RIVERS = Page("https://a.example/rivers", "Rivers", "\n".join(f"line {n}" for n in range(20)))
LAKES = Page("https://a.example/lakes", "Lakes", "Lake 【0†Constance†b.example】 is deep.")
RESULTS = Page(
    "",
    "query",
    "# Search Results\n\n  * 【0†Seas】 salt\n  * 【1†Ponds】 frogs",
    (Link("https://c.example/seas", "Seas"), Link("https://c.example/ponds", "Ponds")),
    (18, 36),
)
FOUND = Page("https://a.example/rivers/find", "Find", "# 【0†match at L3】\nline 3", origin=RIVERS)


class Pages:
    def __init__(self, *pages):
        self.pages = pages

    def page(self, cursor):
        return self.pages[cursor] if cursor < len(self.pages) else None


BROWSER = Pages(RIVERS, LAKES, RESULTS, FOUND)


def test_marks_become_numbers_of_sources():
    text = "Long【0†L3-L4】 and deep【1†L0】. Very【0†L9】【1†L0】."
    resolved = resolve_citations(text, BROWSER)
    assert resolved.text == "Long[1] and deep[2]. Very[1][2]."
    assert [citation.number for citation in resolved.citations] == [1, 2, 1, 2]
    for citation in resolved.citations:
        assert resolved.text[citation.start : citation.end] == f"[{citation.number}]"
        assert citation.mark in text
    first, second, *_ = resolved.citations
    assert (first.url, first.title, first.cursor) == ("https://a.example/rivers", "Rivers", 0)
    assert (first.lines, first.quote) == (((3, 4),), "line 3\nline 4")
    assert second.quote == "Lake Constance is deep."
    assert not resolved.unresolved
    assert not resolved.incomplete


@pytest.mark.parametrize(
    ("mark", "lines"),
    [
        ("【0†L3】", ((3, 3),)),
        ("【0†L3-L5】", ((3, 5),)),
        ("【0†L3-5】", ((3, 5),)),
        ("【0†L3–L5】", ((3, 5),)),
        ("【0†L5-L3】", ((3, 5),)),
        ("【0†L3, L7-L8】", ((3, 3), (7, 8))),
        ("【 0 † L3 】", ((3, 3),)),
        ("【[0]†L3】", ((3, 3),)),
        ("【0†L18-L99】", ((18, 19),)),
        ("【0†Rivers】", ()),
        ("【0†】", ()),
    ],
)
def test_ways_to_name_lines(mark, lines):
    (citation,) = resolve_citations(mark, BROWSER).citations
    assert citation.lines == lines
    assert citation.mark == mark


def test_results_are_cited_as_what_they_tell_of():
    resolved = resolve_citations("a【2†L2】b【2†L3】c【3†L1】", BROWSER)
    assert [citation.url for citation in resolved.citations] == [
        "https://c.example/seas",
        "https://c.example/ponds",
        "https://a.example/rivers",
    ]
    assert [citation.title for citation in resolved.citations] == ["Seas", "Ponds", "Rivers"]


def test_what_there_is_not_is_reported_and_stays():
    text = "x【7†L1】y【0†L20】z【0†L1】"
    resolved = resolve_citations(text, BROWSER)
    assert resolved.text == "x【7†L1】y【0†L20】z[1]"
    assert [(found.cursor, found.reason) for found in resolved.unresolved] == [
        (7, "no page has the cursor 7"),
        (0, "page 0 has lines 0 to 19 only"),
    ]
    for found in resolved.unresolved:
        assert resolved.text[found.start : found.end] == found.mark


@pytest.mark.parametrize(
    "text", ["【注意】雨です", "【1】", "【†】", "【】", "【a†L1】", "】【", "【" + "x" * 500]
)
def test_brackets_that_are_no_marks_stay(text):
    resolved = resolve_citations(text, BROWSER)
    assert resolved.text == text
    assert not resolved.citations
    assert not resolved.unresolved


@pytest.mark.parametrize("half", ["【", "【0", "【0†", "【0†L3", "【12†L3-L"])
def test_half_a_mark_at_the_end_is_reported_and_stays(half):
    resolved = resolve_citations(f"x【0†L1】{half}", BROWSER)
    assert resolved.text == f"x[1]{half}"
    assert resolved.incomplete == half


def test_a_stream_holds_back_what_may_become_a_mark_and_nothing_else():
    stream = CitationStream(BROWSER)
    assert stream.feed("deep 【") == "deep "
    assert stream.feed("0†L") == ""
    assert stream.feed("3】 x") == "[1] x"
    assert stream.feed("【注") == ""
    assert stream.feed("意】") == "【注意】"
    assert stream.feed("【" + "y" * 300) == "【" + "y" * 300
    assert stream.close() == ""
    assert len(stream.citations) == 1


def test_other_markers():
    resolved = resolve_citations(
        "x【0†L1】", BROWSER, marker=lambda number, url: f" ([{number}]({url}))"
    )
    assert resolved.text == "x ([1](https://a.example/rivers))"
    assert resolved.citations[0].end == len(resolved.text)


PIECES = st.sampled_from(
    [
        "【0†L1, L2, L3-L4, L5-L6, L7】",
        "【0†L1】",
        "【1†L0】",
        "【9†L1】",
        "【0†L99】",
        "【",
        "】",
        "†",
        "L1",
        "0",
        "雨",
        " x",
        "【注】",
        "【" + "z" * 250,
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.data())
def test_law_3_pieces_do_not_matter(text, data):
    whole = resolve_citations(text, BROWSER)
    stream = CitationStream(BROWSER)
    shown, start = "", 0
    while start < len(text):
        end = data.draw(st.integers(start, len(text)))
        shown += stream.feed(text[start:end])
        start = max(end, start + 1) if end > start else start
        if end == start and end < len(text):
            shown += stream.feed(text[start : start + 1])
            start += 1
    shown += stream.close()
    assert shown == whole.text
    assert tuple(stream.citations) == whole.citations
    assert tuple(stream.unresolved) == whole.unresolved
    assert stream.incomplete == whole.incomplete
    for citation in whole.citations:
        assert whole.text[citation.start : citation.end] == f"[{citation.number}]"
