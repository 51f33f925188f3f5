"""From an engine's thread or event loop to the consumer's.

An asynchronous engine is bound to the event loop that it was started in. Consumers may be in any
loop: each call of `harmony_kit.run` creates a new one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Generic, NamedTuple, TypeVar

from harmony_kit.errors import BackendError

_T = TypeVar("_T")


class _Item(NamedTuple):
    value: Any = None
    error: BaseException | None = None
    is_end: bool = False


class Inbox(Generic[_T]):
    """A queue from any thread to one coroutine, in whose event loop it must be created."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[_Item] = deque()
        self._filled = asyncio.Event()

    def put(self, value: _T) -> None:
        """Add a value; thread-safe."""
        self._put(_Item(value))

    def close(self, error: BaseException | None = None) -> None:
        """End the queue, optionally with an error for the coroutine to raise; thread-safe."""
        self._put(_Item(error=error, is_end=True))

    def _put(self, item: _Item) -> None:
        self._items.append(item)
        if len(self._items) > 1:
            return  # the coroutine takes all items before it waits again
        try:
            self._loop.call_soon_threadsafe(self._filled.set)
        except RuntimeError:
            self._items.clear()  # the consumer's event loop is closed

    async def values(self) -> AsyncGenerator[_T, None]:
        """Yield the values in order, until the queue is closed.

        Raises:
            BaseException: The error that the queue was closed with.
        """
        while True:
            while self._items:
                value, error, is_end = self._items.popleft()
                if error is not None:
                    raise error
                if is_end:
                    return
                yield value
            self._filled.clear()
            if not self._items:
                await self._filled.wait()


class EngineLoop:
    """An engine's event loop: the running one or, if there is none, a new one in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="harmony-kit engine", daemon=True
            )
            is_running = threading.Event()
            self._loop.call_soon(is_running.set)
            self._thread.start()
            is_running.wait()  # until then the loop would look as if it had ended

    @property
    def is_here(self) -> bool:
        """Whether the calling coroutine runs in this loop."""
        return asyncio.get_running_loop() is self._loop

    @property
    def is_running(self) -> bool:
        """Whether the loop is running."""
        return self._loop.is_running()

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function in the loop, from the thread that created this object."""
        if self._thread is None:
            return function()

        async def run() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Await a coroutine in the loop, from any loop."""
        if self.is_here:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def bring(self, source: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
        """Iterate over a generator in the loop, from any loop.

        Closing this generator cancels and closes the source, and waits until it is closed. The
        cancellation may reach a source that is just ending, so that its last steps should not
        await for long.

        Args:
            source: A generator that has not been started.

        Yields:
            The values of the source.

        Raises:
            BackendError: The loop has ended.
        """
        if not self.is_running:
            raise BackendError(
                "the event loop that the engine was started in is not running any more; make "
                "the backend outside of any event loop, or in the one that uses it"
            )
        inbox: Inbox[_T] = Inbox()
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        tasks: list[asyncio.Task[None]] = []

        async def pump() -> None:
            try:
                async with aclosing(source):
                    async for value in source:
                        inbox.put(value)
            except asyncio.CancelledError:
                inbox.close(BackendError("the event loop of the engine has ended"))
                raise
            except Exception as error:
                inbox.close(error)
            else:
                inbox.close()

        def start() -> None:
            tasks.append(self._loop.create_task(pump()))
            tasks[0].add_done_callback(lambda _: done.set_result(None))

        def stop() -> None:
            tasks[0].cancel()

        self._loop.call_soon_threadsafe(start)
        try:
            async with aclosing(inbox.values()) as values:
                async for value in values:
                    yield value
        finally:
            if not done.done() and self.is_running:
                self._loop.call_soon_threadsafe(stop)  # callbacks run in order: start was first
                await asyncio.wrap_future(done)

    def end(self) -> None:
        """End the thread, if the loop has its own. May be called more than once."""
        if self._thread is None or self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
