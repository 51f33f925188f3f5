"""The loop: render, generate, parse, call tools, and again until the model answers.

`run` and `arun` give the outcome; `stream` and `astream` give all that happens on the way.
Reading is lenient: whatever the model writes, the loop goes on with what it meant, and what
cannot be run is told to the model, a limited number of times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, Unpack

from .errors import HarmonyError
from .generation import Backend, FinishReason, completion_of
from .header import HeaderOrder, header_of
from .messages import Channel, Message, Role, SchemaStyle, ToolNamespace
from .parse import Parser
from .parsed import Event, ParseResult, TurnEnd
from .render import DropAnalysis, render
from .sampling import Sampling
from .tools import (
    Toolbox,
    ToolCall,
    ToolsLike,
    declared_namespaces,
    tool_calls,
)

if TYPE_CHECKING:
    import asyncio

Outcome = Literal["final", "no_final", "call", "length", "turn_limit", "retry_limit"]
"""How a run ended.

`"final"`: with an answer. `"no_final"`: the model stopped without one, or with an empty one.
`"call"`: with a call that nothing here can run; answer it and run again. `"length"`: cut off
at the token limit. `"turn_limit"`: after as many turns as were allowed. `"retry_limit"`: after
as many turns whose calls went wrong as were allowed.
"""


@dataclass(frozen=True)
class Usage:
    """Tokens that were used.

    Attributes:
        prompt_tokens: The prompts of all turns together.
        completion_tokens: The completions of all turns together, stop tokens included.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Reply:
    """What a run came to.

    Attributes:
        outcome: How it ended.
        messages: The new messages: the model's and the tools'.
        conversation: The whole conversation, ready to be continued.
        usage: The tokens that were used.
        calls: The calls that were not answered.
    """

    outcome: Outcome
    messages: tuple[Message, ...]
    conversation: tuple[Message, ...]
    usage: Usage
    calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str | None:
        """The answer, or `None` if there is none."""
        return next((m.text for m in reversed(self.messages) if _is_answer(m)), None)


class TurnStarted(NamedTuple):
    """A prompt goes to the backend.

    Attributes:
        prompt: Its tokens.
    """

    prompt: Sequence[int]


class TurnEnded(NamedTuple):
    """A completion is over.

    Attributes:
        result: What it says, and what was wrong with it.
        calls: The calls that it makes.
        usage: The tokens of this turn.
        finish_reason: Why it ended, as the backend says.
    """

    result: ParseResult
    calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: FinishReason | None


class ToolReturned(NamedTuple):
    """A call was answered.

    Attributes:
        call: The call.
        result: The message with its result, or with what was wrong.
        is_error: Whether something was wrong.
    """

    call: ToolCall
    result: Message
    is_error: bool


class RunEnded(NamedTuple):
    """The run is over; always the last event.

    Attributes:
        reply: What it came to.
    """

    reply: Reply


RunEvent = TurnStarted | Event | TurnEnded | ToolReturned | RunEnded
"""What happens during a run: its own events, and the parser's between the turns'."""


class RunOptions(TypedDict, total=False):
    """How a run goes; the keyword arguments of `run`, `arun`, `stream` and `astream`.

    Attributes:
        tools: What may be called: functions, `Tool`s and namespaces with functions, sources
            such as an MCP server, or a `Toolbox`. Those that the conversation does not declare
            are declared in its first developer message, python and the browser in its first
            system message, or in a new one. Tools that the conversation declares with their
            functions need not be repeated.
        sampling: How tokens are chosen.
        max_turns: The most completions; 10 by default.
        max_retries: The most completions in which a call goes wrong, in its name, in its
            arguments or in the tool, before the run ends; 3 by default.
        drop_analysis: Which reasoning of earlier turns the prompts leave out; as for `render`.
        header_order: Where the recipient stands in a header; as for `render`.
        schema_style: How tool parameters are written; as for `render`.
    """

    tools: Iterable[ToolsLike]
    sampling: Sampling
    max_turns: int
    max_retries: int
    drop_analysis: DropAnalysis
    header_order: HeaderOrder
    schema_style: SchemaStyle


# --- Running --------------------------------------------------------------------------------


def run(conversation: Iterable[Message], backend: Backend, **options: Unpack[RunOptions]) -> Reply:
    """Let the model go on with a conversation, calling tools, until it answers.

    Args:
        conversation: The messages so far.
        backend: What generates.
        **options: See `RunOptions`.

    Raises:
        HarmonyError: A message cannot be rendered, or this was
            called within an event loop (`await arun` there).
        BackendError: The backend failed.
    """
    for event in stream(conversation, backend, **options):
        if isinstance(event, RunEnded):
            return event.reply
    raise AssertionError("a run ends with its reply")


async def arun(
    conversation: Iterable[Message], backend: Backend, **options: Unpack[RunOptions]
) -> Reply:
    """Like `run`, within an event loop.

    Args:
        conversation: The messages so far.
        backend: What generates.
        **options: See `RunOptions`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
    """
    async with aclosing(astream(conversation, backend, **options)) as events:
        async for event in events:
            if isinstance(event, RunEnded):
                return event.reply
    raise AssertionError("a run ends with its reply")


def stream(
    conversation: Iterable[Message], backend: Backend, **options: Unpack[RunOptions]
) -> Iterator[RunEvent]:
    """Like `run`, giving every event as it happens.

    Args:
        conversation: The messages so far.
        backend: What generates.
        **options: See `RunOptions`.

    Yields:
        The events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: As for `run`.
        BackendError: The backend failed.
    """
    with _event_loop() as loop:
        events = astream(conversation, backend, **options)
        try:
            while True:
                try:
                    event = loop.run(anext(events))
                except StopAsyncIteration:
                    return
                yield event
        finally:
            loop.run(events.aclose())


@contextmanager
def _event_loop() -> Iterator[asyncio.Runner]:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            yield runner
    else:
        raise HarmonyError("an event loop is running here: use arun or astream")


async def astream(
    conversation: Iterable[Message], backend: Backend, **options: Unpack[RunOptions]
) -> AsyncGenerator[RunEvent, None]:
    """Like `arun`, giving every event as it happens.

    Args:
        conversation: The messages so far.
        backend: What generates.
        **options: See `RunOptions`.

    Yields:
        The events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
    """
    tools = options.get("tools", ())
    toolbox = tools if isinstance(tools, Toolbox) else Toolbox(tools)
    messages = toolbox.declared_in(conversation)
    toolbox = toolbox.including(messages)
    namespaces = declared_namespaces(messages)
    given = len(messages)
    usage = Usage()
    outcome: Outcome = "turn_limit"
    open_calls: tuple[ToolCall, ...] = ()
    retries = options.get("max_retries", 3)
    for _ in range(options.get("max_turns", 10)):
        prompt = render(
            messages,
            drop_analysis=options.get("drop_analysis", "reference"),
            header_order=options.get("header_order", "recipient-first"),
            schema_style=options.get("schema_style", "reference"),
        )
        yield TurnStarted(prompt)
        turn = _Turn()
        sampling = options.get("sampling", Sampling())
        async with aclosing(turn.complete(backend, prompt, sampling)) as events:
            async for event in events:
                yield event
        ended = turn.ended(prompt, namespaces)
        yield ended
        usage += ended.usage
        messages += ended.result.turn
        open_calls = _open(ended.calls)
        outcome = _outcome(ended, open_calls)
        if outcome != "call" or not _can_answer(open_calls, toolbox):
            break
        went_wrong = False
        for call in open_calls:
            answer = await toolbox.run(call)
            went_wrong |= answer.is_error
            messages.append(answer.message)
            yield ToolReturned(call, answer.message, answer.is_error)
        open_calls = ()
        outcome = "turn_limit"
        retries -= went_wrong
        if retries < 0:
            outcome = "retry_limit"
            break
    new = tuple(messages[given:])
    yield RunEnded(Reply(outcome, new, tuple(messages), usage, open_calls))


class _Turn:
    """One completion while it is generated."""

    def __init__(self) -> None:
        self.parser = Parser()
        self.finish_reason: FinishReason | None = None

    async def complete(
        self, backend: Backend, prompt: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(completion_of(backend, prompt, sampling)) as deltas:
            async for delta in deltas:
                self.finish_reason = delta.finish_reason or self.finish_reason
                for event in self.parser.feed(delta.tokens):
                    yield event
        for event in self.parser.close():
            yield event

    def ended(self, prompt: Sequence[int], tools: Iterable[ToolNamespace]) -> TurnEnded:
        """What came of it."""
        result = self.parser.result()
        usage = Usage(len(prompt), self.parser.position)
        return TurnEnded(result, tool_calls(result, tools), usage, self.finish_reason)


def _outcome(turn: TurnEnded, calls: Sequence[ToolCall]) -> Outcome:
    if turn.finish_reason == "length" and turn.result.turn_end is TurnEnd.LENGTH:
        return "length"
    if calls:
        return "call"
    return "final" if any(map(_is_answer, turn.result.turn)) else "no_final"


def _is_answer(message: Message) -> bool:
    is_final = message.role is Role.ASSISTANT and message.channel == Channel.FINAL
    return is_final and not header_of(message).is_call and message.text != ""


def _open(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls that want an answer: one that addresses nobody cannot be given any."""
    return tuple(call for call in calls if call.message.recipient is not None)


def _can_answer(calls: Iterable[ToolCall], toolbox: Toolbox) -> bool:
    """Whether all calls can be answered here.

    They cannot if there is no tool here at all, or for a tool that the conversation declares
    without a function: then whoever declared it answers.
    """
    return len(toolbox.tools) > 0 and all(map(toolbox.can_answer, calls))
