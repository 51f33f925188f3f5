"""Files of other projects that tests read: fetched with pip by their hash, kept in `build/`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "build"

CANNOT_FETCH = 3
"""The exit status if pip gets no archive, as without a network."""


def download(requirement: str, sha256: str, folder: Path, *options: str) -> Path:
    """Download the archive of one package; the process ends if pip cannot.

    Args:
        requirement: The package and its version, as in `trl==1.16.0`.
        sha256: The hash of the archive.
        folder: Where it goes, and where pip finds a build backend if it needs one.
        options: More options of `pip download`.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    command += ["--no-deps", "--require-hashes", "--retries", "1", *options]
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve())}
    pip = subprocess.run([*command, "-r", str(requirements)], env=environment, check=False)
    if pip.returncode:
        print(f"pip cannot fetch {requirement}", file=sys.stderr)
        sys.exit(CANNOT_FETCH)
    (archive,) = [*folder.glob("*.tar.gz"), *folder.glob("*.whl")]
    return archive
