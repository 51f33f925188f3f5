"""What parsing gives: events while tokens arrive, and the whole completion."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, Literal, NamedTuple, get_args

from .._options import checked_options
from .._values import distinct
from ..errors import OptionError
from ._messages import Header, Message, put_content, put_header, put_rendering, put_tokens
from ._problems import Problem, rank
from ._roles import Channel, Role


class Terminator(StrEnum):
    """The token that closed a message."""

    END = "<|end|>"
    """The message is over, the turn goes on."""
    CALL = "<|call|>"
    """The message is a call; its result is awaited."""
    RETURN = "<|return|>"
    """The turn is over."""


class TurnEnd(StrEnum):
    """Why the turn of a completion ended."""

    RETURN = "return"
    """`<|return|>`: the model was done."""
    CALL = "call"
    """`<|call|>`: the model awaits the result of its call."""
    LENGTH = "length"
    """Truncated: generation stopped before a stop token."""
    ENDOFTEXT = "endoftext"
    """`<|endoftext|>`."""
    FORGED = "forged"
    """A message under another role, which is excluded from the turn."""


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
        """The terminator; empty where there is none."""
        return slice(self.content_end, self.end)


# --- Messages -------------------------------------------------------------------------------


@distinct
class ParsedMessage(NamedTuple):
    """A message as it was read, with all that is known of its reading.

    Attributes:
        message: The message.
        span: Where it stands in the tokens (or in the characters of a text).
        terminator: The token that closed it; `None` where it was not closed.
        problems: What was found wrong with it, in the order in which it was found.
        is_complete: Whether it was closed, or the next message follows; false where the end of
            the input cut it off.
    """

    message: Message
    span: MessageSpan
    terminator: Terminator | None
    problems: tuple[Problem, ...] = ()
    is_complete: bool = True

    @property
    def header(self) -> Header:
        """The header of the message."""
        return self.message.header

    @property
    def text(self) -> str:
        """The content of the message."""
        return self.message.text

    @property
    def is_whole(self) -> bool:
        """Whether the message may stand in a history.

        A text must be complete; for calls see `Message.is_whole`.
        """
        if not self.header.is_call:
            return self.is_complete
        return self.terminator is Terminator.CALL or self.message.is_whole

    def has_problem(self, code: str) -> bool:
        """Whether reading it met a problem of a kind.

        Args:
            code: The kind, a key of `PROBLEM_KINDS`.
        """
        return any(found.code == code for found in self.problems)


_new = object.__new__
_make = tuple.__new__


def plain_message(
    header: Header,
    content: str,
    tokens: bytes | None,
    span: MessageSpan,
    terminator: Terminator,
) -> ParsedMessage:
    """A message without a problem, made in a third of the time; a parser makes many of them.

    Args:
        header: As for `trusted_message`.
        content: Likewise.
        tokens: Likewise.
        span: Where it stands.
        terminator: What closed it.
    """
    message = _new(Message)
    put_header(message, header)
    put_content(message, content)
    put_tokens(message, tokens)
    put_rendering(message, None)
    fields = (message, span, terminator, (), True)
    return _make(ParsedMessage, fields)


@dataclass(frozen=True)
class Completion:
    """All that was read.

    The spans of the messages, and those of the problems whose `outside` is true, partition
    the tokens.

    Attributes:
        parsed: The messages in order, those after the end of the turn included.
        stray: The problems that are about no message.
        problems_omitted: How many problems more there were than are told apart.
        turn_end: Why the turn ended; `None` for a conversation, and for a text that does not
            say it.
        turn_length: How many leading messages belong to the turn; all of a conversation.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> tokens = encode_with_special("<|channel|>final<|message|>Hello!<|return|>")
        >>> parse(tokens).text
        'Hello!'
    """

    parsed: tuple[ParsedMessage, ...] = ()
    stray: tuple[Problem, ...] = ()
    problems_omitted: int = 0
    turn_end: TurnEnd | None = None
    turn_length: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages in order, also those after the end of the turn and one that was cut off."""
        return tuple([parsed.message for parsed in self.parsed])

    @property
    def turn(self) -> tuple[ParsedMessage, ...]:
        """The messages of the turn as they were read."""
        return self.parsed[: self.turn_length]

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, by the place where they begin, then in the order of their table."""
        found = [problem for parsed in self.parsed for problem in parsed.problems]
        return tuple(sorted([*found, *self.stray], key=rank))

    @property
    def stop(self) -> Terminator | None:
        """What closed the last message of the turn: `<|return|>` or `<|call|>` if it is whole."""
        return self.parsed[self.turn_length - 1].terminator if self.turn_length else None

    @property
    def incomplete(self) -> ParsedMessage | None:
        """The message that the end of the input cut off, if any."""
        last = self.parsed[-1] if self.parsed else None
        return None if last is None or last.is_complete else last

    @property
    def text(self) -> str | None:
        """The answer, also where it was cut off: the last text on the final channel."""
        answers = (p.text for p in reversed(self.turn) if is_answer(p.message))
        return next(answers, None)

    @property
    def reasoning(self) -> str | None:
        """The texts on the analysis channel, a blank line between them; `None` without any."""
        texts = [p.text for p in self.turn if is_reasoning(p.message)]
        return "\n\n".join(texts) if texts else None

    @property
    def calls(self) -> tuple[ParsedMessage, ...]:
        """The messages of the turn that call a tool; `tool_calls` reads them."""
        return tuple(parsed for parsed in self.turn if parsed.header.is_call)

    @checked_options
    def history(self, *, finish_reason: FinishReason | None = None) -> tuple[Message, ...]:
        """The messages of the turn that may stand in a history: those that are whole.

        What was cut off is left out, as a call that is not whole must never be run.

        Args:
            finish_reason: Why the engine stopped, where that is known. At `"stop"` a text is
                whole although the engine kept the stop token to itself.

        Raises:
            OptionError: There is no such reason.
        """
        check_finish_reason(finish_reason)
        is_stopped = finish_reason == "stop"
        return tuple(
            parsed.message
            for parsed in self.turn
            if parsed.is_whole or (is_stopped and not parsed.header.is_call)
        )


FinishReason = Literal["stop", "length", "abort"]
"""Why a generation ended: at a stop token, at the token limit, or because it was aborted."""


def check_finish_reason(value: FinishReason | None) -> None:
    """Refuse what is not a finish reason; `None` stands for an unknown one.

    Args:
        value: The reason.

    Raises:
        OptionError: There is no such reason.
    """
    if value is not None and value not in get_args(FinishReason):
        known = ", ".join(repr(reason) for reason in get_args(FinishReason))
        raise OptionError(f"{value!r} is none of {known}", option="finish_reason")


def is_answer(message: Message) -> bool:
    """Whether a message is an answer to the user that says something.

    Args:
        message: The message.
    """
    header = message.header
    is_final = header.role is Role.ASSISTANT and header.channel == Channel.FINAL
    return is_final and not header.is_call and message.text != ""


def is_reasoning(message: Message) -> bool:
    """Whether a message is the model's reasoning, and no call.

    Args:
        message: The message.
    """
    header = message.header
    is_analysis = header.role is Role.ASSISTANT and header.channel == Channel.ANALYSIS
    return is_analysis and not header.is_call


# --- Events ---------------------------------------------------------------------------------


@distinct
class MessageStarted(NamedTuple):
    """A header is complete.

    Attributes:
        message_index: The position of the message among those parsed.
        header: What the header says.
    """

    message_index: int
    header: Header


@distinct
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


@distinct
class MessageEnded(NamedTuple):
    """A message is over.

    Attributes:
        message_index: The position of the message among those parsed.
        parsed: The message as it was read.
    """

    message_index: int
    parsed: ParsedMessage

    @property
    def message(self) -> Message:
        """The message."""
        return self.parsed.message

    @property
    def span(self) -> MessageSpan:
        """Where it stands in the tokens."""
        return self.parsed.span

    @property
    def terminator(self) -> Terminator | None:
        """What closed it; `None` where nothing did."""
        return self.parsed.terminator


@distinct
class ProblemFound(NamedTuple):
    """Something was not as the format has it.

    Attributes:
        problem: What, where, and what was done about it.
    """

    problem: Problem


Event = MessageStarted | ContentDelta | MessageEnded | ProblemFound
"""What happens while tokens are fed."""
