"""Short ways to write the messages of a conversation.

conversation = [
    system(reasoning_effort="high", current_date="2025-06-28"),
    developer("Always respond in riddles.", tools=[get_weather]),
    user("What is the weather like in SF?"),
]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from .._options import checked_options
from ..errors import ToolError
from ..wire._contents import DeveloperContent, ResponseFormat, SystemContent, ToolNamespace
from ..wire._messages import Message
from ..wire._roles import CHANNELS, KNOWLEDGE_CUTOFF, MODEL_IDENTITY, Channel, ReasoningEffort, Role
from ._source import ToolsLike, ToolSource, is_builtin, is_source, namespace_of, namespaces_of


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
    """A system message.

    Args:
        reasoning_effort: How much to think: `"low"`, `"medium"` or `"high"`.
        current_date: Today, such as `"2025-06-28"`; left out by default.
        knowledge_cutoff: Until when the training data reaches.
        model_identity: The first line. To give the model another character, use the
            developer message instead: this line is the one it was trained with.
        valid_channels: The channels that the model may use.
        tools: Built-in tools: `BROWSER`, `PYTHON`, or what runs them, such as a `PythonTool`.

    Raises:
        InvalidMessageError: An argument has the wrong type or an unknown value.
        ToolError: A source in `tools` is not open.
    """
    # The content checks and converts what it is given.
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
    return tuple(namespace_of(tool) if is_source(tool) else tool for tool in tools)


@checked_options
def developer(
    instructions: str | None = None,
    *,
    tools: Iterable[ToolsLike] = (),
    response_formats: Iterable[ResponseFormat] = (),
) -> Message:
    """A developer message: what other formats call the system prompt, and the tools.

    Args:
        instructions: What the model shall do.
        tools: Functions, `Tool`s and pydantic model classes, which are declared in the
            namespace `functions`, whole `ToolNamespace`s, and sources such as `McpTools`.
        response_formats: Shapes for the final answer.

    Raises:
        InvalidMessageError: An argument has the wrong type.
        ToolError: Something in `tools` cannot be made a tool, or is one of those that the model
            was trained to find in the system message (python, browser): give them to `system`.
    """
    values = list(tools)
    for tool in values:
        if is_builtin(tool):
            name = namespace_of(tool).name
            raise ToolError(
                f"{name} belongs into the system message, where the model knows it from: "
                "system(tools=[...])"
            )
    content = DeveloperContent(
        instructions=instructions,
        tools=tuple(namespaces_of(values)),
        response_formats=cast("tuple[ResponseFormat, ...]", response_formats),
    )
    return Message(Role.DEVELOPER, content)


@checked_options
def user(content: str, *, name: str | None = None) -> Message:
    """A user message.

    Args:
        content: What the user says.
        name: The user's name, where there are several.

    Raises:
        InvalidMessageError: An argument has the wrong type.
    """
    return Message(Role.USER, content, name=name)


@checked_options
def assistant(content: str, *, channel: str | None = Channel.FINAL) -> Message:
    """A message that the model wrote, or is to believe that it wrote.

    Args:
        content: What it says.
        channel: What it is for; an answer by default.

    Raises:
        InvalidMessageError: An argument has the wrong type.
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
    """A call that the model made.

    Args:
        recipient: The tool's full name, such as `"functions.get_weather"`.
        arguments: The arguments as JSON text, or code for the python tool.
        channel: Commentary for functions, analysis for the built-in tools.
        content_type: What the arguments are; written with `<|constrain|>`, as the model does
            for JSON.

    Raises:
        InvalidMessageError: An argument has the wrong type.
    """
    return Message(
        Role.ASSISTANT,
        arguments,
        channel=channel,
        recipient=recipient,
        content_type=content_type,
        constrained=content_type == "json",
    )
