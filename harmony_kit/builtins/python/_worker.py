"""A thread that runs jobs sequentially, for callers in any event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from ._kernel import Cancellation

_T = TypeVar("_T")


class _Job(NamedTuple):
    function: Callable[[Cancellation], Any]
    cancellation: Cancellation
    future: Future[Any]


class Running(Generic[_T]):
    """A job of the worker."""

    def __init__(self, job: _Job) -> None:
        self.future: Future[_T] = job.future
        self._cancellation = job.cancellation

    def interrupt(self) -> None:
        """Ask it to stop, now or when it starts; it still has a result."""
        self._cancellation.set()

    async def result(self) -> _T:
        """Wait for the result; if cancelled, cancel the job and wait until it has stopped."""
        done = asyncio.wrap_future(self.future)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            self.future.cancel()  # if it has not started
            self.interrupt()
            await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # retrieved, so that asyncio does not log it
            raise


class Worker:
    """The thread, which starts with the first job and ends with the process."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, function: Callable[[Cancellation], _T]) -> Running[_T]:
        """Run a function after all earlier jobs."""
        job = _Job(function, Cancellation(), Future())
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_work, args=(self._jobs,), name="harmony-kit python", daemon=True
                )
                self._thread.start()
            self._jobs.put(job)
        return Running(job)

    def end(self) -> None:
        """End the thread after all earlier jobs."""
        with self._lock:
            if self._thread is not None:
                self._jobs.put(None)
                self._thread = None


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        if not job.future.set_running_or_notify_cancel():
            continue
        try:
            result = job.function(job.cancellation)
        except BaseException as error:
            with suppress(Exception):
                job.future.set_exception(error)
        else:
            with suppress(Exception):
                job.future.set_result(result)
        job = None  # do not keep it alive while waiting
