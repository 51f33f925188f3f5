"""Streams of Chat Completions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..._options import checked_options
from ...calls import CallEnded, CallStarted
from ...errors import HarmonyError, RequestError
from ...tools import ToolCallStream
from ...wire._events import Completion, ContentDelta, Event, FinishReason, MessageStarted
from .. import _encoder as encoder
from .._reading import JsonObject
from .._reply import Kind, TokenCounts, kind_of
from .._store import StoredResponse
from ._response import (
    PARAGRAPH,
    call_head,
    call_id,
    call_of_response,
    client_name,
    finish_of,
    is_text_tool,
    response_calls,
    stored_response,
    usage,
)


class StreamEncoder(encoder.StreamEncoder):
    """Encodes the events of a parser as chunks of Chat Completions.

    The last chunk has the usage, unless the request does not ask for it. A failure is a chunk
    `{"error": {...}}`, for which the `openai` client raises an `APIError`.

    Args:
        id: The id of the response, from which those of calls are derived.
        model: The name of the model.
        created: When the response was created, in seconds since 1970.
        request: The request, for the declared tools, the client's names of the functions, and
            whether to send the usage.
        prompt_tokens: The number of tokens of the prompt.
        repair: Whether to repair the arguments of calls, which are then sent whole.
        store: Where to keep the response for later requests.

    Example:
        >>> from harmony_kit import Parser, encode_with_special
        >>> parser, encoder = Parser(), StreamEncoder(id="chatcmpl-1", model="gpt-oss")
        >>> chunks = encoder.start()
        >>> for token in encode_with_special("<|channel|>final<|message|>Hi there<|return|>"):
        ...     chunks += encoder.feed(parser.feed(token))
        >>> chunks += encoder.feed(parser.close()) + encoder.close(parser.result())
        >>> [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
        ['', 'Hi', ' there', None]
    """

    def _prepare(self) -> None:
        self._head = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
        self._calls = ToolCallStream(None if self._request is None else self._request.tools)
        self._kind = Kind.HIDDEN  # of the current message
        self._call: CallStarted | None = None  # the call that is sent as it is generated
        self._has_text = {Kind.REASONING: False, Kind.FINAL: False}
        self._separator = ""  # before the next text

    def _opening(self) -> list[dict[str, Any]]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def _write_events(self, events: Iterable[Event], sent: list[dict[str, Any]]) -> None:
        for event in events:
            if isinstance(event, ContentDelta):
                if self._kind is not Kind.CALL:
                    self._write_text(event.text, sent)
                elif self._call is not None:
                    body = {"function": {"arguments": event.text}}
                    sent.append(self._call_chunk(self._call.index, body))
                continue
            if isinstance(event, MessageStarted):
                self._begin(event)
            for found in self._calls.feed((event,)):
                if isinstance(found, CallStarted):
                    self._begin_call(found, sent)
                elif isinstance(found, CallEnded):
                    self._end_call(found, sent)

    def _write_end(
        self,
        result: Completion,
        counts: TokenCounts,
        finish_reason: FinishReason | None,
        sent: list[dict[str, Any]],
    ) -> None:
        finish = finish_of(result, response_calls(result, self._request), finish_reason)
        sent.append(self._chunk({}, finish))
        if self._request is None or self._request.include_usage:
            sent.append({**self._head, "choices": [], "usage": usage(counts)})

    def _write_failure(self, message: str, code: str | None, sent: list[dict[str, Any]]) -> None:
        name = code or "server_error"
        error = {"message": message, "type": name, "param": None, "code": name}
        sent.append({"error": error})

    def _stored(self, result: Completion, finish_reason: FinishReason | None) -> StoredResponse:
        return stored_response(self._request, result, id=self._id, finish_reason=finish_reason)

    # --- Texts ---

    def _begin(self, event: MessageStarted) -> None:
        self._kind = kind_of(event.header)
        self._separator = PARAGRAPH if self._has_text.get(self._side()) else ""

    def _side(self) -> Kind:
        """The text of the response to which the current message belongs."""
        return Kind.REASONING if self._kind is Kind.REASONING else Kind.FINAL

    def _write_text(self, text: str, sent: list[dict[str, Any]]) -> None:
        if self._kind is Kind.HIDDEN:
            return
        if self._separator:
            text = self._separator + text
            self._separator = ""
        self._has_text[self._side()] = True
        if self._kind is Kind.REASONING:
            sent.append(self._chunk({"reasoning_content": text, "reasoning": text}))
        else:
            sent.append(self._chunk({"content": text}))

    # --- Calls ---

    def _begin_call(self, started: CallStarted, sent: list[dict[str, Any]]) -> None:
        """Announce a call at once, unless it can only be sent whole."""
        self._call = None
        if not self._repair and not is_text_tool(started, self._request):
            self._call = started
            head = call_head(started, call_id(self._id, started.index), self._request)
            function = {"name": client_name(started, self._request), "arguments": ""}
            sent.append(self._call_chunk(started.index, {**head, "function": function}))

    def _end_call(self, ended: CallEnded, sent: list[dict[str, Any]]) -> None:
        if self._call is not None:
            return
        call = call_of_response(ended.call, ended.index, self._id, self._request, self._repair)
        if call["type"] == "custom":
            del call["type"]  # the API's chunks do not have this type
        sent.append(self._call_chunk(ended.index, call))

    # --- Chunks ---

    def _call_chunk(self, index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": index, **delta}]})

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice]}


@checked_options
def accumulate(chunks: Iterable[Any]) -> dict[str, Any]:
    """The response of a stream of chunks; of an incomplete stream, as much as there is.

    Args:
        chunks: The chunks: JSON data, or pydantic objects.

    Raises:
        RequestError: A chunk is invalid, or there is none.
        HarmonyError: A chunk reports an error.

    Example:
        >>> head = {"id": "chatcmpl-1", "created": 0, "model": "gpt-oss"}
        >>> chunks = [
        ...     {**head, "choices": [{"index": 0, "delta": {"content": text}}]}
        ...     for text in ("Hi", " there")
        ... ]
        >>> accumulate(chunks)["choices"][0]["message"]["content"]
        'Hi there'
    """
    response = _Response()
    for index, chunk in enumerate(chunks):
        response.add(JsonObject(chunk, f"chunks[{index}]"))
    return response.data()


class _Response:
    """The response of the chunks so far."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._usage: Any = None

    def add(self, chunk: JsonObject) -> None:
        """Add a chunk."""
        error = chunk.node("error")
        if error is not None:
            raise HarmonyError(f"{error.get('type')}: {error.get('message')}")
        if not self._head:
            self._head = {key: chunk.get(key) for key in ("id", "created", "model")}
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.nodes("choices"):
            self._finish = choice.text("finish_reason") or self._finish
            delta = choice.node("delta")
            if delta is None:
                continue
            for key in ("content", "reasoning_content", "reasoning", "refusal"):
                text = delta.text(key)
                if text:
                    self._texts.setdefault(key, []).append(text)
            for call in delta.nodes("tool_calls"):
                self._add_call(call)

    def _add_call(self, call: JsonObject) -> None:
        known = self._calls.setdefault(call.integer("index") or 0, {})
        if call.has("id"):
            kind = "custom" if call.has("custom") else "function"
            known |= {"id": call.get("id"), "type": call.text("type") or kind}
        for kind in ("function", "custom"):
            for key, value in (call.get(kind) or {}).items():
                body = known.setdefault(kind, {})
                is_delta = key in ("arguments", "input")
                body[key] = body.get(key, "") + value if is_delta else value

    def data(self) -> dict[str, Any]:
        """The response."""
        if not self._head:
            raise RequestError("there is no chunk", path="chunks")
        texts = {key: "".join(parts) for key, parts in self._texts.items()}
        message: dict[str, Any] = {
            "role": "assistant",
            "content": texts.pop("content", None),
            "refusal": texts.pop("refusal", None),
            **texts,
        }
        if self._calls:
            message["tool_calls"] = [call for _, call in sorted(self._calls.items())]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self._finish,
        }
        response = {**self._head, "object": "chat.completion", "choices": [choice]}
        return response if self._usage is None else {**response, "usage": self._usage}
