"""Streaming calls: parser events become call events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..wire._events import ContentDelta, Event, MessageEnded, MessageStarted, Terminator
from ..wire._messages import Header
from ..wire._roles import Role
from ._calls import ToolCall, call_of, facts_of, once
from ._resolve import DeclaredNames, names_nobody


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The header of a call is complete.

    Attributes:
        index: The position of the call among the calls of the turn.
        name: The tool's name within its namespace.
        namespace: The namespace; `None` for a tool that is addressed by its bare name.
        header: The header of the message.
    """

    index: int
    name: str | None
    namespace: str | None
    header: Header


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """A part of a call's content.

    Attributes:
        index: The position of the call among the calls of the turn.
        text: The unmodified text; never empty.
    """

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is complete.

    Attributes:
        index: The position of the call among the calls of the turn.
        call: The call.
    """

    index: int
    call: ToolCall


CallEvent = CallStarted | ArgumentsDelta | CallEnded


class CallStream:
    """Converts the parser events of one completion to call events."""

    def __init__(self, declared: DeclaredNames) -> None:
        self._declared = declared
        self._made: set[tuple[str, str]] = set()
        self._index = 0
        self._message_index: int | None = None  # of the current call
        self._over = False

    def feed(self, events: Iterable[Event]) -> list[CallEvent]:
        """The call events for the events that `Parser.feed` or `Parser.close` returned.

        The deltas of a call add up to its content.
        """
        found: list[CallEvent] = []
        for event in events:
            if isinstance(event, ContentDelta):
                if event.message_index == self._message_index:
                    found.append(ArgumentsDelta(self._index, event.text))
            elif isinstance(event, MessageStarted):
                self._start(event, found)
            elif isinstance(event, MessageEnded):
                self._end(event, found)
        return found

    def _start(self, event: MessageStarted, found: list[CallEvent]) -> None:
        header = event.header
        self._over = self._over or header.role is not Role.ASSISTANT
        if self._over or not header.is_call or names_nobody(header.recipient or ""):
            return
        target = self._declared.resolve(header.recipient or "").target
        self._message_index = event.message_index
        found.append(CallStarted(self._index, target.name, target.namespace, header))

    def _end(self, event: MessageEnded, found: list[CallEvent]) -> None:
        if event.terminator is Terminator.RETURN:
            self._over = True
        if event.message_index != self._message_index:
            self._end_late(event, found)
            return
        self._message_index = None
        call = call_of(facts_of(event.parsed), event.message_index, self._declared)
        if call is not None:
            found.append(CallEnded(self._index, once(call, self._made)))
            self._index += 1

    def _end_late(self, event: MessageEnded, found: list[CallEvent]) -> None:
        """A message whose header named no recipient may have named its tool elsewhere."""
        if self._over or event.parsed.header.is_call:
            return
        call = call_of(facts_of(event.parsed), event.message_index, self._declared)
        if call is None or call.name is None:
            return
        found.append(CallStarted(self._index, call.name, call.namespace, call.message.header))
        if call.raw:
            found.append(ArgumentsDelta(self._index, call.raw))
        found.append(CallEnded(self._index, once(call, self._made)))
        self._index += 1
