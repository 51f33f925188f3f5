"""Tools: what can be declared as one, the built-in ones, reading calls and running them."""

from .arguments import Arguments, read_arguments
from .builtin import BROWSER, PYTHON
from .calls import (
    ArgumentsDelta,
    CallEnded,
    CallEvent,
    CallStarted,
    CallStatus,
    DeclaredTool,
    ToolCall,
    ToolCallStream,
    tool_calls,
)
from .function import tool_from_function
from .running import ToolAnswer, run_call, tool_result
from .toolbox import Toolbox, ToolLike, as_tool, declared_namespaces, declared_tools

__all__ = [
    "BROWSER",
    "PYTHON",
    "Arguments",
    "ArgumentsDelta",
    "CallEnded",
    "CallEvent",
    "CallStarted",
    "CallStatus",
    "DeclaredTool",
    "ToolAnswer",
    "ToolCall",
    "ToolCallStream",
    "ToolLike",
    "Toolbox",
    "as_tool",
    "declared_namespaces",
    "declared_tools",
    "read_arguments",
    "run_call",
    "tool_calls",
    "tool_from_function",
    "tool_result",
]
