"""JSON Schemas as grammars need them: what each language can say of them, and nothing else.

A keyword that restricts values and that a language cannot say is refused: a constraint that
leaves it out would promise what it does not keep. Keywords that restrict nothing (titles,
descriptions, unknown ones) are passed over, as the JSON Schema specification has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from ..errors import GrammarError
from .shape import JsonValue

Language = Literal["llguidance", "rules"]
"""Who reads a schema: llguidance its own way, or the rules for the others, which we write of it."""

RESTRICTING: Final = frozenset(
    [
        *("type", "enum", "const", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        *("$ref", "$dynamicRef", "$recursiveRef"),
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("propertyNames", "minProperties", "maxProperties", "dependentRequired"),
        *("dependentSchemas", "dependencies", "unevaluatedProperties"),
        *("items", "prefixItems", "additionalItems", "unevaluatedItems", "minItems", "maxItems"),
        *("uniqueItems", "contains", "minContains", "maxContains"),
        *("minLength", "maxLength", "pattern", "format"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    ]
)
"""The keywords that restrict values, of drafts 4 to 2020-12."""

ENFORCED: Final[Mapping[Language, frozenset[str]]] = {
    "llguidance": RESTRICTING
    - {
        *("not", "if", "then", "else", "$dynamicRef", "$recursiveRef"),
        *("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
        *("unevaluatedProperties", "unevaluatedItems"),
        *("uniqueItems", "contains", "minContains", "maxContains"),
    },
    "rules": frozenset(
        [
            *("type", "enum", "const", "allOf", "anyOf", "oneOf", "$ref"),
            *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
            *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"),
            *("minLength", "maxLength", "pattern", "format"),
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        ]
    ),
}
"""The keywords that each language enforces. It may still refuse some of their values."""

FORMATS: Final[Mapping[Language, frozenset[str]]] = {
    "llguidance": frozenset(
        [
            *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6"),
            *("uuid", "uri", "unknown"),
        ]
    ),
    "rules": frozenset(["date-time", "time", "date", "email", "hostname", "ipv4", "uuid"]),
}
"""The formats that each language enforces."""

_WITHOUT_EFFECT: Final[Mapping[str, Any]] = {
    "uniqueItems": False,
    "unevaluatedProperties": True,
    "unevaluatedItems": True,
    "propertyNames": True,
    "minContains": 0,
    "not": False,
}
"""Values of keywords with which they restrict nothing."""

_SCHEMA: Final = (
    *("not", "if", "then", "else", "items", "additionalItems", "unevaluatedItems", "contains"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
)
_SCHEMAS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED_SCHEMAS: Final = (
    *("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"),
)


def load_schema(value: JsonValue) -> Any:
    """Read the schema of a JSON value.

    Args:
        value: The value.

    Raises:
        GrammarError: It is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(value.schema_json)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise GrammarError(f"the schema cannot be read: {reason}", path=value.path) from None


def refuse_unsupported(schema: Any, language: Language, path: str) -> None:
    """Refuse a schema that says what a language cannot.

    Args:
        schema: The JSON Schema.
        language: Who will read it.
        path: Where it stands, for the error.

    Raises:
        GrammarError: The schema, or one within it, has such a keyword; the error names it.
    """
    for place, node in subschemas(schema, path):
        if not isinstance(node, dict):
            continue
        for keyword, value in node.items():
            if keyword not in RESTRICTING or keyword in ENFORCED[language]:
                continue
            if keyword in _WITHOUT_EFFECT and value is _WITHOUT_EFFECT[keyword]:
                continue
            raise GrammarError(
                f"{language} does not enforce the keyword {keyword!r}", path=f"{place}.{keyword}"
            )
        form = node.get("format")
        if form is not None and form not in FORMATS[language]:
            raise GrammarError(
                f"{language} does not enforce the format {form!r}", path=f"{place}.format"
            )


def subschemas(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A schema and all schemas within it, each with its path.

    Args:
        schema: The JSON Schema.
        path: The path of the whole.
    """
    open_schemas = [(path, schema)]
    while open_schemas:
        place, node = open_schemas.pop()
        yield place, node
        if isinstance(node, dict):
            open_schemas += reversed(list(_children(node, place)))


def _children(node: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for key in _SCHEMA:
        if isinstance(node.get(key), dict | bool):
            yield f"{place}.{key}", node[key]
    for key in _SCHEMAS:
        if isinstance(node.get(key), list):
            yield from ((f"{place}.{key}[{index}]", it) for index, it in enumerate(node[key]))
    for key in _NAMED_SCHEMAS:
        if isinstance(node.get(key), dict):
            yield from ((f"{place}.{key}.{name}", it) for name, it in node[key].items())


def closed(schema: Any) -> Any:
    """A schema whose objects have no properties beside those that it names.

    A schema that says nothing of other properties admits any. A model that may write
    anything may also write the same key twice, which no grammar can forbid; and no tool
    expects what it did not name. Where a schema says `additionalProperties`, that holds; and
    where an object is put together from several schemas, none of them is the whole.

    Args:
        schema: The JSON Schema.

    Returns:
        Another one; the given is not changed.
    """
    parts = frozenset(
        node["$ref"]
        for _, node in subschemas(schema)
        if isinstance(node, dict)
        for node in ([node] if len(node) > 1 else []) + list(node.get("allOf", ()))
        if isinstance(node, dict) and isinstance(node.get("$ref"), str)
    )
    return _closed(schema, parts, is_whole=True)


_COMBINING: Final = ("allOf", "anyOf", "oneOf", "$ref", "not", "if")


def _closed(node: Any, parts: frozenset[str], *, is_whole: bool) -> Any:
    """Close a schema, unless it is not the whole of an object.

    Args:
        node: The schema.
        parts: The references to schemas that are put together with others.
        is_whole: Whether the node is the whole of what it describes.
    """
    if not isinstance(node, dict):
        return node
    new = dict(node)
    for key in _SCHEMA:
        if isinstance(node.get(key), dict):
            new[key] = _closed(node[key], parts, is_whole=key not in ("not", "if", "then", "else"))
    for key in _SCHEMAS:
        if isinstance(node.get(key), list):
            is_part = key == "allOf" or (key in ("anyOf", "oneOf") and "properties" in node)
            new[key] = [_closed(item, parts, is_whole=not is_part) for item in node[key]]
    for key in _NAMED_SCHEMAS:
        if isinstance(node.get(key), dict):
            new[key] = {
                name: _closed(it, parts, is_whole=f"#/{key}/{name}" not in parts)
                for name, it in node[key].items()
            }
    is_combined = any(key in node for key in _COMBINING)
    says_nothing = not node.keys() & {"additionalProperties", "unevaluatedProperties"}
    if is_whole and "properties" in node and says_nothing and not is_combined:
        new["additionalProperties"] = False
    return new
