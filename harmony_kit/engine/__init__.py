"""Engines behind one protocol: token ids in, token ids out; and files of requests for them."""

from ._batch import (
    CHAT_COMPLETIONS,
    MESSAGES,
    RESPONSES,
    BatchFile,
    BatchLine,
    BatchResult,
    read_batch,
    run_batch,
)
from ._protocol import (
    Backend,
    Feature,
    FinishReason,
    TokenChunk,
    backend_names,
    check_prompt,
    check_support,
    load_backend,
    supported_by,
)

__all__ = [
    "CHAT_COMPLETIONS",
    "MESSAGES",
    "RESPONSES",
    "Backend",
    "BatchFile",
    "BatchLine",
    "BatchResult",
    "Feature",
    "FinishReason",
    "TokenChunk",
    "backend_names",
    "check_prompt",
    "check_support",
    "load_backend",
    "read_batch",
    "run_batch",
    "supported_by",
]
