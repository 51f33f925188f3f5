"""Writes and reads responses of Chat Completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..._options import checked_options
from ...calls import CallStarted, CallStatus, ToolCall
from ...tools import tool_calls
from ...wire._builtin_tools import PYTHON
from ...wire._events import Completion, FinishReason, check_finish_reason
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS
from .._notes import Unsupported
from .._reading import JsonObject
from .._reply import Kind, TokenCounts, count_tokens, is_truncated, kind_of
from .._request import HarmonyRequest
from .._stops import cut_at_stop, stops_of
from .._store import ResponseStore, StoredResponse, stored
from ._request import read_assistant

PARAGRAPH = "\n"
"""The separator of the texts of one response, and of its reasoning."""


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
    """Write a completion as a response of Chat Completions.

    Reasoning becomes `reasoning_content` and `reasoning`, the two names in use; commentary and the
    answer become the `content`. Text on a channel that the format does not define is left out.

    Args:
        result: The completion, parsed from token ids.
        id: The id of the response, from which those of calls are derived.
        model: The name of the model.
        created: When the response was created, in seconds since 1970.
        request: The request, for the declared tools and the client's names of the functions.
        prompt_tokens: The number of tokens of the prompt.
        completion_tokens: The number of generated tokens; by default those that were parsed.
        finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`.
        repair: Whether to repair the arguments of calls; truncated calls stay as written.
        store: Where to keep the response for later requests.

    Raises:
        OptionError: `finish_reason` has an unknown value.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> result = parse(encode_with_special("<|channel|>final<|message|>Hi!<|return|>"))
        >>> response = write_response(result, id="chatcmpl-1", model="gpt-oss", prompt_tokens=70)
        >>> response["choices"][0]["message"]["content"], response["usage"]["total_tokens"]
        ('Hi!', 76)
    """
    counts = count_tokens(result, prompt_tokens, completion_tokens)
    result, stop_text = cut_at_stop(result, stops_of(request))
    finish_reason = finish_reason if stop_text is None else "stop"
    calls = response_calls(result, request)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _joined(result, (Kind.COMMENTARY, Kind.FINAL)),
        "refusal": None,
    }
    reasoning = _joined(result, (Kind.REASONING,))
    if reasoning is not None:
        message["reasoning_content"] = message["reasoning"] = reasoning
    if calls:
        message["tool_calls"] = [
            call_of_response(call, index, id, request, repair) for index, call in enumerate(calls)
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_of(result, calls, finish_reason),
    }
    if store is not None:
        store.put(id, stored_response(request, result, id=id, finish_reason=finish_reason))
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage(counts),
    }


def _joined(result: Completion, kinds: Sequence[Kind]) -> str | None:
    texts = [p.text for p in result.turn if kind_of(p.header) in kinds and p.text]
    return PARAGRAPH.join(texts) if texts else None


def usage(counts: TokenCounts) -> dict[str, Any]:
    """The token counts as the API has them."""
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    }


# --- Calls ----------------------------------------------------------------------------------


def response_calls(result: Completion, request: HarmonyRequest | None) -> list[ToolCall]:
    """The calls of a completion that have a name."""
    declared = None if request is None else request.tools
    return [call for call in tool_calls(result, declared) if call.name is not None]


def call_id(response_id: str, index: int) -> str:
    """The id of a call, from its position among the calls of the response."""
    return f"call_{response_id}_{index}"


def client_name(call: ToolCall | CallStarted, request: HarmonyRequest | None) -> str:
    """The client's name of a function; the full name of another tool."""
    name = call.name or ""
    if call.namespace not in (FUNCTIONS, None):
        return f"{call.namespace}.{name}"
    return name if request is None else request.names.to_client(name)


def is_text_tool(call: ToolCall | CallStarted, request: HarmonyRequest | None) -> bool:
    """Whether the called tool takes text."""
    if call.namespace is None and call.name == PYTHON.name:
        return True
    return request is not None and client_name(call, request) in request.text_tools


def call_head(
    call: ToolCall | CallStarted,
    id: str,  # noqa: A002
    request: HarmonyRequest | None,
) -> dict[str, Any]:
    """The id and type of a call."""
    return {"id": id, "type": "custom" if is_text_tool(call, request) else "function"}


def call_of_response(
    call: ToolCall,
    index: int,
    response_id: str,
    request: HarmonyRequest | None,
    repair: bool,
) -> dict[str, Any]:
    """A call as a response has it."""
    head = call_head(call, call_id(response_id, index), request)
    name = client_name(call, request)
    # A truncated call stays as it was written: repaired, it would look whole.
    is_whole = call.status is not CallStatus.TRUNCATED
    arguments = call.arguments if repair and is_whole else call.raw
    if head["type"] == "function":
        return {**head, "function": {"name": name, "arguments": arguments}}
    value = call.value if is_whole else call.raw
    text = value.get("input") if isinstance(value, dict) else arguments
    return {**head, "custom": {"name": name, "input": text if isinstance(text, str) else arguments}}


def finish_of(
    result: Completion, calls: Iterable[ToolCall], finish_reason: FinishReason | None
) -> str:
    """The API's finish reason."""
    check_finish_reason(finish_reason)
    is_empty = all(found.code == "empty_output" for found in result.problems) and not result.parsed
    is_cut = finish_reason is None and not is_empty and is_truncated(result, None)
    if finish_reason == "length" or is_cut:
        return "length"
    # Clients run tools at `tool_calls`: a truncated call does not count.
    is_whole = any(call.status is not CallStatus.TRUNCATED for call in calls)
    return "tool_calls" if is_whole else "stop"


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
        >>> from harmony_kit.convert.chat_completions import read_request
        >>> request = read_request({"messages": [{"role": "user", "content": "Weather?"}]})
        >>> text = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
        >>> text += "<|channel|>commentary to=functions.look json<|message|>{}<|call|>"
        >>> result = parse(encode_with_special(text))
        >>> stored_response(request, result, id="r1").reasonings
        {'call_r1_0': 'Look.'}
    """
    calls = {}
    for index, call in enumerate(response_calls(result, request)):
        full_name = call.full_name or ""
        name = client_name(call, request)
        if request is not None and name in request.names.harmony_names:
            full_name = f"{FUNCTIONS}.{request.names.to_harmony(name)}"
        calls[call.message_index] = (call_id(id, index), full_name)
    return stored(request, result, calls, finish_reason=finish_reason)


# --- Reading --------------------------------------------------------------------------------


@checked_options
def read_response(response: Any, *, unsupported: Unsupported = "error") -> tuple[Message, ...]:
    """Read the messages of the model from a response of Chat Completions.

    Args:
        response: The response: JSON data, or a pydantic object.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out.

    Raises:
        RequestError: The response is invalid, or has what Harmony cannot carry; the error names the
            JSON path.

    Example:
        >>> message = {"role": "assistant", "reasoning": "Easy.", "content": "4"}
        >>> [str(m.channel) for m in read_response({"choices": [{"message": message}]})]
        ['analysis', 'final']
    """
    node = JsonObject(response)
    choices = list(node.nodes("choices"))
    if not choices:
        raise node.error("choices", "there is no choice")
    message = choices[0].required_node("message")
    message.choice("role", ("assistant",))
    return read_assistant(message, unsupported=unsupported)
