"""The shape of a text: what may stand where, as values that know no engine.

A shape is built of eight kinds of parts. Every emitter writes them in the language of one
engine, and `position` says what is left of a shape when some of it has been written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Union

from ..wire._vocabulary import FIRST_SPECIAL, decode


@dataclass(frozen=True)
class SpecialToken:
    """One special token.

    Attributes:
        token: Its id.
    """

    token: int


@dataclass(frozen=True)
class FixedText:
    """A text, in any tokens that spell it.

    Attributes:
        text: The text; not empty.
    """

    text: str


@dataclass(frozen=True)
class FreeText:
    """Any text, without special tokens.

    Attributes:
        required: Whether there is at least one character.
        max_tokens: The most tokens; `None` for no limit.
    """

    required: bool = False
    max_tokens: int | None = None


@dataclass(frozen=True)
class JsonValue:
    """A JSON value.

    Attributes:
        schema_json: The JSON Schema that it meets, as JSON text.
        path: What the schema is that of, for errors, such as `functions.get_weather`.
    """

    schema_json: str
    path: str = ""


@dataclass(frozen=True)
class MatchingText:
    """A text that a regular expression matches as a whole.

    Attributes:
        pattern: The regular expression.
    """

    pattern: str


@dataclass(frozen=True)
class InOrder:
    """Parts that follow one another.

    Attributes:
        parts: The parts; none is the empty text.
    """

    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class OneOf:
    """Exactly one of several parts.

    Attributes:
        options: The parts; none is what nothing can be.
    """

    options: tuple[Shape, ...]


@dataclass(frozen=True)
class ZeroOrMore:
    """A part any number of times.

    Attributes:
        part: The part.
    """

    part: Shape


# As a Union: in Python 3.11 a name cannot stand on both sides of its own alias otherwise.
Shape = Union[  # noqa: UP007
    SpecialToken, FixedText, FreeText, JsonValue, MatchingText, InOrder, OneOf, ZeroOrMore
]
"""What a text may be."""

EMPTY: Final = InOrder(())
"""The empty text."""

IMPOSSIBLE: Final = OneOf(())
"""What nothing can be."""


def in_order(*parts: Shape) -> Shape:
    """Parts that follow one another, without layers that say nothing.

    Args:
        *parts: The parts.
    """
    flat: list[Shape] = []
    for part in parts:
        if part == IMPOSSIBLE:
            return IMPOSSIBLE
        flat += part.parts if isinstance(part, InOrder) else (part,)
    return flat[0] if len(flat) == 1 else InOrder(tuple(flat))


def one_of(*options: Shape) -> Shape:
    """One of several parts, without doubles and without layers that say nothing.

    Args:
        *options: The parts.
    """
    flat: dict[Shape, None] = {}
    for option in options:
        inner = option.options if isinstance(option, OneOf) else (option,)
        flat.update(dict.fromkeys(inner))
    return next(iter(flat)) if len(flat) == 1 else OneOf(tuple(flat))


def shape_of_tokens(tokens: Sequence[int]) -> Shape:
    """The shape of exactly what some tokens spell.

    Args:
        tokens: Token ids; the ordinary ones between two special ones are whole text.
    """
    parts: list[Shape] = []
    start = 0
    for index, token in enumerate([*tokens, FIRST_SPECIAL]):
        if token < FIRST_SPECIAL:
            continue
        if index > start:
            parts.append(FixedText(decode(tokens[start:index])))
        if index < len(tokens):
            parts.append(SpecialToken(token))
        start = index + 1
    return in_order(*parts)
