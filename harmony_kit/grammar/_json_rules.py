"""JSON values that meet a JSON Schema, as context-free rules.

Properties have the order of the schema. An object has those that its schema names and no others,
unless the schema has `additionalProperties`. Whitespace between the parts of JSON is limited, so
that a model cannot repeat it forever.

Everything that the rules admit is valid. Not everything that is valid is admitted: numbers with
bounds have no exponent, strings with counted characters have one spelling each, and so on; see
`_json_numbers` and `_json_strings`.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from ..errors import GrammarError
from ._json_numbers import Bounds, integer_rules, number_rules
from ._json_strings import (
    any_string,
    counted_string,
    format_string,
    json_literal,
    other_key,
    pattern_string,
)
from ._nodes import (
    EMPTY_LANGUAGE,
    EPSILON,
    JsonValue,
    Literal,
    Node,
    Rule,
    alternatives,
    characters,
    optional,
    repeat,
    sequence,
)
from ._rules import RuleBook, trimmed
from ._schema import TOO_DEEP, load_schema, refuse_unsupported
from ._schema_merge import Merger, both, types_of, whole_number

_MOST_RULES: Final = 20_000
_STRING_KEYWORDS: Final = ("format", "pattern")


def json_rules(value: JsonValue, book: RuleBook) -> Node:
    """The rules of a JSON value, which are added to the book.

    Raises:
        GrammarError: The rules cannot express the schema, or nothing meets it.
    """
    schema = load_schema(value)
    refuse_unsupported(schema, "rules", value.path)
    try:
        start = _Writer(schema, value.path, book).whole()
    except RecursionError:
        raise GrammarError(TOO_DEEP, path=value.path) from None
    if trimmed(start, book.rules)[0] == EMPTY_LANGUAGE:
        raise GrammarError("nothing meets the schema", path=value.path)
    return start


class _Writer:
    """Writes the rules of one schema, subschema by subschema.

    Subschemas wait in a queue, so that neither depth nor recursive references matter.
    """

    def __init__(self, root: Any, path: str, book: RuleBook) -> None:
        self._root = root
        self._path = path
        self._book = book
        self._merger = Merger(root, path)
        self._rules: dict[int | str, Rule] = {}
        self._queue: deque[tuple[Rule, Any, str]] = deque()
        self._given = _identities(root)

    def whole(self) -> Node:
        start = self._value(self._root, self._path)
        while self._queue:
            rule, schema, path = self._queue.popleft()
            self._book.define(rule, self._body(schema, path))
        return start

    def _value(self, schema: Any, path: str) -> Node:
        """A reference to the rule of a schema, whose body is written later."""
        if schema is False:
            return EMPTY_LANGUAGE
        if schema is True or schema == {}:
            return self._anything()
        key = id(schema) if id(schema) in self._given else json.dumps(schema)
        known = self._rules.get(key)
        if known is not None:
            return known
        if len(self._rules) >= _MOST_RULES:
            raise GrammarError(f"the schema needs more than {_MOST_RULES} rules", path=path)
        rule = self._rules[key] = self._book.reserve("value")
        self._queue.append((rule, schema, path))
        return rule

    def _body(self, schema: Any, path: str) -> Node:
        if isinstance(schema, dict) and schema.keys() == {"$ref"}:
            return self._value(self._merger.target(schema["$ref"], path), path)
        merged = self._merger.merged(schema, path)
        if merged is None:
            return EMPTY_LANGUAGE
        if "enum" in merged:
            values = [it for it in merged["enum"] if self._merger.is_valid(merged, it, path)]
            return alternatives(*(self._constant(it) for it in values))
        if "anyOf" in merged:
            options = merged.pop("anyOf")
            return alternatives(
                *(
                    self._value(both(it, merged) if merged else it, f"{path}.anyOf[{index}]")
                    for index, it in enumerate(options)
                )
            )
        return alternatives(*(self._typed(it, merged, path) for it in types_of(merged)))

    def _typed(self, name: str, schema: dict[str, Any], path: str) -> Node:
        match name:
            case "null":
                return Literal("null")
            case "boolean":
                return alternatives(Literal("true"), Literal("false"))
            case "integer" | "number":
                return self._number(name, schema, path)
            case "string":
                return self._string(schema, path)
            case "array":
                return self._array(schema, path)
            case _:
                return self._object(schema, path)

    # --- Single values ------------------------------------------------------------------------

    def _constant(self, value: Any) -> Node:
        whitespace = self._whitespace()
        match value:
            case str():
                return json_literal(value)
            case list():
                items = [self._constant(item) for item in value]
                return self._enclosed("[", _joined(items, whitespace), "]")
            case dict():
                members = [self._member(name, self._constant(it)) for name, it in value.items()]
                return self._enclosed("{", _joined(members, whitespace), "}")
            case _:
                return Literal(json.dumps(value))

    def _number(self, name: str, schema: dict[str, Any], path: str) -> Node:
        factor = schema.get("multipleOf")
        if factor is not None and (name != "integer" or factor != 1):
            raise GrammarError(
                "multipleOf is supported only as 1, for integers", path=f"{path}.multipleOf"
            )
        is_whole = name == "integer"
        least, above = _bound(schema, "minimum", "exclusiveMinimum", path, is_whole=is_whole)
        most, below = _bound(schema, "maximum", "exclusiveMaximum", path, is_whole=is_whole)
        bounds = Bounds(least, most, above, below)
        body = integer_rules(bounds) if is_whole else number_rules(bounds)
        return self._book.add(name, body)

    def _string(self, schema: dict[str, Any], path: str) -> Node:
        least = _count(schema, "minLength", path) or 0
        most = _count(schema, "maxLength", path)
        special = [keyword for keyword in _STRING_KEYWORDS if keyword in schema]
        if len(special) > 1 or (special and (least > 0 or most is not None)):
            raise GrammarError(
                f"{special[0]!r} is supported alone, not with other restrictions of a string",
                path=f"{path}.{special[0]}",
            )
        if special == ["pattern"]:
            return pattern_string(schema["pattern"], self._book, f"{path}.pattern")
        if special:
            return format_string(schema["format"], self._book, f"{path}.format")
        if least == 0 and most is None:
            return any_string(self._book)
        keyword = "minLength" if most is None else "maxLength"
        return counted_string(self._book, least, most, f"{path}.{keyword}")

    # --- Arrays -------------------------------------------------------------------------------

    def _array(self, schema: dict[str, Any], path: str) -> Node:
        least = _count(schema, "minItems", path) or 0
        most = _count(schema, "maxItems", path)
        if schema.get("uniqueItems") and (most is None or most > 1):
            raise GrammarError(
                "uniqueItems is supported only with maxItems 0 or 1", path=f"{path}.uniqueItems"
            )
        prefix = [
            self._value(it, f"{path}.prefixItems[{index}]")
            for index, it in enumerate(schema.get("prefixItems", ()))
        ]
        prefix = prefix[:most]
        item = self._value(schema.get("items", True), f"{path}.items")
        comma = sequence(Literal(","), self._whitespace())

        def further(count: int) -> Node:
            """The items after the first `count`."""
            limit = None if most is None else most - count
            place = f"{path}.{'minItems' if limit is None else 'maxItems'}"
            return self._book.repeat(sequence(comma, item), max(least - count, 0), limit, place)

        if not prefix:
            first = EPSILON if most == 0 else sequence(item, further(1))
            items = first if least > 0 or most == 0 else optional(first)
            return self._enclosed("[", EMPTY_LANGUAGE if least > 0 and most == 0 else items, "]")
        rest = further(len(prefix))
        for count in range(len(prefix) - 1, 0, -1):
            following = sequence(comma, prefix[count], rest)
            rest = self._book.add("items", following if least > count else optional(following))
        first = sequence(prefix[0], rest)
        return self._enclosed("[", first if least > 0 else optional(first), "]")

    # --- Objects ------------------------------------------------------------------------------

    def _object(self, schema: dict[str, Any], path: str) -> Node:
        named = dict(schema.get("properties", {}))
        others = schema.get("additionalProperties", "properties" not in schema)
        required = list(dict.fromkeys(schema.get("required", ())))
        named.update({name: others for name in required if name not in named})
        least, most = self._property_counts(schema, named, required, others, path)
        member: Node = EMPTY_LANGUAGE
        if others is not False:
            value = self._value(others, f"{path}.additionalProperties")
            key = self._other_key(tuple(named))
            member = sequence(key, Literal(":"), self._whitespace(), value)
        comma = sequence(Literal(","), self._whitespace())
        # `after` follows a member; `start` applies as long as there is none.
        limit = None if most is None or named else max(most - 1, 0)
        after = self._book.repeat(
            sequence(comma, member), max(least - 1, 0), limit, f"{path}.maxProperties"
        )
        start = EPSILON if most == 0 else sequence(member, after)
        start = start if least > 0 else optional(start)
        if named:
            after = self._book.add("members", after)
        for name, subschema in reversed(named.items()):
            value = self._value(subschema, f"{path}.properties.{name}")
            property_ = self._member(name, value)
            here, next_ = sequence(property_, after), sequence(comma, property_, after)
            if name in required:
                start, after = here, self._book.add("members", next_)
            else:
                start = self._book.add("members", alternatives(here, start))
                after = self._book.add("members", alternatives(next_, after))
        return self._enclosed("{", start, "}")

    def _property_counts(
        self,
        schema: dict[str, Any],
        named: dict[str, Any],
        required: Sequence[str],
        others: Any,
        path: str,
    ) -> tuple[int, int | None]:
        """The minimum and maximum of members that the rules have to count."""
        least = _count(schema, "minProperties", path) or 0
        most = _count(schema, "maxProperties", path)
        if least <= len(required):
            least = 0
        elif named or least > 1:
            # A key may be repeated, so that the number of members is not that of properties.
            raise GrammarError(
                "minProperties is supported up to the number of required properties, or as 1 "
                "where no property is named",
                path=f"{path}.minProperties",
            )
        if most is not None and others is False and most >= len(named):
            most = None
        if most is not None and named:
            raise GrammarError(
                "maxProperties is supported where no property is named, or all of them fit",
                path=f"{path}.maxProperties",
            )
        return least, most

    def _other_key(self, names: tuple[str, ...]) -> Node:
        return other_key(self._book, names) if names else any_string(self._book)

    def _member(self, name: str, value: Node) -> Node:
        return sequence(json_literal(name), Literal(":"), self._whitespace(), value)

    def _enclosed(self, begin: str, inner: Node, end: str) -> Node:
        whitespace = self._whitespace()
        if inner == EMPTY_LANGUAGE:
            return EMPTY_LANGUAGE
        empty = sequence(Literal(begin), whitespace, Literal(end))
        if inner == EPSILON:
            return empty
        return sequence(Literal(begin), whitespace, inner, whitespace, Literal(end))

    # --- Common rules -------------------------------------------------------------------------

    def _whitespace(self) -> Node:
        line = sequence(Literal("\n"), repeat(characters(" \t"), 0, 32))
        return self._book.add("ws", alternatives(Literal(" "), line, EPSILON))

    def _anything(self) -> Node:
        known = self._book.known("anything")
        if known is not None:
            return known
        rule = self._book.reserve("anything")
        types = ("null", "boolean", "number", "string", "array", "object")
        self._book.define(rule, alternatives(*(self._typed(it, {}, "") for it in types)))
        return rule


def _joined(parts: Sequence[Node], whitespace: Node) -> Node:
    joined: list[Node] = []
    for part in parts:
        joined += [Literal(","), whitespace, part] if joined else [part]
    return sequence(*joined)


def _count(schema: dict[str, Any], keyword: str, path: str) -> int | None:
    return whole_number(schema.get(keyword), keyword, path)


def _bound(
    schema: dict[str, Any], inclusive: str, exclusive: str, path: str, *, is_whole: bool
) -> tuple[int | None, bool]:
    """One bound of a number, and whether it is exclusive."""
    is_lower = inclusive == "minimum"
    found: list[tuple[int, bool]] = []
    for keyword, is_exclusive in ((inclusive, False), (exclusive, True)):
        value = schema.get(keyword)
        if isinstance(value, float) and is_whole and math.isfinite(value) and value % 1:
            # A fraction: the nearest integer within the bound is an inclusive bound.
            found.append((math.ceil(value) if is_lower else math.floor(value), False))
        else:
            number = whole_number(value, keyword, path)
            found += [] if number is None else [(number, is_exclusive)]
    if not found:
        return None, False
    sign = 1 if is_lower else -1
    return max(found, key=lambda it: (sign * it[0], it[1]))


def _identities(root: Any) -> set[int]:
    """The ids of all parts of the given schema; derived schemas are not among them."""
    found: set[int] = set()
    open_nodes = [root]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, dict | list):
            found.add(id(node))
            open_nodes += node.values() if isinstance(node, dict) else node
    return found
