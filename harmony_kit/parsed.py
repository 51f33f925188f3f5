"""What parsing gives: events while tokens arrive, and the result of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from .header import Header
from .messages import Message
from .problems import Problem


class Terminator(StrEnum):
    """The token that closed a message."""

    END = "<|end|>"
    """The message is over, the turn goes on."""
    CALL = "<|call|>"
    """The message is a call; its result is awaited."""
    RETURN = "<|return|>"
    """The turn is over."""


class TurnEnd(StrEnum):
    """How the turn of a completion ended."""

    RETURN = "return"
    """With `<|return|>`: the model said all it wanted to."""
    CALL = "call"
    """With `<|call|>`: the model awaits the result of its call."""
    LENGTH = "length"
    """Not at all: the tokens ended before."""
    ENDOFTEXT = "endoftext"
    """With `<|endoftext|>`."""
    FORGED = "forged"
    """With a message under the role of somebody else, which is not part of it."""


TURN_ENDS: Final = {Terminator.RETURN: TurnEnd.RETURN, Terminator.CALL: TurnEnd.CALL}
"""The terminators that end a turn."""


class MessageSpan(NamedTuple):
    """Where a message stands in the tokens: indices from the first token fed.

    The first message of a completion has no `<|start|>` and role of its own, since these
    stand at the end of the prompt; its header is what follows them.

    Attributes:
        start: The first token of the header, usually `<|start|>`.
        content_start: The first token of the content, after `<|message|>`.
        content_end: One past the last token of the content.
        end: One past the last token of the message.
    """

    start: int
    content_start: int
    content_end: int
    end: int

    @property
    def header(self) -> slice:
        """The header, `<|message|>` included."""
        return slice(self.start, self.content_start)

    @property
    def content(self) -> slice:
        """The content alone."""
        return slice(self.content_start, self.content_end)

    @property
    def terminator(self) -> slice:
        """The terminator; empty where the message was cut off."""
        return slice(self.content_end, self.end)


class MessageStarted(NamedTuple):
    """A header is complete.

    Attributes:
        message_index: The position of the message among those parsed.
        header: What the header says.
    """

    message_index: int
    header: Header


class ContentDelta(NamedTuple):
    """A piece of a message's content.

    Attributes:
        message_index: The position of the message among those parsed.
        header: The message's header.
        text: The piece; never empty.
    """

    message_index: int
    header: Header
    text: str

    @property
    def channel(self) -> str | None:
        """The channel of the message."""
        return self.header.channel

    @property
    def recipient(self) -> str | None:
        """Whom the message addresses."""
        return self.header.recipient


class MessageEnded(NamedTuple):
    """A message is complete.

    Attributes:
        message_index: The position of the message among those parsed.
        message: The message.
        span: Where it stands in the tokens.
        terminator: What closed it; `None` where nothing did.
    """

    message_index: int
    message: Message
    span: MessageSpan
    terminator: Terminator | None


class ProblemFound(NamedTuple):
    """Something was not as the format has it.

    Attributes:
        problem: What, where, and what was done about it.
    """

    problem: Problem


Event = MessageStarted | ContentDelta | MessageEnded | ProblemFound
"""What happens while tokens are fed."""


class ParsedMessages(tuple[Message, ...]):
    """The messages of a parse: a tuple that also knows where they came from.

    `tool_calls` reads from it what a message alone cannot say.

    Attributes:
        spans: For each message, where it stands in the tokens.
        terminators: For each message, the token that closed it; `None` where nothing did.
        problems: What was found, in the order of the tokens.
        turn_messages: How many leading messages belong to the turn.
        incomplete: The index of the message that the end of the tokens cut off, if any.
    """

    spans: tuple[MessageSpan, ...] = ()
    terminators: tuple[Terminator | None, ...] = ()
    problems: tuple[Problem, ...] = ()
    turn_messages: int = 0
    incomplete: int | None = None


@dataclass(frozen=True)
class ParseResult:
    """All that was read.

    The spans of the messages, and those of the problems whose `outside` is true, partition
    the tokens.

    Attributes:
        messages: The messages in order, those after the end of the turn included.
        spans: For each message, where it stands in the tokens.
        terminators: For each message, the token that closed it; `None` where nothing did.
        problems: What was found, in order.
        problems_omitted: How many problems more there were than are told apart.
        turn_end: How the turn ended; `None` for a conversation, and for a text that does not
            say it.
        turn_messages: How many leading messages belong to the turn; all of a conversation.
        incomplete: The index of the message that the end of the tokens cut off, if any.
    """

    messages: ParsedMessages
    spans: tuple[MessageSpan, ...]
    terminators: tuple[Terminator | None, ...]
    problems: tuple[Problem, ...] = ()
    problems_omitted: int = 0
    turn_end: TurnEnd | None = None
    turn_messages: int = 0
    incomplete: int | None = None

    @property
    def stop(self) -> Terminator | None:
        """What closed the last message of the turn: `<|return|>` or `<|call|>` if it is whole."""
        return self.terminators[self.turn_messages - 1] if self.turn_messages else None

    @property
    def turn(self) -> tuple[Message, ...]:
        """The messages of the turn: what may enter a history."""
        return self.messages[: self.turn_messages]


def parse_result(
    messages: Sequence[Message],
    spans: Sequence[MessageSpan],
    terminators: Sequence[Terminator | None],
    **rest: Any,
) -> ParseResult:
    """A result, its messages knowing where they came from.

    Args:
        messages: The messages.
        spans: Their spans.
        terminators: Their terminators.
        **rest: The other attributes of the result.
    """
    parsed = ParsedMessages(messages)
    result = ParseResult(parsed, tuple(spans), tuple(terminators), **rest)
    parsed.spans, parsed.terminators = result.spans, result.terminators
    parsed.problems, parsed.incomplete = result.problems, result.incomplete
    parsed.turn_messages = result.turn_messages
    return result
