"""JSON text with numbers as serde_json writes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

from ...errors import InvalidMessageError


def compact_json(value: Any, number: Callable[[int | float], str]) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidMessageError(f"{value} is not a JSON number", field="parameters")
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, dict):
        members = (
            f"{encode_basestring(key)}:{compact_json(member, number)}"
            for key, member in value.items()
        )
        return f"{{{','.join(members)}}}"
    return f"[{','.join(compact_json(item, number) for item in value)}]"


def _float_text(value: float) -> str:
    """The shortest text that reads back as the same float, formatted as by Rust's ryu.

    Python finds the same digits, but uses exponents below 1e-4 instead of 1e-5, and pads them.
    """
    mantissa, marker, exponent = repr(value).partition("e")
    if not marker:
        return mantissa
    if exponent == "-05":
        sign = "-" if value < 0 else ""
        return f"{sign}0.0000{mantissa.lstrip('-').replace('.', '')}"
    return f"{mantissa}e{int(exponent)}"


def exact_number(value: int | float) -> str:
    if isinstance(value, float):
        return _float_text(value)
    try:
        return str(value)
    except ValueError:  # Python limits the number of digits to a few thousand
        raise _out_of_range() from None


def reference_number(value: int | float) -> str:
    """A number as the reference writes it after parsing its JSON text."""
    if isinstance(value, float):
        return _float_text(_reread_float(value))
    fits_64_bits = -(2**63) <= value < 2**64
    return str(value) if fits_64_bits else _float_text(_reread_int(value))


def _reread_float(value: float) -> float:
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    reread = _scaled(int(whole + fraction), int(exponent or 0) - len(fraction))
    return math.copysign(reread, value)


def _reread_int(value: int) -> float:
    if abs(value) >= 10**310:
        raise _out_of_range()
    digits = str(abs(value))
    kept = 20 if int(digits[:20]) < 2**64 else 19
    reread = _scaled(int(digits[:kept]), len(digits[kept:]))
    return math.copysign(reread, value)


def _scaled(significand: int, exponent: int) -> float:
    """The significand times ten to the exponent, rounded twice as serde_json does.

    serde_json parses a float with one conversion and one multiplication or division, which is fast
    but, for long fractions, off by a unit in the last place. For this reason the reference changes
    the digits of a quarter of all random floats.
    """
    scaled = float(significand)
    if exponent < -308:
        scaled /= 1e308
        exponent += 308
    if exponent < 0:
        return scaled / float(f"1e{-exponent}")
    scaled *= float(f"1e{exponent}")
    if math.isinf(scaled):
        raise _out_of_range()
    return scaled


def _out_of_range() -> InvalidMessageError:
    return InvalidMessageError("a number of the JSON Schema is out of range", field="parameters")
