"""Rules for the abstract leaves of a grammar: free texts, JSON values, matching texts."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import GrammarError
from ._json_rules import json_rules
from ._json_strings import written_in_text
from ._nodes import (
    EMPTY_LANGUAGE,
    FreeText,
    JsonValue,
    Literal,
    MatchingText,
    Node,
    map_leaves,
)
from ._pattern_rules import alphabet, pattern_rules
from ._rules import RuleBook, trimmed

FreeTextRules = Callable[[FreeText, RuleBook], Node]
"""Writes free text in the rules of a language."""

_ANSWER = "response_format"


def expanded(node: Node, book: RuleBook, free_text: FreeTextRules) -> tuple[Node, dict[str, Node]]:
    """A grammar as rules.

    Returns:
        The start and the rules that it uses.

    Raises:
        GrammarError: The rules cannot express the grammar, or no completion matches it.
    """

    def expand(leaf: Node) -> Node:
        match leaf:
            case Literal(text) if "<|" in text:
                raise GrammarError(
                    f"{text!r} has '<|', with which the spellings of special tokens begin; "
                    "the engine could write such a token for it",
                    path=_ANSWER,
                )
            case FreeText():
                return free_text(leaf, book)
            case JsonValue():
                return book.add("json", json_rules(leaf, book))
            case MatchingText(pattern):
                return _matching_text(pattern, book)
            case _:
                return leaf

    start, rules = trimmed(map_leaves(node, expand), book.rules)
    if start == EMPTY_LANGUAGE:
        raise GrammarError("there is no such completion", path="")
    return start, rules


def _matching_text(pattern: str, book: RuleBook) -> Node:
    """Rules for a pattern; `|` is left out of its sets if it could spell a special token."""
    letters = alphabet(pattern, _ANSWER, is_search=False).ranges
    could_spell = all(any(a <= ord(it) <= b for a, b in letters) for it in "<|")
    written = written_in_text(_ANSWER, without_bar=could_spell)
    return book.add("pattern", pattern_rules(pattern, written, book, _ANSWER, is_search=False))
