"""Tokens to framed messages: where each one begins and ends, and what stands between them.

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
"""

from __future__ import annotations

import sys
from array import array
from codecs import utf_8_decode
from collections.abc import Sequence
from functools import cache
from operator import index, itemgetter
from typing import Final

from ..errors import UnknownTokenError
from ._events import ContentDelta, Event, MessageSpan, Terminator, plain_message
from ._header.reading import HeaderReading, read_header
from ._header.unmarked import header_at_the_end, read_unmarked
from ._messages import Header, pack_tokens, trusted_message
from ._problems import ProblemLog
from ._render import next_header
from ._roles import Channel, Role
from ._turn import EndedMessage, Turn
from ._vocabulary import (
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

# The states. Plain numbers, for they are compared at every chunk.
BETWEEN: Final = 0
HEADER: Final = 1
CONTENT: Final = 2

TERMINATORS: Final = {
    END: Terminator.END,
    CALL: Terminator.CALL,
    RETURN: Terminator.RETURN,
}
_ENDS_HEADER: Final = frozenset({START, MESSAGE, END_OF_TEXT, *TERMINATORS})
_ENDS_CONTENT: Final = frozenset({START, CHANNEL, END_OF_TEXT, *TERMINATORS})
_WITHIN_HEADER: Final = frozenset({CHANNEL, CONSTRAIN})
# Rules for what the model writes, not for what others put into a conversation.
_RULES_OF_COMPLETIONS: Final = frozenset({"unknown_channel", "unknown_content_type"})
# What stands before <|channel|> without being the content of a message.
_SAYS_NOTHING: Final = frozenset({"", *(channel.value for channel in Channel)})

# How many different headers are remembered. Their number is small in any real output.
_HEADERS_KEPT: Final = 1000
# How many tokens before the current message are kept until they are dropped together.
_IDS_KEPT: Final = 4096

_make = tuple.__new__


# --- Chunks of tokens -----------------------------------------------------------------------

# Raised by looking up what is no token id.
_NO_TOKEN_ID: Final = (IndexError, TypeError, OverflowError)
# Special tokens have ids from 199,998 on: of the four bytes of a packed id, the third is 3.
_THIRD_BYTE: Final = 2 if sys.byteorder == "little" else 1
SPECIAL_BYTE: Final = FIRST_SPECIAL >> 16
# What it can be for the other ids that the table of token bytes has a place for.
_UNKNOWN_BYTES: Final = range(SPECIAL_BYTE + 1, (2 * SIZE >> 16) + 1)
_SENTINEL: Final = bytes([SPECIAL_BYTE])


class Chunk:
    """Some tokens, and what they spell.

    Args:
        tokens: Integers; what is in the place of those that are no ids of the vocabulary is
            not plain text.

    Raises:
        UnknownTokenError: A value is no integer.

    Attributes:
        tokens: The tokens.
        packed: The tokens as unsigned integers of 4 bytes each; 0 for what does not fit.
        pieces: The bytes of each token that is plain text; empty for others.
        marks: A byte for each token, and one more: `SPECIAL_BYTE` for those that are not plain
            text, for the end, and for the few with the last ordinary ids.
    """

    __slots__ = ("marks", "packed", "pieces", "tokens")

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        try:
            # Negative numbers would count from the end of the table; packing refuses them.
            self.packed = array("I", tokens).tobytes()
            self.pieces = look_up(tokens)
        except _NO_TOKEN_ID:
            self._look_up_each()
            return
        self.marks = self.packed[_THIRD_BYTE::4] + _SENTINEL
        if any(byte in self.marks for byte in _UNKNOWN_BYTES):
            self._look_up_each()

    def _look_up_each(self) -> None:
        table = ordinary_token_table()
        pieces: list[bytes] = []
        packed = array("I")
        for place, value in enumerate(self.tokens):
            try:
                token = index(value)
            except TypeError:
                raise UnknownTokenError(value, place) from None
            pieces.append(table[token] if 0 <= token < FIRST_SPECIAL else b"")
            packed.append(token if 0 <= token < 2**32 else 0)
        self.packed = packed.tobytes()
        self.pieces = pieces
        marks = bytes(0 if piece else SPECIAL_BYTE for piece in pieces)
        self.marks = marks + _SENTINEL

    def special(self, begin: int) -> int:
        """The index of the first token from a place on that is not plain text; else the length.

        Args:
            begin: The place.
        """
        find, pieces, length = self.marks.find, self.pieces, len(self.tokens)
        found = find(SPECIAL_BYTE, begin)
        while found < length and pieces[found]:
            found = find(SPECIAL_BYTE, found + 1)
        return found


def look_up(tokens: Sequence[int]) -> Sequence[bytes]:
    """The bytes of each token; none for those that are not plain text.

    Args:
        tokens: Token ids, none of them negative.

    Raises:
        IndexError: An id is none of the vocabulary's.
        TypeError: A value is no integer.
    """
    table = ordinary_token_table()
    if len(tokens) > 1:
        found: Sequence[bytes] = itemgetter(*tokens)(table)  # the fastest loop there is
        return found
    return [table[token] for token in tokens]


# --- The state machine ----------------------------------------------------------------------


class Scanner:
    """Finds messages in tokens, and hands them to a turn.

    Args:
        role: The role with which the prompt ended; `None` if the tokens begin with `<|start|>`.
        turn: Judges the messages.
        log: Told of problems.
        events: Where events go; `None` if nobody wants them.
        remembers: Whether messages remember their tokens: these are ids as a model generates them.

    Attributes:
        state: `BETWEEN`, `HEADER` or `CONTENT`.
        position: How many tokens were read.
        header: The header of the message whose content is being read, or `None`.
        given_role: The role that the prompt gave, until the first header is read.
    """

    __slots__ = (
        "_content",
        "_content_start",
        "_events",
        "_has_bad_bytes",
        "_header_start",
        "_header_tokens",
        "_headers",
        "_ids",
        "_ids_start",
        "_is_broken",
        "_is_unmarked",
        "_log",
        "_pending",
        "_pieces",
        "_plain_headers",
        "_prompted",
        "_remembers",
        "_run",
        "_start",
        "_started",
        "_turn",
        "given_role",
        "header",
        "position",
        "state",
    )

    def __init__(
        self,
        role: Role | None,
        turn: Turn,
        log: ProblemLog,
        events: list[Event] | None,
        *,
        remembers: bool,
    ) -> None:
        self._turn = turn
        self._log = log
        self._events = events
        self._headers: dict[tuple[Role | None, tuple[int, ...]], HeaderReading] = {}
        self._plain_headers: dict[bytes, Header | None] = {}
        self.state = BETWEEN if role is None else HEADER
        self.position = 0
        self.given_role = role
        self._is_broken = False  # whether a special token that broke off ends the input
        # Between messages: the tokens since the last one, and where they or the message begin.
        self._run: list[int] = []
        self._start = 0
        # The header that is being read.
        self._started = False  # whether it began with <|start|>
        self._header_start = 0
        self._header_tokens: list[int] = []
        # The content that is being read.
        self.header: Header | None = None
        self._is_unmarked = False  # whether there was no <|message|>
        self._content_start = 0
        self._content = ""
        self._pieces: list[str] = []  # of the content, not yet joined to the rest
        self._pending = b""  # the beginning of a character whose end has not come
        self._has_bad_bytes = False
        # The ids from the current message on, packed, and what the prompt gave of the first.
        self._remembers = remembers
        self._ids = bytearray()
        self._ids_start = 0
        # None if the first header does not go on from them.
        self._prompted: bytes | None = b"" if role is None else _prompt_ids(role)

    @property
    def content(self) -> str:
        """The content so far of the message that is being read; empty between messages."""
        if self._pieces:
            # With no other reference to the text, CPython appends to it in place.
            content, self._content = self._content, ""
            content += "".join(self._pieces)
            self._content = content
            self._pieces.clear()
        return self._content

    @property
    def takes_text(self) -> bool:
        """Whether plain text that comes is content, and given as events."""
        return self.state == CONTENT and not self._pending and self._turn.shows

    @property
    def settled(self) -> int:
        """The place before which nothing more can be found."""
        is_inside = self.state != BETWEEN or self._run
        place = self._start if is_inside else self.position
        waiting = self._turn.pending_start
        return place if waiting is None else min(place, waiting)

    # --- Input ---

    def add_text(self, ids: bytes, texts: Sequence[str]) -> None:
        """Read tokens of plain text within a content, where `takes_text`.

        Args:
            ids: The tokens, packed.
            texts: What they spell.
        """
        self._pieces += texts
        self.position += len(ids) // 4
        if self._remembers:
            self._ids += ids

    def feed(self, tokens: Sequence[int]) -> None:
        """Read tokens.

        Args:
            tokens: The tokens.

        Raises:
            UnknownTokenError: A value is no integer; what stands before it was read.
            ParseError: Reading is strict, and there is a problem.
        """
        if self.state == CONTENT and len(tokens) == 1 and self._add_one(tokens[0]):
            return
        try:
            chunk = Chunk(tokens)
        except UnknownTokenError as error:
            self.feed(tokens[: error.position])
            raise UnknownTokenError(error.token, self.position) from None
        if self._remembers:
            self._ids += chunk.packed
        length = len(tokens)
        origin = self.position
        place = 0
        while place < length:
            if self.state == CONTENT:
                place = self._read_content(chunk, place)
            elif self.state == HEADER:
                place = self._read_header(chunk, place)
            else:
                if tokens[place] == START and not self._run:
                    place = self._read_plain_messages(chunk, place)
                    self.position = origin + place
                    if place == length:
                        break
                place = self._read_between(chunk, place)
            self.position = origin + place
        self._forget()

    def _add_one(self, token: int) -> bool:
        """Read one token of text within a content, such as part of a character; whether it is."""
        if not isinstance(token, int) or not 0 <= token < FIRST_SPECIAL:
            return False
        self._add_content(ordinary_token_table()[token])
        self.position += 1
        if self._remembers:
            self._ids += token.to_bytes(4, sys.byteorder)
        return True

    def _forget(self) -> None:
        """Drop the ids before the current message."""
        start = self._start if self.state != BETWEEN else self.position
        if start - self._ids_start > _IDS_KEPT:
            del self._ids[: 4 * (start - self._ids_start)]
            self._ids_start = start

    def close(self, broken: int) -> None:
        """No more tokens come. What is not closed ends here.

        Args:
            broken: How many more units of input there are, the beginning of a special token.
        """
        position = self.position
        turn, log = self._turn, self._log
        self._is_broken = bool(broken)
        if self.state == CONTENT:
            self._end_message(None, position)
        elif self.state == HEADER:
            self._end_header(None, position)
        elif turn.is_completion and not turn.is_over and _has_text(self._run):
            self._end_text(None, position)
        else:
            self._end_run()
        log.abandon()
        if broken:
            log.report("partial_special_token", position, position + broken, outside=True)
        turn.finish(position)
        log.settle()

    # --- Messages without a problem ---

    def _read_plain_messages(self, chunk: Chunk, begin: int) -> int:
        """Read whole messages that have nothing but header, text and terminator.

        Returns:
            The index after them. What is not plain is left to the other states, which read the
            plain ones as well, three times slower.
        """
        # Long, and free of calls, for speed: inputs of many messages spend their time here.
        turn, tokens, pieces, ids = self._turn, chunk.tokens, chunk.pieces, chunk.packed
        find, headers, add_plain = chunk.marks.find, self._plain_headers, turn.add_plain
        append, simple = turn.parsed.append, turn.is_simple
        remembers = self._remembers
        offset = self.position - begin
        length = len(tokens)
        # Those of a completion were generated as they are, but for a last <|return|>.
        suffix = b"\0" if turn.is_completion else b""
        while begin < length and tokens[begin] == START:
            mark = find(SPECIAL_BYTE, begin + 1)
            while mark < length and (tokens[mark] in _WITHIN_HEADER or pieces[mark]):
                mark = find(SPECIAL_BYTE, mark + 1)
            if mark >= length or tokens[mark] != MESSAGE:
                break
            content = mark + 1
            end = find(SPECIAL_BYTE, content)
            while end < length and pieces[end]:
                end = find(SPECIAL_BYTE, end + 1)
            if end >= length:
                break
            token = tokens[end]
            terminator = TERMINATORS.get(token)
            key = ids[4 * begin : 4 * mark]
            header = headers.get(key) or self._plain_header(key, tokens[begin + 1 : mark])
            if terminator is None or header is None:
                break
            try:
                text = b"".join(pieces[content:end]).decode()
            except UnicodeDecodeError:
                break
            after = end + 1
            edges = (begin, content, end, after)
            if offset:
                edges = (begin + offset, content + offset, end + offset, after + offset)
            kept = None
            if remembers:
                kept = ids[4 * begin : 4 * after]
                if token == RETURN:
                    kept = kept[:-4] + _END + (suffix and b"\1")
                elif suffix:
                    kept += suffix
            parsed = plain_message(header, text, kept, _make(MessageSpan, edges), terminator)
            if simple:
                append(parsed)
            elif not add_plain(parsed):
                break
            begin = after
        return begin

    def _plain_header(self, key: bytes, tokens: Sequence[int]) -> Header | None:
        """What a header says that has no problem, remembered; `None` if it has one."""
        if key not in self._plain_headers and len(self._plain_headers) < _HEADERS_KEPT:
            reading = self._reading(None, tokens)
            self._plain_headers[key] = None if reading.problems else reading.header
        return self._plain_headers.get(key)

    # --- Between messages ---

    def _read_between(self, chunk: Chunk, begin: int) -> int:
        """Read up to what begins a message, or to the end of the chunk."""
        tokens = chunk.tokens
        end = chunk.special(begin)
        if not self._run:
            self._start = self.position
        self._run += tokens[begin:end]
        if end == len(tokens):
            return end
        token = tokens[end]
        position = self.position + end - begin
        turn = self._turn
        if token == START:
            self._end_run()
            self._begin_header(position, position + 1, started=True)
        elif token == CHANNEL or (token in (MESSAGE, CONSTRAIN) and not turn.is_over):
            self._restore_start(token, position)
            return end
        elif token not in TERMINATORS and token != END_OF_TEXT:
            self._spell(token, position)
            self._run.append(token)
        elif turn.is_completion and not turn.is_over and _has_text(self._run):
            self._end_text(token, position)
        else:
            self._end_run()
            self._log.report("stray_terminator", position, position + 1, outside=True)
            turn.stray_terminator(token, position)
        return end + 1

    def _end_run(self) -> None:
        """Keep apart the tokens since the last message."""
        if self._run:
            self._log.abandon()
            end = self._start + len(self._run)
            self._log.report("text_between_messages", self._start, end, outside=True)
            self._run = []

    def _restore_start(self, token: int, position: int) -> None:
        """A message begins with a marker: its `<|start|>` was left out."""
        start = position
        header: list[int] = []
        if _says_nothing(self._run):
            start -= len(self._run)
            self._run = []
        else:
            place = header_at_the_end(self._run, has_channel=token == CHANNEL)
            if place is not None:
                header, self._run = self._run[place:], self._run[:place]
                start -= len(header)
            self._end_run()
        self._log.report(
            "missing_start", start if header else position, start if header else position
        )
        self._begin_header(start, start if header else position, started=False)
        self._header_tokens = header

    def _end_text(self, token: int | None, position: int) -> None:
        """A text between messages was closed: it is a message without a header."""
        run, self._run = self._run, []
        self._log.report("missing_start", self._start, self._start)
        self._begin_header(self._start, self._start, started=False)
        self._header_tokens = run
        self._end_header(token, position)

    # --- Headers ---

    def _begin_header(self, start: int, header_start: int, *, started: bool) -> None:
        if self._turn.is_over and not self._log.has_trailing:
            self._log.report("trailing_tokens", start, header_start)
        self.state = HEADER
        self._start = start
        self._started = started
        self._header_start = header_start
        self._header_tokens = []
        self.given_role = None if started else Role.ASSISTANT
        self._prompted = b""

    def _read_header(self, chunk: Chunk, begin: int) -> int:
        """Read to the end of the header or of the chunk; returns the index after it."""
        tokens = chunk.tokens
        length = len(tokens)
        end = chunk.special(begin)
        while end < length and tokens[end] not in _ENDS_HEADER:
            end = chunk.special(end + 1)
        self._header_tokens += tokens[begin:end]
        if end == length:
            return end
        token = tokens[end]
        position = self.position + end - begin
        if token == MESSAGE:
            self._begin_content(position)
        elif token == START and _says_nothing(self._header_tokens):
            self._log.report("repeated_start", position, position + 1)
            self._begin_header(self._start, position + 1, started=True)
        else:
            self._end_header(token, position)
            if token == START:
                self._begin_header(position, position + 1, started=True)
        return end + 1

    def _reading(self, role: Role | None, tokens: Sequence[int]) -> HeaderReading:
        """A header, read once."""
        key = (role, tuple(tokens))
        reading = self._headers.get(key)
        if reading is None:
            reading = read_header(key[1], role)
            if len(self._headers) < _HEADERS_KEPT and len(key[1]) < _HEADERS_KEPT:
                self._headers[key] = reading
        return reading

    def _begin_content(self, position: int) -> None:
        """The header is complete: `<|message|>` stands at the position."""
        reading = self._reading(self.given_role, self._header_tokens)
        self._report_header(reading)
        if self._prompted and not self._goes_on_from_prompt(reading.header):
            self._prompted = None
        self._is_unmarked = False
        self._begin_message(reading.header, position + 1)

    def _goes_on_from_prompt(self, header: Header) -> bool:
        """Whether the first header means the same with the role before it that the prompt gave.

        It does not where the role is repeated, or something is glued to it.
        """
        first = self._header_tokens[0] if self._header_tokens else CHANNEL
        is_text = 0 <= first < FIRST_SPECIAL
        if not is_text or ordinary_token_table()[first].startswith(b" "):
            return True
        role = [] if self.given_role is None else next_header(self.given_role)[1:]
        reading = self._reading(None, [*role, *self._header_tokens])
        return not reading.problems and reading.header == header

    def _report_header(self, reading: HeaderReading) -> None:
        for code, span, _, detail, _ in reading.problems:
            if self._turn.is_completion or code not in _RULES_OF_COMPLETIONS:
                start, end = span.start + self._header_start, span.end + self._header_start
                self._log.report(code, start, end, detail)

    def _end_header(self, token: int | None, position: int) -> None:
        """A header that no `<|message|>` ended: find its content, or keep it apart.

        Args:
            token: What stands there: a terminator, `<|endoftext|>` or `<|start|>`; `None` at
                the end of the tokens.
            position: Where that stands.
        """
        tokens, self._header_tokens = self._header_tokens, []
        end = position if token in (None, START) else position + 1
        self.state = BETWEEN
        log, turn = self._log, self._turn
        if not self._started and not _has_text(tokens):
            self._end_nothing(token, position)
            return
        unmarked = read_unmarked(tokens, self.given_role, is_cut=token is None)
        header, body = unmarked.reading.header, unmarked.body
        if body is None and token is None:
            turn.cut()
            log.abandon()
            log.report("truncated_header", self._start, end, outside=True)
        elif body is None and not header.is_call:
            log.abandon()
            log.report("garbage_header", self._start, end, outside=True)
            if _has_text(tokens):
                log.report("empty_message_dropped", self._start, end, home=log.stray)
            if token is not None:
                turn.stray_terminator(token, position)
        else:
            self._report_header(unmarked.reading)
            content_start = self._header_start + unmarked.body_start
            log.report("missing_message", content_start, content_start)
            self._is_unmarked = True
            self._begin_message(header, content_start)
            self._show(body or "")
            self._end_message(token, position)

    def _end_nothing(self, token: int | None, position: int) -> None:
        """A completion was closed before it said anything."""
        self._log.abandon()
        if position > self._start:
            self._log.report("text_between_messages", self._start, position, outside=True)
        if token is not None and token != START:
            self._log.report("stray_terminator", position, position + 1, outside=True)
            self._turn.stray_terminator(token, position)

    # --- Contents ---

    def _begin_message(self, header: Header, content_start: int) -> None:
        self.given_role = None
        self.header = self._turn.begin(header, self._start, content_start, self._started)
        self._content_start = content_start
        self.state = CONTENT

    def _read_content(self, chunk: Chunk, begin: int) -> int:
        """Read to the end of the content or of the chunk; returns the index after it."""
        tokens, pieces = chunk.tokens, chunk.pieces
        length = len(tokens)
        end = chunk.special(begin)
        spelt: list[bytes] = []
        start = begin
        while end < length and tokens[end] not in _ENDS_CONTENT:
            position = self.position + end - begin
            spelt += pieces[start:end]
            if tokens[end] == MESSAGE and position == self._content_start:
                self._log.report("repeated_message", position, position + 1)
                self._content_start = position + 1
            else:
                spelt.append(self._spell(tokens[end], position))
            start = end + 1
            end = chunk.special(start)
        if end > begin:
            self._add_content(
                b"".join([*spelt, *pieces[start:end]] if spelt else pieces[start:end])
            )
        if end == length:
            return end
        token = tokens[end]
        position = self.position + end - begin
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
            self._log.report("unknown_token", position, position + 1, str(token))
            return b"\xef\xbf\xbd"
        is_named = token in NAMED_SPECIAL_TOKENS
        code = "special_token_in_body" if is_named else "reserved_special_token"
        self._log.report(code, position, position + 1, name)
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

    def _show(self, text: str) -> None:
        if not text:
            return
        self._pieces.append(text)
        turn = self._turn
        if self._events is not None and turn.shows:
            self._events.append(_make(ContentDelta, (len(turn.parsed), self.header, text)))

    def _end_by_channel(self, position: int) -> None:
        """`<|channel|>` inside a content: the next message began without `<|start|>`."""
        if self._turn.is_held and self.content.strip() in _SAYS_NOTHING:
            # Not a message, but a header that was begun twice.
            self._log.abandon()
            self._log.report("garbage_header", self._start, position, outside=True)
            self._leave_content()
            self._turn.is_held = False
        else:
            self._end_message(CHANNEL, position)
            self._log.report("missing_start", position, position)
        self._begin_header(position, position, started=False)

    def _leave_content(self) -> None:
        self._content = ""
        self._pieces.clear()
        self._pending = b""
        self._has_bad_bytes = False
        self.header = None
        self.state = BETWEEN

    def _end_message(self, token: int | None, position: int) -> None:
        """Close the current message.

        Args:
            token: What closes it: a terminator, `<|endoftext|>`, or `<|start|>` or
                `<|channel|>` of the next message; `None` at the end of the tokens.
            position: Where that stands: one past the content.
        """
        header = self.header
        assert header is not None
        if self._pending:
            self._has_bad_bytes = True
            self._show(self._pending.decode("utf-8", "replace"))
        content = self.content
        is_closed = token in TERMINATORS or token == END_OF_TEXT
        terminator = TERMINATORS.get(token) if token is not None else None
        edges = (self._start, self._content_start, position, position + is_closed)
        span: MessageSpan = _make(MessageSpan, edges)
        if self._has_bad_bytes:
            self._log.report("invalid_utf8", self._content_start, position)
        self._leave_content()
        self._report_end(token, position)
        tokens = self._message_tokens(header, content, span, terminator)
        ended = EndedMessage(header, content, span, terminator, token is None, tokens)
        self._turn.close(
            ended,
            token,
            is_unmarked=self._is_unmarked,
            unclosed=position if token == START else None,
        )

    def _report_end(self, token: int | None, position: int) -> None:
        """Report how a message was left open; where `<|start|>` follows, the turn decides."""
        if token == CHANNEL or (token is None and not self._is_broken):
            self._log.report("missing_terminator", position, position)
        elif token == END_OF_TEXT:
            self._log.report("ended_by_endoftext", position, position + 1)

    def _message_tokens(
        self, header: Header, content: str, span: MessageSpan, terminator: Terminator | None
    ) -> bytes | None:
        """The tokens of the message that ends, packed."""
        prompted, self._prompted = self._prompted, b""
        is_generated = self._turn.is_completion
        if not self._remembers or prompted is None or (terminator is None and not is_generated):
            return None
        origin = self._ids_start
        ids = prompted + self._ids[4 * (span.start - origin) : 4 * (span.end - origin)]
        added = 1
        if terminator is Terminator.RETURN:
            ids = ids[:-4] + _END
        elif terminator is None:
            is_whole_call = header.is_call and trusted_message(header, content).is_whole
            ids += _CALL if is_whole_call else _END
        else:
            added = 0
        return pack_tokens(ids, len(prompted) // 4, added) if is_generated else bytes(ids)


def packed(tokens: Sequence[int]) -> bytes:
    """Token ids as unsigned integers of 4 bytes each.

    Args:
        tokens: The ids.
    """
    return array("I", tokens).tobytes()


@cache
def _prompt_ids(role: Role) -> bytes:
    """How a prompt ends whose next message a role writes; encoded once in a process."""
    return packed(next_header(role))


_END: Final = packed([END])
_CALL: Final = packed([CALL])


def _has_text(tokens: Sequence[int]) -> bool:
    return bool(decode_leniently(tokens).strip())


def _says_nothing(tokens: Sequence[int]) -> bool:
    """Whether tokens have nothing but the role that every message of the assistant has."""
    return decode_leniently(tokens).strip() in ("", Role.ASSISTANT)
