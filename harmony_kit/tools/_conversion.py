"""Conversion of JSON arguments to the Python types that a function declares.

A function's schema describes an argument as JSON, but the function may declare it as a
dataclass, an `Enum`, a `datetime` or a set. The types are the same ones that schemas support. An
argument without an annotation, or with one that JSON cannot express, is passed unchanged.

A union converts to the first member that the value fits, except that a number that already has
the type of a member keeps that type.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import os
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

from ..calls._json import shortened
from ..errors import ToolArgumentsError
from ._annotations import (
    ARRAYS,
    MAPPINGS,
    SETS,
    UndescribableError,
    evaluated,
    form_of,
    hints_of,
    peel,
    scope_of,
    signature_of,
    without_partials,
    written,
)
from ._models import instance_of, is_model

Convert = Callable[[Any], Any]
"""Converts a JSON value to one type; raises `_MismatchError`."""


class _MismatchError(Exception):
    """A value does not fit its type.

    Attributes:
        reason: What is wrong.
        path: The keys and indices to the value, outermost first.
    """

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        self.reason = reason
        self.path = path
        super().__init__(reason)

    def within(self, step: str | int) -> _MismatchError:
        return _MismatchError(self.reason, (step, *self.path))

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return f"${''.join(steps)}: {self.reason}"


# --- Arguments of functions -----------------------------------------------------------------


class ArgumentConverter:
    """Converts the arguments of a call to the types that a function declares."""

    def __init__(self, function: Callable[..., Any]) -> None:
        core, bound = without_partials(function)
        self._parameters: dict[str, Convert] = {}
        self._others: Convert | None = None
        self._signature: inspect.Signature | None = None
        try:
            signature = signature_of(function, bound)
            scope = scope_of(core)
        except UndescribableError:
            return
        self._signature = signature
        for parameter in signature.parameters.values():
            self._read(parameter, scope)

    def _read(self, parameter: inspect.Parameter, scope: Mapping[str, Any]) -> None:
        if parameter.annotation is parameter.empty:
            return
        try:
            annotation = evaluated(parameter.annotation, scope)
        except UndescribableError:
            return
        if parameter.kind is not parameter.VAR_KEYWORD:
            self._parameters[parameter.name] = conversion(annotation)
        elif form_of(typing.get_origin(annotation)) != "Unpack":
            self._others = conversion(annotation)
        else:
            for name, inner in hints_of(typing.get_args(annotation)[0]).items():
                self._parameters[name] = conversion(inner)

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments for the function, from JSON values by parameter name.

        Raises:
            ToolArgumentsError: A value does not fit its annotation, or the function does not
                take these arguments.
        """
        converted = {}
        for name, value in arguments.items():
            convert = self._parameters.get(name, self._others)
            try:
                converted[name] = value if convert is None else convert(value)
            except _MismatchError as error:
                raise ToolArgumentsError(str(error.within(name))) from error
            except RecursionError:
                raise ToolArgumentsError(f"$.{name}: nested too deeply") from None
        if self._signature is not None:
            try:
                self._signature.bind(**converted)
            except TypeError as error:
                raise ToolArgumentsError(str(error)) from None
        return converted


# --- Types ----------------------------------------------------------------------------------


def conversion(annotation: Any) -> Convert:
    """The conversion to a type, given as an evaluated annotation.

    A type without a JSON form, at any depth, leaves the value unchanged.
    """
    try:
        return _Reader().of(annotation)
    except UndescribableError:
        return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


class _Reader:
    """Builds conversions; recursive types are built once."""

    def __init__(self) -> None:
        self._known: dict[Any, Convert] = {}

    def of(self, annotation: Any) -> Convert:
        type_ = peel(annotation).type
        origin = typing.get_origin(type_)
        arguments = typing.get_args(type_)
        if origin is not None and arguments:
            return self._generic(type_, origin, arguments)
        if origin is not None:
            return self._class(origin, type_)
        if type_ is Any or type_ is object:
            return _as_it_is
        if type_ is None:
            return _SCALARS[types.NoneType]
        if isinstance(type_, TypeVar):
            choices = type_.__constraints__ or (type_.__bound__,)
            return _as_it_is if choices == (None,) else self._union(choices)
        if hasattr(type_, "__supertype__"):
            return self.of(type_.__supertype__)
        if hasattr(type_, "__value__"):
            return self._later(type_, lambda: self.of(type_.__value__))
        return _text if form_of(type_) == "LiteralString" else self._class(type_, type_)

    def _later(self, type_: Any, read: Callable[[], Convert]) -> Convert:
        """Build the conversion to a type that may contain itself."""

        def once_known(value: Any) -> Any:
            return self._known[type_](value)

        if type_ not in self._known:
            self._known[type_] = once_known
            self._known[type_] = read()
        return self._known[type_]

    def _generic(self, type_: Any, origin: Any, arguments: tuple[Any, ...]) -> Convert:
        if origin is Literal:
            return _choice(arguments)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments)
        if origin in MAPPINGS:
            return _mapping(origin, *map(self.of, arguments))
        if origin is tuple:
            return self._tuple(arguments)
        if origin in ARRAYS:
            return _array(_concrete(origin), self.of(arguments[0]))
        if hasattr(origin, "__value__"):
            return self._later(type_, lambda: self.of(origin.__value__[arguments]))
        return self._class(origin, type_)

    def _class(self, cls: Any, whole: Any) -> Convert:
        if not inspect.isclass(cls):
            raise UndescribableError(written(whole))
        if issubclass(cls, enum.Flag):
            return _calling(_whole_number, cls)
        if issubclass(cls, enum.Enum):
            return _choice(tuple(cls))
        if is_model(cls):
            return _model(cls)
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._later(cls, lambda: self._typed_dict(cls))
        is_named_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
        if is_named_tuple or dataclasses.is_dataclass(cls):
            return self._later(cls, lambda: self._record(cls))
        if cls in _SCALARS:
            return _SCALARS[cls]
        for base, convert in _SCALARS.items():
            if issubclass(cls, base):
                return _subclass(base, convert, cls)
        if cls in MAPPINGS or issubclass(cls, dict):
            return _mapping(cls)
        if cls in ARRAYS or issubclass(cls, list | tuple | set | frozenset):
            return _array(_concrete(cls))
        raise UndescribableError(written(whole))

    def _union(self, members: Sequence[Any]) -> Convert:
        choices = [self.of(member) for member in members]
        if len(choices) == 1:
            return choices[0]
        plain = {peel(member).type for member in members if _is_hashable(member)}

        def convert(value: Any) -> Any:
            if type(value) in plain:
                return value
            reasons = []
            for choice in choices:
                try:
                    return choice(value)
                except _MismatchError as error:
                    reasons.append(error)
            # The variant that matched deepest is most likely the intended one.
            raise max(reasons, key=lambda error: len(error.path))

        plain &= {int, float}
        return convert

    def _tuple(self, arguments: tuple[Any, ...]) -> Convert:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _array(tuple, self.of(arguments[0]))
        items = [self.of(argument) for argument in arguments]

        def convert(value: Any) -> Any:
            if len(_list(value)) != len(items):
                raise _MismatchError(f"expected {len(items)} items, got {len(value)}")
            pairs = enumerate(zip(items, value, strict=True))
            return tuple(_inside(index, item, inner) for index, (item, inner) in pairs)

        return convert

    def _typed_dict(self, cls: Any) -> Convert:
        hints = hints_of(cls)
        fields = {name: self.of(annotation) for name, annotation in hints.items()}
        marks = {name: peel(annotation).required for name, annotation in hints.items()}
        required = [
            name
            for name, mark in marks.items()
            if (name in cls.__required_keys__ if mark is None else mark)
        ]
        return _with_required(cls.__name__, required, fields)

    def _record(self, cls: Any) -> Convert:
        """The conversion to a dataclass or NamedTuple, by the parameters of its constructor."""
        hints = hints_of(cls)
        parameters = signature_of(cls).parameters
        fields = {
            name: self.of(_hint(hints, field, cls))
            for name, field in parameters.items()
            if field.kind is not field.VAR_KEYWORD
        }
        read = _with_required(cls.__name__, (), fields)
        signature = signature_of(cls)

        def convert(value: Any) -> Any:
            values = read(value)
            try:
                signature.bind(**values)
            except TypeError as error:
                raise _MismatchError(f"{cls.__name__}: {error}") from None
            return _called(cls, **values)

        return convert


def _hint(hints: Mapping[str, Any], field: inspect.Parameter, cls: Any) -> Any:
    if field.name in hints:
        return hints[field.name]
    return Any if field.annotation is field.empty else evaluated(field.annotation, scope_of(cls))


def _is_hashable(annotation: Any) -> bool:
    try:
        hash(peel(annotation).type)
    except TypeError:
        return False
    return True


def _inside(step: str | int, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except _MismatchError as error:
        raise error.within(step) from None


def _called(make: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """Call a constructor; any exception it raises becomes a mismatch."""
    try:
        return make(*values, **named)
    except Exception as error:
        name = getattr(make, "__name__", "value")
        raise _MismatchError(f"{name}: {type(error).__name__}: {error}") from error


def _expected(kind: str, value: Any) -> _MismatchError:
    return _MismatchError(f"expected {kind}, got {shortened(json.dumps(value, default=str))}")


# --- Scalars --------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _expected("text", value)
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _expected("true or false", value)
    return value


def _whole_number(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _expected("an integer", value)
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _expected("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise _MismatchError("the number is too large") from None


def _null(value: Any) -> None:
    if value is not None:
        raise _expected("null", value)


_DURATION: Final = re.compile(
    r"([+-])?P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)


def _duration(text: str) -> datetime.timedelta:
    """A `timedelta` from an ISO 8601 duration without years and months, whose lengths vary."""
    found = _DURATION.fullmatch(text)
    if found is None or text[-1] in "PT":
        raise ValueError("expected an ISO 8601 duration such as PT1H30M")
    sign, *numbers = found.groups()
    names = ("weeks", "days", "hours", "minutes", "seconds")
    parts = {name: float(number or 0) for name, number in zip(names, numbers, strict=True)}
    length = datetime.timedelta(**parts)
    return -length if sign == "-" else length


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _from_text(make: Callable[[str], Any], kind: str) -> Convert:
    def convert(value: Any) -> Any:
        text = _text(value)
        try:
            return make(text)
        except (ValueError, ArithmeticError):
            raise _expected(kind, value) from None

    return convert


# Subclasses come before their bases.
_SCALARS: Final[dict[Any, Convert]] = {
    str: _text,
    bool: _truth,
    int: _whole_number,
    float: _number,
    types.NoneType: _null,
    datetime.datetime: _from_text(
        datetime.datetime.fromisoformat, "a date and time such as 2025-06-28T12:00:00Z"
    ),
    datetime.date: _from_text(datetime.date.fromisoformat, "a date such as 2025-06-28"),
    datetime.time: _from_text(datetime.time.fromisoformat, "a time such as 12:00:00"),
    datetime.timedelta: _from_text(_duration, "an ISO 8601 duration such as PT1H30M"),
    uuid.UUID: _from_text(uuid.UUID, "a UUID"),
    os.PathLike: _from_text(pathlib.Path, "a path"),
    decimal.Decimal: _from_text(decimal.Decimal, "a decimal number as text"),
    bytes: _from_text(_bytes, "text"),
    bytearray: _from_text(lambda text: bytearray(_bytes(text)), "text"),
}

_WITH_ISO_FORMAT: Final = (datetime.datetime, datetime.date, datetime.time)


def _subclass(base: type, convert: Convert, cls: Any) -> Convert:
    """The conversion to a subclass of a scalar type."""
    if base in _WITH_ISO_FORMAT:
        return lambda value: _called(cls.fromisoformat, _text(value))
    if base is datetime.timedelta:
        return lambda value: _called(cls, seconds=convert(value).total_seconds())
    if base in (os.PathLike, uuid.UUID, decimal.Decimal):
        return _calling(_text, cls)
    return _calling(convert, cls)


def _calling(convert: Convert, cls: Any) -> Convert:
    return lambda value: _called(cls, convert(value))


class _Choice(NamedTuple):
    """An allowed JSON value and the Python value that it represents."""

    value: Any
    meaning: Any


def _choice(members: Iterable[Any]) -> Convert:
    """The conversion to an `Enum` or a `Literal`."""
    choices = [_Choice(m.value if isinstance(m, enum.Enum) else m, m) for m in members]

    def convert(value: Any) -> Any:
        for choice in choices:
            # True equals 1 in Python but not in JSON; 1.0 equals 1 in both.
            is_same_kind = isinstance(value, bool) == isinstance(choice.value, bool)
            if is_same_kind and choice.value == value:
                return choice.meaning
        raise _expected(" or ".join(json.dumps(c.value, default=str) for c in choices), value)

    return convert


# --- Containers -----------------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _expected("an array", value)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object", value)
    return value


def _concrete(origin: Any) -> Any:
    """A class that can be instantiated, for one that may be abstract."""
    if not inspect.isabstract(origin):
        return origin
    return set if origin in SETS else list


def _array(make: Any, convert: Convert = _as_it_is) -> Convert:
    def convert_array(value: Any) -> Any:
        items = [_inside(index, convert, item) for index, item in enumerate(_list(value))]
        return items if make is list else _called(make, items)

    return convert_array


def _mapping(
    origin: Any, convert_key: Convert = _as_it_is, convert: Convert = _as_it_is
) -> Convert:
    def convert_mapping(value: Any) -> Any:
        values = {
            convert_key(key): _inside(key, convert, item) for key, item in _object(value).items()
        }
        if origin is dict or inspect.isabstract(origin):
            return values
        if issubclass(origin, collections.defaultdict):
            return _called(origin, None, values)
        return _called(origin, values)

    return convert_mapping


def _with_required(name: str, required: Iterable[str], fields: Mapping[str, Convert]) -> Convert:
    """The conversion to an object with some known keys."""

    def convert(value: Any) -> dict[str, Any]:
        missing = [key for key in required if key not in _object(value)]
        if missing:
            raise _MismatchError(f"{name} needs {', '.join(map(repr, missing))}")
        return {
            key: _inside(key, fields.get(key, _as_it_is), item)
            for key, item in _object(value).items()
        }

    return convert


def _model(cls: Any) -> Convert:
    """The conversion to a class that validates itself, such as a pydantic model."""
    if not hasattr(cls, "model_validate_json"):
        return _as_it_is

    def convert(value: Any) -> Any:
        try:
            return instance_of(cls, value)
        except ToolArgumentsError as error:
            raise _MismatchError(f"{cls.__name__}: {error}") from error

    return convert
