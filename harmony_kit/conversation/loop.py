"""The loop: render, generate, parse, call tools, and again until the model answers.

`run` and `arun` give the outcome; `stream` and `astream` give all that happens on the way.
Reading is lenient: whatever the model writes, the loop goes on with what it meant, and what
cannot be run is told to the model, a limited number of times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Unpack

from ..errors import HarmonyError
from ..generation import Backend
from ..messages import Message
from .events import Reply, RunEnded, RunEvent
from .options import RunOptions
from .state import RunState
from .steps import Run

if TYPE_CHECKING:
    import asyncio

# --- Running --------------------------------------------------------------------------------


def run(
    conversation: Iterable[Message] | RunState, backend: Backend, **options: Unpack[RunOptions]
) -> Reply:
    """Let the model go on with a conversation, calling tools, until it answers.

    Args:
        conversation: The messages so far, or where an earlier run stood.
        backend: What generates.
        **options: See `RunOptions`.

    Raises:
        HarmonyError: A message cannot be rendered, or this was
            called within an event loop (`await arun` there).
        BackendError: The backend failed.
    """
    with _event_loop() as loop:
        return loop.run(arun(conversation, backend, **options))


async def arun(
    conversation: Iterable[Message] | RunState, backend: Backend, **options: Unpack[RunOptions]
) -> Reply:
    """Like `run`, within an event loop.

    Args:
        conversation: The messages so far, or where an earlier run stood.
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
    conversation: Iterable[Message] | RunState, backend: Backend, **options: Unpack[RunOptions]
) -> Iterator[RunEvent]:
    """Like `run`, giving every event as it happens.

    Args:
        conversation: The messages so far, or where an earlier run stood.
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
    conversation: Iterable[Message] | RunState, backend: Backend, **options: Unpack[RunOptions]
) -> AsyncGenerator[RunEvent, None]:
    """Like `arun`, giving every event as it happens.

    Args:
        conversation: The messages so far, or where an earlier run stood.
        backend: What generates.
        **options: See `RunOptions`.

    Yields:
        The events of the run; the last is `RunEnded`.

    Raises:
        HarmonyError: A message cannot be rendered.
        BackendError: The backend failed.
    """
    run = Run(conversation, backend, options)
    while run.outcome is None:
        step = run.answers() if run.open_calls else run.turn()
        async with aclosing(step) as events:
            async for event in events:
                yield event
    yield RunEnded(run.reply(run.outcome))
