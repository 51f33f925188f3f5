"""Names that were at the top of the package before it was split: found there, with a warning."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any, Final

_ROOMS: Final = {
    "builtins": "BrowserTool PythonTool",
    "calls": "ArgumentsDelta CallEnded CallEvent CallStarted CallStatus",
    "convert": "message_from_dict message_to_dict",
    "engine": "Backend Feature FinishReason backend_names",
    "errors": "BackendError GrammarError InvalidMessageError OptionError ToolArgumentsError "
    "ToolError UnknownTokenError",
    "grammar": "Constraint conversation_constraint",
    "loop": "ContextPolicy ContextReduced Outcome RunEnded RunEvent RunState ToolReturned "
    "ToolStarted TurnStarted Usage drop_tool_cycles",
    "tools": "DeclaredTool McpTools ToolAnswer ToolCallStream ToolLike ToolPolicy ToolResult "
    "ToolSource ToolsLike tool_from_function tool_from_model tools_from_object",
    "wire": "DeveloperContent DropAnalysis Event Header HeaderOrder MessageSpan MessageStarted "
    "MessageTokens ParsedMessage ProblemFound ReasoningEffort ResponseFormat SchemaStyle Span "
    "SystemContent Terminator TokenPart TrainingRendering TurnEnd render_message render_prompt "
    "render_training token_counts use_encoder",
}
_NEW_NAMES: Final = {
    "Delta": ("engine", "TokenChunk"),
    "TurnEnded": ("loop", "TurnFinished"),
    "tool_call": ("tools", "call_message"),
}
_HOMES: Final = {
    **{name: (room, name) for room, names in _ROOMS.items() for name in names.split()},
    **_NEW_NAMES,
}


def renamed(name: str) -> Any:
    """What a name stands for now, with a `DeprecationWarning` that says where it is.

    Args:
        name: A name that the package had at its top.

    Raises:
        AttributeError: It had none of this name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'harmony_kit' has no attribute {name!r}")
    room, new_name = _HOMES[name]
    place = f"harmony_kit.{room}.{new_name}"
    warnings.warn(f"harmony_kit.{name} is {place} now", DeprecationWarning, stacklevel=3)
    return getattr(import_module(f"harmony_kit.{room}"), new_name)
