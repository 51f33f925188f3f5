"""The backend for servers of completions, over HTTP."""

from ._backend import MODEL_VOCABULARY_SIZE, OpenAICompletionsBackend

__all__ = ["MODEL_VOCABULARY_SIZE", "OpenAICompletionsBackend"]
