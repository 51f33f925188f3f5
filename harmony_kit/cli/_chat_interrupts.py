"""Ctrl-C during a chat: once stops the current work, twice does not wait for it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, Self, TypeVar

_Result = TypeVar("_Result")


class StoppedByUser(Exception):  # noqa: N818 - not an error
    """Ctrl-C was pressed, and the current work has stopped."""


class Interrupts:
    """Handles Ctrl-C within its `with` block.

    Outside of `reading` and `run`, Ctrl-C does nothing, so that no work is left half done.

    Args:
        runner: The runner of the event loop for interruptible work.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self._loop = runner.get_loop()
        self._action: Callable[[], None] | None = None
        self._before: Any = None
        self._waking = ExitStack()

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._handle)
        with suppress(NotImplementedError):  # Windows event loops wake on their own
            self._wake_loop()
        return self

    def __exit__(self, *_: object) -> None:
        self._waking.close()
        signal.signal(signal.SIGINT, self._before)

    def _wake_loop(self) -> None:
        """Let a signal wake the event loop, even if it arrives just before the loop goes to sleep.

        Python runs signal handlers only between bytecodes, when the loop would already sleep.
        """
        receiver, sender = socket.socketpair()
        for end in (receiver, sender):
            end.setblocking(False)
            self._waking.enter_context(end)
        self._loop.add_reader(receiver, _empty, receiver)
        self._waking.callback(self._loop.remove_reader, receiver)
        before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        self._waking.callback(signal.set_wakeup_fd, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._action is not None:
            self._action()

    @contextmanager
    def _doing(self, action: Callable[[], None]) -> Iterator[None]:
        self._action = action
        try:
            yield
        finally:
            self._action = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A `with` block in which Ctrl-C raises `KeyboardInterrupt`."""
        with self._doing(_raise):
            yield

    def run(
        self,
        work: Coroutine[Any, Any, _Result],
        *,
        stopping: Callable[[], None] = lambda: None,
    ) -> _Result:
        """The result of a coroutine, which Ctrl-C cancels.

        Raises:
            StoppedByUser: Ctrl-C was pressed, and the coroutine has stopped.
            KeyboardInterrupt: Ctrl-C was pressed again before it had stopped.
        """
        task: asyncio.Task[_Result] = self._loop.create_task(work)
        is_stopping = False

        def stop() -> None:
            if not task.done():
                stopping()
                task.cancel()

        def interrupt() -> None:
            nonlocal is_stopping
            if is_stopping:
                raise KeyboardInterrupt
            is_stopping = True
            self._loop.call_soon_threadsafe(stop)

        with self._doing(interrupt):
            try:
                return self._loop.run_until_complete(task)
            except asyncio.CancelledError:
                if is_stopping:
                    raise StoppedByUser from None
                raise


def _empty(receiver: socket.socket) -> None:
    with suppress(BlockingIOError):
        receiver.recv(4096)


def _raise() -> None:
    raise KeyboardInterrupt
