"""Access to the keywords of a schema, for both styles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

NUMBERS_AND_FLAGS: Final = {"number": "number", "integer": "number", "boolean": "boolean"}


def text_at(schema: Any, keyword: str) -> str | None:
    value = schema.get(keyword) if isinstance(schema, dict) else None
    return value if isinstance(value, str) else None


def list_at(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def is_enum(schema: dict[str, Any]) -> bool:
    return bool(list_at(schema, "enum"))


def properties_of(schema: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """The name, schema and mark ("?" if optional, else empty) of every property of an object."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    required = {name for name in list_at(schema, "required") if isinstance(name, str)}
    for key, value in properties.items():
        yield key, value, "" if key in required else "?"
