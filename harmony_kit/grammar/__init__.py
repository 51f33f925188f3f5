"""Grammars of completions: what a model may write, so that it is well-formed by construction."""

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
