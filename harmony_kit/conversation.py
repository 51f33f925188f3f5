"""The loop: render, generate, parse, call tools, and again until the model answers.

`run` and `arun` give the outcome; `stream` and `astream` give all that happens on the way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict, Unpack

from .build import developer
from .errors import HarmonyError, ParseError
from .generation import Backend, FinishReason, Sampling
from .header import HeaderOrder
from .messages import (
    FUNCTIONS,
    Channel,
    DeveloperContent,
    Message,
    Role,
    SchemaStyle,
    Tool,
    ToolNamespace,
)
from .parse import Event, Parser, ParseResult
from .render import DropAnalysis, render
from .tools import Toolbox, ToolLike, declared_tools

if TYPE_CHECKING:
    import asyncio

Outcome = Literal["final", "no_final", "call", "length", "turn_limit"]
"""How a run ended.

`"final"`: with an answer. `"no_final"`: the model stopped without one. `"call"`: with a call
that nothing here can run; answer it and run again. `"length"`: cut off at the token limit.
`"turn_limit"`: after as many turns as were allowed.
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
    """

    outcome: Outcome
    messages: tuple[Message, ...]
    conversation: tuple[Message, ...]
    usage: Usage

    @property
    def text(self) -> str | None:
        """The answer, or `None` if there is none."""
        for message in reversed(self.messages):
            if message.role is Role.ASSISTANT and message.channel == Channel.FINAL:
                return message.text
        return None

    @property
    def calls(self) -> tuple[Message, ...]:
        """The calls that were not answered."""
        answered = {m.name for m in self.messages if m.role is Role.TOOL}
        return tuple(m for m in _calls(self.messages) if m.recipient not in answered)


class TurnStarted(NamedTuple):
    """A prompt goes to the backend.

    Attributes:
        prompt: Its tokens.
    """

    prompt: Sequence[int]


class TurnEnded(NamedTuple):
    """A completion is over.

    Attributes:
        result: What it says.
        usage: The tokens of this turn.
        finish_reason: Why it ended, as the backend says.
    """

    result: ParseResult
    usage: Usage
    finish_reason: FinishReason | None


class ToolReturned(NamedTuple):
    """A tool was run.

    Attributes:
        call: The call.
        result: The message with its result.
    """

    call: Message
    result: Message


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
        tools: What may be called: functions, or `Tool`s with functions. Those that the
            conversation does not declare are declared in its first developer message, or in
            a new one. Tools that the conversation declares with their functions need not be
            repeated.
        sampling: How tokens are chosen.
        max_turns: The most completions; 10 by default.
        drop_analysis: Which reasoning of earlier turns the prompts leave out; as for `render`.
        header_order: Where the recipient stands in a header; as for `render`.
        schema_style: How tool parameters are written; as for `render`.
    """

    tools: Iterable[ToolLike]
    sampling: Sampling
    max_turns: int
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
        HarmonyError: A message cannot be rendered, a completion cannot be read, or this was
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
        HarmonyError: A message cannot be rendered, or a completion cannot be read.
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
        HarmonyError: A message cannot be rendered, or a completion cannot be read.
        BackendError: The backend failed.
    """
    toolbox = Toolbox(options.get("tools", ()))
    messages = _declaring(tuple(conversation), toolbox)
    toolbox.add_declared(messages)
    given = len(messages)
    usage = Usage()
    outcome: Outcome = "turn_limit"
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
        ended = TurnEnded(turn.parser.result(), turn.usage(prompt), turn.finish_reason)
        yield ended
        usage += ended.usage
        messages += ended.result.messages
        calls = _calls(ended.result.messages)
        outcome = _outcome(ended, calls)
        if outcome != "call" or not toolbox.can_answer(calls, messages):
            break
        for call in calls:
            result = await toolbox.run(call)
            messages.append(result)
            yield ToolReturned(call, result)
        outcome = "turn_limit"
    yield RunEnded(Reply(outcome, tuple(messages[given:]), tuple(messages), usage))


class _Turn:
    """One completion while it is generated."""

    def __init__(self) -> None:
        self.parser = Parser()
        self.finish_reason: FinishReason | None = None

    async def complete(
        self, backend: Backend, prompt: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Event, None]:
        deltas = backend.generate(prompt, sampling)
        try:
            async for tokens, finish_reason in deltas:
                self.finish_reason = finish_reason or self.finish_reason
                for event in self.parser.feed(tokens):
                    yield event
        finally:
            # An iterator need not be a generator; one that is aborts its request this way.
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()
        for event in self._close():
            yield event

    def _close(self) -> list[Event]:
        try:
            return self.parser.close()
        except ParseError:
            if self.finish_reason != "length":
                raise
            return []  # cut off inside a header: nothing of that message is known

    def usage(self, prompt: Sequence[int]) -> Usage:
        return Usage(len(prompt), self.parser.position)


def _outcome(turn: TurnEnded, calls: Sequence[Message]) -> Outcome:
    if turn.result.stop is None and turn.finish_reason == "length":
        return "length"
    if calls:
        return "call"
    final = any(message.channel == Channel.FINAL for message in turn.result.messages)
    return "final" if final else "no_final"


def _calls(messages: Iterable[Message]) -> list[Message]:
    """The messages in which the model addresses a tool."""
    return [
        message
        for message in messages
        if message.role is Role.ASSISTANT and message.recipient not in _NO_TOOLS
    ]


_NO_TOOLS: Final = frozenset({None, "all", "user", "assistant"})


# --- Declaring tools ------------------------------------------------------------------------


def _declaring(conversation: tuple[Message, ...], toolbox: Toolbox) -> list[Message]:
    """The conversation, declaring all tools of the toolbox."""
    messages = list(conversation)
    declared = declared_tools(conversation)
    missing = [tool for name, tool in toolbox.items() if name not in declared]
    if not missing:
        return messages
    for index, message in enumerate(messages):
        if isinstance(message.content, DeveloperContent):
            content = _with_functions(message.content, missing)
            messages[index] = replace(message, content=content)
            return messages
    after = sum(message.role is Role.SYSTEM for message in messages[:1])
    messages.insert(after, developer(tools=missing))
    return messages


def _with_functions(content: DeveloperContent, tools: Iterable[Tool]) -> DeveloperContent:
    namespaces = {namespace.name: namespace for namespace in content.tools}
    functions = namespaces.get(FUNCTIONS, ToolNamespace(FUNCTIONS))
    namespaces[FUNCTIONS] = replace(functions, tools=(*functions.tools, *tools))
    return replace(content, tools=tuple(namespaces.values()))
