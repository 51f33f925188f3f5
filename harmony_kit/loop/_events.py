"""The events of a run, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .._values import distinct
from ..calls import ToolCall
from ..engine._protocol import FinishReason
from ..wire._events import Completion, Event, is_answer
from ..wire._messages import Message
from ..wire._render import Prompt
from ._state import RunState, Usage

Outcome = Literal[
    "final",
    "no_final",
    "call",
    "length",
    "turn_limit",
    "retry_limit",
    "call_limit",
    "token_limit",
    "time_limit",
    "context_limit",
]
"""How a run ended.

`"final"`: with an answer. `"no_final"`: the model stopped without an answer or with an empty one.
`"call"`: with a call that the run cannot answer; answer it and run again. `"length"`: a completion
was truncated by the backend.

The others are exhausted budgets of `RunOptions`: `"turn_limit"`, `"retry_limit"`, `"call_limit"`,
`"token_limit"`, `"time_limit"`; and `"context_limit"`: the prompt is too long, and nothing more can
be left out of it.
"""


@dataclass(frozen=True)
class Reply:
    """The result of a run.

    Attributes:
        outcome: How the run ended.
        messages: The new messages of the model and the tools. A truncated message is not included,
            because an incomplete call must never be run.
        conversation: The whole conversation, ready to be continued.
        usage: The numbers of tokens used.
        calls: The unanswered calls.
        state: The state from which the run can be resumed with larger budgets: its end, or the
            start of a turn whose completion was truncated.
        completion: The last completion, as parsed; `None` if there was none.
    """

    outcome: Outcome
    messages: tuple[Message, ...]
    conversation: tuple[Message, ...]
    usage: Usage
    calls: tuple[ToolCall, ...]
    state: RunState
    completion: Completion | None = None

    @property
    def text(self) -> str | None:
        """The answer, even if it is truncated; `None` if there is none."""
        if self.completion is not None and self.completion.text is not None:
            return self.completion.text
        return next((m.text for m in reversed(self.messages) if is_answer(m)), None)

    @property
    def reasoning(self) -> str | None:
        """The reasoning of the last completion; `None` if there is none."""
        return None if self.completion is None else self.completion.reasoning

    def history(self) -> tuple[Message, ...]:
        """The new messages that may appear in a history: all of `messages`."""
        return self.messages


@distinct
class TurnStarted(NamedTuple):
    """A prompt is sent to the backend.

    Attributes:
        prompt: The prompt's tokens, which of them were sampled by a model, and whether it extends,
            id for id, the run's last prompt and completion.
        state: The state of the run; if it is saved, the run can be resumed with this turn.
    """

    prompt: Prompt
    state: RunState


@distinct
class ContextReduced(NamedTuple):
    """Messages were left out of a prompt that was too long; comes before `TurnStarted`.

    They stay in the conversation.

    Attributes:
        left_out: All messages that this prompt leaves out.
        prompt_tokens: The length of the prompt with them.
    """

    left_out: tuple[Message, ...]
    prompt_tokens: int


@distinct
class TurnFinished(NamedTuple):
    """A completion has ended.

    Attributes:
        result: The parsed completion with its problems.
        calls: The calls that it makes.
        usage: The numbers of tokens of this turn.
        finish_reason: Why it ended, as reported by the backend; `"abort"` if the time limit of the
            run was reached.
    """

    result: Completion
    calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: FinishReason | None


@distinct
class ToolStarted(NamedTuple):
    """A tool starts to run.

    Attributes:
        call: The call.
    """

    call: ToolCall


@distinct
class ToolReturned(NamedTuple):
    """A call has been answered.

    The calls of a turn run concurrently and are answered in any order; the results are added to the
    conversation in the order of the calls.

    Attributes:
        call: The call.
        result: The tool message with the result or an error.
        is_error: Whether the message reports an error.
    """

    call: ToolCall
    result: Message
    is_error: bool


@distinct
class RunEnded(NamedTuple):
    """The run has ended; always the last event.

    Attributes:
        reply: The result of the run.
    """

    reply: Reply


RunEvent = (
    TurnStarted | ContextReduced | Event | TurnFinished | ToolStarted | ToolReturned | RunEnded
)
"""The events of a run: its own, and during a turn those of the parser."""
