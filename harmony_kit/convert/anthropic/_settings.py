"""Reads the settings of a request: tools, thinking, sampling, formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...errors import RequestError
from ...sampling import SamplingParams
from ...tools._choice import ToolChoice
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import ResponseFormat, Tool, ToolNamespace
from ...wire._roles import FUNCTIONS, ReasoningEffort
from .._names import ToolNames
from .._notes import Notes
from .._reading import JsonObject
from .._request import function_tool, reasoning_effort, sampling_params
from .._requirements import Requirement
from ._history import IDLE

RESPONSE_FORMAT: Final = "response"
"""The name of the format in the prompt; the API has no names of formats."""

# The built-in tools by the names of server tools, which are also the prefixes of their types.
_BUILTIN: Final = {"web_search": BROWSER, "code_execution": PYTHON}
_TOOL_IDLE: Final = (*IDLE, "eager_input_streaming")


# --- Tools ----------------------------------------------------------------------------------


def builtin_tool(node: JsonObject) -> ToolNamespace | None:
    """The built-in tool that a declaration requests, or `None`."""
    kind = node.text("type") or ""
    return next((tool for name, tool in _BUILTIN.items() if kind.startswith(f"{name}_")), None)


def is_function(node: JsonObject) -> bool:
    """Whether a declaration is that of a client's function."""
    return node.text("type") in (None, "custom")


def function(node: JsonObject, names: ToolNames, notes: Notes) -> Tool:
    """A function that a client declares."""
    _tool_fields(node, ("name", "description", "input_schema", "type"), notes)
    schema = node.required_node("input_schema").value
    name = names.to_harmony(node.required_text("name"))
    parameters = None if _takes_nothing(schema) else schema
    return function_tool(node, name, node.text("description"), parameters, "input_schema")


def _takes_nothing(schema: Mapping[str, Any]) -> bool:
    # The API requires a schema of every function; the model was trained on `() => any`.
    plain = {"type", "properties", "required", "additionalProperties", "$schema"}
    return schema.keys() <= plain and not schema.get("properties") and not schema.get("required")


def _tool_fields(node: JsonObject, known: tuple[str, ...], notes: Notes) -> None:
    if node.boolean("defer_loading"):
        notes.changed(node.at("defer_loading"), "the tool is declared at once")
    if node.get("allowed_callers") not in (None, ["direct"]):
        notes.lost(node.at("allowed_callers"), "only the model itself calls tools")
    handled = ("strict", "defer_loading", "allowed_callers")
    notes.unknown_fields(node, (*known, *handled), _TOOL_IDLE)


def server_tool_fields(node: JsonObject, notes: Notes) -> None:
    """Report the settings of a server tool: the built-in tools have none."""
    _tool_fields(node, ("type", "name"), notes)


def tool_choice(body: JsonObject, names: ToolNames, declared: set[str], notes: Notes) -> ToolChoice:
    """Which tools the model may or must call; `declared` has the client's names of all tools."""
    node = body.node("tool_choice")
    if node is None:
        return ToolChoice()
    notes.unknown_fields(node, ("type", "name", "disable_parallel_tool_use"))
    kind = node.choice("type", ("auto", "any", "tool", "none"))
    if kind is None:
        raise node.error("type", "missing")
    if kind == "any":
        return ToolChoice("required")
    if kind != "tool":
        return ToolChoice("none" if kind == "none" else "auto")
    name = node.required_text("name")
    if name not in declared:
        raise node.error("name", f"no tool is named {name!r}")
    if name in names.harmony_names:
        return ToolChoice("required", (f"{FUNCTIONS}.{names.to_harmony(name)}",))
    namespace = _BUILTIN[name]
    full_names = tuple(f"{namespace.name}.{tool.name}" for tool in namespace.tools)
    return ToolChoice("required", full_names or (namespace.name,))


# --- Thinking and the answer ----------------------------------------------------------------


def effort(body: JsonObject, notes: Notes) -> ReasoningEffort | None:
    """The reasoning effort; `output_config.effort` takes precedence over a budget."""
    thinking = body.node("thinking")
    found = None if thinking is None else _thinking(thinking, notes)
    config = body.node("output_config")
    named = None if config is None else reasoning_effort(config, "effort", notes)
    return named or found


def _thinking(node: JsonObject, notes: Notes) -> ReasoningEffort | None:
    notes.unknown_fields(node, ("type", "budget_tokens", "display"))
    display = node.choice("display", ("summarized", "omitted"))
    if display == "omitted":
        notes.lost(node.at("display"), "reasoning is always shown")
    elif display is not None:
        notes.changed(node.at("display"), "reasoning is shown as it is")
    kind = node.required_text("type")
    if kind == "disabled":
        notes.changed(node.at("type"), "the prompt asks for low effort")
        return ReasoningEffort.LOW
    if kind == "adaptive":
        return ReasoningEffort.MEDIUM
    if kind != "enabled":
        notes.lost(node.at("type"), f"{kind!r} is not supported")
        return None
    return _effort_of_budget(node, notes)


def _effort_of_budget(node: JsonObject, notes: Notes) -> ReasoningEffort:
    budget = node.integer("budget_tokens")
    if budget is None:
        raise node.error("budget_tokens", "missing")
    # Under 2,048 tokens (the API's minimum is 1,024) is low, under 8,192 is medium.
    found = ReasoningEffort.HIGH
    if budget < 8192:
        found = ReasoningEffort.LOW if budget < 2048 else ReasoningEffort.MEDIUM
    notes.changed(node.at("budget_tokens"), f"taken for {found} effort")
    return found


def response_format(body: JsonObject, notes: Notes) -> ResponseFormat | None:
    """The format of the answer, from `output_config.format` or `output_format`."""
    config = body.node("output_config")
    if config is not None:
        notes.unknown_fields(config, ("effort", "format"))
    node = _format(body)
    if node is None:
        return None
    notes.unknown_fields(node, ("type", "schema"))
    if node.choice("type", ("json_schema",)) is None:
        raise node.error("type", "missing")
    return ResponseFormat(RESPONSE_FORMAT, node.required_node("schema").value)


def _format(body: JsonObject) -> JsonObject | None:
    config = body.node("output_config")
    node = None if config is None else config.node("format")
    return body.node("output_format") if node is None else node


# --- Requirements ---------------------------------------------------------------------------


def demand_of_format(body: JsonObject) -> Requirement | None:
    """The requirement that the answer matches its schema, if there is one."""
    node = _format(body)
    return None if node is None else Requirement(node.at("schema"))


def demand_of_thinking(body: JsonObject) -> Requirement | None:
    """The requirement that the model does not reason, if thinking is disabled."""
    node = body.node("thinking")
    is_disabled = node is not None and node.get("type") == "disabled"
    return Requirement("thinking.type") if is_disabled else None


# --- Sampling -------------------------------------------------------------------------------


def sampling(body: JsonObject, notes: Notes) -> SamplingParams:
    """The sampling parameters."""
    max_tokens = body.integer("max_tokens")
    top_k = body.integer("top_k")
    if top_k is not None and top_k > 0:
        notes.lost(body.at("top_k"), "not supported")
    stop = []
    for item, path in body.items("stop_sequences"):
        if not isinstance(item, str):
            raise RequestError("expected text", path=path)
        stop.append(item)
    return sampling_params(
        body,
        {"stop": "stop_sequences"},
        max_tokens=max_tokens,
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        stop=tuple(stop),
    )
