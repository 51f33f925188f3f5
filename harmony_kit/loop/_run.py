"""The loop: render, generate, parse, call tools, and again until the model answers.

`run` and `arun` give the outcome; `stream` and `astream` give all that happens on the way.
Reading is lenient: whatever the model writes, the loop goes on with what it meant, and what
cannot be run is told to the model, a limited number of times.
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
    """Let the model go on with a conversation, calling tools, until it answers.

    Args:
        conversation: The messages so far, or where an earlier run stood.
        backend: What generates.
        options: How the run goes.
        **changes: Options that differ from those: the fields of `RunOptions`, and of
            `RenderOptions`.

    Raises:
        HarmonyError: A message cannot be rendered, or this was
            called within an event loop (`await arun` there).
        BackendError: The backend failed.
        OptionError: An option has a value that it cannot have.
        TypeError: An option has an unknown name.
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
        conversation: The messages so far, or where an earlier run stood.
        backend: What generates.
        options: As for `run`.
        **changes: As for `run`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
        OptionError: As for `run`.
        TypeError: As for `run`.
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
    """Like `run`, giving every event as it happens.

    Args:
        conversation: The messages so far, or where an earlier run stood.
        backend: What generates.
        options: As for `run`.
        **changes: As for `run`.

    Returns:
        The events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: As for `run`.
        BackendError: The backend failed.
        OptionError: As for `run`; raised before the first event is asked for.
        TypeError: As for `run`; raised before the first event is asked for.
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
    """Like `arun`, giving every event as it happens.

    Args:
        conversation: The messages so far, or where an earlier run stood.
        backend: What generates.
        options: As for `run`.
        **changes: As for `run`.

    Returns:
        The events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
        OptionError: As for `run`; raised before the first event is asked for.
        TypeError: As for `run`; raised before the first event is asked for.
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
