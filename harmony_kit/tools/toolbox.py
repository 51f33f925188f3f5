"""Running the calls that a model makes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import InvalidMessageError, ToolError
from ..messages import FUNCTIONS, Channel, Message, Role, Tool, ToolNamespace
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
        for namespace in _declared_namespaces(conversation):
            for tool in namespace.tools:
                if tool.function is not None:
                    self.add(tool, namespace.name)

    def items(self) -> Iterator[tuple[str, Tool]]:
        """The full names and the tools."""
        return iter(self._tools.items())

    def __len__(self) -> int:
        return len(self._tools)

    def can_answer(self, calls: Iterable[Message], conversation: Iterable[Message]) -> bool:
        """Whether `run` is the one to answer these calls.

        It is not if there is no tool here at all, or for a tool that the conversation
        declares without a function: then whoever declared it answers.

        Args:
            calls: Messages with recipients.
            conversation: The messages that declare tools.
        """
        declared = declared_tools(conversation)
        return bool(self._tools) and all(
            call.recipient in self._tools or call.recipient not in declared for call in calls
        )

    async def run(self, call: Message) -> Message:
        """Run a call and return the tool message with its result.

        What goes wrong in the call is told to the model in that message: an unknown tool,
        arguments that are no JSON object, an exception of the function.

        Args:
            call: A message with a recipient, its content the arguments as a JSON object.
        """
        return tool_result(call, await self._result(call))

    async def _result(self, call: Message) -> str:
        import asyncio

        tool = self._tools.get(call.recipient or "")
        if tool is None or tool.function is None:
            known = ", ".join(self._tools) or "none"
            return f"Error: there is no tool {call.recipient}. Tools: {known}."
        try:
            arguments = _arguments(call)
        except ToolError as error:
            return f"Error: {error}."
        try:
            # A function that blocks must not hold up the event loop.
            if inspect.iscoroutinefunction(tool.function):
                result = await tool.function(**arguments)
            else:
                result = await asyncio.to_thread(tool.function, **arguments)
                if inspect.isawaitable(result):
                    result = await result
        except Exception as error:
            return f"Error: {type(error).__name__}: {error}"
        return _text(result)


def declared_tools(conversation: Iterable[Message]) -> set[str]:
    """The full names of all tools that a conversation declares.

    Args:
        conversation: The messages; system and developer messages declare tools.
    """
    names: set[str] = set()
    for namespace in _declared_namespaces(conversation):
        names.update(f"{namespace.name}.{tool.name}" for tool in namespace.tools)
        if not namespace.tools:
            names.add(namespace.name)
    return names


def _declared_namespaces(conversation: Iterable[Message]) -> Iterator[ToolNamespace]:
    for message in conversation:
        content = message.content
        for part in content if isinstance(content, tuple) else (content,):
            if not isinstance(part, str):
                yield from part.tools


def _arguments(call: Message) -> Mapping[str, Any]:
    try:
        arguments = json.loads(call.text or "{}")
    except json.JSONDecodeError as error:
        raise ToolError(f"the arguments are not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ToolError("the arguments are not a JSON object")
    return arguments


def _text(result: object) -> str:
    return (
        result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    )


def tool_result(call: Message, content: str) -> Message:
    """The message that answers a call (format, section "Handling tool calls").

    It goes to the channel on which the call was made, commentary by default.

    Args:
        call: The call.
        content: The result as text.

    Raises:
        InvalidMessageError: The message is no call: it has no recipient.
    """
    if call.recipient is None:
        raise InvalidMessageError("a message without recipient is no call", field="recipient")
    return Message(
        Role.TOOL,
        content,
        name=call.recipient,
        recipient=Role.ASSISTANT,
        channel=call.channel or Channel.COMMENTARY,
    )
