"""Declaring and running tools: functions, pydantic models, methods of objects, MCP servers."""

from typing import TYPE_CHECKING

from .._lazy import lazily
from ._answers import Ending, ToolAnswer, tool_result
from ._build import assistant, call_message, developer, system, user
from ._calls import DeclaredTool, ToolCallStream, tool_calls
from ._function import tool_from_function
from ._methods import tools_from_object
from ._models import tool_from_model
from ._policy import Confirm, ToolPolicy
from ._results import ToolResult
from ._source import ToolLike, ToolsLike, ToolSource
from ._toolbox import Toolbox

if TYPE_CHECKING:
    from ._mcp import McpTools

__all__ = [
    "Confirm",
    "DeclaredTool",
    "Ending",
    "McpTools",
    "ToolAnswer",
    "ToolCallStream",
    "ToolLike",
    "ToolPolicy",
    "ToolResult",
    "ToolSource",
    "Toolbox",
    "ToolsLike",
    "assistant",
    "call_message",
    "developer",
    "system",
    "tool_calls",
    "tool_from_function",
    "tool_from_model",
    "tool_result",
    "tools_from_object",
    "user",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, {"_mcp": "McpTools"})
