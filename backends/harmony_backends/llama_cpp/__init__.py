"""The backend that runs llama.cpp in a process of its own."""

from ..errors import DeadEngineError
from ._backend import LlamaCppBackend

__all__ = ["DeadEngineError", "LlamaCppBackend"]
