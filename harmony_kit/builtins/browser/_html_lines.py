"""The lines of a page, with links, lists and quotes."""

from __future__ import annotations

import re
from typing import Final

from ._link_urls import domain_of
from ._marks import clean_line, link_mark
from ._page import Link

_MAX_LINK_TEXT: Final = 400  # characters; the rest of an unclosed link is plain text
_MAX_INDENT: Final = 6
_BLANK_LINES: Final = re.compile(r"\n{3,}")


class HtmlLines:
    """Writes lines: joins the parts of each, marks links, and indents lists and quotes.

    Args:
        domain: The domain of the document; links to other domains name theirs.

    Attributes:
        links: The targets of the links; the position is the id.
    """

    def __init__(self, domain: str) -> None:
        self.links: list[Link] = []
        self._domain = domain
        self._ids: dict[str, int] = {}  # by URL
        self._inline: list[str] = []  # the parts of the current line
        self._link: tuple[str, str, int] | None = None  # URL, label, where it starts in _inline
        self._link_length = 0
        self._outputs: list[list[str]] = [[]]  # the lines of the document and of open cells
        self._lists: list[int | None] = []  # the number of the next item, or None for bullets
        self._quotes = 0
        self._prefix = ""  # of the next line

    def text(self) -> str:
        """The text read so far."""
        self._flush()
        return _BLANK_LINES.sub("\n\n", "\n".join(self._outputs[0])).strip("\n")

    def _count_link(self, length: int) -> None:
        if self._link is not None:
            self._link_length += length
            if self._link_length > _MAX_LINK_TEXT:
                self._end_link()

    def _end_link(self) -> None:
        """Replace a link's text by its mark; spaces at its ends stay outside."""
        if self._link is None:
            return
        url, label, start = self._link
        self._link = None
        inner = "".join(self._inline[start:])
        del self._inline[start:]
        text = clean_line(inner) or clean_line(label, 100)
        if not text:
            self._inline.append(inner)
            return
        text, rest = _cut(text)
        domain = domain_of(url)
        mark = link_mark(self._link_id(url, text), text, "" if domain == self._domain else domain)
        before = " " if inner[:1].isspace() else ""
        after = " " if inner[-1:].isspace() else ""
        self._inline.append(f"{before}{mark}{rest}{after}")

    def _link_id(self, url: str, text: str) -> int:
        known = self._ids.setdefault(url, len(self.links))
        if known == len(self.links):
            self.links.append(Link(url, text))
        return known

    def _break(self) -> None:
        """End the line unless it is empty; within a link, which is one line, add a space."""
        if self._link is not None:
            self._inline.append(" ")
        else:
            self._flush()

    def _gap(self) -> None:
        """End the line and leave an empty one, except between list items."""
        self._break()
        lines = self._outputs[-1]
        if lines and lines[-1] and not self._lists and self._link is None:
            lines.append("")

    def _flush(self) -> None:
        self._end_link()
        text = " ".join("".join(self._inline).split())
        self._inline = []
        if text:
            self._write(text)

    def _write(self, text: str) -> None:
        indent = "  " * min(len(self._lists), _MAX_INDENT)
        quote = "> " * min(self._quotes, _MAX_INDENT)
        if self._lists and not self._prefix:
            indent += "  "  # aligned with the text of the item
        self._outputs[-1].append(f"{quote}{indent}{self._prefix}{text}" if text else "")
        self._prefix = ""


def _cut(text: str) -> tuple[str, str]:
    """The text of a link within the limit, and the rest."""
    if len(text) <= _MAX_LINK_TEXT:
        return text, ""
    end = text.rfind(" ", _MAX_LINK_TEXT // 2, _MAX_LINK_TEXT)
    end = _MAX_LINK_TEXT if end < 0 else end
    return text[:end], text[end:]
