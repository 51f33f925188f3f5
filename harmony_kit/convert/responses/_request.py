"""Reads requests of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._options import checked_options
from ...errors import InvalidMessageError
from ...sampling import SamplingParams
from ...wire._contents import ResponseFormat, ToolNamespace
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Role
from .._notes import Notes, Unsupported
from .._reading import JsonObject, plain
from .._request import (
    HarmonyRequest,
    leading_instructions,
    opening,
    reasoning_effort,
    sampling_params,
)
from .._requirements import Requirement, requirements
from .._store import ResponseStore
from ._declared import read_tool_choice, read_tools
from ._items import ItemReader

_READ: Final = (
    "background",
    "input",
    "instructions",
    "max_output_tokens",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "stream",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
)
_IDLE: Final = (
    "include",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "user",
)
# Fields of which only the default is supported.
_DEFAULTS: Final = {"background": False, "top_logprobs": 0, "truncation": "disabled"}
JSON_OBJECT: Final = ResponseFormat("json_object", {"type": "object"})
"""The format of an answer that is any JSON object."""


@checked_options
def read_request(
    body: Any,
    *,
    current_date: str | None = None,
    unsupported: Unsupported = "error",
    store: ResponseStore | None = None,
) -> HarmonyRequest:
    """Read a request of the Responses API.

    `instructions`, or the system and developer messages at the start, become the instructions of
    the developer message.

    Args:
        body: The request: JSON data, or a pydantic object.
        current_date: Today's date for the system message, such as `"2025-06-28"`.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out and adds a note to the result.
        store: Has earlier responses and items, and the reasoning before calls, for clients that do
            not send it back.

    Raises:
        RequestError: The request is invalid, refers to what the store does not have, or has what
            Harmony cannot carry; the error names the JSON path.

    Example:
        >>> request = read_request({"input": "Hi", "max_output_tokens": 50})
        >>> [str(message.role) for message in request.messages], request.sampling.max_tokens
        (['system', 'user'], 50)
        >>> request.prompt()[:3]
        [200006, 17360, 200008]
    """
    node = JsonObject(body)
    notes = Notes(unsupported)
    notes.unknown_fields(node, _READ, idle=_IDLE)
    for key, default in _DEFAULTS.items():
        if node.has(key) and node.get(key) != default:
            notes.lost(node.at(key), f"only {default!r} is supported")
    tools = read_tools(node, notes)
    choice = read_tool_choice(node, tools, notes)
    offered = choice.mode != "none"
    functions = tools.functions if offered else ()
    builtin = tools.builtin if offered else ()
    response_format = _response_format(node, notes)
    items = _conversation(node, ItemReader(tools.names, notes, store=store), store)
    history = tuple(items.messages)
    instructions = node.text("instructions")
    conversation = history
    if instructions is None:
        instructions, conversation = leading_instructions(history)
    start = opening(
        instructions=instructions,
        functions=functions,
        builtin_tools=builtin,
        response_format=response_format,
        reasoning_effort=_effort(node, notes),
        current_date=current_date,
    )
    declared = (ToolNamespace(FUNCTIONS, functions),) if functions else ()
    parallel = node.boolean("parallel_tool_calls")
    reasoning = node.node("reasoning")
    thinks = reasoning is None or reasoning.get("effort") != "none"
    return HarmonyRequest(
        messages=(*start, *conversation),
        tools=(*builtin, *declared),
        tool_choice=choice,
        parallel_tool_calls=parallel is not False,
        response_format=response_format,
        reasoning="free" if thinks else "none",
        requirements=requirements(
            choice,
            "tool_choice",
            functions=tools.requirements,
            answer=_demand_of_format(node),
            no_reasoning=None if thinks else Requirement("reasoning.effort"),
        ),
        sampling=_sampling(node),
        model=node.text("model"),
        stream=node.boolean("stream") or False,
        include_usage=True,  # every stream of this API has it
        names=tools.names,
        text_tools=tools.text_tools,
        notes=notes.all(),
        extra={key: _data(value) for key, value in node.value.items() if key != "input"},
        history=history,
        calls=items.calls,
    )


def _conversation(node: JsonObject, reader: ItemReader, store: ResponseStore | None) -> ItemReader:
    """Read the previous response and the input."""
    previous_id = node.text("previous_response_id")
    if previous_id is not None:
        previous = None if store is None else store.get(previous_id)
        if previous is None:
            raise node.error("previous_response_id", f"there is no response {previous_id!r}")
        reader.resume(previous.messages, previous.calls)
    text = node.get("input")
    if text is None:
        if previous_id is None:
            raise node.error("input", "missing")
    elif isinstance(text, str):
        reader.messages.append(Message(Role.USER, text))
    else:
        reader.read(node, "input")
    return reader


def _data(value: Any) -> Any:
    """A value as plain JSON data throughout."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {key: _data(item) for key, item in value.items()}
    return [_data(item) for item in value] if isinstance(value, list | tuple) else value


def _sampling(node: JsonObject) -> SamplingParams:
    return sampling_params(
        node,
        {"max_tokens": "max_output_tokens"},
        max_tokens=node.integer("max_output_tokens"),
        temperature=_between(node, "temperature", 2),
        top_p=_between(node, "top_p", 1),
    )


def _between(node: JsonObject, key: str, most: int) -> float | None:
    value = node.number(key)
    if value is not None and not 0 <= value <= most:
        raise node.error(key, f"{value} is not between 0 and {most}")
    return value


def _effort(body: JsonObject, notes: Notes) -> Any:
    node = body.node("reasoning")
    if node is None:
        return None
    notes.unknown_fields(node, ("effort",), idle=("summary", "generate_summary"))
    return reasoning_effort(node, "effort", notes)


def _response_format(body: JsonObject, notes: Notes) -> ResponseFormat | None:
    """The format of the final answer."""
    config = body.node("text")
    if config is None:
        return None
    idle = ("verbosity",) if config.get("verbosity") == "medium" else ()
    notes.unknown_fields(config, ("format",), idle=idle)
    node = config.node("format")
    if node is None:
        return None
    kind = node.choice("type", ("text", "json_object", "json_schema"))
    if kind == "json_schema":
        notes.unknown_fields(node, ("type", "name", "schema", "description", "strict"))
        name, schema = node.required_text("name"), node.required_node("schema").value
        try:
            return ResponseFormat(name, schema, node.text("description"))
        except InvalidMessageError as error:
            raise node.error("schema", error.reason) from None
    notes.unknown_fields(node, ("type",))
    return JSON_OBJECT if kind == "json_object" else None


def _demand_of_format(body: JsonObject) -> Requirement | None:
    config = body.node("text")
    node = config and config.node("format")
    if node is None or node.get("type") not in ("json_object", "json_schema"):
        return None
    if node.get("type") == "json_object":
        return Requirement(node.path)
    return Requirement(node.at("schema"), is_strict=bool(node.boolean("strict")))
