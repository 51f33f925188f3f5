"""The results of parsing: events while tokens arrive, and the whole completion."""

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
from ._vocabulary import CALL, END, RETURN


class Terminator(StrEnum):
    """The token that closed a message."""

    END = "<|end|>"
    """The message has ended; the turn continues."""
    CALL = "<|call|>"
    """The message is a call whose result the model awaits."""
    RETURN = "<|return|>"
    """The turn has ended."""


TERMINATORS: Final = {
    END: Terminator.END,
    CALL: Terminator.CALL,
    RETURN: Terminator.RETURN,
}
"""The terminators by token id."""


class TurnEnd(StrEnum):
    """Why the turn of a completion ended."""

    RETURN = "return"
    """`<|return|>`: the model finished its answer."""
    CALL = "call"
    """`<|call|>`: the model awaits the result of its call."""
    LENGTH = "length"
    """Truncated: generation stopped before a stop token."""
    ENDOFTEXT = "endoftext"
    """`<|endoftext|>`, which is not part of the format."""
    FORGED = "forged"
    """The model began a message of another role, which is excluded from the turn."""


TURN_ENDS: Final = {Terminator.RETURN: TurnEnd.RETURN, Terminator.CALL: TurnEnd.CALL}
"""The terminators that end a turn."""


class MessageSpan(NamedTuple):
    """The position of a message: token indices from the first token fed.

    The `<|start|>` and role of the first message of a completion are not part of its span, because
    they are at the end of the prompt.

    Attributes:
        start: The first token of the header, usually `<|start|>`.
        content_start: The first token of the content, after `<|message|>`.
        content_end: One past the last token of the content.
        end: One past the last token of the message.

    Example:
        >>> from harmony_kit import decode, encode_with_special, parse
        >>> tokens = encode_with_special("<|channel|>final<|message|>Hi<|return|>")
        >>> decode(tokens[parse(tokens).parsed[0].span.header])
        '<|channel|>final<|message|>'
    """

    start: int
    content_start: int
    content_end: int
    end: int

    @property
    def header(self) -> slice:
        """The slice of the header, including `<|message|>`."""
        return slice(self.start, self.content_start)

    @property
    def content(self) -> slice:
        """The slice of the content."""
        return slice(self.content_start, self.content_end)

    @property
    def terminator(self) -> slice:
        """The slice of the terminator, which may be empty."""
        return slice(self.content_end, self.end)


# --- Messages -------------------------------------------------------------------------------


@distinct
class ParsedMessage(NamedTuple):
    """A message and how it was parsed.

    Attributes:
        message: The message.
        span: Its position in the tokens, or in the characters of a text.
        terminator: The token that closed it, or `None`.
        problems: The problems found in it, in the order of detection.
        is_complete: Whether it was closed or another message follows; false if the input ended
            inside it.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> parse(encode_with_special("<|channel|>final<|message|>H")).parsed[0].is_complete
        False
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
        """Whether the message can be part of a history.

        A text must be complete; for calls see `Message.is_whole`.
        """
        if not self.header.is_call:
            return self.is_complete
        return self.terminator is Terminator.CALL or self.message.is_whole

    def has_problem(self, code: str) -> bool:
        """Whether it has a problem of a kind.

        Args:
            code: The code of the problem; docs/problems.md lists them.
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
    """A parsed message without problems, made in a third of the time of the constructors."""
    message = _new(Message)
    put_header(message, header)
    put_content(message, content)
    put_tokens(message, tokens)
    put_rendering(message, None)
    fields = (message, span, terminator, (), True)
    return _make(ParsedMessage, fields)


@dataclass(frozen=True)
class Completion:
    """The result of parsing a completion or a conversation.

    Every token belongs to the span of exactly one message, or of one problem whose `outside` is
    true.

    Attributes:
        parsed: All messages in order, including those after the end of the turn.
        stray: The problems that do not belong to a message.
        problems_omitted: The number of problems that were only counted, because there were too
            many.
        turn_end: Why the turn ended; `None` for a conversation, and for a text that does not show
            it.
        turn_length: How many of the messages, from the first, belong to the turn; all of a
            conversation.

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
        """All messages in order, including those after the end of the turn and a truncated one."""
        return tuple([parsed.message for parsed in self.parsed])

    @property
    def turn(self) -> tuple[ParsedMessage, ...]:
        """The parsed messages of the turn."""
        return self.parsed[: self.turn_length]

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, sorted by position and then in the order of the table of codes."""
        found = [problem for parsed in self.parsed for problem in parsed.problems]
        return tuple(sorted([*found, *self.stray], key=rank))

    @property
    def stop(self) -> Terminator | None:
        """The terminator of the last message of the turn, or `None`."""
        return self.parsed[self.turn_length - 1].terminator if self.turn_length else None

    @property
    def incomplete(self) -> ParsedMessage | None:
        """The truncated message at the end of the input, or `None`."""
        last = self.parsed[-1] if self.parsed else None
        return None if last is None or last.is_complete else last

    @property
    def text(self) -> str | None:
        """The answer: the last text on the final channel, even if truncated; `None` without one."""
        answers = (p.text for p in reversed(self.turn) if is_answer(p.message))
        return next(answers, None)

    @property
    def reasoning(self) -> str | None:
        """The texts on the analysis channel, separated by blank lines; `None` without any."""
        texts = [p.text for p in self.turn if is_reasoning(p.message)]
        return "\n\n".join(texts) if texts else None

    @property
    def calls(self) -> tuple[ParsedMessage, ...]:
        """The messages of the turn that call a tool; `harmony_kit.tool_calls` reads them."""
        return tuple(parsed for parsed in self.turn if parsed.header.is_call)

    @checked_options
    def history(self, *, finish_reason: FinishReason | None = None) -> tuple[Message, ...]:
        """The messages of the turn that can be part of a history; truncated ones are left out.

        Args:
            finish_reason: Why the engine stopped, if known. With `"stop"`, a text without a
                terminator is complete, since engines may omit the stop token from their output.

        Raises:
            OptionError: The reason is unknown.
        """
        check_finish_reason(finish_reason)
        is_stopped = finish_reason == "stop"
        return tuple(
            parsed.message
            for parsed in self.turn
            if parsed.is_whole or (is_stopped and not parsed.header.is_call)
        )


FinishReason = Literal["stop", "length", "abort"]
"""Why generation ended: at a stop token, at the token limit, or because it was aborted."""


def check_finish_reason(value: FinishReason | None) -> None:
    """Raise an `OptionError` unless a value is a finish reason, or `None` for an unknown one."""
    if value is not None and value not in get_args(FinishReason):
        known = ", ".join(repr(reason) for reason in get_args(FinishReason))
        raise OptionError(f"{value!r} is not one of {known}", option="finish_reason")


def is_answer(message: Message) -> bool:
    """Whether a message is an answer to the user that is not empty."""
    header = message.header
    is_final = header.role is Role.ASSISTANT and header.channel == Channel.FINAL
    return is_final and not header.is_call and message.text != ""


def is_shown(header: Header) -> bool:
    """Whether users see the text of a message: an answer or commentary, and not a call."""
    is_text = header.role is Role.ASSISTANT and not header.is_call
    return is_text and header.channel in (Channel.FINAL, Channel.COMMENTARY)


def is_reasoning(message: Message) -> bool:
    """Whether a message is reasoning of the model, and not a call."""
    header = message.header
    is_analysis = header.role is Role.ASSISTANT and header.channel == Channel.ANALYSIS
    return is_analysis and not header.is_call


# --- Events ---------------------------------------------------------------------------------


@distinct
class MessageStarted(NamedTuple):
    """The header of a message is complete.

    Attributes:
        message_index: The index of the message in `Completion.parsed`.
        header: The header.
    """

    message_index: int
    header: Header


@distinct
class ContentDelta(NamedTuple):
    """New text of a message's content.

    Attributes:
        message_index: The index of the message in `Completion.parsed`.
        header: The header of the message.
        text: The text that was added; never empty.
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
        """The recipient of the message."""
        return self.header.recipient


@distinct
class MessageEnded(NamedTuple):
    """A message has ended.

    Attributes:
        message_index: The index of the message in `Completion.parsed`.
        parsed: The message and how it was parsed.
    """

    message_index: int
    parsed: ParsedMessage

    @property
    def message(self) -> Message:
        """The message."""
        return self.parsed.message

    @property
    def span(self) -> MessageSpan:
        """The position of the message in the tokens."""
        return self.parsed.span

    @property
    def terminator(self) -> Terminator | None:
        """The token that closed it, or `None`."""
        return self.parsed.terminator


@distinct
class ProblemFound(NamedTuple):
    """Something deviates from the format.

    Attributes:
        problem: What it is, where, and how it was repaired.
    """

    problem: Problem


Event = MessageStarted | ContentDelta | MessageEnded | ProblemFound
"""The events that feeding a parser returns."""
