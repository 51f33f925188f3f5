"""JSON numbers within bounds, as rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ._rules import (
    IMPOSSIBLE,
    NOTHING,
    Expression,
    Literal,
    Repeat,
    alternatives,
    characters,
    optional,
    sequence,
)

_DIGIT: Final = characters((0x30, 0x39))
_NOT_ZERO: Final = characters((0x31, 0x39))
_ZERO: Final = Literal("0")
_MINUS: Final = Literal("-")
_POINT: Final = Literal(".")
_NATURAL: Final = alternatives(_ZERO, sequence(_NOT_ZERO, Repeat(_DIGIT, 0, None)))
# Up to 299: one that is greater would be read as infinite.
_EXPONENT: Final = sequence(
    characters("eE"),
    optional(characters("+-")),
    alternatives(Repeat(_DIGIT, 1, 2), sequence(characters("12"), _DIGIT, _DIGIT)),
)

_EXACT_DIGITS: Final = 15
"""How many decimal digits a 64-bit number keeps apart."""


@dataclass(frozen=True)
class Bounds:
    """Between which numbers a number lies.

    Attributes:
        least: The lower bound; `None` for none.
        most: The upper bound; `None` for none.
        above: Whether the lower bound itself is left out.
        below: Whether the upper bound itself is left out.
    """

    least: int | None = None
    most: int | None = None
    above: bool = False
    below: bool = False


def integer_rules(bounds: Bounds) -> Expression:
    """Integers.

    Args:
        bounds: Their bounds.
    """
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


def number_rules(bounds: Bounds) -> Expression:
    """Numbers.

    Args:
        bounds: Their bounds. With bounds there is no exponent, and there are no more digits
            after the point than can be told apart, since a number that is rounded could leave
            them.
    """
    least, most = bounds.least, bounds.most
    if least is None and most is None:
        fraction = sequence(_POINT, Repeat(_DIGIT, 1, None))
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


def _magnitudes(bounds: Bounds, digits: int) -> Expression:
    """Numbers that are not negative.

    Args:
        bounds: Their bounds; the lower one is zero or greater.
        digits: How many digits may follow the point.
    """
    least, most = bounds.least or 0, bounds.most
    if most is not None and most <= least:
        is_empty = most < least or bounds.above or bounds.below
        return IMPOSSIBLE if is_empty else _whole(least, digits)
    any_fraction = optional(sequence(_POINT, Repeat(_DIGIT, 1, digits))) if digits > 0 else NOTHING
    first = sequence(Literal(str(least)), any_fraction)
    if bounds.above:
        first = sequence(Literal(str(least)), _fraction_above_zero(digits))
    between = sequence(_naturals(least + 1, None if most is None else most - 1), any_fraction)
    last = IMPOSSIBLE if most is None or bounds.below else _whole(most, digits)
    return alternatives(*(it for it in (first, between, last) if it != IMPOSSIBLE))


def _whole(number: int, digits: int) -> Expression:
    zeros = sequence(_POINT, Repeat(_ZERO, 1, digits)) if digits > 0 else NOTHING
    return sequence(Literal(str(number)), optional(zeros))


def _fraction_above_zero(digits: int) -> Expression:
    half = digits // 2
    if half < 1:
        return IMPOSSIBLE
    return sequence(_POINT, Repeat(_ZERO, 0, half), _NOT_ZERO, Repeat(_DIGIT, 0, half - 1 or 1))


def _naturals(least: int, most: int | None) -> Expression:
    """Whole numbers from zero on, as JSON writes them.

    Args:
        least: The least.
        most: The greatest; `None` for no limit.
    """
    if most is None:
        if least == 0:
            return _NATURAL
        length = len(str(least))
        longer = sequence(_NOT_ZERO, Repeat(_DIGIT, length, None))
        return alternatives(_of_one_length(str(least), "9" * length), longer)
    if most < least:
        return IMPOSSIBLE
    options = []
    for length in range(len(str(least)), len(str(most)) + 1):
        shortest = 0 if length == 1 else 10 ** (length - 1)
        first, last = max(least, shortest), min(most, 10**length - 1)
        options.append(_of_one_length(str(first), str(last)))
    return alternatives(*options)


def _of_one_length(least: str, most: str) -> Expression:
    """Numbers between two that have as many digits."""
    if not least:
        return NOTHING
    first, last, rest = least[0], most[0], len(least) - 1
    free = NOTHING if rest == 0 else _DIGIT if rest == 1 else Repeat(_DIGIT, rest, rest)
    if least[1:] == "0" * rest and most[1:] == "9" * rest:
        return sequence(characters((ord(first), ord(last))), free)
    if first == last:
        return sequence(Literal(first), _of_one_length(least[1:], most[1:]))
    options = [sequence(Literal(first), _of_one_length(least[1:], "9" * rest))]
    if ord(last) - ord(first) > 1:
        options.append(sequence(characters((ord(first) + 1, ord(last) - 1)), free))
    options.append(sequence(Literal(last), _of_one_length("0" * rest, most[1:])))
    return alternatives(*options)
