"""Random completions under a constraint, as a model with random weights would write."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

import harmony_kit as hk
from harmony_kit.grammar import Constraint
from harmony_kit.wire._vocabulary import FIRST_SPECIAL, ordinary_token_table

_DENSE = 500
_NASTY = re.compile(rb'["\\{}\[\],:\n\t.eE+-]|to=|[0-9]|[\x80-\xff]|\bnull\b')


@cache
def _nasty_tokens() -> list[int]:
    """Tokens that break careless code: quotes, escapes, brackets, whitespace, numbers."""
    table = ordinary_token_table()[:FIRST_SPECIAL]
    return [token for token, spelt in enumerate(table) if len(spelt) < 6 and _NASTY.search(spelt)]


def tokens_of(mask: bytes) -> list[int]:
    """The tokens of a mask."""
    found = []
    for match in re.finditer(rb"[^\0]", mask):
        byte, start = match.group()[0], 8 * match.start()
        found += [start + bit for bit in range(8) if byte >> bit & 1]
    return found


def pick(mask: bytes, chance: random.Random, malice: float) -> int:
    """A random token of a mask; with probability `malice` one that is likely to cause trouble."""

    def is_allowed(token: int) -> bool:
        return bool(mask[token // 8] >> token % 8 & 1)

    if chance.random() < malice:
        special = [t for t in range(FIRST_SPECIAL, FIRST_SPECIAL + 21) if is_allowed(t)]
        if special and chance.random() < 0.3:
            return chance.choice(special)
        for _ in range(20):
            token = chance.choice(_nasty_tokens())
            if is_allowed(token):
                return token
    if int.from_bytes(mask, "little").bit_count() < _DENSE:
        return chance.choice(tokens_of(mask))
    while True:
        token = chance.randrange(8 * len(mask))
        if is_allowed(token):
            return token


def walk(constraint: Constraint, max_tokens: int, seed: int, *, malice: float = 0.3) -> list[int]:
    """A completion of random allowed tokens."""
    chance = random.Random(seed)
    matcher = constraint.matcher(max_tokens)
    tokens: list[int] = []
    while not matcher.is_finished:
        token = pick(matcher.bitmask(), chance, malice)
        assert matcher.accept_token(token), (token, hk.decode(tokens))
        tokens.append(token)
        assert len(tokens) <= max_tokens, hk.decode(tokens)
    return tokens


def schema_of(tool: hk.Tool) -> Any:
    """The schema of a tool's arguments."""
    return {"type": "object"} if tool.parameters is None else tool.parameters
