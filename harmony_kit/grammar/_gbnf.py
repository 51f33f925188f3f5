r"""A grammar in the language of llama.cpp: GBNF, with tokens by their ids.

Properties of llama.cpp's grammars, from its source (since December 2025, when `<[id]>` was added):

- `<[200005]>` matches one token. Everywhere else the text of a token is compared, and the text of
  a special token is its spelling. `!<[200007]>` excludes one token, not several. Free text is
  therefore written in characters, without `<|` followed by a small letter, with which the
  spellings of all special tokens begin.
- Tokens that end a generation (`<|return|>`, `<|call|>` and `<|endoftext|>` among them) cannot be
  part of a grammar: at its end the model chooses any of them. They are left out here, and the
  caller has to put the right one at the end.
- Tokens are not counted, so that a token limit cannot be expressed.
- Repetitions count up to 2,000; a higher count would be taken for no limit, and is refused here.
"""

from __future__ import annotations

from typing import Final

from ..errors import GrammarError
from ._expansion import expanded
from ._json_strings import free_text
from ._nodes import FreeText, Node, OrdinaryToken, Token, without_stop_token
from ._rules import RuleBook, rules_text

_MOST_REPETITIONS: Final = 2000


def gbnf_grammar(node: Node) -> str:
    """Write a grammar for llama.cpp.

    Raises:
        GrammarError: The grammar has a token limit; or the rules cannot express a schema or a
            pattern, which the error names.
    """
    book = RuleBook(most_repetitions=_MOST_REPETITIONS)
    return rules_text(*expanded(without_stop_token(node), book, _free_characters), _token_text)


def _free_characters(leaf: FreeText, book: RuleBook) -> Node:
    if leaf.max_tokens is not None:
        raise GrammarError("llama.cpp's grammars do not count tokens", path="reasoning")
    return free_text(book, is_required=leaf.required)


def _token_text(token: Token | OrdinaryToken) -> str:
    assert isinstance(token, Token)  # free text is written in characters
    return f"<[{token.token}]>"
