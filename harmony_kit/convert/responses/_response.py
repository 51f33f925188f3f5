"""Writes and reads responses of the Responses API."""

from __future__ import annotations

from typing import Any, Final

from ..._options import checked_options
from ...tools import tool_calls
from ...wire._events import Completion, FinishReason, ParsedMessage
from ...wire._messages import Message
from .._notes import Unsupported
from .._reading import JsonObject
from .._reply import TokenCounts, count_tokens, is_truncated
from .._request import HarmonyRequest
from .._stops import cut_at_stop, stops_of
from .._store import ResponseStore, StoredResponse, stored
from ._items import read_items
from ._output import Items, Status, repaired

# The fields of the request that a response repeats, with their defaults.
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
    id: str,  # noqa: A002
    model: str,
    created: int = 0,
    request: HarmonyRequest | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int | None = None,
    finish_reason: FinishReason | None = None,
    repair: bool = False,
    store: ResponseStore | None = None,
) -> dict[str, Any]:
    """Write a completion as a response of the Responses API.

    Every message of the turn becomes an output item. Text on a channel that the format does not
    define is left out.

    Args:
        result: The completion, parsed from token ids.
        id: The id of the response, from which those of its items are derived.
        model: The name of the model.
        created: When the response was created, in seconds since 1970.
        request: The request, for the declared tools, the client's names of the functions, and the
            fields that a response repeats.
        prompt_tokens: The number of tokens of the prompt.
        completion_tokens: The number of generated tokens; by default those that were parsed.
        finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`. If it is not
            known, a turn that did not end counts as truncated.
        repair: Whether to repair the arguments of calls; truncated calls stay as written.
        store: Where to keep the response for later requests.

    Raises:
        OptionError: `finish_reason` has an unknown value.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> result = parse(encode_with_special("<|channel|>final<|message|>Hi!<|return|>"))
        >>> response = write_response(result, id="resp_1", model="gpt-oss", prompt_tokens=70)
        >>> response["output"][0]["content"][0]["text"], response["usage"]["total_tokens"]
        ('Hi!', 76)
    """
    counts = count_tokens(result, prompt_tokens, completion_tokens)
    result, stop_text = cut_at_stop(result, stops_of(request))
    finish_reason = finish_reason if stop_text is None else "stop"
    calls = {}
    items = Items(id, request)
    if repair:
        calls = {c.message_index: c for c in tool_calls(result, items.callees.tools)}
    output = []
    for index, parsed, item in items.of_messages(result.turn):
        text = parsed.text
        content = repaired(item, text, calls.get(index)) if repair else text
        output.append(item.data(content, item_status(result, parsed, finish_reason)))
    frame = response_frame(id, model, created, request)
    response = ended_response(frame, output, result, finish_reason, counts)
    if store is not None:
        store.put(id, stored_response(request, result, id=id, finish_reason=finish_reason))
    return response


def response_frame(
    id: str,  # noqa: A002
    model: str,
    created: int,
    request: HarmonyRequest | None,
) -> dict[str, Any]:
    """A response in progress, without output."""
    given = {} if request is None else request.extra
    echoed = {
        key: default if given.get(key) is None else given[key] for key, default in _ECHOED.items()
    }
    return {
        "id": id,
        "object": "response",
        "created_at": created,
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
    finish_reason: FinishReason | None,
    counts: TokenCounts,
) -> dict[str, Any]:
    """A response that has ended."""
    usage = {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }
    ended = {**frame, "status": "completed", "output": output, "usage": usage}
    if is_truncated(result, finish_reason):
        ended["status"] = "incomplete"
        # The API has no reason for an aborted generation.
        if finish_reason != "abort":
            ended["incomplete_details"] = {"reason": "max_output_tokens"}
    return ended


def item_status(
    result: Completion, parsed: ParsedMessage, finish_reason: FinishReason | None
) -> Status:
    """The status of the item of a message.

    An engine that stopped at a stop token may not return it: the message is complete nevertheless.
    """
    is_cut = not parsed.is_complete and is_truncated(result, finish_reason)
    is_broken = parsed.header.is_call and not parsed.is_whole
    return "incomplete" if is_cut or is_broken else "completed"


@checked_options
def stored_response(
    request: HarmonyRequest | None,
    result: Completion,
    *,
    id: str,  # noqa: A002
    finish_reason: FinishReason | None = None,
) -> StoredResponse:
    """What `write_response` stores, for a store of your own.

    Args:
        request: The request; without it, only the response itself is stored.
        result: The completion.
        id: The id of the response.
        finish_reason: Why the engine stopped. Truncated messages are not stored.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> from harmony_kit.convert.responses import read_request
        >>> request = read_request({"input": "Weather?"})
        >>> text = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
        >>> text += "<|channel|>commentary to=functions.look json<|message|>{}<|call|>"
        >>> kept = stored_response(request, parse(encode_with_special(text)), id="resp_1")
        >>> kept.reasonings, list(kept.items)
        ({'call_1_1': 'Look.'}, ['rs_1_0', 'fc_1_1'])
    """
    items = Items(id, request).of_messages(result.turn)
    calls = {
        index: (item.call_id, item.callee.full_name)
        for index, _, item in items
        if item.callee is not None
    }
    ids = {index: item.id for index, _, item in items}
    return stored(request, result, calls, finish_reason=finish_reason, item_ids=ids)


@checked_options
def read_response(response: Any, *, unsupported: Unsupported = "error") -> tuple[Message, ...]:
    """Read the messages of the model from a response of the Responses API.

    Args:
        response: The response: JSON data, or a pydantic object.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out.

    Raises:
        RequestError: The response is invalid, or has what Harmony cannot carry; the error names the
            JSON path.

    Example:
        >>> text = {"type": "output_text", "text": "4", "annotations": []}
        >>> item = {"type": "message", "role": "assistant", "content": [text]}
        >>> read_response({"output": [item]})[0].channel
        'final'
    """
    node = JsonObject(response)
    if not node.has("output"):
        raise node.error("output", "missing")
    return read_items(node.get("output"), "output", unsupported)
