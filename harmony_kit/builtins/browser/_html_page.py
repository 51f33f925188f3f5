"""Converting HTML to the text of a page.

No tree is built and nothing is scanned twice: the time is linear in the length of the document,
regardless of nesting.
"""

from __future__ import annotations

from typing import Any, Final

from ._errors import required
from ._html_reader import HtmlReader
from ._marks import clean_line

_PIECE: Final = 8192  # characters per chunk for the parser
_MAX_DEPTH: Final = 600  # the parser searches all open elements for that of an end tag


class HtmlText:
    """The text of an HTML document.

    Args:
        html: The document.
        url: Its URL, to resolve relative links.

    Attributes:
        title: The title; empty if there is none.
        text: The text with link marks.
        links: The targets of the links; the position is the id.

    Raises:
        ToolError: lxml is not installed.
    """

    def __init__(self, html: str, url: str) -> None:
        reader = HtmlReader(url)
        _parse(html, reader)
        self.title = clean_line("".join(reader.title))
        self.text = reader.text()
        self.links = tuple(reader.links)


def _parse(html: str, reader: HtmlReader) -> None:
    """Feed a document to a parser with the reader as its target.

    Beyond the maximum depth a fresh parser takes over, which bounds the cost of end tags. Only the
    enclosing elements are lost.
    """
    etree: Any = required("lxml.etree")

    def new_parser() -> Any:
        return etree.HTMLParser(target=reader, encoding="utf-8", huge_tree=True)

    parser = new_parser()
    start = 0
    is_fed = False
    while start < len(html):
        end = html.find("<", start + _PIECE)  # do not split tags or words
        end = len(html) if end < 0 else end
        parser.feed(html[start:end].encode("utf-8", "replace"))
        is_fed = True
        start = end
        if reader.depth > _MAX_DEPTH and not reader.in_raw_text and start < len(html):
            parser.close()
            parser = new_parser()
            is_fed = False
    if is_fed:
        parser.close()
