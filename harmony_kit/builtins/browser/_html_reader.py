"""Converting the events of an HTML parser to the lines of a page, in one pass.

element                      | text
-----------------------------+--------------------------------------------------
a                            | a link mark, or its text if it has no target
h1 to h6                     | `# ` to `###### `
li                           | `  * `, `  1. `, indented
table                        | a line for each row, `| a | b |`
pre, code                    | between fences, between backticks
blockquote                   | `> `
img                          | `[Image 0: alternative text]`
sup, sub                     | `^{2}`, `_{2}`
script, style, svg, hidden   | nothing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from ._html_lines import HtmlLines
from ._link_urls import absolute_url, domain_of
from ._marks import clean_line, clean_text

_MAX_TABLE_DEPTH: Final = 8
_MAX_CELL: Final = 300  # characters of a cell that shares its line with others

_BLOCKS: Final = frozenset(
    (
        "address",
        "article",
        "aside",
        "center",
        "details",
        "dialog",
        "dl",
        "fieldset",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "main",
        "nav",
        "p",
        "section",
    )
)
_LINES: Final = frozenset(
    (
        "body",
        "caption",
        "dd",
        "div",
        "dt",
        "figcaption",
        "html",
        "legend",
        "optgroup",
        "option",
        "summary",
        "tbody",
        "tfoot",
        "thead",
    )
)
_UNSEEN: Final = frozenset(
    (
        "applet",
        "audio",
        "canvas",
        "datalist",
        "embed",
        "iframe",
        "math",
        "object",
        "script",
        "select",
        "style",
        "svg",
        "template",
        "textarea",
        "video",
    )
)
_RAW: Final = frozenset(("script", "style", "textarea", "title", "xmp", "iframe", "noembed"))
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_HIDDEN_STYLE: Final = re.compile(
    r"(?:display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden)", re.I
)
_SCRIPT_TEXT: Final = re.compile(r"[\w+\-]{1,20}")

_Closer = Callable[[], None]


class _Table:
    """An open table: the cells of its current row."""

    def __init__(self) -> None:
        self.cells: list[list[str]] = []
        self.is_header = False
        self.is_layout = False  # the row contains more than one line


class HtmlReader(HtmlLines):
    """The target of a parser, which writes lines.

    Args:
        url: The URL of the document, to resolve relative links.

    Attributes:
        title: The parts of the title.
        links: The targets of the links; the position is the id.
        in_raw_text: Whether the next text is not markup, as in a script.
    """

    def __init__(self, url: str) -> None:
        super().__init__(domain_of(url))
        self.title: list[str] = []
        self.in_raw_text = False
        self._url = url
        self._base = url
        self._closers: list[_Closer | None] = []  # of the open elements
        self._unseen = 0  # the number of open elements that are not shown
        self._in_title = False
        self._pre: list[str] | None = None  # the text of an open pre
        self._tables: list[_Table] = []
        self._images = 0

    @property
    def depth(self) -> int:
        """The number of open elements."""
        return len(self._closers)

    # --- What the parser calls --------------------------------------------------------------

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Open an element."""
        self.in_raw_text = tag in _RAW
        self._closers.append(self._open(tag, attributes))

    def end(self, tag: str) -> None:
        """Close an element; the parser closes every element."""
        del tag
        self.in_raw_text = False
        closer = self._closers.pop()
        if closer is not None:
            closer()

    def data(self, text: str) -> None:
        """Add text."""
        if self._in_title:
            self.title.append(text)
        elif self._unseen:
            return
        elif self._pre is not None:
            self._pre.append(clean_text(text))
        else:
            self._inline.append(clean_text(text))
            self._count_link(len(text))

    def close(self) -> None:
        """End the document; part of lxml's target protocol."""

    # --- Elements ---------------------------------------------------------------------------

    def _open(self, tag: str, attributes: Mapping[str, str]) -> _Closer | None:
        if self._unseen or tag in _UNSEEN or _is_hidden(attributes):
            if not self._unseen and (tag in _BLOCKS or tag in _LINES):
                self._break()
            self._unseen += 1
            return self._close_unseen
        if tag in _BLOCKS:
            self._gap()
            return self._gap
        if tag in _LINES:
            self._break()
            return self._break
        if tag in _HEADINGS:
            self._gap()
            self._prefix += "" if self._link else _HEADINGS[tag]
            return self._close_heading
        opener = _OPENERS.get(tag)
        return None if opener is None else opener(self, attributes)

    def _close_unseen(self) -> None:
        self._unseen -= 1

    def _open_blockquote(self, _: Mapping[str, str]) -> _Closer:
        self._gap()
        self._quotes += 1
        return self._close_quote

    def _close_quote(self) -> None:
        self._gap()
        self._quotes -= 1

    def _close_heading(self) -> None:
        self._break()
        self._prefix = ""  # left from a heading without text
        self._gap()

    def _open_title(self, _: Mapping[str, str]) -> _Closer | None:
        if self.title:
            self._unseen += 1
            return self._close_unseen
        self._in_title = True
        return self._close_title

    def _close_title(self) -> None:
        self._in_title = False

    def _open_base(self, attributes: Mapping[str, str]) -> None:
        if self._base == self._url:
            self._base = absolute_url(self._url, attributes.get("href", "")) or self._url

    def _open_br(self, _: Mapping[str, str]) -> None:
        if self._pre is not None:
            self._pre.append("\n")
        else:
            self._break()

    def _open_hr(self, _: Mapping[str, str]) -> None:
        self._gap()
        self._write("---")
        self._gap()

    def _open_img(self, attributes: Mapping[str, str]) -> None:
        shown = clean_line(attributes.get("alt") or attributes.get("title") or "", 200)
        if shown and self._pre is None:
            self._inline.append(f" [Image {self._images}: {shown}] ")
            self._images += 1

    # --- Within a line ----------------------------------------------------------------------

    def _open_a(self, attributes: Mapping[str, str]) -> _Closer | None:
        self._end_link()
        url = absolute_url(self._base, attributes.get("href", ""))
        if url is None or self._pre is not None:
            return None
        label = attributes.get("aria-label") or attributes.get("title") or ""
        self._link = (url, label, len(self._inline))
        self._link_length = 0
        return self._end_link

    def _open_code(self, _: Mapping[str, str]) -> _Closer | None:
        if self._pre is not None or self._link is not None:
            return None
        return self._around(lambda text: f"`{text}`")

    def _open_sup(self, _: Mapping[str, str]) -> _Closer:
        return self._around(lambda text: f"^{{{text}}}" if _SCRIPT_TEXT.fullmatch(text) else text)

    def _open_sub(self, _: Mapping[str, str]) -> _Closer:
        return self._around(lambda text: f"_{{{text}}}" if _SCRIPT_TEXT.fullmatch(text) else text)

    def _around(self, write: Callable[[str], str]) -> _Closer:
        """A closer that rewrites the text of an element, if it is on one line."""
        line, start, link = self._inline, len(self._inline), self._link

        def close() -> None:
            if self._inline is line and self._link is link and self._pre is None:
                text = "".join(line[start:])
                if text.strip():
                    line[start:] = [write(text)]

        return close

    # --- Lists ------------------------------------------------------------------------------

    def _open_ul(self, _: Mapping[str, str]) -> _Closer:
        return self._open_list(None)

    def _open_ol(self, attributes: Mapping[str, str]) -> _Closer:
        start = attributes.get("start", "")
        return self._open_list(int(start) if re.fullmatch(r"[0-9]{1,9}", start) else 1)

    def _open_list(self, number: int | None) -> _Closer:
        self._gap()
        self._lists.append(number)
        return self._close_list

    def _close_list(self) -> None:
        self._break()
        self._lists.pop()
        self._gap()

    def _open_li(self, _: Mapping[str, str]) -> _Closer:
        self._break()
        mark = "* "
        if self._lists and self._lists[-1] is not None:
            mark = f"{self._lists[-1]}. "
            self._lists[-1] += 1
        self._prefix = mark if self._link is None else ""
        return self._close_item

    def _close_item(self) -> None:
        self._break()
        self._prefix = ""

    # --- Preformatted text ------------------------------------------------------------------

    def _open_pre(self, _: Mapping[str, str]) -> _Closer | None:
        if self._pre is not None:
            return None
        self._end_link()
        self._gap()
        self._pre = []
        if self._tables:
            self._tables[-1].is_layout = True
        return self._close_pre

    def _close_pre(self) -> None:
        text = "".join(self._pre or ()).expandtabs().strip("\n")
        self._pre = None
        if text.strip():
            for line in ("```", *text.split("\n"), "```"):
                self._write(line.rstrip())
        self._gap()

    # --- Tables -----------------------------------------------------------------------------

    def _open_table(self, _: Mapping[str, str]) -> _Closer | None:
        self._end_link()
        self._gap()
        if self._tables:
            self._tables[-1].is_layout = True
        if len(self._tables) >= _MAX_TABLE_DEPTH:
            return self._gap
        self._tables.append(_Table())
        return self._close_table

    def _close_table(self) -> None:
        self._end_row()
        self._tables.pop()
        self._gap()

    def _open_tr(self, _: Mapping[str, str]) -> _Closer:
        self._end_link()
        self._break()
        return self._end_row

    def _end_row(self) -> None:
        self._break()
        if not self._tables:
            return
        table = self._tables[-1]
        for line in _row_lines(table):
            self._write(line)
        table.cells = []
        table.is_header = table.is_layout = False

    def _open_td(self, _: Mapping[str, str]) -> _Closer:
        self._end_link()
        self._break()
        if not self._tables or len(self._outputs) > _MAX_TABLE_DEPTH:
            return self._break
        outer_lists, outer_quotes, self._lists, self._quotes = self._lists, self._quotes, [], 0
        table = self._tables[-1]
        lines: list[str] = []
        self._outputs.append(lines)

        def close() -> None:
            self._break()
            self._outputs.pop()
            self._lists, self._quotes, self._prefix = outer_lists, outer_quotes, ""
            table.cells.append(lines)

        return close

    def _open_th(self, attributes: Mapping[str, str]) -> _Closer:
        if self._tables:
            self._tables[-1].is_header = True
        return self._open_td(attributes)


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    if not attributes:
        return False
    return "hidden" in attributes or _HIDDEN_STYLE.search(attributes.get("style", "")) is not None


def _row_lines(table: _Table) -> list[str]:
    """A row as one line, or its cells sequentially if it is a layout row."""
    cells = [" ".join(" ".join(lines).split()) for lines in table.cells]
    filled = [cell for cell in cells if cell]
    if table.is_layout or len(cells) == 1 or any(len(cell) > _MAX_CELL for cell in cells):
        return [line for lines in table.cells for line in (*lines, "") if line or lines][:-1]
    if not filled:
        return []
    row = ["| " + " | ".join(cells) + " |"]
    if table.is_header and all(table.cells):
        row.append("|" + " --- |" * len(cells))
    return row


_OPENERS: Final[dict[str, Callable[[HtmlReader, Mapping[str, str]], _Closer | None]]] = {
    "a": HtmlReader._open_a,
    "base": HtmlReader._open_base,
    "blockquote": HtmlReader._open_blockquote,
    "br": HtmlReader._open_br,
    "code": HtmlReader._open_code,
    "hr": HtmlReader._open_hr,
    "img": HtmlReader._open_img,
    "li": HtmlReader._open_li,
    "menu": HtmlReader._open_ul,
    "ol": HtmlReader._open_ol,
    "pre": HtmlReader._open_pre,
    "sub": HtmlReader._open_sub,
    "sup": HtmlReader._open_sup,
    "table": HtmlReader._open_table,
    "td": HtmlReader._open_td,
    "th": HtmlReader._open_th,
    "title": HtmlReader._open_title,
    "tr": HtmlReader._open_tr,
    "ul": HtmlReader._open_ul,
}
