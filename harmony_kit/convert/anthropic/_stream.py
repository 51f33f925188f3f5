"""Streams of the Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from ..._options import checked_options
from ...calls import CallEnded, ToolCall
from ...errors import HarmonyError, RequestError
from ...tools import ToolCallStream
from ...wire._events import (
    Completion,
    ContentDelta,
    Event,
    FinishReason,
    MessageEnded,
    MessageStarted,
    ParsedMessage,
)
from ...wire._messages import Header
from .. import _encoder as encoder
from .._reading import JsonObject, plain
from .._reply import TokenCounts
from .._store import StoredResponse
from ._arguments import TRUNCATED_JSON, ArgumentsWriter, CodeWriter, folded_input
from ._blocks import Blocks, arguments_writer, is_call
from ._response import client_names, declared_tools, stop_of, stored_response, usage


class StreamEncoder(encoder.StreamEncoder):
    """Encodes the events of a parser as events of the Messages API.

    The arguments of a call are sent as they are generated, up to the first error; see
    `write_response` for what follows. A failure is an `error` event, for which the `anthropic`
    client raises an `APIStatusError`.

    Args:
        id: The id of the message, from which those of calls are derived.
        model: The name of the model.
        created: Accepted for the sake of the other APIs; a message has no time.
        request: The request, for the declared tools, the client's names of the functions and the
            stop sequences.
        prompt_tokens: The number of tokens of the prompt.
        repair: Whether to repair the names and arguments of calls, which are then sent whole.
        store: Where to keep the response for later requests.

    Example:
        >>> from harmony_kit import Parser, encode_with_special
        >>> parser, encoder = Parser(), StreamEncoder(id="msg_1", model="gpt-oss")
        >>> events = encoder.start()
        >>> for token in encode_with_special("<|channel|>final<|message|>Hi there<|return|>"):
        ...     events += encoder.feed(parser.feed(token))
        >>> events += encoder.feed(parser.close()) + encoder.close(parser.result())
        >>> [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
        ['Hi', ' there']
    """

    def _prepare(self) -> None:
        self._content = Blocks(self._id, client_names(self._request))
        self._calls = ToolCallStream(declared_tools(self._request))
        self._blocks: list[dict[str, Any]] = []  # as they were started
        self._message_index: int | None = None  # of the open block
        self._arguments: ArgumentsWriter | CodeWriter | None = None  # of the open block
        self._is_held = False  # whether the current message is sent when it has ended

    def _opening(self) -> list[dict[str, Any]]:
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {"input_tokens": self._prompt_tokens, "output_tokens": 0},
        }
        return [{"type": "message_start", "message": message}]

    def _write_events(self, events: Iterable[Event], sent: list[dict[str, Any]]) -> None:
        for event in events:
            if isinstance(event, ContentDelta):
                if not self._is_held and self._open(event.message_index, event.header, sent):
                    self._delta(event.text, sent)
                continue
            calls = self._calls.feed((event,)) if self._repair else ()
            if isinstance(event, MessageStarted):
                self._is_held = self._repair and event.header.is_call
                # A text starts with its first delta: empty ones are left out.
                if event.header.is_call and not self._is_held:
                    self._open(event.message_index, event.header, sent)
            elif isinstance(event, MessageEnded):
                if self._is_held:
                    ended = [call.call for call in calls if isinstance(call, CallEnded)]
                    self._write_call(event.parsed, ended[0] if ended else None, sent)
                else:
                    self._end_block(sent, is_whole=event.parsed.is_whole)

    def _write_end(
        self,
        result: Completion,
        counts: TokenCounts,
        finish_reason: FinishReason | None,
        sent: list[dict[str, Any]],
    ) -> None:
        self._end_block(sent)
        stop = stop_of(
            result,
            self._blocks,
            request=self._request,
            finish_reason=finish_reason,
            stop_text=self._stop_text,
        )
        sent.append({"type": "message_delta", "delta": stop, "usage": usage(counts)})
        sent.append({"type": "message_stop"})

    def _write_failure(self, message: str, code: str | None, sent: list[dict[str, Any]]) -> None:
        error = {"type": code or "api_error", "message": message}
        sent.append({"type": "error", "error": error})

    def _stored(self, result: Completion, finish_reason: FinishReason | None) -> StoredResponse:
        return stored_response(self._request, result, id=self._id, finish_reason=finish_reason)

    # --- Blocks ---

    def _write_call(
        self, parsed: ParsedMessage, call: ToolCall | None, sent: list[dict[str, Any]]
    ) -> None:
        """Send a repaired call, or one that cannot be repaired, as a whole."""
        self._is_held = False
        self._end_block(sent)
        block = self._content.begin(parsed.header)
        if block is None:
            return
        self._content.end_call(block, parsed, call)
        value = block["input"]
        self._start_block({**block, "input": {}}, sent)
        text = json.dumps(value, ensure_ascii=False) if parsed.is_whole else value[TRUNCATED_JSON]
        self._send_arguments(text, sent)
        sent.append({"type": "content_block_stop", "index": len(self._blocks) - 1})

    def _open(self, index: int, header: Header, sent: list[dict[str, Any]]) -> bool:
        """Start the block of a message, unless it is open; whether the message has one."""
        if self._message_index == index:
            return True
        self._end_block(sent)
        block = self._content.begin(header)
        if block is None:
            return False
        if is_call(block):
            self._arguments = arguments_writer(header.recipient)
        self._message_index = index
        self._start_block(block, sent)
        return True

    def _start_block(self, block: dict[str, Any], sent: list[dict[str, Any]]) -> None:
        position = len(self._blocks)
        self._blocks.append(block)
        sent.append({"type": "content_block_start", "index": position, "content_block": block})

    def _delta(self, text: str, sent: list[dict[str, Any]]) -> None:
        if self._arguments is not None:
            self._send_arguments(self._arguments.feed(text), sent)
        elif self._blocks[-1]["type"] == "thinking":
            self._send({"type": "thinking_delta", "thinking": text}, sent)
        else:
            self._send({"type": "text_delta", "text": text}, sent)

    def _send_arguments(self, text: str, sent: list[dict[str, Any]]) -> None:
        if text:
            self._send({"type": "input_json_delta", "partial_json": text}, sent)

    def _send(self, delta: dict[str, Any], sent: list[dict[str, Any]]) -> None:
        index = len(self._blocks) - 1
        sent.append({"type": "content_block_delta", "index": index, "delta": delta})

    def _end_block(self, sent: list[dict[str, Any]], *, is_whole: bool = False) -> None:
        if self._message_index is None:
            return
        if self._arguments is not None:
            rest = self._arguments.end() if is_whole else self._arguments.cut()
            self._send_arguments(rest, sent)
        sent.append({"type": "content_block_stop", "index": len(self._blocks) - 1})
        self._message_index = self._arguments = None


# --- Accumulating ---------------------------------------------------------------------------


# The fields of deltas and blocks by the type of the delta.
_GROWING: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
}


@checked_options
def accumulate(chunks: Iterable[Any]) -> dict[str, Any]:
    """The message of a stream of events; of an incomplete stream, as much as there is.

    Args:
        chunks: The events: JSON data, or pydantic objects.

    Raises:
        RequestError: An event is invalid, or there is no `message_start`.
        HarmonyError: An event reports an error.

    Example:
        >>> from harmony_kit import Parser, encode_with_special
        >>> from harmony_kit.convert.anthropic import StreamEncoder
        >>> parser, encoder = Parser(), StreamEncoder(id="msg_1", model="gpt-oss")
        >>> tokens = encode_with_special("<|channel|>final<|message|>Hi there<|return|>")
        >>> events = encoder.feed(parser.feed(tokens) + parser.close())
        >>> accumulate(events + encoder.close(parser.result()))["content"]
        [{'type': 'text', 'text': 'Hi there'}]
    """
    response = _Response()
    for index, event in enumerate(chunks):
        response.add(JsonObject(event, f"chunks[{index}]"))
    if response.message is None:
        raise RequestError("there is no message_start", path="chunks")
    response.end_blocks()
    return response.message


class _Response:
    """The message of the events so far."""

    def __init__(self) -> None:
        self.message: dict[str, Any] | None = None
        self._deltas: dict[int, list[tuple[str, str]]] = {}

    def add(self, event: JsonObject) -> None:
        """Add an event."""
        kind = event.required_text("type")
        if kind == "message_start":
            self.message = json.loads(json.dumps(event.required_node("message").value))
        elif kind == "error":
            error = event.required_node("error")
            raise HarmonyError(f"{error.text('type')}: {error.text('message')}")
        elif self.message is None and kind != "ping":
            raise event.error("type", f"{kind} before message_start")
        elif kind == "content_block_start":
            block = dict(event.required_node("content_block").value)
            self._content().append(block)
            self._deltas[len(self._content()) - 1] = []
        elif kind == "content_block_delta":
            self._delta(event)
        elif kind == "content_block_stop":
            self._end_block(self._index(event))
        elif kind == "message_delta":
            self._end_message(event)

    def _content(self) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = (self.message or {}).setdefault("content", [])
        return content

    def _index(self, event: JsonObject) -> int:
        index = event.integer("index")
        if index is None or index not in self._deltas:
            raise event.error("index", "no open block has this index")
        return index

    def _delta(self, event: JsonObject) -> None:
        delta = event.required_node("delta")
        kind = delta.required_text("type")
        deltas = self._deltas[self._index(event)]
        if kind in _GROWING:
            source, field = _GROWING[kind]
            deltas.append((field, delta.required_text(source)))
        elif kind == "input_json_delta":
            deltas.append(("input", delta.required_text("partial_json")))
        elif kind == "citations_delta":
            block = self._content()[self._index(event)]
            block["citations"] = [*(block.get("citations") or []), plain(delta.get("citation"))]
        else:
            raise delta.error("type", f"{kind!r} is not known")

    def end_blocks(self) -> None:
        """End the open blocks of an incomplete stream."""
        for index in list(self._deltas):
            self._end_block(index)

    def _end_block(self, index: int) -> None:
        block = self._content()[index]
        deltas = self._deltas.pop(index)
        for field in dict.fromkeys(field for field, _ in deltas):
            text = "".join(delta for name, delta in deltas if name == field)
            block[field] = folded_input(text) if field == "input" else block.get(field, "") + text

    def _end_message(self, event: JsonObject) -> None:
        message = self.message or {}
        message.update(event.required_node("delta").value)
        counts = event.node("usage")
        if counts is not None:
            known = {key: value for key, value in counts.value.items() if value is not None}
            message["usage"] = {**message.get("usage", {}), **known}
