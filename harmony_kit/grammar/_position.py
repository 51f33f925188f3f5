"""What is left of a shape when some of it has been written already.

Generation does not always begin at the beginning: a prompt may end in a header, or in the
middle of the reasoning. The shape of the rest is the derivative of the whole (Brzozowski,
"Derivatives of Regular Expressions", 1964), one token after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from ..errors import GrammarError
from ..wire._vocabulary import FIRST_SPECIAL, decode, token_bytes
from ._shape import (
    EMPTY,
    IMPOSSIBLE,
    FixedText,
    FreeText,
    InOrder,
    JsonValue,
    MatchingText,
    OneOf,
    Shape,
    SpecialToken,
    ZeroOrMore,
    in_order,
    one_of,
)


def rest_of(shape: Shape, tokens: Iterable[int]) -> Shape:
    """The shape of what may follow some tokens.

    Args:
        shape: The shape of the whole.
        tokens: Token ids with which the text begins.

    Raises:
        GrammarError: The shape does not admit the tokens; or they end within JSON or a text
            that a pattern matches, which no shape describes the rest of, or within a character.
    """
    for position, piece in _pieces(tokens):
        try:
            rest = _after(shape, piece)
        except _UnfinishedError as error:
            raise GrammarError(
                f"{error} has begun at token {position}; a constraint can begin before it or "
                "after it, but not within",
                path="after",
            ) from None
        if rest == IMPOSSIBLE:
            raise GrammarError(
                f"token {position}, {_shown(piece)!r}, is not admitted there", path="after"
            )
        shape = rest
    return shape


class _UnfinishedError(Exception):
    """What cannot be continued; the text names it."""


class _Text(NamedTuple):
    """What one token spells, or several where a character lies in all of them.

    Attributes:
        text: What is left of it to be read.
        is_begun: Whether some of it belongs to what stands before.
        is_one_token: Whether it is a single token.
    """

    text: str
    is_begun: bool = False
    is_one_token: bool = True


class _Broken(NamedTuple):
    """Tokens that end within a character, or are no characters at all.

    Attributes:
        spelt: What they spell.
        can_go_on: Whether more tokens could make characters of it.
    """

    spelt: bytes
    can_go_on: bool


_Piece = int | _Text | _Broken


def _pieces(tokens: Iterable[int]) -> Iterator[tuple[int, _Piece]]:
    """Special tokens, and the texts between them, each with the position where it begins."""
    spelt, start = b"", 0
    for position, token in enumerate(tokens):
        if token >= FIRST_SPECIAL:
            if spelt:
                yield start, _Broken(spelt, can_go_on=False)
            yield position, token
            spelt = b""
            continue
        start = start if spelt else position
        spelt += token_bytes(token)
        try:
            yield start, _Text(spelt.decode(), is_one_token=start == position)
            spelt = b""
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                yield start, _Broken(spelt, can_go_on=False)
    if spelt:
        yield start, _Broken(spelt, can_go_on=True)


def _shown(piece: _Piece) -> str:
    match piece:
        case _Text():
            return piece.text
        case _Broken():
            return piece.spelt.decode("utf-8", "replace")
        case _:
            return decode([piece])


def _after(shape: Shape, piece: _Piece) -> Shape:
    match piece:
        case _Text():
            return _after_text(shape, piece)
        case _Broken():
            if piece.can_go_on:
                raise _UnfinishedError("a character of several tokens")
            return IMPOSSIBLE
        case _:
            return _after_special(shape, piece)


def _after_special(shape: Shape, token: int) -> Shape:
    match shape:
        case SpecialToken():
            return EMPTY if shape.token == token else IMPOSSIBLE
        case InOrder():
            return one_of(
                *(in_order(_after_special(part, token), rest) for part, rest in _firsts(shape))
            )
        case OneOf():
            return one_of(*(_after_special(option, token) for option in shape.options))
        case ZeroOrMore():
            return in_order(_after_special(shape.part, token), shape)
        case _:
            return IMPOSSIBLE


def _after_text(shape: Shape, piece: _Text) -> Shape:
    if not piece.text:
        return shape
    match shape:
        case FixedText():
            if not shape.text.startswith(piece.text):
                return IMPOSSIBLE  # the text's end is the matter of `_in_order_after_text`
            rest = shape.text[len(piece.text) :]
            return FixedText(rest) if rest else EMPTY
        case FreeText():
            limit = shape.max_tokens
            if limit is not None:
                if limit < 1 or not piece.is_one_token:
                    return IMPOSSIBLE
                limit -= not piece.is_begun
            return replace(shape, required=False, max_tokens=limit)
        case JsonValue():
            raise _UnfinishedError("JSON")
        case MatchingText():
            raise _UnfinishedError("a text that a pattern matches")
        case InOrder():
            return _in_order_after_text(shape, piece)
        case OneOf():
            return one_of(*(_after_text(option, piece) for option in shape.options))
        case ZeroOrMore():
            return in_order(_after_text(shape.part, piece), shape)
        case _:
            return IMPOSSIBLE


def _in_order_after_text(shape: InOrder, piece: _Text) -> Shape:
    found = []
    for part, rest in _firsts(shape):
        if isinstance(part, FixedText) and piece.text.startswith(part.text):
            # The text goes on into what follows.
            left = piece._replace(text=piece.text[len(part.text) :], is_begun=True)
            found.append(_after_text(rest, left))
        else:
            found.append(in_order(_after_text(part, piece), rest))
    return one_of(*found)


def _firsts(shape: InOrder) -> Iterable[tuple[Shape, Shape]]:
    """The parts with which a sequence may begin, each with what follows it."""
    for index, part in enumerate(shape.parts):
        yield part, in_order(*shape.parts[index + 1 :])
        if not may_be_empty(part):
            return


def may_be_empty(shape: Shape) -> bool:
    """Whether the empty text has a shape.

    Args:
        shape: The shape.
    """
    match shape:
        case FreeText():
            return not shape.required
        case InOrder():
            return all(map(may_be_empty, shape.parts))
        case OneOf():
            return any(map(may_be_empty, shape.options))
        case ZeroOrMore():
            return True
        case _:
            return False
