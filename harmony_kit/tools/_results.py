"""Tool results as text for the model.

Strings are unchanged. Other values become JSON, in which a value without a JSON form is
represented by its most informative text. Special tokens spelled out in a result are rendered as
ordinary text.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import math
from collections.abc import Iterable, Mapping, Set
from typing import Any

from .._options import checked_fields


@checked_fields
@dataclasses.dataclass(frozen=True)
class ToolResult:
    """A result in parts, which a tool's function may return.

    Attributes:
        parts: The parts of the result; each starts on a new line.
        value: A value for the program, such as an image; the model does not receive it.

    Example:
        >>> result = ToolResult(("1 image found", {"width": 640}))
        >>> result.value is None
        True
    """

    parts: tuple[Any, ...]
    value: Any = None


def result_text(result: object) -> str:
    """The text of a function's return value, for the model.

    Raises:
        ValueError: The value contains itself, or is nested too deeply.
    """
    if isinstance(result, ToolResult):
        return "\n".join(map(result_text, result.parts))
    if isinstance(result, bytes | bytearray | memoryview):
        return _bytes_text(bytes(result))
    if isinstance(result, enum.Enum):
        return result_text(result.value)
    if isinstance(result, str):
        return whole_characters(result)
    try:
        plain = _plain(result)
        return whole_characters(json.dumps(plain, ensure_ascii=False, allow_nan=False))
    except RecursionError:
        raise ValueError("the result contains itself, or is nested too deeply") from None


def whole_characters(text: str) -> str:
    """A string that UTF-8 can encode: surrogate pairs are joined, lone surrogates become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def limited(text: str, limit: int | None) -> str:
    """A text of at most `limit` characters; a note in its middle states how many were left out."""
    if limit is None or len(text) <= limit:
        return text
    start = (limit + 1) // 2
    end = len(text) - limit // 2
    left_out = f"[... {end - start:,} of {len(text):,} characters were left out here ...]"
    return f"{text[:start]}\n{left_out}\n{text[end:]}"


def error_text(error: BaseException) -> str:
    """The text of an exception, or of each exception of a group, for the model."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(error_text, error.exceptions))
    try:
        said = str(error)
    except Exception:  # the __str__ of an exception can raise
        said = ""
    name = type(error).__name__
    return whole_characters(f"{name}: {said}" if said else name)


# --- JSON -----------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A value that the standard library can write as JSON."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Set):
        return _ordered(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes_text(bytes(value))
    return _plain_object(value)


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _key(key: Any) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _ordered(values: Iterable[Any]) -> list[Any]:
    """The members of a set, in an order that is the same in every process."""
    return sorted(map(_plain, values), key=lambda value: json.dumps(value, sort_keys=True))


def _bytes_text(data: bytes) -> str:
    """Bytes decoded as UTF-8, or as a data URI if they are not text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"


def _plain_object(value: Any) -> Any:
    if isinstance(value, type):
        return str(value)
    if callable(getattr(value, "model_dump", None)):
        return _plain(value.model_dump(mode="json"))  # pydantic
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if callable(getattr(value, "tolist", None)):
        return _plain(value.tolist())  # numpy
    return str(value)
