"""The browser's errors, which are reported to the model."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...errors import ToolArgumentsError, ToolError


class BrowserError(ToolError):
    """A page cannot be found, loaded or shown; the text is for the model."""


class BrowserArgumentsError(BrowserError, ToolArgumentsError):
    """A call refers to a page, a link or a line that does not exist."""


def required(module: str) -> Any:
    """A module of the extra `browser`.

    Raises:
        ToolError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ToolError(
            f"the browser needs {package}: pip install 'harmony-kit[browser]'"
        ) from error
