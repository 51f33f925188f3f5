"""Writes and reads responses of the Messages API."""

from __future__ import annotations

from typing import Any, Final

from ..._options import checked_options
from ...tools import tool_calls
from ...wire._contents import ToolNamespace
from ...wire._events import Completion, FinishReason, TurnEnd, check_finish_reason
from ...wire._messages import Message
from .._names import OWN_NAMES, ToolNames
from .._notes import Notes, Unsupported
from .._reading import JsonObject
from .._reply import TokenCounts, count_tokens
from .._request import HarmonyRequest
from .._stops import cut_at_stop, stops_of
from .._store import ResponseStore, StoredResponse, stored
from ._blocks import Blocks, is_call, recipient_of
from ._history import History

_ENDED: Final = frozenset({TurnEnd.RETURN, TurnEnd.CALL, TurnEnd.ENDOFTEXT, TurnEnd.FORGED})


@checked_options
def write_response(
    result: Completion,
    *,
    id: str,  # noqa: A002
    model: str,
    created: int = 0,  # noqa: ARG001 (a message of the API has no time)
    request: HarmonyRequest | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int | None = None,
    finish_reason: FinishReason | None = None,
    repair: bool = False,
    store: ResponseStore | None = None,
) -> dict[str, Any]:
    """Write a completion as a message of the Messages API.

    The blocks have the order of the turn: reasoning is `thinking` (without a signature), commentary
    and the answer are `text`, calls are `tool_use`, and calls of the python tool and searches are
    `server_tool_use`. Empty texts and text on a channel that the format does not define are left
    out. The input of a call is the JSON object that the model wrote. Of other arguments it has what
    could be read up to the first error, and the whole text under `INVALID_JSON`. The input of a
    truncated call has only a text under `TRUNCATED_JSON`.

    Args:
        result: The completion, parsed from token ids.
        id: The id of the message, from which those of calls are derived.
        model: The name of the model.
        created: Accepted for the sake of the other APIs; a message has no time.
        request: The request, for the declared tools, the client's names of the functions and the
            stop sequences.
        prompt_tokens: The number of tokens of the prompt.
        completion_tokens: The number of generated tokens; by default those that were parsed.
        finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`.
        repair: Whether to repair the names and arguments of calls; truncated calls stay as written.
        store: Where to keep the response for later requests.

    Raises:
        OptionError: `finish_reason` has an unknown value.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> result = parse(encode_with_special("<|channel|>final<|message|>Hi!<|return|>"))
        >>> response = write_response(result, id="msg_1", model="gpt-oss", prompt_tokens=70)
        >>> response["content"], response["usage"]["output_tokens"]
        ([{'type': 'text', 'text': 'Hi!'}], 6)
    """
    counts = count_tokens(result, prompt_tokens, completion_tokens)
    result, stop_text = cut_at_stop(result, stops_of(request))
    content = _content(result, id, request, repair)
    stop = stop_of(
        result, content, request=request, finish_reason=finish_reason, stop_text=stop_text
    )
    if store is not None:
        store.put(id, stored_response(request, result, id=id, finish_reason=finish_reason))
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stop,
        "usage": usage(counts),
    }


def _content(
    result: Completion, message_id: str, request: HarmonyRequest | None, repair: bool
) -> list[dict[str, Any]]:
    blocks = Blocks(message_id, client_names(request))
    calls = tool_calls(result, declared_tools(request)) if repair else ()
    repaired = {call.message_index: call for call in calls}
    content: list[dict[str, Any]] = []
    for index, parsed in enumerate(result.turn):
        block = blocks.begin(parsed.header)
        if block is None:
            continue
        if is_call(block):
            blocks.end_call(block, parsed, repaired.get(index))
        elif parsed.text:
            block[block["type"]] = parsed.text
        else:
            continue
        content.append(block)
    return content


def client_names(request: HarmonyRequest | None) -> ToolNames:
    """The client's names of the functions."""
    return OWN_NAMES if request is None else request.names


def declared_tools(request: HarmonyRequest | None) -> tuple[ToolNamespace, ...] | None:
    """The declared tools; `None` if they are not known."""
    return request.tools if request is not None and request.tools else None


def stop_of(
    result: Completion,
    content: list[dict[str, Any]],
    *,
    request: HarmonyRequest | None,
    finish_reason: FinishReason | None,
    stop_text: str | None,
) -> dict[str, str | None]:
    """The fields of a message that say why the completion stopped.

    Clients run tools at `tool_use`: a truncated call does not count. A turn that ends with calls of
    server tools alone is paused: the client sends it back, and the server continues.
    """
    check_finish_reason(finish_reason)
    if stop_text is not None:
        return _stop("stop_sequence", stop_text)
    stop = () if request is None else request.sampling.stop
    if result.turn_end not in _ENDED:
        is_truncated = finish_reason is None and result.turn_end is TurnEnd.LENGTH
        if is_truncated or finish_reason in ("length", "abort"):
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
    """The stop sequence at which the engine stopped; not all engines keep it in the text."""
    text = result.turn[-1].text if result.turn else ""
    met = [sequence for sequence in stop if text.endswith(sequence)]
    if len(stop) == 1 or met:
        return max(met, key=len) if met else stop[0]
    return None


def usage(counts: TokenCounts) -> dict[str, Any]:
    """The token counts as the API has them."""
    return {
        "input_tokens": counts.prompt,
        "output_tokens": counts.completion,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    }


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
        >>> from harmony_kit.convert.anthropic import read_request
        >>> request = read_request({"messages": [{"role": "user", "content": "Weather?"}]})
        >>> text = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
        >>> text += "<|channel|>commentary to=functions.look json<|message|>{}<|call|>"
        >>> result = parse(encode_with_special(text))
        >>> stored_response(request, result, id="msg_1").reasonings
        {'toolu_1_0': 'Look.'}
    """
    names = client_names(request)
    blocks = Blocks(id, names)
    calls = {}
    for index, parsed in enumerate(result.turn):
        block = blocks.begin(parsed.header)
        if block is not None and is_call(block):
            is_server = block["type"] == "server_tool_use"
            recipient = parsed.header.recipient or ""
            full_name = recipient if is_server else recipient_of(block["name"], names)
            calls[index] = (block["id"], full_name)
    return stored(request, result, calls, finish_reason=finish_reason)


@checked_options
def read_response(response: Any, *, unsupported: Unsupported = "error") -> tuple[Message, ...]:
    """Read the messages of the model from a response of the Messages API.

    Args:
        response: The response: JSON data, or a pydantic object.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out.

    Raises:
        RequestError: The response is invalid, or has what Harmony cannot carry; the error names the
            JSON path.

    Example:
        >>> content = [{"type": "thinking", "thinking": "Easy."}, {"type": "text", "text": "4"}]
        >>> [str(m.channel) for m in read_response({"role": "assistant", "content": content})]
        ['analysis', 'final']
    """
    node = JsonObject(response)
    if not node.has("content"):
        raise node.error("content", "missing")
    node.choice("role", ("assistant",))
    history = History(None, Notes(unsupported))
    history.assistant(node)
    return tuple(history.messages)
