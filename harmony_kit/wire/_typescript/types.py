"""JSON schemas as the TypeScript-like text of a prompt."""

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
        schema: The schema as plain JSON data, as `json.loads` gives it. Anything that is not
            a schema is `any`.
        style: `"reference"` or `"extended"`; see the module.

    Returns:
        The type; without indentation if it is an object.

    Raises:
        InvalidMessageError: The schema is nested too deeply, or a number that has to be
            written has no JSON form.
    """
    if style not in ("reference", "extended"):
        raise InvalidMessageError(f"unknown style {style!r}", field="style")
    check_depth(schema)
    return _type_text(schema, style)


def type_text_of_json(schema_json: str, *, style: SchemaStyle = "reference") -> str:
    """Write a JSON Schema, given as JSON text, as a TypeScript-like type.

    Args:
        schema_json: The schema as JSON text, as `Tool` keeps it.
        style: `"reference"` or `"extended"`; see the module.

    Raises:
        InvalidMessageError: As `type_text`.
    """
    schema = json.loads(schema_json)
    # Text with few brackets cannot nest deeply, and counting them costs least.
    if schema_json.count("{") + schema_json.count("[") > MAX_DEPTH:
        return type_text(schema, style=style)
    return _type_text(schema, style)


def _type_text(schema: Any, style: SchemaStyle) -> str:
    try:
        return reference_type(schema, "") if style == "reference" else extended_text(schema)
    except RecursionError:  # the caller's own stack was nearly full, or a long chain of $refs
        raise too_deep() from None
