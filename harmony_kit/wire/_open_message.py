"""The message being read: what its parts are, once it is known where they begin and end."""

from __future__ import annotations

from typing import Final

from ._chunks import has_text
from ._events import TERMINATORS, ContentDelta, Event, MessageSpan
from ._header.reading import HeaderReading
from ._header.unmarked import read_unmarked
from ._header_cache import HeaderCache
from ._message_ids import MessageIds
from ._messages import Header
from ._problems import ProblemLog
from ._render import next_header
from ._roles import Channel, Role
from ._text_buffer import TextBuffer
from ._turn import EndedMessage, Turn
from ._vocabulary import CHANNEL, END_OF_TEXT, FIRST_SPECIAL, START, ordinary_token_table

# The states. Plain numbers, because they are compared for every chunk.
BETWEEN: Final = 0
HEADER: Final = 1
CONTENT: Final = 2

# Rules for what a model generates, which do not apply to the other messages of a conversation.
_RULES_OF_COMPLETIONS: Final = frozenset({"unknown_channel", "unknown_content_type"})
# Texts before <|channel|> that are not the content of a message.
_NO_CONTENT: Final = frozenset({"", *(channel.value for channel in Channel)})

_make = tuple.__new__


class OpenMessage:
    """Collects the parts of one message after another, and hands each message to a turn.

    Args:
        role: The role with which the prompt ended; `None` if the tokens begin with `<|start|>`.
        turn: Judges the messages.
        log: Receives the problems.
        events: Receives the events, or `None`.
        ids: The ids of the message.

    Attributes:
        state: `BETWEEN` messages, or in the `HEADER` or `CONTENT` of one.
        start: The position of the message.
        content_start: The position of its content.
        given_role: The role that the header does not name: that of the prompt, or the assistant's
            after a missing `<|start|>`.
        header_tokens: The tokens of the header so far.
        header: The header, while the content is being read; else `None`.
        text: The content.
        headers: The headers read before.
        ids: The ids.
        is_input_broken: Whether the input ended inside the spelling of a special token.
    """

    __slots__ = (
        "_events",
        "_has_start",
        "_header_start",
        "_is_unmarked",
        "_log",
        "_turn",
        "content_start",
        "given_role",
        "header",
        "header_tokens",
        "headers",
        "ids",
        "is_input_broken",
        "start",
        "state",
        "text",
    )

    def __init__(
        self,
        role: Role | None,
        turn: Turn,
        log: ProblemLog,
        events: list[Event] | None,
        ids: MessageIds,
    ) -> None:
        self._turn = turn
        self._log = log
        self._events = events
        self.ids = ids
        self.headers = HeaderCache()
        self.text = TextBuffer()
        self.state = BETWEEN if role is None else HEADER
        self.is_input_broken = False
        self.start = 0
        self.given_role = role
        self._has_start = False
        self._header_start = 0
        self.header_tokens: list[int] = []
        self.header: Header | None = None
        self.content_start = 0
        self._is_unmarked = False  # whether <|message|> is missing

    @property
    def takes_text(self) -> bool:
        """Whether an ordinary token that is valid UTF-8 is content, and reported as an event."""
        return self.state == CONTENT and not self.text.pending and self._turn.shows

    # --- The header ---

    def begin(self, start: int, header_start: int, *, has_start: bool) -> None:
        """A message begins.

        Args:
            start: Its position.
            header_start: The position of the first token after `<|start|>`.
            has_start: Whether it has `<|start|>`.
        """
        if self._turn.is_over and not self._log.has_trailing:
            self._log.report("trailing_tokens", start, header_start)
        self.state = HEADER
        self.start = start
        self._has_start = has_start
        self._header_start = header_start
        self.header_tokens = []
        self.given_role = None if has_start else Role.ASSISTANT
        self.ids.prompted = b""

    def end_header(self, position: int) -> None:
        """The header is complete: `<|message|>` is at a position."""
        reading = self.headers.read(self.given_role, self.header_tokens)
        self._report_header(reading)
        if self.ids.prompted and not self._continues_prompt(reading.header):
            self.ids.prompted = None
        self._is_unmarked = False
        self._begin_content(reading.header, position + 1)

    def _continues_prompt(self, header: Header) -> bool:
        """Whether the header reads the same with the prompt's role in front of its tokens.

        It does not if it repeats the role, or begins with text that would extend the role.
        """
        first = self.header_tokens[0] if self.header_tokens else CHANNEL
        is_text = 0 <= first < FIRST_SPECIAL
        if not is_text or ordinary_token_table()[first].startswith(b" "):
            return True
        role = [] if self.given_role is None else next_header(self.given_role)[1:]
        reading = self.headers.read(None, [*role, *self.header_tokens])
        return not reading.problems and reading.header == header

    def _report_header(self, reading: HeaderReading) -> None:
        for code, span, _, detail, _ in reading.problems:
            if self._turn.is_completion or code not in _RULES_OF_COMPLETIONS:
                start, end = span.start + self._header_start, span.end + self._header_start
                self._log.report(code, start, end, detail)

    def end_without_marker(self, token: int | None, position: int) -> None:
        """The header ends without `<|message|>`: find the content in it, if there is any.

        Args:
            token: What ends it: a terminator, `<|endoftext|>` or `<|start|>`; `None` at the end of
                the input.
            position: The position of that token.
        """
        tokens, self.header_tokens = self.header_tokens, []
        end = position if token in (None, START) else position + 1
        self.state = BETWEEN
        log, turn = self._log, self._turn
        if not self._has_start and not has_text(tokens):
            self._end_empty(token, position)
            return
        unmarked = read_unmarked(tokens, self.given_role, is_cut=token is None)
        header, body = unmarked.reading.header, unmarked.body
        if body is None and token is None:
            turn.cut()
            log.abandon()
            log.report("truncated_header", self.start, end, outside=True)
        elif body is None and not header.is_call:
            log.abandon()
            log.report("garbage_header", self.start, end, outside=True)
            if has_text(tokens):
                log.report("empty_message_dropped", self.start, end, home=log.stray)
            if token is not None:
                turn.stray_terminator(token, position)
        else:
            self._report_header(unmarked.reading)
            content_start = self._header_start + unmarked.body_start
            log.report("missing_message", content_start, content_start)
            self._is_unmarked = True
            self._begin_content(header, content_start)
            if body:
                self.text.chunks.append(body)
                self._show(body)
            self.end(token, position)

    def _end_empty(self, token: int | None, position: int) -> None:
        """A completion ends before its first header has any text."""
        self._log.abandon()
        if position > self.start:
            self._log.report("text_between_messages", self.start, position, outside=True)
        if token is not None and token != START:
            self._log.report("stray_terminator", position, position + 1, outside=True)
            self._turn.stray_terminator(token, position)

    # --- The content ---

    def _begin_content(self, header: Header, content_start: int) -> None:
        self.given_role = None
        self.header = self._turn.begin(header, self.start, content_start, self._has_start)
        self.content_start = content_start
        self.state = CONTENT

    def add(self, data: bytes) -> None:
        """Add bytes to the content."""
        text = self.text.decode(data)
        if text:
            self._show(text)

    def _show(self, text: str) -> None:
        turn = self._turn
        if self._events is not None and turn.shows:
            self._events.append(_make(ContentDelta, (len(turn.parsed), self.header, text)))

    # --- The end ---

    def end(self, token: int | None, position: int) -> None:
        """The content is complete: hand the message to the turn.

        Args:
            token: What ends it: a terminator, `<|endoftext|>`, or `<|start|>` or `<|channel|>` of
                the next message; `None` at the end of the input.
            position: The position of that token.
        """
        header = self.header
        assert header is not None
        text = self.text
        if text.pending:
            self._show(text.flush())
        content = text.text
        is_closed = token in TERMINATORS or token == END_OF_TEXT
        terminator = TERMINATORS.get(token) if token is not None else None
        edges = (self.start, self.content_start, position, position + is_closed)
        span: MessageSpan = _make(MessageSpan, edges)
        if text.has_bad_bytes:
            self._log.report("invalid_utf8", self.content_start, position)
        self._leave()
        self._report_end(token, position)
        tokens = self.ids.of_message(
            header, content, span, terminator, is_generated=self._turn.is_completion
        )
        ended = EndedMessage(header, content, span, terminator, token is None, tokens)
        self._turn.close(
            ended,
            token,
            is_unmarked=self._is_unmarked,
            unclosed=position if token == START else None,
        )

    def end_at_channel(self, position: int) -> None:
        """`<|channel|>` is inside the content: the next message has no `<|start|>`."""
        if self._turn.is_held and self.text.text.strip() in _NO_CONTENT:
            # Not a message, but a header that was begun twice.
            self._log.abandon()
            self._log.report("garbage_header", self.start, position, outside=True)
            self._leave()
            self._turn.is_held = False
        else:
            self.end(CHANNEL, position)
            self._log.report("missing_start", position, position)
        self.begin(position, position, has_start=False)

    def _leave(self) -> None:
        self.text.clear()
        self.header = None
        self.state = BETWEEN

    def _report_end(self, token: int | None, position: int) -> None:
        """Report a missing terminator; before `<|start|>`, the turn does."""
        if token == CHANNEL or (token is None and not self.is_input_broken):
            self._log.report("missing_terminator", position, position)
        elif token == END_OF_TEXT:
            self._log.report("ended_by_endoftext", position, position + 1)
