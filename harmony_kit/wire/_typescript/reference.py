"""The reference style: byte for byte what openai-harmony writes.

Whatever looks wrong is what the reference does; tests/wire/test_typescript.py compares the two.
"""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import Any

from .numbers import compact_json, reference_number
from .schema import NUMBERS_AND_FLAGS, is_enum, list_at, properties_of, text_at


def reference_type(schema: Any, indent: str) -> str:
    if not isinstance(schema, dict):
        return "any"
    if "oneOf" in schema and isinstance(schema["oneOf"], list):
        return "".join(
            f"\n{indent} | {_reference_variant(variant, indent, _variant_comments(variant))}"
            for variant in schema["oneOf"]
        )
    kind = schema.get("type")
    if kind == "string":
        return _reference_string(schema) if "enum" in schema else "string"
    if isinstance(kind, list):
        names = ["number" if k == "integer" else k for k in kind if isinstance(k, str)]
        return " | ".join(names) if names else "any"
    if not isinstance(kind, str):
        return "any"
    if kind == "object":
        return _reference_object(schema, indent)
    if kind == "array":
        has_items = "items" in schema
        return f"{reference_type(schema['items'], indent)}[]" if has_items else "Array<any>"
    return NUMBERS_AND_FLAGS.get(kind, "any")


def _reference_nullable_type(schema: Any, indent: str) -> str:
    text = reference_type(schema, indent)
    if not isinstance(schema, dict) or schema.get("nullable") is not True:
        return text
    return text if "null" in text else f"{text} | null"


def _reference_string(schema: dict[str, Any]) -> str:
    values = (f'"{value}"' for value in list_at(schema, "enum") if isinstance(value, str))
    return " | ".join(values) or "string"


def _reference_object(schema: dict[str, Any], indent: str) -> str:
    description = text_at(schema, "description")
    comment = "" if description is None else f"{indent}// {description}\n"
    properties = [
        _reference_property(key, value, mark, indent) for key, value, mark in properties_of(schema)
    ]
    return f"{comment}{{\n{''.join(properties)}{indent}}}"


def _reference_property(key: str, schema: Any, mark: str, indent: str) -> str:
    if not isinstance(schema, dict):
        return f"{indent}{key}{mark}: any,\n"
    comments = _reference_comments(schema, indent)
    if "oneOf" not in schema:
        text = _reference_nullable_type(schema, f"{indent}    ")
        default = f" // {_reference_default(schema)}" if "default" in schema else ""
        return f"{comments}{indent}{key}{mark}: {text},{default}\n"
    if isinstance(schema["oneOf"], list):
        return comments + _reference_one_of_property(key, schema, mark, indent)
    return f"{comments}{indent}{key}{mark}: {_reference_nullable_type(schema, f'{indent}    ')},\n"


def _reference_comments(schema: dict[str, Any], indent: str) -> str:
    text = ""
    if "title" in schema and isinstance(schema["title"], str):
        text = f"{indent}// {schema['title']}\n{indent}//\n"
    description = schema.get("description")
    if isinstance(description, str) and "oneOf" not in schema:
        text += f"{indent}// {description}\n"
    if "examples" in schema and (examples := list_at(schema, "examples")):
        lines = (f'{indent}// - "{e}"\n' for e in examples if isinstance(e, str))
        text += f"{indent}// Examples:\n{''.join(lines)}"
    return text


def _reference_default(schema: dict[str, Any]) -> str:
    default = schema["default"]
    if not isinstance(default, str):
        return f"default: {compact_json(default, reference_number)}"
    return f"default: {default}" if is_enum(schema) else f'default: "{default}"'


def _reference_one_of_property(key: str, schema: dict[str, Any], mark: str, indent: str) -> str:
    variants = schema["oneOf"]
    description = text_at(schema, "description")
    repeated = bool(variants) and text_at(variants[0], "description") == description
    shown = description is not None and not repeated
    above = f"{indent}// {description}\n" if shown else ""
    if "default" in schema:
        above += f"{indent}// {_reference_default(schema)}\n"
    lines = []
    for position, variant in enumerate(variants):
        is_silent = shown and position == 0
        comments = _property_variant_comments(variant, description, is_silent)
        lines.append(f"{indent} | {_reference_variant(variant, indent, comments)}\n")
    return f"{above}{indent}{key}{mark}:\n{''.join(lines)}{indent},\n"


def _reference_variant(variant: Any, indent: str, comments: list[str]) -> str:
    text = _reference_nullable_type(variant, f"{indent}   ")
    return f"{text} // {' '.join(comments)}" if comments else text


def _variant_comments(variant: Any) -> list[str]:
    """The comments next to a variant of a `oneOf` outside of properties."""
    description = text_at(variant, "description")
    comments = [] if description is None else [description]
    if isinstance(variant, dict) and "default" in variant:
        default = _reference_default(variant)
        if isinstance(variant["default"], str) and is_enum(variant):
            default = f"default: {encode_basestring(variant['default'])}"
        comments.append(default)
    return comments


def _property_variant_comments(variant: Any, known: str | None, is_silent: bool) -> list[str]:
    """The comments next to a variant of a property's `oneOf`.

    Args:
        variant: The schema.
        known: A description that is omitted, because it is above the property.
        is_silent: Whether any description is omitted.
    """
    description = None if is_silent else text_at(variant, "description")
    comments = [] if description is None or description == known else [description]
    if isinstance(variant, dict) and "default" in variant:
        comments.append(_reference_default(variant))
    return comments
