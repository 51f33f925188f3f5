"""Starts one kernel isolated from the system, and removes everything it leaves behind.

This script is run by path in a process between the main process and the kernel's, and imports only
the standard library. The first line of its input is JSON with the fields of `Assignment`. After
that, each `i` interrupts the kernel and `q` ends it; the end of the input, which occurs when the
main process dies, also ends it and removes its folders. It writes JSON lines: the isolation in
force, each interrupt sent, and how the kernel exited.

On Linux it creates namespaces if an ordinary user may. The system then kills the kernel with all
its processes, because a PID namespace ends with its first process. Elsewhere the supervisor adopts
orphaned processes of the kernel and kills them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

COMMANDS: Final = 0
STATUS: Final = 1
LOG: Final = 2
IS_LINUX: Final = sys.platform == "linux"

# linux/sched.h, linux/prctl.h, linux/mount.h, linux/if.h and linux/sockios.h
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
PR_SET_PDEATHSIG: Final = 1
PR_CAPBSET_DROP: Final = 24
PR_SET_SECUREBITS: Final = 28
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
ROOT_IS_NOBODY_FOR_GOOD: Final = 0b11  # SECBIT_NOROOT, and its lock
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
SYS_MOUNT_SETATTR: Final = 442
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Assignment(NamedTuple):
    """The supervisor's task.

    Attributes:
        command: The command line of the kernel.
        environment: The kernel's environment variables.
        folder: The kernel's working folder.
        runtime: The folder of the kernel's sockets and temporary files.
        data_path: A second path of the working folder.
        network: Whether the kernel may use the network.
        write_anywhere: Whether it may write wherever the user may.
        memory_limit: The limit on the private memory of each process, in bytes.
        remove: The folders to remove if the main process dies.
        parent: The id of the main process.
    """

    command: list[str]
    environment: dict[str, str]
    folder: str
    runtime: str
    data_path: str
    network: bool
    write_anywhere: bool
    memory_limit: int | None
    remove: list[str]
    parent: int


class Apart(NamedTuple):
    """The parts of the system from which the kernel is isolated."""

    network: bool
    processes: bool
    files: bool


def main() -> None:
    """Supervise the kernel of the assignment in the first line of the input."""
    assignment = Assignment(**json.loads(_first_line()))
    if IS_LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    apart = next(apart for apart in _degrees(assignment) if _is_allowed(apart, assignment))
    _leave_namespaces(apart)
    child = os.fork()
    if child == 0:
        if not apart.processes:
            _begin(apart, assignment)
            _become_kernel(assignment, apart)
        _keep_within(apart, assignment)
    ended = _Watch(child, assignment.parent).run(
        lambda: _interrupt_within(child) if apart.processes else _interrupt(child)
    )
    _kill_all(child)
    if not ended.by_itself:
        if ended.parent_is_gone:
            for folder in assignment.remove:
                shutil.rmtree(folder, ignore_errors=True)
    elif not apart.processes:
        _tell_end(ended.status)


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(COMMANDS, 1)
        if not piece:
            sys.exit("no assignment")
        line += piece
    return line


def _tell(**fields: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(STATUS, json.dumps(fields).encode() + b"\n")


def _tell_end(status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    _tell(event="ended", code=code)


# --- Waiting --------------------------------------------------------------------------------


class _Ended(NamedTuple):
    by_itself: bool
    status: int = 0
    parent_is_gone: bool = False


class _Watch:
    """Waits for events of a child process, reaping all other children.

    Args:
        parent: The file descriptor of the commands, or `None`.
    """

    def __init__(self, child: int, parent: int | None) -> None:
        self._child = child
        self._parent = parent
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self, interrupt: Callable[[], None]) -> _Ended:
        """Wait until the child exits or is to be ended."""
        inputs = [self._wake] if self._parent is None else [self._wake, COMMANDS]
        while True:
            status = self._reap()
            if status is not None:
                return _Ended(True, status)
            if self._parent is not None and os.getppid() != self._parent:
                return _Ended(False, parent_is_gone=True)
            ready, _, _ = select.select(inputs, [], [], 1.0)
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 512)
            if COMMANDS in ready:
                commands = os.read(COMMANDS, 64)
                if not commands or b"q" in commands:
                    return _Ended(False, parent_is_gone=not commands)
                for _ in commands:
                    interrupt()

    def _reap(self) -> int | None:
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self._child:
                found = status


def _interrupt(kernel: int) -> None:
    # The whole process group, as a terminal does, including what the cell waits for.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(kernel, signal.SIGINT)
    _tell(event="interrupted")


def _interrupt_within(first: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGUSR1)


def _kill_all(child: int) -> None:
    """Kill all remaining processes, including those that left the kernel's session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _descendants() -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if IS_LINUX else ():
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    waiting = [os.getpid()]
    while waiting:
        found = children.get(waiting.pop(), [])
        yield from found
        waiting += found


# --- Keeping apart --------------------------------------------------------------------------


def _degrees(assignment: Assignment) -> Iterator[Apart]:
    """The possible degrees of isolation, strictest first."""
    network = not assignment.network
    if IS_LINUX:
        yield Apart(network, True, True)
        yield Apart(network, False, True)
        if network:
            yield Apart(True, False, False)
    yield Apart(False, False, False)


def _is_allowed(apart: Apart, assignment: Assignment) -> bool:
    """Whether the system allows a degree of isolation, tested in a temporary process."""
    if not any(apart):
        return True
    child = os.fork()
    if child == 0:
        _exit_with(lambda: _try(apart, assignment))
    return os.waitpid(child, 0)[1] == 0


def _try(apart: Apart, assignment: Assignment) -> None:
    _leave_namespaces(apart)
    first = os.fork()  # a PID namespace starts with the next process
    if first == 0:
        _exit_with(lambda: _arrange(apart, assignment))
    if os.waitpid(first, 0)[1] != 0:
        raise PermissionError


def _exit_with(action: Callable[[], object]) -> NoReturn:
    try:
        action()
    except Exception as error:
        print(f"supervisor: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _leave_namespaces(apart: Apart) -> None:
    """Leave the namespaces of the user, except the mount namespace's."""
    if not any(apart):
        return
    user, group = os.geteuid(), os.getegid()
    flags = CLONE_NEWUSER
    flags |= CLONE_NEWNET if apart.network else 0
    flags |= CLONE_NEWPID | CLONE_NEWIPC if apart.processes else 0
    _libc("unshare", flags)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _keep_within(apart: Apart, assignment: Assignment) -> NoReturn:
    """Act as the first process of the PID namespace, and keep the kernel in it."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    _begin(apart, assignment)
    kernel = os.fork()
    if kernel == 0:
        _become_kernel(assignment, apart)
    signal.signal(signal.SIGUSR1, lambda *_: _interrupt(kernel))
    ended = _Watch(kernel, None).run(lambda: None)
    _tell_end(ended.status)
    os._exit(0)  # the system kills the other processes


def _begin(apart: Apart, assignment: Assignment) -> None:
    """Set up the allowed isolation, and report it."""
    has_data_path, is_read_only = _arrange(apart, assignment)
    _tell(
        event="started",
        network_blocked=apart.network,
        own_processes=apart.processes,
        read_only=is_read_only,
        has_data_path=has_data_path,
        memory_limit=_limit_memory(assignment.memory_limit),
    )


def _arrange(apart: Apart, assignment: Assignment) -> tuple[bool, bool]:
    """Set up the file system and network within the namespaces.

    Returns whether the working folder has its second path, and whether everything else is
    read-only.
    """
    if apart.network:
        _start_loopback()
    if not apart.files:
        return False, False
    _libc("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    if apart.processes:
        # Otherwise the environment of the main process could be read there.
        _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    has_data_path = _succeeds(lambda: _add_data_path(assignment))
    if assignment.write_anywhere:
        return has_data_path, False
    writable = ["/tmp", "/var/tmp", "/dev/shm", assignment.runtime, assignment.folder]
    if has_data_path:
        writable.append(assignment.data_path)
    return has_data_path, _succeeds(lambda: _make_read_only_but(writable))


def _add_data_path(assignment: Assignment) -> None:
    target = assignment.data_path
    if not os.path.isdir(target):
        _make_folder(target)
    _mount(assignment.folder, target, None, MS_BIND)


def _make_folder(path: str) -> None:
    """Create a folder in one that the user may not write to, within this mount namespace.

    An empty file system covers the parent, and the parent's entries are bind-mounted into it.
    """
    parent = os.path.dirname(path)
    covered = os.open(parent, os.O_PATH | os.O_DIRECTORY)
    before = f"/proc/self/fd/{covered}"
    _mount("tmpfs", parent, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for name in os.listdir(before):
        source, copy = f"{before}/{name}", f"{parent}/{name}"
        mode = os.lstat(source).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), copy)
            continue
        if stat.S_ISDIR(mode):
            os.mkdir(copy)
        else:
            os.close(os.open(copy, os.O_CREAT | os.O_WRONLY))
        _mount(source, copy, None, MS_BIND | MS_REC)
    os.close(covered)
    os.mkdir(path)


def _make_read_only_but(writable: list[str]) -> None:
    _set_read_only("/", True, AT_RECURSIVE)
    for path in writable:
        if os.path.isdir(path):
            if not os.path.ismount(path):
                _mount(path, path, None, MS_BIND | MS_REC)
            _set_read_only(path, False)


def _set_read_only(path: str, is_read_only: bool, flags: int = 0) -> None:
    to_set, to_clear = (MOUNT_ATTR_RDONLY, 0) if is_read_only else (0, MOUNT_ATTR_RDONLY)
    attributes = struct.pack("=QQQQ", to_set, to_clear, 0, 0)
    _libc(
        "syscall",
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_int(AT_FDCWD),
        path.encode(),
        ctypes.c_uint(flags),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )


def _start_loopback() -> None:
    """Enable 127.0.0.1 for the kernel's processes."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def _limit_memory(wanted: int | None) -> int | None:
    """Limit the private memory of this process and its children; returns the limit in force."""
    if wanted is None or not IS_LINUX:
        return None  # macOS accepts the limit but does not enforce it
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit


def _become_kernel(assignment: Assignment, apart: Apart) -> NoReturn:
    """Replace this process by the kernel's."""
    try:
        os.setsid()
        if IS_LINUX:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if any(apart):
                _give_up_capabilities()
            _prctl(PR_SET_NO_NEW_PRIVS, 1)
            with contextlib.suppress(OSError):  # be the first to be killed when memory runs out
                _write("/proc/self/oom_score_adj", "1000")
        _forbid_core_files()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, COMMANDS)
        os.dup2(LOG, STATUS)
        has_data_path = os.path.isdir(assignment.data_path) and os.path.samefile(
            assignment.data_path, assignment.folder
        )
        os.chdir(assignment.data_path if has_data_path else assignment.folder)
        os.execve(assignment.command[0], assignment.command, assignment.environment)
    except Exception as error:
        print(f"the kernel cannot be started: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def _forbid_core_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _give_up_capabilities() -> None:
    """Drop the capabilities of a namespace owner permanently."""
    _prctl(PR_SET_SECUREBITS, ROOT_IS_NOBODY_FOR_GOOD)
    with contextlib.suppress(OSError):
        for capability in range(64):
            _prctl(PR_CAPBSET_DROP, capability)


# --- The system -----------------------------------------------------------------------------


def _libc(name: str, *arguments: Any) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    _libc("prctl", option, *(ctypes.c_ulong(word) for word in (value, 0, 0, 0)))


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _libc("mount", *texts, ctypes.c_ulong(flags), data)


def _succeeds(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError as error:
        print(f"supervisor: {error}", file=sys.stderr, flush=True)
        return False
    return True


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    main()
