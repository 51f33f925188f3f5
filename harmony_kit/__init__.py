"""The Harmony format of the gpt-oss models: rendering, parsing, tools, any engine.

The names that most programs need are found here; all of them in the packages: `wire` (the format
itself), `calls`, `tools`, `builtins`, `sampling`, `grammar`, `convert`, `engine`, `loop`. These are
attributes too, as in `harmony_kit.convert.anthropic`, and imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazily
from .errors import HarmonyError, ParseError
from .wire import (
    Channel,
    Completion,
    ContentDelta,
    Message,
    MessageEnded,
    Parser,
    Problem,
    Prompt,
    RenderOptions,
    Role,
    Tool,
    ToolNamespace,
    decode,
    encode,
    encode_with_special,
    parse,
    render,
)

if TYPE_CHECKING:
    from . import builtins as builtins
    from . import calls as calls
    from . import compat as compat
    from . import convert as convert
    from . import engine as engine
    from . import errors as errors
    from . import grammar as grammar
    from . import loop as loop
    from . import sampling as sampling
    from . import tools as tools
    from . import wire as wire
    from ._version import __version__ as __version__
    from .calls import ToolCall
    from .convert.harmony import messages_from_json, messages_to_json
    from .engine import load_backend
    from .grammar import constraint
    from .loop import Reply, RunOptions, arun, astream, run, stream
    from .sampling import SamplingParams
    from .tools import (
        Toolbox,
        assistant,
        call_message,
        developer,
        system,
        tool_calls,
        tool_result,
        user,
    )
    from .wire import BROWSER, PYTHON, TextParser, extend, parse_text

__all__ = [
    "BROWSER",
    "PYTHON",
    "Channel",
    "Completion",
    "ContentDelta",
    "HarmonyError",
    "Message",
    "MessageEnded",
    "ParseError",
    "Parser",
    "Problem",
    "Prompt",
    "RenderOptions",
    "Reply",
    "Role",
    "RunOptions",
    "SamplingParams",
    "TextParser",
    "Tool",
    "ToolCall",
    "ToolNamespace",
    "Toolbox",
    "arun",
    "assistant",
    "astream",
    "call_message",
    "constraint",
    "decode",
    "developer",
    "encode",
    "encode_with_special",
    "extend",
    "load_backend",
    "messages_from_json",
    "messages_to_json",
    "parse",
    "parse_text",
    "render",
    "run",
    "stream",
    "system",
    "tool_calls",
    "tool_result",
    "user",
]

if not TYPE_CHECKING:
    _find, __dir__ = lazily(
        __name__,
        {
            "calls": "ToolCall",
            "_version": "__version__",
            "convert.harmony": "messages_from_json messages_to_json",
            "engine": "load_backend",
            "grammar": "constraint",
            "loop": "Reply RunOptions arun astream run stream",
            "sampling": "SamplingParams",
            "tools": "Toolbox assistant developer system call_message tool_calls tool_result user",
            "wire": "BROWSER PYTHON TextParser extend parse_text",
        },
        "builtins calls compat convert engine errors grammar loop sampling tools wire",
    )

    def __getattr__(name: str) -> object:
        try:
            return _find(name)
        except AttributeError:
            from ._renamed import renamed

            return renamed(name)
