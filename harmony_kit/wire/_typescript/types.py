"""JSON Schemas as the TypeScript-like text of a prompt, in either style."""

from __future__ import annotations

import json
from typing import Any

from ...errors import InvalidMessageError
from .._roles import SchemaStyle
from .depth import MAX_DEPTH, check_depth, too_deep
from .extended import extended_text
from .reference import reference_type


def type_text(schema: Any, *, style: SchemaStyle = "reference") -> str:
    """Write a JSON Schema as a TypeScript-like type.

    Args:
        schema: The schema as JSON data, as `json.loads` returns it. A value that is not a schema is
            written as `any`.
        style: `"reference"` or `"extended"`.

    Raises:
        InvalidMessageError: The schema is nested too deeply, or contains a number that JSON
            cannot represent.
    """
    if style not in ("reference", "extended"):
        raise InvalidMessageError(
            f"unknown style {style!r}; expected 'reference' or 'extended'", field="style"
        )
    check_depth(schema)
    return _type_text(schema, style)


def type_text_of_json(schema_json: str, *, style: SchemaStyle = "reference") -> str:
    """Do the same as `type_text` for a schema given as JSON text."""
    schema = json.loads(schema_json)
    # Text with few brackets cannot nest deeply, and counting them is cheap.
    if schema_json.count("{") + schema_json.count("[") > MAX_DEPTH:
        return type_text(schema, style=style)
    return _type_text(schema, style)


def _type_text(schema: Any, style: SchemaStyle) -> str:
    try:
        return reference_type(schema, "") if style == "reference" else extended_text(schema)
    except RecursionError:  # the caller's stack was nearly full, or there is a long chain of $refs
        raise too_deep() from None
