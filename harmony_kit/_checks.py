"""Checks of option values, each raising an `OptionError` that states what is allowed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .errors import OptionError


class NumberRange(NamedTuple):
    """A range of allowed numbers.

    Attributes:
        name: The description for error messages.
        has: Whether a number is in the range.
    """

    name: str
    has: Callable[[float], bool]


NOT_NEGATIVE: Final = NumberRange("a finite number of at least 0", lambda n: 0 <= n < math.inf)
POSITIVE: Final = NumberRange("a finite number above 0", lambda n: 0 < n < math.inf)


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse a value of another type.

    Raises:
        OptionError: The value has another type.
    """
    if not isinstance(value, kind):
        raise OptionError(f"expected {kind.__name__}, got {value!r}", option=name)


def checked_number(
    name: str, value: object, allowed: NumberRange, *, optional: bool = True
) -> float | None:
    """The value as a plain number; booleans and strings are refused.

    Raises:
        OptionError: The value is not a number in the range.
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
    """The value as a plain integer; booleans are refused.

    Raises:
        OptionError: The value is not such an integer.
    """
    if value is None and optional:
        return None
    number = as_index(value)
    if number is None or (least is not None and number < least):
        allowed = "an integer" if least is None else f"an integer of at least {least}"
        raise _refused(name, allowed, value, optional)
    return number


def as_index(value: Any) -> int | None:
    """An `int` from any integer type, such as numpy's; `None` for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _float(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes | bytearray):  # float() would parse strings
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _refused(name: str, allowed: str, value: object, optional: bool) -> OptionError:
    choices = f"{allowed} or None" if optional else allowed
    return OptionError(f"expected {choices}, got {value!r}", option=name)
