"""Reading tool calls: the tool, the arguments, and whether the call can be run."""

from ._arguments import Arguments, read_arguments
from ._calls import CallStatus, ToolCall
from ._stream import ArgumentsDelta, CallEnded, CallEvent, CallStarted

__all__ = [
    "Arguments",
    "ArgumentsDelta",
    "CallEnded",
    "CallEvent",
    "CallStarted",
    "CallStatus",
    "ToolCall",
    "read_arguments",
]
