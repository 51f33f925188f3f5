"""The loop: render, generate, parse, run tools, and repeat until the model answers.

`run` and `arun` return the result; `stream` and `astream` also yield the events.
Parsing is lenient: a malformed completion is repaired where its meaning is clear, and a call that
cannot be run is reported to the model, a limited number of times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Unpack

from ..engine._protocol import Backend
from ..errors import HarmonyError
from ..wire._messages import Message
from ._events import Reply, RunEnded, RunEvent
from ._options import RunKeywords, RunOptions
from ._state import RunState
from ._steps import Run

if TYPE_CHECKING:
    import asyncio

# --- Running --------------------------------------------------------------------------------


def run(
    conversation: Iterable[Message] | RunState,
    backend: Backend,
    *,
    options: RunOptions | None = None,
    **changes: Unpack[RunKeywords],
) -> Reply:
    """Continue a conversation with a model, running its tool calls, until it answers.

    Args:
        conversation: The messages so far, or the state of an earlier run.
        backend: The backend that generates the completions.
        options: The options of the run.
        **changes: Options that override `options`: fields of `RunOptions` and `RenderOptions`.

    Raises:
        HarmonyError: A message cannot be rendered, or an event loop is running (use `await arun`).
        BackendError: The backend failed.
        OptionError: An option has an invalid value.
        TypeError: An option does not exist.

    Example:
        >>> from harmony_kit import load_backend, user
        >>> def generate(prompt, sampling):
        ...     return "<|channel|>final<|message|>Hello!<|return|>"
        >>> backend = load_backend("function", function=generate)
        >>> reply = run([user("Hi")], backend)
        >>> reply.text, reply.outcome
        ('Hello!', 'final')
    """
    chosen = RunOptions.of(options, changes, "run")
    with _event_loop() as loop:
        return loop.run(_reply(_events(conversation, backend, chosen)))


async def arun(
    conversation: Iterable[Message] | RunState,
    backend: Backend,
    *,
    options: RunOptions | None = None,
    **changes: Unpack[RunKeywords],
) -> Reply:
    """Like `run`, within an event loop.

    Args:
        conversation: The messages so far, or the state of an earlier run.
        backend: The backend that generates the completions.
        options: As for `run`.
        **changes: As for `run`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
        OptionError: As for `run`.
        TypeError: As for `run`.

    Example:
        >>> import asyncio
        >>> from harmony_kit import load_backend, user
        >>> def generate(prompt, sampling):
        ...     return "<|channel|>final<|message|>Hello!<|return|>"
        >>> backend = load_backend("function", function=generate)
        >>> asyncio.run(arun([user("Hi")], backend)).text
        'Hello!'
    """
    chosen = RunOptions.of(options, changes, "arun")
    return await _reply(_events(conversation, backend, chosen))


def stream(
    conversation: Iterable[Message] | RunState,
    backend: Backend,
    *,
    options: RunOptions | None = None,
    **changes: Unpack[RunKeywords],
) -> Generator[RunEvent, None, None]:
    """Like `run`, yielding every event as it happens.

    Args:
        conversation: The messages so far, or the state of an earlier run.
        backend: The backend that generates the completions.
        options: As for `run`.
        **changes: As for `run`.

    Returns:
        A generator of the events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: As for `run`.
        BackendError: The backend failed.
        OptionError: As for `run`; raised before the first event.
        TypeError: As for `run`; raised before the first event.

    Example:
        >>> from harmony_kit import load_backend, user
        >>> def generate(prompt, sampling):
        ...     return "<|channel|>final<|message|>Hello!<|return|>"
        >>> backend = load_backend("function", function=generate)
        >>> for event in stream([user("Hi")], backend):
        ...     print(type(event).__name__)
        TurnStarted
        ...
        RunEnded
    """
    chosen = RunOptions.of(options, changes, "stream")
    return _stream(conversation, backend, chosen)


def astream(
    conversation: Iterable[Message] | RunState,
    backend: Backend,
    *,
    options: RunOptions | None = None,
    **changes: Unpack[RunKeywords],
) -> AsyncGenerator[RunEvent, None]:
    """Like `arun`, yielding every event as it happens.

    Args:
        conversation: The messages so far, or the state of an earlier run.
        backend: The backend that generates the completions.
        options: As for `run`.
        **changes: As for `run`.

    Returns:
        An asynchronous generator of the events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
        OptionError: As for `run`; raised before the first event.
        TypeError: As for `run`; raised before the first event.

    Example:
        >>> import asyncio
        >>> from harmony_kit import load_backend, user
        >>> def generate(prompt, sampling):
        ...     return "<|channel|>final<|message|>Hello!<|return|>"
        >>> backend = load_backend("function", function=generate)
        >>> async def names():
        ...     return [type(event).__name__ async for event in astream([user("Hi")], backend)]
        >>> asyncio.run(names())[-1]
        'RunEnded'
    """
    chosen = RunOptions.of(options, changes, "astream")
    return _events(conversation, backend, chosen)


# --- How they do it -------------------------------------------------------------------------


async def _events(
    conversation: Iterable[Message] | RunState, backend: Backend, options: RunOptions
) -> AsyncGenerator[RunEvent, None]:
    run = Run(conversation, backend, options)
    while run.outcome is None:
        step = run.answers() if run.open_calls else run.turn()
        async with aclosing(step) as events:
            async for event in events:
                yield event
    yield RunEnded(run.reply(run.outcome))


async def _reply(events: AsyncGenerator[RunEvent, None]) -> Reply:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, RunEnded):
                return event.reply
    raise AssertionError("a run ends with its reply")


def _stream(
    conversation: Iterable[Message] | RunState, backend: Backend, options: RunOptions
) -> Generator[RunEvent, None, None]:
    with _event_loop() as loop:
        events = _events(conversation, backend, options)
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
