"""The built-in python tool: a notebook whose cells the model writes."""

from __future__ import annotations

import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from ..._options import checked_options
from ...errors import ToolError
from ...wire._builtin_tools import PYTHON
from ...wire._contents import Tool, ToolNamespace
from ._isolation import Isolation
from ._kernel import Cancellation, KernelSettings
from ._notebook import Notebook
from ._worker import Running, Worker

_T = TypeVar("_T")

_GIBIBYTE: Final = 1 << 30
_LONGEST_PATH: Final = 80  # characters; that of a Unix socket within may have about 100


class PythonTool:
    """Runs the code that the model sends to `python` in a Jupyter kernel of its own.

    The kernel is started with the first cell. It keeps its variables from cell to cell, over
    any number of event loops, until the tool is closed, or the kernel dies or must be killed:
    then the model is told, and the next cell gets a new one. Cells run one after the other.

    The code runs with the rights of the user, less what `isolation` says. This is no sandbox
    against hostile code; `docs/python-tool.md` says what is isolated and what is not.

    Args:
        folder: The working folder, which stays when the tool is closed. By default a
            temporary one, which is removed then. Where the system allows it, the code
            finds it at `/mnt/data`, as the model was told.
        timeout: The seconds after which a cell is interrupted.
        memory_limit: The most private memory of each process in bytes, or `None` for no limit.
        output_limit: The most characters that a cell gives; of a longer output the model
            sees the beginning and the end.
        network: Whether the code may use the network.
        write_anywhere: Whether the code may write wherever the user may, and not only in the
            working folder and the folders for temporary files.
        environment: Variables that the kernel's environment shall have. Of ours it gets only
            those that say where programs are and how texts are written.
        interpreter: The Python that runs the kernel, such as that of a virtual environment
            with more packages; it needs ipykernel. By default the running one.

    Raises:
        ToolError: The folder does not exist, or a limit is not positive.
    """

    is_builtin: bool = True
    """The model knows the tool; it is declared in the system message."""

    @checked_options
    def __init__(
        self,
        folder: str | PathLike[str] | None = None,
        *,
        timeout: float = 120.0,
        memory_limit: int | None = 4 * _GIBIBYTE,
        output_limit: int = 20_000,
        network: bool = False,
        write_anywhere: bool = False,
        environment: Mapping[str, str] | None = None,
        interpreter: str | PathLike[str] | None = None,
    ) -> None:
        if sys.platform == "win32":
            raise ToolError("the python tool needs Linux or macOS")
        for name, value in (
            ("timeout", timeout),
            ("memory_limit", memory_limit),
            ("output_limit", output_limit),
        ):
            if value is not None and value <= 0:
                raise ToolError(f"{name}: expected a positive number, got {value!r}")
        given = None if folder is None else Path(folder).absolute()
        if given is not None and not given.is_dir():
            raise ToolError(f"folder: {given} is no folder")
        base = _temporary_folder()
        files = given or base / "files"
        if given is None:
            files.mkdir(mode=0o700)
        settings = KernelSettings(
            interpreter=str(interpreter or sys.executable),
            folder=files,
            base=base,
            environment=dict(environment or {}),
            memory_limit=memory_limit,
            network=network,
            write_anywhere=write_anywhere,
        )
        self._notebook = Notebook(settings, timeout, output_limit)
        self._worker = Worker()
        self._running: weakref.WeakSet[Running[Any]] = weakref.WeakSet()
        # Whoever forgets to close it, or leaves the interpreter, leaves nothing running.
        self._at_end = weakref.finalize(self, _end, self._notebook, self._worker, os.getpid())

    @property
    def namespace(self) -> ToolNamespace:
        """How the tool is declared: `harmony_kit.PYTHON`, in the words that the model knows."""
        return PYTHON

    @property
    def tools(self) -> Mapping[str, Tool]:
        """What is called, by the recipient of the call; the function takes the code."""
        return {PYTHON.name: Tool(PYTHON.name, function=self.execute)}

    @property
    def folder(self) -> Path:
        """The working folder, by its path in this process."""
        return self._notebook.settings.folder

    @property
    def isolation(self) -> Isolation | None:
        """What is in force for the kernel; `None` before one was started."""
        return self._notebook.isolation

    async def start(self) -> None:
        """Start the kernel, if none is running. The first cell does this as well.

        Raises:
            ToolError: The kernel cannot be started, or packages are missing.
        """
        await self._do(self._notebook.start)

    async def execute(self, code: str) -> str:
        """Run a cell.

        Being cancelled interrupts the cell; this returns when it has stopped.

        Args:
            code: The code of the cell.

        Returns:
            Its output in order: what was printed, displayed and raised, and the value of a last
            expression. Notes in brackets say what else happened.

        Raises:
            ToolError: The kernel cannot be started, packages are missing, or the tool is
                closed.
        """
        return await self._do(partial(self._notebook.execute, code))

    async def restart(self) -> None:
        """End the kernel with all that it started; the next cell gets a new one.

        A running cell is interrupted. The files stay.
        """
        self._cancel_all()
        await self._do(lambda _: self._notebook.end_kernel())

    async def aclose(self) -> None:
        """End the kernel with all that it started, and remove temporary folders.

        May be called more than once. A running cell is interrupted.
        """
        closing = self._start_closing()
        if closing is not None:
            await closing.result()

    def close(self) -> None:
        """Like `aclose`, outside of an event loop."""
        closing = self._start_closing()
        if closing is not None:
            closing.future.result()

    async def __aenter__(self) -> PythonTool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> PythonTool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _cancel_all(self) -> None:
        for running in list(self._running):
            running.interrupt()

    async def _do(self, function: Callable[[Cancellation], _T]) -> _T:
        if not self._at_end.alive:
            raise ToolError("the python tool is closed")
        running = self._worker.start(function)
        self._running.add(running)
        return await running.result()

    def _start_closing(self) -> Running[None] | None:
        self._cancel_all()
        if not self._at_end.alive:
            return None

        def close(_: Cancellation) -> None:
            self._notebook.end_kernel()
            self._at_end()

        return self._worker.start(close)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="harmony-"))
    if len(str(folder)) <= _LONGEST_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="harmony-", dir="/tmp"))


def _end(notebook: Notebook, worker: Worker, process: int) -> None:
    if os.getpid() == process:  # a fork of ours has no say
        notebook.abandon()
        worker.end()
