"""Tools: what can be declared as one, the built-in ones, and running calls."""

from .builtin import BROWSER, PYTHON
from .function import tool_from_function
from .toolbox import Toolbox, ToolLike, as_tool, declared_tools, tool_result

__all__ = [
    "BROWSER",
    "PYTHON",
    "ToolLike",
    "Toolbox",
    "as_tool",
    "declared_tools",
    "tool_from_function",
    "tool_result",
]
