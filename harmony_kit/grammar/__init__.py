"""Grammars of completions: what a model may write, so that it is well-formed by construction."""

from ..tools.choice import ToolChoice
from .constraint import (
    AnswerFormat,
    Choice,
    Constraint,
    Pattern,
    Refusal,
    constraint,
    conversation_constraint,
)
from .matching import Matcher
from .turn import Reasoning

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
