"""Completions as streams of events of the Messages API, and back to the whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from ..._options import checked_options
from ...errors import HarmonyError, RequestError
from ...wire._events import (
    Completion,
    ContentDelta,
    Event,
    FinishReason,
    MessageEnded,
    MessageStarted,
)
from ...wire._messages import Header
from .._reading import JsonObject, plain
from .._request import HarmonyRequest
from ._arguments import ArgumentsWriter, CodeWriter, folded_input
from ._blocks import NO_NAMES, arguments_writer, is_call, opening_block
from ._response import stop_of, usage


class StreamEncoder:
    """Writes a completion as events, while it comes.

    The events fold to what `write_response` gives. The arguments of a call are sent as the
    model writes them, up to the first fault; see `INVALID_JSON`.

    Args:
        id: The id of the message; those of calls come of it.
        model: The name of the model.
        request: The request, for its names of functions and its stop sequences.
        prompt_tokens: How many tokens the prompt had.
    """

    @checked_options
    def __init__(
        self,
        *,
        id: str,  # noqa: A002 (the API's word)
        model: str,
        request: HarmonyRequest | None = None,
        prompt_tokens: int = 0,
    ) -> None:
        self._id = id
        self._model = model
        self._request = request
        self._prompt_tokens = prompt_tokens
        self._names = NO_NAMES if request is None else request.names
        self._blocks: list[dict[str, Any]] = []  # as they were opened
        self._calls = 0
        self._message_index: int | None = None  # of the open block
        self._arguments: ArgumentsWriter | CodeWriter | None = None  # of the open block
        self._started = False

    def start(self) -> list[dict[str, Any]]:
        """Begin the stream; `feed` and `close` do it where it was not done.

        Returns:
            The first events.
        """
        if self._started:
            return []
        self._started = True
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

    def feed(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """Take events of the parser.

        Args:
            events: What `Parser.feed` and `Parser.close` return.

        Returns:
            The events to send.
        """
        sent = self.start()
        for event in events:
            if isinstance(event, ContentDelta):
                if self._open(event.message_index, event.header, sent):
                    self._delta(event.text, sent)
            elif isinstance(event, MessageStarted):
                # Texts are opened by their first piece: empty ones are left out.
                if event.header.is_call:
                    self._open(event.message_index, event.header, sent)
            elif isinstance(event, MessageEnded):
                self._end_block(sent, is_whole=event.parsed.is_whole)
        return sent

    @checked_options
    def close(
        self,
        result: Completion,
        *,
        finish_reason: FinishReason | None = None,
        completion_tokens: int | None = None,
    ) -> list[dict[str, Any]]:
        """End the stream.

        Args:
            result: The result of the parser, whose last events were fed.
            finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`.
            completion_tokens: How many tokens were generated; by default those that were parsed.

        Returns:
            The last events.
        """
        sent = self.start()
        self._end_block(sent)
        stop = stop_of(result, self._blocks, request=self._request, finish_reason=finish_reason)
        counts = usage(result, self._prompt_tokens, completion_tokens)
        sent.append({"type": "message_delta", "delta": stop, "usage": counts})
        sent.append({"type": "message_stop"})
        return sent

    @checked_options
    def fail(self, type: str, message: str) -> list[dict[str, Any]]:  # noqa: A002
        """Break the stream off.

        Args:
            type: The API's word for the error, such as `"overloaded_error"`.
            message: What happened.

        Returns:
            The last events.
        """
        return [{"type": "error", "error": {"type": type, "message": message}}]

    def _open(self, index: int, header: Header, sent: list[dict[str, Any]]) -> bool:
        """Open the block of a message, if it is not open; whether the message has one."""
        if self._message_index == index:
            return True
        self._end_block(sent)
        block = opening_block(header, message_id=self._id, calls=self._calls, names=self._names)
        if block is None:
            return False
        if is_call(block):
            self._calls += 1
            self._arguments = arguments_writer(header.recipient)
        self._message_index = index
        position = len(self._blocks)
        self._blocks.append(block)
        sent.append({"type": "content_block_start", "index": position, "content_block": block})
        return True

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


# --- Back -----------------------------------------------------------------------------------


# The fields of a block that grow, by the type of the piece.
_GROWING: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
}


@checked_options
def accumulate(events: Iterable[Any]) -> dict[str, Any]:
    """The message that a stream of events makes.

    Args:
        events: The events as JSON data, those of a `StreamEncoder` or of another server.

    Returns:
        The message as JSON data.

    Raises:
        RequestError: They are no such events.
        HarmonyError: The stream tells of an error.
    """
    folder = _Folder()
    for index, event in enumerate(events):
        folder.take(JsonObject(event, f"[{index}]"))
    if folder.message is None:
        raise RequestError("no message_start", path="")
    folder.end_blocks()
    return folder.message


class _Folder:
    """Makes a message of events."""

    def __init__(self) -> None:
        self.message: dict[str, Any] | None = None
        self._pieces: dict[int, list[tuple[str, str]]] = {}

    def take(self, event: JsonObject) -> None:
        """Take an event."""
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
            self._pieces[len(self._content()) - 1] = []
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
        if index is None or index not in self._pieces:
            raise event.error("index", "no block has this index, or it is closed")
        return index

    def _delta(self, event: JsonObject) -> None:
        delta = event.required_node("delta")
        kind = delta.required_text("type")
        pieces = self._pieces[self._index(event)]
        if kind in _GROWING:
            source, field = _GROWING[kind]
            pieces.append((field, delta.required_text(source)))
        elif kind == "input_json_delta":
            pieces.append(("input", delta.required_text("partial_json")))
        elif kind == "citations_delta":
            block = self._content()[self._index(event)]
            block["citations"] = [*(block.get("citations") or []), plain(delta.get("citation"))]
        else:
            raise delta.error("type", f"{kind!r} is not known")

    def end_blocks(self) -> None:
        """End the blocks of a stream that broke off."""
        for index in list(self._pieces):
            self._end_block(index)

    def _end_block(self, index: int) -> None:
        block = self._content()[index]
        pieces = self._pieces.pop(index)
        for field in dict.fromkeys(field for field, _ in pieces):
            text = "".join(piece for name, piece in pieces if name == field)
            block[field] = folded_input(text) if field == "input" else block.get(field, "") + text

    def _end_message(self, event: JsonObject) -> None:
        message = self.message or {}
        message.update(event.required_node("delta").value)
        counts = event.node("usage")
        if counts is not None:
            known = {key: value for key, value in counts.value.items() if value is not None}
            message["usage"] = {**message.get("usage", {}), **known}
