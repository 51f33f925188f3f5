"""What happens during a run, and what it comes to."""

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

`"final"`: with an answer. `"no_final"`: the model stopped without one, or with an empty one.
`"call"`: with a call that nothing here can run; answer it and run again. `"length"`: the
backend cut a completion off.

The others are budgets of the run (`RunOptions`) that are used up: `"turn_limit"`,
`"retry_limit"`, `"call_limit"`, `"token_limit"`, `"time_limit"`; and `"context_limit"`: the
prompt is too long, and nothing more can be left out of it.
"""


@dataclass(frozen=True)
class Reply:
    """What a run came to.

    Attributes:
        outcome: How it ended.
        messages: The new messages: the model's and the tools'. What was cut off is not among
            them, as a call that is not whole must never be run.
        conversation: The whole conversation, ready to be continued.
        usage: The tokens that were used.
        calls: The calls that were not answered.
        state: From where the run can go on, with larger budgets: its end, or, where a
            completion was cut off, the beginning of that turn.
        completion: The last completion, as it was read; `None` if there was none.
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
        """The answer, also where it was cut off; `None` if there is none."""
        if self.completion is not None and self.completion.text is not None:
            return self.completion.text
        return next((m.text for m in reversed(self.messages) if is_answer(m)), None)

    @property
    def reasoning(self) -> str | None:
        """The reasoning of the last completion; `None` if there is none."""
        return None if self.completion is None else self.completion.reasoning

    def history(self) -> tuple[Message, ...]:
        """The new messages that may stand in a history: all of `messages`."""
        return self.messages


@distinct
class TurnStarted(NamedTuple):
    """A prompt goes to the backend.

    Attributes:
        prompt: Its tokens, which of them a model sampled, and whether it goes on, id for id, from
            the last prompt of the run and its completion.
        state: Where the run stands; saved now, the run can go on with this turn later.
    """

    prompt: Prompt
    state: RunState


@distinct
class ContextReduced(NamedTuple):
    """Messages were left out of a prompt that would be too long; comes before `TurnStarted`.

    They stay in the conversation.

    Attributes:
        left_out: All messages that this prompt leaves out.
        prompt_tokens: How long it would be with them.
    """

    left_out: tuple[Message, ...]
    prompt_tokens: int


@distinct
class TurnFinished(NamedTuple):
    """A completion is over.

    Attributes:
        result: What it says, and what was wrong with it.
        calls: The calls that it makes.
        usage: The tokens of this turn.
        finish_reason: Why it ended, as the backend says; `"abort"` where the time of the run
            was up.
    """

    result: Completion
    calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: FinishReason | None


@distinct
class ToolStarted(NamedTuple):
    """A call is being answered.

    Attributes:
        call: The call.
    """

    call: ToolCall


@distinct
class ToolReturned(NamedTuple):
    """A call was answered.

    The calls of a turn run at the same time, and are answered in any order; the results enter
    the conversation in the order of the calls.

    Attributes:
        call: The call.
        result: The message with its result, or with what was wrong.
        is_error: Whether something was wrong.
    """

    call: ToolCall
    result: Message
    is_error: bool


@distinct
class RunEnded(NamedTuple):
    """The run is over; always the last event.

    Attributes:
        reply: What it came to.
    """

    reply: Reply


RunEvent = (
    TurnStarted | ContextReduced | Event | TurnFinished | ToolStarted | ToolReturned | RunEnded
)
"""What happens during a run: its own events, and the parser's between the turns'."""
