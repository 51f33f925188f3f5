r"""A shape in the grammar language of llama.cpp: GBNF, with tokens by their ids.

What llama.cpp's grammars are like, as its source has it (from December 2025 on, when `<[id]>`
came):

- A token is one element, `<[200005]>`. Elsewhere the text of a token is compared, and the text of a
  special token is its spelling. `!<[200007]>` leaves out one token, not several; so that any text
  is said in characters here, and `<|` with a small letter, which all special tokens begin with, is
  not among them.
- Tokens that end a generation (`<|return|>`, `<|call|>` and `<|endoftext|>` among them) stand
  nowhere within a grammar: they come when it is finished, whichever the model chooses. They are
  left out here, and the caller has to put the right one at the end.
- Tokens of a text are not counted, so that a limit of them cannot be said.
- A repetition counts up to 2,000; more is taken for no limit, and is refused here.
"""

from __future__ import annotations

from typing import Final

from ..errors import GrammarError
from ._json_strings import free_text
from ._rules import Expression, OrdinaryToken, RuleBook, Token, rules_text
from ._shape import FreeText, Shape
from ._shape_rules import shape_rules, without_stop_token

_MOST_REPETITIONS: Final = 2000


def gbnf_grammar(shape: Shape) -> str:
    """Write a shape for llama.cpp.

    Args:
        shape: The shape.

    Raises:
        GrammarError: It has a limit of tokens, or a schema or a pattern says what the rules
            cannot; the error names it.
    """
    book = RuleBook(most_repetitions=_MOST_REPETITIONS)
    start, rules = shape_rules(without_stop_token(shape), book, _free_characters)
    return rules_text(start, rules, _token_text)


def _free_characters(shape: FreeText, book: RuleBook) -> Expression:
    if shape.max_tokens is not None:
        raise GrammarError("llama.cpp's grammars do not count tokens", path="reasoning")
    return free_text(book, is_required=shape.required)


def _token_text(token: Token | OrdinaryToken) -> str:
    assert isinstance(token, Token)
    return f"<[{token.token}]>"
