"""How servers are told a constraint, each in its own language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Protocol

from harmony_kit.grammar import Constraint
from harmony_kit.grammar._ebnf import free_tokens, token_text
from harmony_kit.grammar._json_strings import free_text
from harmony_kit.grammar._rules import Expression, OrdinaryToken, RuleBook, Token
from harmony_kit.grammar._shape import FreeText
from harmony_kit.grammar._shape_rules import shape_rules

from .rule_positions import RulePosition

ConstraintsName = Literal["auto", "grammar", "structured_outputs", "processor"]
"""How a server is told constraints; `"auto"` is its usual way."""

_MOST_REPETITIONS: Final = 2000  # that llama.cpp counts


class ServerGrammar(Protocol):
    """A language in which a server is told a grammar, which it then runs itself.

    It begins with the grammar at the first token that it generates. Which of the tokens that
    end a completion it writes where the grammar is at its end, it chooses.

    Attributes:
        advice: What may be wrong where the server does not keep to the grammar.
    """

    advice: ClassVar[str]

    def begin(self, constraint: Constraint) -> RulePosition:
        """What the server can be told of a constraint.

        Args:
            constraint: The constraint.

        Raises:
            GrammarError: It cannot be said in this language.
        """
        ...

    def rest(self, position: RulePosition) -> dict[str, Any]:
        """What a request has for the grammar of what follows.

        Args:
            position: Where the completion stands.
        """
        ...

    def one_of(self, mask: bytes) -> dict[str, Any]:
        """What a request for one token has to get one of some.

        Args:
            mask: The tokens, as `harmony_kit.grammar.Matcher.mask` gives them.
        """
        ...


class LlamaCppGrammar:
    """GBNF, llama.cpp's own grammars.

    They do not count tokens: a limit of the reasoning is not told.
    """

    advice: ClassVar[str] = "llama.cpp says nothing of grammars that it cannot read"

    def begin(self, constraint: Constraint) -> RulePosition:
        """See `ServerGrammar`."""
        book = RuleBook(most_repetitions=_MOST_REPETITIONS)
        return RulePosition(*shape_rules(constraint.shape, book, _uncounted_text))

    def rest(self, position: RulePosition) -> dict[str, Any]:
        """See `ServerGrammar`."""
        return {"grammar": position.text(_gbnf_token)}

    def one_of(self, mask: bytes) -> dict[str, Any]:
        """See `ServerGrammar`. A grammar could not name the tokens that end a completion."""
        refused = bytes(byte ^ 0xFF for byte in mask)
        return {"logit_bias": [[token, False] for token in tokens_of(refused)]}


class VllmStructuredOutputs:
    """A structural tag for xgrammar, within vLLM's structured outputs."""

    advice: ClassVar[str] = (
        "vLLM passes over constraints in the reasoning where it has a reasoning parser, unless "
        "it was started with --structured-outputs-config '{\"enable_in_reasoning\": true}'; "
        "or start it with --logits-processors harmony_backends.constrained:Constrained, and "
        'say constraints="processor"'
    )

    def begin(self, constraint: Constraint) -> RulePosition:
        """See `ServerGrammar`."""
        return RulePosition(*shape_rules(constraint.shape, RuleBook(), free_tokens))

    def rest(self, position: RulePosition) -> dict[str, Any]:
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
    "is it started with --logits-processors harmony_backends.constrained:Constrained, and are "
    "harmony-kit and llguidance of the same versions there and here?"
)


def processor_fields(constraint: Constraint) -> dict[str, Any]:
    """What a request to vLLM has for harmony-kit's own processor of logits.

    Args:
        constraint: The constraint.

    Raises:
        GrammarError: llguidance does not enforce something.
    """
    return {"vllm_xargs": {"constraint": constraint.lark}}


def tokens_of(mask: bytes) -> list[int]:
    """The tokens of a mask.

    Args:
        mask: As `harmony_kit.grammar.Matcher.mask` gives it.
    """
    return [
        8 * place + bit
        for place, byte in enumerate(mask)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def _uncounted_text(text: FreeText, book: RuleBook) -> Expression:
    return free_text(book, is_required=text.required)


def _gbnf_token(token: Token | OrdinaryToken) -> str:
    assert isinstance(token, Token)  # no rule made for llama.cpp has another
    return f"<[{token.token}]>"
