"""An opened page: its text in lines, and its links."""

from __future__ import annotations

import re
import textwrap
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, Final, NamedTuple

from ...errors import ToolError
from ._marks import clean_line

WIDTH: Final = 80
"""Characters per line of a view, as in the model's training."""

_MAX_TITLE: Final = 200

# textwrap takes quadratic time on a long word. Lines with a word longer than this are not broken at
# hyphens.
_LONG: Final = re.compile(r"\S{161,}|\s{161,}")
_WORD_OR_BLANK: Final = re.compile(r"\S+|\s+")


@dataclass(frozen=True, slots=True)
class Link:
    """The target of a link.

    Attributes:
        url: The URL.
        title: The text of the link.
        line: The line of the page to show; `None` for its start.
        passage: A text to search for on the page, which is then shown first.
    """

    url: str
    title: str = ""
    line: int | None = None
    passage: str = ""


class _Layout(NamedTuple):
    lines: tuple[str, ...]
    starts: tuple[int, ...]  # the index in the text at which each line starts


@dataclass(frozen=True)
class Page:
    """A page under a cursor.

    Attributes:
        url: The URL; empty for a list of search results.
        title: The title, on one line.
        text: The text with link marks, before line breaking.
        links: The targets of the links; the position is the id.
        sections: For a list of results, the index in the text at which each result starts.
        origin: For the results of `find`, the page that was searched.
    """

    url: str
    title: str
    text: str = field(repr=False)
    links: tuple[Link, ...] = field(default=(), repr=False)
    sections: tuple[int, ...] = field(default=(), repr=False)
    origin: Page | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", clean_line(self.title, _MAX_TITLE))

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines as numbered in views; there is at least one."""
        return self._layout.lines

    @cached_property
    def _layout(self) -> _Layout:
        lines: list[str] = []
        starts: list[int] = []
        position = 0
        for line in self.text.split("\n"):
            pieces = wrap_line(line)
            lines += pieces
            starts += accumulate(map(len, pieces[:-1]), initial=position)
            position += len(line) + 1
        return _Layout(tuple(lines), tuple(starts))

    def line_at(self, index: int) -> int:
        """The number of the line that contains a character.

        Args:
            index: The index of the character in the text.
        """
        return bisect_right(self._layout.starts, index) - 1

    def source_of_line(self, line: int) -> Link:
        """The source of a line: a result in a list of results, else the page itself."""
        section = bisect_right(self.sections, self._layout.starts[line]) - 1
        if section >= 0:
            return self.links[section]
        page = self.origin or self
        return Link(page.url, page.title)

    def to_dict(self) -> dict[str, Any]:
        """The page as JSON data, without its `origin`."""
        return {
            "url": self.url,
            "title": self.title,
            "text": self.text,
            "links": [[link.url, link.title, link.line, link.passage] for link in self.links],
            "sections": list(self.sections),
        }

    @staticmethod
    def from_dict(data: Any, origin: Page | None = None) -> Page:
        """A page from the data of `to_dict`.

        Args:
            data: The JSON data.
            origin: For the results of `find`, the page that was searched.

        Raises:
            ToolError: The data is not a page.
        """
        try:
            links = tuple(Link(*link) for link in data["links"])
            sections = tuple(data["sections"])
            return Page(data["url"], data["title"], data["text"], links, sections, origin)
        except (TypeError, KeyError) as error:
            raise ToolError(f"not a saved page: {error!r}") from error


def wrap_line(line: str) -> list[str]:
    """Break a line into lines of at most `WIDTH` characters, whose concatenation is the line.

    The breaks are those of `textwrap`, as in the model's training.
    """
    if len(line) <= WIDTH:
        return [line]
    if "-" in line and _LONG.search(line) is None:
        return textwrap.wrap(line, WIDTH, replace_whitespace=False, drop_whitespace=False)
    return _wrap_at_blanks(line)


def _wrap_at_blanks(line: str) -> list[str]:
    """The same without breaks after hyphens, in linear time for words of any length."""
    pieces: list[str] = []
    start = end = 0  # of the current part
    for word in _WORD_OR_BLANK.finditer(line):
        if word.end() - start <= WIDTH:
            end = word.end()
            continue
        if len(word[0]) <= WIDTH:
            pieces.append(line[start:end])
            start, end = word.span()
            continue
        while word.end() - start > WIDTH:
            pieces.append(line[start : start + WIDTH])
            start += WIDTH
        end = word.end()
    if start < end:
        pieces.append(line[start:end])
    return pieces
