"""Telling the model what came of its calls."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal, NamedTuple

from .._options import checked_options
from ..calls._calls import CallStatus, ToolCall
from ..errors import InvalidMessageError
from ..wire._messages import Message
from ..wire._roles import Channel, Role

Ending = Literal["returned", "raised", "timed_out", "refused", "invalid"]
"""What came of a call.

`"returned"`: the function returned. `"raised"`: it raised. `"timed_out"`: it took too long.
`"refused"`: it was not confirmed. `"invalid"`: there is no such tool, or it cannot take these
arguments.
"""


class ToolAnswer(NamedTuple):
    """What came of a call.

    Attributes:
        message: The message that tells the model.
        ending: What came of it, in a word.
        value: What the function returned, for the program; of a `ToolResult`, its value.
        error: What it raised.
    """

    message: Message
    ending: Ending
    value: Any = None
    error: BaseException | None = None

    @property
    def is_error(self) -> bool:
        """Whether the model is told of something that went wrong."""
        return self.ending != "returned"


@checked_options
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
    name = message.recipient
    if isinstance(call, ToolCall) and call.status is not CallStatus.UNDECLARED:
        name = call.full_name or name  # of a recipient that names no tool, the model hears that
    if name is None:
        raise InvalidMessageError("a message without recipient is no call", field="recipient")
    return Message(
        Role.TOOL,
        content,
        name=name,
        recipient=Role.ASSISTANT,
        channel=message.channel or Channel.COMMENTARY,
    )


_FAULTS: Final = {
    CallStatus.TRUNCATED: "the call was cut off before its arguments were complete.",
    CallStatus.MISSING_ARGUMENTS: "the call has no arguments; they follow <|message|>.",
    CallStatus.AMBIGUOUS: "the call names two tools, or has two different objects; make one call.",
    CallStatus.DUPLICATE: "this call was made before in this turn, and was run once.",
}

_FAULTY_ARGUMENTS: Final = frozenset({"schema_mismatch", "not_json", "too_deep"})


def fault_of(call: ToolCall, known: Collection[str]) -> str:
    """Why a call cannot be run, in words for the model.

    Args:
        call: The call.
        known: The full names of the tools that there are.
    """
    if call.status in _FAULTS:
        return _FAULTS[call.status]
    if call.status is CallStatus.UNDECLARED or call.full_name not in known:
        return f"there is no tool {call.message.recipient}. Tools: {', '.join(known) or 'none'}."
    problems = (found for found in call.problems if found.code in _FAULTY_ARGUMENTS)
    return wrong_arguments(call, "; ".join(found.detail or found.message for found in problems))


def wrong_arguments(call: ToolCall, reason: str) -> str:
    """That a tool cannot take the arguments of a call, in words for the model.

    Args:
        call: The call.
        reason: What is wrong with them.
    """
    return f"the arguments are not what {call.full_name} takes: {reason}"
