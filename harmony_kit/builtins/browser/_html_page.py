"""HTML to the text of a page.

No tree is built, and nothing is looked at twice: the time is linear in the length of the
document, however it is nested.
"""

from __future__ import annotations

from typing import Any, Final

from ._errors import required
from ._html_reader import HtmlReader
from ._marks import clean_line

_PIECE: Final = 8192  # characters that the parser is fed at a time
_MAX_DEPTH: Final = 600  # the parser looks through all open elements for the start of an end tag


class HtmlText:
    """The text of an HTML document.

    Args:
        html: The document.
        url: Its address, from which relative links are resolved.

    Attributes:
        title: The title, empty if there is none.
        text: The text with the marks of its links.
        links: Where they lead; the position is the id.

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
    """Let a parser tell the reader what there is.

    Where elements are nested too deep a new parser goes on, so that no end tag costs more
    than that depth. All that is lost is what the rest was nested in.
    """
    etree: Any = required("lxml.etree")

    def new_parser() -> Any:
        return etree.HTMLParser(target=reader, encoding="utf-8", huge_tree=True)

    parser = new_parser()
    start = 0
    is_fed = False
    while start < len(html):
        end = html.find("<", start + _PIECE)  # not within a tag, nor within a word
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
