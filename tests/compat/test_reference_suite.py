"""The reference's own test suite, with our module in the place of the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fetched_files import fetched

# Without a network, so that a download would be noticed.
PROGRAM = """
import socket, sys
import pytest
from harmony_kit.compat import openai_harmony

def refuse(*args, **kwargs):
    raise OSError("no network in this test")

socket.socket.connect = socket.getaddrinfo = refuse
sys.modules["openai_harmony"] = openai_harmony
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def suite() -> Path:
    return fetched("fetch_reference_suite")


def test_suite_passes(suite: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    options = ["-c", os.devnull, "--rootdir", str(suite), "-p", "no:cacheprovider"]
    options += [f"--junit-xml={report}", str(suite / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("TIKTOKEN_ENCODINGS_BASE", None)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = ElementTree.parse(report).getroot().find("testsuite")
    assert result is not None
    counts = {name: int(result.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 42, "failures": 0, "errors": 0, "skipped": 0}
