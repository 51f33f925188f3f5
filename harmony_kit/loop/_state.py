"""The state of a run: the conversation, and the used part of the budgets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .._checks import NOT_NEGATIVE, checked_integer, checked_number
from .._options import checked_fields
from ..convert.harmony import message_from_dict, message_to_dict
from ..errors import InvalidMessageError, OptionError
from ..wire._messages import Message
from ..wire._render import checked_messages


@checked_fields
@dataclass(frozen=True)
class Usage:
    """Numbers of tokens.

    Attributes:
        prompt_tokens: The tokens of all prompts.
        completion_tokens: The tokens of all completions, including stop tokens.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@checked_fields
@dataclass(frozen=True)
class RunState:
    """The state of a run between two turns, from which the run can be resumed.

    Pass it to `run` instead of a conversation. Its JSON contains no functions; the resumed run gets
    them from its own tools.

    Attributes:
        messages: The whole conversation.
        new: The number of messages, at its end, that belong to this run.
        usage: The numbers of tokens used.
        turns: The number of completions.
        tool_calls: The number of answered calls.
        faulty_turns: The number of completions with a failed call.
        is_warned: Whether the model was told that no more tools can be called.
        seconds: The duration of the run so far; ignored when states are compared.

    Raises:
        InvalidMessageError: An item of `messages` is not a message.
        OptionError: Another field has an invalid value.
    """

    messages: tuple[Message, ...]
    new: int = 0
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    tool_calls: int = 0
    faulty_turns: int = 0
    is_warned: bool = False
    seconds: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", checked_messages(self.messages))
        for name in ("new", "turns", "tool_calls", "faulty_turns"):
            checked_integer(name, getattr(self, name), least=0, optional=False)
        checked_number("seconds", self.seconds, NOT_NEGATIVE, optional=False)

    def to_json(self) -> str:
        """Serialize the state as one line of JSON text for `from_json`."""
        data = {name: getattr(self, name) for name in _PLAIN}
        data["usage"] = asdict(self.usage)
        data["messages"] = [message_to_dict(message, tokens=True) for message in self.messages]
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> RunState:
        """Read a state from its JSON text.

        Args:
            text: JSON text from `to_json`.

        Raises:
            InvalidMessageError: The text is not a state; the error names the invalid field.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidMessageError(f"not JSON: {error}", field="state") from None
        expected = {*_PLAIN, "usage", "messages"}
        if not isinstance(data, dict) or data.keys() != expected:
            raise InvalidMessageError(
                f"expected an object with {', '.join(sorted(expected))}", field="state"
            )
        plain = {name: _number(data, name, kind) for name, kind in _PLAIN.items()}
        try:
            return cls(_messages(data["messages"]), usage=_usage(data["usage"]), **plain)
        except OptionError as error:
            raise InvalidMessageError(error.reason, field=error.option) from None


_PLAIN: Final[dict[str, type]] = {
    "new": int,
    "turns": int,
    "tool_calls": int,
    "faulty_turns": int,
    "is_warned": bool,
    "seconds": float,
}


def _number(data: dict[str, Any], name: str, kind: type) -> Any:
    value = data[name]
    fits = type(value) in (int, float) if kind is float else type(value) is kind
    if not fits or value < 0:
        raise InvalidMessageError(
            f"expected {kind.__name__} of at least 0, got {value!r}", field=name
        )
    return value


def _usage(data: Any) -> Usage:
    names = ("prompt_tokens", "completion_tokens")
    if not isinstance(data, dict) or data.keys() != set(names):
        raise InvalidMessageError(f"expected an object with {' and '.join(names)}", field="usage")
    return Usage(*(_number(data, name, int) for name in names))


def _messages(data: Any) -> tuple[Message, ...]:
    if not isinstance(data, list):
        raise InvalidMessageError("expected a list", field="messages")
    messages = []
    for index, item in enumerate(data):
        try:
            messages.append(message_from_dict(item))
        except InvalidMessageError as error:
            raise error.at(index) from None
    return tuple(messages)
