"""Stop texts of a request: cut from what a client is shown, whole and streamed.

They are looked for in the answer and in commentary, never in reasoning, headers or arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..wire._events import (
    Completion,
    ContentDelta,
    Event,
    MessageEnded,
    MessageStarted,
    ParsedMessage,
    Terminator,
    TurnEnd,
    is_shown,
)
from ._request import HarmonyRequest


def stops_of(request: HarmonyRequest | None) -> tuple[str, ...]:
    """The stop texts that a client asked for."""
    return () if request is None else request.sampling.stop


def cut_at_stop(result: Completion, stops: Sequence[str]) -> tuple[Completion, str | None]:
    """A completion that ends before the first stop text in what is shown, and that stop text.

    Messages after it are left out. The turn then counts as ended, whatever the engine did.
    """
    for index, parsed in enumerate(result.turn if stops else ()):
        found = _first(parsed.text, stops) if is_shown(parsed.header) else None
        if found is None:
            continue
        kept = (*result.turn[:index], _cut(parsed, found[0]))
        ended = replace(
            result, parsed=kept, turn_length=len(kept), turn_end=TurnEnd.RETURN, stray=()
        )
        return ended, found[1]
    return result, None


class StopCutter:
    """Cuts a parser's events at the first stop text, and holds back what may begin one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._delta: ContentDelta | None = None  # the last one of the message that is shown
        self._length = 0  # of the text that was let through, in characters
        self._is_cut = False
        self._is_over = False

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """The events to show."""
        if not self._stops:
            return list(events)
        shown: list[Event] = []
        for event in events:
            if not self._is_over:
                self._take(event, shown)
        return shown

    def _take(self, event: Event, shown: list[Event]) -> None:
        if isinstance(event, ContentDelta) and is_shown(event.header):
            self._delta = event
            if not self._is_cut:
                self._let_through(self._held + event.text, shown)
            return
        if isinstance(event, MessageStarted):
            self._length = 0
        elif isinstance(event, MessageEnded) and self._delta is not None:
            if self._is_cut:
                parsed = _cut(event.parsed, self._length)
                shown.append(MessageEnded(event.message_index, parsed))
                self._is_over = True
                return
            self._show(self._held, shown)
            self._held, self._delta = "", None
        shown.append(event)

    def _let_through(self, text: str, shown: list[Event]) -> None:
        found = _first(text, self._stops)
        if found is not None:
            self._is_cut, self._held = True, ""
            self._show(text[: found[0]], shown)
            return
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        self._show(text[: len(text) - held], shown)

    def _show(self, text: str, shown: list[Event]) -> None:
        if text and self._delta is not None:
            self._length += len(text)
            shown.append(ContentDelta(self._delta.message_index, self._delta.header, text))


def _first(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Where the first stop text begins, and which it is: of several the longest."""
    found = [(text.find(stop), -len(stop), stop) for stop in stops]
    met = min((one for one in found if one[0] >= 0), default=None)
    return None if met is None else (met[0], met[2])


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text can be the beginning of a stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)


def _cut(parsed: ParsedMessage, length: int) -> ParsedMessage:
    message = parsed.message.replace(content=parsed.text[:length])
    return parsed._replace(message=message, terminator=Terminator.RETURN, is_complete=True)
