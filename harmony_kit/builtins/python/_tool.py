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
_LONGEST_PATH: Final = 80  # characters; the path of a Unix socket inside may have about 100


class PythonTool:
    """Runs the code that the model sends to `python` in its own Jupyter kernel.

    The kernel starts with the first cell. It keeps its variables between cells, across event loops,
    until the tool is closed or the kernel dies or must be killed; the model is then informed, and
    the next cell gets a new kernel. Cells run sequentially.

    The code runs with the rights of the user, restricted as `isolation` reports. This is not a
    sandbox against hostile code; `docs/python-tool.md` describes what is isolated.

    Args:
        folder: The working folder, which is kept when the tool is closed. Defaults to a temporary
            folder, which is removed. Where the system allows it, the code sees it at `/mnt/data`,
            as the tool's description states.
        timeout: The time after which a cell is interrupted, in seconds.
        memory_limit: The limit on the private memory of each process, in bytes; `None` for no
            limit.
        output_limit: The maximum output of a cell in characters; longer output is reduced to its
            start and end.
        network: Whether the code may use the network.
        write_anywhere: Whether the code may write wherever the user may, instead of only to the
            working folder and the folders for temporary files.
        environment: Additional environment variables. Of the process's own variables, the kernel
            only gets those for paths of programs and the locale.
        interpreter: The Python interpreter of the kernel, such as that of a virtual environment
            with more packages; it needs ipykernel. Defaults to the running one.

    Raises:
        ToolError: The folder does not exist, or a limit is not positive.
    """

    is_builtin: bool = True
    """True: the tool is declared in the system message."""

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
            raise ToolError(f"folder: {given} is not a folder")
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
        # Clean up if the tool is not closed, and when the interpreter exits.
        self._at_end = weakref.finalize(self, _end, self._notebook, self._worker, os.getpid())

    @property
    def namespace(self) -> ToolNamespace:
        """The declaration, `harmony_kit.PYTHON`, word for word as in training."""
        return PYTHON

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tool by its recipient; its function takes the code."""
        return {PYTHON.name: Tool(PYTHON.name, function=self.execute)}

    @property
    def folder(self) -> Path:
        """The path of the working folder in this process."""
        return self._notebook.settings.folder

    @property
    def isolation(self) -> Isolation | None:
        """The isolation in force for the kernel; `None` before the first one is started."""
        return self._notebook.isolation

    async def start(self) -> None:
        """Start the kernel if none is running. The first cell does so as well.

        Raises:
            ToolError: The kernel cannot be started, or packages are missing.
        """
        await self._do(self._notebook.start)

    async def execute(self, code: str) -> str:
        """Run a cell.

        Cancelling the call interrupts the cell; the call returns when the cell has stopped.

        Args:
            code: The code of the cell.

        Returns:
            The output in order: printed text, displayed objects, exceptions, and the value of a
            final expression. Notes in brackets report other events.

        Raises:
            ToolError: The kernel cannot be started, packages are missing, or the tool is closed.
        """
        return await self._do(partial(self._notebook.execute, code))

    async def restart(self) -> None:
        """Stop the kernel with all its processes; the next cell gets a new one.

        A running cell is interrupted. The files are kept.
        """
        self._cancel_all()
        await self._do(lambda _: self._notebook.end_kernel())

    async def aclose(self) -> None:
        """Stop the kernel with all its processes, and remove temporary folders.

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
    if os.getpid() == process:  # not in a fork
        notebook.abandon()
        worker.end()
