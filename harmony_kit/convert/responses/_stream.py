"""Streams of the Responses API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...calls import CallEnded, ToolCall
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
from .. import _encoder as encoder
from .._reply import TokenCounts
from .._store import StoredResponse
from ._output import Item, Items, ItemType, Status, custom_input, repaired, text_part
from ._response import ended_response, item_status, response_frame, stored_response

# The events that stream the content of an item: their name, and the field of the last one.
_TEXT_EVENTS: Final[dict[ItemType, tuple[str, str]]] = {
    "reasoning": ("reasoning_text", "text"),
    "message": ("output_text", "text"),
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
    "code_interpreter_call": ("code_interpreter_call_code", "code"),
}
_HAS_PARTS: Final = ("reasoning", "message")
# The events before and after a call that the server runs: their name, and that of the second.
_STAGES: Final[dict[ItemType, tuple[str, str]]] = {
    "web_search_call": ("web_search_call", "searching"),
    "code_interpreter_call": ("code_interpreter_call", "interpreting"),
}


class StreamEncoder(encoder.StreamEncoder):
    """Encodes the events of a parser as events of the Responses API.

    Every event has its `type` and `sequence_number`. A failure is a `response.failed` event, whose
    response has the items so far.

    Args:
        id: The id of the response, from which those of its items are derived.
        model: The name of the model.
        created: When the response was created, in seconds since 1970.
        request: The request, for the declared tools, the client's names of the functions, and the
            fields that a response repeats.
        prompt_tokens: The number of tokens of the prompt.
        repair: Whether to repair the arguments of calls, which are then sent whole.
        store: Where to keep the response for later requests.

    Example:
        >>> from harmony_kit import Parser, encode_with_special
        >>> parser, encoder = Parser(), StreamEncoder(id="resp_1", model="gpt-oss")
        >>> events = encoder.start()
        >>> for token in encode_with_special("<|channel|>final<|message|>Hi there<|return|>"):
        ...     events += encoder.feed(parser.feed(token))
        >>> events += encoder.feed(parser.close()) + encoder.close(parser.result())
        >>> [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        ['Hi', ' there']
    """

    def _prepare(self) -> None:
        self._frame = response_frame(self._id, self._model, self._created, self._request)
        self._items = Items(self._id, self._request)
        self._calls = ToolCallStream(self._items.callees.tools)
        self._output: list[dict[str, Any]] = []
        self._number = 0
        # The current item, and the fields that its deltas have in common; `None` where there are
        # no deltas.
        self._item: Item | None = None
        self._delta: dict[str, Any] | None = None
        # A message without a terminator: what follows shows whether it was truncated.
        self._open: tuple[Item, str, ParsedMessage] | None = None

    def _opening(self) -> list[dict[str, Any]]:
        return [
            self._event({"type": f"response.{stage}", "response": {**self._frame}})
            for stage in ("created", "in_progress")
        ]

    def _write_events(self, events: Iterable[Event], sent: list[dict[str, Any]]) -> None:
        for event in events:
            if isinstance(event, ContentDelta):
                delta = self._delta
                if delta is not None:
                    number = self._number
                    sent.append({**delta, "delta": event.text, "sequence_number": number})
                    self._number = number + 1
                continue
            calls = self._calls.feed((event,)) if self._repair else ()
            if isinstance(event, MessageStarted):
                self._settle(None, sent)
                self._item = self._items.begin(event.header)
                if self._item is not None and self._item.type != "web_search_call":
                    self._begin(self._item, sent)
            elif isinstance(event, MessageEnded) and self._item is not None:
                ended = [call.call for call in calls if isinstance(call, CallEnded)]
                self._end(event, ended[0] if ended else None, sent)

    def _write_end(
        self,
        result: Completion,
        counts: TokenCounts,
        finish_reason: FinishReason | None,
        sent: list[dict[str, Any]],
    ) -> None:
        if self._open is not None:
            self._settle(item_status(result, self._open[2], finish_reason), sent)
        response = ended_response(self._frame, self._output, result, finish_reason, counts)
        sent.append(self._event({"type": f"response.{response['status']}", "response": response}))

    def _write_failure(self, message: str, code: str | None, sent: list[dict[str, Any]]) -> None:
        self._settle("incomplete", sent)
        response = {
            **self._frame,
            "status": "failed",
            "error": {"code": code or "server_error", "message": message},
            "output": self._output,
        }
        sent.append(self._event({"type": "response.failed", "response": response}))

    def _stored(self, result: Completion, finish_reason: FinishReason | None) -> StoredResponse:
        return stored_response(self._request, result, id=self._id, finish_reason=finish_reason)

    # --- One item ---

    def _begin(self, item: Item, sent: list[dict[str, Any]]) -> None:
        """Announce an item whose content is to come."""
        data = item.data("", "in_progress")
        if item.type in _HAS_PARTS:
            data["content"] = []
        self._add(sent, item, "response.output_item.added", item=data)
        if item.type in _HAS_PARTS:
            part = text_part(item.type, "")
            self._add(sent, item, "response.content_part.added", content_index=0, part=part)
        if item.type in _STAGES:
            self._add_stage(sent, item, "in_progress")
        # The input of a tool that takes text can be extracted only from the whole call.
        is_late = item.callee is not None and self._repair
        if not is_late and item.type != "custom_tool_call":
            self._delta = self._delta_frame(item)

    def _delta_frame(self, item: Item) -> dict[str, Any]:
        """The fields that all deltas of an item have in common."""
        name, _ = _TEXT_EVENTS[item.type]
        frame: dict[str, Any] = {
            "type": f"response.{name}.delta",
            "item_id": item.id,
            "output_index": item.position,
        }
        if item.type in _HAS_PARTS:
            frame["content_index"] = 0
        if item.type == "message":
            frame["logprobs"] = []
        return frame

    def _end(self, event: MessageEnded, call: ToolCall | None, sent: list[dict[str, Any]]) -> None:
        """The content of the current item is complete."""
        item, self._item = self._item, None
        assert item is not None
        content = event.message.text
        if self._repair:
            content = repaired(item, content, call)
        is_late = self._delta is None and item.type != "web_search_call"
        self._delta = None
        if is_late:
            text = custom_input(content) if item.type == "custom_tool_call" else content
            if text:
                sent.append(self._event({**self._delta_frame(item), "delta": text}))
        self._open = (item, content, event.parsed)
        if event.terminator is not None:
            self._settle(None, sent)

    def _settle(self, status: Status | None, sent: list[dict[str, Any]]) -> None:
        """Finish the item of a message that has ended; `None` if another message follows."""
        if self._open is None:
            return
        item, content, parsed = self._open
        is_broken = parsed.header.is_call and not parsed.is_whole
        status = status or ("incomplete" if is_broken else "completed")
        self._open = None
        data = item.data(content, status)
        if item.type == "web_search_call":
            # Its action is known only when the call is complete.
            self._add(
                sent, item, "response.output_item.added", item={**data, "status": "in_progress"}
            )
            self._add_stage(sent, item, "in_progress")
        else:
            self._add_done(sent, item, data)
        if item.type in _STAGES and status == "completed":
            self._add_stage(sent, item, _STAGES[item.type][1])
            self._add_stage(sent, item, "completed")
        self._add(sent, item, "response.output_item.done", item=data)
        self._output.append(data)

    def _add_done(self, sent: list[dict[str, Any]], item: Item, data: dict[str, Any]) -> None:
        """The events with the whole content of an item."""
        name, key = _TEXT_EVENTS[item.type]
        done = f"response.{name}.done"
        if item.type not in _HAS_PARTS:
            named = {"name": data["name"]} if item.type == "function_call" else {}
            self._add(sent, item, done, **{key: data[key]}, **named)
            return
        part = data["content"][0]
        logprobs: dict[str, Any] = {"logprobs": []} if item.type == "message" else {}
        self._add(sent, item, done, content_index=0, text=part["text"], **logprobs)
        self._add(sent, item, "response.content_part.done", content_index=0, part={**part})

    def _add_stage(self, sent: list[dict[str, Any]], item: Item, stage: str) -> None:
        self._add(sent, item, f"response.{_STAGES[item.type][0]}.{stage}")

    def _add(self, sent: list[dict[str, Any]], of: Item, kind: str, /, **rest: Any) -> None:
        event: dict[str, Any] = {"type": kind, "output_index": of.position}
        if not kind.startswith("response.output_item."):
            event["item_id"] = of.id
        sent.append(self._event(event | rest))

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        event["sequence_number"] = self._number
        self._number += 1
        return event
