"""What was said during a run, whether it came to its end or was stopped."""

from __future__ import annotations

from collections.abc import Sequence

from ..loop import RunEvent, ToolReturned, TurnFinished, TurnStarted
from ..tools import tool_result
from ..wire._events import ContentDelta, MessageEnded, MessageStarted, is_reasoning
from ..wire._messages import Header, Message
from ..wire._roles import Channel, Role


class Said:
    """Collects a run's messages from its events.

    However the run ends, `messages` can stand in a conversation: every call has a result, a
    call that was cut off is left out, and no reasoning stands at the end. The beginning of an
    answer stays.
    """

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    def take(self, event: RunEvent) -> None:
        """Take the next event of the run."""
        if isinstance(event, TurnStarted):
            self._turns.append(_Turn())
        elif isinstance(event, MessageStarted | ContentDelta | MessageEnded | TurnFinished):
            self._turns[-1].take(event)
        elif isinstance(event, ToolReturned):
            self._turns[-1].results.append((event.call.message, event.result))

    def messages(self, no_result: str) -> list[Message]:
        """What was said."""
        said = [message for turn in self._turns for message in turn.messages(no_result)]
        while said and is_reasoning(said[-1]):
            said.pop()
        return said


class _Turn:
    """One completion, and the results of its calls."""

    def __init__(self) -> None:
        self.results: list[tuple[Message, Message]] = []  # each with the call
        self._whole: list[Message] = []
        self._header: Header | None = None  # of the message that is being written
        self._text = ""

    def take(self, event: MessageStarted | ContentDelta | MessageEnded | TurnFinished) -> None:
        if isinstance(event, MessageStarted):
            self._header, self._text = event.header, ""
        elif isinstance(event, ContentDelta):
            self._text += event.text
        elif isinstance(event, MessageEnded):
            self._header = None
            if event.parsed.is_whole:
                self._whole.append(event.message)
        else:
            self._end(event)

    def _end(self, turn: TurnFinished) -> None:
        """The end says which messages belong to the turn, and which was cut off."""
        self._header = None
        self._whole = list(turn.result.history(finish_reason=turn.finish_reason))
        cut = turn.result.incomplete
        if cut is not None and not any(cut.message is message for message in self._whole):
            self._header, self._text = cut.header, cut.text

    def messages(self, no_result: str) -> list[Message]:
        said = [*self._whole, *self._begun()]
        answers = [
            answer
            for message in said
            if message.header.is_call
            for answer in self._answers(message, no_result)
        ]
        return said + answers

    def _begun(self) -> Sequence[Message]:
        """The message that was cut off, if it can stand as it is."""
        header = self._header
        if header is None or not self._text.strip():
            return ()
        if header.is_call or header.channel == Channel.ANALYSIS:
            return ()
        return (Message(Role.ASSISTANT, self._text, channel=header.channel),)

    def _answers(self, call: Message, no_result: str) -> Sequence[Message]:
        found = [result for message, result in self.results if message is call]
        return found or (tool_result(call, f"Error: {no_result}"),)
