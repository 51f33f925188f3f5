"""The isolation of a kernel from the system, and its environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Isolation:
    """The isolation in force for a kernel. It is not a sandbox against hostile code.

    Attributes:
        network_blocked: Whether the kernel reaches only its own loopback interface.
        own_processes: Whether it can see and signal only its own processes.
        files_read_only: Whether it can write only to its working folder and the folders for
            temporary files. It can always read the user's files.
        memory_limit: The limit on the private memory of each of its processes, in bytes, or `None`.
    """

    network_blocked: bool
    own_processes: bool
    files_read_only: bool
    memory_limit: int | None


# Paths of programs and packages, and locale settings.
_PASSED: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "LANG", "TZ")


def kernel_environment(runtime: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a kernel: the variables that it needs, and the given ones."""
    passed = {name: value for name, value in os.environ.items() if name in _PASSED}
    locale = {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    own = {
        "HOME": str(runtime / "home"),
        "TMPDIR": str(runtime / "tmp"),
        "IPYTHONDIR": str(runtime / "home" / ".ipython"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "PYTHONIOENCODING": "utf-8",
        "NO_COLOR": "1",
    }
    return {**passed, **locale, **own, **given}
