"""Completions as streams of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..._options import checked_options
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
from .._request import HarmonyRequest
from ._output import Item, Items, ItemType, Status, custom_input, repaired, text_part
from ._response import ended_response, item_status, response_frame, usage_of

# What an item's content streams as: the name of the events, and of the field of the last.
_TEXT_EVENTS: Final[dict[ItemType, tuple[str, str]]] = {
    "reasoning": ("reasoning_text", "text"),
    "message": ("output_text", "text"),
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
    "code_interpreter_call": ("code_interpreter_call_code", "code"),
}
_HAS_PARTS: Final = ("reasoning", "message")
# What a call that the server runs goes through before and after it is written.
_STAGES: Final[dict[ItemType, tuple[str, str]]] = {
    "web_search_call": ("web_search_call", "searching"),
    "code_interpreter_call": ("code_interpreter_call", "interpreting"),
}


class StreamEncoder:
    """Makes the events of a response out of those of a parser, for one completion.

    The stream says what `write_response` says of the same completion. Events are dicts, each
    with its `type` and `sequence_number`.

    Args:
        id: The id of the response; those of its items follow from it.
        created_at: When it was made, in seconds since 1970.
        model: The model that makes it.
        request: The request that it answers.
        repair: Whether arguments of calls are repaired; then they come in one piece when the
            call is complete.
    """

    @checked_options
    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the API's word
        created_at: float,
        model: str,
        request: HarmonyRequest | None = None,
        repair: bool = False,
    ) -> None:
        self._frame = response_frame(id=id, created_at=created_at, model=model, request=request)
        self._items = Items(id, request)
        self._repair = repair
        self._calls = ToolCallStream(self._items.callees.tools)
        self._output: list[dict[str, Any]] = []
        self._number = 0
        # The item whose content is being written, and what its deltas have in common; `None`
        # while no delta can come, or none is shown.
        self._item: Item | None = None
        self._delta: dict[str, Any] | None = None
        # A message that nothing closed: what follows tells whether it was cut off.
        self._open: tuple[Item, str, ParsedMessage] | None = None

    def start(self) -> list[dict[str, Any]]:
        """The first events: the response is created, and in progress."""
        return [
            self._event({"type": f"response.{stage}", "response": {**self._frame}})
            for stage in ("created", "in_progress")
        ]

    def feed(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """Take events of a parser.

        Args:
            events: What `Parser.feed` and `Parser.close` return.

        Returns:
            The events of the stream, in order.
        """
        found: list[dict[str, Any]] = []
        for event in events:
            if isinstance(event, ContentDelta):
                delta = self._delta
                if delta is not None:
                    number = self._number
                    found.append({**delta, "delta": event.text, "sequence_number": number})
                    self._number = number + 1
                continue
            calls = self._calls.feed((event,)) if self._repair else ()
            if isinstance(event, MessageStarted):
                self._settle(None, found)
                self._item = self._items.begin(event.header)
                if self._item is not None and self._item.type != "web_search_call":
                    self._begin(self._item, found)
            elif isinstance(event, MessageEnded) and self._item is not None:
                ended = [call.call for call in calls if isinstance(call, CallEnded)]
                self._end(event, ended[0] if ended else None, found)
        return found

    @checked_options
    def close(
        self,
        result: Completion,
        *,
        finish_reason: FinishReason | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int | None = None,
    ) -> list[dict[str, Any]]:
        """The last events: the response is complete, or cut off.

        Args:
            result: The completion; the events of closing its parser were fed.
            finish_reason: Why the engine stopped, as for `write_response`.
            prompt_tokens: How many tokens the prompt has.
            completion_tokens: How many tokens were generated; by default those that were parsed.
        """
        found: list[dict[str, Any]] = []
        if self._open is not None:
            self._settle(item_status(result, self._open[2], finish_reason), found)
        response = ended_response(
            self._frame,
            self._output,
            result,
            finish_reason=finish_reason,
            usage=usage_of(result, prompt_tokens, completion_tokens),
        )
        kind = f"response.{response['status']}"
        return [*found, self._event({"type": kind, "response": response})]

    @checked_options
    def fail(self, code: str, message: str) -> list[dict[str, Any]]:
        """The last events of a stream that broke down: the items so far stay.

        Args:
            code: One of the API's codes, such as `"server_error"`.
            message: What went wrong.
        """
        found: list[dict[str, Any]] = []
        self._settle("incomplete", found)
        response = {
            **self._frame,
            "status": "failed",
            "error": {"code": code, "message": message},
            "output": self._output,
        }
        return [*found, self._event({"type": "response.failed", "response": response})]

    # --- One item ---

    def _begin(self, item: Item, found: list[dict[str, Any]]) -> None:
        """Announce an item whose content is to come."""
        data = item.data("", "in_progress")
        if item.type in _HAS_PARTS:
            data["content"] = []
        self._add(found, item, "response.output_item.added", item=data)
        if item.type in _HAS_PARTS:
            part = text_part(item.type, "")
            self._add(found, item, "response.content_part.added", content_index=0, part=part)
        if item.type in _STAGES:
            self._add_stage(found, item, "in_progress")
        # The input of a tool that takes text has to be taken out of the whole.
        is_late = item.callee is not None and self._repair
        if not is_late and item.type != "custom_tool_call":
            self._delta = self._delta_frame(item)

    def _delta_frame(self, item: Item) -> dict[str, Any]:
        """What all deltas of an item have in common."""
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

    def _end(self, event: MessageEnded, call: ToolCall | None, found: list[dict[str, Any]]) -> None:
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
                found.append(self._event({**self._delta_frame(item), "delta": text}))
        self._open = (item, content, event.parsed)
        if event.terminator is not None:
            self._settle(None, found)

    def _settle(self, status: Status | None, found: list[dict[str, Any]]) -> None:
        """Finish the item whose message is over, now that it is known how.

        Args:
            status: How; `None` where another message follows.
            found: Gets the events.
        """
        if self._open is None:
            return
        item, content, parsed = self._open
        is_broken = parsed.header.is_call and not parsed.is_whole
        status = status or ("incomplete" if is_broken else "completed")
        self._open = None
        data = item.data(content, status)
        if item.type == "web_search_call":
            # Its action is not known before the whole call is.
            self._add(
                found, item, "response.output_item.added", item={**data, "status": "in_progress"}
            )
            self._add_stage(found, item, "in_progress")
        else:
            self._add_done(found, item, data)
        if item.type in _STAGES and status == "completed":
            self._add_stage(found, item, _STAGES[item.type][1])
            self._add_stage(found, item, "completed")
        self._add(found, item, "response.output_item.done", item=data)
        self._output.append(data)

    def _add_done(self, found: list[dict[str, Any]], item: Item, data: dict[str, Any]) -> None:
        """Say the whole content of an item."""
        name, key = _TEXT_EVENTS[item.type]
        done = f"response.{name}.done"
        if item.type not in _HAS_PARTS:
            named = {"name": data["name"]} if item.type == "function_call" else {}
            self._add(found, item, done, **{key: data[key]}, **named)
            return
        part = data["content"][0]
        logprobs: dict[str, Any] = {"logprobs": []} if item.type == "message" else {}
        self._add(found, item, done, content_index=0, text=part["text"], **logprobs)
        self._add(found, item, "response.content_part.done", content_index=0, part={**part})

    def _add_stage(self, found: list[dict[str, Any]], item: Item, stage: str) -> None:
        self._add(found, item, f"response.{_STAGES[item.type][0]}.{stage}")

    def _add(self, found: list[dict[str, Any]], of: Item, kind: str, /, **rest: Any) -> None:
        event: dict[str, Any] = {"type": kind, "output_index": of.position}
        if not kind.startswith("response.output_item."):
            event["item_id"] = of.id
        found.append(self._event(event | rest))

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        event["sequence_number"] = self._number
        self._number += 1
        return event
