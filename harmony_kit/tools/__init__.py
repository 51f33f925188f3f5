"""Tools: what can be declared as one, the built-in ones, reading calls and running them."""

from .answers import Ending, ToolAnswer, tool_result
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
from .declared import declared_namespaces, declared_tools
from .function import tool_from_function
from .methods import tools_from_object
from .models import tool_from_model
from .policy import Confirm, ToolPolicy
from .results import ToolResult
from .source import (
    ToolLike,
    ToolsLike,
    ToolSource,
    as_tool,
    is_builtin,
    namespace_of,
    namespaces_of,
)
from .toolbox import Toolbox

__all__ = [
    "BROWSER",
    "PYTHON",
    "Arguments",
    "ArgumentsDelta",
    "CallEnded",
    "CallEvent",
    "CallStarted",
    "CallStatus",
    "Confirm",
    "DeclaredTool",
    "Ending",
    "ToolAnswer",
    "ToolCall",
    "ToolCallStream",
    "ToolLike",
    "ToolPolicy",
    "ToolResult",
    "ToolSource",
    "Toolbox",
    "ToolsLike",
    "as_tool",
    "declared_namespaces",
    "declared_tools",
    "is_builtin",
    "namespace_of",
    "namespaces_of",
    "read_arguments",
    "tool_calls",
    "tool_from_function",
    "tool_from_model",
    "tool_result",
    "tools_from_object",
]
