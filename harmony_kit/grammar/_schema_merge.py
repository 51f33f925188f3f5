"""Merging JSON Schemas that apply to the same value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, Final

import jsonschema_rs

from ..errors import GrammarError
from ._schema import RESTRICTING

ALL_TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
_MOST_OPTIONS: Final = 256
_GREATEST: Final = ("minLength", "minItems", "minProperties")
_LEAST: Final = ("maxLength", "maxItems", "maxProperties")
_ONE_ONLY: Final = ("pattern", "format", "multipleOf", "uniqueItems")


class Merger:
    """Merges subschemas of a schema.

    Args:
        root: The whole schema, into which references point.
        path: What it describes, for errors.
    """

    def __init__(self, root: Any, path: str) -> None:
        self._root = root
        self._path = path

    def target(self, reference: Any, path: str) -> Any:
        """The schema that a reference (`#` and a JSON Pointer) points to.

        Raises:
            GrammarError: The reference does not resolve within the schema.
        """
        where = f"{path}.$ref"
        if not isinstance(reference, str) or not (reference == "#" or reference[:2] == "#/"):
            raise GrammarError(f"{reference!r} is not a reference within the schema", path=where)
        node = self._root
        for part in reference[2:].split("/") if reference != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                raise GrammarError(f"{reference!r} does not resolve", path=where)
        return node

    def merged(self, schema: Any, path: str) -> dict[str, Any] | None:
        """An equivalent schema without `allOf`, `$ref`, `oneOf` and `const` at the top level.

        Returns:
            The schema, whose subschemas are unchanged, or `allOf`s of several; `None` if it
            admits nothing.

        Raises:
            GrammarError: The schemas cannot be merged.
        """
        whole: dict[str, Any] | None = {}
        for part in self._conjuncts(schema, path):
            if whole is None or part is None:
                return None
            whole = self._both(whole, self._plain(part, path), path)
        return whole

    def _conjuncts(self, schema: Any, path: str) -> Iterator[dict[str, Any] | None]:
        """The schemas that apply together: references and `allOf` are resolved."""
        seen: set[int] = set()
        open_schemas = [schema]
        while open_schemas:
            node = open_schemas.pop()
            if node is True or id(node) in seen:
                continue
            if node is False:
                yield None
                continue
            if not isinstance(node, dict):
                raise GrammarError(f"a {type(node).__name__} is not a schema", path=path)
            seen.add(id(node))
            yield {k: v for k, v in node.items() if k in RESTRICTING - {"allOf", "$ref"}}
            open_schemas += reversed(_list(node, "allOf", path))
            if "$ref" in node:
                open_schemas.append(self.target(node["$ref"], path))

    def _plain(self, node: dict[str, Any], path: str) -> dict[str, Any]:
        """The same schema with fewer keywords: `enum` for `const`, `anyOf` for `oneOf`, etc."""
        node = dict(node)
        if "const" in node:
            constant = [node.pop("const")]
            node["enum"] = [it for it in constant if _is_one_of(it, node.get("enum", constant))]
        if "oneOf" in node:
            options = _list(node, "oneOf", path)
            self._refuse_overlap(options, f"{path}.oneOf")
            del node["oneOf"]
            both = [{"anyOf": options}, {"anyOf": node["anyOf"]}] if "anyOf" in node else []
            node["anyOf"] = _options(both[0], both[1], path) if both else options
        if isinstance(node.get("items"), list):
            node["prefixItems"] = node.pop("items")
            if "additionalItems" in node:
                node["items"] = node["additionalItems"]
        node.pop("additionalItems", None)
        if "type" in node:
            types = node["type"] if isinstance(node["type"], list) else [node["type"]]
            if not all(it in (*ALL_TYPES, "integer") for it in types):
                raise GrammarError(f"{node['type']!r} is not a type", path=f"{path}.type")
            node["type"] = [it for it in types if it != "integer" or "number" not in types]
        return node

    def _both(self, one: dict[str, Any], other: dict[str, Any], path: str) -> dict[str, Any] | None:
        if not one:
            return other
        whole = {**one, **other}
        for keyword in one.keys() & other.keys():
            combine = _COMBINE.get(keyword)
            if combine is None:
                raise GrammarError(
                    f"two schemas with {keyword!r} cannot be merged",
                    path=f"{path}.{keyword}",
                )
            whole[keyword] = combine(one, other, path)
        for keyword in _GROUPS:
            if any(keyword in it for it in (one, other)):
                whole.update(_GROUPS[keyword](one, other))
        return None if whole.get("type") == [] else whole

    # --- Schemas that exclude each other ------------------------------------------------------

    def _refuse_overlap(self, options: list[Any], path: str) -> None:
        for index, option in enumerate(options):
            for later in options[index + 1 :]:
                if not self._exclude_each_other(option, later, path):
                    raise GrammarError(
                        "oneOf is supported only where its schemas exclude each other by types, "
                        "constants or closed properties; use anyOf instead",
                        path=path,
                    )

    def _exclude_each_other(self, one: Any, other: Any, path: str) -> bool:
        a, b = self.merged(one, path), self.merged(other, path)
        if a is None or b is None or not _common_types(types_of(a), types_of(b)):
            return True
        for finite, schema in ((a, other), (b, one)):
            if "enum" in finite:
                return not any(self.is_valid(schema, it, path) for it in finite["enum"])
        if types_of(a) != ["object"] or types_of(b) != ["object"]:
            return False
        for some, more in ((a, b), (b, a)):
            is_closed = some.get("additionalProperties") is False
            if is_closed and not set(more.get("required", ())) <= set(some.get("properties", ())):
                return True
        return any(
            self._have_other_values(a["properties"][name], b["properties"][name], path)
            for name in {*a.get("required", ())} & {*b.get("required", ())}
            if name in a.get("properties", {}) and name in b.get("properties", {})
        )

    def _have_other_values(self, one: Any, other: Any, path: str) -> bool:
        a, b = self.merged(one, path), self.merged(other, path)
        if a is None or b is None or not _common_types(types_of(a), types_of(b)):
            return True
        if "enum" in a:
            return not any(self.is_valid(other, it, path) for it in a["enum"])
        return "enum" in b and not any(self.is_valid(one, it, path) for it in b["enum"])

    def is_valid(self, schema: Any, value: Any, path: str) -> bool:
        """Whether a value meets a schema.

        Raises:
            GrammarError: The schema cannot be read.
        """
        definitions = {
            key: self._root[key]
            for key in ("$defs", "definitions")
            if isinstance(self._root, dict) and key in self._root
        }
        whole = {**definitions, **schema} if isinstance(schema, dict) else schema
        try:
            return jsonschema_rs.is_valid(whole, value, validate_formats=True)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            reason = str(error).splitlines()[0]
            raise GrammarError(f"the schema cannot be read: {reason}", path=path) from None


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """The types that a schema from `Merger.merged` admits."""
    return list(schema.get("type", ALL_TYPES))


def both(one: Any, other: Any) -> Any:
    """A schema equivalent to two together; they are merged later, when it is needed."""
    if one is True or one == other or other is False:
        return other
    if other is True or one is False:
        return one
    parts: dict[str, Any] = {}
    for schema in (one, other):
        for part in schema["allOf"] if schema.keys() == {"allOf"} else [schema]:
            parts[json.dumps(part, sort_keys=True)] = part
    return {"allOf": list(parts.values())}


def _common_types(one: list[str], other: list[str]) -> list[str]:
    found = [it for it in one if it in other or (it == "integer" and "number" in other)]
    return found + [it for it in other if it == "integer" and "number" in one]


def _is_one_of(value: Any, values: list[Any]) -> bool:
    return bool(jsonschema_rs.is_valid({"enum": values}, value))


def _list(node: dict[str, Any], keyword: str, path: str) -> list[Any]:
    value = node.get(keyword, [])
    if not isinstance(value, list):
        raise GrammarError("not a list", path=f"{path}.{keyword}")
    return value


def _options(one: dict[str, Any], other: dict[str, Any], path: str) -> list[Any]:
    pairs = list(product(one["anyOf"], other["anyOf"]))
    if len(pairs) > _MOST_OPTIONS:
        raise GrammarError(f"more than {_MOST_OPTIONS} combinations", path=f"{path}.anyOf")
    return [both(*pair) for pair in pairs]


def _equal(keyword: str) -> Callable[[dict[str, Any], dict[str, Any], str], Any]:
    def combine(one: dict[str, Any], other: dict[str, Any], path: str) -> Any:
        if one[keyword] != other[keyword]:
            raise GrammarError(
                f"two different values of {keyword!r} cannot be merged", path=f"{path}.{keyword}"
            )
        return one[keyword]

    return combine


def _chosen(
    keyword: str, choose: Callable[[Any, Any], Any]
) -> Callable[[dict[str, Any], dict[str, Any], str], Any]:
    return lambda one, other, _: choose(one[keyword], other[keyword])


# --- Properties and items, which are described by several keywords -----------------------------


def _properties(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    sides = (one.get("properties", {}), other.get("properties", {}))
    rests = (one.get("additionalProperties", True), other.get("additionalProperties", True))
    names = dict.fromkeys([*sides[0], *sides[1]])
    if names:
        whole["properties"] = {
            name: both(sides[0].get(name, rests[0]), sides[1].get(name, rests[1])) for name in names
        }
    if "additionalProperties" in one or "additionalProperties" in other:
        whole["additionalProperties"] = both(*rests)
    return whole


def _items(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    sides = (one.get("prefixItems", []), other.get("prefixItems", []))
    rests = (one.get("items", True), other.get("items", True))
    count = max(map(len, sides))
    if count:
        first, second = (
            side + [rest] * (count - len(side)) for side, rest in zip(sides, rests, strict=True)
        )
        whole["prefixItems"] = list(map(both, first, second))
    if "items" in one or "items" in other:
        whole["items"] = both(*rests)
    return whole


def _nothing(one: dict[str, Any], other: dict[str, Any], path: str) -> Any:  # noqa: ARG001
    return None  # set by `_GROUPS`


_GROUPS: Final[Mapping[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]]] = {
    "properties": _properties,
    "additionalProperties": _properties,
    "prefixItems": _items,
    "items": _items,
}

_COMBINE: Final[Mapping[str, Callable[[dict[str, Any], dict[str, Any], str], Any]]] = {
    **{keyword: _chosen(keyword, max) for keyword in (*_GREATEST, "minimum", "exclusiveMinimum")},
    **{keyword: _chosen(keyword, min) for keyword in (*_LEAST, "maximum", "exclusiveMaximum")},
    **{keyword: _equal(keyword) for keyword in _ONE_ONLY},
    **dict.fromkeys(_GROUPS, _nothing),
    "type": lambda one, other, _: _common_types(one["type"], other["type"]),
    "enum": _chosen("enum", lambda a, b: [it for it in a if _is_one_of(it, b)]),
    "required": _chosen("required", lambda a, b: list(dict.fromkeys([*a, *b]))),
    "anyOf": _options,
}


def whole_number(value: Any, keyword: str, path: str) -> int | None:
    """The value of a keyword that must be a whole number; `None` where it is missing.

    Raises:
        GrammarError: The value is something else.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value != int(value):
        raise GrammarError(
            f"only whole numbers are supported, not {value!r}", path=f"{path}.{keyword}"
        )
    return int(value)
