"""JSON Schemas for grammars: which keywords can be enforced.

A keyword that restricts values and cannot be enforced is refused: a constraint without it would
promise more than it keeps. Keywords that restrict nothing (titles, descriptions, unknown ones) are
ignored, as the JSON Schema specification requires.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from ..errors import GrammarError
from ._nodes import JsonValue

Language = Literal["llguidance", "rules"]
"""What enforces a schema: llguidance itself, or the rules that `_json_rules` writes."""

_NAMES: Final = {"llguidance": "llguidance", "rules": "a context-free grammar"}

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
"""The keywords that are enforced. Some of their values may still be refused."""

FORMATS: Final[Mapping[Language, frozenset[str]]] = {
    "llguidance": frozenset(
        [
            *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6"),
            *("uuid", "uri", "unknown"),
        ]
    ),
    "rules": frozenset(["date-time", "time", "date", "email", "hostname", "ipv4", "uuid"]),
}
"""The formats that are enforced."""

TOO_DEEP: Final = "the schema is nested too deeply"
_DEEPEST: Final = 256

_WITHOUT_EFFECT: Final[Mapping[str, Any]] = {
    "uniqueItems": False,
    "unevaluatedProperties": True,
    "unevaluatedItems": True,
    "propertyNames": True,
    "minContains": 0,
    "not": False,
}
"""Keywords with the values for which they restrict nothing."""

_SCHEMA: Final = (
    *("not", "if", "then", "else", "items", "additionalItems", "unevaluatedItems", "contains"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
)
_SCHEMAS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED_SCHEMAS: Final = (
    *("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"),
)


def json_value(schema: Any, path: str) -> JsonValue:
    """A JSON value with a schema; `path` is what it describes, for errors.

    Raises:
        GrammarError: The schema is not JSON, or nested too deeply.
    """
    try:
        return JsonValue(json.dumps(schema, ensure_ascii=False), path)
    except (TypeError, ValueError, RecursionError) as error:
        raise _unreadable(error, path) from None


def load_schema(value: JsonValue) -> Any:
    """The schema of a JSON value.

    Raises:
        GrammarError: The schema is not JSON, or nested too deeply.
    """
    try:
        return json.loads(value.schema_json)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error, value.path) from None


def _unreadable(error: Exception, path: str) -> GrammarError:
    if isinstance(error, RecursionError):
        return GrammarError(TOO_DEEP, path=path)
    return GrammarError(f"the schema cannot be read: {error}", path=path)


def refuse_unsupported(schema: Any, language: Language, path: str) -> None:
    """Refuse a schema that a language cannot enforce.

    Raises:
        GrammarError: The schema or a subschema has a keyword or a format that is not enforced, or
            a number that is not read exactly; the error has its path.
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
                f"{_NAMES[language]} does not enforce the keyword {keyword!r}",
                path=f"{place}.{keyword}",
            )
        form = node.get("format")
        if form is not None and form not in FORMATS[language]:
            raise GrammarError(
                f"{_NAMES[language]} does not enforce the format {form!r}", path=f"{place}.format"
            )
        if language == "llguidance":
            _refuse_inexact_numbers(node, place)


def _refuse_inexact_numbers(node: dict[str, Any], place: str) -> None:
    for keyword in _WITH_NUMBERS & node.keys():
        inexact = next((it for it in _numbers(node[keyword]) if not _is_exact(it)), None)
        if inexact is not None:
            raise GrammarError(
                f"llguidance does not read {inexact!r} exactly", path=f"{place}.{keyword}"
            )


def _numbers(value: Any) -> Iterator[int | float]:
    """All numbers within a JSON value."""
    open_values = [value]
    while open_values:
        part = open_values.pop()
        if isinstance(part, int | float) and not isinstance(part, bool):
            yield part
        elif isinstance(part, list | dict):
            open_values += part.values() if isinstance(part, dict) else part


def _is_exact(number: int | float) -> bool:
    """Whether llguidance reads a number exactly, and writes it back unchanged.

    It reads all numbers as 64-bit floats, with a fast conversion that is exact for 15 digits and
    small exponents; beyond 2**53 it writes the digits of a different integer.
    """
    if not abs(number) <= 2**53:  # also refuses NaN
        return False
    _, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    return isinstance(number, int) or (len(digits) <= 15 and exponent in _EXACT_EXPONENTS)


_WITH_NUMBERS: Final = frozenset(
    ["enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
)
_EXACT_EXPONENTS: Final = range(-22, 16)


def refuse_depth(schema: Any, path: str) -> None:
    """Refuse a schema that is too deep with its references followed.

    llguidance follows references recursively: a chain of some hundred overflows its stack, which
    ends the process.

    Raises:
        GrammarError: The schema is too deep.
    """
    followed: set[str] = set()
    open_schemas = [(schema, 0)]
    while open_schemas:
        node, depth = open_schemas.pop()
        if depth > _DEEPEST:
            raise GrammarError(TOO_DEEP, path=path)
        if not isinstance(node, dict):
            continue
        open_schemas += [(child, depth + 1) for _, child in reversed(list(_children(node, "")))]
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            open_schemas.append((referred(schema, reference), depth + 1))


def referred(root: Any, reference: str) -> Any:
    """What a JSON Pointer (after `#`) within a schema points to; `None` if it does not resolve."""
    node = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            node = node.get(key) if isinstance(node, dict) else None
    return node


def subschemas(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A schema and all its subschemas, each with its path."""
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
    """A copy of a schema whose objects have only the properties that it names.

    Without `additionalProperties` JSON Schema admits any others. But a model that may write any
    key may also repeat one, which no grammar can forbid, and no tool expects properties that it
    did not name. An explicit `additionalProperties` is kept. Where an object is described by
    several schemas together, none of them is closed.
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
    """See `closed`.

    Args:
        node: The schema.
        parts: References to schemas that are combined with others.
        is_whole: Whether the node alone describes its value.
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
    is_silent = not node.keys() & {"additionalProperties", "unevaluatedProperties"}
    if is_whole and "properties" in node and is_silent and not is_combined:
        new["additionalProperties"] = False
    return new
