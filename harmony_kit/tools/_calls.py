"""Calls of declared tools: reading them with functions, models and sources as declarations."""

from __future__ import annotations

from collections.abc import Iterable

from .._options import checked_options
from ..calls._calls import ToolCall, read_calls
from ..calls._resolve import DeclaredNames
from ..calls._stream import CallStream
from ..wire._events import Completion, ParsedMessage
from ..wire._messages import Message
from ._source import ToolsLike, namespace_of

DeclaredTool = ToolsLike | str
"""What can be declared for calls: a tool, several that belong together, or just the name of a
function."""


@checked_options
def tool_calls(
    messages: Iterable[Message | ParsedMessage] | Completion,
    tools: Iterable[DeclaredTool] | None = None,
) -> tuple[ToolCall, ...]:
    """The calls that messages make, in order.

    Every message of the assistant that addresses a tool is a call, whatever its channel and
    whatever stands before or after it.

    Args:
        messages: Messages, as they were parsed or without what is known of that; or a
            `Completion`, whose turn is read.
        tools: The tools that were declared: tools, functions, namespaces such as `PYTHON`,
            sources, a `Toolbox`, or plain names of functions. With `None` nothing is
            undeclared, and arguments are repaired but not checked.

    Raises:
        ToolError: A declared tool is none.
        InvalidMessageError: Something among the messages is none.

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
    """Makes calls of the events of a parser, as they come, for one completion.

    The calls are those of `tool_calls`.

    Args:
        tools: The tools that were declared, as for `tool_calls`.

    Raises:
        ToolError: A declared tool is none.
    """

    @checked_options
    def __init__(self, tools: Iterable[DeclaredTool] | None = None) -> None:
        super().__init__(_declared_names(tools))


def _declared_names(tools: Iterable[DeclaredTool] | None) -> DeclaredNames:
    if tools is None:
        return DeclaredNames(None)
    return DeclaredNames([tool if isinstance(tool, str) else namespace_of(tool) for tool in tools])
