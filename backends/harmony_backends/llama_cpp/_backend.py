"""The llama_cpp backend: llama.cpp on this machine, from the wheel `xllamacpp`.

llama.cpp runs as its own server on loopback, in a process of its own, and is spoken to as any
other server of completions: its calls in process give no token ids, and cannot give
up a request that waits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harmony_kit.engine._protocol import (
    Feature,
    TokenChunk,
    check_prompt,
    check_support,
    completion_of,
)
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import END_OF_TEXT

from .closing import Closing
from .completions_retry import StatusError
from .llama_cpp_server import LlamaCppServer
from .openai_completions import OpenAICompletionsBackend
from .stop_texts import StopTexts
from .vllm import DeadEngineError

_HTTP_THREADS: Final = 128
"""Requests that wait for their turn have a thread each, or nobody would see them given up."""

_SECONDS_TO_DIE: Final = 1.0  # from the end of its connections to that of the process

_SEEDS: Final = 2**32 - 1  # the one beyond stands for none

_REQUESTS: Final = re.compile(r"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)


class LlamaCppBackend(Closing):
    """Generates with llama.cpp, several requests at once; more wait for their turn.

    The model's own chat template and its tokenizer have no part in it: only ids are
    exchanged. What a sampling leaves open is as llama.cpp has it (temperature 0.8,
    the best 40 tokens); penalties look at the last 64 tokens, those of the prompt too.

    Args:
        model: The path of a GGUF file.
        context: How many tokens a prompt and its completion may have together; llama.cpp rounds
            it up to a multiple of 256. Memory for them is taken at the start.
        parallel: How many requests are worked on at once, each with a context of its own.
        **server_options: Any of llama.cpp's options, as xllamacpp's `CommonParams` names them, such
            as `n_gpu_layers=0` or `cache_type_k="q8_0"`; a mapping sets options within
            one, such as `cpuparams={"n_threads": 4}` or `sampling={"top_k": 0}`.

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
            "n_ctx": context * parallel,  # it is divided among the requests
            "n_parallel": parallel,
            "n_threads_http": parallel + _HTTP_THREADS,
            "endpoint_metrics": True,
            "ui": False,
            "verbosity": 2,
        }
        self._closed = False
        self._server = LlamaCppServer({**options, **server_options})
        try:
            (known,) = self._server.ask("/v1/models")["data"]
        except BaseException:
            self._server.stop()
            raise
        self._vocabulary_size: int = known["meta"]["n_vocab"]
        self._context: int = known["meta"]["n_ctx"]
        self._requests = OpenAICompletionsBackend(
            self._server.url,
            api_key=self._server.key,
            dialect="llama_cpp",
            max_retries=1,  # for a kept connection that the server has closed meanwhile
            backoff=0.01,
            timeout=24 * 3600.0,  # a request may wait long for its turn; a dead server is noticed
            vocabulary_size=self._vocabulary_size,
        )
        self._requests.name = self.name

    @property
    def vocabulary_size(self) -> int:
        """The lowest id that the model does not know."""
        return self._vocabulary_size

    @property
    def context(self) -> int:
        """How many tokens a prompt and its completion may have together."""
        return self._context

    @property
    def unfinished_requests(self) -> int:
        """How many requests the engine is working on or keeps waiting; it is asked."""
        if self._closed or not self._server.is_running:
            return 0
        return sum(map(int, _REQUESTS.findall(self._server.ask("/metrics"))))

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """Generate a completion; see `harmony_kit.Backend`.

        Stop texts are looked for here, in the tokens' text; the token that completes one is
        the last of the completion.

        Args:
            prompt: Token ids.
            sampling: How to choose tokens, and when to stop. `<|endoftext|>` stops as well.

        Yields:
            The tokens as the engine gives them.

        Raises:
            GrammarError: llama.cpp's grammars cannot say the constraint, or nothing under it fits.
            DeadEngineError: The engine has died.
            BackendError: The prompt is none for this model, the engine refuses the request,
                or failed.
        """
        limit = self._limit(prompt, sampling)
        stop_texts = StopTexts(sampling.stop)
        try:
            async with aclosing(self._completion(list(prompt), sampling, limit)) as deltas:
                async for delta in deltas:
                    end = stop_texts.find(delta.tokens)
                    if end is not None:
                        yield TokenChunk(delta.tokens[:end], "stop")
                        return
                    yield delta
        except BackendError as error:
            if not self._closed:
                raise await self._translated(error) from error
            yield TokenChunk((), "abort")

    async def aclose(self) -> None:
        """Abort what is being generated and end the engine's process."""
        self._closed = True
        await asyncio.to_thread(self._server.stop)
        await self._requests.aclose()

    def _limit(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
        """How many tokens may be generated, for a prompt that may be generated for."""
        if self._closed:
            raise BackendError("the llama_cpp backend is closed")
        check_support(self, sampling)
        check_prompt(prompt, vocabulary_size=self._vocabulary_size)
        room = self._context - len(prompt)
        if room < 1:
            raise BackendError(
                f"the prompt has {len(prompt)} tokens; the context of {self._context} leaves "
                "no room for a completion"
            )
        if sampling.max_tokens is None:
            return room
        return min(room, sampling.max_tokens)

    async def _completion(
        self, prompt: list[int], sampling: SamplingParams, limit: int
    ) -> AsyncGenerator[TokenChunk, None]:
        """What the engine generates, up to one of the stop tokens or the limit.

        llama.cpp stops at all tokens that end a text in its view, whatever was asked for:
        where it did so, it is asked to go on. Under a constraint nothing follows them.
        """
        if sampling.constraint is not None:
            part = replace(sampling, max_tokens=limit, stop=())
            async with aclosing(completion_of(self._requests, prompt, part)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        stop_tokens = (*sampling.stop_tokens, END_OF_TEXT)
        said: list[int] = []
        is_over = False
        while not is_over:
            before = len(said)
            part = replace(
                sampling,
                max_tokens=limit - before,
                stop=(),
                stop_tokens=stop_tokens,
                seed=None if sampling.seed is None else (sampling.seed + before) % _SEEDS,
            )
            async with aclosing(completion_of(self._requests, prompt + said, part)) as deltas:
                async for delta in deltas:
                    said += delta.tokens
                    reason = delta.finish_reason
                    if reason == "stop" and len(said) > before and said[-1] not in stop_tokens:
                        reason = None if len(said) < limit else "length"
                    is_over = reason is not None
                    yield TokenChunk(delta.tokens, reason)

    async def _translated(self, error: BackendError) -> BackendError:
        if isinstance(error, StatusError):
            return error  # it lives, and answers
        if not await asyncio.to_thread(self._server.ends_within, _SECONDS_TO_DIE):
            return error
        return DeadEngineError(
            "\n".join(
                [
                    "llama.cpp's process has ended; make a new backend. Its last words:",
                    *self._server.log,
                ]
            )
        )
