"""`mypy --strict` over a program of a user, with no `ignore` in it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "user_code.py"


def test_mypy_accepts_a_program_and_refuses_its_mistakes(tmp_path):
    source = PROGRAM.read_text("utf-8")
    (tmp_path / "user_code.py").write_text(source, "utf-8")
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {ROOT}:{ROOT / 'backends'}\nfollow_imports = silent\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "user_code.py"]
    command += ["--cache-dir", str(tmp_path / "cache"), "--config-file", "mypy.ini"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=tmp_path)
    lines = done.stdout.splitlines()
    refused = [line for line in lines if ": error: " in line and line.startswith("user_code.py")]
    wrong = [number for number, line in enumerate(source.splitlines(), 1) if line.endswith("  # E")]
    assert [int(line.split(":")[1]) for line in refused] == wrong, done.stdout + done.stderr
    assert any("TurnStarted" in line for line in lines if "Revealed type" in line)
