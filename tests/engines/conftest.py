"""What the tests of real engines share: a checkpoint, and an environment for them.

They run where an engine is installed (see requirements/) and are skipped by name elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Before any engine is imported: a small machine, no network, nothing reported to anyone.
for variable, value in {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(variable, value)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt-oss checkpoint with random weights in float32."""
    folder = tmp_path_factory.mktemp("checkpoint")
    script = ROOT / "scripts" / "make_checkpoint.py"
    command = [sys.executable, str(script), str(folder), "--hidden", "64", "--layers", "2"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder
