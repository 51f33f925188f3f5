"""Byte-pair encoding of ASCII text in plain Python: slow for a text, but ready at once.

tiktoken takes more than 100 ms to take in 200,000 ranks before it encodes the first letter.
A process that renders one short prompt spends most of its time on that. The encoder here
needs the ranks alone.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

LONGEST_PIECE: Final = 64
"""Characters. The merge below is quadratic in the length of a piece."""

# The split of o200k_base (see vocabulary.py), in ASCII, where it has few classes of letters.
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
    """Encodes ASCII text up to a number of characters, and says when it is not the one to ask.

    Args:
        ranks: The rank of every ordinary token by its bytes.
        characters: How many characters it encodes in all.
    """

    def __init__(self, ranks: Mapping[bytes, int], characters: int) -> None:
        self._ranks = ranks
        self._characters = characters

    def encode(self, text: str) -> list[int] | None:
        """The token ids of a text, or `None` where another encoder has to do it.

        Args:
            text: Any text.
        """
        if len(text) > self._characters or not text.isascii():
            return None
        pieces = _PIECES.findall(text)
        if max(map(len, pieces), default=0) > LONGEST_PIECE:
            return None
        self._characters -= len(text)
        tokens: list[int] = []
        for piece in pieces:
            tokens += _merge(piece.encode(), self._ranks.get)
        # New numbers, side by side in memory: those of the ranks lie so far apart that every
        # later copy of the tokens would take twice as long.
        return array("I", tokens).tolist()


def _merge(piece: bytes, rank_of: Callable[[bytes], int | None]) -> list[int]:
    """Join the pair of lowest rank, the first among equals, until no pair is a token."""
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
