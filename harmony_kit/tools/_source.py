"""Everything that can declare tools, and its conversion to namespaces."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeGuard, runtime_checkable

from ..errors import ToolError
from ..wire._builtin_tools import BROWSER, PYTHON
from ..wire._contents import Tool, ToolNamespace
from ..wire._roles import FUNCTIONS
from ._function import tool_from_function
from ._models import is_model, tool_from_model


@runtime_checkable
class ToolSource(Protocol):
    """A group of tools that holds a resource open: a kernel, a browser, a server.

    Attributes:
        is_builtin: Whether the tools are declared in the system message, as python and the
            browser are, instead of the developer message.
    """

    is_builtin: bool

    @property
    def namespace(self) -> ToolNamespace:
        """The declaration that the prompt shows to the model."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools, each with its function, by full name (the recipient of a call).

        A tool that is addressed by a bare name, such as `"python"`, takes text: its function
        receives the content of the call as its only argument.
        """

    async def aclose(self) -> None:
        """Release the resource."""


class ToolGroup(ABC):
    """The base class of `Toolbox`, which this module cannot import."""

    @abstractmethod
    def declarations(self) -> Sequence[Declaration]:
        """One declaration for each namespace."""


ToolLike = Tool | Callable[..., Any]
"""One tool: a `Tool`, a function, or a pydantic model class."""

ToolsLike = ToolLike | ToolNamespace | ToolSource | ToolGroup
"""One tool, or a group of tools: a namespace, a source or a `Toolbox`."""


class Declaration(NamedTuple):
    """A namespace with the tools that run its calls.

    Attributes:
        namespace: The namespace.
        is_builtin: Whether it is declared in the system message.
        tools: The tools that can run, by full name.
        is_single: Whether it is one tool that was given without a namespace.
    """

    namespace: ToolNamespace
    is_builtin: bool
    tools: Mapping[str, Tool]
    is_single: bool = False


def declarations(values: object) -> list[Declaration]:
    """The declarations of several values; every public function that takes tools uses this.

    Raises:
        ToolError: A value cannot be made a tool, a source is not open, or `values` is a single
            value instead of a list.
    """
    return [declaration for value in listed(values) for declaration in _declarations_of(value)]


def listed(values: object) -> list[Any]:
    """The values as a list, in which a `Toolbox` is one value.

    Raises:
        ToolError: `values` is a single value instead of a list.
    """
    if isinstance(values, ToolGroup):
        return [values]
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ToolError(f"expected a list of tools such as [look], got {values!r}")
    return list(values)


def _declarations_of(value: Any) -> Sequence[Declaration]:
    if isinstance(value, ToolGroup):
        return value.declarations()
    if isinstance(value, ToolNamespace):
        return (Declaration(value, value.name in _BUILTIN_NAMES, _tools_in(value)),)
    if is_source(value):
        return (Declaration(value.namespace, value.is_builtin, value.tools),)
    namespace = ToolNamespace(FUNCTIONS, (as_tool(value),))
    return (Declaration(namespace, False, _tools_in(namespace), is_single=True),)


_BUILTIN_NAMES: Final = frozenset({BROWSER.name, PYTHON.name})


def _tools_in(namespace: ToolNamespace) -> dict[str, Tool]:
    return {full_name(namespace, tool): tool for tool in namespace.tools}


def full_name(namespace: ToolNamespace, tool: Tool) -> str:
    """The recipient of the tool's calls."""
    return f"{namespace.name}.{tool.name}"


def as_tool(value: ToolLike) -> Tool:
    """A `Tool` from a function or a pydantic model class.

    Raises:
        ToolError: The value cannot be made a tool.
    """
    if isinstance(value, Tool):
        return value
    if is_model(value):
        return tool_from_model(value)
    if not callable(value):
        raise ToolError(f"a {type(value).__name__} is not a tool: expected a function or a Tool")
    return tool_from_function(value)


def is_source(value: object) -> TypeGuard[ToolSource]:
    # The class of a source has the attributes of its instances.
    return not inspect.isclass(value) and isinstance(value, ToolSource)


def is_tools_like(value: object) -> TypeGuard[ToolsLike]:
    """Whether a value has one of the types of `ToolsLike`."""
    return (
        isinstance(value, Tool | ToolNamespace | ToolGroup) or callable(value) or is_source(value)
    )


# --- Namespaces -----------------------------------------------------------------------------


def namespaces_of(values: object) -> list[ToolNamespace]:
    """The namespaces of several values, one for each name.

    They are in order of appearance, but single tools come last unless another value declares
    the namespace `functions`.

    Raises:
        ToolError: As for `declarations` and `merged`.
    """
    return merged_namespaces(declarations(values))


def merged_namespaces(declared: Iterable[Declaration]) -> list[ToolNamespace]:
    """The namespaces of declarations, one for each name; see `namespaces_of`.

    Raises:
        ToolError: As for `merged`.
    """
    namespaces: dict[str, ToolNamespace] = {}
    for declaration in sorted(declared, key=lambda declaration: declaration.is_single):
        name = declaration.namespace.name
        namespaces[name] = merged(namespaces.get(name), declaration.namespace)
    return list(namespaces.values())


def merged(first: ToolNamespace | None, second: ToolNamespace) -> ToolNamespace:
    """Two namespaces of the same name as one; a tool that both declare appears once.

    Raises:
        ToolError: They declare different tools of the same name, or only one of them has tools.
    """
    if first is None:
        return second
    if bool(first.tools) != bool(second.tools):
        raise ToolError(f"{first.name} is the name of a tool and of a namespace with tools")
    tools: dict[str, Tool] = {tool.name: tool for tool in first.tools}
    for tool in second.tools:
        tools[tool.name] = same_tool(full_name(second, tool), tools.get(tool.name), tool)
    texts = dict.fromkeys(filter(None, (first.description, second.description)))
    return ToolNamespace(first.name, tuple(tools.values()), "\n\n".join(texts) or None)


def same_tool(name: str, known: Tool | None, tool: Tool) -> Tool:
    """The one of two equal declarations that can run.

    Raises:
        ToolError: They are different tools.
    """
    if known is None or (known == tool and known.function is None):
        return tool
    if known != tool or tool.function not in (None, known.function):
        raise ToolError(f"two different tools are called {name}")
    return known
