"""A completion as a response of Chat Completions, and a response as messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..._options import checked_options
from ...calls import CallStarted, CallStatus, ToolCall
from ...tools import tool_calls
from ...wire._builtin_tools import PYTHON
from ...wire._events import Completion, FinishReason, TurnEnd, check_finish_reason
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Role
from .. import _reply as reply
from .._reading import JsonObject
from .._reply import Kind, kind_of
from .._request import HarmonyRequest
from ._request import read_messages

"""Why an engine stopped generating."""

PARAGRAPH = "\n"
"""What stands between two texts, or two thoughts, of one response."""


@checked_options
def write_response(
    result: Completion,
    *,
    id: str,  # noqa: A002
    created: int,
    model: str,
    request: HarmonyRequest | None = None,
    finish_reason: FinishReason | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int | None = None,
    repair: bool = False,
) -> dict[str, Any]:
    """A completion as a response of Chat Completions.

    Reasoning is in `reasoning_content` and `reasoning`, which clients know it by; commentary
    and the answer are the `content`. What stands on a channel that the format does not know is
    in none of them.

    Args:
        result: The completion.
        id: The id of the response, of which those of its calls are made.
        created: When it was made, in seconds since 1970.
        model: The model's name.
        request: What was asked, for the names of tools.
        finish_reason: Why the engine stopped.
        prompt_tokens: How many tokens the prompt had.
        completion_tokens: How many tokens were generated; those that `result` spans by default.
        repair: Whether to give repaired arguments instead of those that the model wrote.
    """
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
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage(result, prompt_tokens, completion_tokens),
    }


def _joined(result: Completion, kinds: Sequence[Kind]) -> str | None:
    texts = [p.text for p in result.turn if kind_of(p.header) in kinds and p.text]
    return PARAGRAPH.join(texts) if texts else None


def usage(result: Completion, prompt_tokens: int, completion_tokens: int | None) -> dict[str, Any]:
    """The tokens of a request and its response.

    Args:
        result: The completion.
        prompt_tokens: How many tokens the prompt had.
        completion_tokens: How many were generated; those that `result` spans by default.
    """
    if completion_tokens is None:
        completion_tokens = reply.completion_tokens(result)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens(result)},
    }


# --- Calls ----------------------------------------------------------------------------------


def response_calls(result: Completion, request: HarmonyRequest | None) -> list[ToolCall]:
    """The calls of a completion that have a name.

    Args:
        result: The completion.
        request: What was asked, for the tools.
    """
    declared = None if request is None else request.tools
    return [call for call in tool_calls(result, declared) if call.name is not None]


def call_id(response_id: str, index: int) -> str:
    """The id of a call.

    Args:
        response_id: The id of its response.
        index: Its position among the calls of the response.
    """
    return f"call_{response_id}_{index}"


def client_name(call: ToolCall | CallStarted, request: HarmonyRequest | None) -> str:
    """The name by which the client knows a tool; of one that is no function, its full name.

    Args:
        call: A call of it.
        request: What was asked.
    """
    name = call.name or ""
    if call.namespace not in (FUNCTIONS, None):
        return f"{call.namespace}.{name}"
    return name if request is None else request.names.to_client(name)


def is_text_tool(call: ToolCall | CallStarted, request: HarmonyRequest | None) -> bool:
    """Whether the tool that is called takes text.

    Args:
        call: The call.
        request: What was asked.
    """
    if call.namespace is None and call.name == PYTHON.name:
        return True
    return request is not None and client_name(call, request) in request.text_tools


def call_head(
    call: ToolCall | CallStarted,
    id: str,  # noqa: A002
    request: HarmonyRequest | None,
) -> dict[str, Any]:
    """The id and type of a call.

    Args:
        call: The call.
        id: Its id.
        request: What was asked.
    """
    return {"id": id, "type": "custom" if is_text_tool(call, request) else "function"}


def call_of_response(
    call: ToolCall,
    index: int,
    response_id: str,
    request: HarmonyRequest | None,
    repair: bool,
) -> dict[str, Any]:
    """A call as a response has it.

    Args:
        call: The call.
        index: Its position among the calls of the response.
        response_id: The id of the response.
        request: What was asked.
        repair: Whether to give repaired arguments instead of those that the model wrote.
    """
    head = call_head(call, call_id(response_id, index), request)
    name = client_name(call, request)
    # A call that is not whole stays as it was written: repaired, it would look whole.
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
    """Why a response ends, in the words of the API.

    Args:
        result: The completion.
        calls: Its calls.
        finish_reason: Why the engine stopped, where it said so.
    """
    check_finish_reason(finish_reason)
    cut = result.turn_end is TurnEnd.LENGTH and result.incomplete is not None
    if finish_reason == "length" or (finish_reason is None and cut):
        return "length"
    # Clients run tools where it says so: a call that is not whole does not count.
    is_whole = any(call.status is not CallStatus.TRUNCATED for call in calls)
    return "tool_calls" if is_whole else "stop"


# --- The other way --------------------------------------------------------------------------


@checked_options
def read_response(response: Any) -> tuple[Message, ...]:
    """A response of Chat Completions as messages of the assistant.

    Args:
        response: The response: JSON data, or a pydantic object that holds it.

    Raises:
        RequestError: The response is not as the API has it.
    """
    node = JsonObject(response)
    choices = list(node.nodes("choices"))
    if not choices:
        raise node.error("choices", "there is no choice")
    message = choices[0].required_node("message")
    messages = read_messages([message.value], unsupported="note")
    return tuple(m for m in messages if m.role is Role.ASSISTANT)
