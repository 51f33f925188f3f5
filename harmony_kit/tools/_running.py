"""Running a function once: within a time limit, without holding up the event loop.

An async function runs as a task, and is cancelled when its time is over or the caller is
cancelled. A plain function runs in a thread of its own, which nobody can stop: it is left
behind, and as a daemon it does not keep the process from ending.
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
"""How many seconds a cancelled function has to clean up before it is left behind."""


class TimeIsUpError(Exception):
    """A function took too long; not a `TimeoutError` that it raised itself."""


class StoppedError(Exception):
    """A function ended itself in a way that would end more than itself."""


async def run_within(function: Callable[[], Any], timeout: float | None) -> Any:
    """Call a function, sync or async, and wait for its result.

    Args:
        function: The function, with its arguments bound.
        timeout: The most seconds that it may take, or `None`.

    Returns:
        What it returned, or what that gave when it was awaited; what a generator gave, as a
        tuple.

    Raises:
        TimeIsUpError: It took too long. An async function has been cancelled.
        StoppedError: It raised `SystemExit`, or `CancelledError` although nobody cancelled it.
        Exception: Whatever else it raised.
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
        task.exception()  # heard, so that nothing is logged about it


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
    """Call a function in a daemon thread of its own.

    The threads of an executor are joined when an event loop or the process ends; a function
    that never returns would hold up both.
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
        except StopIteration as stop:  # which no future takes
            error = RuntimeError(f"StopIteration: {stop.value}")
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the event loop has ended: nobody waits any more
            loop.call_soon_threadsafe(report, result, error)

    threading.Thread(target=work, name="harmony-kit tool", daemon=True).start()
    return await ended


class Slots:
    """How many functions may run at a time, in each event loop.

    Args:
        count: The most, or `None` for any number.
    """

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
