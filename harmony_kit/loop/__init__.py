"""The loop that runs a model with tools: options, events, and states that can be saved."""

from ._context import ContextPolicy, drop_tool_cycles
from ._events import (
    ContextReduced,
    Outcome,
    Reply,
    RunEnded,
    RunEvent,
    ToolReturned,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)
from ._options import RunOptions
from ._run import arun, astream, run, stream
from ._state import RunState, Usage

__all__ = [
    "ContextPolicy",
    "ContextReduced",
    "Outcome",
    "Reply",
    "RunEnded",
    "RunEvent",
    "RunOptions",
    "RunState",
    "ToolReturned",
    "ToolStarted",
    "TurnFinished",
    "TurnStarted",
    "Usage",
    "arun",
    "astream",
    "drop_tool_cycles",
    "run",
    "stream",
]
