"""Ordinary tokens that encode whole characters: only these can be counted in a text."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from ..wire._vocabulary import FIRST_SPECIAL, ordinary_token_table


def is_whole_token(token: int) -> bool:
    """Whether a token is ordinary and encodes whole characters."""
    return 0 <= token < FIRST_SPECIAL and _is_text(ordinary_token_table()[token])


@cache
def tokens_of_broken_characters() -> tuple[int, ...]:
    """The ordinary tokens that begin or end within a character."""
    table = ordinary_token_table()[:FIRST_SPECIAL]
    return tuple(token for token, spelling in enumerate(table) if not _is_text(spelling))


@cache
def ranges_of_whole_tokens() -> tuple[tuple[int, int], ...]:
    """Inclusive ranges of ids: all ordinary tokens that encode whole characters."""
    edges = (-1, *tokens_of_broken_characters(), FIRST_SPECIAL)
    return tuple((a + 1, b - 1) for a, b in pairwise(edges) if b - a > 1)


def _is_text(spelling: bytes) -> bool:
    try:
        spelling.decode()
    except UnicodeDecodeError:
        return False
    return True
