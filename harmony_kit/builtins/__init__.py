"""The built-in tools that the models were trained with: python and the browser."""

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from . import browser as browser
    from . import python as python
    from .browser import BrowserTool
    from .python import PythonTool

__all__ = ["BrowserTool", "PythonTool"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__, {"browser": "BrowserTool", "python": "PythonTool"}, "browser python"
    )
