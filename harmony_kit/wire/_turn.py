"""The rules about the messages of a completion, which is one turn of the assistant.

They are two tables: problems of a header, given the messages before it, and problems of a message
that has ended. A message of another role is forged and ends the turn before it. A message without
a channel is pending until the next one: it is the final answer if it ends the turn, and reasoning
if another message follows. A message without a terminator is pending too, because this is a problem
only if the turn continues. To a conversation, no rule applies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from ._events import (
    Completion,
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParsedMessage,
    Terminator,
    TurnEnd,
)
from ._header.reading import call_channel_problem
from ._messages import CLOSED_CALL, Header, trusted_message
from ._problems import Problem, ProblemLog
from ._roles import Channel, Role
from ._vocabulary import CALL, END_OF_TEXT, RETURN


class Start(NamedTuple):
    """A header of the assistant, and what precedes it in the turn.

    Attributes:
        header: The header.
        has_start: Whether it begins with `<|start|>`.
        is_answered: Whether there was a final answer.
        is_awaiting: Whether there was a call with arguments.
        follows_call: Whether the previous message ended with `<|call|>`.
    """

    header: Header
    has_start: bool
    is_answered: bool
    is_awaiting: bool
    follows_call: bool


_SHOWN: Final = frozenset({Channel.FINAL.value, Channel.COMMENTARY.value})

START_RULES: Final[tuple[tuple[str, Callable[[Start], bool]], ...]] = (
    ("missing_channel", lambda it: it.header.is_call and it.header.channel is None),
    ("tool_call_on_final", lambda it: _call_problem(it) == "tool_call_on_final"),
    ("tool_call_on_analysis", lambda it: _call_problem(it) == "tool_call_on_analysis"),
    ("call_after_final", lambda it: it.header.is_call and it.is_answered),
    (
        "multiple_calls",
        lambda it: it.header.is_call and it.has_start and it.follows_call,
    ),
    (
        "text_after_call",
        lambda it: not it.header.is_call and it.is_awaiting and it.header.channel in _SHOWN,
    ),
)
"""The problems of a header; their span is that of the header."""


def _call_problem(it: Start) -> str | None:
    return call_channel_problem(it.header) if it.header.is_call else None


class End(NamedTuple):
    """A message of the assistant that has ended.

    Attributes:
        header: Its header.
        has_content: Whether its content is not empty.
        is_unmarked: Whether `<|message|>` is missing.
        terminator: Its terminator, or `None`.
        looks_like_call: Whether it was closed as a call and looks like one.
    """

    header: Header
    has_content: bool
    is_unmarked: bool
    terminator: Terminator | None
    looks_like_call: bool

    @property
    def breaks_off(self) -> bool:
        """Whether it is a call that ends within its header."""
        return self.header.is_call and not self.has_content and self.is_unmarked

    @property
    def is_closed_as_call(self) -> bool:
        """Whether `<|call|>` closed it."""
        return self.terminator is Terminator.CALL


_ALL, _HEADER, _TERMINATOR = range(3)
"""The parts of a message that a problem can have as its span."""

END_RULES: Final[tuple[tuple[str, int, Callable[[End], bool]], ...]] = (
    ("unterminated_call", _ALL, lambda it: it.breaks_off and not it.is_closed_as_call),
    (
        "call_ended_with_end",
        _TERMINATOR,
        lambda it: it.header.is_call and not it.breaks_off and it.terminator is Terminator.END,
    ),
    (
        "call_ended_with_return",
        _TERMINATOR,
        lambda it: it.header.is_call and not it.breaks_off and it.terminator is Terminator.RETURN,
    ),
    (
        "missing_recipient",
        _HEADER,
        lambda it: not it.header.is_call and it.is_closed_as_call and it.looks_like_call,
    ),
    (
        "text_ended_with_call",
        _TERMINATOR,
        lambda it: not it.header.is_call and it.is_closed_as_call and not it.looks_like_call,
    ),
    (
        "empty_final",
        _ALL,
        lambda it: (
            not it.header.is_call and it.header.channel == Channel.FINAL and not it.has_content
        ),
    ),
)
"""The problems of a message that has ended, each with the part that is its span."""

FORGED: Final = {
    Role.USER: "hallucinated_turn",
    Role.TOOL: "hallucinated_tool_message",
    Role.SYSTEM: "forged_role",
    Role.DEVELOPER: "forged_role",
}
"""The problem of a message of another role in a completion."""

# Problems for which a message keeps its tokens, since rendering would write the same ones.
_NOT_OF_FRAMING: Final = frozenset(
    {
        "call_after_final",
        "empty_final",
        "multiple_calls",
        "text_after_call",
        "tool_call_on_analysis",
        "tool_call_on_final",
        "unknown_channel",
        "unknown_content_type",
    }
)
_OF_A_CUT: Final = _NOT_OF_FRAMING | {"missing_terminator"}

_TURN_ENDING_TOKENS: Final = {RETURN: TurnEnd.RETURN, END_OF_TEXT: TurnEnd.ENDOFTEXT}


# Cached, since a completion has few different headers.
@lru_cache(maxsize=1024)
def start_problems(*facts: object) -> tuple[str, ...]:
    """The codes of the problems of a header, given the fields of `Start`."""
    start = Start(*facts)  # type: ignore[arg-type]
    return tuple(code for code, applies in START_RULES if applies(start))


@lru_cache(maxsize=1024)
def end_problems(*facts: object) -> tuple[tuple[str, int], ...]:
    """The codes and parts of the problems of an ended message, given the fields of `End`."""
    end = End(*facts)  # type: ignore[arg-type]
    return tuple((code, part) for code, part, applies in END_RULES if applies(end))


def looks_like_call(header: Header, content: str) -> bool:
    """Whether a message has a content type or content that is typical of a call."""
    return header.content_type in ("json", "code") or content.lstrip().startswith("{")


_KNOWN: Final = frozenset(channel.value for channel in Channel)
REASONING_WORDS: Final = frozenset(
    ["analysis", "thought", "thoughts", "thinking", "reasoning", "reflection", "scratchpad"]
)
"""Channels that hold reasoning, whatever follows them: their text is never an answer."""


def is_word_for_answers(header: Header) -> bool:
    """Whether a message is on an unknown channel that may hold the answer.

    Args:
        header: Its header.
    """
    channel = header.channel
    if channel is None or channel in _KNOWN or header.is_call:
        return False
    return header.role is Role.ASSISTANT and channel.casefold() not in REASONING_WORDS


# --- The turn -------------------------------------------------------------------------------


class EndedMessage(NamedTuple):
    """A message whose end was read.

    Attributes:
        header: Its header.
        content: Its content.
        span: Its position.
        terminator: Its terminator, or `None`.
        is_cut: Whether the input ended within it.
        tokens: Its tokens, as for `trusted_message`, to be remembered if it has no problem.
    """

    header: Header
    content: str
    span: MessageSpan
    terminator: Terminator | None
    is_cut: bool = False
    tokens: bytes | None = None


class _Pending(NamedTuple):
    """An ended message that depends on what follows.

    Attributes:
        ended: The message.
        problems: Its problems so far.
        unclosed: The position of its missing terminator; `None` if it has one.
    """

    ended: EndedMessage
    problems: list[Problem]
    unclosed: int | None


def _report_end(ended: EndedMessage, is_unmarked: bool, log: ProblemLog) -> bool:
    """Report the problems of a message's end; returns whether it is a call without a name."""
    header, content, span, terminator = ended[:4]
    is_like_call = terminator is Terminator.CALL and looks_like_call(header, content)
    found = end_problems(header, bool(content), is_unmarked, terminator, is_like_call)
    places = (
        (span.start, span.end),
        (span.start, span.content_start),
        (span.content_end, span.end),
    )
    for code, part in found:
        log.report(code, *places[part])
    return is_like_call and not header.is_call


class Turn:
    """Collects messages, and applies the rules to those of a completion.

    Args:
        is_completion: Whether the messages are a turn of the assistant.
        log: Receives the problems.
        events: Receives the events, or `None`.

    Attributes:
        parsed: The messages that have ended and are not pending.
        is_held: Whether the channel of the message being read is not known yet.
        is_over: Whether the turn has ended.
        end: Why it ended.
        length: How many messages belong to it.
    """

    __slots__ = (
        "_answered",
        "_awaiting",
        "_called",
        "_events",
        "_is_cut",
        "_log",
        "_pending",
        "_stray_end",
        "end",
        "is_completion",
        "is_held",
        "is_over",
        "length",
        "parsed",
    )

    def __init__(self, is_completion: bool, log: ProblemLog, events: list[Event] | None) -> None:
        self.is_completion = is_completion
        self.parsed: list[ParsedMessage] = []
        self.is_held = False
        self.is_over = False
        self.end: TurnEnd | None = None
        self.length: int | None = None
        self._log = log
        self._events = events
        self._pending: _Pending | None = None
        self._answered = False  # whether there was a final answer
        self._called = False  # whether there was a call
        self._awaiting = False  # whether there was one with arguments
        self._is_cut = False  # whether the input ended inside a message or header
        self._stray_end: TurnEnd | None = None  # by a terminator without a message that came last

    @property
    def shows(self) -> bool:
        """Whether the content being read is reported as events."""
        return not self.is_held and not self.is_over

    @property
    def pending_start(self) -> int | None:
        """The position of the pending message, or `None`."""
        return None if self._pending is None else self._pending.ended.span.start

    def completion(self) -> Completion:
        """The result so far."""
        pending = () if self._pending is None else self._pending.problems
        return Completion(
            tuple(self.parsed),
            (*self._log.problems(), *pending),
            self._log.omitted,
            self.end,
            len(self.parsed) if self.length is None else self.length,
        )

    # --- Headers ---

    def begin(self, header: Header, start: int, content_start: int, has_start: bool) -> Header:
        """Check a header that is complete; returns it with its channel restored."""
        self._stray_end = None
        if not self.is_completion:
            self._release(is_followed=True)
        elif header.role is not Role.ASSISTANT:
            if not self.is_over:
                called = self._last_terminator() is Terminator.CALL
                self._finish(TurnEnd.CALL if called else TurnEnd.FORGED, start, is_followed=False)
            self._log.report(FORGED[header.role], start, content_start)
        elif not self.is_over:
            header = self._begin_in_turn(header, start, content_start, has_start)
        if self.shows and self._events is not None:
            self._log.settle()
            self._events.append(MessageStarted(len(self.parsed), header))
        return header

    def _begin_in_turn(
        self, header: Header, start: int, content_start: int, has_start: bool
    ) -> Header:
        self._release(Channel.ANALYSIS, is_followed=True)
        follows_call = self._last_terminator() is Terminator.CALL
        for code in start_problems(header, has_start, self._answered, self._awaiting, follows_call):
            self._log.report(code, start, content_start)
        if header.channel is None and header.is_call:
            return header._replace(channel=Channel.COMMENTARY.value)
        self.is_held = header.channel is None or is_word_for_answers(header)
        return header

    # --- Ends ---

    def close(
        self, ended: EndedMessage, token: int | None, *, is_unmarked: bool, unclosed: int | None
    ) -> None:
        """Check a message that has ended, and add it or make it pending.

        Args:
            ended: The message.
            token: The token that ended it; `None` at the end of the input.
            is_unmarked: Whether `<|message|>` is missing.
            unclosed: The position of its missing terminator, if another message follows.
        """
        header, content, span = ended.header, ended.content, ended.span
        self._is_cut |= ended.is_cut
        is_in_turn = self.is_completion and not self.is_over
        is_call_without_name = False
        if is_in_turn:
            is_call_without_name = _report_end(ended, is_unmarked, self._log)
            self._called |= is_call_without_name
        if self.is_held:
            self.is_held = False
            if header.channel is None:
                self._log.report("missing_channel", span.start, span.content_start)
            self._pending = _Pending(ended, self._log.take(), unclosed)
            if is_call_without_name:
                self._release(Channel.COMMENTARY)
        elif unclosed is not None and not self.is_over:
            self._pending = _Pending(ended, self._log.take(), unclosed)
        else:
            self._note(header, content)
            self.add(ended, self._log.take())
        if is_in_turn and not self.is_over and token in _TURN_ENDING_TOKENS:
            self._finish(_TURN_ENDING_TOKENS[token], span.content_end)

    def _note(self, header: Header, content: str) -> None:
        """Note what the rules for later messages need to know of a message."""
        if self.is_completion and not self.is_over:
            if header.is_call:
                self._called = True
                self._awaiting |= bool(content)
            elif header.channel == Channel.FINAL:
                self._answered = True

    def add(self, ended: EndedMessage, problems: list[Problem]) -> None:
        """Add a message with its problems.

        Raises:
            ParseError: Parsing is strict, and there is a problem.
        """
        header, content, span, terminator, is_cut, tokens = ended
        self._log.check(None if is_cut else span.end)
        allowed = _OF_A_CUT if is_cut else _NOT_OF_FRAMING
        is_clean = not self._log.omitted and all(found.code in allowed for found in problems)
        # After the end of the turn, the problems of a message are not reported.
        if self.is_over or not is_clean:
            is_closed = header.is_call and terminator is Terminator.CALL
            tokens = CLOSED_CALL if is_closed else None
        message = trusted_message(header, content, tokens)
        parsed = ParsedMessage(message, span, terminator, tuple(problems), not is_cut)
        if not self.is_over and self._events is not None:
            self._events.append(MessageEnded(len(self.parsed), parsed))
        self.parsed.append(parsed)

    @property
    def is_simple(self) -> bool:
        """Whether a message without a problem can be appended to `parsed` directly."""
        has_no_rules = not self.is_completion and self._pending is None
        return has_no_rules and self._events is None

    def add_plain(self, parsed: ParsedMessage) -> bool:
        """Add a whole message, from `<|start|>` to its terminator, if no rule applies to it.

        Returns:
            Whether it was added; if not, it must be read step by step.
        """
        header, content, terminator = parsed.header, parsed.text, parsed.terminator
        if self.is_over or self._pending is not None:
            return False
        if self.is_completion and not self._is_plain(header, content, terminator):
            return False
        if self._events is not None:
            self._begin_late(header, content)
            self._log.check(parsed.span.end)
            self._events.append(MessageEnded(len(self.parsed), parsed))
        self.parsed.append(parsed)
        if self.is_completion:
            self._stray_end = None
            self._note(header, content)
            if terminator is Terminator.RETURN:
                self._finish(TurnEnd.RETURN, parsed.span.content_end)
        return True

    def _is_plain(self, header: Header, content: str, terminator: Terminator | None) -> bool:
        if header.role is not Role.ASSISTANT or header.channel not in _KNOWN:
            return False
        follows_call = self._last_terminator() is Terminator.CALL
        return not (
            start_problems(header, True, self._answered, self._awaiting, follows_call)
            or end_problems(header, bool(content), False, terminator, False)
        )

    def _release(self, channel: Channel = Channel.ANALYSIS, *, is_followed: bool = False) -> None:
        """Add the pending message, if there is one.

        Args:
            channel: Its channel, if it has none.
            is_followed: Whether another message of the turn follows.
        """
        if self._pending is None:
            return
        (ended, problems, unclosed), self._pending = self._pending, None
        header, content, span = ended.header, ended.content, ended.span
        is_missing = self.is_completion and header.channel is None and not header.is_call
        is_word = self.is_completion and is_word_for_answers(header)
        if is_missing or is_word:
            is_answer = channel is Channel.FINAL
            if is_word:
                is_answer = is_answer and not self._answered and bool(content.strip())
            if is_missing or is_answer:
                header = header._replace(channel=channel.value)
                ended = ended._replace(header=header)
            self._begin_late(header, content)
            if is_word and is_answer:
                place = (span.start, span.content_start)
                self._log.report("answer_on_unknown_channel", *place, home=problems)
            if is_answer:
                self._report_late(header, content, span, problems)
        if is_followed and unclosed is not None:
            self._log.report("missing_terminator", unclosed, unclosed, home=problems)
        self._log.settle()
        self._note(header, content)
        self.add(ended, problems)

    def _begin_late(self, header: Header, content: str) -> None:
        """Report the events of a message all at once."""
        self._log.settle()
        if self._events is not None:
            index = len(self.parsed)
            self._events.append(MessageStarted(index, header))
            if content:
                self._events.append(ContentDelta(index, header, content))

    def _report_late(
        self, header: Header, content: str, span: MessageSpan, problems: list[Problem]
    ) -> None:
        """Report the problems of a pending message that turned out to be the answer."""
        if not content:
            self._log.report("empty_final", span.start, span.end, home=problems)
        codes = start_problems(header, False, self._answered, self._awaiting, False)
        for code in codes:
            self._log.report(code, span.start, span.content_start, home=problems)

    def _last_terminator(self) -> Terminator | None:
        if self._pending is not None:
            return self._pending.ended.terminator
        return self.parsed[-1].terminator if self.parsed else None

    @property
    def _follows_call(self) -> bool:
        if self._pending is not None:
            return self._pending.ended.header.is_call
        return bool(self.parsed) and self.parsed[-1].header.is_call

    # --- The end of the turn ---

    def stray_terminator(self, token: int, position: int) -> None:
        """Note a terminator without a message: it ends the turn if nothing follows."""
        if token == END_OF_TEXT and self.is_completion and not self.is_over:
            self._finish(TurnEnd.ENDOFTEXT, position)
        self._stray_end = TurnEnd.RETURN if token == RETURN else None
        if token == CALL and self._follows_call:
            self._stray_end = TurnEnd.CALL

    def cut(self) -> None:
        """Note that the input ends inside a header."""
        self._is_cut = True

    def _finish(self, end: TurnEnd, position: int, *, is_followed: bool = True) -> None:
        self._release(Channel.FINAL, is_followed=is_followed)
        is_ended = bool(self.parsed) and end not in (TurnEnd.CALL, TurnEnd.LENGTH)
        if (is_ended or self._is_cut) and not self._answered and not self._called:
            self._log.report("no_final", position, position, home=self._log.stray)
        self.end = end
        self.length = len(self.parsed)
        self.is_over = self._log.after_turn = True

    def finish(self, position: int) -> None:
        """End the input at a position."""
        if not self.is_completion:
            self._release(is_followed=True)
            return
        if not self.is_over:
            called = self._last_terminator() is Terminator.CALL
            self._finish(TurnEnd.CALL if called else self._stray_end or TurnEnd.LENGTH, position)
        if not self.parsed and not self._is_cut:
            self._log.report("empty_output", 0, 0, home=self._log.stray)
