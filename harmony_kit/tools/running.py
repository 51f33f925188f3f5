"""Running the calls that a model makes, and telling it what came of them."""

from __future__ import annotations

import inspect
import json
from typing import Any, Final, NamedTuple

from ..errors import InvalidMessageError
from ..messages import Channel, Message, Role, Tool
from .calls import CallStatus, ToolCall
from .toolbox import Toolbox


class ToolAnswer(NamedTuple):
    """What came of a call.

    Attributes:
        message: The message that tells the model.
        is_error: Whether it tells of something that went wrong.
    """

    message: Message
    is_error: bool


def tool_result(call: ToolCall | Message, content: str) -> Message:
    """The message that answers a call (format, section "Handling tool calls").

    It goes to the channel on which the call was made, commentary by default.

    Args:
        call: The call, or the message that makes it.
        content: The result as text.

    Raises:
        InvalidMessageError: The message is no call: it has no recipient.
    """
    message = call.message if isinstance(call, ToolCall) else call
    is_known = isinstance(call, ToolCall) and call.status is not CallStatus.UNDECLARED
    name = call.full_name if isinstance(call, ToolCall) and is_known else message.recipient
    if name is None:
        raise InvalidMessageError("a message without recipient is no call", field="recipient")
    return Message(
        Role.TOOL,
        content,
        name=name,
        recipient=Role.ASSISTANT,
        channel=message.channel or Channel.COMMENTARY,
    )


async def run_call(call: ToolCall, toolbox: Toolbox) -> ToolAnswer:
    """Run a call, or tell the model why it was not run.

    What goes wrong is told in the message: an unknown tool, arguments that the tool cannot
    take, an exception of its function.

    Args:
        call: The call; it addresses somebody.
        toolbox: The tools.
    """
    tool = toolbox.get(call.full_name or "")
    if not call.runnable or tool is None or tool.function is None:
        reason = _refusal(call, toolbox)
        return ToolAnswer(tool_result(call, f"Error: {reason}"), True)
    try:
        result = await _run(tool, call.value)
    except Exception as error:
        return ToolAnswer(tool_result(call, f"Error: {type(error).__name__}: {error}"), True)
    return ToolAnswer(tool_result(call, _text(result)), False)


async def _run(tool: Tool, arguments: Any) -> Any:
    import asyncio

    assert tool.function is not None
    # A function that blocks must not hold up the event loop.
    if inspect.iscoroutinefunction(tool.function):
        return await tool.function(**arguments)
    result = await asyncio.to_thread(tool.function, **arguments)
    return await result if inspect.isawaitable(result) else result


def _text(result: object) -> str:
    if isinstance(result, str):
        return result
    return json.dumps(result, ensure_ascii=False, default=str)


_REFUSALS: Final = {
    CallStatus.TRUNCATED: "the call was cut off before its arguments were complete.",
    CallStatus.MISSING_ARGUMENTS: "the call has no arguments; they follow <|message|>.",
    CallStatus.AMBIGUOUS: "the call names two different tools; name one.",
    CallStatus.DUPLICATE: "this call was made before in this turn, and was run once.",
}


def _refusal(call: ToolCall, toolbox: Toolbox) -> str:
    """Why a call is not run, in words for the model."""
    if call.status in _REFUSALS:
        return _REFUSALS[call.status]
    if call.status is CallStatus.UNDECLARED or toolbox.get(call.full_name or "") is None:
        known = ", ".join(name for name, _ in toolbox.items()) or "none"
        return f"there is no tool {call.message.recipient}. Tools: {known}."
    details = [found.detail or found.message for found in call.problems if found.code in _FAULTS]
    return f"the arguments are not what {call.full_name} takes: {'; '.join(details)}"


_FAULTS: Final = frozenset({"schema_mismatch", "not_json", "too_deep"})
