"""The messages of a run, whether it finished or was stopped."""

from __future__ import annotations

from collections.abc import Sequence

from ..loop import RunEvent, ToolReturned, TurnFinished, TurnStarted
from ..tools import tool_result
from ..wire._events import ContentDelta, MessageEnded, MessageStarted, is_reasoning
from ..wire._messages import Header, Message
from ..wire._roles import Channel, Role


class Said:
    """Collects a run's messages from its events.

    However the run ends, `messages` are valid in a conversation: every call has a result, a
    truncated call is left out, and there is no reasoning at the end. A truncated answer is kept.
    """

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    def take(self, event: RunEvent) -> None:
        """Process the next event of the run."""
        if isinstance(event, TurnStarted):
            self._turns.append(_Turn())
        elif isinstance(event, MessageStarted | ContentDelta | MessageEnded | TurnFinished):
            self._turns[-1].take(event)
        elif isinstance(event, ToolReturned):
            self._turns[-1].results.append((event.call.message, event.result))

    def messages(self, no_result: str) -> list[Message]:
        """The messages so far; `no_result` is the error for unanswered calls."""
        said = [message for turn in self._turns for message in turn.messages(no_result)]
        while said and is_reasoning(said[-1]):
            said.pop()
        return said


class _Turn:
    """One completion, and the results of its calls."""

    def __init__(self) -> None:
        self.results: list[tuple[Message, Message]] = []  # (call, result)
        self._whole: list[Message] = []
        self._header: Header | None = None  # of the open message
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
        """Take over the turn's own list of messages, which excludes a truncated one."""
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
        """The truncated message, if it is valid in a conversation."""
        header = self._header
        if header is None or not self._text.strip():
            return ()
        if header.is_call or header.channel == Channel.ANALYSIS:
            return ()
        return (Message(Role.ASSISTANT, self._text, channel=header.channel),)

    def _answers(self, call: Message, no_result: str) -> Sequence[Message]:
        found = [result for message, result in self.results if message is call]
        return found or (tool_result(call, f"Error: {no_result}"),)
