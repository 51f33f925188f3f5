"""Reads requests of the Messages API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..._options import checked_options
from ...wire._contents import Tool, ToolNamespace
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Role
from .._names import OWN_NAMES, ToolNames, tool_names
from .._notes import Notes, Unsupported
from .._reading import JsonObject
from .._request import HarmonyRequest, joined_instructions, opening
from .._requirements import Requirement, requirement_of_function, requirements
from .._store import ResponseStore
from ._blocks import BROWSER_TOOLS
from ._history import History, blocks_of, text_of
from ._settings import (
    builtin_tool,
    demand_of_format,
    demand_of_thinking,
    effort,
    function,
    is_function,
    response_format,
    sampling,
    server_tool_fields,
    tool_choice,
)

_READ: Final = (
    *("model", "messages", "system", "stream", "tools", "tool_choice", "thinking"),
    *("output_config", "output_format", "max_tokens", "temperature", "top_p", "top_k"),
    "stop_sequences",
)
_IDLE: Final = (
    *("metadata", "service_tier", "cache_control", "inference_geo", "speed", "diagnostics"),
    *("user_profile_id", "workspace_id", "betas"),
)


@checked_options
def read_request(
    body: Any,
    *,
    current_date: str | None = None,
    unsupported: Unsupported = "error",
    store: ResponseStore | None = None,
) -> HarmonyRequest:
    """Read a request of the Messages API.

    Text blocks that become one text are joined with blank lines. Results of tools are put in the
    order of their calls. Text of the assistant before a call is commentary, other text an answer.

    Args:
        body: The request: JSON data, or a pydantic object.
        current_date: Today's date for the system message, such as `"2025-06-28"`.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out and adds a note to the result.
        store: Has the reasoning before calls, for clients that do not send it back.

    Raises:
        RequestError: The request is invalid, or has what Harmony cannot carry; the error names the
            JSON path.

    Example:
        >>> body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
        >>> request = read_request(body, current_date="2025-06-28")
        >>> [str(message.role) for message in request.messages], request.sampling.max_tokens
        (['system', 'user'], 50)
        >>> request.prompt()[:3]
        [200006, 17360, 200008]
    """
    notes = Notes(unsupported)
    node = JsonObject(body)
    notes.unknown_fields(node, _READ, _IDLE)
    if not node.has("messages"):
        raise node.error("messages", "missing")
    names = _names(node)
    functions, builtin, declared = _tools(node, names, notes)
    strict = _strict_functions(node, names)
    no_thinking = demand_of_thinking(node)
    choice = tool_choice(node, names, declared, notes)
    if choice.mode == "none":
        functions, builtin = [], []
    shape = response_format(node, notes)
    opened = opening(
        instructions=text_of(node, "system", notes) or None,
        functions=functions,
        builtin_tools=builtin,
        response_format=shape,
        reasoning_effort=effort(node, notes),
        current_date=current_date,
    )
    stream = node.boolean("stream") or False
    history = _conversation(node, History(names, notes, store), notes)
    return HarmonyRequest(
        messages=(*opened, *history.messages),
        tools=(*([ToolNamespace(FUNCTIONS, tuple(functions))] if functions else []), *builtin),
        tool_choice=choice,
        parallel_tool_calls=not _one_call_at_a_time(node),
        response_format=shape,
        reasoning="free" if no_thinking is None else "none",
        requirements=requirements(
            choice,
            "tool_choice",
            functions=strict,
            answer=demand_of_format(node),
            no_reasoning=no_thinking,
        ),
        sampling=sampling(node, notes),
        model=node.text("model"),
        stream=stream,
        include_usage=stream,  # every stream of this API has it
        names=names,
        notes=notes.all(),
        history=tuple(history.messages),
        calls=history.calls.recipients,
    )


@checked_options
def read_messages(
    messages: Iterable[Any],
    *,
    unsupported: Unsupported = "error",
    store: ResponseStore | None = None,
) -> tuple[Message, ...]:
    """Read messages of the Messages API.

    Args:
        messages: The messages: JSON data, or pydantic objects.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out.
        store: Has the reasoning before calls, for clients that do not send it back.

    Raises:
        RequestError: A message is invalid, or has what Harmony cannot carry.

    Example:
        >>> call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
        >>> given = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [call]}]
        >>> [message.recipient for message in read_messages(given)]
        [None, 'functions.look']
    """
    history = History(OWN_NAMES, Notes(unsupported), store)
    for node in JsonObject({"messages": messages}).nodes("messages"):
        history.read(node)
    return joined_instructions(history.messages)


def _names(body: JsonObject) -> ToolNames:
    """The names of all functions that are declared or were called before."""
    declared = [node.text("name") for node in body.nodes("tools") if is_function(node)]
    called = [
        block.text("name")
        for message in body.nodes("messages")
        for block in blocks_of(message, "content")
        if block.get("type") == "tool_use" and block.get("name") not in BROWSER_TOOLS
    ]
    return tool_names(name for name in (*declared, *called) if name is not None)


def _tools(
    body: JsonObject, names: ToolNames, notes: Notes
) -> tuple[list[Tool], list[ToolNamespace], set[str]]:
    """The functions, the built-in tools, and the client's names of them all."""
    functions: list[Tool] = []
    builtin: list[ToolNamespace] = []
    declared: set[str] = set()
    for node in body.nodes("tools"):
        namespace = builtin_tool(node)
        if namespace is not None:
            server_tool_fields(node, notes)
            if namespace not in builtin:
                builtin.append(namespace)
            declared.add("code_execution" if namespace.name == "python" else "web_search")
        elif not is_function(node):
            notes.lost(node.path, f"the model has no tool like {node.text('type')}")
        else:
            name = node.required_text("name")
            if name in declared:
                raise node.error("name", f"a second tool is named {name!r}")
            declared.add(name)
            functions.append(function(node, names, notes))
    return functions, builtin, declared


def _strict_functions(body: JsonObject, names: ToolNames) -> dict[str, Requirement]:
    found: dict[str, Requirement] = {}
    for node in filter(is_function, body.nodes("tools")):
        name = names.to_harmony(node.required_text("name"))
        found |= requirement_of_function(name, node, "input_schema")
    return found


def _one_call_at_a_time(body: JsonObject) -> bool:
    choice = body.node("tool_choice")
    return choice is not None and bool(choice.boolean("disable_parallel_tool_use"))


def _conversation(body: JsonObject, history: History, notes: Notes) -> History:
    path = ""
    for node in body.nodes("messages"):
        history.read(node)
        path = node.path
    last = history.messages[-1] if history.messages else None
    if last is not None and last.role is Role.ASSISTANT and last.recipient is None:
        # A prompt ends with the start of a new message.
        notes.lost(path, "the model starts a new message instead of continuing this one")
    return history
