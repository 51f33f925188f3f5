"""Completions as responses, and responses as messages."""

from __future__ import annotations

from typing import Any, Final

from ..._options import checked_options
from ...tools import tool_calls
from ...wire._events import Completion, FinishReason, ParsedMessage, TurnEnd, check_finish_reason
from ...wire._messages import Message
from .. import _reply as reply
from .._reading import JsonObject
from .._request import HarmonyRequest
from .._store import StoredItem, StoredResponse
from ._items import read_items
from ._output import Items, Status, repaired
from ._request import ResponsesRequest

# The fields that a response repeats, and what they are where a request does not say it.
_ECHOED: Final[dict[str, Any]] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "store": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": None,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


@checked_options
def write_response(
    result: Completion,
    *,
    id: str,  # noqa: A002 - the API's word
    created_at: float,
    model: str,
    request: HarmonyRequest | None = None,
    finish_reason: FinishReason | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int | None = None,
    repair: bool = False,
) -> dict[str, Any]:
    """A completion as a response.

    Args:
        result: The completion, parsed.
        id: The id of the response; those of its items follow from it.
        created_at: When it was made, in seconds since 1970.
        model: The model that made it.
        request: The request that it answers: its tools, their names, and what is repeated.
        finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`. If it is not
            known, a turn that did not end counts as cut off.
        prompt_tokens: How many tokens the prompt has.
        completion_tokens: How many tokens were generated; by default those that were parsed.
        repair: Whether arguments of calls are repaired, instead of as the model wrote them.
    """
    calls = {}
    items = Items(id, request)
    if repair:
        calls = {c.message_index: c for c in tool_calls(result, items.callees.tools)}
    output = []
    for index, parsed, item in items.of_messages(result.turn):
        text = parsed.text
        content = repaired(item, text, calls.get(index)) if repair else text
        output.append(item.data(content, item_status(result, parsed, finish_reason)))
    return ended_response(
        response_frame(id=id, created_at=created_at, model=model, request=request),
        output,
        result,
        finish_reason=finish_reason,
        usage=usage_of(result, prompt_tokens, completion_tokens),
    )


def response_frame(
    *,
    id: str,  # noqa: A002 - the API's word
    created_at: float,
    model: str,
    request: HarmonyRequest | None,
) -> dict[str, Any]:
    """A response that has just begun.

    Args:
        id: Its id.
        created_at: When it was made, in seconds since 1970.
        model: The model that makes it.
        request: The request that it answers.
    """
    said = request.extra if isinstance(request, ResponsesRequest) else {}
    echoed = {
        key: default if said.get(key) is None else said[key] for key, default in _ECHOED.items()
    }
    return {
        "id": id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "usage": None,
        **echoed,
    }


def ended_response(
    frame: dict[str, Any],
    output: list[dict[str, Any]],
    result: Completion,
    *,
    finish_reason: FinishReason | None,
    usage: dict[str, Any],
) -> dict[str, Any]:
    """A response that is over.

    Args:
        frame: The response as it began.
        output: Its items.
        result: The completion.
        finish_reason: Why the engine stopped.
        usage: How many tokens it took.
    """
    ended = {**frame, "status": "completed", "output": output, "usage": usage}
    if is_cut_off(result, finish_reason):
        ended["status"] = "incomplete"
        # The API knows no reason for a generation that was given up.
        if finish_reason != "abort":
            ended["incomplete_details"] = {"reason": "max_output_tokens"}
    return ended


def is_cut_off(result: Completion, finish_reason: FinishReason | None) -> bool:
    """Whether the model could not say all it wanted to.

    Args:
        result: The completion.
        finish_reason: Why the engine stopped, where that is known.
    """
    check_finish_reason(finish_reason)
    if finish_reason is not None:
        return finish_reason in ("length", "abort")
    if result.incomplete is not None:
        return result.turn_end in (TurnEnd.LENGTH, None)
    # A whole call awaits its result, whatever the model wrote after it instead of <|call|>.
    awaits = bool(result.turn) and result.turn[-1].header.is_call
    return result.turn_end is TurnEnd.LENGTH and not awaits


def item_status(
    result: Completion, parsed: ParsedMessage, finish_reason: FinishReason | None
) -> Status:
    """Whether the item of a message is complete.

    An engine that stopped at a stop token may keep that token to itself: what it ended is
    complete nevertheless.

    Args:
        result: The completion.
        parsed: The message.
        finish_reason: Why the engine stopped.
    """
    is_cut = not parsed.is_complete and is_cut_off(result, finish_reason)
    is_broken = parsed.header.is_call and not parsed.is_whole
    return "incomplete" if is_cut or is_broken else "completed"


def usage_of(
    result: Completion, prompt_tokens: int, completion_tokens: int | None
) -> dict[str, Any]:
    """How many tokens a response took.

    Args:
        result: The completion, parsed from token ids.
        prompt_tokens: How many tokens the prompt has.
        completion_tokens: How many tokens were generated, if that is known.
    """
    if completion_tokens is None:
        completion_tokens = reply.completion_tokens(result)
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens(result)},
        "total_tokens": prompt_tokens + completion_tokens,
    }


@checked_options
def read_response(response: Any) -> tuple[Message, ...]:
    """The messages that a response stands for.

    Args:
        response: A response: a dict, or the object of the package `openai`.

    Raises:
        RequestError: It is none, or an item of it is nothing that Harmony can carry; the error
            names the JSON path.
    """
    node = JsonObject(response)
    if not node.has("output"):
        raise node.error("output", "missing")
    return read_items(node.get("output"), path="output")


@checked_options
def stored_response(
    request: ResponsesRequest,
    result: Completion,
    *,
    id: str,  # noqa: A002 - the API's word
    finish_reason: FinishReason | None = None,
) -> StoredResponse:
    """What a store keeps of a response, so that later requests can refer to it.

    Args:
        request: The request, as `read_request` gave it.
        result: The completion.
        id: The id of the response, as for `write_response`.
        finish_reason: Why the engine stopped, as for `write_response`.
    """
    calls = dict(request.calls)
    items: dict[str, StoredItem] = {}
    reasonings: dict[str, str] = {}
    thoughts: list[str] = []  # since the last call
    history = result.history(finish_reason=finish_reason)
    for _, parsed, item in Items(id, request).of_messages(result.turn):
        message = parsed.message
        if not any(message is kept for kept in history):
            continue
        if item.callee is None:
            items[item.id] = StoredItem(message)
            if item.type == "reasoning":
                thoughts.append(message.text)
        else:
            full_name = calls[item.call_id] = item.callee.full_name
            items[item.id] = StoredItem(message, item.call_id, full_name)
            if thoughts:
                reasonings[item.call_id] = "\n".join(thoughts)
                thoughts.clear()
    return StoredResponse((*request.history, *history), calls, items, reasonings)
