"""The backend that runs Hugging Face transformers in this process."""

from ._backend import TransformersBackend

__all__ = ["TransformersBackend"]
