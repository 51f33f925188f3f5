"""Messages that answer tool calls."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal, NamedTuple

from .._options import checked_options
from ..calls._calls import CallStatus, ToolCall
from ..errors import InvalidMessageError
from ..wire._messages import Message
from ..wire._roles import Channel, Role

Ending = Literal["returned", "raised", "timed_out", "refused", "invalid"]
"""How a call ended.

`"returned"`: the function returned. `"raised"`: it raised. `"timed_out"`: it exceeded its timeout.
`"refused"`: it was not confirmed. `"invalid"`: there is no such tool, or it cannot take these
arguments.
"""


class ToolAnswer(NamedTuple):
    """The result of running a call.

    Attributes:
        message: The tool message for the model.
        ending: How the call ended.
        value: The return value of the function; for a `ToolResult`, its `value`.
        error: The exception, if there was one.
    """

    message: Message
    ending: Ending
    value: Any = None
    error: BaseException | None = None

    @property
    def is_error(self) -> bool:
        """Whether the message reports an error."""
        return self.ending != "returned"


@checked_options
def tool_result(call: ToolCall | Message, content: str) -> Message:
    """The tool message that answers a call (format, section "Handling tool calls").

    It is sent on the channel of the call; commentary if the call has none.

    Args:
        call: The call, or the message that makes it.
        content: The result as text.

    Raises:
        InvalidMessageError: The message has no recipient, so it is not a call.

    Example:
        >>> from harmony_kit import call_message
        >>> result = tool_result(call_message("functions.add", '{"a": 1, "b": 2}'), "3")
        >>> result.name, result.text
        ('functions.add', '3')
    """
    message = call.message if isinstance(call, ToolCall) else call
    name = message.recipient
    if isinstance(call, ToolCall) and call.status is not CallStatus.UNDECLARED:
        name = call.full_name or name  # of a recipient that names no tool, the model hears that
    if name is None:
        raise InvalidMessageError("a message without a recipient is not a call", field="recipient")
    return Message(
        Role.TOOL,
        content,
        name=name,
        recipient=Role.ASSISTANT,
        channel=message.channel or Channel.COMMENTARY,
    )


_FAULTS: Final = {
    CallStatus.TRUNCATED: "the call was truncated before its arguments were complete.",
    CallStatus.MISSING_ARGUMENTS: "the call has no arguments; they follow <|message|>.",
    CallStatus.AMBIGUOUS: "the call names two tools, or has two different objects; make one call.",
    CallStatus.DUPLICATE: "the same call was made before in this turn; it was run once.",
}

_FAULTY_ARGUMENTS: Final = frozenset({"schema_mismatch", "not_json", "too_deep"})


def fault_of(call: ToolCall, known: Collection[str]) -> str:
    """The reason why a call cannot be run, for the model."""
    if call.status in _FAULTS:
        return _FAULTS[call.status]
    if call.status is CallStatus.UNDECLARED or call.full_name not in known:
        return f"there is no tool {call.message.recipient}. Tools: {', '.join(known) or 'none'}."
    problems = (found for found in call.problems if found.code in _FAULTY_ARGUMENTS)
    return wrong_arguments(call, "; ".join(found.detail or found.message for found in problems))


def wrong_arguments(call: ToolCall, reason: str) -> str:
    """The error for arguments that a tool cannot take, for the model."""
    return f"the arguments are not what {call.full_name} takes: {reason}"
