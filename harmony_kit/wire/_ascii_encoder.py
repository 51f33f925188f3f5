"""Byte-pair encoding of ASCII text in pure Python: slow to encode, but quick to construct.

tiktoken needs more than 100 ms to load the 200,000 ranks before it encodes the first character,
which is most of the running time of a process that renders one short prompt. This encoder needs
only the dictionary of ranks.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

LONGEST_PIECE: Final = 64
"""In characters. The merge below is quadratic in the length of a piece."""

# The pattern of o200k_base (see _vocabulary.py), reduced to ASCII.
_PIECES: Final = re.compile(
    r"""
      [^\r\nA-Za-z0-9]? [A-Z]* [a-z]+ (?i:'s|'t|'re|'ve|'m|'ll|'d)?
    | [^\r\nA-Za-z0-9]? [A-Z]+ [a-z]* (?i:'s|'t|'re|'ve|'m|'ll|'d)?
    | [0-9]{1,3}
    | \x20? [^\sA-Za-z0-9]+ [\r\n/]*
    | \s* [\r\n]+
    | \s+ (?!\S)
    | \s+
    """,
    re.ASCII | re.VERBOSE,
)


class AsciiEncoder:
    """Encodes ASCII text until a total number of characters is reached.

    Args:
        ranks: The rank of every ordinary token by its bytes.
        characters: The total.
    """

    def __init__(self, ranks: Mapping[bytes, int], characters: int) -> None:
        self._ranks = ranks
        self._characters = characters

    def encode(self, text: str) -> list[int] | None:
        """The token ids of a text; `None` if it is not ASCII, too long, or over the total."""
        if len(text) > self._characters or not text.isascii():
            return None
        pieces = _PIECES.findall(text)
        if max(map(len, pieces), default=0) > LONGEST_PIECE:
            return None
        self._characters -= len(text)
        tokens: list[int] = []
        for piece in pieces:
            tokens += _merge(piece.encode(), self._ranks.get)
        # New integer objects, adjacent in memory: those of the ranks are so far apart that every
        # later copy of the tokens would take twice as long.
        return array("I", tokens).tolist()


def _merge(piece: bytes, rank_of: Callable[[bytes], int | None]) -> list[int]:
    """Join the first pair of lowest rank, repeatedly, until no pair is a token."""
    rank = rank_of(piece)
    if rank is not None:
        return [rank]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        pairs = [rank_of(a + b) for a, b in pairwise(parts)]
        lowest = min((rank for rank in pairs if rank is not None), default=None)
        if lowest is None:
            return [rank for rank in map(rank_of, parts) if rank is not None]
        first = pairs.index(lowest)
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
