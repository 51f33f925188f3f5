"""The llama_cpp backend: llama.cpp on this machine, from the wheel `xllamacpp`.

llama.cpp runs as its own server on loopback, in a process of its own, because its in-process calls
return no token ids and cannot abort a waiting request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harmony_kit.engine._protocol import Feature, TokenChunk, completion_of
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import END_OF_TEXT

from .._limits import EngineBackend
from .._stop_texts import StopTexts
from ..errors import DeadEngineError
from ..openai_completions import OpenAICompletionsBackend
from ..openai_completions._retry import StatusError
from ._server import LlamaCppServer

_HTTP_THREADS: Final = 128
"""Each waiting request occupies a thread; without one, its abort would go unnoticed."""

_SECONDS_TO_DIE: Final = 1.0  # from the end of its connections to that of the process

_SEEDS: Final = 2**32 - 1  # the next value means no seed

_REQUESTS: Final = re.compile(r"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)


class LlamaCppBackend(EngineBackend):
    """Generates with llama.cpp, several requests at once; further requests wait.

    Neither the model's chat template nor its tokenizer is used: only token ids are exchanged.
    Sampling parameters that a request leaves open have llama.cpp's defaults (temperature 0.8, the
    40 likeliest tokens). Penalties consider the last 64 tokens, including those of the prompt.

    Args:
        model: The path of a GGUF file.
        context: The maximum number of tokens of a prompt and its completion together; llama.cpp
            rounds it up to a multiple of 256. Its memory is allocated at the start.
        parallel: The number of requests that run at once, each with a context of its own.
        **server_options: llama.cpp's options by their names in xllamacpp's `CommonParams`, such as
            `n_gpu_layers=0` or `cache_type_k="q8_0"`. A mapping sets nested options, such as
            `cpuparams={"n_threads": 4}` or `sampling={"top_k": 0}`.

    Raises:
        BackendError: xllamacpp is not installed, or llama.cpp cannot load the model.
    """

    name = "llama_cpp"
    supports: frozenset[Feature] = frozenset({"constraint"})

    def __init__(
        self,
        model: str,
        *,
        context: int = 16384,
        parallel: int = 4,
        **server_options: Any,
    ) -> None:
        if context < 1 or parallel < 1:
            raise BackendError(
                f"context is {context} and parallel {parallel}; both must be at least 1"
            )
        if not Path(model).is_file():
            raise BackendError(f"llama_cpp cannot load {model}: there is no such file")
        options = {
            "model": {"path": str(model)},
            "n_ctx": context * parallel,  # llama.cpp divides it among the requests
            "n_parallel": parallel,
            "n_threads_http": parallel + _HTTP_THREADS,
            "endpoint_metrics": True,
            "ui": False,
            "verbosity": 2,
        }
        self._server = LlamaCppServer({**options, **server_options})
        try:
            (known,) = self._server.ask("/v1/models")["data"]
        except BaseException:
            self._server.stop()
            raise
        self._vocabulary_size = known["meta"]["n_vocab"]
        self._context = known["meta"]["n_ctx"]
        self._requests = OpenAICompletionsBackend(
            self._server.url,
            api_key=self._server.key,
            dialect="llama_cpp",
            max_retries=1,  # for an idle connection that the server has closed meanwhile
            backoff=0.01,
            timeout=24 * 3600.0,  # a request may wait for long; a dead server is noticed anyway
            vocabulary_size=self._vocabulary_size,
        )
        self._requests.name = self.name

    @property
    def unfinished_requests(self) -> int:
        """The number of requests that are running or waiting, from the server's metrics."""
        if self._closed or not self._server.is_running:
            return 0
        return sum(map(int, _REQUESTS.findall(self._server.ask("/metrics"))))

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """Generate a completion; see `harmony_kit.engine.Backend`.

        A completion also ends with the token that completes a stop text, and at `<|endoftext|>`.

        Yields:
            The tokens, one or several at a time.

        Raises:
            GrammarError: llama.cpp's grammars cannot express the constraint, or no completion under
                it fits the token limit.
            DeadEngineError: The engine has died.
            BackendError: The backend or the engine refuses the request, or the generation failed.
        """
        limit = self._room_for(prompt, sampling)
        stop_texts = StopTexts(sampling.stop)
        try:
            async with aclosing(self._completion(list(prompt), sampling, limit)) as chunks:
                async for chunk in chunks:
                    end = stop_texts.find(chunk.tokens)
                    if end is not None:
                        yield TokenChunk(chunk.tokens[:end], "stop")
                        return
                    yield chunk
        except BackendError as error:
            if not self._closed:
                raise await self._translated(error) from error
            yield TokenChunk((), "abort")

    async def aclose(self) -> None:
        """Abort all requests and end the engine's process."""
        self._closed = True
        await asyncio.to_thread(self._server.stop)
        await self._requests.aclose()

    async def _completion(
        self, prompt: list[int], sampling: SamplingParams, limit: int
    ) -> AsyncGenerator[TokenChunk, None]:
        """The engine's output, up to a stop token or the limit.

        llama.cpp stops at every token that its model file marks as an end, requested or not; the
        completion is then resumed with another request. Under a constraint these tokens are always
        the end.
        """
        if sampling.constraint is not None:
            part = replace(sampling, max_tokens=limit, stop=())
            async with aclosing(completion_of(self._requests, prompt, part)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        stop_tokens = (*sampling.stop_tokens, END_OF_TEXT)
        generated: list[int] = []
        is_finished = False
        while not is_finished:
            before = len(generated)
            part = replace(
                sampling,
                max_tokens=limit - before,
                stop=(),
                stop_tokens=stop_tokens,
                seed=None if sampling.seed is None else (sampling.seed + before) % _SEEDS,
            )
            async with aclosing(completion_of(self._requests, prompt + generated, part)) as chunks:
                async for chunk in chunks:
                    generated += chunk.tokens
                    reason = chunk.finish_reason
                    is_resumable = len(generated) > before and generated[-1] not in stop_tokens
                    if reason == "stop" and is_resumable:
                        reason = None if len(generated) < limit else "length"
                    is_finished = reason is not None
                    yield TokenChunk(chunk.tokens, reason)

    async def _translated(self, error: BackendError) -> BackendError:
        """A `DeadEngineError` if the engine has died, otherwise the error itself."""
        if isinstance(error, StatusError):
            return error  # the engine has answered
        if not await asyncio.to_thread(self._server.ends_within, _SECONDS_TO_DIE):
            return error
        return DeadEngineError(
            "\n".join(
                [
                    "llama.cpp's process has ended; make a new backend. Its last log lines:",
                    *self._server.log,
                ]
            )
        )
