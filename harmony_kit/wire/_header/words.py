"""The tokens of a header as sections and words, each with its place."""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from .._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    FIRST_SPECIAL,
    ordinary_token_table,
)

# Words end at any blank: Unicode's White_Space.

_BLANK: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WORD: Final = re.compile(f"[^{_BLANK}]+")
OTHER_BLANK: Final = re.compile(f"[{_BLANK.replace(' ', '')}]")


class Section:
    """A stretch of text of a header: its beginning, or what follows a special token.

    Attributes:
        marker: `CHANNEL`, `CONSTRAIN`, or `None` for the beginning and for what follows a
            token that has no place in a header.
        position: The index in the header of its first token.
        text: The text; what is not UTF-8 in it is U+FFFD.
    """

    def __init__(
        self, marker: int | None, pieces: list[bytes], position: int, text: str | None = None
    ) -> None:
        self.marker = marker
        self.position = position
        self.text = b"".join(pieces).decode("utf-8", "replace") if text is None else text
        self._pieces = pieces
        self._ends: list[int] = []

    def upto(self, character: int) -> Section:
        """The part before a character."""
        text = self.text[:character].rstrip(" ")
        return Section(self.marker, self._pieces, self.position, text)

    @property
    def end(self) -> int:
        """One past the index of its last token."""
        return self.position + len(self._pieces)

    def token_at(self, character: int) -> int:
        """The index in the header of the token in which a character ends."""
        if not self._ends:
            decoder = getincrementaldecoder("utf-8")("replace")
            self._ends = list(accumulate(len(decoder.decode(p)) for p in self._pieces))
        return self.position + min(bisect_right(self._ends, character), len(self._pieces) - 1)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """The tokens of some characters of the text, as indices in the header."""
        return self.token_at(start), self.token_at(end - 1) + 1

    @property
    def marker_place(self) -> tuple[int, int]:
        """The marker, as indices in the header."""
        return self.position - 1, self.position


class Word(NamedTuple):
    """A word of a header.

    Attributes:
        text: The word.
        section: Where it stands.
        start: Its first character in the section.
        marked: Whether it is the first after the marker of its section.
    """

    text: str
    section: Section
    start: int
    marked: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """Its tokens, as indices in the header."""
        return self.section.place(self.start, self.start + len(self.text))


def read_sections(tokens: Sequence[int]) -> tuple[list[Section], list[int]]:
    """The stretches of text of a header, and the places of tokens that do not belong in it."""
    table = ordinary_token_table()
    sections: list[Section] = []
    misplaced: list[int] = []
    marker: int | None = None
    start = 0
    for index, token in enumerate([*tokens, CHANNEL]):
        if 0 <= token < FIRST_SPECIAL:
            continue
        sections.append(Section(marker, [table[t] for t in tokens[start:index]], start))
        start = index + 1
        marker = token if token in (CHANNEL, CONSTRAIN) else None
        if marker is None:
            misplaced.append(index)
    return sections, misplaced


def read_words(sections: Iterable[Section]) -> list[Word]:
    words: list[Word] = []
    for section in sections:
        marked = section.marker is not None
        for match in _WORD.finditer(section.text):
            word = Word(match.group(), section, match.start(), marked)
            glued = word.text.find("to=") if marked and section.marker == CHANNEL else -1
            if glued > 0:
                words.append(word._replace(text=word.text[:glued]))
            if glued >= 0:
                word = Word(word.text[glued:], section, word.start + glued)
            words.append(word)
            marked = False
    return words
