"""Tokens to messages: one state machine, fed a token at a time or all at once.

`Parser` does no I/O. Tokens go in, events come out: a message started, a piece of its
content, the message ended. However the tokens are cut into chunks, the messages are the
same, and the pieces of a message's content join to exactly its content.

Reading is strict: what is not well-formed raises a `ParseError` that names the token. The
states and what each token means in them:

    state    | <|start|> | <|message|>  | <|channel|> <|constrain|> | terminator  | text
    ---------+-----------+--------------+---------------------------+-------------+---------
    between  | header    | error        | error                     | error       | error
    header   | error     | content      | part of the header        | error       | header
    content  | error     | error        | error / spelt-out text    | between     | content
"""

from __future__ import annotations

from array import array
from codecs import utf_8_decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from operator import itemgetter
from typing import Final, NamedTuple, NoReturn

from .errors import HarmonyError, ParseError, UnknownTokenError
from .header import Header, parse_header
from .messages import Message, Role, trusted_message
from .vocabulary import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    END_OF_TEXT,
    FIRST_SPECIAL,
    MESSAGE,
    RETURN,
    SPECIAL_TOKEN_NAMES,
    START,
    ordinary_token_table,
)


class Terminator(StrEnum):
    """The token that closed a message."""

    END = "<|end|>"
    """The message is over, the turn goes on."""
    CALL = "<|call|>"
    """The message is a call; its result is awaited."""
    RETURN = "<|return|>"
    """The turn is over."""


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
        terminator: What closed it; `None` where the tokens ended before it was closed.
    """

    message_index: int
    message: Message
    span: MessageSpan
    terminator: Terminator | None


Event = MessageStarted | ContentDelta | MessageEnded


@dataclass(frozen=True)
class ParseResult:
    """What tokens say.

    Attributes:
        messages: The messages in order.
        spans: For each message, where it stands in the tokens.
        terminators: For each message, the token that closed it; `None` for a last message
            whose tokens ended before.
    """

    messages: tuple[Message, ...]
    spans: tuple[MessageSpan, ...]
    terminators: tuple[Terminator | None, ...]

    @property
    def stop(self) -> Terminator | None:
        """What closed the last message: `<|return|>` or `<|call|>` for a complete turn."""
        return self.terminators[-1] if self.terminators else None


def parse(tokens: Iterable[int], *, role: Role | str | None = Role.ASSISTANT) -> ParseResult:
    """Parse a whole sequence of tokens.

    Args:
        tokens: Token ids: a completion, as it follows a prompt that ends in
            `<|start|>assistant`; with `role=None` a conversation that begins with
            `<|start|>`.
        role: The role with which the prompt ended, or `None`.

    Raises:
        ParseError: The tokens are not well-formed; the error names the token.
        UnknownTokenError: A token id is not in the vocabulary.
    """
    tokens = tokens if isinstance(tokens, list) else list(tokens)
    parser = Parser(role=role)
    result = _parse_well_formed(tokens, parser.role)
    if result is not None:
        return result
    parser.feed(tokens)
    parser.close()
    return parser.result()


def _parse_well_formed(tokens: list[int], role: Role | None) -> ParseResult | None:
    """Parse tokens that are well-formed throughout, the quick way; `None` for all others.

    The state machine gives the same result for them, several times slower: here no event is
    made and no state kept. What is not plain (a control token in a content, an id that is
    none, a cut-off header) is left to it.
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
    try:
        while start < length:
            if role is not None:
                content = tokens.index(MESSAGE) + 1
                header = parse_header(tokens[: content - 1], role)
                role = None
            else:
                if tokens[start] != START:
                    return None
                content = tokens.index(MESSAGE, start) + 1
                key = tuple(tokens[start + 1 : content - 1])
                known = headers.get(key)
                header = headers[key] = known or parse_header(key, None)
            end = pieces.index(b"", content)
            terminator = _TERMINATORS[tokens[end]] if end < length else None
            text = b"".join(pieces[content:end]).decode("utf-8", "replace")
            author, name, channel, recipient, content_type, constrained = header
            messages.append(
                trusted_message(author, text, name, channel, recipient, content_type, constrained)
            )
            after = end + (terminator is not None)
            spans.append(_make(MessageSpan, (start, content, end, after)))
            terminators.append(terminator)
            start = after
    except (KeyError, ParseError, ValueError):
        return None
    if role is not None:
        return None
    return ParseResult(tuple(messages), tuple(spans), tuple(terminators))


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
# Structure that cannot stand inside a content: a content that holds it has lost its end.
_STRUCTURE: Final = frozenset({START, MESSAGE, CHANNEL, END_OF_TEXT})

# How many different headers a parser remembers. Their number is small in any real output.
_HEADERS_KEPT: Final = 1000

_make = tuple.__new__


class Parser:
    """Parses tokens as they arrive.

    Args:
        role: The role with which the prompt ended (`<|start|>assistant`), so that the first
            header goes on from there; `None` if the tokens begin with `<|start|>`.

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
        "_content",
        "_content_start",
        "_deltas",
        "_error",
        "_given_role",
        "_header",
        "_header_tokens",
        "_headers",
        "_messages",
        "_met",
        "_pending",
        "_pieces",
        "_position",
        "_spans",
        "_start",
        "_state",
        "_streamed",
        "_terminators",
    )

    def __init__(self, *, role: Role | str | None = Role.ASSISTANT) -> None:
        try:
            self._given_role = None if role is None else Role(role)
        except ValueError:
            raise HarmonyError(f"unknown role {role!r}") from None
        if self._given_role is Role.TOOL:
            raise HarmonyError("a tool's header names the tool: use role=None and <|start|>")
        self._state = _BETWEEN if role is None else _HEADER
        self._position = 0  # how many tokens were consumed, but for those in _streamed
        self._start = 0  # of the current message
        self._content_start = 0
        self._header_tokens: list[int] = []
        self._header: Header | None = None
        self._headers: dict[tuple[int, ...], Header] = {}  # those already read
        self._pending = b""  # the beginning of a character whose end has not come
        # The delta of every token met in this message that is plain text by itself; None while
        # no such token can come. And those given since the state was last settled.
        self._deltas: dict[int, ContentDelta] | None = None
        self._met: dict[int, ContentDelta] = {}
        self._streamed: list[ContentDelta] = []
        self._pieces: list[str] = []  # of the current content, not yet joined to the rest
        self._content = ""
        self._messages: list[Message] = []
        self._spans: list[MessageSpan] = []
        self._terminators: list[Terminator | None] = []
        self._error: HarmonyError | None = None

    # --- What was read ---

    @property
    def role(self) -> Role | None:
        """The role that the prompt gave, until the first header is read."""
        return self._given_role

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that are complete."""
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

    def result(self) -> ParseResult:
        """The messages that are complete, with their spans and terminators."""
        return ParseResult(tuple(self._messages), tuple(self._spans), tuple(self._terminators))

    # --- Input ---

    def feed(self, tokens: int | Sequence[int]) -> list[Event]:
        """Consume one token or several.

        Args:
            tokens: A token id, or a sequence of them.

        Returns:
            What happened, in order. The content of a message comes as one delta per call.

        Raises:
            ParseError: The tokens are not well-formed. If something happened before the
                fault, that is returned, and the next call raises. From then on every call
                does; what was complete stays in `messages`.
            UnknownTokenError: A token id is not in the vocabulary; likewise.
        """
        if isinstance(tokens, int):
            # The path of nearly every token of a stream: plain text within a content.
            deltas = self._deltas
            if deltas is not None:
                delta = deltas.get(tokens) or self._new_delta(tokens)
                if delta is not None:
                    self._streamed.append(delta)
                    return [delta]
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
        if isinstance(tokens, int):
            chunk: Sequence[int] = (tokens,)
        else:
            chunk = tokens if isinstance(tokens, list | tuple) else list(tokens)
        events: list[Event] = []
        try:
            self._consume(chunk, events)
        except HarmonyError as error:
            self._state = _FAILED
            self._error = error
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """Say that no more tokens come. A content that was not closed ends here.

        Raises:
            ParseError: The tokens ended inside a header, or were not well-formed before.
            UnknownTokenError: A token id before was not in the vocabulary.
        """
        self._settle()
        self._deltas = None
        events: list[Event] = []
        if self._state == _FAILED:
            self._refuse()
        elif self._state == _HEADER:
            self._state = _FAILED
            self._error = ParseError(
                "truncated_header", "the tokens end inside a header", position=self._position
            )
            raise self._error
        elif self._state == _CONTENT:
            self._end_message(None, events)
        self._state = _CLOSED
        return events

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

    def _consume(self, tokens: Sequence[int], events: list[Event]) -> None:
        if self._state >= _CLOSED:
            self._refuse()
        if self._streamed:
            self._settle()
        length = len(tokens)
        try:
            found = _look_up(tokens)
        except _NO_TOKEN_ID:
            self._refuse_unknown(tokens, events)
        if self._state == _CONTENT and b"" not in found:
            self._add_content(b"".join(found), events)
            self._position += length
            return
        # The bytes of each token; none for those that are not plain text, and for the end.
        pieces = [*found, b""]
        origin = self._position
        index = 0
        while index < length:
            if self._state == _CONTENT:
                index = self._read_content(tokens, pieces, index, events)
            elif self._state == _HEADER:
                index = self._read_header(tokens, pieces, index, events)
            else:
                self._read_start(tokens[index])
                index += 1
            self._position = origin + index

    def _refuse_unknown(self, tokens: Sequence[int], events: list[Event]) -> NoReturn:
        """Read what comes before the first value that is no token id, then say where it is."""
        for index, token in enumerate(tokens):
            try:
                _look_up([token])
            except _NO_TOKEN_ID:
                self._consume(tokens[:index], events)
                raise UnknownTokenError(token, self._position) from None
        raise AssertionError("every token id is in the table")

    def _read_start(self, token: int) -> None:
        if token != START:
            raise ParseError(
                "missing_start",
                f"expected <|start|>, found {_name(token, self._position)}",
                position=self._position,
            )
        self._start = self._position
        self._state = _HEADER

    def _read_header(
        self,
        tokens: Sequence[int],
        pieces: list[bytes],
        begin: int,
        events: list[Event],
    ) -> int:
        """Read to the end of the header or of the chunk; returns the index after it."""
        end = pieces.index(b"", begin)
        while end < len(tokens) and tokens[end] != MESSAGE:
            if tokens[end] not in (CHANNEL, CONSTRAIN):
                position = self._position + end - begin
                raise ParseError(
                    "special_token_in_header",
                    f"{_name(tokens[end], position)} inside a header",
                    position=position,
                )
            end = pieces.index(b"", end + 1)
        self._header_tokens += tokens[begin:end]
        if end == len(tokens):
            return end
        self._header = self._complete_header()
        self._content_start = self._position + end + 1 - begin
        self._state = _CONTENT
        self._deltas = self._met = {}
        events.append(_make(MessageStarted, (len(self._messages), self._header)))
        return end + 1

    def _complete_header(self) -> Header:
        tokens = tuple(self._header_tokens)
        self._header_tokens = []
        if self._given_role is not None:
            role, self._given_role = self._given_role, None
            return parse_header(tokens, role, self._start)
        header = self._headers.get(tokens)
        if header is None:
            header = parse_header(tokens, None, self._start + 1)
            if len(self._headers) < _HEADERS_KEPT:
                self._headers[tokens] = header
        return header

    def _read_content(
        self,
        tokens: Sequence[int],
        pieces: list[bytes],
        begin: int,
        events: list[Event],
    ) -> int:
        """Read to the end of the content or of the chunk; returns the index after it."""
        end = pieces.index(b"", begin)
        length = len(tokens)
        fault = None
        while end < length and tokens[end] not in _TERMINATORS:
            position = self._position + end - begin
            name = _name(tokens[end], position)
            if tokens[end] in _STRUCTURE:
                reason = f"{name} inside a content"
                fault = ParseError("missing_terminator", reason, position=position)
                break
            pieces[end] = name.encode()
            end = pieces.index(b"", end + 1)
        if end > begin:
            self._add_content(b"".join(pieces[begin:end]), events)
        if fault is not None:
            raise fault
        if end == length:
            return end
        self._position += end - begin
        self._end_message(_TERMINATORS[tokens[end]], events)
        return end + 1

    def _add_content(self, data: bytes, events: list[Event]) -> None:
        """Add bytes to the current content, but for a last character that is not whole yet."""
        if self._pending:
            data = self._pending + data
        text, consumed = utf_8_decode(data, "replace", False)
        if text:
            self._pieces.append(text)
            events.append(_make(ContentDelta, (len(self._messages), self._header, text)))
        if consumed < len(data):
            self._pending = data[consumed:]
            self._deltas = None
        elif self._deltas is None:
            self._pending = b""
            self._deltas = self._met

    def _end_message(self, terminator: Terminator | None, events: list[Event]) -> None:
        """Close the current message; `_position` is at its terminator, or at the end."""
        header = self._header
        assert header is not None
        if self._pending:
            text = self._pending.decode("utf-8", "replace")
            self._pending = b""
            self._pieces.append(text)
            events.append(ContentDelta(len(self._messages), header, text))
        role, name, channel, recipient, content_type, constrained = header
        message = trusted_message(
            role, self.content, name, channel, recipient, content_type, constrained
        )
        end = self._position + (terminator is not None)
        span = _make(MessageSpan, (self._start, self._content_start, self._position, end))
        events.append(_make(MessageEnded, (len(self._messages), message, span, terminator)))
        self._messages.append(message)
        self._spans.append(span)
        self._terminators.append(terminator)
        self._content = ""
        self._header = None
        self._deltas = None
        self._state = _BETWEEN
        self._start = end


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
