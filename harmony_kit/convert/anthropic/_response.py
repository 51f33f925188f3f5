"""Completions as messages of the Messages API, and back."""

from __future__ import annotations

from typing import Any, Final

from ..._options import checked_options
from ...calls import CallStatus, ToolCall
from ...tools import tool_calls
from ...wire._events import Completion, FinishReason, TurnEnd, check_finish_reason
from ...wire._messages import Message
from .. import _reply as reply
from .._names import ToolNames
from .._notes import Notes
from .._reading import JsonObject
from .._request import HarmonyRequest
from ._blocks import NO_NAMES, client_tool, input_of, is_call, opening_block
from ._history import History

_ENDED: Final = frozenset({TurnEnd.RETURN, TurnEnd.CALL, TurnEnd.ENDOFTEXT, TurnEnd.FORGED})
# What was read of these is not what the model meant.
_UNREADABLE: Final = frozenset(
    {
        CallStatus.TRUNCATED,
        CallStatus.INVALID,
        CallStatus.UNDECLARED,
        CallStatus.MISSING_NAME,
    }
)


@checked_options
def write_response(
    result: Completion,
    *,
    id: str,  # noqa: A002 (the API's word)
    model: str,
    request: HarmonyRequest | None = None,
    finish_reason: FinishReason | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int | None = None,
    repair: bool = False,
) -> dict[str, Any]:
    """Write a completion as a message of the API.

    The blocks stand in the order of the turn: reasoning as `thinking` (without a signature),
    preambles and answers as `text`, calls as `tool_use`, calls of the python tool and searches
    as `server_tool_use`. Empty texts and texts on unknown channels are left out. The input of
    a call is the object that the model wrote; where that is no object, what could be read of it
    up to the fault, and the whole text under `INVALID_JSON`.

    Args:
        result: The completion, parsed from token ids.
        id: The id of the message; those of calls come of it.
        model: The name of the model.
        request: The request, for its names of functions and its stop sequences.
        finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`.
        prompt_tokens: How many tokens the prompt had.
        completion_tokens: How many tokens were generated; by default those that were parsed.
        repair: Whether to repair names and arguments of calls, as `tool_calls` does. Streams
            do not: what is wrong with a call shows when half of it is sent.

    Returns:
        The message as JSON data.
    """
    content = _content(result, id, request, repair)
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stop_of(result, content, request=request, finish_reason=finish_reason),
        "usage": usage(result, prompt_tokens, completion_tokens),
    }


def _content(
    result: Completion, message_id: str, request: HarmonyRequest | None, repair: bool
) -> list[dict[str, Any]]:
    names = NO_NAMES if request is None else request.names
    repaired = _repaired(result, request) if repair else {}
    content: list[dict[str, Any]] = []
    calls = 0
    for index, parsed in enumerate(result.turn):
        header, text = parsed.header, parsed.text
        block = opening_block(header, message_id=message_id, calls=calls, names=names)
        if block is None:
            continue
        if is_call(block):
            calls += 1
            block["input"] = input_of(header.recipient, text, is_whole=parsed.is_whole)
            if index in repaired:
                _repair(block, repaired[index], names)
        elif text:
            block[block["type"]] = text
        else:
            continue
        content.append(block)
    return content


def _repaired(result: Completion, request: HarmonyRequest | None) -> dict[int, ToolCall]:
    """The calls that could be read, by the positions of their messages."""
    tools = request.tools if request is not None and request.tools else None
    calls = tool_calls(result, tools)
    return {call.message_index: call for call in calls if call.status not in _UNREADABLE}


def _repair(block: dict[str, Any], call: ToolCall, names: ToolNames) -> None:
    value = call.value
    if isinstance(value, str) and call.takes_text:
        value = {"code": value}
    # A name that another kind of tool has would need another kind of block.
    tool = client_tool(call.full_name or "", names)
    if isinstance(value, dict) and tool.type == block["type"]:
        block["name"], block["input"] = tool.name, value


def stop_of(
    result: Completion,
    content: list[dict[str, Any]],
    *,
    request: HarmonyRequest | None,
    finish_reason: FinishReason | None,
) -> dict[str, str | None]:
    """Why a completion stopped, as the fields of a message that say it.

    Clients run tools where it says `tool_use`: a call that is not whole does not count. A turn
    that ends with calls of server tools alone is paused: the client sends it back, and the server
    goes on.

    Args:
        result: The completion.
        content: Its blocks, as far as their types.
        request: The request, for its stop sequences.
        finish_reason: Why the engine stopped.
    """
    check_finish_reason(finish_reason)
    stop = () if request is None else request.sampling.stop
    if result.turn_end not in _ENDED:
        cut_off = finish_reason is None and result.turn_end is TurnEnd.LENGTH
        if cut_off or finish_reason in ("length", "abort"):
            return _stop("max_tokens")
        if finish_reason == "stop" and stop:
            return _stop("stop_sequence", _sequence(result, stop))
    kinds = {block["type"] for block in content}
    if "tool_use" in kinds and any(parsed.is_whole for parsed in result.calls):
        return _stop("tool_use")
    paused = bool(content) and content[-1]["type"] == "server_tool_use"
    return _stop("pause_turn" if paused else "end_turn")


def _stop(reason: str, sequence: str | None = None) -> dict[str, str | None]:
    return {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}


def _sequence(result: Completion, stop: tuple[str, ...]) -> str | None:
    """The stop sequence that was met. Engines leave it out of the text, or do not."""
    text = result.turn[-1].text if result.turn else ""
    met = [sequence for sequence in stop if text.endswith(sequence)]
    if len(stop) == 1 or met:
        return max(met, key=len) if met else stop[0]
    return None


def usage(result: Completion, prompt_tokens: int, completion_tokens: int | None) -> dict[str, Any]:
    """How many tokens were used.

    Args:
        result: The completion, parsed from token ids.
        prompt_tokens: How many tokens the prompt had.
        completion_tokens: How many tokens were generated; by default those that were parsed.
    """
    if completion_tokens is None:
        completion_tokens = reply.completion_tokens(result)
    return {
        "input_tokens": prompt_tokens,
        "output_tokens": completion_tokens,
        "output_tokens_details": {"thinking_tokens": reply.reasoning_tokens(result)},
    }


@checked_options
def read_response(response: Any) -> tuple[Message, ...]:
    """Read the messages of the model from a response.

    Args:
        response: A message of the API as JSON data.

    Raises:
        RequestError: It is none, or has what Harmony cannot carry; the error names the JSON path.
    """
    node = JsonObject(response)
    if not node.has("content"):
        raise node.error("content", "missing")
    node.choice("role", ("assistant",))
    history = History(None, Notes("error"))
    history.assistant(node)
    return tuple(history.messages)
