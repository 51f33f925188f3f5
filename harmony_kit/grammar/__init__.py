"""Grammars of completions: under a constraint, all that a model writes is well-formed."""

from ..tools._choice import ToolChoice
from ._constraint import (
    AnswerFormat,
    Choice,
    Constraint,
    Pattern,
    Refusal,
    constraint,
    conversation_constraint,
)
from ._matching import Matcher
from ._turn import Reasoning

__all__ = [
    "AnswerFormat",
    "Choice",
    "Constraint",
    "Matcher",
    "Pattern",
    "Reasoning",
    "Refusal",
    "ToolChoice",
    "constraint",
    "conversation_constraint",
]
