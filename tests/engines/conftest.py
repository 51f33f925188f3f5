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
    "TRITON_F32_DEFAULT": "ieee",  # on a GPU, float32 is otherwise TF32 in Triton's kernels
}.items():
    os.environ.setdefault(variable, value)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt-oss checkpoint with random weights in float32."""
    folder = tmp_path_factory.mktemp("checkpoint")
    run_script("make_checkpoint.py", str(folder), "--hidden", "64", "--layers", "2")
    return folder


@pytest.fixture(scope="session")
def checkpoint_with_tokenizer(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint, with a tokenizer, and the ranks that vLLM's chat conversion reads."""
    folder = tmp_path_factory.mktemp("checkpoint_with_tokenizer")
    for file in checkpoint.iterdir():
        (folder / file.name).symlink_to(file)
    run_script("make_tokenizer.py", str(folder))
    return folder


@pytest.fixture(scope="session")
def gguf(checkpoint: Path) -> Path:
    """The same checkpoint for llama.cpp."""
    file = checkpoint / "model.gguf"
    run_script("make_gguf.py", str(checkpoint), str(file))
    return file


def run_script(name: str, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
