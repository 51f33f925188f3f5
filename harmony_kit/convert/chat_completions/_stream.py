"""The events of a parser as chunks of Chat Completions, and chunks as a response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..._options import checked_options
from ...calls import CallEnded, CallStarted
from ...errors import RequestError
from ...tools import ToolCallStream
from ...wire._events import Completion, ContentDelta, Event, FinishReason, MessageStarted
from .._reading import JsonObject
from .._reply import Kind, kind_of
from .._request import HarmonyRequest
from ._response import (
    PARAGRAPH,
    call_head,
    call_id,
    call_of_response,
    client_name,
    finish_of,
    is_text_tool,
    response_calls,
    usage,
)


class StreamEncoder:
    """Makes chunks of what a parser reads.

    Args:
        id: The id of the response, of which those of its calls are made.
        created: When it was made, in seconds since 1970.
        model: The model's name.
        request: What was asked, for the names of tools, and whether to end with the usage.
        repair: Whether to give repaired arguments, as a whole when a call is complete, instead
            of those that the model wrote as they come.

    Example:
        >>> writer = StreamEncoder(id="chatcmpl-1", created=0, model="gpt-oss-20b")
        >>> chunks = writer.start()
        >>> for token in completion:
        ...     chunks += writer.feed(parser.feed(token))
        >>> chunks += writer.feed(parser.close()) + writer.close(parser.result())
    """

    @checked_options
    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        created: int,
        model: str,
        request: HarmonyRequest | None = None,
        repair: bool = False,
    ) -> None:
        self._id = id
        self._head = {
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._request = request
        self._repair = repair
        self._calls = ToolCallStream(None if request is None else request.tools)
        self._kind = Kind.HIDDEN  # of the message that is being read
        self._call: CallStarted | None = None  # that is told while it is read
        self._has_text = {Kind.REASONING: False, Kind.FINAL: False}
        self._separator = ""  # before the next text

    def start(self) -> list[dict[str, Any]]:
        """The first chunk, which has the role."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def feed(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """Chunks of what happened.

        Args:
            events: What `Parser.feed` or `Parser.close` returned.
        """
        chunks: list[dict[str, Any]] = []
        for event in events:
            if isinstance(event, ContentDelta):
                if self._kind is not Kind.CALL:
                    self._say(event.text, chunks)
                elif self._call is not None:
                    body = {"function": {"arguments": event.text}}
                    chunks.append(self._call_chunk(self._call.index, body))
                continue
            if isinstance(event, MessageStarted):
                self._begin(event)
            for found in self._calls.feed((event,)):
                if isinstance(found, CallStarted):
                    self._begin_call(found, chunks)
                elif isinstance(found, CallEnded):
                    self._end_call(found, chunks)
        return chunks

    @checked_options
    def close(
        self,
        result: Completion,
        *,
        finish_reason: FinishReason | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int | None = None,
    ) -> list[dict[str, Any]]:
        """The last chunks: why the response ends, and the usage if it was asked for.

        Args:
            result: All that the parser read.
            finish_reason: Why the engine stopped.
            prompt_tokens: How many tokens the prompt had.
            completion_tokens: How many were generated; those that `result` spans by default.
        """
        finish = finish_of(result, response_calls(result, self._request), finish_reason)
        chunks = [self._chunk({}, finish)]
        if self._request is None or self._request.include_usage:
            used = usage(result, prompt_tokens, completion_tokens)
            chunks.append({**self._head, "choices": [], "usage": used})
        return chunks

    # --- Texts ---

    def _begin(self, event: MessageStarted) -> None:
        self._kind = kind_of(event.header)
        self._separator = PARAGRAPH if self._has_text.get(self._side()) else ""

    def _side(self) -> Kind:
        """Reasoning, or what is said: each is one text of the response."""
        return Kind.REASONING if self._kind is Kind.REASONING else Kind.FINAL

    def _say(self, text: str, chunks: list[dict[str, Any]]) -> None:
        if self._kind is Kind.HIDDEN:
            return
        if self._separator:
            text = self._separator + text
            self._separator = ""
        self._has_text[self._side()] = True
        if self._kind is Kind.REASONING:
            chunks.append(self._chunk({"reasoning_content": text, "reasoning": text}))
        else:
            chunks.append(self._chunk({"content": text}))

    # --- Calls ---

    def _begin_call(self, started: CallStarted, chunks: list[dict[str, Any]]) -> None:
        """Tell of a call at once, unless it can only be told as a whole."""
        self._call = None
        if not self._repair and not is_text_tool(started, self._request):
            self._call = started
            head = call_head(started, call_id(self._id, started.index), self._request)
            function = {"name": client_name(started, self._request), "arguments": ""}
            chunks.append(self._call_chunk(started.index, {**head, "function": function}))

    def _end_call(self, ended: CallEnded, chunks: list[dict[str, Any]]) -> None:
        if self._call is not None:
            return
        told = call_of_response(ended.call, ended.index, self._id, self._request, self._repair)
        if told["type"] == "custom":
            del told["type"]  # a word that the API's chunks do not have
        chunks.append(self._call_chunk(ended.index, told))

    # --- Chunks ---

    def _call_chunk(self, index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": index, **delta}]})

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice]}


@checked_options
def accumulate(chunks: Iterable[Any]) -> dict[str, Any]:
    """The response that a stream of chunks tells.

    Args:
        chunks: The chunks: JSON data, or pydantic objects that hold it.

    Raises:
        RequestError: There is no chunk, or one is not as the API has it.
    """
    folded = _Folded()
    for chunk in chunks:
        folded.add(JsonObject(chunk, "chunks"))
    return folded.response()


class _Folded:
    """What the chunks so far have told."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._usage: Any = None

    def add(self, chunk: JsonObject) -> None:
        """One chunk more."""
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
                is_piece = key in ("arguments", "input")
                body[key] = body.get(key, "") + value if is_piece else value

    def response(self) -> dict[str, Any]:
        """The response."""
        if not self._head:
            raise RequestError("there is no chunk", path="chunks")
        texts = {key: "".join(pieces) for key, pieces in self._texts.items()}
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
