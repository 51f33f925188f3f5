"""Files of other projects, which a script of `scripts/` fetches; skipped where pip cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
CANNOT_FETCH = 3


def fetched(script: str) -> Path:
    """What a script fetches: the path that it prints."""
    command = [sys.executable, str(SCRIPTS / f"{script}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == CANNOT_FETCH:
        pytest.skip(f"pip cannot fetch what {script}.py asks for (no network?)")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])
