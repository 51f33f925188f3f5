"""The extended style, which covers all of JSON Schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from .numbers import compact_json, exact_number
from .schema import NUMBERS_AND_FLAGS, list_at, properties_of, text_at

_LINE_END: Final = re.compile("\r\n|[\n\r\u2028\u2029]")
_MAX_COPIES: Final = 4
"""How often a definition is written out in full. Without a limit, the text would double with every
definition in a chain in which each uses the next one twice."""
_MAX_OPEN: Final = 32
"""How many definitions may be nested in each other."""
_SHORT: Final = 80
"""A definition of at most this many characters, on one line, is always written out."""
_RESERVED_NAMES: Final = frozenset({*NUMBERS_AND_FLAGS, "any", "never", "null", "object", "string"})
_COMBINING: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "nullable"})
"""The keywords that form a type from other types."""


class _Type(NamedTuple):
    """A type as text, in a form that can become part of a larger one."""

    alternatives: tuple[str, ...]
    """The members of a union; a single one for any other type."""
    atomic: bool = True
    """Whether a single alternative can be an operand without parentheses."""

    @property
    def text(self) -> str:
        return " | ".join(self.alternatives)

    @property
    def operand(self) -> str:
        """The type as an operand of `[]` or `&`."""
        return self.text if self.atomic and len(self.alternatives) == 1 else f"({self.text})"

    @property
    def members(self) -> tuple[str, ...]:
        """The operands of `|` that the type contributes to a larger union."""
        return self.alternatives if len(self.alternatives) > 1 else (self.operand,)


_ANY: Final = _Type(("any",))
_NEVER: Final = _Type(("never",))
_NULL: Final = _Type(("null",))


def _union(types: Sequence[_Type]) -> _Type:
    if len(types) == 1:
        return types[0]
    members = dict.fromkeys(member for type_ in types for member in type_.members)
    if "any" in members:
        return _ANY
    members.pop("never", None)
    return _Type(tuple(members)) if members else _NEVER


def _intersection(types: Iterable[_Type]) -> _Type:
    factors = [type_ for type_ in dict.fromkeys(types) if type_ != _ANY]
    if _NEVER in factors:
        return _NEVER
    if not factors:
        return _ANY
    if len(factors) == 1:
        return factors[0]
    return _Type((" & ".join(factor.operand for factor in factors),), atomic=False)


class _Place(NamedTuple):
    """The indentation of the line on which a type begins, and of the properties in it."""

    line: str
    body: str


_TOP: Final = _Place("", "")


def _inside(indent: str) -> _Place:
    return _Place(indent, f"{indent}    ")


def extended_text(schema: Any) -> str:
    writer = _ExtendedWriter(schema)
    text = writer.write()
    if writer.cut:
        # Which definitions need a label is known only after the first pass.
        text = _ExtendedWriter(schema, labelled=writer.cut).write()
    return text


class _ExtendedWriter:
    """Writes one schema.

    A `$ref` is replaced by the type of the definition that it refers to. If that definition is
    recursive or too large, its name is written instead: it is *cut*, and where it is written out
    it is labelled with the name.
    """

    def __init__(self, root: Any, labelled: Iterable[int] = ()) -> None:
        self.root = root
        self.labelled = frozenset(labelled)
        self.cut: set[int] = set()
        self._open: set[int] = set()
        self._copies: Counter[int] = Counter()
        self._short: dict[int, _Type] = {}
        self._names: dict[int, str] = {}
        self._bearers = dict.fromkeys(_RESERVED_NAMES, 1)

    def write(self) -> str:
        self._open.add(id(self.root))
        text = self._type(self.root, _TOP).text
        if id(self.root) in self.labelled:
            text = f"/* {self._name(self.root, '#')} */ {text}"
        comment = _comment(self._annotation(self.root, "description"), "")
        return comment + text.lstrip("\n") if comment else text

    # --- Types ---

    def _type(self, schema: Any, place: _Place) -> _Type:
        if schema is False:
            return _NEVER
        if not isinstance(schema, dict):
            return _ANY
        own = self._own_type(schema, place)
        if _COMBINING.isdisjoint(schema):
            return own
        others = [type_ for type_ in self._applied(schema, place) if type_ != _ANY]
        if others and own == self._own_type({"type": schema.get("type")}, place):
            own = _ANY  # "type": "object" next to a union of objects adds nothing
        type_ = _intersection([own, *others])
        return _union([type_, _NULL]) if schema.get("nullable") is True else type_

    def _applied(self, schema: dict[str, Any], place: _Place) -> Iterator[_Type]:
        """The types from the subschemas that apply to the same value."""
        if "$ref" in schema:
            yield self._reference(schema["$ref"], place)
        for part in list_at(schema, "allOf"):
            yield self._type(part, place)
        for keyword in ("anyOf", "oneOf"):
            variants = list_at(schema, keyword)
            if variants:
                yield self._variants(schema, variants, place)

    def _own_type(self, schema: dict[str, Any], place: _Place) -> _Type:
        """The type from the keywords that are not in `_COMBINING`."""
        if "const" in schema:
            return _Type((_literal(schema["const"]),))
        kinds = _kinds(schema)
        values = list_at(schema, "enum")
        if values:
            fitting = [value for value in values if _is_one_of(value, kinds)]
            return _union([_Type((_literal(value),)) for value in fitting or values])
        if len(kinds) == 1:
            return self._kind(kinds[0], schema, place)
        return _union([self._kind(kind, schema, place) for kind in kinds]) if kinds else _ANY

    def _kind(self, kind: str, schema: dict[str, Any], place: _Place) -> _Type:
        if kind == "object":
            return self._object(schema, place)
        if kind == "array":
            return self._array(schema, place)
        if kind in ("string", "null"):
            return _Type((kind,))
        return _Type((NUMBERS_AND_FLAGS.get(kind, "any"),))

    def _array(self, schema: dict[str, Any], place: _Place) -> _Type:
        items = schema.get("items")
        # Before "prefixItems" existed, tuples had a list in "items".
        first = items if isinstance(items, list) else list_at(schema, "prefixItems")
        more = schema.get("additionalItems") if isinstance(items, list) else items
        if not first and "items" not in schema:
            return _Type(("Array<any>",))
        if not first:
            return _Type((f"{self._type(more, place).operand}[]",))
        elements = [self._type(item, place).text for item in first]
        if more is not None and more is not False:
            elements.append(f"...{self._type(more, place).operand}[]")
        return _Type((f"[{', '.join(elements)}]",))

    def _object(self, schema: dict[str, Any], place: _Place) -> _Type:
        lines = [
            self._property(_key(key), value, mark, place.body)
            for key, value, mark in properties_of(schema)
        ]
        others = _other_properties(schema)
        if others is not None:
            lines.append(self._property("[key: string]", others, "", place.body))
        if not lines and place is not _TOP and schema.get("additionalProperties") is not False:
            return _Type(("object",))
        return _Type((f"{{\n{''.join(lines)}{place.line}}}",))

    def _property(self, key: str, schema: Any, mark: str, indent: str) -> str:
        text = self._type(schema, _inside(indent)).text
        spread = text.startswith("\n")
        default = self._default(schema)
        above = self._comments(schema, indent)
        behind = ""
        if default and spread:
            above += f"{indent}// {default}\n"
        elif default:
            behind = f" // {default}"
        return f"{above}{indent}{key}{mark}:{'' if spread else ' '}{text},{behind}\n"

    # --- Unions ---

    def _variants(self, schema: dict[str, Any], variants: list[Any], place: _Place) -> _Type:
        """A union, with one variant per line if any of them has a comment, else on one line."""
        known = (self._annotation(schema, "description"), self._default(schema))
        comments = [self._variant_comment(variant, *known) for variant in variants]
        if not any(comments):
            return _union([self._type(variant, place) for variant in variants])
        inside = _inside(f"{place.line}   ")
        lines = (
            _variant_lines(self._type(variant, inside), comment, place.line)
            for variant, comment in zip(variants, comments, strict=True)
        )
        return _Type((f"\n{''.join(lines)}{place.line}",), atomic=False)

    def _variant_comment(self, variant: Any, known: Any, known_default: str) -> str:
        """The description and default of a variant, without those that the whole union has."""
        comment = self._annotation(variant, "description")
        if not isinstance(comment, str) or comment == known:
            comment = text_at(variant, "title") or ""
        default = self._default(variant)
        if default == known_default:
            default = ""
        return " ".join(filter(None, (comment.strip("\r\n"), default)))

    # --- Comments ---

    def _annotation(self, schema: Any, keyword: str) -> Any:
        """The annotation of a schema, or of the schema that it is an alias of; else `None`."""
        return self._annotated(schema, keyword).get(keyword)

    def _annotated(self, schema: Any, keyword: str) -> dict[str, Any]:
        for _ in range(_MAX_OPEN):
            if not isinstance(schema, dict):
                break
            if keyword in schema:
                return schema
            schema = self._aliased(schema)
        return {}

    def _aliased(self, schema: dict[str, Any]) -> Any:
        """The only subschema, if this one adds nothing but annotations or `null`; else `None`."""
        if "type" in schema or _COMBINING.isdisjoint(schema):
            return None
        if "$ref" in schema:
            return self._target(schema["$ref"])
        lists = [list_at(schema, keyword) for keyword in ("allOf", "anyOf", "oneOf")]
        if sum(map(len, lists)) > 2:
            return None
        parts = [part for part in chain.from_iterable(lists) if text_at(part, "type") != "null"]
        return parts[0] if len(parts) == 1 else None

    def _comments(self, schema: Any, indent: str) -> str:
        heading = _comment(text_at(schema, "title"), indent)
        text = f"{heading}{indent}//\n" if heading else ""
        text += _comment(self._annotation(schema, "description"), indent)
        text += self._comment_on_items(schema, indent)
        examples = self._annotation(schema, "examples")
        if isinstance(examples, list) and examples:
            lines = (f"{indent}// - {_literal(example)}\n" for example in examples)
            text += f"{indent}// Examples:\n{''.join(lines)}"
        return text

    def _comment_on_items(self, schema: Any, indent: str) -> str:
        items = schema.get("items") if isinstance(schema, dict) else None
        description = self._annotation(items, "description")
        return _comment(f"Items: {description}", indent) if isinstance(description, str) else ""

    def _default(self, schema: Any) -> str:
        annotated = self._annotated(schema, "default")
        if "default" not in annotated:
            return ""
        default = annotated["default"]
        literal = _literal(default)
        # In the training data, the default of an enum has no quotes.
        bare = literal == f'"{default}"' and bool(self._annotation(schema, "enum"))
        return f"default: {default if bare else literal}"

    # --- References ---

    def _reference(self, reference: Any, place: _Place) -> _Type:
        target = self._target(reference)
        if not isinstance(target, dict):
            return self._type(target, place)
        key = id(target)
        if key in self._short:
            return self._short[key]
        if self._must_cut(key):
            self.cut.add(key)
            return _Type((self._name(target, reference),))
        self._copies[key] += 1
        self._open.add(key)
        type_ = self._type(target, place)
        self._open.remove(key)
        is_short = len(type_.text) <= _SHORT and "\n" not in type_.text
        if key in self.labelled:
            first, *others = type_.alternatives
            label = f"/* {self._name(target, reference)} */"
            type_ = type_._replace(alternatives=(f"{label} {first}", *others))
        if is_short:
            self._short[key] = type_
        return type_

    def _must_cut(self, key: int) -> bool:
        too_often = self._copies[key] >= _MAX_COPIES
        return too_often or key in self._open or len(self._open) > _MAX_OPEN

    def _target(self, reference: Any) -> Any:
        """The schema that a `$ref` refers to; `None` unless it is within the root schema."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        start, *steps = _unquoted(reference[1:]).split("/")
        if start:
            return None
        target = self.root
        for step in steps:
            target = _member(target, step.replace("~1", "/").replace("~0", "~"))
        return target

    def _name(self, target: dict[str, Any], reference: str) -> str:
        """A unique name for a definition, made from the last part of its `$ref`."""
        if id(target) in self._names:
            return self._names[id(target)]
        base = re.sub(r"\W+", "_", _unquoted(reference).rpartition("/")[2]).strip("_") or "Root"
        name = base = base if base.isidentifier() else f"_{base}"
        while name in self._bearers:
            self._bearers[base] += 1
            name = f"{base}{self._bearers[base]}"
        self._bearers[name] = 1
        self._names[id(target)] = name
        return name


def _member(value: Any, name: str) -> Any:
    """The member of an object or array that a step of a JSON pointer selects, or `None`."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list) and name.isdecimal() and len(name) < 10:
        return value[int(name)] if int(name) < len(value) else None
    return None


def _kinds(schema: dict[str, Any]) -> list[str]:
    """The values of "type", or those that the other keywords imply."""
    kind = schema.get("type")
    if isinstance(kind, str):
        return [kind]
    kinds = [k for k in list_at(schema, "type") if isinstance(k, str)]
    if kinds:
        return kinds
    if any(isinstance(schema.get(k), dict) for k in ("properties", "additionalProperties")):
        return ["object"]
    return ["array"] if "items" in schema or "prefixItems" in schema else []


def _is_one_of(value: Any, kinds: list[str]) -> bool:
    """Whether a JSON value has one of these types; true if there are none."""
    if isinstance(value, bool):
        own = {"boolean"}
    elif isinstance(value, int | float):
        own = {"integer", "number"}
    elif isinstance(value, str):
        own = {"string"}
    elif value is None:
        own = {"null"}
    else:
        own = {"object"} if isinstance(value, dict) else {"array"}
    return not kinds or not own.isdisjoint(kinds)


def _other_properties(schema: dict[str, Any]) -> Any:
    """The schema of the properties without a fixed name, or `None`."""
    patterns = schema.get("patternProperties")
    schemas = list(patterns.values()) if isinstance(patterns, dict) else []
    additional = schema.get("additionalProperties")
    if additional is True or isinstance(additional, dict):
        schemas.append(additional)
    if len(schemas) > 1:
        return {"anyOf": schemas}
    return schemas[0] if schemas else None


def _key(key: str) -> str:
    return key if key.replace("$", "_").isidentifier() else _literal(key)


def _literal(value: Any) -> str:
    """A JSON value as a literal type on one line; the line ends U+2028 and U+2029 are escaped."""
    text = compact_json(value, exact_number)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _comment(text: Any, indent: str) -> str:
    """Text as comment lines; empty if it is not text."""
    text = text.strip("\r\n") if isinstance(text, str) else ""
    return "".join(f"{indent}// {line}\n" for line in _LINE_END.split(text)) if text else ""


def _variant_lines(type_: _Type, comment: str, indent: str) -> str:
    text = " | ".join(type_.members)
    if "\n" in text or _LINE_END.search(comment):
        return f"{_comment(comment, f'{indent} ')}{indent} | {text}\n"
    return f"{indent} | {text}{f' // {comment}' if comment else ''}\n"


def _unquoted(reference: str) -> str:
    from urllib.parse import unquote  # as slow to import as this whole module; rarely needed

    return unquote(reference)
