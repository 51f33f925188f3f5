"""The methods of an object, or the functions of a module, as the tools of a namespace."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from .._options import checked_options
from ..errors import ToolError
from ..wire._contents import ToolNamespace
from ._docstrings import class_docs, parsed_docs
from ._function import tool_from_function
from ._names import identifier


@checked_options
def tools_from_object(
    source: object,
    *,
    namespace: str | None = None,
    description: str | None = None,
    only: Iterable[str] | None = None,
) -> ToolNamespace:
    """Make a namespace from the methods of an object, which share its state.

    Args:
        source: An object, whose public methods are used in the order of their definition, those of
            base classes first; or a module, whose public functions are used.
        namespace: The name of the namespace; defaults to the class name in snake case
            (`WeatherStation` becomes `weather_station`) or the module name.
        description: The text above the tools; defaults to the docstring of the class or module.
        only: The names of the methods to use, in this order, instead of all public ones.

    Raises:
        ToolError: A method does not exist or cannot be made a tool, or there are no methods.

    Example:
        >>> class Counter:
        ...     "Counts."
        ...     def __init__(self):
        ...         self.count = 0
        ...     def increase(self, by: int = 1) -> int:
        ...         "Increase the count."
        ...         self.count += by
        ...         return self.count
        >>> namespace = tools_from_object(Counter())
        >>> namespace.name, [tool.name for tool in namespace.tools]
        ('counter', ['increase'])
    """
    cls: Any = source if isinstance(source, ModuleType) else type(source)
    names = _public(source) if only is None else list(only)
    tools = tuple(tool_from_function(_method(source, name), name=name) for name in names)
    if not tools:
        raise ToolError(f"{cls.__name__} has no public methods")
    docs = parsed_docs(inspect.getdoc(cls)) if cls is source else class_docs(cls)
    return ToolNamespace(
        _words(cls.__name__) if namespace is None else namespace,
        tools,
        (docs.description or None) if description is None else description,
    )


def _method(source: object, name: str) -> Callable[..., Any]:
    method = getattr(source, name, None)
    if not inspect.isroutine(method):
        raise ToolError(f"{type(source).__name__} has no method {name}")
    return method


def _public(source: object) -> list[str]:
    """The names of the public methods, found without running any property."""
    if isinstance(source, ModuleType):
        own = vars(source).items()
        return [
            name
            for name, value in own
            if _is_public(name)
            and inspect.isroutine(value)
            and getattr(value, "__module__", None) == source.__name__
        ]
    names: dict[str, None] = {}
    for cls in reversed(type(source).__mro__[:-1]):
        names |= dict.fromkeys(filter(_is_public, vars(cls)))
    return [name for name in names if _is_routine(inspect.getattr_static(source, name))]


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _is_routine(value: object) -> bool:
    return isinstance(value, staticmethod | classmethod) or inspect.isroutine(value)


def _words(name: str) -> str:
    last = name.rpartition(".")[2]
    return identifier(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower())
