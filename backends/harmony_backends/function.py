"""The function backend: a Python callable generates, for tests of code that uses backends."""

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
from dataclasses import replace

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import Feature, TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import SIZE, encode_with_special

from ._cutting import Cutter
from ._limits import closed_error, room_for
from ._stop_texts import StopTexts
from .closing import Closing

Answer = Iterable[int] | AsyncIterable[int] | str
"""Token ids, or text in which special tokens are written out."""

AnswerFunction = Callable[[list[int], SamplingParams], Answer | Awaitable[Answer]]
"""A function from a prompt's token ids and its sampling to the completion."""


class FunctionBackend(Closing):
    """Generates what a function returns, up to the first stop token or the token limit.

    The function runs in the event loop: if it waits, it should be a coroutine function or an async
    generator. A generator that it returned is closed with the iterator of the completion.

    Args:
        function: Takes the prompt's token ids and the sampling, and returns an `Answer`. May be a
            coroutine function.
        name: The backend's name in messages.
        chunk_size: Tokens per chunk.
        max_context: The maximum number of tokens of a prompt and its completion together.

    Attributes:
        unfinished: The number of running generations.

    Raises:
        BackendError: `function` is not callable, or `chunk_size` is below 1.

    Example:
        >>> import harmony_kit as hk
        >>> def answer(prompt, sampling):
        ...     return "<|channel|>final<|message|>Hello!<|return|>"
        >>> hk.run([hk.user("Hi")], FunctionBackend(answer)).text
        'Hello!'
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
            raise BackendError(f"function is {function!r}, which is not callable")
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
        """Generate the function's answer; see `harmony_kit.engine.Backend`.

        Raises:
            BackendError: The backend refuses the prompt, the function raised, or it returned
                something other than token ids.
        """
        if self._closed:
            raise closed_error(self.name)
        limit = room_for(self, prompt, sampling, context=self._max_context)
        cutter, stop_texts = Cutter(replace(sampling, max_tokens=limit)), StopTexts(sampling.stop)
        self.unfinished += 1
        try:
            async with aclosing(self._batches(list(prompt), sampling)) as batches:
                async for tokens in batches:
                    chunk = cutter.cut(tokens)
                    end = stop_texts.find(chunk.tokens)
                    if end is not None:
                        chunk = TokenChunk(chunk.tokens[:end], "stop")
                    yield chunk
                    if chunk.finish_reason is not None:
                        return
            yield TokenChunk((), "stop")
        finally:
            self.unfinished -= 1

    async def _batches(
        self, prompt: list[int], sampling: SamplingParams
    ) -> AsyncGenerator[list[int], None]:
        """The function's tokens, `chunk_size` at a time."""
        batch: list[int] = []
        async with aclosing(self._tokens(prompt, sampling)) as tokens:
            async for token in tokens:
                if type(token) is not int or not 0 <= token < SIZE:
                    raise BackendError(f"{self.name} returned {token!r}, which is not a token id")
                batch.append(token)
                if len(batch) == self._chunk_size:
                    yield batch
                    batch = []
                    await asyncio.sleep(0)
        if batch:
            yield batch

    async def _tokens(
        self, prompt: list[int], sampling: SamplingParams
    ) -> AsyncGenerator[int, None]:
        answer: Answer | None = None
        try:
            returned = self._function(prompt, sampling)
            answer = await returned if inspect.isawaitable(returned) else returned
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
        """Refuse further prompts."""
        self._closed = True
