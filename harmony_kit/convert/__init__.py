"""Conversations in other formats: openai-harmony's JSON, and three APIs.

The packages `chat_completions`, `responses` and `anthropic` have the same functions, those of the
protocol `Api`.
"""

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from . import anthropic as anthropic
    from . import chat_completions as chat_completions
    from . import harmony as harmony
    from . import responses as responses
    from ._api import Api, Encoder
    from ._names import ToolNames
    from ._notes import Note
    from ._request import AdaptedRequest, HarmonyRequest
    from ._store import (
        MemoryStore,
        ResponseStore,
        SQLiteStore,
        StoredItem,
        StoredResponse,
    )
    from .harmony import (
        message_from_dict,
        message_to_dict,
        messages_from_json,
        messages_to_json,
    )

__all__ = [
    "AdaptedRequest",
    "Api",
    "Encoder",
    "HarmonyRequest",
    "MemoryStore",
    "Note",
    "ResponseStore",
    "SQLiteStore",
    "StoredItem",
    "StoredResponse",
    "ToolNames",
    "message_from_dict",
    "message_to_dict",
    "messages_from_json",
    "messages_to_json",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "_api": "Api Encoder",
            "_names": "ToolNames",
            "_notes": "Note",
            "_request": "AdaptedRequest HarmonyRequest",
            "_store": "MemoryStore ResponseStore SQLiteStore StoredItem StoredResponse",
            "harmony": "message_from_dict message_to_dict messages_from_json messages_to_json",
        },
        "anthropic chat_completions harmony responses",
    )
