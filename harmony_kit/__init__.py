"""The Harmony format of the gpt-oss models: rendering, parsing, tools, any engine.

Every public name is found here. Rendering and parsing are imported at once; what stands
above them (tools, backends, the loop, conversions) when the first of its names is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    BackendError,
    HarmonyError,
    InvalidMessageError,
    ParseError,
    ToolError,
    UnknownTokenError,
)
from .header import Header, HeaderOrder
from .messages import (
    Channel,
    DeveloperContent,
    Message,
    ReasoningEffort,
    ResponseFormat,
    Role,
    SchemaStyle,
    SystemContent,
    Tool,
    ToolNamespace,
)
from .parse import (
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    Parser,
    ParseResult,
    Terminator,
    parse,
)
from .render import (
    DropAnalysis,
    TokenPart,
    TrainingRendering,
    render,
    render_message,
    render_training,
)
from .vocabulary import decode, encode, encode_with_special, use_encoder

if TYPE_CHECKING:
    from .build import assistant, developer, system, tool_call, user
    from .conversation import (
        Outcome,
        Reply,
        RunEnded,
        RunEvent,
        RunOptions,
        ToolReturned,
        TurnEnded,
        TurnStarted,
        Usage,
        arun,
        astream,
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
        FinishReason,
        Sampling,
        backend_names,
        load_backend,
    )
    from .tools import BROWSER, PYTHON, Toolbox, ToolLike, tool_from_function, tool_result

__all__ = [
    "BROWSER",
    "PYTHON",
    "Backend",
    "BackendError",
    "Channel",
    "ContentDelta",
    "Delta",
    "DeveloperContent",
    "DropAnalysis",
    "Event",
    "FinishReason",
    "HarmonyError",
    "Header",
    "HeaderOrder",
    "InvalidMessageError",
    "Message",
    "MessageEnded",
    "MessageSpan",
    "MessageStarted",
    "Outcome",
    "ParseError",
    "ParseResult",
    "Parser",
    "ReasoningEffort",
    "Reply",
    "ResponseFormat",
    "Role",
    "RunEnded",
    "RunEvent",
    "RunOptions",
    "Sampling",
    "SchemaStyle",
    "SystemContent",
    "Terminator",
    "TokenPart",
    "Tool",
    "ToolError",
    "ToolLike",
    "ToolNamespace",
    "ToolReturned",
    "Toolbox",
    "TrainingRendering",
    "TurnEnded",
    "TurnStarted",
    "UnknownTokenError",
    "Usage",
    "arun",
    "assistant",
    "astream",
    "backend_names",
    "decode",
    "developer",
    "encode",
    "encode_with_special",
    "load_backend",
    "message_from_dict",
    "message_to_dict",
    "messages_from_json",
    "messages_to_json",
    "parse",
    "render",
    "render_message",
    "render_training",
    "run",
    "stream",
    "system",
    "tool_call",
    "tool_from_function",
    "tool_result",
    "use_encoder",
    "user",
]

_LATER = {
    "build": "assistant developer system tool_call user",
    "conversation": "Outcome Reply RunEnded RunEvent RunOptions ToolReturned TurnEnded "
    "TurnStarted Usage arun astream run stream",
    "convert.harmony": "message_from_dict message_to_dict messages_from_json messages_to_json",
    "generation": "Backend Delta FinishReason Sampling backend_names load_backend",
    "tools": "BROWSER PYTHON ToolLike Toolbox tool_from_function tool_result",
}
_HOME = {name: module for module, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
