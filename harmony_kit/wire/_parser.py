"""Tokens to messages, fed a token at a time or all at once.

`Parser` does no I/O. Tokens go in, events come out: a message started, a piece of its
content, the message ended, a problem was found. However the tokens are cut into chunks, the
messages and problems are the same, and the pieces of a content join to exactly that content.

Reading never fails: what a model should not have written is restored to what it meant, each
time with a `Problem` that names the tokens and the repair. No token is lost: each belongs to
a message or to a problem. Strict reading is the same, and raises a `ParseError` with the first
of the problems.

Three objects do the work: `Scanner` finds messages in tokens, `Turn` judges what they mean
together, `ProblemLog` collects the problems.

A *completion* (the prompt ended with `<|start|>assistant`) is one turn of the assistant. A
*conversation* (no role, or another one) may hold anything.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from operator import index, itemgetter
from typing import Final, NoReturn

from .._options import checked_options
from ..errors import HarmonyError, UnknownTokenError
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
    """Parse a whole sequence of tokens.

    Args:
        tokens: Token ids: a completion, as it follows a prompt that ends in
            `<|start|>assistant`; with `role=None` a conversation that begins with
            `<|start|>`.
        role: The role with which the prompt ended, or `None`.
        strict: Whether to raise at the first problem instead of repairing it.

    Raises:
        ParseError: With `strict`: there is a problem; the error names code and token.
        UnknownTokenError: A value is no integer.

    Example:
        >>> from harmony_kit import encode_with_special
        >>> parse(encode_with_special("<|channel|>final<|message|>Hello!<|return|>")).text
        'Hello!'
    """
    reading = _Reading(_known_role(role), strict=False, events=None)
    reading.scanner.feed(tokens if isinstance(tokens, list) else list(tokens))
    reading.scanner.close(0)
    completion = reading.turn.completion()
    if strict and completion.problems:
        raise parse_error(completion.problems[0])
    return completion


def _known_role(role: Role | str | None) -> Role | None:
    try:
        known = None if role is None else Role(role)
    except ValueError:
        raise HarmonyError(f"unknown role {role!r}") from None
    if known is Role.TOOL:
        raise HarmonyError("a tool's header names the tool: use role=None and <|start|>")
    return known


class _Reading:
    """A scanner, a turn and a problem log that work together."""

    __slots__ = ("log", "scanner", "turn")

    def __init__(
        self, role: Role | None, *, strict: bool, events: list[Event] | None, remembers: bool = True
    ) -> None:
        self.log = ProblemLog(strict, _Told(events))
        self.turn = Turn(role is Role.ASSISTANT, self.log, events)
        self.scanner = Scanner(role, self.turn, self.log, events, remembers=remembers)


class _Told:
    """Gives problems as events."""

    __slots__ = ("_events",)

    def __init__(self, events: list[Event] | None) -> None:
        self._events = events

    def __call__(self, problem: Problem) -> None:
        if self._events is not None:
            self._events.append(ProblemFound(problem))


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
        """A parser of bytes given as the tokens that spell them, for the reader of texts.

        Its messages remember no tokens, since no model generated these.

        Args:
            role: As for `Parser`.
            strict: As for `Parser`.
        """
        parser = cls(role=role, strict=strict)
        parser._remembers = False
        parser.reset()
        return parser

    def reset(self) -> None:
        """Forget all that was fed, and begin anew with the same role."""
        self._events: list[Event] = []  # of the current call
        self._reading = _Reading(
            self._role, strict=self._strict, events=self._events, remembers=self._remembers
        )
        self._error: HarmonyError | None = None
        self._is_closed = False
        # The delta of every token met in this message that is plain text by itself; None while
        # no such token can come. And what the scanner has not been told yet of text that was
        # streamed: tokens by themselves, and before them what came in chunks.
        self._deltas: dict[int, ContentDelta] | None = None
        self._met: dict[int, ContentDelta] = {}
        self._header: Header | None = None  # of the message to which they belong
        self._index = -1
        self._streamed: list[int] = []
        self._texts: list[str] = []
        self._ids: list[bytes] = []

    # --- What was read ---

    @property
    def role(self) -> Role | None:
        """The role that the prompt gave, until the first header is read."""
        return self._reading.scanner.given_role

    @property
    def strict(self) -> bool:
        """Whether the first problem raises."""
        return self._strict

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that are complete, and known to be what they are."""
        return tuple(parsed.message for parsed in self._reading.turn.parsed)

    @property
    def header(self) -> Header | None:
        """The header of the message whose content is being read, or `None`."""
        return self._reading.scanner.header

    @property
    def content(self) -> str:
        """The content so far of the message that is being read; empty between messages.

        Reading it at every step costs only what is new, as long as the text read before is
        not kept.
        """
        self._settle()
        return self._reading.scanner.content

    @property
    def position(self) -> int:
        """How many tokens were consumed."""
        self._settle()
        return self._reading.scanner.position

    @property
    def turn_ended(self) -> bool:
        """Whether the turn of a completion is over, so that nothing more is to be generated."""
        return self._reading.turn.is_over

    def result(self) -> Completion:
        """The messages that are complete, and what else is known so far.

        After an error: the messages before it.
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
            What happened, in order. The content of a message comes as one delta per call.
            While it is not decided what a message is, nothing of it is given. Messages after
            the end of the turn give no events; they are in the result.

        Raises:
            ParseError: With `strict`, there is a problem: the first of all, which may be known
                only at the end of its message. If something happened before that, it is
                returned, and the next call raises. From then on every call does; what was
                complete stays in `messages`.
            UnknownTokenError: A value is no integer; likewise.
        """
        if isinstance(tokens, int):
            # The path of nearly every token of a stream: plain text within a content.
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
            # Likewise of a chunk that is plain text and ends with a whole character.
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
        """Say that no more tokens come. What is not closed ends here.

        Raises:
            ParseError: With `strict`: something is incomplete, or there was a problem before.
            UnknownTokenError: A value before was no token id.
        """
        return self.close_broken(0)

    def close_broken(self, length: int) -> list[Event]:
        """Like `close`, after the beginning of a special token that broke off.

        Token ids never break off; the reader of texts has need of this.

        Args:
            length: How many more units of input that beginning has.

        Raises:
            ParseError: As for `close`.
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
            if reading.scanner.takes_text:
                header, place = reading.scanner.header, len(reading.turn.parsed)
                if place != self._index or header is not self._header:
                    self._header, self._index, self._met = header, place, {}
                self._deltas = self._met
        return self._take_events()

    def _refuse(self) -> NoReturn:
        raise self._error or HarmonyError("the parser is closed")

    def _take_events(self) -> list[Event]:
        events = self._events[:]
        self._events.clear()
        return events

    # --- One token of plain text ---

    def _new_delta(self, token: int) -> ContentDelta | None:
        """The delta of a token that is plain text by itself and new in this message."""
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
        """Tell the scanner of the tokens of plain text that were streamed."""
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
    """A token id of another type of integers, such as numpy's."""
    try:
        return index(token)  # type: ignore[arg-type]
    except TypeError:
        raise UnknownTokenError(token, position) from None


_make = tuple.__new__

# Raised by packing, joining and decoding what is not plain text.
_NOT_PLAIN: Final = (struct.error, TypeError, IndexError, ValueError)


@lru_cache(64)
def _packer(length: int) -> Callable[..., bytes]:
    """Packs so many token ids, and refuses negative numbers; faster than `array`."""
    return struct.Struct(f"{length}I").pack


@cache
def _joinable_table() -> tuple[bytes | None, ...]:
    """The table of token bytes, in which the others are nothing that `bytes.join` takes."""
    return tuple([piece or None for piece in ordinary_token_table()])
