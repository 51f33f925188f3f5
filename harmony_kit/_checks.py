"""Checks of values that options have; each raises an `OptionError` that says what is allowed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .errors import OptionError


class NumberRange(NamedTuple):
    """The numbers that an option can have.

    Attributes:
        name: What to call them.
        has: Whether a number is one of them.
    """

    name: str
    has: Callable[[float], bool]


NOT_NEGATIVE: Final = NumberRange("a finite number of at least 0", lambda n: 0 <= n < math.inf)
POSITIVE: Final = NumberRange("a finite number above 0", lambda n: 0 < n < math.inf)


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse what is not of a type.

    Args:
        name: The option.
        value: Its value.
        kind: The type.

    Raises:
        OptionError: The value is of another type.
    """
    if not isinstance(value, kind):
        raise OptionError(f"expected {kind.__name__}, got {value!r}", option=name)


def checked_number(
    name: str, value: object, allowed: NumberRange, *, optional: bool = True
) -> float | None:
    """A number, from any type of numbers; neither a truth value nor text is one.

    Args:
        name: The option.
        value: Its value.
        allowed: The numbers that it can have.
        optional: Whether it can be `None`.

    Raises:
        OptionError: The value is no such number.
    """
    if value is None and optional:
        return None
    number = _float(value)
    if number is None or not allowed.has(number):
        raise _refused(name, allowed.name, value, optional)
    return number


def checked_integer(
    name: str, value: object, *, least: int | None = None, optional: bool = True
) -> int | None:
    """An integer, from any type of integers; a truth value is none.

    Args:
        name: The option.
        value: Its value.
        least: The least that it can be.
        optional: Whether it can be `None`.

    Raises:
        OptionError: The value is no such integer.
    """
    if value is None and optional:
        return None
    number = as_index(value)
    if number is None or (least is not None and number < least):
        allowed = "an integer" if least is None else f"an integer of at least {least}"
        raise _refused(name, allowed, value, optional)
    return number


def as_index(value: Any) -> int | None:
    """An integer from any type of integers, such as numpy's; `None` from all else.

    Args:
        value: The value.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _float(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes | bytearray):  # texts would be read as numbers
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _refused(name: str, allowed: str, value: object, optional: bool) -> OptionError:
    choices = f"{allowed} or None" if optional else allowed
    return OptionError(f"expected {choices}, got {value!r}", option=name)
