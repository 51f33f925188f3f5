"""Constraints: what a completion may be, for any engine that can be told."""

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
from ._ebnf import ebnf_grammar
from ._gbnf import gbnf_grammar
from ._lark import lark_grammar
from ._matching import MODEL_VOCABULARY_SIZE, Matcher
from ._position import rest_of
from ._schema import json_value
from ._shape import FixedText, FreeText, JsonValue, MatchingText, Shape, one_of
from ._shape_rules import without_stop_token
from ._structural_tag import structural_tag
from ._turn import Reasoning, Turn, turn_shape


@checked_fields
@dataclass(frozen=True)
class Pattern:
    """A final answer that a regular expression matches as a whole.

    Attributes:
        pattern: The regular expression; anchors are not needed.
    """

    pattern: str


@checked_fields
@dataclass(frozen=True)
class Choice:
    """A final answer that is one of some texts.

    Attributes:
        texts: The texts; none of them is empty.
    """

    texts: tuple[str, ...]


AnswerFormat = Union[ResponseFormat, Mapping[str, Any], Pattern, Choice, None]  # noqa: UP007
"""The form of a final answer: a format or a JSON Schema, a pattern, some texts, or any text."""


class Refusal(NamedTuple):
    """Where a completion leaves a constraint.

    Attributes:
        position: The index of the first token that is not admitted; the number of tokens where
            the completion ends before it is whole.
        token: The token, or `None` where the completion ends.
    """

    position: int
    token: int | None


@checked_fields
@dataclass(frozen=True)
class Constraint:
    """What a completion may be: plain data, which engines get in their own language.

    Attributes:
        shape: What may stand where.
    """

    shape: Shape

    @cached_property
    def lark(self) -> str:
        """The grammar for llguidance.

        Raises:
            GrammarError: A JSON Schema says what llguidance does not enforce.
        """
        return lark_grammar(self.shape)

    @cached_property
    def structural_tag(self) -> dict[str, Any]:
        """The structural tag for xgrammar.

        Raises:
            GrammarError: Something cannot be said in it.
        """
        return structural_tag(self.shape)

    @cached_property
    def ebnf(self) -> str:
        """The grammar for xgrammar.

        Raises:
            GrammarError: Something cannot be said in it.
        """
        return ebnf_grammar(self.shape)

    @cached_property
    def gbnf(self) -> str:
        """The grammar for llama.cpp, without the token that ends the completion.

        Raises:
            GrammarError: Something cannot be said in it.
        """
        return gbnf_grammar(self.shape)

    @cached_property
    def without_stop_token(self) -> Constraint:
        """The constraint for an engine that ends completions itself, with one of its stop tokens.

        Such an engine does not admit them within a grammar. Which of them it writes, it chooses.
        """
        return Constraint(without_stop_token(self.shape))

    def verify(self) -> None:
        """Refuse what llguidance will refuse, as far as can be known here.

        Where llguidance is not installed that is what its grammar cannot say. Where it is the
        grammar is compiled, and kept for those that use it.

        Raises:
            GrammarError: llguidance does not enforce something, or nothing meets a schema.
        """
        grammar = self.lark
        if find_spec("llguidance") is not None:
            Matcher(grammar)

    @checked_options
    def matcher(
        self, max_tokens: int | None = None, *, vocabulary_size: int = MODEL_VOCABULARY_SIZE
    ) -> Matcher:
        """What follows a completion token by token.

        Args:
            max_tokens: The most tokens that the completion may have; it is whole by then.
            vocabulary_size: The lowest id that the model does not know.

        Raises:
            GrammarError: llguidance is not installed, or refuses the grammar; or no completion
                of at most `max_tokens` was found.
        """
        return Matcher(self.lark, max_tokens, vocabulary_size=vocabulary_size)

    def check(self, completion: Iterable[int]) -> Refusal | None:
        """Check a completion that exists already.

        Args:
            completion: Token ids, the stop token included.

        Returns:
            Where it leaves the constraint, or `None` if it does not.

        Raises:
            GrammarError: As for `matcher`.
        """
        matcher = self.matcher()
        for position, token in enumerate(completion):
            if not matcher.take(token):
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

    Every completion that this admits is read without a problem, calls only tools that were
    declared, and its arguments meet their schema. It makes one call at most, since a call
    ends a completion.

    Args:
        tools: What may be called: functions, `Tool`s and pydantic models; namespaces such as
            `PYTHON`; and sources such as a `PythonTool`.
        tool_choice: `"auto"`, `"none"`, `"required"`, the full name of the tool that must be
            called, or a `ToolChoice`.
        response_format: The form of the final answer.
        reasoning: How much the model may think: `"free"`, `"none"`, or the most tokens.
        strict: Whether arguments must meet the tools' schemas: all of them, or those of the
            tools with these full names. The arguments of others are any JSON object.
        after: Token ids with which the completion begins already, at the end of the prompt.

    Raises:
        GrammarError: It cannot be: a tool that must be called was not declared, the answer has
            no form, or `after` is no beginning of such a completion.
        ToolError: Something in `tools` cannot be made a tool, or a source is not open.
        OptionError: `tool_choice` says nothing of the kind.
    """
    turn = Turn(
        tools=tuple(namespaces_of(tools)),
        tool_choice=tool_choice_of(tool_choice),
        answer=_answer(response_format),
        reasoning=_reasoning(reasoning),
        strict=_strict(strict),
    )
    return Constraint(rest_of(turn_shape(turn), after))


@checked_options
def conversation_constraint(
    conversation: Iterable[Message],
    *,
    tool_choice: ToolChoice | str = "auto",
    reasoning: Reasoning = "free",
    strict: bool | Collection[str] = True,
    after: Sequence[int] = (),
) -> Constraint:
    """Constrain the completion of a conversation to the tools and formats that it declares.

    Args:
        conversation: The messages. Of several response formats the answer may have any.
        tool_choice: As for `constraint`.
        reasoning: As for `constraint`.
        strict: As for `constraint`.
        after: As for `constraint`.

    Raises:
        GrammarError: As for `constraint`.
        OptionError: As for `constraint`.
    """
    messages = list(conversation)
    turn = Turn(
        tools=tuple(declared_namespaces(messages)),
        tool_choice=tool_choice_of(tool_choice),
        answer=one_of(*map(_answer, _declared_formats(messages))),
        reasoning=_reasoning(reasoning),
        strict=_strict(strict),
    )
    return Constraint(rest_of(turn_shape(turn), after))


# --- Arguments ------------------------------------------------------------------------------


def _answer(form: AnswerFormat) -> Shape:
    match form:
        case None:
            return FreeText(required=True)
        case ResponseFormat():
            return JsonValue(form.schema_json, "response_format")
        case Pattern():
            return MatchingText(form.pattern)
        case Choice():
            if not form.texts or "" in form.texts:
                raise GrammarError("no text, or an empty one", path="response_format")
            return one_of(*map(FixedText, form.texts))
        case Mapping():
            return json_value(form, "response_format")
    raise GrammarError(f"{type(form).__name__} is no form of an answer", path="response_format")


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
