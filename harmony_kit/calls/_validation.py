"""Validating a value against a JSON Schema, and converting values of the wrong type.

Values are converted only where the conversion is lossless, and only if the whole is valid then. A
schema that cannot be used, for example because it refers to other documents, is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._json import (
    Finding,
    Found,
    TooDeepError,
    check_depth,
    json_text,
    read_json,
    shortened,
    valid_json,
)

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

_MAX_ERRORS: Final = 2000
"""The maximum number of errors for a conversion: each takes the validator up to 30 microseconds
in every round."""

_MAX_ROUNDS: Final = 8
"""The maximum number of rounds: a conversion of text can reveal further values."""


# --- The schema -----------------------------------------------------------------------------


class Schema(NamedTuple):
    """The compiled JSON Schema of a tool's parameters.

    Attributes:
        validator: The validator; `None` if the schema cannot be used.
        properties: The names of the declared properties.
        wants_object: Whether it allows objects.
        wants_text: Whether it allows text alone.
    """

    validator: Validator | None = None
    properties: frozenset[str] = frozenset()
    wants_object: bool = True
    wants_text: bool = False


@lru_cache(maxsize=256)
def compiled_schema(schema_json: str | None) -> Schema:
    """Compile a schema for validation."""
    if schema_json is None:
        return Schema()
    try:
        schema = json.loads(schema_json)
        properties = frozenset(_property_names(schema))
    except (ValueError, RecursionError):
        return Schema()
    kinds = schema.get("type") if isinstance(schema, dict) else None
    wants_object = "object" in kinds if isinstance(kinds, str | list) else True
    wants_text = kinds in ("string", ["string"])
    return Schema(_validator(schema_json), properties, wants_object, wants_text)


def _validator(schema_json: str) -> Validator | None:
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(schema_json, retriever=_unavailable)
    except Exception:  # a broken schema is not the fault of the call
        return None


def _unavailable(uri: str) -> Any:
    """Refuse to fetch a document that a schema refers to."""
    raise ValueError(f"{uri} is not fetched")


def _property_names(schema: Any) -> Iterator[str]:
    """The names of a schema's properties, including those of its subschemas and references."""
    waiting = [schema]
    followed: set[str] = set()
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("properties"), dict):
            yield from part["properties"]
        for combination in ("allOf", "anyOf", "oneOf"):
            if isinstance(part.get(combination), list):
                waiting += part[combination]
        reference = part.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            waiting.append(_referred(schema, reference))


def _referred(schema: Any, reference: str) -> Any:
    start, *steps = reference.split("/")
    if start != "#":
        return None
    for step in steps:
        schema = schema.get(step) if isinstance(schema, dict) else None
    return schema


# --- Checking -------------------------------------------------------------------------------


def validated(found: Found, schema: Schema) -> Found:
    """Validate a value, and convert values of the wrong type if that makes it valid.

    A valid value, or one that cannot be checked, is returned unchanged; a converted one has
    `schema_coercion` findings, and an invalid one a `schema_mismatch` finding.

    Raises:
        TooDeepError: The value is nested too deeply once its texts are converted.
    """
    validator = schema.validator
    if validator is None:
        return found
    try:
        errors = _errors(validator, found.value)
        if not errors:
            return found
        # A failed conversion must not change the value, so it works on a fresh copy.
        converted = _converted(validator, valid_json(found.text), errors)
        if converted is None:
            return found.noting("schema_mismatch", _described(errors[0]))
        value, changes = converted
        return Found(value, json_text(value, found.text), (*found.findings, *changes))
    except (RecursionError, TooDeepError):
        raise
    except Exception:  # the validator failed, on a pattern for example
        return found


def _errors(validator: Validator, value: Any) -> list[ValidationError]:
    if validator.is_valid(value):
        return []
    return list(islice(validator.iter_errors(value), _MAX_ERRORS + 1))


def _described(error: ValidationError) -> str:
    return f"{_json_path(error.instance_path)}: {error.message}"


def _json_path(path: Iterable[str | int]) -> str:
    return "$" + "".join(_json_step(step) for step in path)


def _json_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step, ensure_ascii=False)}]"


# --- Converting -----------------------------------------------------------------------------


_NO_VALUE: Final = object()

_Path = tuple[str | int, ...]


def _converted(
    validator: Validator, value: Any, errors: list[ValidationError]
) -> tuple[Any, Iterable[Finding]] | None:
    """The value with wrong types converted; `None` if it is still invalid."""
    holder = [value]
    changes: dict[_Path, Finding] = {}
    for _ in range(_MAX_ROUNDS):
        if len(errors) > _MAX_ERRORS:
            break
        changed = False
        for path, wanted in _wrong_values(errors).items():
            changed |= _convert_at(holder, path, wanted, changes)
        if not changed:
            break
        errors = _errors(validator, holder[0])
        if not errors:
            return holder[0], changes.values()
    return None


class _Wanted(NamedTuple):
    """The types and values that the schema allows at a path."""

    kinds: set[str]
    options: list[Any]


def _wrong_values(errors: Iterable[ValidationError]) -> dict[_Path, _Wanted]:
    """The paths of wrong values, outer values first, and the allowed types and values."""
    found: dict[_Path, _Wanted] = {}
    waiting = list(errors)
    while waiting:
        error = waiting.pop()
        kind: Any = error.kind
        for branch in getattr(kind, "context", ()):
            waiting += branch
        kinds = getattr(kind, "types", ())
        options = getattr(kind, "options", ())
        if hasattr(kind, "expected_value"):
            options = [kind.expected_value]
        if kinds or options:
            wanted = found.setdefault(tuple(error.instance_path), _Wanted(set(), []))
            wanted.kinds.update(kinds)
            wanted.options.extend(options)
    return dict(sorted(found.items(), key=lambda item: len(item[0])))


def _convert_at(
    holder: list[Any], path: _Path, wanted: _Wanted, changes: dict[_Path, Finding]
) -> bool:
    """Convert the value at a path in place; returns whether that was possible."""
    *outer, last = (0, *path)
    home: Any = holder
    try:
        for step in outer:
            home = home[step]
        old = home[last]
    except (LookupError, TypeError):  # an outer value has been converted
        return False
    new = _as_option(old, wanted.options)
    if new is _NO_VALUE:
        new = _as_one_of(old, wanted.kinds, len(path))
    if new is _NO_VALUE and old is None and isinstance(home, dict):
        del home[last]  # null means an omitted property; validated like any other change
        changes[path] = Finding("schema_coercion", f"{_json_path(path)}: null left out")
        return True
    if new is _NO_VALUE:
        return False
    home[last] = new
    was = json_text(old) if not isinstance(old, dict | list) else type(old).__name__
    detail = f"{_json_path(path)}: {shortened(was)} to {_kind_of(new)}"
    changes[path] = Finding("schema_coercion", detail)
    return True


def _kind_of(value: Any) -> str:
    kinds: dict[type, str] = {
        bool: "boolean",
        dict: "object",
        float: "number",
        int: "integer",
        list: "array",
        str: "string",
    }
    return kinds.get(type(value), "null")


def _as_option(value: Any, options: list[Any]) -> Any:
    """The allowed value that was meant, in another case or as a string; else `_NO_VALUE`."""
    if isinstance(value, str):
        name = value.strip().casefold()
        meant = [o for o in options if isinstance(o, str) and o.strip().casefold() == name]
        if len(meant) == 1:
            return meant[0]
    for convert in (_to_null, _to_boolean, _to_integer, _to_number, _to_text):
        new = convert(value)
        if new is not _NO_VALUE:
            for option in options:
                if option == new and type(option) is type(new):
                    return new
    return _NO_VALUE


def _as_one_of(value: Any, kinds: set[str], depth: int) -> Any:
    """The value converted to the strictest possible of several types, if that is lossless."""
    for kind, convert in _CONVERSIONS.items():
        if kind in kinds:
            new = convert(value)
            if new is not _NO_VALUE:
                if isinstance(new, dict | list):
                    check_depth("[" * depth + json_text(new))
                return new
    return _NO_VALUE


def _to_null(value: Any) -> Any:
    return None if value in ("null", "None") else _NO_VALUE


def _to_boolean(value: Any) -> Any:
    words = {"true": True, "True": True, "false": False, "False": False}
    return words.get(value, _NO_VALUE) if isinstance(value, str) else _NO_VALUE


def _to_integer(value: Any) -> Any:
    number = _to_number(value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if type(number) is int and isinstance(value, str) else _NO_VALUE


_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,3})?")


def _to_number(value: Any) -> Any:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return _NO_VALUE
    try:
        number: int | float = read_json(value).value
    except ValueError:  # larger than any float
        return _NO_VALUE
    if isinstance(number, float) and Decimal(repr(number)) != Decimal(value):
        return _NO_VALUE  # more digits than a float holds
    return number


def _to_object(value: Any) -> Any:
    return _unpacked(value, dict)


_LIST_IN_WORDS: Final = re.compile(r"[,;\n]|\A\s*\[")


def _to_array(value: Any) -> Any:
    unpacked = _unpacked(value, list)
    if unpacked is not _NO_VALUE or value is None:
        return unpacked
    if isinstance(value, str) and _LIST_IN_WORDS.search(value):
        return _NO_VALUE  # it may be several values
    return _NO_VALUE if isinstance(value, list) else [value]


def _to_text(value: Any) -> Any:
    # The spelling of a float is lost: the versions 1.10 and 1.1 differ.
    return str(value) if type(value) is int else _NO_VALUE


def _unpacked(value: Any, kind: type) -> Any:
    if not isinstance(value, str):
        return _NO_VALUE
    try:
        inner = valid_json(value)
    except ValueError:
        return _NO_VALUE
    return inner if isinstance(inner, kind) else _NO_VALUE


_CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "null": _to_null,
    "boolean": _to_boolean,
    "integer": _to_integer,
    "number": _to_number,
    "object": _to_object,
    "string": _to_text,
    "array": _to_array,
}
