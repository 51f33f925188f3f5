"""Errors of engines."""

from __future__ import annotations

from harmony_kit.errors import BackendError


class DeadEngineError(BackendError):
    """The engine has died, and all of its requests with it; make a new backend."""
