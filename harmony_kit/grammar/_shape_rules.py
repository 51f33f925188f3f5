"""A shape as context-free rules."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import GrammarError
from ..wire._vocabulary import CALL, RETURN
from ._json_rules import json_rules
from ._json_strings import spelt_in_text
from ._pattern_rules import alphabet, pattern_rules
from ._rules import (
    IMPOSSIBLE,
    NOTHING,
    Expression,
    Literal,
    Repeat,
    RuleBook,
    Token,
    alternatives,
    possible,
    sequence,
)
from ._shape import (
    EMPTY,
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

FreeTextRules = Callable[[FreeText, RuleBook], Expression]
"""How a language says what any text is."""

_ANSWER = "response_format"


def shape_rules(
    shape: Shape, book: RuleBook, free_text: FreeTextRules
) -> tuple[Expression, dict[str, Expression]]:
    """Write a shape as rules.

    Args:
        shape: The shape.
        book: The rules so far.
        free_text: How the language says what any text is.

    Returns:
        Where it begins, and the rules that are used.

    Raises:
        GrammarError: It cannot be said.
    """
    start, rules = possible(_expression(shape, book, free_text), book.rules)
    if start == IMPOSSIBLE:
        raise GrammarError("there is no such completion", path="")
    return start, rules


def _expression(shape: Shape, book: RuleBook, free_text: FreeTextRules) -> Expression:
    match shape:
        case SpecialToken():
            return Token(shape.token)
        case FixedText():
            return fixed_text(shape)
        case FreeText():
            return NOTHING if shape.max_tokens == 0 else free_text(shape, book)
        case JsonValue():
            return book.add("json", json_rules(shape, book))
        case MatchingText():
            return matching_text(shape, book)
        case InOrder():
            return sequence(*(_expression(part, book, free_text) for part in shape.parts))
        case OneOf():
            return alternatives(*(_expression(it, book, free_text) for it in shape.options))
        case ZeroOrMore():
            return Repeat(_expression(shape.part, book, free_text), 0, None)


def fixed_text(shape: FixedText) -> Literal:
    """A text that is known.

    Args:
        shape: The text.

    Raises:
        GrammarError: A special token could be written in its place, since it spells one.
    """
    if "<|" in shape.text:
        raise GrammarError(
            f"{shape.text!r} has '<|', with which the spellings of special tokens begin; "
            "the engine could write such a token for it",
            path=_ANSWER,
        )
    return Literal(shape.text)


def matching_text(shape: MatchingText, book: RuleBook) -> Expression:
    """A text that a pattern matches as a whole.

    Where the pattern could spell a special token, `|` is left out of its wide sets of characters.

    Args:
        shape: The pattern.
        book: The rules so far.

    Raises:
        GrammarError: The rules cannot say the pattern, or it names both `<` and `|`.
    """
    letters = alphabet(shape.pattern, _ANSWER, is_search=False).ranges
    could_spell = all(any(a <= ord(it) <= b for a, b in letters) for it in "<|")
    spelling = spelt_in_text(_ANSWER, without_bar=could_spell)
    return book.add(
        "pattern", pattern_rules(shape.pattern, spelling, book, _ANSWER, is_search=False)
    )


# --- The end of a completion ------------------------------------------------------------------


def without_stop_token(shape: Shape) -> Shape:
    """The same shape without the token that ends the completion.

    Args:
        shape: The shape.
    """
    match shape:
        case SpecialToken(token) if token in (RETURN, CALL):
            return EMPTY
        case InOrder(parts) if parts:
            return in_order(*parts[:-1], without_stop_token(parts[-1]))
        case OneOf():
            return one_of(*map(without_stop_token, shape.options))
        case _:
            return shape
