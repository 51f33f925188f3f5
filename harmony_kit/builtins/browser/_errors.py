"""What the browser tells the model when something cannot be done."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...errors import ToolArgumentsError, ToolError


class BrowserError(ToolError):
    """A page cannot be found, loaded or shown; the text is for the model to read."""


class BrowserArgumentsError(BrowserError, ToolArgumentsError):
    """A call asks for what there is not: a page, a link, a line."""


def required(module: str) -> Any:
    """A package of the extra `browser`.

    Args:
        module: Its name, such as `"httpx"`.

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
