"""A shape in the grammar language of xgrammar: EBNF, with tokens by their ids.

xgrammar admits a special token wherever its spelling fits. Any text is therefore said in tokens:
those that are not special and spell whole characters. Characters of several tokens are said as
characters; no special token fits there, since all begin with `<`. JSON strings are such that no
special token fits either; see `json_strings`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from ..wire._vocabulary import FIRST_SPECIAL, NAMED_SPECIAL_TOKENS
from ._matching import MODEL_VOCABULARY_SIZE
from ._rules import (
    Expression,
    OrdinaryToken,
    Repeat,
    RuleBook,
    Token,
    alternatives,
    characters,
    complement,
    rules_text,
)
from ._shape import FreeText, Shape
from ._shape_rules import shape_rules
from ._whole_tokens import tokens_of_broken_characters

SPECIAL_TOKENS: Final = tuple(range(FIRST_SPECIAL, MODEL_VOCABULARY_SIZE))
"""The ids of all special tokens that the model knows; xgrammar refuses those beyond."""


def ebnf_grammar(shape: Shape) -> str:
    """Write a shape for xgrammar.

    The tokens that end a completion are part of the grammar. They must not be among the matcher's
    stop tokens, which xgrammar admits after the end and nowhere else.

    Args:
        shape: The shape.

    Raises:
        GrammarError: A schema or a pattern says what the rules cannot; the error names it.
    """
    start, rules = shape_rules(shape, RuleBook(), free_tokens)
    return rules_text(start, rules, token_text)


def free_tokens(shape: FreeText, book: RuleBook) -> Expression:
    """Any text, token by token.

    With a limit there are no characters of several tokens, since only whole ones can be counted.

    Args:
        shape: The text.
        book: The rules so far.
    """
    whole = OrdinaryToken()
    if shape.max_tokens is not None:
        return Repeat(book.add("whole", whole), int(shape.required), shape.max_tokens)
    piece = book.add("ordinary", alternatives(whole, complement(characters("<"))))
    return Repeat(piece, int(shape.required), None)


def token_text(token: Token | OrdinaryToken) -> str:
    """A token as xgrammar reads it.

    xgrammar's compiler keeps the masks of rules, and takes two rules for one that differ in the
    ids of their tokens alone (seen in 0.2.5 and 0.2.8). Here each token is written another number
    of times, as alternatives to itself, so that no two such rules are alike.

    Args:
        token: The token.
    """
    if isinstance(token, Token):
        times = 1 + sorted(NAMED_SPECIAL_TOKENS | {token.token}).index(token.token)
        return f"({' | '.join([f'Token({token.token})'] * times)})"
    return _ordinary_token_text()


@cache
def _ordinary_token_text() -> str:
    excluded = (*tokens_of_broken_characters(), *SPECIAL_TOKENS)
    return f"ExcludeToken({', '.join(map(str, excluded))})"
