"""Running a function once, within a timeout, without blocking the event loop.

An async function runs as a task, which is cancelled at the timeout or with the caller. A plain
function runs in its own daemon thread: it cannot be stopped, but does not keep the process from
exiting.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio

_GRACE: Final = 10.0
"""The time that a cancelled function has to clean up before it is abandoned, in seconds."""


class TimeIsUpError(Exception):
    """A function exceeded its timeout; distinct from a `TimeoutError` that it raised itself."""


class StoppedError(Exception):
    """A function raised an exception that would end more than the call, such as `SystemExit`."""


async def run_within(function: Callable[[], Any], timeout: float | None) -> Any:
    """The result of a function, sync or async; `timeout` is in seconds.

    An awaitable result is awaited, and a generator becomes a tuple of its items.

    Raises:
        TimeIsUpError: It exceeded the timeout; an async function was cancelled.
        StoppedError: It raised `SystemExit`, or `CancelledError` without having been cancelled.
        Exception: Any other exception of the function.
    """
    import asyncio

    task = asyncio.ensure_future(_outcome(function))
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
        if not done:
            raise TimeIsUpError
        if task.cancelled():
            raise StoppedError("it was cancelled from within")
        return task.result()
    finally:
        if not task.done():
            await _stop(task)


async def _stop(task: asyncio.Future[Any]) -> None:
    import asyncio

    task.cancel()
    await asyncio.wait({task}, timeout=_GRACE)
    if task.done() and not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not log it


async def _outcome(function: Callable[[], Any]) -> Any:
    try:
        if inspect.iscoroutinefunction(function):
            return await function()
        result = await _in_thread(function)
        if inspect.isasyncgen(result):
            return tuple([part async for part in result])
        return await result if inspect.isawaitable(result) else result
    except SystemExit as error:
        raise StoppedError(f"it exited with {error.code!r}") from error


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in its own daemon thread.

    An executor joins its threads when an event loop or the process ends; a function that never
    returns would block both.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def report(result: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(result)
        else:
            ended.set_exception(error)

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = context.run(function)
            if inspect.isgenerator(result):
                result = context.run(tuple, result)
        except StopIteration as stop:  # a future cannot hold it
            error = RuntimeError(f"StopIteration: {stop.value}")
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the event loop has ended: nothing waits for the result
            loop.call_soon_threadsafe(report, result, error)

    threading.Thread(target=work, name="harmony-kit tool", daemon=True).start()
    return await ended


class Slots:
    """Limits how many functions run at a time in each event loop; `None` for no limit."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._semaphores = WeakKeyDictionary()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        import asyncio

        if self._count is None:
            yield
            return
        loop = asyncio.get_running_loop()
        if loop not in self._semaphores:
            self._semaphores[loop] = asyncio.Semaphore(self._count)
        async with self._semaphores[loop]:
            yield
