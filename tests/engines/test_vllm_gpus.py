"""The vllm backend across two GPUs: the contract, and the tokens of one GPU."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harmony_backends.vllm import VLLMBackend

import harmony_kit as hk

pytest.register_assert_rewrite("harmony_backends.testing")
from harmony_backends.testing import BackendContract  # noqa: E402


def count_gpus() -> int:
    """Asked in another process: vLLM forks its own, which cannot use a CUDA begun here."""
    program = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    return int(done.stdout or 0)


if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)
if count_gpus() < 2:
    pytest.skip("fewer than two GPUs", allow_module_level=True)

CONTEXT = 1024
TENSOR_PARALLEL = {"tensor_parallel_size": 2}
DATA_PARALLEL = {"data_parallel_size": 2}


def start(checkpoint: Path, dtype: str = "float32", **arguments: Any) -> VLLMBackend:
    return VLLMBackend(
        str(checkpoint),
        dtype=dtype,
        enforce_eager=True,
        max_model_len=CONTEXT,
        max_num_seqs=32,
        gpu_memory_utilization=0.3,
        **arguments,
    )


class TestTensorParallel(BackendContract):
    """The contract, each layer cut in two."""

    arguments: dict[str, Any] = TENSOR_PARALLEL
    max_context = CONTEXT
    vocabulary_size = 201088
    checkpoint: Path

    @pytest.fixture(autouse=True)
    def _checkpoint(self, checkpoint: Path) -> None:
        type(self).checkpoint = checkpoint

    async def make_backend(self) -> VLLMBackend:
        return start(self.checkpoint, **self.arguments)

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        assert isinstance(backend, VLLMBackend)
        return backend.unfinished_requests


class TestDataParallel(TestTensorParallel):
    """The contract, with two engines behind one backend."""

    arguments = DATA_PARALLEL


PROMPTS = [hk.render([hk.user(f"Say something of {number}.")]) for number in range(16)]


def greedy(checkpoint: Path, **arguments: Any) -> list[list[int]]:
    """In float32: in lower precision the sums of two halves round otherwise than one."""

    async def go() -> list[list[int]]:
        backend = start(checkpoint, **arguments)
        sampling = hk.SamplingParams(temperature=0, max_tokens=24, stop_tokens=())

        async def complete(prompt: Sequence[int]) -> list[int]:
            chunks = [chunk async for chunk in backend.generate(prompt, sampling)]
            return [token for chunk in chunks for token in chunk.tokens]

        try:
            return await asyncio.gather(*map(complete, PROMPTS))
        finally:
            await backend.aclose()

    return asyncio.run(go())


@pytest.fixture(scope="module")
def of_one_gpu(checkpoint: Path) -> list[list[int]]:
    tokens = greedy(checkpoint)
    assert len(set(map(tuple, tokens))) == len(PROMPTS)
    return tokens


@pytest.mark.parametrize("arguments", [TENSOR_PARALLEL, DATA_PARALLEL], ids=lambda a: next(iter(a)))
def test_two_gpus_give_greedily_what_one_gives(
    checkpoint: Path, of_one_gpu: list[list[int]], arguments: dict[str, Any]
) -> None:
    assert greedy(checkpoint, **arguments) == of_one_gpu
