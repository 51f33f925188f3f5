"""Messages to and from the shapes that other programs speak."""

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from . import anthropic as anthropic
    from . import chat_completions as chat_completions
    from . import harmony as harmony
    from . import responses as responses
    from .harmony import (
        message_from_dict,
        message_to_dict,
        messages_from_json,
        messages_to_json,
    )

__all__ = [
    "message_from_dict",
    "message_to_dict",
    "messages_from_json",
    "messages_to_json",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {"harmony": "message_from_dict message_to_dict messages_from_json messages_to_json"},
        "anthropic chat_completions harmony responses",
    )
