"""Finds messages in tokens: a state machine.

The states, and what each token means in them (in brackets, the problem that it then is):

    between   <|start|>      the header begins
              <|channel|>, <|constrain|>, <|message|>
                             the header begins without <|start|> [missing_start]
              a terminator   ends the text before it as a message [missing_message]; without
                             such text it ends nothing [stray_terminator]
              text           is held until one of the above follows [text_between_messages]
    header    <|message|>    the content begins
              <|start|>      the header begins again [repeated_start]
              a terminator   ends a content that began in the header [missing_message], or a
                             header without content [garbage_header]
              any other      is part of the header
    content   a terminator   ends the message
              <|start|>, <|channel|>
                             begin the next message [missing_terminator]
              any other      is content; a special token, as its spelling
                             [special_token_in_body]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from ..errors import UnknownTokenError
from ._chunks import Chunk, has_text, is_blank_or_role
from ._events import TERMINATORS, Event
from ._gap import Gap
from ._header.unmarked import header_at_the_end
from ._message_ids import MessageIds
from ._open_message import BETWEEN, CONTENT, HEADER, OpenMessage
from ._plain_messages import read_plain_messages
from ._problems import ProblemLog
from ._roles import Role
from ._turn import Turn
from ._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    END_OF_TEXT,
    FIRST_SPECIAL,
    MESSAGE,
    NAMED_SPECIAL_TOKENS,
    SPECIAL_TOKEN_NAMES,
    START,
    ordinary_token_table,
)

_ENDS_HEADER: Final = frozenset({START, MESSAGE, END_OF_TEXT, *TERMINATORS})
_ENDS_CONTENT: Final = frozenset({START, CHANNEL, END_OF_TEXT, *TERMINATORS})


class Scanner:
    """Finds where messages begin and end, and what is between them.

    Args:
        role: The role with which the prompt ended; `None` if the tokens begin with `<|start|>`.
        turn: Judges the messages.
        log: Receives the problems.
        events: Receives the events, or `None`.
        remembers: Whether messages remember their tokens: true for ids from a model.

    Attributes:
        message: The message being read.
        position: How many tokens were read.
    """

    __slots__ = ("_gap", "_ids", "_log", "_turn", "message", "position")

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
        self._ids = MessageIds(role, remembers=remembers)
        self.message = OpenMessage(role, turn, log, events, self._ids)
        self._gap = Gap(log)
        self.position = 0

    @property
    def settled(self) -> int:
        """The position before which no further problem can be found."""
        place = self.position
        if self.message.state != BETWEEN:
            place = self.message.start
        elif self._gap.tokens:
            place = self._gap.start
        waiting = self._turn.pending_start
        return place if waiting is None else min(place, waiting)

    # --- Input ---

    def add_text(self, ids: bytes, texts: Sequence[str]) -> None:
        """Read ordinary tokens within a content, while `message.takes_text`.

        Args:
            ids: The packed tokens.
            texts: Their text, in any number of parts.
        """
        self.message.text.chunks += texts
        self.position += len(ids) // 4
        self._ids.add(ids)

    def feed(self, tokens: Sequence[int]) -> None:
        """Read tokens.

        Raises:
            UnknownTokenError: A value is not an integer; the tokens before it were read.
            ParseError: Reading is strict, and there is a problem.
        """
        message = self.message
        if message.state == CONTENT and len(tokens) == 1 and self._add_one(tokens[0]):
            return
        try:
            chunk = Chunk(tokens)
        except UnknownTokenError as error:
            self.feed(tokens[: error.position])
            raise UnknownTokenError(error.token, self.position) from None
        ids = self._ids
        ids.add(chunk.packed)
        length = len(tokens)
        origin = self.position
        place = 0
        while place < length:
            if message.state == CONTENT:
                place = self._read_content(chunk, place)
            elif message.state == HEADER:
                place = self._read_header(chunk, place)
            else:
                if tokens[place] == START and not self._gap.tokens:
                    place = read_plain_messages(
                        chunk, place, origin, self._turn, message.headers, remembers=ids.remembers
                    )
                    self.position = origin + place
                    if place == length:
                        break
                place = self._read_between(chunk, place)
            self.position = origin + place
        ids.forget(self.position if message.state == BETWEEN else message.start)

    def _add_one(self, token: int) -> bool:
        """Read one token if it is ordinary, such as part of a character; returns whether it is."""
        if not isinstance(token, int) or not 0 <= token < FIRST_SPECIAL:
            return False
        self.message.add(ordinary_token_table()[token])
        self.position += 1
        self._ids.add(token.to_bytes(4, sys.byteorder))
        return True

    def close(self, broken: int) -> None:
        """End the input, and with it whatever is incomplete.

        Args:
            broken: The length of a prefix of a special token's spelling after the tokens; 0 if
                there is none.
        """
        position = self.position
        message, turn, log = self.message, self._turn, self._log
        message.is_input_broken = bool(broken)
        if message.state == CONTENT:
            message.end(None, position)
        elif message.state == HEADER:
            message.end_without_marker(None, position)
        elif self._is_message_in_gap():
            self._end_text(None, position)
        else:
            self._gap.end()
        log.abandon()
        if broken:
            log.report("partial_special_token", position, position + broken, outside=True)
        turn.finish(position)
        log.settle()

    # --- Between messages ---

    def _read_between(self, chunk: Chunk, begin: int) -> int:
        """Read to the start of a message or to the end of the chunk; returns the index after it."""
        tokens = chunk.tokens
        end = chunk.special(begin)
        gap = self._gap
        if end > begin:
            gap.add(tokens[begin:end], self.position)
        if end == len(tokens):
            return end
        token = tokens[end]
        position = self.position + end - begin
        turn = self._turn
        if token == START:
            gap.end()
            self.message.begin(position, position + 1, has_start=True)
        elif token == CHANNEL or (token in (MESSAGE, CONSTRAIN) and not turn.is_over):
            self._begin_without_start(token, position)
            return end
        elif token not in TERMINATORS and token != END_OF_TEXT:
            self._spell(token, position)
            gap.add((token,), position)
        elif self._is_message_in_gap():
            self._end_text(token, position)
        else:
            gap.end()
            self._log.report("stray_terminator", position, position + 1, outside=True)
            turn.stray_terminator(token, position)
        return end + 1

    def _begin_without_start(self, token: int, position: int) -> None:
        """A message begins with `<|channel|>`, `<|constrain|>` or `<|message|>`."""
        gap, start, header = self._gap, position, []
        if is_blank_or_role(gap.tokens):
            start -= len(gap.take())
        else:
            place = header_at_the_end(gap.tokens, has_channel=token == CHANNEL)
            header = gap.take_from(place)
            start -= len(header)
            gap.end()
        header_start = start if header else position
        self._log.report("missing_start", header_start, header_start)
        self.message.begin(start, header_start, has_start=False)
        self.message.header_tokens += header

    def _is_message_in_gap(self) -> bool:
        """Whether a terminator makes a message of the text since the last one."""
        turn = self._turn
        return turn.is_completion and not turn.is_over and has_text(self._gap.tokens)

    def _end_text(self, token: int | None, position: int) -> None:
        """The text since the last message is a message without a header."""
        start, message = self._gap.start, self.message
        self._log.report("missing_start", start, start)
        message.begin(start, start, has_start=False)
        message.header_tokens = self._gap.take()
        message.end_without_marker(token, position)

    # --- Headers ---

    def _read_header(self, chunk: Chunk, begin: int) -> int:
        """Read to the end of the header or of the chunk; returns the index after it."""
        tokens, message = chunk.tokens, self.message
        length = len(tokens)
        end = chunk.special(begin)
        while end < length and tokens[end] not in _ENDS_HEADER:
            end = chunk.special(end + 1)
        message.header_tokens += tokens[begin:end]
        if end == length:
            return end
        token = tokens[end]
        position = self.position + end - begin
        if token == MESSAGE:
            message.end_header(position)
        elif token == START and is_blank_or_role(message.header_tokens):
            self._log.report("repeated_start", position, position + 1)
            message.begin(message.start, position + 1, has_start=True)
        else:
            message.end_without_marker(token, position)
            if token == START:
                message.begin(position, position + 1, has_start=True)
        return end + 1

    # --- Contents ---

    def _read_content(self, chunk: Chunk, begin: int) -> int:
        """Read to the end of the content or of the chunk; returns the index after it."""
        tokens, pieces, message = chunk.tokens, chunk.pieces, self.message
        length = len(tokens)
        end = chunk.special(begin)
        spelled: list[bytes] = []
        start = begin
        while end < length and tokens[end] not in _ENDS_CONTENT:
            position = self.position + end - begin
            spelled += pieces[start:end]
            if tokens[end] == MESSAGE and position == message.content_start:
                self._log.report("repeated_message", position, position + 1)
                message.content_start = position + 1
            else:
                spelled.append(self._spell(tokens[end], position))
            start = end + 1
            end = chunk.special(start)
        if end > begin:
            message.add(b"".join([*spelled, *pieces[start:end]] if spelled else pieces[start:end]))
        if end == length:
            return end
        token = tokens[end]
        position = self.position + end - begin
        if token == CHANNEL:
            message.end_at_channel(position)
            return end
        message.end(token, position)
        if token == START:
            message.begin(position, position + 1, has_start=True)
        return end + 1

    def _spell(self, token: int, position: int) -> bytes:
        """Report a special or unknown token in a text; returns the bytes that it is read as."""
        name = SPECIAL_TOKEN_NAMES.get(token)
        if name is None:
            self._log.report("unknown_token", position, position + 1, str(token))
            return b"\xef\xbf\xbd"
        is_named = token in NAMED_SPECIAL_TOKENS
        code = "special_token_in_body" if is_named else "reserved_special_token"
        self._log.report(code, position, position + 1, name)
        return name.encode()
