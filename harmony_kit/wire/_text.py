"""Parses text to messages, with special tokens spelled out or missing.

An engine that returns text instead of token ids returns one of two forms. If the special tokens are
spelled out (`<|channel|>final<|message|>...`), the text is parsed by `Parser`. If they were
stripped (`analysis...assistantfinal...`), messages are found by the words that are left of headers.

Spans count characters here. Prefer `Parser` where token ids are available, since a text does not
show whether `<|end|>` is a token or content.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Final

from .._options import checked_options
from ..errors import HarmonyError, ParseError
from ._events import (
    TURN_ENDS,
    Completion,
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParsedMessage,
    ProblemFound,
    Terminator,
)
from ._header.reading import call_channel_problem
from ._messages import Header, trusted_message
from ._parser import Parser
from ._problems import Problem, ProblemLog, Span
from ._roles import Channel, Role
from ._vocabulary import SPECIAL_TOKENS, ordinary_token_table


@checked_options
def parse_text(
    text: str,
    *,
    role: Role | str | None = Role.ASSISTANT,
    strict: bool = False,
    stripped: bool | None = None,
) -> Completion:
    """Parse a complete text.

    Args:
        text: A completion of a prompt that ends with `<|start|>assistant`; with `role=None`, a
            conversation that begins with `<|start|>`.
        role: The role with which the prompt ended, or `None`.
        strict: Whether to raise at the first problem instead of repairing it.
        stripped: Whether the special tokens are missing. With `None`, they are if the text begins
            with a channel to which content is glued, and later has `assistant` glued to a channel;
            or if it begins with a channel, a recipient and `{`.

    Returns:
        The messages and problems; all spans count characters.

    Raises:
        ParseError: With `strict`, there is a problem; its position counts characters.
        HarmonyError: The role is unknown, is `tool`, or is not the assistant's with
            `stripped=True`.

    Example:
        >>> parse_text("<|channel|>final<|message|>Hello!<|return|>").text
        'Hello!'
        >>> parse_text("analysisThe user greets.assistantfinalHello!").text
        'Hello!'
    """
    if stripped is None:
        is_completion = role == Role.ASSISTANT  # only the assistant's text is guessed at
        stripped = is_completion and looks_stripped(text)
        if not stripped and is_completion and not _SPELLING.search(text) and text.strip():
            return _plain_text(text, strict=strict)
    parser = TextParser(role=role, strict=strict, stripped=stripped)
    parser.feed(text)
    parser.close()
    return parser.result()


def looks_stripped(text: str) -> bool:
    """Whether the special tokens of a completion were stripped, as far as its text shows."""
    if _CALL_START.match(text):
        return True
    return bool(_GLUED_START.match(text) and _GLUED_ASSISTANT.search(text))


class TextParser:
    """Parses text as it arrives, in chunks of any size.

    Args:
        role: As for `Parser`.
        strict: As for `Parser`.
        stripped: Whether the special tokens are missing. Unlike `parse_text`, a parser cannot find
            this out, since it does not have the whole text.

    Raises:
        HarmonyError: The role is unknown, is `tool`, or is not the assistant's with
            `stripped=True`.

    Example:
        >>> parser = TextParser()
        >>> for text in ("<|chan", "nel|>final<|mess", "age|>Hello!<|return|>"):
        ...     events = parser.feed(text)
        >>> parser.close()
        []
        >>> parser.result().text
        'Hello!'
    """

    @checked_options
    def __init__(
        self,
        *,
        role: Role | str | None = Role.ASSISTANT,
        strict: bool = False,
        stripped: bool = False,
    ) -> None:
        self._reader: _SpelledReader | _StrippedReader
        if not stripped:
            self._reader = _SpelledReader(role, strict)
        elif role != Role.ASSISTANT:
            raise HarmonyError(f"stripped=True needs role='assistant', got {role!r}")
        else:
            self._reader = _StrippedReader(strict)

    def feed(self, text: str) -> list[Event]:
        """Consume text.

        Args:
            text: The next characters, any number.

        Returns:
            The events, as from `Parser.feed`.

        Raises:
            ParseError: With `strict`, there is a problem.
            HarmonyError: The parser is closed.
        """
        return self._reader.feed(text)

    def close(self) -> list[Event]:
        """End the input, and with it the message being read.

        Returns:
            The remaining events.

        Raises:
            ParseError: With `strict`, a message is incomplete, or there was a problem before.
        """
        return self._reader.close()

    def result(self) -> Completion:
        """The complete messages and the problems so far."""
        return self._reader.result()


# --- Special tokens spelled out -------------------------------------------------------------

_SPELLING: Final = re.compile(r"<\|[a-z]+(?:_[0-9]+)?\|>")
# A prefix of such a spelling at the end of a text.
_BROKEN: Final = re.compile(r"<(?:\|(?:[a-z]+(?:_[0-9]*)?\|?)?)?\Z")
# A shorter prefix is not taken as a truncated special token.
_SHORTEST_PART: Final = len("<|c")


@cache
def _byte_tokens() -> bytes:
    """For each byte, the id of the token of that byte alone; all of them are below 256."""
    tokens = bytearray(256)
    for token, piece in enumerate(ordinary_token_table()[:256]):
        tokens[piece[0]] = token
    return bytes(tokens)


def _broken_token(text: str) -> str:
    """The prefix of a special token's spelling at the end of a text; may be empty."""
    match = _BROKEN.search(text)
    part = match.group() if match else ""
    return part if any(name.startswith(part) for name in SPECIAL_TOKENS) else ""


class _Characters:
    """Converts positions of the parser, which counts special tokens and bytes, to characters."""

    _LONGEST: Final = 1024  # bytes per part; a look-up reads one part

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # empty for a special token
        self._units = [0]  # the start of each part
        self._characters = [0]

    def add(self, part: bytes, units: int, characters: int) -> None:
        self._parts.append(part)
        self._units.append(self._units[-1] + units)
        self._characters.append(self._characters[-1] + characters)

    def add_text(self, data: bytes) -> None:
        for start in range(0, len(data), self._LONGEST):
            part = data[start : start + self._LONGEST]
            self.add(part, len(part), _count_characters(part))

    def at(self, unit: int) -> int:
        """The character that contains a unit."""
        index = bisect_right(self._units, unit) - 1
        within = unit - self._units[index]
        if not within:
            return self._characters[index]
        return self._characters[index] + _count_characters(self._parts[index][: within + 1]) - 1


def _in_characters(error: ParseError, position: int) -> ParseError:
    return ParseError(error.code, error.reason, position=position, unit="character")


def _count_characters(data: bytes) -> int:
    """How many characters begin in a part of UTF-8 data."""
    return len(data) if data.isascii() else sum((byte & 0xC0) != 0x80 for byte in data)


class _SpelledReader:
    """Feeds a parser with the special tokens of a text, and the tokens of its other bytes."""

    def __init__(self, role: Role | str | None, strict: bool) -> None:
        self._parser = Parser.of_text(role, strict)
        self._characters = _Characters()
        self._held = ""

    def feed(self, text: str) -> list[Event]:
        text = self._held + text
        self._held = _broken_token(text)
        return self._feed(text[: len(text) - len(self._held)])

    def close(self) -> list[Event]:
        held, self._held = self._held, ""
        if len(held) < _SHORTEST_PART:
            return self._feed(held) + self._counted(self._parser.close)
        self._characters.add_text(held.encode())
        return self._counted(lambda: self._parser.close_broken(len(held)))

    def result(self) -> Completion:
        result = self._parser.result()
        return replace(
            result,
            parsed=tuple(map(self._parsed, result.parsed)),
            stray=tuple(map(self._problem, result.stray)),
        )

    def _feed(self, text: str) -> list[Event]:
        tokens: list[int] = []
        start = 0
        for match in _SPELLING.finditer(text):
            token = SPECIAL_TOKENS.get(match.group())
            if token is not None:
                tokens += self._bytes(text[start : match.start()])
                tokens.append(token)
                self._characters.add(b"", 1, len(match.group()))
                start = match.end()
        tokens += self._bytes(text[start:])
        return self._counted(lambda: self._parser.feed(tokens)) if tokens else []

    def _bytes(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        self._characters.add_text(data)
        return data.translate(_byte_tokens())

    # --- Positions in characters ---

    def _counted(self, read: Callable[[], list[Event]]) -> list[Event]:
        try:
            return [self._event(event) for event in read()]
        except ParseError as error:
            raise _in_characters(error, self._characters.at(error.position)) from None

    def _event(self, event: Event) -> Event:
        if isinstance(event, MessageEnded):
            return MessageEnded(event.message_index, self._parsed(event.parsed))
        if isinstance(event, ProblemFound):
            return ProblemFound(self._problem(event.problem))
        return event

    def _parsed(self, parsed: ParsedMessage) -> ParsedMessage:
        span = MessageSpan(*map(self._characters.at, parsed.span))
        problems = tuple(map(self._problem, parsed.problems))
        return parsed._replace(span=span, problems=problems)

    def _problem(self, found: Problem) -> Problem:
        return found._replace(span=Span(*map(self._characters.at, found.span)))


# --- Special tokens missing -----------------------------------------------------------------

# What is left of a header: a channel, a recipient before or after it, a content type. Some engines
# strip only some of the special tokens. Lengths are limited so that a reader withholds little text.
_NAME: Final = r"(?: (?! assistant (?: analysis | commentary | final ) ) [\w.\-] )"
_HEADER: Final = rf"""
    (?:
        (?: \s{{0,4}} to= (?P<before> {_NAME}{{1,128}}? ) [ ]? (?: <\|channel\|> )?
            (?P<channel> analysis | commentary | final ) (?= [\s{{\[<"] | json | code | \Z )
        | (?: <\|channel\|> )? (?P<channel> analysis | commentary | final )
            (?: [ ]? to= (?P<after> {_NAME}{{1,128}} ) )?
        )
        (?: [ ]? (?:<\|constrain\|>)? (?P<type> json | code ) (?= [\s{{\[<"] | \Z ) )?
    | \s{{1,4}} to= (?P<after> {_NAME}{{1,128}} ) (?: [ ] (?P<type> json | code ) )?
        (?= \s{{0,4}} \{{ )
    )
    (?: <\|message\|> )?
"""
# What a header without a channel leaves: it is a call only with the object that follows.
_CALL: Final = rf"""
    to= (?P<after> {_NAME}{{1,128}} ) (?: [ ] (?P<channel> analysis | commentary ) )?
    (?: [ ]? (?P<type> json | code ) )? (?= \s{{0,4}} \{{ )
"""
# A channel with a word after a blank is the beginning of prose.
_START: Final = rf"""
    \s{{0,16}} (?: <\|start\|> )? (?:assistant)?
    (?! \s* (?: analysis | commentary | final ) [ ] (?! to= | json | code | <\| ) \S )
    (?: {_HEADER} | {_CALL} )
"""
_NEXT: Final = rf"""
    (?P<terminator> <\|(?:end|call|return)\|> )? (?: \s{{0,4}} <\|start\|> )?
    assistant {_HEADER}
    | (?<! \S ) {_CALL}
"""
# A header is complete when so many characters follow that no further part of it can begin.
_LOOKAHEAD: Final = len(" <|constrain|>json<|message|>")
_LAST_TERMINATOR: Final = re.compile(r"<\|(?:end|call|return)\|>\Z")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_GLUED_START: Final = re.compile(
    r"\s*(?:assistant)?(?:analysis|commentary|final)(?:[^\s<]|\n| to=)"
)
_GLUED_ASSISTANT: Final = re.compile(r"assistant(?:analysis|commentary|final| to=\S)")


@cache
def _pattern(text: str) -> Any:
    import regex  # unlike re, it reports partial matches

    return regex.compile(text, regex.VERBOSE)


_CALL_START: Final = re.compile(
    r"\s*(?:assistant)?(?:analysis|commentary) ?to=[\w.\-]{1,128}(?: ?(?:json|code))?\s{0,4}\{"
)
# What looks like a call in a text that is no call: the name, and the object after it.
_LIKE_CALL: Final = re.compile(
    r"(?<!\S)to=([\w.\-]{1,128})(?: (?:analysis|commentary))?(?: ?(?:json|code))?\s{0,4}\{"
)


def _plain_text(text: str, *, strict: bool) -> Completion:
    """Parse a text without any sign of the format as the final answer."""
    reader = _StrippedReader(strict)
    reader.leave_plain()
    reader.feed(text)
    reader.close()
    return reader.result()


class _StrippedReader:
    """Finds messages by the header words that are left without special tokens."""

    def __init__(self, strict: bool) -> None:
        self._log = ProblemLog(strict, self._tell)
        self._held = ""  # the end of the text, where a header may begin
        self._position = 0  # the position of that
        self._is_start = True  # whether the first header may still follow
        self._is_plain = False  # whether all text is content
        self._is_closed = False
        self._header: Header | None = None  # of the current message
        self._start = 0
        self._content_start = 0
        self._pieces: list[str] = []
        self._has_spelled = False  # whether some special tokens were left
        self._parsed: list[ParsedMessage] = []
        self._events: list[Event] = []

    def leave_plain(self) -> None:
        """Treat all text as content."""
        self._is_plain = True

    def feed(self, text: str) -> list[Event]:
        if self._is_closed:
            raise HarmonyError("the parser is closed and takes no more input")
        self._held += _SURROGATE.sub("\ufffd", text)
        self._read(is_last=False)
        return self._take_events()

    def close(self) -> list[Event]:
        if not self._is_closed:
            self._is_closed = True
            self._read(is_last=True)
            self._end()
            self._log.abandon()
            self._log.settle()
            self._check()
        return self._take_events()

    def _check(self) -> None:
        try:
            self._log.check()
        except ParseError as error:
            raise _in_characters(error, error.position) from None

    def _tell(self, found: Problem) -> None:
        self._events.append(ProblemFound(found))

    def result(self) -> Completion:
        last = self._parsed[-1].terminator if self._parsed else None
        return Completion(
            tuple(self._parsed),
            self._log.problems(),
            self._log.omitted,
            TURN_ENDS.get(last) if last else None,
            len(self._parsed),
        )

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # --- Finding headers ---

    def _read(self, *, is_last: bool) -> None:
        if self._is_plain:
            self._show(len(self._held))
            return
        if self._is_start:
            match = _pattern(_START).match(self._held, partial=not is_last)
            if match and self._is_undecided(match, is_last):
                return
            self._is_start = False
            if match:
                self._begin(match)
        while True:
            match = _pattern(_NEXT).search(self._held, partial=not is_last)
            if not match:
                last = _LAST_TERMINATOR.search(self._held) if is_last else None
                self._show(last.start() if last else len(self._held))
                return
            self._show(match.start())
            if match.start():  # the positions in the match are out of date
                match = _pattern(_NEXT).match(self._held, partial=not is_last)
            if self._is_undecided(match, is_last):
                return
            terminator = match["terminator"] or ""
            self._end_message(terminator)
            self._begin(match, len(terminator))

    def _is_undecided(self, match: Any, is_last: bool) -> bool:
        if is_last:
            return False
        return bool(match.partial) or len(self._held) - match.end() < _LOOKAHEAD

    def _begin(self, match: Any, start: int = 0) -> None:
        """Begin the message of a header, which starts at an index of the held text."""
        self._has_spelled |= "<|" in match.group()
        channel = match["channel"] or Channel.COMMENTARY.value
        recipient = match["after"] or match["before"]
        self._header = Header(Role.ASSISTANT, None, channel, recipient, match["type"])
        self._start = self._position + start
        self._advance(match.end())
        self._content_start = self._position
        self._log.settle()
        self._events.append(MessageStarted(len(self._parsed), self._header))
        code = call_channel_problem(self._header) if self._header.is_call else None
        if code is not None:
            self._log.report(code, self._start, self._content_start)

    def _advance(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        self._position += length
        return taken

    def _show(self, length: int) -> None:
        """Add the held text up to an index to the content."""
        text = self._advance(length)
        if not text:
            return
        self._pieces.append(text)
        if self._header is not None:
            self._events.append(ContentDelta(len(self._parsed), self._header, text))

    # --- Ending messages ---

    def _end(self) -> None:
        """End the last message."""
        if self._header is None and not self._parsed:
            self._end_plain()
            return
        self._end_message(self._held)
        code = (
            "partially_stripped_special_tokens" if self._has_spelled else "stripped_special_tokens"
        )
        self._log.report(code, 0, self._position + len(self._held))

    def _end_plain(self) -> None:
        if "".join(self._pieces).strip():
            self._log.report("no_harmony_markup", 0, self._position)
            for call in _LIKE_CALL.finditer("".join(self._pieces)):
                self._log.report("text_looks_like_call", *call.span(), call[1])
            self._end_message(self._held, Channel.FINAL)
            return
        self._log.report("empty_output", 0, 0)
        end = self._position + len(self._held)
        if self._position:
            self._log.report("text_between_messages", 0, self._position, outside=True)
        if self._held:
            self._log.report("stray_terminator", self._position, end, outside=True)

    def _end_message(self, terminator: str, channel: Channel = Channel.ANALYSIS) -> None:
        """Close the current message; if it has no header, it is on the given channel."""
        content = "".join(self._pieces)
        self._pieces = []
        header, self._header = self._header, None
        index = len(self._parsed)
        if header is None:
            if not content and not terminator:
                return  # the text begins with the header of the second message
            header = Header(Role.ASSISTANT, channel=channel.value)
            if channel is not Channel.FINAL:
                self._log.report("missing_channel", 0, 0)
            self._events.append(MessageStarted(index, header))
            if content:
                self._events.append(ContentDelta(index, header, content))
        end = self._position
        closed_by = Terminator(terminator) if terminator else None
        span = MessageSpan(self._start, self._content_start, end, end + len(terminator))
        message = trusted_message(header, content)
        parsed = ParsedMessage(message, span, closed_by, tuple(self._log.take()))
        self._parsed.append(parsed)
        self._events.append(MessageEnded(index, parsed))
