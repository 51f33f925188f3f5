"""The tools that can be run, and those that a conversation declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import ToolError
from ..messages import FUNCTIONS, Message, Tool, ToolNamespace
from .function import tool_from_function

ToolLike = Tool | Callable[..., Any]
"""What can be declared as a tool: a `Tool`, a function, or a pydantic model class."""


def as_tool(value: ToolLike) -> Tool:
    """A tool from whatever stands for one.

    Args:
        value: A `Tool`; a function, whose signature and docstring are read; or a class with
            a `model_json_schema` method, as pydantic's models have, which declares a tool
            that nothing runs.

    Raises:
        ToolError: The value cannot be made a tool.
    """
    if isinstance(value, Tool):
        return value
    if inspect.isclass(value) and hasattr(value, "model_json_schema"):
        return _tool_from_model(value)
    if not callable(value):
        raise ToolError(f"a {type(value).__name__} is no tool: expected a function or a Tool")
    return tool_from_function(value)


def _tool_from_model(model: Any) -> Tool:
    schema: dict[str, Any] = _without_made_up_titles(model.model_json_schema())
    schema.pop("title", None)
    description = schema.pop("description", "")
    return Tool(model.__name__, description, schema)


def _without_made_up_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of the names of properties.

    They say nothing, and the model would see each as a comment above the property.
    """
    if isinstance(schema, list):
        return [_without_made_up_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    clean = {key: _without_made_up_titles(value) for key, value in schema.items()}
    for name, value in (clean.get("properties") or {}).items():
        if isinstance(value, dict) and value.get("title") == name.replace("_", " ").title():
            del value["title"]
    return clean


class Toolbox:
    """The tools whose calls can be run, by the full name that a recipient has.

    Args:
        tools: Tools with functions behind them, or plain functions. They belong to the
            namespace `functions`.

    Raises:
        ToolError: Two tools have the same name, or a value is no tool.
    """

    def __init__(self, tools: Iterable[ToolLike] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for value in tools:
            self.add(as_tool(value))

    def add(self, tool: Tool, namespace: str = FUNCTIONS) -> None:
        """Add a tool; the same one may come twice.

        Args:
            tool: The tool.
            namespace: The namespace in which it is declared.

        Raises:
            ToolError: Another tool has this name.
        """
        name = f"{namespace}.{tool.name}"
        known = self._tools.setdefault(name, tool)
        if known != tool or known.function != tool.function:
            raise ToolError(f"two different tools are called {name}")

    def add_declared(self, conversation: Iterable[Message]) -> None:
        """Add the tools that a conversation declares together with their functions.

        Args:
            conversation: The messages.

        Raises:
            ToolError: Another tool has the name of one of them.
        """
        for namespace in declared_namespaces(conversation):
            for tool in namespace.tools:
                if tool.function is not None:
                    self.add(tool, namespace.name)

    def items(self) -> Iterator[tuple[str, Tool]]:
        """The full names and the tools."""
        return iter(self._tools.items())

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, full_name: str) -> Tool | None:
        """The tool of a full name, or `None`.

        Args:
            full_name: The name with its namespace, such as `"functions.get_weather"`.
        """
        return self._tools.get(full_name)


def declared_namespaces(conversation: Iterable[Message]) -> list[ToolNamespace]:
    """The namespaces that a conversation declares, in order.

    Args:
        conversation: The messages; system and developer messages declare tools.
    """
    found: list[ToolNamespace] = []
    for message in conversation:
        content = message.content
        for part in content if isinstance(content, tuple) else (content,):
            if not isinstance(part, str):
                found += part.tools
    return found


def declared_tools(conversation: Iterable[Message]) -> set[str]:
    """The full names of all tools that a conversation declares.

    Args:
        conversation: The messages; system and developer messages declare tools.
    """
    names: set[str] = set()
    for namespace in declared_namespaces(conversation):
        names.update(f"{namespace.name}.{tool.name}" for tool in namespace.tools)
        if not namespace.tools:
            names.add(namespace.name)
    return names
