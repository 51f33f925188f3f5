"""A running Jupyter kernel: its process and the communication with it. All calls block."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import ToolError
from ._isolation import Isolation, kernel_environment
from ._output import CellOutput

if TYPE_CHECKING:
    import zmq
    from jupyter_client.blocking.client import BlockingKernelClient

_HERE: Final = Path(__file__).parent
_DATA_PATH: Final = "/mnt/data"  # as in the tool's description
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_INTERRUPT_EVERY: Final = 1.0
_SECOND_MESSAGE_SECONDS: Final = 2.0
_LARGEST_MESSAGE: Final = 1 << 26  # bytes; the kernel stays far below
_MOST_MESSAGES: Final = 200  # unread messages


@dataclass(frozen=True)
class KernelSettings:
    """How kernels are started.

    Attributes:
        interpreter: The Python interpreter that runs them; it has ipykernel.
        folder: The working folder.
        base: The parent of all temporary folders.
        environment: Additional environment variables.
        memory_limit: The limit on the private memory of each process, in bytes, or `None`.
        network: Whether the network may be used.
        write_anywhere: Whether files outside the working folder may be written.
    """

    interpreter: str
    folder: Path
    base: Path
    environment: Mapping[str, str]
    memory_limit: int | None
    network: bool
    write_anywhere: bool


class Ending(Enum):
    """How the execution of a cell ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    """The cell did not stop when interrupted."""
    DIED = "died"
    """The kernel exited."""


class Cancellation:
    """Requests, from any thread, that an execution ends."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.is_set = False

    def set(self) -> None:
        """Request the end."""
        self.is_set = True
        with suppress(OSError):
            os.write(self._write, b"x")

    def fileno(self) -> int:
        """A file descriptor that becomes readable once it is set."""
        return self._read

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)


class _Status(NamedTuple):
    """A line of the supervisor's output, or its end."""

    event: str
    fields: Mapping[str, Any]


class _Process:
    """The process of the supervisor, which controls the kernel's."""

    def __init__(self, settings: KernelSettings, runtime: Path, arguments: list[str]) -> None:
        self._log = runtime / "log"
        with open(self._log, "wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_HERE / "_supervisor.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={},
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        assignment = {
            "command": [settings.interpreter, str(_HERE / "_notebook_kernel.py"), *arguments],
            "environment": kernel_environment(runtime, settings.environment),
            "folder": str(settings.folder),
            "runtime": str(runtime),
            "data_path": _DATA_PATH,
            "network": settings.network,
            "write_anywhere": settings.write_anywhere,
            "memory_limit": settings.memory_limit,
            "remove": [str(settings.base)],
            "parent": os.getpid(),
        }
        self._unread = b""
        self.exit_code: int | None = None
        self.has_ended = False
        self._command(json.dumps(assignment).encode() + b"\n")

    def fileno(self) -> int:
        assert self._popen.stdout is not None
        return self._popen.stdout.fileno()

    def statuses(self) -> Iterator[_Status]:
        """The status lines that can be read."""
        with suppress(OSError, ValueError):  # closed by another thread
            piece = os.read(self.fileno(), 4096)
            *lines, self._unread = (self._unread + piece).split(b"\n")
            for line in lines:
                fields = json.loads(line)
                if fields["event"] == "ended":
                    self.exit_code = fields["code"]
                yield _Status(fields["event"], fields)
            if piece:
                return
        self.has_ended = True
        yield _Status("closed", {})

    def interrupt(self) -> None:
        self._command(b"i")

    def end(self) -> None:
        """Kill the kernel and all its processes; returns when they have exited."""
        self._command(b"q")
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()

    def last_words(self) -> str:
        """The end of the log."""
        with suppress(OSError):
            lines = self._log.read_bytes()[-4000:].decode(errors="replace").splitlines()
            return "\n".join(line for line in lines if not line.startswith("supervisor:"))
        return ""

    def _command(self, data: bytes) -> None:
        with suppress(OSError, ValueError):  # the process has exited
            assert self._popen.stdin is not None
            self._popen.stdin.write(data)


class _Stop:
    """The deadlines of the steps that stop an execution."""

    def __init__(self, now: float) -> None:
        self.interrupt_at = now
        self.kill_at = now + _STOP_SECONDS


class _Answer:
    """Whether the kernel has reported the end of a cell.

    It does so on two sockets. A message can get lost if it is too large; then one of the two is
    enough, after a delay.
    """

    def __init__(self) -> None:
        self._is_idle = self._is_replied = False
        self.due = float("inf")
        """The time from which one of the two is enough."""

    def note(self, *, is_idle: bool, is_replied: bool) -> None:
        self._is_idle |= is_idle
        self._is_replied |= is_replied
        if self.due == float("inf") and (self._is_idle or self._is_replied):
            self.due = time.monotonic() + _SECOND_MESSAGE_SECONDS

    @property
    def is_complete(self) -> bool:
        return (self._is_idle and self._is_replied) or time.monotonic() >= self.due


class Kernel:
    """A kernel that runs cells sequentially.

    Raises:
        ToolError: It cannot be started, or its packages are missing.
    """

    def __init__(self, settings: KernelSettings, runtime: Path, cancellation: Cancellation) -> None:
        try:
            import zmq
            from jupyter_client.blocking.client import BlockingKernelClient
            from jupyter_client.connect import write_connection_file
        except ImportError as error:
            raise missing_packages(error.name) from error
        self.runtime = runtime
        for name in ("", "home", "tmp"):
            (runtime / name).mkdir(mode=0o700)
        # The kernel has no network, so it communicates through Unix sockets.
        connection_file, connection = write_connection_file(
            str(runtime / "connection.json"), ip=str(runtime / "socket"), transport="ipc"
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.maxmsgsize = _LARGEST_MESSAGE
        self._context.rcvhwm = _MOST_MESSAGES
        self._context.linger = 0
        self._client: BlockingKernelClient = BlockingKernelClient(context=self._context)
        self._client.load_connection_info(connection)
        self._interrupts = 0  # requested but not yet sent
        self.isolation = Isolation(False, False, False, None)
        self.shown_folder = str(settings.folder)
        self._process = _Process(settings, runtime, ["-f", connection_file])
        try:
            self._start(settings, cancellation)
        except BaseException:
            self.close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether it exited unexpectedly."""
        return self._read_statuses()

    @property
    def death(self) -> str:
        """How it exited, in words."""
        code = self._process.exit_code
        if code is None:
            return "it was killed"
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        reason = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
        return f"killed by signal {-code}, {name}{reason}"

    def execute(
        self, code: str, output: CellOutput, seconds: float, cancellation: Cancellation
    ) -> Ending:
        """Run a cell."""
        message = self._client.execute(code, allow_stdin=False)
        deadline = time.monotonic() + seconds
        stop: _Stop | None = None
        answer = _Answer()
        while not answer.is_complete:
            now = time.monotonic()
            if stop is None and (now >= deadline or cancellation.is_set):
                stop = _Stop(now)
            if stop is not None:
                if now >= stop.kill_at:
                    return Ending.KILLED
                if now >= stop.interrupt_at:
                    self._interrupt()
                    stop.interrupt_at = now + _INTERRUPT_EVERY
                self._poll(min(stop.interrupt_at, stop.kill_at) - now, self._process)
            else:
                self._poll(min(deadline, answer.due) - now, self._process, cancellation)
            answer.note(
                is_idle=self._read_output(message, output),
                is_replied=self._is_answered(message, output),
            )
            if self._read_statuses():
                self._read_output(message, output)
                return Ending.DIED
        self._await_interrupts()
        return Ending.DONE if stop is None else Ending.INTERRUPTED

    def close(self) -> None:
        """Kill it with all its processes, and release its resources."""
        self.kill()
        self._client.stop_channels()
        self._context.destroy(linger=0)

    def kill(self) -> None:
        """Kill it with all its processes; may be called from any thread."""
        self._process.end()

    def _start(self, settings: KernelSettings, cancellation: Cancellation) -> None:
        self._client.start_channels(stdin=False, hb=False, control=False)
        deadline = time.monotonic() + _START_SECONDS
        is_answered = is_heard = False
        while not (is_answered and is_heard):
            message = self._client.kernel_info()
            asked = time.monotonic()
            while time.monotonic() < asked + 0.5 and not (is_answered and is_heard):
                self._poll(0.5, self._process, cancellation)
                for status in self._process.statuses() if self._has_status() else ():
                    self._note_start(status, settings)
                is_answered |= self._is_answered(message)
                is_heard |= bool(list(self._published()))
                if cancellation.is_set:
                    raise ToolError("the start of the kernel was cancelled")
                if self._process.has_ended or time.monotonic() > deadline:
                    raise self._start_error(settings)

    def _note_start(self, status: _Status, settings: KernelSettings) -> None:
        if status.event == "started":
            fields = status.fields
            self.isolation = Isolation(
                fields["network_blocked"],
                fields["own_processes"],
                fields["read_only"],
                fields["memory_limit"],
            )
            self.shown_folder = _DATA_PATH if fields["has_data_path"] else str(settings.folder)

    def _start_error(self, settings: KernelSettings) -> ToolError:
        words = self._process.last_words()
        if "No module named 'ipykernel'" in words or "No module named 'IPython'" in words:
            return missing_packages("ipykernel", settings.interpreter)
        return ToolError(f"the Jupyter kernel did not start: {words or 'its log is empty'}")

    def _poll(self, seconds: float, *sources: Any) -> bool:
        """Wait for a message, or for one of the sources."""
        import zmq

        sockets = (self._client.iopub_channel.socket, self._client.shell_channel.socket)
        poller = zmq.Poller()
        for source in (*sockets, *sources):
            poller.register(source, zmq.POLLIN)
        return bool(poller.poll(math.ceil(max(0.0, seconds) * 1000)))

    def _has_status(self) -> bool:
        import select

        return bool(select.select([self._process], [], [], 0)[0])

    def _read_statuses(self) -> bool:
        """Read the supervisor's status lines; returns whether the kernel has exited."""
        while not self._process.has_ended and self._has_status():
            for status in self._process.statuses():
                self._interrupts -= status.event == "interrupted"
        return self._process.has_ended

    def _published(self) -> Iterator[Mapping[str, Any]]:
        from queue import Empty

        with suppress(Empty):
            while True:
                yield self._client.iopub_channel.get_msg(timeout=0)

    def _read_output(self, message: str, output: CellOutput) -> bool:
        """Read the published output of a cell; returns whether it reports the end."""
        is_over = False
        for published in self._published():
            if published["parent_header"].get("msg_id") != message:
                continue  # from a thread of an earlier cell
            content = published["content"]
            output.take(published["msg_type"], content)
            is_over |= content.get("execution_state") == "idle"
        return is_over

    def _is_answered(self, message: str, output: CellOutput | None = None) -> bool:
        from queue import Empty

        answered = False
        with suppress(Empty):
            while True:
                reply = self._client.shell_channel.get_msg(timeout=0)
                if reply["parent_header"].get("msg_id") == message:
                    answered = True
                    for shown in reply["content"].get("payload", ()):
                        if output is not None and "data" in shown:  # help, such as that of `?len`
                            output.take("display_data", shown)
        return answered

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._process.interrupt()

    def _await_interrupts(self) -> None:
        """Wait until all requested interrupts are sent, so that none hits the next cell."""
        deadline = time.monotonic() + 1
        while self._interrupts > 0 and time.monotonic() < deadline:
            import select

            select.select([self._process], [], [], 0.1)
            if self._read_statuses():
                return


def missing_packages(name: str | None, interpreter: str | None = None) -> ToolError:
    """The error for a missing package, with the command to install it."""
    where = "" if interpreter in (None, sys.executable) else f" in {interpreter}"
    return ToolError(f"the python tool needs {name}{where}: pip install 'harmony-kit[python]'")
