"""Streams of events as the responses that they tell of."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from ..._options import checked_options
from ...errors import RequestError
from .._reading import JsonObject, plain


@checked_options
def accumulate(events: Iterable[Any]) -> dict[str, Any]:
    """The response that a stream tells of.

    Its items are put together of their own events. A stream that breaks off gives what there
    is so far, in progress.

    Args:
        events: The events: dicts, or objects of the package `openai`.

    Raises:
        RequestError: The stream has no response, or an event is about an item that was not
            announced; the error says which event.
    """
    fold = _Fold()
    for index, event in enumerate(events):
        fold.add(JsonObject(plain(event), f"events[{index}]"))
    return fold.response()


class _Fold:
    """A response as it grows."""

    def __init__(self) -> None:
        self._response: dict[str, Any] | None = None
        self._items: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str, int], list[str]] = {}
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
            raise event.error("output_index", "no item was announced there")
        return item

    def _add_delta(self, event: JsonObject, field: str) -> None:
        part = event.integer("content_index") or 0
        if field == "text" and not 0 <= part < len(self._item(event).get("content") or []):
            raise event.error("content_index", "no part was announced there")
        self._item(event)
        key = (_index(event), field, part)
        self._pieces.setdefault(key, []).append(event.required_text("delta"))

    def _finish(self, event: JsonObject) -> None:
        """Take what only the last event of an item says; of one without deltas, all."""
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
        for (index, field, part), pieces in self._pieces.items():
            item = self._items[index]
            place = item["content"][part] if field == "text" else item
            place[field] = (place.get(field) or "") + "".join(pieces)
        self._pieces.clear()

    def response(self) -> dict[str, Any]:
        if self._response is None:
            raise RequestError("a stream without a response", path="events")
        self._join()
        failed = self._response.get("status") == "failed"
        # What was begun when a stream failed is no part of its response.
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
