"""Chunks of token ids, with the bytes of each token looked up."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from operator import index, itemgetter
from typing import Final

from ..errors import UnknownTokenError
from ._roles import Role
from ._vocabulary import FIRST_SPECIAL, SIZE, decode_leniently, ordinary_token_table

# Raised when the look-up gets a value that is not a token id.
_NOT_A_TOKEN_ID: Final = (IndexError, TypeError, OverflowError)
# Special tokens have ids from 199,998 on: of the four bytes of a packed id, the third is 3.
_THIRD_BYTE: Final = 2 if sys.byteorder == "little" else 1
SPECIAL_BYTE: Final = FIRST_SPECIAL >> 16
# The third byte of the other ids for which the table of token bytes has an entry.
_UNKNOWN_BYTES: Final = range(SPECIAL_BYTE + 1, (2 * SIZE >> 16) + 1)
_SENTINEL: Final = bytes([SPECIAL_BYTE])


class Chunk:
    """Tokens and their bytes.

    Args:
        tokens: Integers, which need not be ids of the vocabulary.

    Raises:
        UnknownTokenError: A value is not an integer.

    Attributes:
        tokens: The tokens.
        packed: The tokens as unsigned 32-bit integers; 0 for a value that does not fit.
        pieces: The bytes of each ordinary token; empty for any other.
        marks: One byte per token and a sentinel. Wherever `pieces` is empty, and at the sentinel,
            it is `SPECIAL_BYTE`; so it is for the few ordinary tokens with the highest ids.
    """

    __slots__ = ("marks", "packed", "pieces", "tokens")

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        try:
            # The table would take a negative number as an index from its end; packing refuses it.
            self.packed = array("I", tokens).tobytes()
            self.pieces = look_up(tokens)
        except _NOT_A_TOKEN_ID:
            self._look_up_each()
            return
        self.marks = self.packed[_THIRD_BYTE::4] + _SENTINEL
        if any(byte in self.marks for byte in _UNKNOWN_BYTES):
            self._look_up_each()

    def _look_up_each(self) -> None:
        table = ordinary_token_table()
        pieces: list[bytes] = []
        packed = array("I")
        for place, value in enumerate(self.tokens):
            try:
                token = index(value)
            except TypeError:
                raise UnknownTokenError(value, place) from None
            pieces.append(table[token] if 0 <= token < FIRST_SPECIAL else b"")
            packed.append(token if 0 <= token < 2**32 else 0)
        self.packed = packed.tobytes()
        self.pieces = pieces
        marks = bytes(0 if piece else SPECIAL_BYTE for piece in pieces)
        self.marks = marks + _SENTINEL

    def special(self, begin: int) -> int:
        """The first index from `begin` on of a token that is not ordinary; else the length."""
        find, pieces, length = self.marks.find, self.pieces, len(self.tokens)
        found = find(SPECIAL_BYTE, begin)
        while found < length and pieces[found]:
            found = find(SPECIAL_BYTE, found + 1)
        return found


def look_up(tokens: Sequence[int]) -> Sequence[bytes]:
    """The bytes of each token; empty for one that is not ordinary.

    Args:
        tokens: Token ids, none of them negative.

    Raises:
        IndexError: An id is far beyond the vocabulary.
        TypeError: A value is not an integer.
    """
    table = ordinary_token_table()
    if len(tokens) > 1:
        found: Sequence[bytes] = itemgetter(*tokens)(table)  # faster than any loop
        return found
    return [table[token] for token in tokens]


def packed(tokens: Sequence[int]) -> bytes:
    """Token ids as unsigned 32-bit integers."""
    return array("I", tokens).tobytes()


def has_text(tokens: Sequence[int]) -> bool:
    """Whether tokens decode to more than whitespace."""
    return bool(decode_leniently(tokens).strip())


def is_blank_or_role(tokens: Sequence[int]) -> bool:
    """Whether tokens decode to whitespace or to `assistant`."""
    return decode_leniently(tokens).strip() in ("", Role.ASSISTANT)
