"""How constraints are sent to servers, in the grammar language of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Protocol

from harmony_kit.grammar import Constraint
from harmony_kit.grammar._derivative import Position
from harmony_kit.grammar._ebnf import free_tokens, token_text
from harmony_kit.grammar._expansion import expanded
from harmony_kit.grammar._json_strings import free_text
from harmony_kit.grammar._nodes import FreeText, Node, OrdinaryToken, Token
from harmony_kit.grammar._rules import RuleBook

ConstraintsName = Literal["auto", "grammar", "structured_outputs", "processor"]
"""How a server gets constraints; `"auto"` is its usual way."""

_MOST_REPETITIONS: Final = 2000  # the limit of llama.cpp


class ServerGrammar(Protocol):
    """A language for grammars that a server enforces itself.

    The server applies the grammar from the first token that it generates. At the end of the
    grammar it chooses any of the tokens that end a completion.

    Attributes:
        advice: What may be wrong if the server violates the grammar.
    """

    advice: ClassVar[str]

    def begin(self, constraint: Constraint) -> Position:
        """The start position in the part of a constraint that the language can express.

        Raises:
            GrammarError: The language cannot express the constraint.
        """
        ...

    def rest(self, position: Position) -> dict[str, Any]:
        """Request fields with the grammar of what may follow a position."""
        ...

    def one_of(self, mask: bytes) -> dict[str, Any]:
        """Request fields that allow only the tokens of a mask, for a request for one token."""
        ...


class LlamaCppGrammar:
    """GBNF, the grammar language of llama.cpp.

    It does not count tokens, so that a token limit of the reasoning is left out.
    """

    advice: ClassVar[str] = "llama.cpp silently ignores grammars that it cannot parse"

    def begin(self, constraint: Constraint) -> Position:
        """See `ServerGrammar`."""
        book = RuleBook(most_repetitions=_MOST_REPETITIONS)
        return Position(*expanded(constraint.shape, book, _uncounted_text))

    def rest(self, position: Position) -> dict[str, Any]:
        """See `ServerGrammar`."""
        return {"grammar": position.text(_gbnf_token)}

    def one_of(self, mask: bytes) -> dict[str, Any]:
        """See `ServerGrammar`. Biases, since a grammar cannot name the tokens that end it."""
        refused = bytes(byte ^ 0xFF for byte in mask)
        return {"logit_bias": [[token, False] for token in tokens_of(refused)]}


class VllmStructuredOutputs:
    """A structural tag for xgrammar, in vLLM's structured outputs."""

    advice: ClassVar[str] = (
        "a vLLM with a reasoning parser ignores constraints during the reasoning, unless it was "
        "started with --structured-outputs-config '{\"enable_in_reasoning\": true}'; or start it "
        "with --logits-processors harmony_backends.constrained:Constrained and pass "
        'constraints="processor"'
    )

    def begin(self, constraint: Constraint) -> Position:
        """See `ServerGrammar`."""
        return Position(*expanded(constraint.shape, RuleBook(), free_tokens))

    def rest(self, position: Position) -> dict[str, Any]:
        """See `ServerGrammar`."""
        grammar = {"type": "grammar", "grammar": position.text(token_text)}
        tag = {"type": "structural_tag", "format": grammar}
        return {"structured_outputs": {"structural_tag": json.dumps(tag)}}

    def one_of(self, mask: bytes) -> dict[str, Any]:
        """See `ServerGrammar`."""
        return {"allowed_token_ids": tokens_of(mask)}


SERVER_GRAMMARS: Final[Mapping[str, ServerGrammar]] = {
    "grammar": LlamaCppGrammar(),
    "structured_outputs": VllmStructuredOutputs(),
}

PROCESSOR_ADVICE: Final = (
    "check that it was started with --logits-processors harmony_backends.constrained:Constrained, "
    "and that harmony-kit and llguidance have the same versions there and here"
)


def processor_fields(constraint: Constraint) -> dict[str, Any]:
    """Request fields for harmony-kit's own logits processor in vLLM.

    Raises:
        GrammarError: llguidance cannot enforce the constraint.
    """
    return {"vllm_xargs": {"constraint": constraint.lark}}


def tokens_of(mask: bytes) -> list[int]:
    """The token ids of a mask of `harmony_kit.grammar.Matcher.bitmask`."""
    return [
        8 * place + bit
        for place, byte in enumerate(mask)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def _uncounted_text(text: FreeText, book: RuleBook) -> Node:
    return free_text(book, is_required=text.required)


def _gbnf_token(token: Token | OrdinaryToken) -> str:
    assert isinstance(token, Token)  # `_uncounted_text` makes no other
    return f"<[{token.token}]>"
