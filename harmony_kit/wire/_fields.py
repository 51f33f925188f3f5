"""Checks and conversions of the fields of messages and contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from ..errors import InvalidMessageError

_Enum = TypeVar("_Enum", bound=StrEnum)


def check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidMessageError(f"expected text, got {kind_of(value)}", field=name)


def check_optional_text(value: object, name: str) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidMessageError(f"expected text or None, got {kind_of(value)}", field=name)


def check_bool(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise InvalidMessageError(f"expected True or False, got {kind_of(value)}", field=name)


def member(kind: type[_Enum], value: Any, name: str) -> _Enum:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind)
        raise InvalidMessageError(
            f"unknown {name.replace('_', ' ')} {value!r}; expected one of {known}", field=name
        ) from None


_Item = TypeVar("_Item")


def tuple_of(kind: type[_Item], values: object, name: str) -> tuple[_Item, ...]:
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise InvalidMessageError(
            f"expected a sequence of {kind.__name__}, got {kind_of(values)}", field=name
        )
    items = tuple(values)
    for position, item in enumerate(items):
        if not isinstance(item, kind):
            raise InvalidMessageError(
                f"expected {kind.__name__}, got {kind_of(item)}", field=f"{name}[{position}]"
            )
    return items


def json_text(value: object, name: str) -> str:
    """A JSON Schema as text, which is hashable and unaffected by later changes of the dict."""
    if not isinstance(value, Mapping | bool):
        raise InvalidMessageError(
            f"expected a JSON Schema (a dict or a bool), got {kind_of(value)}", field=name
        )
    import json  # only tools and response formats need it

    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError(f"not JSON: {error}", field=name) from None


def kind_of(value: object) -> str:
    return "None" if value is None else type(value).__name__
