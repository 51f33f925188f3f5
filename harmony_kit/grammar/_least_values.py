"""How many tokens a JSON value takes once it has begun, for completions that must end in time.

A model may begin what it could omit: an optional property, another item, the longer of two forms.
The shortest completion then becomes longer by what that takes. The numbers here are conservative
estimates, for values that `_matching` completes: the shortest strings, no optional properties, and
the simplest of several forms.
"""

from __future__ import annotations

import json
from re import _parser  # type: ignore[attr-defined]
from re import error as PatternError  # noqa: N812
from typing import Any, Final

from ..wire._vocabulary import encode
from ._schema import referred, subschemas

_FORMATS: Final = {
    "date": 12,
    "time": 12,
    "date-time": 24,
    "duration": 8,
    "uuid": 38,
    "ipv4": 10,
    "ipv6": 42,
    "email": 16,
    "hostname": 8,
    "uri": 16,
}
_SIMPLE: Final = frozenset(["string", "integer", "number", "null"])
"""The types that are preferred, since their values end sooner."""


def most_tokens_once_begun(schema: Any) -> int:
    """The maximum, over all subschemas, of the tokens that a value takes once it has begun."""
    measure = _Measure(schema)
    key = value = 0
    for _, node in reversed(list(subschemas(schema))):  # inner ones first
        value = max(value, measure.tokens(node))
        if isinstance(node, dict) and isinstance(node.get("properties"), dict):
            key = max(key, *map(_key_tokens, node["properties"]), 0)
    return key + value


class _Measure:
    """Counts the tokens of values of the subschemas of `root`."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[int, int] = {}

    def tokens(self, node: Any) -> int:
        if not isinstance(node, dict):
            return 1
        if id(node) not in self._known:
            self._known[id(node)] = 1  # a recursive schema admits a value without recursion
            self._known[id(node)] = self._tokens(node)
        return self._known[id(node)]

    def _tokens(self, node: dict[str, Any]) -> int:
        if "const" in node:
            return _json_tokens(node["const"])
        if isinstance(node.get("enum"), list):
            return max(map(_json_tokens, node["enum"]), default=1)
        found = [self._of_type(node)]
        found += [self._of_options(node[it]) for it in ("anyOf", "oneOf") if it in node]
        found += [self.tokens(part) for part in node.get("allOf", ())]
        if "$ref" in node:
            found.append(self.tokens(referred(self._root, str(node["$ref"]))))
        return sum(found)

    def _of_options(self, options: list[Any]) -> int:
        simple = [option for option in options if _SIMPLE.intersection(_types_of(option))]
        return max(map(self.tokens, simple or options), default=1)

    def _of_type(self, node: dict[str, Any]) -> int:
        kinds = _types_of(node)
        simple = [kind for kind in kinds if kind in _SIMPLE]
        return max((self._of_kind(kind, node) for kind in simple or kinds), default=1)

    def _of_kind(self, kind: Any, node: dict[str, Any]) -> int:
        match kind:
            case "string":
                return _string_tokens(node)
            case "integer" | "number":
                return _number_tokens(node)
            case "array":
                count = int(node.get("minItems", 0))
                items = [*node.get("prefixItems", ())][:count]
                rest = self.tokens(node.get("items", True)) + 1
                first = sum(self.tokens(item) + 1 for item in items)
                return 2 + first + rest * max(count - len(items), 0)
            case "object":
                properties = node.get("properties", {})
                return 2 + sum(
                    _key_tokens(name) + 1 + self.tokens(properties.get(name))
                    for name in node.get("required", ())
                )
            case _:
                return 1


def _types_of(node: Any) -> list[str]:
    kinds = node.get("type", []) if isinstance(node, dict) else []
    return kinds if isinstance(kinds, list) else [kinds]


def _key_tokens(name: str) -> int:
    return _json_tokens(name) + 1


def _json_tokens(value: Any) -> int:
    return len(encode(json.dumps(value, ensure_ascii=False)))


def _number_tokens(node: dict[str, Any]) -> int:
    bounds = [node[it] for it in ("minimum", "maximum") if it in node]
    return max(map(_json_tokens, bounds), default=1) + 2


def _string_tokens(node: dict[str, Any]) -> int:
    length = 2 + node.get("minLength", 0)
    if "format" in node:
        length = max(length, _FORMATS.get(node["format"], 2))
    if "pattern" in node:
        try:
            least = _parser.parse(node["pattern"]).getwidth()[0]
        except (PatternError, RecursionError, OverflowError):
            least = len(node["pattern"])  # not Python's dialect: a guess
        length = max(length, 8 + 2 * least)
    return int(length)
