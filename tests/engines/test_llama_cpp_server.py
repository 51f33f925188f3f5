"""The HTTP backend against llama.cpp's own server."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import harmony_kit as hk
from harmony_kit.engine._protocol import completion_of
from harmony_kit.wire._vocabulary import RETURN

pytest.register_assert_rewrite("harmony_backends.testing")
from harmony_backends.testing import BackendContract  # noqa: E402

for module in ("xllamacpp", "gguf", "httpx"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

import httpx  # noqa: E402
from harmony_backends.openai_completions import OpenAICompletionsBackend  # noqa: E402

CONTEXT = 1024
HELLO = hk.encode_with_special("<|start|>user<|message|>Hello<|end|><|start|>assistant")

PROGRAM = """
import sys
import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx, parameters.n_parallel = 4 * int(sys.argv[2]), 4
parameters.n_threads_http = 64
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
parameters.endpoint_metrics = True
parameters.warmup = False
parameters.verbosity = 1
parameters.api_keys = ["secret"]
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class Server:
    """llama.cpp's server in a process of its own, on a free port."""

    def __init__(self, gguf: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(gguf), str(CONTEXT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def backend(self, **options: Any) -> OpenAICompletionsBackend:
        return OpenAICompletionsBackend(self.url + "/v1", api_key="secret", **options)

    def unfinished_requests(self) -> int:
        headers = {"Authorization": "Bearer secret"}
        text = httpx.get(self.url + "/metrics", headers=headers, timeout=60).text
        found = re.findall(r"^llamacpp:requests_(?:processing|deferred) (\d+)", text, re.MULTILINE)
        assert len(found) == 2
        return sum(map(int, found))

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[Server]:
    server = Server(gguf)
    yield server
    server.stop()


class TestLlamaCppServer(BackendContract):
    """The contract, streamed."""

    max_context = CONTEXT
    vocabulary_size = 201088
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        type(self).server = server

    def make_backend(self) -> OpenAICompletionsBackend:
        return self.server.backend()

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        return self.server.unfinished_requests()


async def complete(
    backend: hk.engine.Backend, prompt: Sequence[int], sampling: hk.SamplingParams
) -> tuple[list[int], str | None]:
    chunks = [chunk async for chunk in backend.generate(prompt, sampling)]
    return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason


def test_streamed_or_not_the_ids_are_the_same(server: Server) -> None:
    """Those within characters of several tokens too."""
    prompts = [[*HELLO, number] for number in range(8)]
    sampling = hk.SamplingParams(max_tokens=64, temperature=0, stop_tokens=())

    async def go(stream: bool) -> list[tuple[list[int], str | None]]:
        backend = server.backend(stream=stream)
        completions = [await complete(backend, prompt, sampling) for prompt in prompts]
        await backend.aclose()
        return completions

    streamed = asyncio.run(go(True))
    assert streamed == asyncio.run(go(False))
    tokens = [token for tokens, _ in streamed for token in tokens]
    assert len(tokens) == 8 * 64
    assert any("\ufffd" in hk.decode([token]) for token in tokens)


@pytest.mark.parametrize("stream", [True, False])
def test_constrained_completions_are_well_formed(server: Server, stream: bool) -> None:
    """From the first token on, and within the limit."""
    pytest.importorskip("llguidance")
    from constrained_requests import answer_all, check_all

    async def go() -> list[list[int]]:
        backend = server.backend(stream=stream)
        try:
            return await answer_all(backend)
        finally:
            await backend.aclose()

    check_all(asyncio.run(go()))


def test_a_wrong_key_is_an_error_that_says_so(server: Server) -> None:
    async def go() -> None:
        backend = OpenAICompletionsBackend(server.url + "/v1", api_key="wrong")
        with pytest.raises(hk.errors.BackendError, match="401"):
            await complete(backend, HELLO, hk.SamplingParams())
        await backend.aclose()

    asyncio.run(go())


def test_a_server_that_is_killed_within_a_stream_is_an_error(gguf: Path) -> None:
    """What came before was delivered."""
    server = Server(gguf)
    received: list[int] = []

    async def go() -> None:
        backend = server.backend(max_retries=1, backoff=0.01)
        sampling = hk.SamplingParams(temperature=0, stop_tokens=(RETURN,))

        async def consume() -> None:
            async with aclosing(completion_of(backend, HELLO, sampling)) as chunks:
                async for chunk in chunks:
                    received.extend(chunk.tokens)
                    if len(received) == 5:
                        os.kill(server.process.pid, signal.SIGKILL)

        with pytest.raises(hk.errors.BackendError, match="openai_completions at"):
            await consume()
        assert len(received) >= 5
        with pytest.raises(hk.errors.BackendError, match="cannot be reached"):
            await complete(backend, HELLO, sampling)
        await backend.aclose()

    try:
        asyncio.run(go())
    finally:
        server.stop()
