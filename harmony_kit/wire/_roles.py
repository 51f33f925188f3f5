"""The names that the format defines: roles, channels, efforts, and a system message's defaults."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal


class Role(StrEnum):
    """The author of a message, in order of authority, highest first."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Channel(StrEnum):
    """The purpose of an assistant message. A message may have a channel that is not listed here."""

    ANALYSIS = "analysis"
    """Reasoning, which must not be shown to end users."""
    COMMENTARY = "commentary"
    """Calls of function tools, and preambles that end users may see."""
    FINAL = "final"
    """The answer."""


class ReasoningEffort(StrEnum):
    """How much the model is to reason before it answers."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


MODEL_IDENTITY: Final = "You are ChatGPT, a large language model trained by OpenAI."
KNOWLEDGE_CUTOFF: Final = "2024-06"
CHANNELS: Final[tuple[str, ...]] = (Channel.ANALYSIS, Channel.COMMENTARY, Channel.FINAL)
FUNCTIONS: Final = "functions"
"""The namespace of function tools."""
SchemaStyle = Literal["reference", "extended"]
"""How a JSON Schema is written: as openai-harmony does, or including all of its keywords."""
