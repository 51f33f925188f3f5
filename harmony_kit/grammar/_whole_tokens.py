"""The tokens that spell whole characters, of which texts are made whose tokens are counted."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from ..wire._vocabulary import FIRST_SPECIAL, ordinary_token_table


@cache
def tokens_of_broken_characters() -> tuple[int, ...]:
    """The tokens that begin or end within a character."""
    table = ordinary_token_table()[:FIRST_SPECIAL]
    return tuple(token for token, spelt in enumerate(table) if not _is_text(spelt))


@cache
def ranges_of_whole_tokens() -> tuple[tuple[int, int], ...]:
    """The first and last ids of ranges: all ordinary tokens that spell whole characters."""
    edges = (-1, *tokens_of_broken_characters(), FIRST_SPECIAL)
    return tuple((a + 1, b - 1) for a, b in pairwise(edges) if b - a > 1)


def _is_text(spelt: bytes) -> bool:
    try:
        spelt.decode()
    except UnicodeDecodeError:
        return False
    return True
