"""A grammar in the language of xgrammar: EBNF, with tokens by their ids.

xgrammar admits a special token wherever its spelling fits. Free text is therefore written in
tokens: those that are not special and encode whole characters. Characters of several tokens are
written as characters; no special token fits there, since their spellings all begin with `<`. Into
JSON strings none fits either, see `_json_strings`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from ..wire._vocabulary import FIRST_SPECIAL, NAMED_SPECIAL_TOKENS
from ._expansion import expanded
from ._matching import MODEL_VOCABULARY_SIZE
from ._nodes import (
    FreeText,
    Node,
    OrdinaryToken,
    Token,
    alternatives,
    characters,
    complement,
    repeat,
)
from ._rules import RuleBook, rules_text
from ._whole_tokens import tokens_of_broken_characters

SPECIAL_TOKENS: Final = tuple(range(FIRST_SPECIAL, MODEL_VOCABULARY_SIZE))
"""All special tokens of the model; xgrammar refuses ids beyond."""


def ebnf_grammar(node: Node) -> str:
    """Write a grammar for xgrammar.

    The tokens that end a completion are part of the grammar. They must not be stop tokens of
    xgrammar's matcher, which admits those after the end and nowhere else.

    Raises:
        GrammarError: The rules cannot express a schema or a pattern, which the error names.
    """
    return rules_text(*expanded(node, RuleBook(), free_tokens), token_text)


def free_tokens(leaf: FreeText, book: RuleBook) -> Node:
    """Free text, token by token.

    With a limit there are no characters of several tokens: only whole ones can be counted.
    """
    whole = OrdinaryToken()
    if leaf.max_tokens is not None:
        return repeat(book.add("whole", whole), int(leaf.required), leaf.max_tokens)
    unit = book.add("ordinary", alternatives(whole, complement(characters("<"))))
    return repeat(unit, int(leaf.required))


def token_text(token: Token | OrdinaryToken) -> str:
    """A token in xgrammar's language.

    xgrammar's compiler caches the masks of rules, and confuses two rules that differ in nothing
    but the ids of their tokens (seen in 0.2.5 and 0.2.8). Each token is therefore repeated as
    alternatives to itself, a different number of times for each, so that no two rules are alike.
    """
    if isinstance(token, Token):
        times = 1 + sorted(NAMED_SPECIAL_TOKENS | {token.token}).index(token.token)
        return f"({' | '.join([f'Token({token.token})'] * times)})"
    return _ordinary_token_text()


@cache
def _ordinary_token_text() -> str:
    excluded = (*tokens_of_broken_characters(), *SPECIAL_TOKENS)
    return f"ExcludeToken({', '.join(map(str, excluded))})"
