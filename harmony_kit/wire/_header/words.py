"""Splits the tokens of a header into sections and words that know their positions."""

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

# Words end at any whitespace, as defined by Unicode's White_Space.
_BLANK: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WORD: Final = re.compile(f"[^{_BLANK}]+")
OTHER_BLANK: Final = re.compile(f"[{_BLANK.replace(' ', '')}]")


class Section:
    """The text of a header up to its first special token, or after one of them.

    Attributes:
        marker: The special token before it, if `CHANNEL` or `CONSTRAIN`; else `None`.
        position: The index in the header of its first token.
        text: The text, with U+FFFD for bytes that are not UTF-8.
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
        """The part before a character, without spaces at its end."""
        text = self.text[:character].rstrip(" ")
        return Section(self.marker, self._pieces, self.position, text)

    @property
    def end(self) -> int:
        """One past the index of its last token."""
        return self.position + len(self._pieces)

    def token_at(self, character: int) -> int:
        """The index in the header of the token that completes a character."""
        if not self._ends:
            decoder = getincrementaldecoder("utf-8")("replace")
            self._ends = list(accumulate(len(decoder.decode(p)) for p in self._pieces))
        return self.position + min(bisect_right(self._ends, character), len(self._pieces) - 1)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """The token indices in the header of a range of characters."""
        return self.token_at(start), self.token_at(end - 1) + 1

    @property
    def marker_place(self) -> tuple[int, int]:
        """The token indices in the header of the marker."""
        return self.position - 1, self.position


class Word(NamedTuple):
    """A word of a header.

    Attributes:
        text: The word.
        section: The section.
        start: The index in the section of its first character.
        marked: Whether it is the first word after the marker of its section.
    """

    text: str
    section: Section
    start: int
    marked: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """Its token indices in the header."""
        return self.section.place(self.start, self.start + len(self.text))


def read_sections(tokens: Sequence[int]) -> tuple[list[Section], list[int]]:
    """The sections of a header, and the indices of the tokens that are not allowed in one."""
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
    """The words of sections; `to=` begins a word even where it is glued to a channel."""
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
