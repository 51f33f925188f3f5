"""Parsing exactly like openai-harmony, including quirks and errors.

This is a separate state machine from `harmony_kit.parse`, which never loses a token; this one
reproduces the behavior that programs written for the reference rely on. Quirks are marked where
they occur.

A parser expects the start of a message, then collects the tokens of its header, then those
of its content. `TokenParser` takes single tokens; `parse_completion` returns the same messages for
a whole completion, faster.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from ..wire._vocabulary import (
    FIRST_SPECIAL,
    MESSAGE,
    SIZE,
    START,
    TERMINATORS,
    encode,
)
from ._reference_tokens import (
    REPLACEMENT,
    TOKEN_LIMIT,
    HarmonyError,
    cut_text,
    decode_bytes,
    decode_utf8,
    rust_debug,
    token_id,
    token_table,
)


class StreamState(Enum):
    """The state of a parser within a message."""

    EXPECT_START = "ExpectStart"
    HEADER = "Header"
    CONTENT = "Content"


# --- Headers --------------------------------------------------------------------------------


class Header(NamedTuple):
    """The header of a message; `content_type` includes its `<|constrain|>`."""

    role: str
    name: str | None = None
    recipient: str | None = None
    channel: str | None = None
    content_type: str | None = None


class ParsedMessage(NamedTuple):
    """A message: its header, and its content as text."""

    header: Header
    text: str


ROLES: Final = ("user", "assistant", "system", "developer", "tool")
# Unicode's White_Space, which differs from the whitespace of Python's `strip` and `isspace`.
_WHITE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_CHANNEL: Final = re.compile(rf"<\|channel\|>([^<{_WHITE}]*)")
_WORD: Final = re.compile(r"[^ \t\n\f\r]+")


def _read_header(tokens: list[int], role: str | None) -> Header:
    """Read the header of a message that has a content."""
    # Most headers recur; long ones are accidents and not worth caching.
    read = _read_short_header if len(tokens) < 64 else _read_short_header.__wrapped__
    return read(tuple(tokens), role)


@lru_cache(maxsize=1024)
def _read_short_header(tokens: tuple[int, ...], role: str | None) -> Header:
    try:
        text = decode_bytes(tokens).decode()
    except (HarmonyError, UnicodeDecodeError):
        raise HarmonyError("could not decode header") from None
    channel, words = _channel_and_words(text)
    author, name = _take_author(words, role)
    recipient, content_type = _take_recipient_and_type(words)
    if words:
        rest = rust_debug(" ".join(words))
        raise HarmonyError(f"unexpected tokens remaining in message header: Some({rest})")
    return Header(author, name, recipient, channel, content_type)


def _headless_message(tokens: Sequence[int], role: str) -> ParsedMessage:
    """The message of a header that ended without a content; its words become the content."""
    channel, words = _channel_and_words(decode_utf8(tokens))
    author, name = _take_author(words, role)
    return ParsedMessage(Header(author, name, None, channel, None), " ".join(words))


def _channel_and_words(text: str) -> tuple[str | None, list[str]]:
    # Only the first channel counts; the text of a second one stays among the words.
    channel = None
    marker = _CHANNEL.search(text)
    if marker:
        channel = marker[1]
        if not channel:
            raise HarmonyError("channel marker present but no channel value found in header")
        text = text[: marker.start()] + text[marker.end() :]
    text = text.strip(_WHITE).replace("<|constrain|>", " <|constrain|>").strip(_WHITE)
    return channel, _WORD.findall(text)


def _take_author(words: list[str], role: str | None) -> tuple[str, str | None]:
    """Remove the author from the words; a tool's name replaces the role."""
    first = None
    if role is None:
        if not words:
            raise HarmonyError("message header did not contain a role")
        first = words[0]
        if first in ROLES:
            role = first
        elif len(words) > 1 or first.startswith("to="):
            role = "tool"
            del words[0]
        else:
            raise HarmonyError(f"Unknown role: {first}")
    # Also removed if the role was passed in or already removed: otherwise a second
    # "assistant" would become a recipient.
    if words and words[0] == role:
        del words[0]
    return role, first if role == "tool" else None


def _take_recipient_and_type(words: list[str]) -> tuple[str | None, str | None]:
    """Remove both from the end of the words; a single word is always a recipient."""
    if not words:
        return None, None
    last = words.pop()
    if last.startswith("to="):
        return last[3:], None
    if not words:
        return last, None
    return words.pop().removeprefix("to="), last


class _OpenMessage:
    """A message whose content is being read.

    Each token emits the text up to and including *one* invalid sequence, as U+FFFD. The rest, and
    an incomplete sequence, are kept for later tokens.
    """

    __slots__ = (
        "_encoded",
        "_encoded_pieces",
        "_joined",
        "_joined_pieces",
        "_lost",
        "_queue",
        "_rest",
        "_tail",
        "clean",
        "delta",
        "header",
        "pieces",
    )

    def __init__(self, header: Header) -> None:
        self.header = header
        self.pieces: list[str] = []
        """The emitted text, in the reference's chunks."""
        self.delta: str | None = None
        """The text that the last token emitted."""
        self.clean = True
        """Whether no bytes are pending, so that text can be emitted directly."""
        self._lost = False
        self._queue: deque[str] = deque()
        self._rest: list[str] = []
        self._tail = b""
        self._joined = ""
        self._joined_pieces = 0
        self._encoded: list[int] = []
        self._encoded_pieces = 0

    def take(self, token: int) -> None:
        """Process the next token of the content."""
        self.delta = None
        if self._lost:
            return
        if token >= SIZE:
            self._lost = True
            self.clean = False
            return
        broken, text, self._tail = cut_text(self._tail + token_table()[token])
        if broken:
            broken[0] = "".join([*self._rest, broken[0]])
            self._rest.clear()
            self._queue += broken
        if text:
            self._rest.append(text)
        self._let_out()
        self.clean = not (self._queue or self._rest or self._tail)

    def _let_out(self) -> None:
        if self._queue:
            text = self._queue.popleft()
            self.pieces += [text, REPLACEMENT] if text else [REPLACEMENT]
            self.delta = text + REPLACEMENT
        elif self._rest:
            self.delta = "".join(self._rest)
            self._rest.clear()
            self.pieces.append(self.delta)

    def text(self) -> str:
        """The text emitted so far."""
        # Reading this after every token must not copy the whole text every time. CPython
        # extends a string in place if it has no other reference, hence the local variable.
        text = self._joined
        self._joined = ""
        text += "".join(self.pieces[self._joined_pieces :])
        self._joined = text
        self._joined_pieces = len(self.pieces)
        return text

    def tokens(self) -> list[int]:
        """The text emitted so far as tokens, which may differ from the input tokens."""
        for piece in self.pieces[self._encoded_pieces :]:
            self._encoded += encode(piece)
        self._encoded_pieces = len(self.pieces)
        return self._encoded.copy()

    def closed(self) -> ParsedMessage:
        """The message including pending bytes."""
        # An unknown id and everything after it become one U+FFFD, before the bytes then pending.
        lost = REPLACEMENT if self._lost else ""
        waiting = "".join(text + REPLACEMENT for text in self._queue) + "".join(self._rest)
        text = self.text() + lost + waiting + self._tail.decode("utf-8", "replace")
        return ParsedMessage(self.header, text)


# --- Token by token -------------------------------------------------------------------------

# A cache of the text of content tokens that are valid UTF-8 on their own.

_texts: Final[dict[int, str]] = {}


def _text_of(token: int) -> str | None:
    try:
        text = token_table()[token].decode()
    except (IndexError, UnicodeDecodeError):
        return None
    _texts[token] = text
    return text


class TokenParser:
    """The reference's parser, token by token.

    Args:
        role: The role that the prompt set for the first message; `None` if the tokens start
            with `<|start|>`.
        strict: Whether a terminator inside a header is part of it. Otherwise it ends the
            message, and the header becomes the content if the prompt set the role, or is
            dropped.
    """

    def __init__(self, role: str | None, strict: bool) -> None:
        self._strict = strict
        self._next_role = role
        self._tokens: list[int] = []
        self._parsed: list[ParsedMessage] = []
        self._in_header = role is not None
        self._header_tokens: list[int] = []
        self._open: _OpenMessage | None = None

    def process(self, token: int) -> Self:
        """Process the next token.

        Raises:
            HarmonyError: The token is not allowed here, or it completed an invalid header. More
                tokens can follow, as in the reference.
        """
        if type(token) is not int or not 0 <= token < TOKEN_LIMIT:
            token = token_id(token, "token")
        self._tokens.append(token)
        message = self._open
        if message is None:
            self._process_outside(token)
        elif message.clean and (text := _texts.get(token)) is not None:
            message.pieces.append(text)
            message.delta = text
        elif token in TERMINATORS:
            self._close(message)
        elif message.clean and (text := _text_of(token)) is not None:
            message.pieces.append(text)
            message.delta = text
        else:
            message.take(token)
        return self

    def process_eos(self) -> Self:
        """Process the end of the tokens, which closes an open message.

        Raises:
            HarmonyError: The tokens ended within a header.
        """
        if self._open is not None:
            self._close(self._open)
        elif self._in_header:
            raise _unexpected_end()
        return self

    def _process_outside(self, token: int) -> None:
        if not self._in_header:
            if token != START:
                raise _unexpected_token(token)
            self._in_header = True
            self._header_tokens = []
        elif token == MESSAGE:
            # If the header is invalid, the next message takes the role of this one.
            self._in_header = False
            self._open = _OpenMessage(_read_header(self._header_tokens, self._next_role))
            self._next_role = None
        elif token in TERMINATORS and not self._strict:
            # If the header is invalid, it continues.
            if self._next_role is not None and self._header_tokens:
                self._parsed.append(_headless_message(self._header_tokens, self._next_role))
            self._in_header = False
            self._next_role = None
        else:
            self._header_tokens.append(token)

    def _close(self, message: _OpenMessage) -> None:
        self._parsed.append(message.closed())
        self._open = None

    @property
    def tokens(self) -> list[int]:
        """All input tokens, including those that raised an error."""
        return self._tokens.copy()

    @property
    def current_content(self) -> str:
        """The content of the open message so far, without incomplete characters."""
        return "" if self._open is None else self._open.text()

    @property
    def last_content_delta(self) -> str | None:
        """The text that the last token added to the content."""
        return None if self._open is None else self._open.delta

    @property
    def current_recipient(self) -> str | None:
        """The recipient of the open message."""
        return None if self._open is None else self._open.header.recipient

    @property
    def current_channel(self) -> str | None:
        """The channel of the open message."""
        return None if self._open is None else self._open.header.channel

    @property
    def current_content_type(self) -> str | None:
        """The content type of the open message, with its `<|constrain|>` if it has one."""
        return None if self._open is None else self._open.header.content_type

    @property
    def state(self) -> StreamState:
        """The state of the parser within a message."""
        if self._open is not None:
            return StreamState.CONTENT
        return StreamState.HEADER if self._in_header else StreamState.EXPECT_START

    @property
    def state_data(self) -> dict[str, Any]:
        """The state with the tokens of the header or content read so far."""
        data: dict[str, Any] = {"state": self.state.value}
        if self._open is not None:
            data["header"] = _header_data(self._open.header)
            data["content_tokens"] = self._open.tokens()
        elif self._in_header:
            data["header_tokens"] = self._header_tokens.copy()
        return data


def _header_data(header: Header) -> dict[str, Any]:
    author = {"role": header.role}
    if header.name is not None:
        author["name"] = header.name
    return {
        "author": author,
        "recipient": header.recipient,
        "channel": header.channel,
        "content_type": header.content_type,
    }


def _unexpected_token(token: int) -> HarmonyError:
    return HarmonyError(f"Unexpected token {token} while expecting start token {START}")


def _unexpected_end() -> HarmonyError:
    return HarmonyError("Unexpected EOS while waiting for message header to complete")


# --- A whole completion ---------------------------------------------------------------------


def parse_completion(tokens: list[int], role: str | None, strict: bool) -> list[ParsedMessage]:
    """The messages that a `TokenParser` returns for these tokens followed by their end.

    Raises:
        HarmonyError: As from `TokenParser`.
    """
    messages: list[ParsedMessage] = []
    end_of_header = _HEADER_ENDS if strict else _HEADER_ENDS | TERMINATORS
    end_of_tokens = len(tokens)
    special = _SpecialTokens(tokens)
    in_header = role is not None
    end = -1
    while in_header or end + 1 < end_of_tokens:
        start = end + 1
        if not in_header:
            if tokens[start] != START:
                raise _unexpected_token(tokens[start])
            start += 1
        in_header = False
        end = special.find(end_of_header, start)
        if end == end_of_tokens:
            raise _unexpected_end()
        header_tokens = tokens[start:end]
        if tokens[end] == MESSAGE:
            header = _read_header(header_tokens, role)
            start = end + 1
            end = special.find(TERMINATORS, start)
            messages.append(_whole_message(header, tokens[start:end]))
        elif role is not None and header_tokens:
            messages.append(_headless_message(header_tokens, role))
        role = None
    return messages


_HEADER_ENDS: Final = frozenset({MESSAGE})


class _SpecialTokens:
    """Finds special tokens, scanning each token once."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._places = iter([i for i, token in enumerate(tokens) if token >= FIRST_SPECIAL])

    def find(self, wanted: frozenset[int], start: int) -> int:
        """The index of the first wanted token from `start` on, or the number of tokens."""
        for place in self._places:
            if place >= start and self._tokens[place] in wanted:
                return place
        return len(self._tokens)


def _whole_message(header: Header, tokens: list[int]) -> ParsedMessage:
    if max(tokens, default=0) < SIZE:
        return ParsedMessage(header, decode_bytes(tokens).decode("utf-8", "replace"))
    message = _OpenMessage(header)
    for token in tokens:
        message.take(token)
    return message.closed()
