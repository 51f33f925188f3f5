"""Functions that build the messages of a conversation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from .._options import checked_options
from ..errors import ToolError
from ..wire._contents import DeveloperContent, ResponseFormat, SystemContent, ToolNamespace
from ..wire._messages import Message
from ..wire._roles import CHANNELS, KNOWLEDGE_CUTOFF, MODEL_IDENTITY, Channel, ReasoningEffort, Role
from ._source import (
    ToolGroup,
    ToolsLike,
    ToolSource,
    declarations,
    is_source,
    listed,
    merged_namespaces,
    namespaces_of,
)


@checked_options
def system(
    *,
    reasoning_effort: ReasoningEffort | str | None = ReasoningEffort.MEDIUM,
    current_date: str | None = None,
    knowledge_cutoff: str | None = KNOWLEDGE_CUTOFF,
    model_identity: str | None = MODEL_IDENTITY,
    valid_channels: Iterable[str] = CHANNELS,
    tools: Iterable[ToolNamespace | ToolSource] = (),
) -> Message:
    """Build a system message.

    Args:
        reasoning_effort: `"low"`, `"medium"` or `"high"`; `None` leaves it out.
        current_date: The date of today, such as `"2025-06-28"`; left out by default.
        knowledge_cutoff: The month in which the training data ends, such as `"2024-06"`.
        model_identity: The first line. The model was trained with the default; to give the model
            another persona, use the developer message.
        valid_channels: The channels that the model may use.
        tools: Built-in tools: `BROWSER`, `PYTHON`, or sources that run them, such as `PythonTool`.

    Raises:
        InvalidMessageError: An argument has the wrong type or an unknown value.
        ToolError: A source in `tools` is not open.

    Example:
        >>> message = system(reasoning_effort="high", current_date="2025-06-28")
        >>> message.content.reasoning_effort.value
        'high'
    """
    # SystemContent checks and converts its arguments.
    content = SystemContent(
        reasoning_effort=cast("ReasoningEffort | None", reasoning_effort),
        current_date=current_date,
        knowledge_cutoff=knowledge_cutoff,
        model_identity=model_identity,
        valid_channels=cast("tuple[str, ...]", valid_channels),
        tools=cast("tuple[ToolNamespace, ...]", _with_sources_declared(tools)),
    )
    return Message(Role.SYSTEM, content)


def _with_sources_declared(tools: object) -> object:
    if not isinstance(tools, Iterable):
        return tools
    values: list[object] = []
    for tool in listed(tools):
        is_group = isinstance(tool, ToolGroup) or is_source(tool)
        values += namespaces_of((tool,)) if is_group else (tool,)
    return tuple(values)


@checked_options
def developer(
    instructions: str | None = None,
    *,
    tools: Iterable[ToolsLike] = (),
    response_formats: Iterable[ResponseFormat] = (),
) -> Message:
    """Build a developer message: instructions (the "system prompt" of other APIs) and tools.

    Args:
        instructions: Instructions for the model.
        tools: Functions, `Tool`s and pydantic model classes, which are declared in the namespace
            `functions`; `ToolNamespace`s; sources such as `McpTools`; and `Toolbox`es.
        response_formats: JSON Schemas for the final answer.

    Raises:
        InvalidMessageError: An argument has the wrong type.
        ToolError: A value in `tools` cannot be made a tool, two tools have the same name, or a
            tool is built in (python, browser): pass it to `system`.

    Example:
        >>> def add(a: int, b: int) -> int:
        ...     "Add two numbers."
        ...     return a + b
        >>> (namespace,) = developer("Be brief.", tools=[add]).content.tools
        >>> namespace.name, namespace.tools[0].name, namespace.tools[0].description
        ('functions', 'add', 'Add two numbers.')
    """
    declared = declarations(tools)
    for declaration in declared:
        if declaration.is_builtin:
            raise ToolError(
                f"{declaration.namespace.name} is declared in the system message, where the "
                "model was trained to find it: use system(tools=[...])"
            )
    content = DeveloperContent(
        instructions=instructions,
        tools=tuple(merged_namespaces(declared)),
        response_formats=cast("tuple[ResponseFormat, ...]", response_formats),
    )
    return Message(Role.DEVELOPER, content)


@checked_options
def user(content: str, *, name: str | None = None) -> Message:
    """Build a user message.

    Args:
        content: The text.
        name: The name of the user, to distinguish several users.

    Raises:
        InvalidMessageError: An argument has the wrong type.

    Example:
        >>> user("What is 2 + 2?").text
        'What is 2 + 2?'
    """
    return Message(Role.USER, content, name=name)


@checked_options
def assistant(content: str, *, channel: str | None = Channel.FINAL) -> Message:
    """Build an assistant message, such as an earlier answer of the model.

    Args:
        content: The text.
        channel: `"final"` for an answer, `"analysis"` for reasoning, `"commentary"` for a preamble.

    Raises:
        InvalidMessageError: An argument has the wrong type.

    Example:
        >>> message = assistant("2 + 2 is 4.")
        >>> message.role.value, message.channel.value
        ('assistant', 'final')
    """
    return Message(Role.ASSISTANT, content, channel=channel)


@checked_options
def call_message(
    recipient: str,
    arguments: str,
    *,
    channel: str | None = Channel.COMMENTARY,
    content_type: str | None = "json",
) -> Message:
    """Build an assistant message that calls a tool.

    Args:
        recipient: The tool's full name, such as `"functions.get_weather"`.
        arguments: The arguments as JSON text, or code for the python tool.
        channel: `"commentary"` for functions, `"analysis"` for the built-in tools.
        content_type: The type of the arguments, which is written after `<|constrain|>`; the model
            writes `json` for functions.

    Raises:
        InvalidMessageError: An argument has the wrong type.

    Example:
        >>> message = call_message("functions.get_weather", '{"city": "Paris"}')
        >>> message.recipient, message.text
        ('functions.get_weather', '{"city": "Paris"}')
    """
    return Message(
        Role.ASSISTANT,
        arguments,
        channel=channel,
        recipient=recipient,
        content_type=content_type,
        constrained=content_type == "json",
    )
