"""The Harmony format: messages to tokens and tokens to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily
from ._contents import DeveloperContent, ResponseFormat, SystemContent, Tool, ToolNamespace
from ._events import (
    Completion,
    ContentDelta,
    Event,
    FinishReason,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParsedMessage,
    ProblemFound,
    Terminator,
    TurnEnd,
)
from ._header.writing import HeaderOrder
from ._messages import Header, Message, MessageTokens
from ._parser import Parser, parse
from ._problems import Problem, Span
from ._render import Prompt, render, render_message, render_prompt, render_text, token_counts
from ._render_options import DropAnalysis, RenderOptions
from ._roles import Channel, ReasoningEffort, Role, SchemaStyle
from ._training import TokenPart, TrainingRendering, render_training
from ._vocabulary import (
    SPECIAL_TOKENS,
    decode,
    encode,
    encode_with_special,
    export_tiktoken,
    use_encoder,
)

if TYPE_CHECKING:
    from ._builtin_tools import BROWSER, PYTHON
    from ._prompts import extend
    from ._text import TextParser, parse_text

__all__ = [
    "BROWSER",
    "PYTHON",
    "SPECIAL_TOKENS",
    "Channel",
    "Completion",
    "ContentDelta",
    "DeveloperContent",
    "DropAnalysis",
    "Event",
    "FinishReason",
    "Header",
    "HeaderOrder",
    "Message",
    "MessageEnded",
    "MessageSpan",
    "MessageStarted",
    "MessageTokens",
    "ParsedMessage",
    "Parser",
    "Problem",
    "ProblemFound",
    "Prompt",
    "ReasoningEffort",
    "RenderOptions",
    "ResponseFormat",
    "Role",
    "SchemaStyle",
    "Span",
    "SystemContent",
    "Terminator",
    "TextParser",
    "TokenPart",
    "Tool",
    "ToolNamespace",
    "TrainingRendering",
    "TurnEnd",
    "decode",
    "encode",
    "encode_with_special",
    "export_tiktoken",
    "extend",
    "parse",
    "parse_text",
    "render",
    "render_message",
    "render_prompt",
    "render_text",
    "render_training",
    "token_counts",
    "use_encoder",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "_builtin_tools": "BROWSER PYTHON",
            "_prompts": "extend",
            "_text": "TextParser parse_text",
        },
    )
