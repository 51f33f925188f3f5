"""Reading tool calls, with tools declared as functions, models, namespaces, sources or names."""

from __future__ import annotations

from collections.abc import Iterable

from .._options import checked_options
from ..calls._calls import ToolCall, read_calls
from ..calls._resolve import DeclaredNames
from ..calls._stream import CallStream
from ..wire._events import Completion, ParsedMessage
from ..wire._messages import Message
from ._source import ToolsLike, listed, namespaces_of

DeclaredTool = ToolsLike | str
"""A tool or a group of tools that calls can name, or only the name of a function."""


@checked_options
def tool_calls(
    messages: Iterable[Message | ParsedMessage] | Completion,
    tools: Iterable[DeclaredTool] | None = None,
) -> tuple[ToolCall, ...]:
    """Read the tool calls of messages, in order.

    Every assistant message with a tool as its recipient is a call, on any channel and at any
    position.

    Args:
        messages: `Message`s, `ParsedMessage`s, or a `Completion`, whose `turn` is read.
        tools: The declared tools: functions, `Tool`s, pydantic model classes, namespaces such as
            `PYTHON`, sources, `Toolbox`es, or names of functions. With `None`, every tool counts
            as declared, and arguments are repaired but not validated.

    Raises:
        ToolError: A value in `tools` cannot be made a tool, or two tools have the same name.
        InvalidMessageError: An item of `messages` is not a message.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> tokens = encode_with_special(
        ...     '<|channel|>commentary to=functions.f<|message|>{"city": "Paris"}<|call|>'
        ... )
        >>> (call,) = tool_calls(parse(tokens))
        >>> call.name, call.arguments, call.status.value
        ('f', '{"city": "Paris"}', 'ok')
    """
    return read_calls(messages, _declared_names(tools))


class ToolCallStream(CallStream):
    """Converts parser events to call events while a completion is generated.

    The complete calls are the same as those of `tool_calls`.

    Args:
        tools: The declared tools, as for `tool_calls`.

    Raises:
        ToolError: As for `tool_calls`.

    Example:
        >>> from harmony_kit import Parser, encode_with_special
        >>> parser, calls = Parser(), ToolCallStream(["f"])
        >>> text = '<|channel|>commentary to=functions.f<|message|>{"a": 1}<|call|>'
        >>> for event in calls.feed(parser.feed(encode_with_special(text))):
        ...     print(type(event).__name__)
        CallStarted
        ArgumentsDelta
        CallEnded
    """

    @checked_options
    def __init__(self, tools: Iterable[DeclaredTool] | None = None) -> None:
        super().__init__(_declared_names(tools))


def _declared_names(tools: Iterable[DeclaredTool] | None) -> DeclaredNames:
    if tools is None:
        return DeclaredNames(None)
    values = listed(tools)
    names = [value for value in values if isinstance(value, str)]
    return DeclaredNames([*namespaces_of(v for v in values if not isinstance(v, str)), *names])
