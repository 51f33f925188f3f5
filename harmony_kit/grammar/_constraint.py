"""Constraints on completions, for any engine with a grammar language."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, NamedTuple, Union

from .._options import checked_fields, checked_options
from ..errors import GrammarError
from ..tools import ToolsLike
from ..tools._choice import ToolChoice, tool_choice_of
from ..tools._declared import declared_namespaces
from ..tools._source import namespaces_of
from ..wire._contents import DeveloperContent, ResponseFormat
from ..wire._messages import Message
from ._derivative import derivative
from ._ebnf import ebnf_grammar
from ._gbnf import gbnf_grammar
from ._lark import lark_grammar
from ._matching import MODEL_VOCABULARY_SIZE, Matcher
from ._nodes import (
    FreeText,
    JsonValue,
    Literal,
    MatchingText,
    Node,
    alternatives,
    without_stop_token,
)
from ._schema import json_value
from ._structural_tag import structural_tag
from ._turn import Reasoning, Turn, turn_grammar


@checked_fields
@dataclass(frozen=True)
class Pattern:
    r"""A final answer that a regular expression matches as a whole, without anchors.

    Example:
        >>> made = constraint(response_format=Pattern(r"[0-9]+ (km|mi)"))
    """

    pattern: str


@checked_fields
@dataclass(frozen=True)
class Choice:
    """A final answer that is one of some texts, none of which is empty.

    Example:
        >>> made = constraint(response_format=Choice(("yes", "no")))
    """

    texts: tuple[str, ...]


AnswerFormat = Union[ResponseFormat, Mapping[str, Any], Pattern, Choice, None]  # noqa: UP007
"""The format of a final answer: a JSON Schema, a pattern, a choice of texts; `None` for any."""


class Refusal(NamedTuple):
    """Where a completion violates a constraint.

    Attributes:
        position: The index of the first token that is not admitted; the number of tokens if the
            completion is incomplete.
        token: The token, or `None` if the completion is incomplete.
    """

    position: int
    token: int | None


@checked_fields
@dataclass(frozen=True)
class Constraint:
    """What a completion may be, as plain data; the properties give it in engines' languages.

    Made by `constraint` and `conversation_constraint`.

    Attributes:
        shape: The grammar, as a tree that is private to the library.

    Example:
        >>> print(constraint(response_format=Choice(("yes", "no")), reasoning="none").lark)
        %llguidance {}
        start: <[200005]> "final" <[200008]> ("yes" | "no") <[200002]>
        <BLANKLINE>
    """

    shape: Node

    @cached_property
    def lark(self) -> str:
        """The grammar for llguidance.

        Raises:
            GrammarError: llguidance does not enforce a keyword of a JSON Schema.
        """
        return lark_grammar(self.shape)

    @cached_property
    def structural_tag(self) -> dict[str, Any]:
        """The structural tag for xgrammar.

        Raises:
            GrammarError: The tag cannot express the constraint.
        """
        return structural_tag(self.shape)

    @cached_property
    def ebnf(self) -> str:
        """The EBNF grammar for xgrammar.

        Raises:
            GrammarError: EBNF cannot express the constraint.
        """
        return ebnf_grammar(self.shape)

    @cached_property
    def gbnf(self) -> str:
        """The GBNF grammar for llama.cpp, without the token that ends the completion.

        Raises:
            GrammarError: GBNF cannot express the constraint.
        """
        return gbnf_grammar(self.shape)

    @cached_property
    def without_stop_token(self) -> Constraint:
        """The constraint for an engine that does not admit stop tokens within a grammar.

        Such an engine ends completions itself, with any of its stop tokens.
        """
        return Constraint(without_stop_token(self.shape))

    def verify(self) -> None:
        """Check that llguidance can enforce the constraint.

        If llguidance is installed, the grammar is compiled and cached; otherwise only the keywords
        of the schemas are checked.

        Raises:
            GrammarError: llguidance does not enforce a keyword, or nothing meets a schema.
        """
        grammar = self.lark
        if find_spec("llguidance") is not None:
            Matcher(grammar)

    @checked_options
    def matcher(
        self, max_tokens: int | None = None, *, vocabulary_size: int = MODEL_VOCABULARY_SIZE
    ) -> Matcher:
        """A matcher at the start of a completion.

        Args:
            max_tokens: The maximum length of the completion, in tokens; `None` for no limit.
            vocabulary_size: The number of token ids that the model has.

        Raises:
            GrammarError: llguidance is not installed, or refuses the grammar; or no completion of
                at most `max_tokens` was found.
        """
        return Matcher(self.lark, max_tokens, vocabulary_size=vocabulary_size)

    def check(self, completion: Iterable[int]) -> Refusal | None:
        """Check an existing completion.

        Args:
            completion: Token ids, including the stop token.

        Returns:
            Where it violates the constraint, or `None` if it does not.

        Raises:
            GrammarError: llguidance is not installed, or refuses the grammar.

        Example:
            >>> from harmony_kit import encode_with_special
            >>> constraint().check(encode_with_special("<|channel|>final<|message|>Hi.<|return|>"))
            >>> constraint().check(encode_with_special("<|channel|>final"))
            Refusal(position=2, token=None)
        """
        matcher = self.matcher()
        for position, token in enumerate(completion):
            if not matcher.accept_token(token):
                return Refusal(position, token)
        return None if matcher.is_finished else Refusal(matcher.position, None)


@checked_options
def constraint(
    tools: Iterable[ToolsLike] = (),
    *,
    tool_choice: ToolChoice | str = "auto",
    response_format: AnswerFormat = None,
    reasoning: Reasoning = "free",
    strict: bool | Collection[str] = True,
    after: Sequence[int] = (),
) -> Constraint:
    """Constrain a completion to be well-formed, from its first token to its last.

    Every completion that the constraint admits parses without a problem and calls only declared
    tools, with arguments that meet their schema. It makes at most one call, since a call ends a
    completion.

    Args:
        tools: What may be called: functions, `Tool`s and pydantic models; namespaces such as
            `PYTHON`; and sources such as a `PythonTool`.
        tool_choice: `"auto"`, `"none"`, `"required"`, the full name of the tool that must be
            called, or a `ToolChoice`.
        response_format: The format of the final answer: a `ResponseFormat`, a JSON Schema as a
            mapping, a `Pattern`, a `Choice`, or `None` for any text.
        reasoning: How much the model may reason: `"free"`, `"none"`, or in one message of at most
            so many tokens.
        strict: Whether arguments must meet the tools' schemas: `True` for all tools, or the full
            names of tools. The arguments of others are any JSON object.
        after: Token ids with which the completion already begins, at the end of the prompt.

    Raises:
        GrammarError: A tool that must be called is not declared, the response format is invalid,
            or `after` is not the prefix of a completion that the constraint admits.
        ToolError: Something in `tools` cannot be made a tool, or a source is not open.
        OptionError: An argument has an invalid value.

    Example:
        >>> made = constraint(reasoning="none", response_format=Choice(("yes", "no")))
        >>> print(made.gbnf)
        root ::= <[200005]> "final" <[200008]> ("yes" | "no")
        <BLANKLINE>
    """
    turn = Turn(
        tools=tuple(namespaces_of(tools)),
        tool_choice=tool_choice_of(tool_choice),
        answer=_answer(response_format),
        reasoning=_reasoning(reasoning),
        strict=_strict(strict),
    )
    return Constraint(derivative(turn_grammar(turn), after))


@checked_options
def conversation_constraint(
    conversation: Iterable[Message],
    *,
    tool_choice: ToolChoice | str = "auto",
    reasoning: Reasoning = "free",
    strict: bool | Collection[str] = True,
    after: Sequence[int] = (),
) -> Constraint:
    r"""Constrain the completion of a conversation to the tools and formats that it declares.

    Args:
        conversation: The messages. If they declare several response formats, each is allowed.
        tool_choice: As for `constraint`.
        reasoning: As for `constraint`.
        strict: As for `constraint`.
        after: As for `constraint`.

    Raises:
        GrammarError: As for `constraint`.
        OptionError: As for `constraint`.

    Example:
        >>> import harmony_kit as hk
        >>> verdict = hk.wire.ResponseFormat("verdict", {"enum": ["yes", "no"]})
        >>> messages = [hk.developer(response_formats=[verdict]), hk.user("Is it cold?")]
        >>> made = conversation_constraint(messages, reasoning="none")
        >>> made.gbnf.splitlines()[1]
        'value ::= "\\"yes\\"" | "\\"no\\""'
    """
    messages = list(conversation)
    turn = Turn(
        tools=tuple(declared_namespaces(messages)),
        tool_choice=tool_choice_of(tool_choice),
        answer=alternatives(*map(_answer, _declared_formats(messages))),
        reasoning=_reasoning(reasoning),
        strict=_strict(strict),
    )
    return Constraint(derivative(turn_grammar(turn), after))


# --- Arguments ------------------------------------------------------------------------------


def _answer(form: AnswerFormat) -> Node:
    match form:
        case None:
            return FreeText(required=True)
        case ResponseFormat():
            return JsonValue(form.schema_json, "response_format")
        case Pattern():
            return MatchingText(form.pattern)
        case Choice():
            if not form.texts or "" in form.texts:
                raise GrammarError(
                    "a Choice needs texts, none of them empty", path="response_format"
                )
            return alternatives(*map(Literal, form.texts))
        case Mapping():
            return json_value(form, "response_format")
    raise GrammarError(
        f"{type(form).__name__} is not a ResponseFormat, a JSON Schema, a Pattern or a Choice",
        path="response_format",
    )


def _declared_formats(messages: Iterable[Message]) -> list[AnswerFormat]:
    formats: list[AnswerFormat] = []
    for message in messages:
        parts = message.content if isinstance(message.content, tuple) else (message.content,)
        for part in parts:
            if isinstance(part, DeveloperContent):
                formats += part.response_formats
    return formats or [None]


def _reasoning(reasoning: Reasoning) -> Reasoning:
    is_number = isinstance(reasoning, int) and not isinstance(reasoning, bool)
    if reasoning not in ("free", "none") and not (is_number and int(reasoning) >= 0):
        raise GrammarError(
            f"{reasoning!r} is neither 'free' nor 'none' nor a number of tokens", path="reasoning"
        )
    return "none" if reasoning == 0 else reasoning


def _strict(strict: bool | Collection[str]) -> frozenset[str] | None:
    if strict is True:
        return None
    return frozenset(() if strict is False else strict)
