"""Tools from Python functions: signature, annotations and docstring become a JSON Schema.

The schema describes the arguments of a call by name, as JSON. An annotation that JSON cannot
express is refused.

    annotation                                   | schema
    ---------------------------------------------+-------------------------------------------
    none, `Any`, `object`                        | {}
    `str`, `int`, `float`, `bool`, `None`        | the JSON type
    `list`, `set`, `Sequence`, `Iterable`, ...   | array
    `tuple[A, B]`                                | array of that length
    `dict`, `Mapping`, ...                       | object with `additionalProperties`
    `Literal`, an `Enum`                         | `enum` of the members' values
    `A | B`, `Optional`                          | a list of types if equivalent, or `anyOf`
    a `TypedDict`, dataclass, `NamedTuple`       | object with `properties`
    `datetime`, `date`, `UUID`, `Path`, ...      | string, with its `format` if it has one
    a class with `model_json_schema` (pydantic)  | the result of that method
    `Annotated[T, "text"]`                       | the schema of `T` with a description
    `Annotated[T, Field(ge=1)]` and the like     | the schema of `T` with `minimum` etc.

Types are described inline, without `$ref`, because the models' training format has no
references. A recursive type is therefore cut to a bare object at its second occurrence. Only
pydantic models keep their references.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import math
import os
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeVar

from .._options import checked_options
from ..errors import ToolError
from ..wire._contents import Tool
from ._annotations import (
    ARRAYS,
    MAPPINGS,
    SETS,
    UndescribableError,
    at,
    evaluated,
    form_of,
    hints_of,
    peel,
    scope_of,
    signature_of,
    without_partials,
    written,
)
from ._docstrings import Docs, class_docs, docs_of
from ._models import is_model, schema_of_model

_Schema = dict[str, Any]


@checked_options
def tool_from_function(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None
) -> Tool:
    """Make a tool from a function.

    Parameters bound by a `functools.partial` are hidden from the model.

    Args:
        function: The function that runs calls: a function, sync or async, a bound method, a
            `partial`, or any other callable with a signature.
        name: The tool's name; defaults to the function's.
        description: The tool's description; defaults to the docstring without its sections.
            Docstrings may be in Google, NumPy or reStructuredText style.

    Raises:
        ToolError: A parameter cannot be passed by name or has an annotation that JSON cannot
            express, or the function has no signature or no valid name.

    Example:
        >>> def get_weather(city: str, days: int = 1) -> str:
        ...     '''Get the weather.
        ...
        ...     Args:
        ...         city: The name of the city.
        ...     '''
        >>> tool = tool_from_function(get_weather)
        >>> tool.name, tool.description
        ('get_weather', 'Get the weather.')
        >>> tool.parameters["properties"]["city"]
        {'type': 'string', 'description': 'The name of the city.'}
    """
    if not callable(function):
        raise ToolError(f"a {type(function).__name__} is not callable")
    core, bound = without_partials(function)
    own_name: str = getattr(core, "__name__", type(core).__name__)
    if name is None and not own_name.isidentifier():
        raise ToolError(f"{own_name} has no valid tool name; pass name=...")
    docs = docs_of(core)
    try:
        parameters = _parameters(signature_of(function, bound), scope_of(core), docs)
    except UndescribableError as error:
        full_name = getattr(core, "__qualname__", own_name)
        raise ToolError(f"{full_name}(): {error}") from error.__cause__
    return Tool(
        own_name if name is None else name,
        docs.description if description is None else description,
        parameters,
        function=function,
    )


# --- Schemas of types -----------------------------------------------------------------------


def _parameters(
    signature: inspect.Signature, scope: Mapping[str, Any], docs: Docs
) -> _Schema | None:
    """The schema of the arguments; `None` if there are no parameters."""
    if not signature.parameters:
        return None
    writer = _SchemaWriter()
    schema = writer.arguments(signature, scope, docs, "parameter")
    # Without **kwargs, an unknown name is a TypeError when the function is called.
    schema.setdefault("additionalProperties", False)
    return {**schema, "$defs": writer.definitions} if writer.definitions else schema


_PLAIN: Final[dict[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    types.NoneType: "null",
}

# Subclasses come before their bases.
_SCALARS: Final[dict[type, _Schema]] = {
    **{cls: {"type": kind} for cls, kind in _PLAIN.items()},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "string", "format": "duration"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    os.PathLike: {"type": "string"},
    decimal.Decimal: {"type": "string"},
    bytes: {"type": "string"},
    bytearray: {"type": "string"},
}


class _SchemaWriter:
    """Writes the schemas of one signature.

    Attributes:
        definitions: The `$defs` that the schemas of models refer to; they belong at the root.
    """

    def __init__(self) -> None:
        self.definitions: _Schema = {}
        self._open: list[Any] = []

    # Objects

    def arguments(
        self, signature: inspect.Signature, scope: Mapping[str, Any], docs: Docs, word: str
    ) -> _Schema:
        """An object schema with the parameters as properties; errors call a parameter a `word`."""
        schema: _Schema = {"type": "object", "properties": {}}
        for parameter in signature.parameters.values():
            with at(f"{word} `{parameter}`"):
                self._add(parameter, schema, scope, docs)
        return schema

    def _add(
        self, parameter: inspect.Parameter, schema: _Schema, scope: Mapping[str, Any], docs: Docs
    ) -> None:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise UndescribableError("it takes positional arguments, but calls pass them by name")
        if type(parameter.default).__name__ == "FieldInfo":
            raise UndescribableError("write Annotated[..., Field(...)] instead of = Field(...)")
        missing = parameter.annotation is parameter.empty
        annotation = Any if missing else evaluated(parameter.annotation, scope)
        if parameter.kind is parameter.VAR_KEYWORD:
            self._add_keywords(annotation, schema)
            return
        value = self._property(annotation, docs.parameters.get(parameter.name))
        if parameter.default is parameter.empty:
            schema.setdefault("required", []).append(parameter.name)
        else:
            value = {**value, **_default(parameter.default)}
        schema["properties"][parameter.name] = value

    def _add_keywords(self, annotation: Any, schema: _Schema) -> None:
        value = self.of(annotation)
        if form_of(typing.get_origin(annotation)) != "Unpack":
            schema["additionalProperties"] = value or True
            return
        schema["properties"] |= value["properties"]
        required = schema.get("required", []) + value.get("required", [])
        schema |= {"required": required} if required else {}

    def _property(self, annotation: Any, doc: str | None) -> _Schema:
        value = self.of(annotation)
        return value if peel(annotation).text else _described(value, doc)

    def _typed_dict(self, cls: Any) -> _Schema:
        docs = class_docs(cls)
        schema: _Schema = {"type": "object", "properties": {}}
        required = []
        for name, annotation in hints_of(cls).items():
            with at(f"key {name!r}"):
                value = self._property(annotation, docs.parameters.get(name))
            schema["properties"][name] = value
            # Python does not recognize qualifiers in a string annotation; `peel` does.
            marked = peel(annotation).required
            if name in cls.__required_keys__ if marked is None else marked:
                required.append(name)
        return {**schema, "required": required} if required else schema

    def _record(self, cls: Any) -> _Schema:
        """The schema of a dataclass or NamedTuple, by the parameters of its constructor."""
        hints = hints_of(cls)
        signature = signature_of(cls)
        fields = [
            field.replace(annotation=hints.get(name, field.annotation))
            for name, field in signature.parameters.items()
        ]
        signature = signature.replace(parameters=fields)
        return self.arguments(signature, scope_of(cls), class_docs(cls), "field")

    def _object(self, cls: Any, write: Callable[[Any], _Schema]) -> _Schema:
        with at(cls.__name__):
            return self._within(cls, {"type": "object"}, lambda: write(cls))

    def _model(self, cls: Any) -> _Schema:
        """The schema of a class that describes itself, such as a pydantic model."""
        try:
            schema = schema_of_model(cls)
        except ToolError as error:
            raise UndescribableError(str(error)) from error.__cause__
        definitions = schema.pop("$defs", {})
        names = {name: self._define(name, value) for name, value in definitions.items()}
        if any(name != new_name for name, new_name in names.items()):
            for new_name in names.values():
                definition = self.definitions[new_name]
                self.definitions[new_name] = _with_references(definition, names)
            schema = _with_references(schema, names)
        return schema

    def _define(self, name: str, definition: Any) -> str:
        """Store a definition under a unique name, and return the name."""
        free, count = name, 1
        while self.definitions.setdefault(free, definition) != definition:
            count += 1
            free = f"{name}{count}"
        return free

    # Types

    def of(self, annotation: Any) -> _Schema:
        """The schema of a type, given as an evaluated annotation."""
        peeled = peel(annotation)
        return _described(_constrained(self._of(peeled.type), peeled.metadata), peeled.text)

    def _of(self, type_: Any) -> _Schema:
        origin = typing.get_origin(type_)
        arguments = typing.get_args(type_)
        if origin is not None and arguments:
            return self._generic(type_, origin, arguments)
        if origin is not None:
            return self._class(origin, type_)  # such as typing.List
        if type_ is Any or type_ is object:
            return {}
        if type_ is None:
            return {"type": "null"}
        if isinstance(type_, TypeVar):
            bound = Any if type_.__bound__ is None else type_.__bound__
            return _union([self.of(choice) for choice in type_.__constraints__ or (bound,)])
        if hasattr(type_, "__supertype__"):
            return self.of(type_.__supertype__)  # a NewType
        if hasattr(type_, "__value__"):
            return self._within(type_, {}, lambda: self.of(type_.__value__))
        return (
            {"type": "string"} if form_of(type_) == "LiteralString" else self._class(type_, type_)
        )

    def _generic(self, type_: Any, origin: Any, arguments: tuple[Any, ...]) -> _Schema:
        if origin is Literal:
            return _enumeration(arguments, type_)
        if origin in (typing.Union, types.UnionType):
            return _union([self.of(member) for member in arguments])
        if form_of(origin) == "Unpack":
            return self.of(arguments[0])
        if origin in MAPPINGS:
            return self._mapping(type_, *arguments)
        if origin is tuple:
            return self._tuple(arguments)
        if origin in ARRAYS:
            return _array(self.of(arguments[0]), distinct=origin in SETS)
        if hasattr(origin, "__value__"):  # type Pair[T] = ...
            return self._within(type_, {}, lambda: self.of(origin.__value__[arguments]))
        return self._class(origin, type_)

    def _class(self, cls: Any, written: Any) -> _Schema:
        if not inspect.isclass(cls):
            raise _no_schema(written)
        if issubclass(cls, enum.Flag):
            return {"type": "integer"}
        if issubclass(cls, enum.Enum):
            return _enumeration(tuple(cls), cls)
        if is_model(cls):
            return self._model(cls)
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._object(cls, self._typed_dict)
        is_named_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
        if is_named_tuple or dataclasses.is_dataclass(cls):
            return self._object(cls, self._record)
        for base, schema in _SCALARS.items():
            if issubclass(cls, base):
                return dict(schema)
        if cls in MAPPINGS or issubclass(cls, dict):
            return {"type": "object"}
        if cls in SETS or issubclass(cls, set | frozenset):
            return _array({}, distinct=True)
        if cls in ARRAYS or issubclass(cls, list | tuple):
            return _array({})
        raise _no_schema(written)

    def _within(self, type_: Any, cut: _Schema, write: Callable[[], _Schema]) -> _Schema:
        """The schema of a type that may contain itself, cut to `cut` at its second occurrence."""
        if type_ in self._open:
            return cut
        self._open.append(type_)
        try:
            return write()
        finally:
            self._open.pop()

    def _mapping(self, type_: Any, key: Any, value: Any) -> _Schema:
        keys = self.of(key)
        if keys and keys.get("type") != "string":
            raise UndescribableError(f"{written(type_)} has keys that are not strings")
        names = {"propertyNames": keys} if len(keys) > 1 else {}
        return {"type": "object", **names, "additionalProperties": self.of(value) or True}

    def _tuple(self, arguments: tuple[Any, ...]) -> _Schema:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _array(self.of(arguments[0]))
        items = [self.of(argument) for argument in arguments]
        size = {"minItems": len(items), "maxItems": len(items)}
        if all(item == items[0] for item in items):
            return {**_array(items[0]), **size}
        return {"type": "array", "prefixItems": items, **size}


def _no_schema(annotation: Any) -> UndescribableError:
    return UndescribableError(f"{written(annotation)} has no JSON form")


# --- Schemas --------------------------------------------------------------------------------


def _described(schema: _Schema, text: str | None) -> _Schema:
    """A schema with a description after its type."""
    if not text:
        return schema
    head = {"type": schema["type"]} if "type" in schema else {}
    return {**head, "description": text, **{k: v for k, v in schema.items() if k != "description"}}


_NUMBER_LIMITS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_LENGTH_LIMITS: Final = {
    "min_length": {"string": "minLength", "array": "minItems", "object": "minProperties"},
    "max_length": {"string": "maxLength", "array": "maxItems", "object": "maxProperties"},
}


def _constrained(schema: _Schema, metadata: Iterable[Any]) -> _Schema:
    """A schema with the limits in `Annotated` metadata, such as `Field(ge=1)` or `MaxLen(9)`.

    The metadata of pydantic and annotated-types is recognized by its attributes.
    """
    limits: _Schema = {}
    kinds = _kinds(schema) if "type" in schema else ["string", "array", "object"]
    for item in metadata:
        for attribute, keyword in _NUMBER_LIMITS.items():
            limit = getattr(item, attribute, None)
            if isinstance(limit, int | float) and not isinstance(limit, bool):
                limits[keyword] = limit
        for attribute, keywords in _LENGTH_LIMITS.items():
            limit = getattr(item, attribute, None)
            if isinstance(limit, int):
                limits |= {keywords[kind]: limit for kind in kinds if kind in keywords}
        pattern = getattr(item, "pattern", None)
        if isinstance(pattern, str) and "string" in kinds:
            limits["pattern"] = pattern
    return {**schema, **limits} if limits else schema


_NOT_JSON: Final = object()


def _default(value: Any) -> _Schema:
    plain = _json_value(value)
    return {} if plain is _NOT_JSON else {"default": plain}


def _json_value(value: Any) -> Any:
    """The JSON form of a value, or `_NOT_JSON`."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_JSON
    if type(value) in (list, tuple):
        items = [_json_value(item) for item in value]
        return _NOT_JSON if _NOT_JSON in items else items
    if type(value) is dict and all(isinstance(key, str) for key in value):
        entries = {key: _json_value(item) for key, item in value.items()}
        return _NOT_JSON if _NOT_JSON in entries.values() else entries
    return _NOT_JSON


def _array(items: _Schema, *, distinct: bool = False) -> _Schema:
    schema: _Schema = {"type": "array"}
    if items:
        schema["items"] = items
    if distinct:
        schema["uniqueItems"] = True
    return schema


def _enumeration(choices: Iterable[Any], annotation: Any) -> _Schema:
    """The schema of an `Enum` or a `Literal`."""
    values: dict[tuple[type, Any], Any] = {}  # True == 1, but not in JSON
    for choice in choices:
        value = choice.value if isinstance(choice, enum.Enum) else choice
        if type(value) not in _PLAIN or _json_value(value) is _NOT_JSON:
            raise UndescribableError(f"{written(annotation)}: {value!r} is not a JSON value")
        values[type(value), value] = value
    if not values:
        raise UndescribableError(f"{written(annotation)} has no members")
    return {"type": _type_list(_PLAIN[cls] for cls, _ in values), "enum": [*values.values()]}


def _union(members: Iterable[_Schema]) -> _Schema:
    """The schema of a union: a list of types if that is equivalent, else `anyOf`."""
    variants: list[_Schema] = []
    for member in members:
        flat = member["anyOf"] if member.keys() == {"anyOf"} else [member]
        variants += [variant for variant in flat if variant not in variants]
    if {} in variants:
        return {}
    if all(variant.keys() == {"type"} for variant in variants):
        return {"type": _type_list(kind for variant in variants for kind in _kinds(variant))}
    return variants[0] if len(variants) == 1 else _optional(variants) or {"anyOf": variants}


# Keywords that constrain values of every type; so does "enum", but it can be extended.
_CONCERN_NULL: Final = frozenset(
    {"const", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if"}
)


def _optional(variants: list[_Schema]) -> _Schema | None:
    """A nullable schema from two variants, if one is null and the other has a known type."""
    others = [variant for variant in variants if variant != {"type": "null"}]
    if len(variants) != 2 or len(others) != 1:
        return None
    other = others[0]
    if "type" not in other or other.keys() & _CONCERN_NULL:
        return None
    nullable = {**other, "type": _type_list([*_kinds(other), "null"])}
    if "enum" in other and None not in other["enum"]:
        nullable["enum"] = [*other["enum"], None]
    return nullable


def _kinds(schema: _Schema) -> list[str]:
    kind = schema["type"]
    return [kind] if isinstance(kind, str) else kind


def _type_list(kinds: Iterable[str]) -> str | list[str]:
    """The value of `type` without redundancy: every integer is a number."""
    distinct = dict.fromkeys(kinds)
    if "number" in distinct:
        distinct.pop("integer", None)
    return [*distinct] if len(distinct) > 1 else next(iter(distinct))


def _with_references(schema: Any, names: Mapping[str, str]) -> Any:
    """A schema with its references changed to the new names of definitions."""
    if isinstance(schema, list):
        return [_with_references(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _with_references(value, names) for key, value in schema.items()}
    place, _, name = str(schema.get("$ref")).rpartition("/")
    return {**moved, "$ref": f"{place}/{names[name]}"} if name in names else moved
