"""Accumulates streams of events to responses."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from ..._options import checked_options
from ...errors import RequestError
from .._reading import JsonObject


@checked_options
def accumulate(chunks: Iterable[Any]) -> dict[str, Any]:
    """The response of a stream of events; of an incomplete stream, as much as there is.

    Items are built from their own events. A stream that failed becomes a response with the status
    `"failed"`.

    Args:
        chunks: The events: JSON data, or pydantic objects.

    Raises:
        RequestError: No event has a response, or one is about an item that was not added.

    Example:
        >>> from harmony_kit import Parser, encode_with_special
        >>> from harmony_kit.convert.responses import StreamEncoder
        >>> parser, encoder = Parser(), StreamEncoder(id="resp_1", model="gpt-oss")
        >>> tokens = encode_with_special("<|channel|>final<|message|>Hi there<|return|>")
        >>> events = encoder.feed(parser.feed(tokens) + parser.close())
        >>> events += encoder.close(parser.result())
        >>> accumulate(events)["output"][0]["content"][0]["text"]
        'Hi there'
    """
    response = _Response()
    for index, event in enumerate(chunks):
        response.add(JsonObject(event, f"chunks[{index}]"))
    return response.data()


class _Response:
    """The response of the events so far."""

    def __init__(self) -> None:
        self._response: dict[str, Any] | None = None
        self._items: dict[int, dict[str, Any]] = {}
        self._deltas: dict[tuple[int, str, int], list[str]] = {}
        self._done: set[int] = set()

    def add(self, event: JsonObject) -> None:
        kind = event.required_text("type")
        response = event.node("response")
        if response is not None:
            self._response = dict(response.value)
        elif kind == "response.output_item.added":
            self._items[_index(event)] = deepcopy(dict(event.required_node("item").value))
        elif kind == "response.output_item.done":
            self._finish(event)
        elif kind == "response.content_part.added":
            item = self._item(event)
            part = deepcopy(dict(event.required_node("part").value))
            item["content"] = [*(item.get("content") or []), part]
        elif kind.endswith(".delta"):
            field = _FIELDS.get(kind.removesuffix(".delta"))
            if field is not None:
                self._add_delta(event, field)

    def _item(self, event: JsonObject) -> dict[str, Any]:
        item = self._items.get(_index(event))
        if item is None:
            raise event.error("output_index", "no item was added there")
        return item

    def _add_delta(self, event: JsonObject, field: str) -> None:
        part = event.integer("content_index") or 0
        if field == "text" and not 0 <= part < len(self._item(event).get("content") or []):
            raise event.error("content_index", "no part was added there")
        self._item(event)
        key = (_index(event), field, part)
        self._deltas.setdefault(key, []).append(event.required_text("delta"))

    def _finish(self, event: JsonObject) -> None:
        """Take from the last event of an item what had no deltas."""
        self._join()
        item = self._item(event)
        finished = deepcopy(dict(event.required_node("item").value))
        for field in _FIELDS.values():
            if field != "text" and item.get(field):
                finished[field] = item[field]
        parts = zip(item.get("content") or [], finished.get("content") or [], strict=False)
        for part, finished_part in parts:
            if part.get("text"):
                finished_part["text"] = part["text"]
        self._items[_index(event)] = finished
        self._done.add(_index(event))

    def _join(self) -> None:
        for (index, field, part), deltas in self._deltas.items():
            item = self._items[index]
            place = item["content"][part] if field == "text" else item
            place[field] = (place.get(field) or "") + "".join(deltas)
        self._deltas.clear()

    def data(self) -> dict[str, Any]:
        if self._response is None:
            raise RequestError("no event has a response", path="chunks")
        self._join()
        failed = self._response.get("status") == "failed"
        # An item that is incomplete when the stream fails is not part of the response.
        output = [
            item for index, item in sorted(self._items.items()) if index in self._done or not failed
        ]
        return {**self._response, "output": output}


_FIELDS: Final = {
    "response.output_text": "text",
    "response.reasoning_text": "text",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.code_interpreter_call_code": "code",
}


def _index(event: JsonObject) -> int:
    index = event.integer("output_index")
    if index is None:
        raise event.error("output_index", "missing")
    return index
