"""The function backend: a plain callable answers, for tests of what is built over backends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Sequence,
)
from contextlib import aclosing

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import Feature, TokenChunk, check_prompt, check_support
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import SIZE, encode_with_special

from .closing import Closing
from .cutting import Cutter

Answer = Iterable[int] | AsyncIterable[int] | str
"""Token ids, at once or as they come, or text in which special tokens are spelt out."""

AnswerFunction = Callable[[list[int], SamplingParams], Answer | Awaitable[Answer]]
"""What answers a prompt."""


class FunctionBackend(Closing):
    """Gives what a function answers, up to the first stop token or the token limit.

    The function runs in the event loop: one that waits should be a coroutine function or
    an async generator. When the iterator is closed, a generator that the function gave is
    closed too.

    Args:
        function: Takes the prompt's token ids and the sampling; see `Answer` for what it
            gives. It may also be a coroutine function.
        name: What to call the backend in messages to a person.
        chunk_size: How many tokens a delta has.
        max_context: The most tokens of a prompt and its completion together.

    Attributes:
        unfinished: How many generations are going on.

    Raises:
        BackendError: The function is none, or the chunk size is not positive.
    """

    supports: frozenset[Feature] = frozenset()

    @checked_options
    def __init__(
        self,
        function: AnswerFunction,
        name: str = "function",
        *,
        chunk_size: int = 1,
        max_context: int | None = None,
    ) -> None:
        if not callable(function):
            raise BackendError(f"{function!r} is no function")
        if chunk_size < 1:
            raise BackendError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.name = name
        self.unfinished = 0
        self._function = function
        self._chunk_size = chunk_size
        self._max_context = max_context
        self._closed = False

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Give the function's answer; see `harmony_kit.Backend`.

        Raises:
            BackendError: The prompt cannot be answered, the function raised, or it gave what
                is no token id.
        """
        if self._closed:
            raise BackendError(f"{self.name} is closed")
        check_support(self, sampling)
        check_prompt(prompt)
        cutters = [Cutter(sampling)]
        if self._max_context is not None:
            room = self._max_context - len(prompt)
            if room < 1:
                raise BackendError(
                    f"the prompt has {len(prompt)} tokens; with one of the answer that is more "
                    f"than the {self._max_context} of the window"
                )
            cutters.append(Cutter(SamplingParams(max_tokens=room, stop_tokens=())))
        self.unfinished += 1
        try:
            async with aclosing(self._chunks(list(prompt), sampling)) as chunks:
                async for chunk in chunks:
                    delta = TokenChunk(chunk)
                    for cutter in cutters:
                        cut = cutter.cut(delta.tokens)
                        delta = TokenChunk(cut.tokens, cut.finish_reason or delta.finish_reason)
                    yield delta
                    if delta.finish_reason is not None:
                        return
            yield TokenChunk((), "stop")
        finally:
            self.unfinished -= 1

    async def _chunks(
        self, prompt: list[int], sampling: SamplingParams
    ) -> AsyncGenerator[list[int], None]:
        chunk: list[int] = []
        async with aclosing(self._tokens(prompt, sampling)) as tokens:
            async for token in tokens:
                if type(token) is not int or not 0 <= token < SIZE:
                    raise BackendError(f"{self.name} gave {token!r}, which is no token id")
                chunk.append(token)
                if len(chunk) == self._chunk_size:
                    yield chunk
                    chunk = []
                    await asyncio.sleep(0)
        if chunk:
            yield chunk

    async def _tokens(
        self, prompt: list[int], sampling: SamplingParams
    ) -> AsyncGenerator[int, None]:
        answer: Answer | None = None
        try:
            made = self._function(prompt, sampling)
            answer = await made if inspect.isawaitable(made) else made
            if isinstance(answer, str):
                answer = encode_with_special(answer)
            if isinstance(answer, AsyncIterable):
                async for token in answer:
                    yield token
            else:
                for token in answer:
                    yield token
        except Exception as error:
            raise BackendError(f"{self.name}: {type(error).__name__}: {error}") from error
        finally:
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()
            elif isinstance(answer, Generator):
                answer.close()

    async def aclose(self) -> None:
        """Take no more prompts."""
        self._closed = True
