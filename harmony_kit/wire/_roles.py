"""The words of the format: roles, channels, efforts, and the texts that a system message has."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal


class Role(StrEnum):
    """Who wrote a message; the order is that of authority, highest first."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Channel(StrEnum):
    """What an assistant message is for. A message may also carry a channel not listed here."""

    ANALYSIS = "analysis"
    """Reasoning, never to be shown to an end user."""
    COMMENTARY = "commentary"
    """Calls of function tools, and preambles that an end user may see."""
    FINAL = "final"
    """The answer."""


class ReasoningEffort(StrEnum):
    """How much the model is asked to think before it answers."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


MODEL_IDENTITY: Final = "You are ChatGPT, a large language model trained by OpenAI."
KNOWLEDGE_CUTOFF: Final = "2024-06"
CHANNELS: Final[tuple[str, ...]] = (Channel.ANALYSIS, Channel.COMMENTARY, Channel.FINAL)
FUNCTIONS: Final = "functions"
"""The namespace of function tools."""
SchemaStyle = Literal["reference", "extended"]
"""How a JSON Schema is written: as openai-harmony does, or with all that it says."""
