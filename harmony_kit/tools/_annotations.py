"""Reading type annotations: qualifiers, `Annotated` metadata and annotations written as strings."""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import sys
import typing
from collections import abc
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple


class UndescribableError(Exception):
    """Part of a signature has no JSON Schema; the message states which part and why."""


@contextmanager
def at(place: str) -> Iterator[None]:
    """Prefix an `UndescribableError` raised in the block with its place."""
    try:
        yield
    except UndescribableError as error:
        raise UndescribableError(f"{place}: {error}") from error.__cause__


# --- Functions ------------------------------------------------------------------------------


def without_partials(function: Callable[..., Any]) -> tuple[Callable[..., Any], set[str]]:
    """The function inside nested partials, and the names of the parameters bound by keyword."""
    bound: set[str] = set()
    while isinstance(function, functools.partial):
        bound |= function.keywords.keys()
        function = function.func
    return function, bound


def signature_of(function: Callable[..., Any], bound: Collection[str] = ()) -> inspect.Signature:
    """The signature of a function without the bound parameters.

    Raises:
        UndescribableError: The function has no signature.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError) as error:
        raise UndescribableError(f"no signature: {error}") from error
    shown = [p for p in signature.parameters.values() if p.name not in bound]
    return signature.replace(parameters=shown)


def scope_of(core: Callable[..., Any]) -> dict[str, Any]:
    """The names that string annotations of a callable can refer to."""
    core = inspect.unwrap(core)
    if inspect.isclass(core):
        return dict(vars(sys.modules[core.__module__]))
    if not inspect.isroutine(core):
        core = inspect.unwrap(type(core).__call__)
    function = getattr(core, "__func__", core)
    type_parameters = {p.__name__: p for p in getattr(function, "__type_params__", ())}
    return {**getattr(function, "__globals__", {}), **type_parameters}


def evaluated(annotation: Any, scope: Mapping[str, Any]) -> Any:
    """An annotation with every string in it evaluated."""

    def bearer() -> None: ...

    bearer.__annotations__ = {"it": annotation}
    try:
        return typing.get_type_hints(bearer, globalns=dict(scope), include_extras=True)["it"]
    except Exception as error:  # the text can be any expression
        raise UndescribableError(f"{type(error).__name__}: {error}") from error


# --- Types ----------------------------------------------------------------------------------

MAPPINGS: Final[frozenset[Any]] = frozenset(
    {dict, collections.defaultdict, collections.OrderedDict, abc.Mapping, abc.MutableMapping}
)
SETS: Final[frozenset[Any]] = frozenset({set, frozenset, abc.Set, abc.MutableSet})
ARRAYS: Final[frozenset[Any]] = SETS | {
    list,
    tuple,
    collections.deque,
    abc.Sequence,
    abc.MutableSequence,
    abc.Collection,
    abc.Container,
    abc.Iterable,
    abc.Reversible,
}

# Qualifiers around a type; they do not change its values.
_QUALIFIERS: Final = frozenset({"Required", "NotRequired", "ReadOnly", "Final"})


def hints_of(cls: type) -> dict[str, Any]:
    """The evaluated annotations of a class.

    Raises:
        UndescribableError: An annotation cannot be evaluated.
    """
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:  # an annotation can be any expression
        raise UndescribableError(f"{type(error).__name__}: {error}") from error


class Peeled(NamedTuple):
    """A type without `Annotated` and qualifiers.

    Attributes:
        text: The description from `Annotated`.
        required: True for `Required`, False for `NotRequired`.
        metadata: All metadata of `Annotated`, including that inside pydantic's `Field`.
    """

    type: Any
    text: str
    required: bool | None
    metadata: tuple[Any, ...] = ()


def peel(annotation: Any) -> Peeled:
    """Remove `Annotated` and qualifiers from an evaluated annotation."""
    text = ""
    required = None
    metadata: tuple[Any, ...] = ()
    while True:
        origin = typing.get_origin(annotation)
        form = form_of(origin)
        if origin is typing.Annotated:
            text = text or " ".join(filter(None, map(_text_of, annotation.__metadata__)))
            for item in annotation.__metadata__:
                held = getattr(item, "metadata", None)
                metadata += (item, *held) if isinstance(held, list) else (item,)
            annotation = annotation.__origin__
        elif form in _QUALIFIERS:
            required = form == "Required" if form.endswith("Required") else required
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, dataclasses.InitVar):
            annotation = annotation.type
        else:
            return Peeled(annotation, text, required, metadata)


def _text_of(metadata: object) -> str:
    """The description in one item of `Annotated`; empty if it has none.

    It can be a string, `pydantic.Field(description=...)` or `Doc(...)`.
    """
    description = getattr(metadata, "description", None)
    documentation = getattr(metadata, "documentation", None)
    texts = (metadata, description, documentation)
    return next((text.strip() for text in texts if isinstance(text, str)), "")


def form_of(value: Any) -> str:
    """The name of a special form such as `typing.Required`; empty for anything else.

    Forms are compared by name because typing_extensions defines its own versions of forms that
    this Python version lacks.
    """
    module, _, name = str(value).rpartition(".")
    return name if module in ("typing", "typing_extensions") else ""


def written(annotation: Any) -> str:
    """An annotation as source code."""
    return inspect.formatannotation(annotation)
