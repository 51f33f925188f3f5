"""Tokens to messages: one state machine, fed a token at a time or all at once.

`Parser` does no I/O. Tokens go in, events come out: a message started, a piece of its
content, the message ended, a problem was found. However the tokens are cut into chunks, the
messages and problems are the same, and the pieces of a content join to exactly that content.

Reading never fails: what a model should not have written is restored to what it meant, each
time with a `Problem` that names the tokens and the repair. No token is lost: each belongs to
a message or to a problem. Strict reading is the same machine, which raises a `ParseError`
where the lenient one reports its first problem.

The states, and what each token means in them (in brackets, the problem it is then):

    between   <|start|>      the header begins
              <|channel|>, <|constrain|>, <|message|>
                             it begins without [missing_start]
              a terminator   closes the text before it [missing_message], or nothing
                             [stray_terminator]
              text           is held until one of these comes [text_between_messages]
    header    <|message|>    the content begins
              <|start|>      the header begins anew [repeated_start]
              a terminator   closes a content that began within [missing_message]; or there
                             is none [garbage_header]
              others         are part of the header
    content   a terminator   closes the message
              <|start|>, <|channel|>
                             begin the next one [missing_terminator]
              others         are content; special tokens as their spelling
                             [special_token_in_body]

A *completion* (the prompt ended with `<|start|>assistant`) is one turn of the assistant. There,
messages of others are forged and end the turn before them, and a message without a channel
waits for what follows: it is the final answer if it ends the turn, and reasoning if another
message comes. A *conversation* (no role, or another one) may hold anything.
"""

from __future__ import annotations

from array import array
from codecs import utf_8_decode
from collections.abc import Iterable, Sequence
from functools import cache
from operator import itemgetter
from typing import Final, NamedTuple, NoReturn

from .errors import HarmonyError, ParseError, UnknownTokenError
from .header import Header, HeaderReading, call_channel_problem, read_header, read_unmarked
from .messages import Channel, Message, Role, trusted_message
from .parsed import (
    TURN_ENDS,
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParseResult,
    ProblemFound,
    Terminator,
    TurnEnd,
    parse_result,
)
from .problems import PROBLEM_KINDS, Problem, Span, problem
from .vocabulary import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    END_OF_TEXT,
    FIRST_SPECIAL,
    MESSAGE,
    NAMED_SPECIAL_TOKENS,
    RETURN,
    SIZE,
    SPECIAL_TOKEN_NAMES,
    START,
    decode_leniently,
    ordinary_token_table,
)


def parse(
    tokens: Iterable[int], *, role: Role | str | None = Role.ASSISTANT, strict: bool = False
) -> ParseResult:
    """Parse a whole sequence of tokens.

    Args:
        tokens: Token ids: a completion, as it follows a prompt that ends in
            `<|start|>assistant`; with `role=None` a conversation that begins with
            `<|start|>`.
        role: The role with which the prompt ended, or `None`.
        strict: Whether to raise at the first problem instead of repairing it.

    Raises:
        ParseError: With `strict`: there is a problem; the error names code and token.
        UnknownTokenError: A value is no integer; with `strict` also an id that is not in the
            vocabulary.
    """
    tokens = tokens if isinstance(tokens, list) else list(tokens)
    parser = Parser(role=role, strict=strict)
    result = _parse_well_formed(tokens, parser.role)
    if result is not None:
        return result
    parser.feed(tokens)
    parser.close()
    return parser.result()


def _parse_well_formed(tokens: list[int], role: Role | None) -> ParseResult | None:
    """Parse tokens that have no problem at all, the quick way; `None` for all others.

    The state machine gives the same result for them, several times slower: here no event is
    made and no state kept.
    """
    try:
        pieces = [*_look_up(tokens), b""]
    except _NO_TOKEN_ID:
        return None
    messages: list[Message] = []
    spans: list[MessageSpan] = []
    terminators: list[Terminator | None] = []
    headers: dict[tuple[int, ...], Header] = {}
    start = 0
    length = len(tokens)
    given = role is not None
    is_completion = role is Role.ASSISTANT
    turn_end = None
    answered = False
    try:
        while start < length:
            if given:
                given = False
                content = tokens.index(MESSAGE) + 1
                header, problems = read_header(tokens[: content - 1], role)
                if problems:
                    return None
            else:
                if tokens[start] != START or turn_end is not None:
                    return None
                content = tokens.index(MESSAGE, start) + 1
                key = tuple(tokens[start + 1 : content - 1])
                known = headers.get(key)
                if known is None:
                    known, problems = read_header(key, None)
                    if problems:
                        return None
                    headers[key] = known
                header = known
            end = pieces.index(b"", content)
            terminator = _TERMINATORS[tokens[end]]  # KeyError at the end of the tokens, too
            text = b"".join(pieces[content:end]).decode()
            if is_completion:
                if not _is_plain(header, terminator, text, answered):
                    return None
                answered = answered or header.channel == Channel.FINAL
                turn_end = TURN_ENDS.get(terminator)
            author, name, channel, recipient, content_type, constrained = header
            messages.append(
                trusted_message(author, text, name, channel, recipient, content_type, constrained)
            )
            spans.append(_make(MessageSpan, (start, content, end, end + 1)))
            terminators.append(terminator)
            start = end + 1
    except (KeyError, IndexError, ValueError):
        return None
    if is_completion:
        if not messages or (turn_end is TurnEnd.RETURN and not answered):
            return None
        turn_end = turn_end or TurnEnd.LENGTH
    return parse_result(
        messages, spans, terminators, turn_end=turn_end, turn_messages=len(messages)
    )


def _is_plain(header: Header, terminator: Terminator, text: str, answered: bool) -> bool:
    """Whether a message of a completion gives rise to no problem."""
    if header.role is not Role.ASSISTANT or header.channel is None:
        return False
    if header.is_call:
        is_call = terminator is Terminator.CALL and not answered
        return is_call and call_channel_problem(header) is None
    return terminator is not Terminator.CALL and (bool(text) or header.channel != Channel.FINAL)


# --- The state machine ----------------------------------------------------------------------


# The states. Plain numbers, for they are compared at every chunk.
_BETWEEN: Final = 0
_HEADER: Final = 1
_CONTENT: Final = 2
_CLOSED: Final = 3
_FAILED: Final = 4

_TERMINATORS: Final = {
    END: Terminator.END,
    CALL: Terminator.CALL,
    RETURN: Terminator.RETURN,
}
_ENDS_TURN: Final = {RETURN: TurnEnd.RETURN, END_OF_TEXT: TurnEnd.ENDOFTEXT}
_ENDS_HEADER: Final = frozenset({START, MESSAGE, END_OF_TEXT, *_TERMINATORS})
_ENDS_CONTENT: Final = frozenset({START, CHANNEL, END_OF_TEXT, *_TERMINATORS})
_FORGED: Final = {
    Role.USER: "hallucinated_turn",
    Role.TOOL: "hallucinated_tool_message",
    Role.SYSTEM: "forged_role",
    Role.DEVELOPER: "forged_role",
}
# Rules for what the model writes, not for what others put into a conversation.
_RULES_OF_COMPLETIONS: Final = frozenset({"unknown_channel", "unknown_content_type"})
# What is still worth saying of tokens after the end of the turn.
_SAID_OF_THE_REST: Final = frozenset(
    {"trailing_tokens", "unknown_token", "empty_output", *_FORGED.values()}
)

# How many different headers a parser remembers. Their number is small in any real output.
_HEADERS_KEPT: Final = 1000

PROBLEMS_KEPT: Final = 10_000
"""How many problems a parser tells apart.

Of more, those about tokens of a message are only counted; those about tokens that belong to
no message are kept as `more_problems`, one for each stretch of such tokens.
"""

_make = tuple.__new__


class _Undecided(NamedTuple):
    """A message without a channel that has ended, and waits for what follows."""

    header: Header
    content: str
    span: MessageSpan
    terminator: Terminator | None


class Parser:
    """Parses tokens as they arrive.

    A parser can be pickled between two calls, and goes on where it was.

    Args:
        role: The role with which the prompt ended (`<|start|>assistant`), so that the first
            header goes on from there; `None` if the tokens begin with `<|start|>`. If the
            prompt ended in a prefill, feed that first.
        strict: Whether to raise at the first problem instead of repairing it.

    Raises:
        HarmonyError: The role is unknown, or that of a tool, whose header has to name it.

    Example:
        >>> parser = Parser()
        >>> for token in completion:
        ...     for event in parser.feed(token):
        ...         if isinstance(event, ContentDelta) and event.channel == "final":
        ...             print(event.text, end="")
        >>> parser.close()
    """

    __slots__ = (
        "_answered",
        "_awaiting",
        "_broken",
        "_called",
        "_content",
        "_content_start",
        "_deltas",
        "_error",
        "_events",
        "_given_role",
        "_has_bad_bytes",
        "_has_stray_return",
        "_header",
        "_header_start",
        "_header_tokens",
        "_headers",
        "_incomplete",
        "_is_completion",
        "_is_cut",
        "_is_held",
        "_is_over",
        "_is_unmarked",
        "_last_problem",
        "_messages",
        "_met",
        "_pending",
        "_pieces",
        "_position",
        "_problems",
        "_problems_omitted",
        "_rest_reported",
        "_role",
        "_run",
        "_spans",
        "_start",
        "_started",
        "_state",
        "_streamed",
        "_strict",
        "_terminators",
        "_turn_end",
        "_turn_messages",
        "_undecided",
        "_unterminated",
    )

    def __init__(self, *, role: Role | str | None = Role.ASSISTANT, strict: bool = False) -> None:
        try:
            self._role = None if role is None else Role(role)
        except ValueError:
            raise HarmonyError(f"unknown role {role!r}") from None
        if self._role is Role.TOOL:
            raise HarmonyError("a tool's header names the tool: use role=None and <|start|>")
        self._strict = strict
        self._is_completion = self._role is Role.ASSISTANT
        self._headers: dict[tuple[Role | None, tuple[int, ...]], HeaderReading] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all that was fed, and begin anew with the same role."""
        self._state = _BETWEEN if self._role is None else _HEADER
        self._position = 0  # how many tokens were consumed, but for those in _streamed
        self._events: list[Event] = []  # of the current call
        self._error: HarmonyError | None = None
        self._broken = 0  # how many units of a special token that broke off end the input
        # What was read.
        self._messages: list[Message] = []
        self._spans: list[MessageSpan] = []
        self._terminators: list[Terminator | None] = []
        self._problems: list[Problem] = []
        self._problems_omitted = 0
        self._last_problem: Problem | None = None  # may still grow by one like it
        # Between messages: the tokens since the last one, and where they or the message begin.
        self._run: list[int] = []
        self._start = 0
        # The header that is being read.
        self._given_role = self._role
        self._started = False  # whether it began with <|start|>
        self._header_start = 0
        self._header_tokens: list[int] = []
        # The content that is being read.
        self._header: Header | None = None
        self._is_unmarked = False  # whether there was no <|message|>
        self._content_start = 0
        self._content = ""
        self._pieces: list[str] = []  # of the content, not yet joined to the rest
        self._pending = b""  # the beginning of a character whose end has not come
        self._has_bad_bytes = False
        # The delta of every token met in this message that is plain text by itself; None while
        # no such token can come. And those given since the state was last settled.
        self._deltas: dict[int, ContentDelta] | None = None
        self._met: dict[int, ContentDelta] = {}
        self._streamed: list[ContentDelta] = []
        # The turn, if this is a completion.
        self._is_held = False  # whether the current message waits for its channel
        self._undecided: _Undecided | None = None
        self._unterminated: int | None = None  # where the last message was left open
        self._answered = False  # whether there was a final answer
        self._called = False  # whether there was a call
        self._awaiting = False  # whether one with arguments awaits its result
        self._is_cut = False  # whether the tokens ended inside something
        self._has_stray_return = False  # whether a <|return|> closed nothing since
        self._is_over = False  # whether the turn has ended
        self._rest_reported = False  # whether something came after its end
        self._turn_end: TurnEnd | None = None
        self._turn_messages: int | None = None
        self._incomplete: int | None = None

    # --- What was read ---

    @property
    def role(self) -> Role | None:
        """The role that the prompt gave, until the first header is read."""
        return self._given_role

    @property
    def strict(self) -> bool:
        """Whether the first problem raises."""
        return self._strict

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that are complete, and known to be what they are."""
        return tuple(self._messages)

    @property
    def header(self) -> Header | None:
        """The header of the message whose content is being read, or `None`."""
        return self._header

    @property
    def content(self) -> str:
        """The content so far of the message that is being read; empty between messages.

        Reading it at every step costs only what is new, as long as the text read before is
        not kept.
        """
        if self._streamed:
            self._settle()
        if self._pieces:
            # With no other reference to the text, CPython appends to it in place.
            content, self._content = self._content, ""
            content += "".join(self._pieces)
            self._content = content
            self._pieces.clear()
        return self._content

    @property
    def position(self) -> int:
        """How many tokens were consumed."""
        return self._position + len(self._streamed)

    @property
    def turn_ended(self) -> bool:
        """Whether the turn of a completion is over, so that nothing more is to be generated."""
        return self._is_over

    def result(self) -> ParseResult:
        """The messages that are complete, and what else is known so far."""
        problems = [*self._problems]
        if self._last_problem is not None:
            problems.append(self._last_problem)
        turn = self._turn_messages
        return parse_result(
            self._messages,
            self._spans,
            self._terminators,
            problems=tuple(problems),
            problems_omitted=self._problems_omitted,
            turn_end=self._turn_end,
            turn_messages=len(self._messages) if turn is None else turn,
            incomplete=self._incomplete,
        )

    # --- Input ---

    def feed(self, tokens: int | Sequence[int]) -> list[Event]:
        """Consume one token or several.

        Args:
            tokens: A token id, or a sequence of them.

        Returns:
            What happened, in order. The content of a message comes as one delta per call.
            While it is not decided what a message is, nothing of it is given. Messages after
            the end of the turn give no events; they are in the result.

        Raises:
            ParseError: With `strict`, there is a problem. If something happened before the
                fault, that is returned, and the next call raises. From then on every call
                does; what was complete stays in `messages`.
            UnknownTokenError: A value is no integer; with `strict`, a token id is not in the
                vocabulary; likewise.
        """
        if isinstance(tokens, int):
            # The path of nearly every token of a stream: plain text within a content.
            deltas = self._deltas
            if deltas is not None:
                delta = deltas.get(tokens) or self._new_delta(tokens)
                if delta is not None:
                    self._streamed.append(delta)
                    return [delta]
            tokens = (tokens,)
        elif len(tokens) == 1 and isinstance(tokens[0], int):
            return self.feed(tokens[0])  # engines stream their tokens like that
        elif self._deltas is not None and not self._streamed:
            # Likewise of a chunk that is plain text and ends with a whole character.
            try:
                array("I", tokens)  # as in _look_up
                text = b"".join(itemgetter(*tokens)(_joinable_table())).decode()
            except _NOT_PLAIN:
                pass
            else:
                self._pieces.append(text)
                self._position += len(tokens)
                return [_make(ContentDelta, (len(self._messages), self._header, text))]
        try:
            self._consume(tokens if isinstance(tokens, list | tuple) else list(tokens))
        except HarmonyError as error:
            self._fail(error)
            if not self._events:
                raise
        events, self._events = self._events, []
        return events

    def close(self) -> list[Event]:
        """Say that no more tokens come. What is not closed ends here.

        Raises:
            ParseError: With `strict`: something is incomplete, or there was a problem before.
            UnknownTokenError: A value before was no token id.
        """
        self._settle()
        self._deltas = None
        if self._state == _FAILED:
            self._refuse()
        if self._state != _CLOSED:
            try:
                self._close()
            except HarmonyError as error:
                self._fail(error)
                raise
        self._state = _CLOSED
        events, self._events = self._events, []
        return events

    def close_broken(self, length: int) -> list[Event]:
        """Like `close`, after the beginning of a special token that broke off.

        Token ids never break off; the reader of texts has need of this.

        Args:
            length: How many more units of input that beginning has.

        Raises:
            ParseError: As for `close`.
        """
        self._broken = length
        return self.close()

    def _fail(self, error: HarmonyError) -> None:
        self._state = _FAILED
        self._deltas = None
        self._error = error

    def _refuse(self) -> NoReturn:
        raise self._error or HarmonyError("the parser is closed")

    # --- One token of plain text ---

    def _new_delta(self, token: int) -> ContentDelta | None:
        """The delta of a token that is plain text by itself and new in this message."""
        if not 0 <= token < FIRST_SPECIAL:
            return None
        piece = ordinary_token_table()[token]
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            return None
        delta: ContentDelta = _make(ContentDelta, (len(self._messages), self._header, text))
        self._met[token] = delta
        return delta

    def _settle(self) -> None:
        """Enter into the state what tokens of plain text were streamed."""
        self._position += len(self._streamed)
        self._pieces += [delta.text for delta in self._streamed]
        self._streamed.clear()

    # --- Any tokens ---

    def _consume(self, tokens: Sequence[int]) -> None:
        if self._state >= _CLOSED:
            self._refuse()
        if self._streamed:
            self._settle()
        length = len(tokens)
        try:
            found = _look_up(tokens)
        except _NO_TOKEN_ID:
            found = self._look_up_each(tokens)
        if self._state == _CONTENT and b"" not in found:
            self._add_content(b"".join(found))
            self._position += length
            return
        # The bytes of each token; none for those that are not plain text, and for the end.
        pieces = [*found, b""]
        origin = self._position
        index = 0
        while index < length:
            if self._state == _CONTENT:
                index = self._read_content(tokens, pieces, index)
            elif self._state == _HEADER:
                index = self._read_header(tokens, pieces, index)
            else:
                index = self._read_between(tokens, pieces, index)
            self._position = origin + index

    def _look_up_each(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token where some are none; refuses what can be none."""
        table = ordinary_token_table()
        found: list[bytes] = []
        for index, token in enumerate(tokens):
            is_integer = isinstance(token, int)
            if not is_integer or (self._strict and not 0 <= token < SIZE):
                self._consume(tokens[:index])
                raise UnknownTokenError(token, self._position)
            found.append(table[token] if 0 <= token < FIRST_SPECIAL else b"")
        return found

    def _close(self) -> None:
        position = self._position
        if self._state == _CONTENT:
            self._end_message(None, position)
        elif self._state == _HEADER:
            self._end_header(None, position)
        elif self._is_completion and not self._is_over and _has_text(self._run):
            self._end_text(None, position)
        else:
            self._end_run()
        if self._broken:
            end = position + self._broken
            self._report("partial_special_token", position, end, outside=True)
        if self._is_completion:
            self._close_turn(position)
        else:
            self._report_unterminated()
        self._keep_last_problem()

    # --- Between messages ---

    def _read_between(self, tokens: Sequence[int], pieces: list[bytes], begin: int) -> int:
        """Read up to what begins a message, or to the end of the chunk."""
        end = pieces.index(b"", begin)
        if self._strict and tokens[begin] != START:
            code = "trailing_tokens" if self._is_over else "missing_start"
            name = _name(tokens[begin], self._position)
            raise ParseError(code, f"expected <|start|>, found {name}", position=self._position)
        if not self._run:
            self._start = self._position
        self._run += tokens[begin:end]
        if end == len(tokens):
            return end
        token = tokens[end]
        position = self._position + end - begin
        if token == START:
            self._end_run()
            self._begin_header(position, position + 1, started=True)
        elif token == CHANNEL or (token in (MESSAGE, CONSTRAIN) and not self._is_over):
            self._restore_start(position)
            return end
        elif token not in _TERMINATORS and token != END_OF_TEXT:
            self._spell(token, position)
            self._run.append(token)
        elif self._is_completion and not self._is_over and _has_text(self._run):
            self._end_text(token, position)
        else:
            self._end_run()
            self._report("stray_terminator", position, position + 1, outside=True)
            self._end_at_stray(token, position)
        return end + 1

    def _end_run(self) -> None:
        """Keep apart the tokens since the last message."""
        if self._run:
            end = self._start + len(self._run)
            self._report("text_between_messages", self._start, end, outside=True)
            self._run = []

    def _restore_start(self, position: int) -> None:
        """A message begins with a marker: its `<|start|>` was left out."""
        start = position
        if _says_nothing(self._run):
            start -= len(self._run)
            self._run = []
        else:
            self._end_run()
        self._report("missing_start", position, position)
        self._begin_header(start, position, started=False)

    def _end_text(self, token: int | None, position: int) -> None:
        """A text between messages was closed: it is a message without a header."""
        run, self._run = self._run, []
        self._report("missing_start", self._start, self._start)
        self._begin_header(self._start, self._start, started=False)
        self._header_tokens = run
        self._end_header(token, position)

    # --- Headers ---

    def _begin_header(self, start: int, header_start: int, *, started: bool) -> None:
        if self._is_over and not self._rest_reported:
            self._report("trailing_tokens", start, header_start)
        self._state = _HEADER
        self._start = start
        self._started = started
        self._header_start = header_start
        self._header_tokens = []
        self._given_role = None if started else Role.ASSISTANT

    def _read_header(self, tokens: Sequence[int], pieces: list[bytes], begin: int) -> int:
        """Read to the end of the header or of the chunk; returns the index after it."""
        end = pieces.index(b"", begin)
        length = len(tokens)
        while end < length and tokens[end] not in _ENDS_HEADER:
            if self._strict and tokens[end] not in (CHANNEL, CONSTRAIN):
                position = self._position + end - begin
                reason = f"{_name(tokens[end], position)} inside a header"
                raise ParseError("special_token_in_header", reason, position=position)
            end = pieces.index(b"", end + 1)
        self._header_tokens += tokens[begin:end]
        if end == length:
            return end
        token = tokens[end]
        position = self._position + end - begin
        if token == MESSAGE:
            self._begin_content(position)
        elif token == START and _says_nothing(self._header_tokens):
            self._report("repeated_start", position, position + 1)
            self._begin_header(self._start, position + 1, started=True)
        else:
            self._end_header(token, position)
            if token == START:
                self._begin_header(position, position + 1, started=True)
        return end + 1

    def _begin_content(self, position: int) -> None:
        """The header is complete: `<|message|>` stands at the position."""
        key = (self._given_role, tuple(self._header_tokens))
        reading = self._headers.get(key)
        if reading is None:
            reading = read_header(key[1], key[0])
            if len(self._headers) < _HEADERS_KEPT and len(key[1]) < _HEADERS_KEPT:
                self._headers[key] = reading
        self._report_header(reading)
        self._is_unmarked = False
        self._begin_message(reading.header, position + 1)

    def _report_header(self, reading: HeaderReading) -> None:
        for code, span, _, detail, _ in reading.problems:
            if self._is_completion or code not in _RULES_OF_COMPLETIONS:
                start, end = span.start + self._header_start, span.end + self._header_start
                self._report(code, start, end, detail)

    def _end_header(self, token: int | None, position: int) -> None:
        """A header that no `<|message|>` ended: find its content, or keep it apart.

        Args:
            token: What stands there: a terminator, `<|endoftext|>` or `<|start|>`; `None` at
                the end of the tokens.
            position: Where that stands.
        """
        tokens, self._header_tokens = self._header_tokens, []
        end = position if token in (None, START) else position + 1
        self._state = _BETWEEN
        if not self._started and not _has_text(tokens):
            self._end_nothing(token, position)
            return
        unmarked = read_unmarked(tokens, self._given_role, is_cut=token is None)
        header, body = unmarked.reading.header, unmarked.body
        if body is None and token is None:
            self._is_cut = True
            self._report("truncated_header", self._start, end, outside=True)
        elif body is None and not header.is_call:
            self._report("garbage_header", self._start, end, outside=True)
            if _has_text(tokens):
                self._report("empty_message_dropped", self._start, end)
            self._end_at_stray(token, position)
        else:
            self._report_header(unmarked.reading)
            content_start = self._header_start + unmarked.body_start
            self._report("missing_message", content_start, content_start)
            self._is_unmarked = True
            self._begin_message(header, content_start)
            self._show(body or "")
            self._end_message(token, position)

    def _end_nothing(self, token: int | None, position: int) -> None:
        """A completion was closed before it said anything."""
        if position > self._start:
            self._report("text_between_messages", self._start, position, outside=True)
        if token is not None and token != START:
            self._report("stray_terminator", position, position + 1, outside=True)
            self._end_at_stray(token, position)

    # --- Contents ---

    def _begin_message(self, header: Header, content_start: int) -> None:
        self._given_role = None
        self._has_stray_return = False
        if self._is_completion:
            header = self._place_in_turn(header, content_start)
        else:
            self._report_unterminated()
        self._header = header
        self._content_start = content_start
        self._state = _CONTENT
        if not self._is_held and not self._is_over:
            self._deltas = self._met = {}
            self._keep_last_problem()
            self._events.append(_make(MessageStarted, (len(self._messages), header)))

    def _read_content(self, tokens: Sequence[int], pieces: list[bytes], begin: int) -> int:
        """Read to the end of the content or of the chunk; returns the index after it."""
        end = pieces.index(b"", begin)
        length = len(tokens)
        while end < length and tokens[end] not in _ENDS_CONTENT:
            position = self._position + end - begin
            if tokens[end] == MESSAGE and position == self._content_start:
                self._report("repeated_message", position, position + 1)
                self._content_start = position + 1
            else:
                pieces[end] = self._spell(tokens[end], position)
            end = pieces.index(b"", end + 1)
        if end > begin:
            self._add_content(b"".join(pieces[begin:end]))
        if end == length:
            return end
        token = tokens[end]
        position = self._position + end - begin
        if token == CHANNEL:
            self._end_by_channel(position)
            return end
        self._end_message(token, position)
        if token == START:
            self._begin_header(position, position + 1, started=True)
        return end + 1

    def _spell(self, token: int, position: int) -> bytes:
        """How a special or unknown token is read as text."""
        name = SPECIAL_TOKEN_NAMES.get(token)
        if name is None:
            if self._strict:
                raise UnknownTokenError(token, position)
            self._report("unknown_token", position, position + 1, str(token))
            return b"\xef\xbf\xbd"
        is_named = token in NAMED_SPECIAL_TOKENS
        code = "special_token_in_body" if is_named else "reserved_special_token"
        self._report(code, position, position + 1, name)
        return name.encode()

    def _add_content(self, data: bytes) -> None:
        """Add bytes to the current content, but for a last character that is not whole yet."""
        if self._pending:
            data = self._pending + data
        try:
            text, consumed = utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            self._has_bad_bytes = True
            text, consumed = utf_8_decode(data, "replace", False)
        self._show(text)
        self._pending = data[consumed:]
        shows = not self._is_held and not self._is_over
        self._deltas = self._met if shows and not self._pending else None

    def _show(self, text: str) -> None:
        if not text:
            return
        self._pieces.append(text)
        if not self._is_held and not self._is_over:
            self._events.append(_make(ContentDelta, (len(self._messages), self._header, text)))

    def _end_by_channel(self, position: int) -> None:
        """`<|channel|>` inside a content: the next message began without `<|start|>`."""
        if self._is_held and self.content.strip() in _SAYS_NOTHING:
            # Not a message, but a header that was begun twice.
            self._report("garbage_header", self._start, position, outside=True)
            self._leave_content()
            self._is_held = False
        else:
            self._end_message(CHANNEL, position)
            self._report("missing_start", position, position)
        self._begin_header(position, position, started=False)

    def _leave_content(self) -> None:
        self._content = ""
        self._pieces.clear()
        self._pending = b""
        self._has_bad_bytes = False
        self._header = None
        self._deltas = None
        self._met = {}
        self._state = _BETWEEN

    def _end_message(self, token: int | None, position: int) -> None:
        """Close the current message.

        Args:
            token: What closes it: a terminator, `<|endoftext|>`, or `<|start|>` or
                `<|channel|>` of the next message; `None` at the end of the tokens.
            position: Where that stands: one past the content.
        """
        header = self._header
        assert header is not None
        if self._pending:
            self._has_bad_bytes = True
            self._show(self._pending.decode("utf-8", "replace"))
        content = self.content
        is_closed = token in _TERMINATORS or token == END_OF_TEXT
        terminator = _TERMINATORS.get(token) if token is not None else None
        edges = (self._start, self._content_start, position, position + is_closed)
        span: MessageSpan = _make(MessageSpan, edges)
        if self._has_bad_bytes:
            self._report("invalid_utf8", self._content_start, position)
        self._leave_content()
        self._check_end(token, position)
        is_in_turn = self._is_completion and not self._is_over
        if is_in_turn:
            self._check_message(header, content, span, terminator)
        if self._is_held:
            self._is_held = False
            self._undecided = _Undecided(header, content, span, terminator)
            self._report("missing_channel", self._start, self._content_start)
            if terminator is Terminator.CALL and _looks_like_call(header, content):
                self._decide(Channel.COMMENTARY)
        else:
            self._add_message(header, content, span, terminator)
        if is_in_turn:
            self._end_turn_at(token, position)

    def _add_message(
        self, header: Header, content: str, span: MessageSpan, terminator: Terminator | None
    ) -> None:
        role, name, channel, recipient, content_type, constrained = header
        message = trusted_message(
            role, content, name, channel, recipient, content_type, constrained
        )
        if not self._is_over:
            ended = (len(self._messages), message, span, terminator)
            self._keep_last_problem()  # what is known of a message is said before it ends
            self._events.append(_make(MessageEnded, ended))
        self._messages.append(message)
        self._spans.append(span)
        self._terminators.append(terminator)

    def _check_end(self, token: int | None, position: int) -> None:
        """Report how a message was left open, if it was."""
        if token is None:
            self._is_cut = True
            self._incomplete = len(self._messages)
            if not self._broken:
                self._report("missing_terminator", position, position)
        elif token == CHANNEL or (token == START and self._strict):
            self._report("missing_terminator", position, position)
        elif token == START:
            self._unterminated = position  # it is known later whether that is worth saying
        elif token == END_OF_TEXT:
            self._report("ended_by_endoftext", position, position + 1)

    # --- The turn of a completion ---

    def _place_in_turn(self, header: Header, content_start: int) -> Header:
        """Judge a message by what came before it; returns its header, the channel restored."""
        place = (self._start, content_start)
        if header.role is not Role.ASSISTANT:
            self._unterminated = None
            if not self._is_over:
                called = self._last_terminator() is Terminator.CALL
                self._end_turn(TurnEnd.CALL if called else TurnEnd.FORGED, self._start)
            self._report(_FORGED[header.role], *place)
            return header
        if self._is_over:
            return header
        self._decide(Channel.ANALYSIS)
        self._report_unterminated()
        if header.is_call:
            return self._place_call(header, place)
        self._is_held = header.channel is None
        if self._awaiting and header.channel in (Channel.FINAL, Channel.COMMENTARY):
            self._report("text_after_call", *place)
        return header

    def _place_call(self, header: Header, place: tuple[int, int]) -> Header:
        if header.channel is None:
            self._report("missing_channel", *place)
            header = header._replace(channel=Channel.COMMENTARY.value)
        code = call_channel_problem(header)
        if code is not None:
            self._report(code, *place)
        if self._answered:
            self._report("call_after_final", *place)
        if self._started and self._last_terminator() is Terminator.CALL:
            self._report("multiple_calls", *place)
        return header

    def _check_message(
        self, header: Header, content: str, span: MessageSpan, terminator: Terminator | None
    ) -> None:
        """Judge a message of the turn by its end."""
        place = (span.content_end, span.end)
        if header.is_call:
            self._called = True
            self._awaiting |= bool(content)
            if not content and self._is_unmarked:
                if terminator is not Terminator.CALL:
                    self._report("unterminated_call", span.start, span.end)
            elif terminator in _WRONG_ENDS_OF_CALLS:
                self._report(_WRONG_ENDS_OF_CALLS[terminator], *place)
            return
        if terminator is Terminator.CALL:
            if _looks_like_call(header, content):
                self._called = True
                self._report("missing_recipient", span.start, span.content_start)
            else:
                self._report("text_ended_with_call", *place)
        if header.channel == Channel.FINAL:
            self._answered = True
            if not content:
                self._report("empty_final", span.start, span.end)

    def _decide(self, channel: Channel) -> None:
        """Give the message that waited for it its channel."""
        if self._undecided is None:
            return
        header, content, span, terminator = self._undecided
        self._undecided = None
        header = header._replace(channel=channel.value)
        index = len(self._messages)
        self._keep_last_problem()
        self._events.append(MessageStarted(index, header))
        if content:
            self._events.append(ContentDelta(index, header, content))
        self._add_message(header, content, span, terminator)
        if channel is Channel.FINAL:
            self._answered = True
            if not content:
                self._report("empty_final", span.start, span.end)
            if self._awaiting:
                self._report("text_after_call", span.start, span.content_start)

    def _last_terminator(self) -> Terminator | None:
        if self._undecided is not None:
            return self._undecided.terminator
        return self._terminators[-1] if self._terminators else None

    def _end_turn_at(self, token: int | None, position: int) -> None:
        if self._is_completion and not self._is_over and token in _ENDS_TURN:
            self._end_turn(_ENDS_TURN[token], position)

    def _end_at_stray(self, token: int | None, position: int) -> None:
        """A terminator that closes no message: only if nothing follows is it the turn's end."""
        if token == END_OF_TEXT:
            self._end_turn_at(token, position)
        self._has_stray_return = token == RETURN

    def _end_turn(self, end: TurnEnd, position: int) -> None:
        self._decide(Channel.FINAL)
        self._report_unterminated()
        is_ended = bool(self._messages) and end not in (TurnEnd.CALL, TurnEnd.LENGTH)
        if (is_ended or self._is_cut) and not self._answered and not self._called:
            self._report("no_final", position, position)
        self._turn_end = end
        self._turn_messages = len(self._messages)
        self._is_over = True

    def _close_turn(self, position: int) -> None:
        if not self._is_over:
            called = self._last_terminator() is Terminator.CALL
            end = TurnEnd.RETURN if self._has_stray_return else TurnEnd.LENGTH
            self._end_turn(TurnEnd.CALL if called else end, position)
        if not self._messages and not self._is_cut:
            self._report("empty_output", 0, 0)

    # --- Problems ---

    def _report_unterminated(self) -> None:
        if self._unterminated is not None:
            position, self._unterminated = self._unterminated, None
            self._report("missing_terminator", position, position)

    def _report(
        self, code: str, start: int, end: int, detail: str | None = None, *, outside: bool = False
    ) -> None:
        if self._strict:
            kind = PROBLEM_KINDS[code]
            reason = kind.meaning if detail is None else f"{kind.meaning}: {detail!r}"
            raise ParseError(code, reason, position=start)
        if self._is_over and code not in _SAID_OF_THE_REST:
            if not outside:
                return
            code = "trailing_tokens"
        self._rest_reported |= code == "trailing_tokens"
        last = self._last_problem
        is_adjacent = last is not None and end > start == last.span.end
        if last is not None and is_adjacent and (last.code, last.outside) == (code, outside):
            self._last_problem = last._replace(span=Span(last.span.start, end))
            return
        self._keep_last_problem()
        self._last_problem = problem(code, start, end, detail, outside=outside)

    def _keep_last_problem(self) -> None:
        found, self._last_problem = self._last_problem, None
        if found is None:
            return
        if len(self._problems) < PROBLEMS_KEPT:
            self._problems.append(found)
            self._events.append(ProblemFound(found))
            return
        self._problems_omitted += 1
        if not found.outside:
            return
        last = self._problems[-1]
        if last.code == "more_problems" and last.span.end == found.span.start:
            self._problems[-1] = last._replace(span=Span(last.span.start, found.span.end))
        else:
            self._problems.append(problem("more_problems", *found.span, outside=True))


_WRONG_ENDS_OF_CALLS: Final = {
    Terminator.END: "call_ended_with_end",
    Terminator.RETURN: "call_ended_with_return",
}
# What stands before <|channel|> without being the content of a message.
_SAYS_NOTHING: Final = frozenset({"", *(channel.value for channel in Channel)})


def _has_text(tokens: Sequence[int]) -> bool:
    return bool(decode_leniently(tokens).strip())


def _says_nothing(tokens: Sequence[int]) -> bool:
    """Whether tokens have nothing but the role that every message of the assistant has."""
    return decode_leniently(tokens).strip() in ("", Role.ASSISTANT)


def _looks_like_call(header: Header, content: str) -> bool:
    return header.content_type in ("json", "code") or content.lstrip().startswith("{")


# Raised by joining and decoding what is not plain text.
_NOT_PLAIN: Final = (TypeError, IndexError, OverflowError, ValueError)
_NO_TOKEN_ID: Final = (IndexError, TypeError, OverflowError)


@cache
def _joinable_table() -> tuple[bytes | None, ...]:
    """The table of token bytes, in which the others are nothing that `bytes.join` takes."""
    return tuple([piece or None for piece in ordinary_token_table()])


def _look_up(tokens: Sequence[int]) -> Sequence[bytes]:
    """The bytes of each token; none for those that are not plain text.

    Raises one of `_NO_TOKEN_ID` for a value that can be no token id.
    """
    # Negative numbers would count from the end of the table; making an unsigned array refuses
    # them, and costs less than `min`.
    array("I", tokens)
    table = ordinary_token_table()
    if len(tokens) > 1:
        found: Sequence[bytes] = itemgetter(*tokens)(table)  # the fastest loop there is
        return found
    return [table[token] for token in tokens]


def _name(token: int, position: int) -> str:
    if 0 <= token < FIRST_SPECIAL:
        return f"token {token}"
    name = SPECIAL_TOKEN_NAMES.get(token)
    if name is None:
        raise UnknownTokenError(token, position)
    return name
