"""Conversations with a model that calls tools: the loop, its events, and where it stands."""

from .context import ContextPolicy, drop_tool_cycles
from .events import (
    ContextReduced,
    Outcome,
    Reply,
    RunEnded,
    RunEvent,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from .loop import arun, astream, run, stream
from .options import RunOptions
from .state import RunState, Usage

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
    "TurnEnded",
    "TurnStarted",
    "Usage",
    "arun",
    "astream",
    "drop_tool_cycles",
    "run",
    "stream",
]
