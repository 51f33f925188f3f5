"""Searching for text in a page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final
from urllib.parse import quote

from ._errors import BrowserArgumentsError
from ._marks import clean_line, without_links, words_of
from ._page import Link, Page

_SHOWN_LINES: Final = 4  # lines of the page per match
_MAX_MATCHES: Final = 50


def find_in_page(page: Page, pattern: str) -> Page:
    """The places of a page that contain a text, as a page with a link to each.

    The search ignores case and link marks, and any whitespace matches any other.

    Raises:
        BrowserArgumentsError: The text is empty.
    """
    shown_pattern = clean_line(pattern)
    if not _Searchable(shown_pattern).text:
        raise BrowserArgumentsError("find needs a pattern, the text to look for")
    lines = list(islice(_matching_lines(page, shown_pattern), _MAX_MATCHES + 1))
    parts: list[str] = []
    sections: list[int] = []
    length = 0
    for number, line in enumerate(lines[:_MAX_MATCHES]):
        passage = without_links("\n".join(page.lines[line : line + _SHOWN_LINES]))
        part = f"# 【{number}†match at L{line}】\n{passage}"
        sections.append(length)
        parts.append(part)
        length += len(part) + 2
    if len(lines) > _MAX_MATCHES:
        parts.append(f"[Only the first {_MAX_MATCHES} matches are shown.]")
    return Page(
        url=f"{page.url}/find?pattern={quote(shown_pattern)}",
        title=f"Find results for text: `{shown_pattern}` in `{page.title}`",
        text="\n\n".join(parts) or f"No `find` results for pattern: `{shown_pattern}`",
        links=tuple(Link(page.url, page.title, line) for line in lines[:_MAX_MATCHES]),
        sections=tuple(sections),
        origin=page,
    )


def line_of_passage(page: Page, passage: str) -> int | None:
    """The line in which a text begins.

    Returns:
        The number of the line, or `None` if the text is not in the page.
    """
    return next(_matching_lines(page, passage), None)


def _matching_lines(page: Page, pattern: str) -> Iterator[int]:
    """The lines in which matches begin, except those shown with the previous match."""
    wanted = _Searchable(pattern).text
    if not wanted:
        return
    searchable = _Searchable(page.text)
    index = searchable.text.find(wanted)
    free_from = 0
    while index >= 0:
        line = page.line_at(searchable.position(index))
        if line >= free_from:
            yield line
            free_from = line + _SHOWN_LINES
        index = searchable.text.find(wanted, index + len(wanted))


class _Searchable:
    """The words of a text, lowercased and separated by single spaces, with their positions."""

    def __init__(self, text: str) -> None:
        pieces: list[str] = []
        self._starts: list[int] = []  # of the words, in the searchable text
        self._positions: list[int] = []  # of the words, in the original text
        length = 0
        for word in words_of(text):
            if word.after_blank and pieces:
                pieces.append(" ")
                length += 1
            self._starts.append(length)
            self._positions.append(word.position)
            pieces.append(_lower(word.text))
            length += len(word.text)
        self.text = "".join(pieces)

    def position(self, index: int) -> int:
        """The index in the original text of a character of the searchable text."""
        word = bisect_right(self._starts, index) - 1
        return self._positions[word] + index - self._starts[word]


def _lower(word: str) -> str:
    """A word in lower case, with its length unchanged."""
    lower = word.lower()
    if len(lower) == len(word):
        return lower
    return "".join(low if len(low := character.lower()) == 1 else character for character in word)
