"""What tools are made of: functions, models, namespaces, and sources that hold something open."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeGuard, runtime_checkable

from ..errors import ToolError
from ..wire._builtin_tools import BROWSER, PYTHON
from ..wire._contents import Tool, ToolNamespace
from ..wire._roles import FUNCTIONS
from ._function import tool_from_function
from ._models import is_model, tool_from_model


@runtime_checkable
class ToolSource(Protocol):
    """Tools that belong together, and what they hold open: a kernel, a browser, a server.

    Attributes:
        is_builtin: Whether they are declared in the system message, as python and the browser
            are, and not in the developer message.
    """

    is_builtin: bool

    @property
    def namespace(self) -> ToolNamespace:
        """What the model is told."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by full name, which is the recipient of a call, each with its function.

        A tool that is addressed by its bare name, such as `"python"`, takes text: its function
        gets the text as its one argument.
        """

    async def aclose(self) -> None:
        """Close what is held open."""


ToolLike = Tool | Callable[..., Any]
"""What can be one tool: a `Tool`, a function, or a pydantic model class."""

ToolsLike = ToolLike | ToolNamespace | ToolSource
"""What can be one tool, or several that belong together."""


def as_tool(value: ToolLike) -> Tool:
    """A tool from whatever stands for one.

    Args:
        value: A `Tool`; a function, whose signature and docstring are read; or a pydantic
            model class, which declares a tool that nothing runs.

    Raises:
        ToolError: The value cannot be made a tool.
    """
    if isinstance(value, Tool):
        return value
    if is_model(value):
        return tool_from_model(value)
    if not callable(value):
        raise ToolError(f"a {type(value).__name__} is no tool: expected a function or a Tool")
    return tool_from_function(value)


def is_source(value: object) -> TypeGuard[ToolSource]:
    """Whether a value is a source of tools.

    Args:
        value: Anything; a class has the attributes of its instances, but is none.
    """
    return not inspect.isclass(value) and isinstance(value, ToolSource)


def is_tools_like(value: object) -> TypeGuard[ToolsLike]:
    """Whether a value can stand for tools, as far as its type says.

    Args:
        value: Anything.
    """
    return isinstance(value, Tool | ToolNamespace) or callable(value) or is_source(value)


def namespace_of(value: ToolsLike) -> ToolNamespace:
    """What declares a tool, or several: functions by themselves belong to `functions`.

    Args:
        value: Whatever can be one tool or several.

    Raises:
        ToolError: The value cannot be made a tool.
    """
    if isinstance(value, ToolNamespace):
        return value
    if is_source(value):
        return value.namespace
    return ToolNamespace(FUNCTIONS, (as_tool(value),))  # type: ignore[arg-type]


def namespaces_of(values: Iterable[ToolsLike]) -> list[ToolNamespace]:
    """What declares tools: namespaces and sources in order, then the functions as one namespace.

    Args:
        values: Whatever can be one tool or several.

    Raises:
        ToolError: A value cannot be made a tool, or a source is not open.
    """
    namespaces: list[ToolNamespace] = []
    functions: list[Tool] = []
    for value in values:
        namespace = namespace_of(value)
        if isinstance(value, ToolNamespace) or is_source(value):
            namespaces.append(namespace)
        else:
            functions += namespace.tools
    if functions:
        namespaces.append(ToolNamespace(FUNCTIONS, tuple(functions)))
    return namespaces


def is_builtin(value: ToolsLike) -> bool:
    """Whether tools are declared in the system message, as those known from training are.

    Args:
        value: Whatever can be one tool or several.
    """
    if isinstance(value, ToolNamespace):
        return value.name in _BUILTIN_NAMES
    return is_source(value) and value.is_builtin


_BUILTIN_NAMES: Final = frozenset({BROWSER.name, PYTHON.name})


def full_name(namespace: ToolNamespace, tool: Tool) -> str:
    """The name by which a call addresses a tool.

    Args:
        namespace: The namespace that declares the tool.
        tool: The tool.
    """
    return f"{namespace.name}.{tool.name}"
