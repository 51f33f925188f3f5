"""Parses tokens to messages, one token at a time or all at once.

`Parser` does no I/O. It takes tokens and returns events: a message started, text was added to its
content, the message ended, a problem was found. The messages and problems do not depend on how the
tokens are divided into chunks, and the texts of a message's events concatenate to its content.

Lenient parsing never fails: malformed output is repaired, and every repair is reported as a
`Problem` with its position. No token is lost: each belongs to a message or to a problem. Strict
parsing raises a `ParseError` for the first problem instead.

`Scanner` finds messages in the tokens, `Turn` applies the rules about several messages, and
`ProblemLog` collects the problems.

A *completion* (the prompt ended with `<|start|>assistant`) is one turn of the assistant. A
*conversation* (the prompt ended with another role, or without one) may have any messages.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from operator import index, itemgetter
from typing import Final, NoReturn

from .._options import checked_options
from ..errors import HarmonyError, OptionError, UnknownTokenError
from ._events import Completion, ContentDelta, Event, ProblemFound
from ._messages import Header, Message
from ._problems import Problem, ProblemLog, parse_error
from ._roles import Role
from ._scanner import Scanner
from ._turn import Turn
from ._vocabulary import FIRST_SPECIAL, ordinary_token_table


@checked_options
def parse(
    tokens: Iterable[int], *, role: Role | str | None = Role.ASSISTANT, strict: bool = False
) -> Completion:
    """Parse a complete sequence of tokens.

    Args:
        tokens: Token ids: a completion of a prompt that ends with `<|start|>assistant`; with
            `role=None`, a conversation that begins with `<|start|>`.
        role: The role with which the prompt ended, or `None`.
        strict: Whether to raise at the first problem instead of repairing it.

    Returns:
        The messages and problems.

    Raises:
        ParseError: With `strict`, there is a problem; the error has its code and position.
        UnknownTokenError: A value is not an integer.
        OptionError: The tokens are text.
        HarmonyError: The role is unknown, or is `tool`.

    Example:
        >>> from harmony_kit import encode_with_special
        >>> parse(encode_with_special("<|channel|>final<|message|>Hello!<|return|>")).text
        'Hello!'
    """
    _refuse_text(tokens)
    reading = _Reading(_known_role(role), strict=False, events=None)
    reading.scanner.feed(tokens if isinstance(tokens, list) else list(tokens))
    reading.scanner.close(0)
    completion = reading.turn.completion()
    if strict and completion.problems:
        raise parse_error(completion.problems[0])
    return completion


def _refuse_text(tokens: object) -> None:
    if isinstance(tokens, str | bytes):
        raise OptionError("expected token ids, got text; use parse_text", option="tokens")


def _known_role(role: Role | str | None) -> Role | None:
    try:
        known = None if role is None else Role(role)
    except ValueError:
        names = ", ".join(name for name in Role if name is not Role.TOOL)
        raise HarmonyError(f"unknown role {role!r}; expected None or one of {names}") from None
    if known is Role.TOOL:
        raise HarmonyError(
            "role='tool' does not name the tool: use role=None and tokens that begin with <|start|>"
        )
    return known


class _Reading:
    """The scanner, turn and problem log of one parse."""

    __slots__ = ("log", "scanner", "turn")

    def __init__(
        self, role: Role | None, *, strict: bool, events: list[Event] | None, remembers: bool = True
    ) -> None:
        self.log = ProblemLog(strict, _Reporter(events))
        self.turn = Turn(role is Role.ASSISTANT, self.log, events)
        self.scanner = Scanner(role, self.turn, self.log, events, remembers=remembers)


class _Reporter:
    """Adds problems to a list of events."""

    __slots__ = ("_events",)

    def __init__(self, events: list[Event] | None) -> None:
        self._events = events

    def __call__(self, problem: Problem) -> None:
        if self._events is not None:
            self._events.append(ProblemFound(problem))


class Parser:
    """Parses tokens as they arrive.

    A parser can be pickled between two calls, and the copy continues from there.

    Args:
        role: The role with which the prompt ended (`<|start|>assistant`), which the tokens
            continue; `None` if the tokens begin with `<|start|>`. If the prompt ended with a
            prefill, feed the prefill first.
        strict: Whether to raise at the first problem instead of repairing it.

    Raises:
        HarmonyError: The role is unknown, or is `tool`.

    Example:
        >>> from harmony_kit import encode_with_special
        >>> parser = Parser()
        >>> for token in encode_with_special("<|channel|>final<|message|>Good day<|return|>"):
        ...     for event in parser.feed(token):
        ...         if isinstance(event, ContentDelta) and event.channel == "final":
        ...             print(event.text)
        Good
         day
        >>> parser.close()
        []
    """

    __slots__ = (
        "_deltas",
        "_error",
        "_events",
        "_header",
        "_ids",
        "_index",
        "_is_closed",
        "_met",
        "_reading",
        "_remembers",
        "_role",
        "_streamed",
        "_strict",
        "_texts",
    )

    @checked_options
    def __init__(self, *, role: Role | str | None = Role.ASSISTANT, strict: bool = False) -> None:
        self._role = _known_role(role)
        self._strict = strict
        self._remembers = True
        self.reset()

    @classmethod
    def of_text(cls, role: Role | str | None, strict: bool) -> Parser:
        """A parser for tokens made from a text, which its messages do not remember."""
        parser = cls(role=role, strict=strict)
        parser._remembers = False
        parser.reset()
        return parser

    def reset(self) -> None:
        """Discard all input, and begin again with the same role."""
        self._events: list[Event] = []  # of the current call
        self._reading = _Reading(
            self._role, strict=self._strict, events=self._events, remembers=self._remembers
        )
        self._error: HarmonyError | None = None
        self._is_closed = False
        # The events of the tokens seen in this message that are valid UTF-8 by themselves; None
        # while the next token is not certain to be content.
        self._deltas: dict[int, ContentDelta] | None = None
        self._met: dict[int, ContentDelta] = {}
        self._header: Header | None = None  # of that message
        self._index = -1
        # Streamed text that the scanner has not received yet: single tokens, and before them the
        # texts and packed ids of chunks.
        self._streamed: list[int] = []
        self._texts: list[str] = []
        self._ids: list[bytes] = []

    # --- Results ---

    @property
    def role(self) -> Role | None:
        """The role with which the prompt ended, until the first header has been read."""
        return self._reading.scanner.message.given_role

    @property
    def strict(self) -> bool:
        """Whether the first problem raises an error."""
        return self._strict

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that are complete and whose channel is known."""
        return tuple(parsed.message for parsed in self._reading.turn.parsed)

    @property
    def header(self) -> Header | None:
        """The header of the message whose content is being read, or `None`."""
        return self._reading.scanner.message.header

    @property
    def content(self) -> str:
        """The content so far of the message being read; empty between messages.

        Access takes time proportional to the new text only, as long as the caller does not keep a
        reference to the previous value.
        """
        self._settle()
        return self._reading.scanner.message.text.text

    @property
    def position(self) -> int:
        """How many tokens were consumed."""
        self._settle()
        return self._reading.scanner.position

    @property
    def turn_ended(self) -> bool:
        """Whether the turn of a completion has ended, so that generation can stop."""
        return self._reading.turn.is_over

    def result(self) -> Completion:
        """The complete messages and the problems so far.

        After an error, the messages before it.
        """
        if self._error is not None:
            parsed = self._reading.turn.parsed
            return Completion(tuple(parsed), turn_length=len(parsed))
        return self._reading.turn.completion()

    # --- Input ---

    def feed(self, tokens: int | Sequence[int]) -> list[Event]:
        """Consume one token or several.

        Args:
            tokens: A token id, or a sequence of them.

        Returns:
            The events, in order. A message's new content is one `ContentDelta` per call. While the
            channel of a message is not known, its events are withheld. Messages after the end of
            the turn have no events; they are in `result()`.

        Raises:
            ParseError: With `strict`, there is a problem: the first one, which may become known
                only at the end of its message. If there are events before it, they are returned
                and the next call raises. All later calls raise the same error; `messages` keeps
                the complete messages.
            UnknownTokenError: A value is not an integer; this is raised in the same way.
            HarmonyError: The parser is closed.

        Example:
            >>> from harmony_kit import encode_with_special
            >>> parser = Parser()
            >>> events = parser.feed(encode_with_special("<|channel|>final<|message|>Hi"))
            >>> events[-1].text
            'Hi'
        """
        if isinstance(tokens, int):
            # The path of nearly every streamed token: text within a content.
            deltas = self._deltas
            if deltas is not None:
                delta = deltas.get(tokens) or self._new_delta(tokens)
                if delta is not None:
                    self._streamed.append(tokens)
                    return [delta]
            return self._feed((tokens,))
        try:
            length = len(tokens)
        except TypeError:
            return self.feed(_integer(tokens, self.position))
        if length == 1 and isinstance(tokens[0], int):
            return self.feed(tokens[0])  # engines stream their tokens like that
        if self._deltas is not None:
            # Likewise for a chunk that is text and ends with a complete character.
            try:
                ids = _packer(length)(*tokens)
                text = b"".join(itemgetter(*tokens)(_joinable_table())).decode()
            except _NOT_PLAIN:
                pass
            else:
                if self._streamed:
                    self._settle()
                self._texts.append(text)
                self._ids.append(ids)
                return [_make(ContentDelta, (self._index, self._header, text))]
        return self._feed(tokens if isinstance(tokens, list | tuple) else list(tokens))

    def close(self) -> list[Event]:
        """End the input, and with it the message being read.

        Returns:
            The remaining events.

        Raises:
            ParseError: With `strict`, a message is incomplete, or there was a problem before.
            UnknownTokenError: A value fed before was not an integer.
        """
        return self.close_broken(0)

    def close_broken(self, length: int) -> list[Event]:
        """Do the same as `close`, for a text that ends inside the spelling of a special token.

        Args:
            length: The length of the incomplete spelling.
        """
        self._settle()
        self._deltas = None
        if self._error is not None:
            raise self._error
        if not self._is_closed:
            self._is_closed = True
            try:
                self._reading.scanner.close(length)
                self._reading.log.check()
            except HarmonyError as error:
                self._error = error
                raise
        return self._take_events()

    def _feed(self, tokens: Sequence[int]) -> list[Event]:
        self._deltas = None
        if self._is_closed or self._error is not None:
            self._refuse()
        self._settle()
        reading = self._reading
        try:
            reading.scanner.feed(tokens)
            if self._strict:
                reading.log.check(before=reading.scanner.settled)
        except HarmonyError as error:
            self._error = error
            if not self._events:
                raise
        else:
            message = reading.scanner.message
            if message.takes_text:
                header, place = message.header, len(reading.turn.parsed)
                if place != self._index or header is not self._header:
                    self._header, self._index, self._met = header, place, {}
                self._deltas = self._met
        return self._take_events()

    def _refuse(self) -> NoReturn:
        raise self._error or HarmonyError("the parser is closed and takes no more input")

    def _take_events(self) -> list[Event]:
        events = self._events[:]
        self._events.clear()
        return events

    # --- Streamed text ---

    def _new_delta(self, token: int) -> ContentDelta | None:
        """The event of a token not seen before in this message; `None` if it is not valid UTF-8."""
        if not 0 <= token < FIRST_SPECIAL:
            return None
        try:
            text = ordinary_token_table()[token].decode()
        except UnicodeDecodeError:
            return None
        delta: ContentDelta = _make(ContentDelta, (self._index, self._header, text))
        self._met[token] = delta
        return delta

    def _settle(self) -> None:
        """Pass the streamed text on to the scanner."""
        streamed = self._streamed
        if streamed:
            table = ordinary_token_table()
            self._texts.append(b"".join([table[token] for token in streamed]).decode())
            self._ids.append(array("I", streamed).tobytes())
            streamed.clear()
        if self._ids:
            self._reading.scanner.add_text(b"".join(self._ids), self._texts)
            self._ids.clear()
            self._texts.clear()


def _integer(token: object, position: int) -> int:
    """A token id of another integer type, such as numpy's."""
    try:
        return index(token)  # type: ignore[arg-type]
    except TypeError:
        raise UnknownTokenError(token, position) from None


_make = tuple.__new__

# Raised when packing, joining or decoding tokens that are not text.
_NOT_PLAIN: Final = (struct.error, TypeError, IndexError, ValueError)


@lru_cache(64)
def _packer(length: int) -> Callable[..., bytes]:
    """A function that packs so many token ids, faster than `array`; it refuses negative numbers."""
    return struct.Struct(f"{length}I").pack


@cache
def _joinable_table() -> tuple[bytes | None, ...]:
    """The table of token bytes, with `None`, which `bytes.join` refuses, for all other ids."""
    return tuple([piece or None for piece in ordinary_token_table()])
