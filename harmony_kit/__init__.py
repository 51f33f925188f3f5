"""The Harmony format of the gpt-oss models: rendering, parsing, tools, any engine.

Every public name is found here. Rendering and parsing are imported at once; what stands
above them (tools, backends, the loop, conversions) when the first of its names is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    BackendError,
    GrammarError,
    HarmonyError,
    InvalidMessageError,
    OptionError,
    ParseError,
    ToolArgumentsError,
    ToolError,
    UnknownTokenError,
)
from .header import HeaderOrder
from .messages import (
    Channel,
    DeveloperContent,
    Header,
    Message,
    MessageTokens,
    ReasoningEffort,
    ResponseFormat,
    Role,
    SchemaStyle,
    SystemContent,
    Tool,
    ToolNamespace,
)
from .parse import Parser, parse
from .parsed import (
    Completion,
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParsedMessage,
    ProblemFound,
    Terminator,
    TurnEnd,
)
from .problems import Problem, Span
from .render import (
    DropAnalysis,
    Prompt,
    RenderOptions,
    TokenPart,
    TrainingRendering,
    render,
    render_message,
    render_prompt,
    render_training,
    token_counts,
)
from .vocabulary import decode, encode, encode_with_special, use_encoder

if TYPE_CHECKING:
    from . import batch as batch
    from . import compat as compat
    from . import conversation as conversation
    from . import convert as convert
    from . import grammar as grammar
    from . import tools as tools
    from .build import assistant, developer, system, tool_call, user
    from .conversation import (
        ContextPolicy,
        ContextReduced,
        Outcome,
        Reply,
        RunEnded,
        RunEvent,
        RunOptions,
        RunState,
        ToolReturned,
        ToolStarted,
        TurnEnded,
        TurnStarted,
        Usage,
        arun,
        astream,
        drop_tool_cycles,
        run,
        stream,
    )
    from .convert.harmony import (
        message_from_dict,
        message_to_dict,
        messages_from_json,
        messages_to_json,
    )
    from .generation import (
        Backend,
        Delta,
        Feature,
        FinishReason,
        backend_names,
        load_backend,
    )
    from .grammar import Constraint, constraint, conversation_constraint
    from .prompts import extend
    from .sampling import SamplingParams
    from .text import TextParser, parse_text
    from .tools import (
        BROWSER,
        PYTHON,
        ArgumentsDelta,
        CallEnded,
        CallEvent,
        CallStarted,
        CallStatus,
        DeclaredTool,
        ToolAnswer,
        Toolbox,
        ToolCall,
        ToolCallStream,
        ToolLike,
        ToolPolicy,
        ToolResult,
        ToolsLike,
        ToolSource,
        tool_calls,
        tool_from_function,
        tool_from_model,
        tool_result,
        tools_from_object,
    )
    from .tools.browser import BrowserTool
    from .tools.mcp import McpTools
    from .tools.python import PythonTool

__version__: str

__all__ = [
    "BROWSER",
    "PYTHON",
    "ArgumentsDelta",
    "Backend",
    "BackendError",
    "BrowserTool",
    "CallEnded",
    "CallEvent",
    "CallStarted",
    "CallStatus",
    "Channel",
    "Completion",
    "Constraint",
    "ContentDelta",
    "ContextPolicy",
    "ContextReduced",
    "DeclaredTool",
    "Delta",
    "DeveloperContent",
    "DropAnalysis",
    "Event",
    "Feature",
    "FinishReason",
    "GrammarError",
    "HarmonyError",
    "Header",
    "HeaderOrder",
    "InvalidMessageError",
    "McpTools",
    "Message",
    "MessageEnded",
    "MessageSpan",
    "MessageStarted",
    "MessageTokens",
    "OptionError",
    "Outcome",
    "ParseError",
    "ParsedMessage",
    "Parser",
    "Problem",
    "ProblemFound",
    "Prompt",
    "PythonTool",
    "ReasoningEffort",
    "RenderOptions",
    "Reply",
    "ResponseFormat",
    "Role",
    "RunEnded",
    "RunEvent",
    "RunOptions",
    "RunState",
    "SamplingParams",
    "SchemaStyle",
    "Span",
    "SystemContent",
    "Terminator",
    "TextParser",
    "TokenPart",
    "Tool",
    "ToolAnswer",
    "ToolArgumentsError",
    "ToolCall",
    "ToolCallStream",
    "ToolError",
    "ToolLike",
    "ToolNamespace",
    "ToolPolicy",
    "ToolResult",
    "ToolReturned",
    "ToolSource",
    "ToolStarted",
    "Toolbox",
    "ToolsLike",
    "TrainingRendering",
    "TurnEnd",
    "TurnEnded",
    "TurnStarted",
    "UnknownTokenError",
    "Usage",
    "arun",
    "assistant",
    "astream",
    "backend_names",
    "constraint",
    "conversation_constraint",
    "decode",
    "developer",
    "drop_tool_cycles",
    "encode",
    "encode_with_special",
    "extend",
    "load_backend",
    "message_from_dict",
    "message_to_dict",
    "messages_from_json",
    "messages_to_json",
    "parse",
    "parse_text",
    "render",
    "render_message",
    "render_prompt",
    "render_training",
    "run",
    "stream",
    "system",
    "token_counts",
    "tool_call",
    "tool_calls",
    "tool_from_function",
    "tool_from_model",
    "tool_result",
    "tools_from_object",
    "use_encoder",
    "user",
]

_LATER = {
    "build": "assistant developer system tool_call user",
    "conversation": "ContextPolicy ContextReduced Outcome Reply RunEnded RunEvent RunOptions "
    "RunState ToolReturned ToolStarted TurnEnded TurnStarted Usage arun astream "
    "drop_tool_cycles run stream",
    "convert.harmony": "message_from_dict message_to_dict messages_from_json messages_to_json",
    "generation": "Backend Delta Feature FinishReason backend_names load_backend",
    "grammar": "Constraint constraint conversation_constraint",
    "prompts": "extend",
    "sampling": "SamplingParams",
    "text": "TextParser parse_text",
    "tools": "ArgumentsDelta BROWSER CallEnded CallEvent CallStarted CallStatus DeclaredTool "
    "PYTHON ToolAnswer ToolCall ToolCallStream ToolLike ToolPolicy ToolResult ToolSource Toolbox "
    "ToolsLike tool_calls tool_from_function tool_from_model tool_result tools_from_object",
    "tools.browser": "BrowserTool",
    "tools.mcp": "McpTools",
    "tools.python": "PythonTool",
}
_HOME = {name: module for module, names in _LATER.items() for name in names.split()}
_PACKAGES = frozenset({"batch", "compat", "conversation", "convert", "grammar", "tools"})


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _PACKAGES:
        value = import_module(f"{__name__}.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("harmony-kit")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_PACKAGES, "__version__"})
