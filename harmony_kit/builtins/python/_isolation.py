"""What of a kernel is apart from the rest of the system, and which variables it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Isolation:
    """What is in force for a kernel. It is no sandbox against hostile code.

    Attributes:
        network_blocked: Whether it reaches nothing but its own loopback interface.
        own_processes: Whether it sees and reaches no processes but its own.
        files_read_only: Whether it can write only into its working folder and the folders
            for temporary files. What the user may read it can always read.
        memory_limit: The most private memory of each of its processes in bytes, or `None`.
    """

    network_blocked: bool
    own_processes: bool
    files_read_only: bool
    memory_limit: int | None


# Where programs and packages are, and how texts and times are written.
_PASSED: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "LANG", "TZ")


def kernel_environment(runtime: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a kernel: what it needs of ours, and what the user gives."""
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
