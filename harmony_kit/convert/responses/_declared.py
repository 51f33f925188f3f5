"""Reads the tools that a request declares, and which of them the model may call."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from ...tools._choice import ToolChoice
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import Tool, ToolNamespace
from ...wire._roles import FUNCTIONS
from .._names import ToolNames, tool_names
from .._notes import Notes
from .._reading import JsonObject
from .._request import INPUT_SCHEMA, function_tool
from .._requirements import Requirement, requirement_of_function
from ._web import RECIPIENTS

WEB_SEARCHES: Final = (
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)
_BUILTIN: Final = dict.fromkeys(WEB_SEARCHES, RECIPIENTS) | {"code_interpreter": (PYTHON.name,)}


class DeclaredTools(NamedTuple):
    """The tools of a request.

    Attributes:
        functions: The client's functions.
        builtin: `BROWSER` and `PYTHON`, if they are requested.
        names: The client's names of the functions.
        text_tools: The client's names of the tools that take text.
        requirements: By full name, the functions whose arguments must match their schema.
    """

    functions: tuple[Tool, ...]
    builtin: tuple[ToolNamespace, ...]
    names: ToolNames
    text_tools: frozenset[str]
    requirements: dict[str, Requirement]


def read_tools(body: JsonObject, notes: Notes) -> DeclaredTools:
    """The tools that a request declares."""
    nodes = list(body.nodes("tools"))
    named = [node for node in nodes if node.text("type") in ("function", "custom")]
    names = tool_names(node.required_text("name") for node in named)
    functions: dict[str, Tool] = {}
    builtin: list[ToolNamespace] = []
    text_tools: set[str] = set()
    requirements: dict[str, Requirement] = {}
    for node in nodes:
        kind = node.required_text("type")
        if kind in ("function", "custom"):
            client_name = node.required_text("name")
            if client_name in functions:
                raise node.error("name", f"a second tool {client_name!r}")
            read = _function if kind == "function" else _custom_tool
            functions[client_name] = read(node, names.to_harmony(client_name), notes)
            if kind == "custom":
                text_tools.add(client_name)
            else:
                requirements |= requirement_of_function(
                    names.to_harmony(client_name), node, "parameters"
                )
        elif kind in WEB_SEARCHES:
            notes.unknown_fields(node, ("type",), idle=("search_context_size",))
            builtin.append(BROWSER)
        elif kind == "code_interpreter":
            notes.unknown_fields(node, ("type",), idle=("container",))
            builtin.append(PYTHON)
        else:
            notes.lost(node.path, f"tools of the type {kind!r} are not supported")
    return DeclaredTools(
        tuple(functions.values()),
        tuple(dict.fromkeys(builtin)),
        names,
        frozenset(text_tools),
        requirements,
    )


def _function(node: JsonObject, name: str, notes: Notes) -> Tool:
    known = ("type", "name", "description", "parameters", "strict")
    notes.unknown_fields(node, known, idle=("output_schema",))
    return function_tool(node, name, node.text("description"), node.get("parameters"), "parameters")


def _custom_tool(node: JsonObject, name: str, notes: Notes) -> Tool:
    notes.unknown_fields(node, ("type", "name", "description", "format"))
    form = node.node("format")
    if form is not None and form.get("type") != "text":
        notes.lost(form.path, "the input cannot be constrained by a grammar")
    return function_tool(node, name, node.text("description"), INPUT_SCHEMA, "format")


def read_tool_choice(body: JsonObject, tools: DeclaredTools, notes: Notes) -> ToolChoice:
    """Which tools the model may or must call."""
    if not body.has("tool_choice"):
        return ToolChoice()
    if isinstance(body.get("tool_choice"), str):
        mode = body.choice("tool_choice", ("auto", "none", "required"))
        return _of_mode(mode)
    node = body.required_node("tool_choice")
    if node.get("type") != "allowed_tools":
        names = _chosen(node, tools, notes)
        return ToolChoice("required", names) if names else ToolChoice()
    mode = node.choice("mode", ("auto", "required"))
    found: list[str] = []
    for tool in node.nodes("tools"):
        found += _chosen(tool, tools, notes)
    if not found:
        notes.lost(node.at("tools"), "no tool that can be called")
    return replace(_of_mode(mode), names=tuple(dict.fromkeys(found)))


def _of_mode(mode: str | None) -> ToolChoice:
    if mode == "none":
        return ToolChoice("none")
    return ToolChoice("required") if mode == "required" else ToolChoice()


def _chosen(node: JsonObject, tools: DeclaredTools, notes: Notes) -> tuple[str, ...]:
    """The full names of the tools that are chosen."""
    kind = node.required_text("type")
    if kind in ("function", "custom"):
        name = node.required_text("name")
        if name not in tools.names.harmony_names:
            raise node.error("name", f"no tool named {name!r} is declared")
        return (f"{FUNCTIONS}.{tools.names.to_harmony(name)}",)
    names = _BUILTIN.get(kind)
    if names is None:
        notes.lost(node.path, f"a choice of the type {kind!r} is not supported")
        return ()
    wanted = PYTHON if kind == "code_interpreter" else BROWSER
    if wanted not in tools.builtin:
        raise node.error("type", f"no tool of the type {kind!r} is declared")
    return names
