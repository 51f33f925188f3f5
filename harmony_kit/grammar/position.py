"""What is left of a shape when some of it has been written already.

Generation does not always begin at the beginning: a prompt may end in a header, or in the
middle of the reasoning. The shape of the rest is the derivative of the whole (Brzozowski,
"Derivatives of Regular Expressions", 1964), one token after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..errors import GrammarError
from ..vocabulary import FIRST_SPECIAL, decode, token_bytes
from .shape import (
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
    for position, token in enumerate(tokens):
        try:
            rest = _after(shape, token)
        except _UnfinishedError as error:
            raise GrammarError(
                f"{error} has begun at token {position}; a constraint can begin before it or "
                "after it, but not within",
                path="after",
            ) from None
        if rest == IMPOSSIBLE:
            raise GrammarError(
                f"token {position}, {decode([token])!r}, is not admitted there", path="after"
            )
        shape = rest
    return shape


class _UnfinishedError(Exception):
    """What cannot be continued; the text names it."""


def _after(shape: Shape, token: int) -> Shape:
    if token >= FIRST_SPECIAL:
        return _after_special(shape, token)
    spelt = token_bytes(token)
    try:
        text = spelt.decode()
    except UnicodeDecodeError:
        raise _UnfinishedError("a character of several tokens") from None
    return _after_text(shape, text, is_begun=False)


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


def _after_text(shape: Shape, text: str, *, is_begun: bool) -> Shape:
    """What follows an ordinary token.

    Args:
        shape: What may be.
        text: What is left of the token's text.
        is_begun: Whether some of the token belongs to what stands before.
    """
    if not text:
        return shape
    match shape:
        case FixedText():
            if shape.text.startswith(text):
                rest = shape.text[len(text) :]
                return FixedText(rest) if rest else EMPTY
            return IMPOSSIBLE  # the token's end is the matter of `_in_order_after_text`
        case FreeText():
            limit = shape.max_tokens
            if limit is not None:
                if limit < 1:
                    return IMPOSSIBLE
                limit -= not is_begun
            return replace(shape, required=False, max_tokens=limit)
        case JsonValue():
            raise _UnfinishedError("JSON")
        case MatchingText():
            raise _UnfinishedError("a text that a pattern matches")
        case InOrder():
            return _in_order_after_text(shape, text, is_begun=is_begun)
        case OneOf():
            return one_of(
                *(_after_text(option, text, is_begun=is_begun) for option in shape.options)
            )
        case ZeroOrMore():
            return in_order(_after_text(shape.part, text, is_begun=is_begun), shape)
        case _:
            return IMPOSSIBLE


def _in_order_after_text(shape: InOrder, text: str, *, is_begun: bool) -> Shape:
    found = []
    for part, rest in _firsts(shape):
        if isinstance(part, FixedText) and text.startswith(part.text):
            # The token goes on into what follows.
            found.append(_after_text(rest, text[len(part.text) :], is_begun=True))
        else:
            found.append(in_order(_after_text(part, text, is_begun=is_begun), rest))
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
