"""The steps of a run: turns of the model, and answers to its calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..calls import ToolCall
from ..engine._protocol import Backend, check_backend
from ..errors import HarmonyError
from ..sampling import SamplingParams
from ..tools import Toolbox, tool_calls
from ..tools._choice import ANY_TOOL, ToolChoice
from ..tools._declared import declared_namespaces
from ..wire._contents import ToolNamespace
from ..wire._events import Completion, TurnEnd
from ..wire._messages import Message
from ..wire._render import Prompt, checked_messages
from ..wire._roles import Role
from ..wire._vocabulary import RETURN
from ._answers import answers_of, not_run
from ._context import FittedPrompt, prompt_within
from ._events import (
    ContextReduced,
    Outcome,
    Reply,
    RunEvent,
    ToolReturned,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)
from ._options import RunOptions
from ._state import RunState
from ._turn import Turn, completion_by

if TYPE_CHECKING:
    from ..grammar import Constraint


class Run:
    """A run in progress: further steps follow until there is an `outcome`.

    Attributes:
        outcome: How the run ended; `None` before its end.
        open_calls: The unanswered calls.
    """

    def __init__(
        self, conversation: Iterable[Message] | RunState, backend: Backend, options: RunOptions
    ) -> None:
        check_backend(backend)
        state = _state_of(conversation)
        toolbox = options.tools if isinstance(options.tools, Toolbox) else Toolbox(options.tools)
        messages = toolbox.declared_in(state.messages)
        self._state = replace(state, messages=tuple(messages))
        self._last: Completion | None = None
        self._sequence = _Sequence()
        self._before_cut: RunState | None = None  # the state before a truncated turn
        self._toolbox = toolbox.merged_with(messages)
        self._declared = declared_namespaces(messages)
        self._backend = backend
        self._options = options
        self._constraints = _Constraints(messages, options)
        self._clock = _Clock(state.seconds, options.max_seconds)
        self.outcome: Outcome | None = None
        self.open_calls: tuple[ToolCall, ...] = ()
        self._open(_unanswered(messages, self._declared))

    @property
    def state(self) -> RunState:
        """The current state."""
        return replace(self._state, seconds=self._clock.seconds)

    def _open(self, calls: Iterable[ToolCall]) -> None:
        """Register the calls to be answered; a call without a tool name cannot be.

        They are answered here if all can be. They cannot be if the run has no tools at all, or if
        the conversation declares a tool without a function: then the caller has to answer.
        """
        self.open_calls = tuple(call for call in calls if call.message.recipient is not None)
        toolbox = self._toolbox
        can_answer = bool(toolbox.tools) and all(map(toolbox.can_answer, self.open_calls))
        if self.open_calls and not can_answer:
            self.outcome = "call"

    def _append(self, messages: Iterable[Message], **changes: Any) -> None:
        new = tuple(messages)
        state = self._state
        self._state = replace(
            state, messages=state.messages + new, new=state.new + len(new), **changes
        )

    # Turns

    async def turn(self) -> AsyncGenerator[RunEvent, None]:
        """A turn of the model, if the budgets allow one."""
        self.outcome = self._used_up()
        if self.outcome is not None:
            return
        fitted = self._prompt()
        if fitted is None:
            self.outcome = "context_limit"
            return
        if fitted.left_out:
            yield ContextReduced(fitted.left_out, fitted.full_length)
        before = self.state
        prompt = self._sequence.follow(fitted.prompt)
        yield TurnStarted(prompt, before)
        turn = Turn(prompt.tokens)
        deltas = completion_by(self._backend, prompt.tokens, self._sampling(), self._clock.deadline)
        async with aclosing(deltas):
            async for delta in deltas:
                self._sequence.add(delta.tokens)
                for event in turn.feed(delta):
                    yield event
        for event in turn.close(may_end_in_text=bool(self._options.sampling.stop)):
            yield event
        ended = turn.ended(self._declared)
        yield ended
        usage = before.usage + ended.usage
        self._last = ended.result
        history = ended.result.history(finish_reason=ended.finish_reason)
        # An incomplete call is left out, unanswered: the model has to make it again.
        kept = set(map(id, history))
        turn_messages = [parsed.message for parsed in ended.result.turn]
        made = {id(turn_messages[call.message_index]): call for call in ended.calls}
        calls = [call for original, call in made.items() if original in kept]
        # A call whose tool was named elsewhere in its header has the recipient that was meant.
        history = tuple(made[id(m)].message if id(m) in made else m for m in history)
        must_repeat = bool(ended.calls) and not calls and ended.result.text is None
        faults = before.faulty_turns + must_repeat
        self._append(history, usage=usage, turns=before.turns + 1, faulty_turns=faults)
        self.outcome = self._cut_off(ended)
        if self.outcome is not None:
            self._before_cut = replace(before, usage=usage)
            return
        self._open(calls)
        if not self.open_calls and not must_repeat:
            has_answer = ended.result.text is not None and not calls
            self.outcome = "final" if has_answer else "no_final"

    def _used_up(self) -> Outcome | None:
        """The exhausted budget; `None` if another turn is allowed."""
        options, state = self._options, self._state
        if state.faulty_turns > options.max_retries:
            return "retry_limit"
        if state.turns >= options.max_turns:
            return "turn_limit"
        left = self._tokens_left()
        if left is not None and left < 1:
            return "token_limit"
        return "time_limit" if self._clock.is_over else None

    def _tokens_left(self) -> int | None:
        most = self._options.max_completion_tokens
        return None if most is None else most - self._state.usage.completion_tokens

    def _prompt(self) -> FittedPrompt | None:
        options = self._options
        return prompt_within(
            self._state.messages,
            options.max_prompt_tokens,
            options.context_policy,
            options.rendering,
        )

    def _sampling(self) -> SamplingParams:
        sampling = self._options.sampling
        limits = [n for n in (sampling.max_tokens, self._tokens_left()) if n is not None]
        constraint = self._constraints.current() or sampling.constraint
        return replace(sampling, max_tokens=min(limits, default=None), constraint=constraint)

    def _cut_off(self, ended: TurnFinished) -> Outcome | None:
        if ended.finish_reason == "abort" and self._clock.is_over:
            return "time_limit"
        if ended.finish_reason != "length" or ended.result.turn_end is not TurnEnd.LENGTH:
            return None
        left = self._tokens_left()
        return "length" if left is None or left > 0 else "token_limit"

    # Calls

    async def answers(self) -> AsyncGenerator[RunEvent, None]:
        """The answers to the calls of a turn, if the budget allows them."""
        state, calls = self._state, self.open_calls
        most = self._options.max_tool_calls
        left = len(calls) if most is None else max(most - state.tool_calls, 0)
        run, beyond = calls[:left], calls[left:]
        if beyond and state.is_warned:
            self.outcome = "call_limit"
            return
        answers = [*map(not_run, calls)]
        for call in run:
            yield ToolStarted(call)
        steps = answers_of(self._toolbox, run, self._clock.deadline)
        async with aclosing(steps) as events:
            async for index, answer in events:
                answers[index] = answer
                yield ToolReturned(run[index], answer.message, answer.is_error)
        for call, answer in zip(beyond, answers[left:], strict=True):
            yield ToolReturned(call, answer.message, answer.is_error)
        self._append(
            (answer.message for answer in answers),
            tool_calls=state.tool_calls + len(run),
            faulty_turns=state.faulty_turns + any(answer.is_error for answer in answers[:left]),
            is_warned=state.is_warned or bool(beyond),
        )
        self.open_calls = ()
        if any(call.runnable for call in run):
            self._constraints.called()

    # The end

    def reply(self, outcome: Outcome) -> Reply:
        """The result of the run."""
        state = self.state
        new = state.messages[len(state.messages) - state.new :]
        going_on = state if self._before_cut is None else self._before_cut
        going_on = replace(going_on, seconds=state.seconds)
        return Reply(
            outcome, new, state.messages, state.usage, self.open_calls, going_on, self._last
        )


def _state_of(conversation: Iterable[Message] | RunState) -> RunState:
    if isinstance(conversation, RunState):
        return conversation
    return RunState(checked_messages(conversation))


def _unanswered(
    messages: Sequence[Message], declared: Iterable[ToolNamespace]
) -> tuple[ToolCall, ...]:
    """The calls of the last turn of a conversation."""
    start = len(messages)
    while start and messages[start - 1].role is Role.ASSISTANT:
        start -= 1
    return tool_calls(messages[start:], declared)


class _Sequence:
    """The ids of the last prompt and its completion."""

    def __init__(self) -> None:
        self._ids: list[int] = []

    def add(self, ids: Iterable[int]) -> None:
        self._ids += ids

    def follow(self, prompt: Prompt) -> Prompt:
        """The next prompt, with a note of whether it extends those ids."""
        before, self._ids = self._ids, list(prompt.tokens)
        if before and before[-1] == RETURN:
            before.pop()
        extends = bool(before) and prompt.tokens[: len(before)] == before
        return replace(prompt, extends=extends)


class _Clock:
    """The elapsed time and the deadline of a run."""

    def __init__(self, seconds: float, most: float | None) -> None:
        import asyncio

        self._time = asyncio.get_running_loop().time
        self._start = self._time() - seconds
        self.deadline = None if most is None else self._start + most

    @property
    def seconds(self) -> float:
        return self._time() - self._start

    @property
    def is_over(self) -> bool:
        return self.deadline is not None and self._time() >= self.deadline


class _Constraints:
    """The constraints of a run's completions; each grammar is built once."""

    def __init__(self, messages: Sequence[Message], options: RunOptions) -> None:
        self._messages = messages
        self._choice = options.tool_choice
        self._always = options.constrained
        self._made: dict[ToolChoice | str, Constraint] = {}
        if self.current() is not None and options.sampling.constraint is not None:
            raise HarmonyError(
                "the sampling already has a constraint: remove it, or constrained and tool_choice"
            )

    def current(self) -> Constraint | None:
        """The constraint of the next turn."""
        choice = self._choice
        if choice in ("auto", ANY_TOOL) and not self._always:
            return None
        if choice not in self._made:
            from ..grammar import conversation_constraint  # imported late: few runs need it

            self._made[choice] = conversation_constraint(self._messages, tool_choice=choice)
        return self._made[choice]

    def called(self) -> None:
        """Note that a tool was called, so that a required call is no longer required."""
        choice = self._choice
        if isinstance(choice, ToolChoice):
            self._choice = replace(choice, mode="auto") if choice.mode == "required" else choice
        elif choice != "none":
            self._choice = "auto"
