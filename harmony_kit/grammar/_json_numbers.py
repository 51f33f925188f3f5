"""JSON numbers within bounds, as rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ._nodes import (
    EMPTY_LANGUAGE,
    EPSILON,
    Literal,
    Node,
    alternatives,
    characters,
    optional,
    repeat,
    sequence,
)

_DIGIT: Final = characters((0x30, 0x39))
_NOT_ZERO: Final = characters((0x31, 0x39))
_ZERO: Final = Literal("0")
_MINUS: Final = Literal("-")
_POINT: Final = Literal(".")
_NATURAL: Final = alternatives(_ZERO, sequence(_NOT_ZERO, repeat(_DIGIT)))
# Up to 299: a number with a greater one could be read as infinite.
_EXPONENT: Final = sequence(
    characters("eE"),
    optional(characters("+-")),
    alternatives(repeat(_DIGIT, 1, 2), sequence(characters("12"), _DIGIT, _DIGIT)),
)

_EXACT_DIGITS: Final = 15
"""How many decimal digits a 64-bit float preserves."""


@dataclass(frozen=True)
class Bounds:
    """An interval of numbers; `None` is no bound.

    Attributes:
        least: The lower bound.
        most: The upper bound.
        above: Whether the lower bound is exclusive.
        below: Whether the upper bound is exclusive.
    """

    least: int | None = None
    most: int | None = None
    above: bool = False
    below: bool = False


def integer_rules(bounds: Bounds) -> Node:
    """Integers within bounds."""
    least, most = bounds.least, bounds.most
    least = least + 1 if least is not None and bounds.above else least
    most = most - 1 if most is not None and bounds.below else most
    if least is None and most is None:
        return sequence(optional(_MINUS), _NATURAL)
    options = []
    if least is None or least < 0:
        largest = None if least is None else -least
        options.append(sequence(_MINUS, _naturals(max(1, -(most or 0)), largest)))
    if most is None or most >= 0:
        options.append(_naturals(max(least or 0, 0), most))
    return alternatives(*options)


def number_rules(bounds: Bounds) -> Node:
    """Numbers within bounds.

    With bounds there is no exponent, and no more digits after the point than a float preserves: a
    number that is rounded could leave the bounds.
    """
    least, most = bounds.least, bounds.most
    if least is None and most is None:
        fraction = sequence(_POINT, repeat(_DIGIT, 1))
        return sequence(optional(_MINUS), _NATURAL, optional(fraction), optional(_EXPONENT))
    digits = _EXACT_DIGITS - len(str(max(abs(least or 0), abs(most or 0))))
    options = []
    if least is None or least < 0:
        nearest = Bounds(0, above=True) if most is None or most >= 0 else None
        near = nearest or Bounds(-(most or 0), above=bounds.below)
        far = Bounds(
            near.least, None if least is None else -least, above=near.above, below=bounds.above
        )
        options.append(sequence(_MINUS, _magnitudes(far, digits)))
    if most is None or most >= 0:
        above = bounds.above and least is not None and least >= 0
        bounds = Bounds(max(least or 0, 0), most, above=above, below=bounds.below)
        options.append(_magnitudes(bounds, digits))
    return alternatives(*options)


def _magnitudes(bounds: Bounds, digits: int) -> Node:
    """Nonnegative numbers with at most so many digits after the point."""
    least, most = bounds.least or 0, bounds.most
    if most is not None and most <= least:
        is_empty = most < least or bounds.above or bounds.below
        return EMPTY_LANGUAGE if is_empty else _whole(least, digits)
    any_fraction = optional(sequence(_POINT, repeat(_DIGIT, 1, digits))) if digits > 0 else EPSILON
    first = sequence(Literal(str(least)), any_fraction)
    if bounds.above:
        first = sequence(Literal(str(least)), _fraction_above_zero(digits))
    between = sequence(_naturals(least + 1, None if most is None else most - 1), any_fraction)
    last = EMPTY_LANGUAGE if most is None or bounds.below else _whole(most, digits)
    return alternatives(first, between, last)


def _whole(number: int, digits: int) -> Node:
    zeros = sequence(_POINT, repeat(_ZERO, 1, digits)) if digits > 0 else EPSILON
    return sequence(Literal(str(number)), optional(zeros))


def _fraction_above_zero(digits: int) -> Node:
    half = digits // 2
    if half < 1:
        return EMPTY_LANGUAGE
    return sequence(_POINT, repeat(_ZERO, 0, half), _NOT_ZERO, repeat(_DIGIT, 0, half - 1 or 1))


def _naturals(least: int, most: int | None) -> Node:
    """Nonnegative integers as JSON writes them."""
    if most is None:
        if least == 0:
            return _NATURAL
        length = len(str(least))
        longer = sequence(_NOT_ZERO, repeat(_DIGIT, length))
        return alternatives(_of_one_length(str(least), "9" * length), longer)
    if most < least:
        return EMPTY_LANGUAGE
    options = []
    for length in range(len(str(least)), len(str(most)) + 1):
        shortest = 0 if length == 1 else 10 ** (length - 1)
        first, last = max(least, shortest), min(most, 10**length - 1)
        options.append(_of_one_length(str(first), str(last)))
    return alternatives(*options)


def _of_one_length(least: str, most: str) -> Node:
    """Numbers between two with the same number of digits."""
    if not least:
        return EPSILON
    first, last, rest = least[0], most[0], len(least) - 1
    free = repeat(_DIGIT, rest, rest)
    if least[1:] == "0" * rest and most[1:] == "9" * rest:
        return sequence(characters((ord(first), ord(last))), free)
    if first == last:
        return sequence(Literal(first), _of_one_length(least[1:], most[1:]))
    options = [sequence(Literal(first), _of_one_length(least[1:], "9" * rest))]
    if ord(last) - ord(first) > 1:
        options.append(sequence(characters((ord(first) + 1, ord(last) - 1)), free))
    options.append(sequence(Literal(last), _of_one_length("0" * rest, most[1:])))
    return alternatives(*options)
