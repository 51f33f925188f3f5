"""The contract of a backend, as pytest tests that run on any backend.

In a test module:

    from harmony_backends.testing import BackendContract

    class TestMyBackend(BackendContract):
        max_context = 1024

        async def make_backend(self):
            return MyBackend("some model")

and, so that pytest explains failures, in `conftest.py`:

    pytest.register_assert_rewrite("harmony_backends.testing")

The backend is made once for the class, in an event loop that all tests of the class share, so that
a slow engine starts only once.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeVar

import pytest

from harmony_kit.engine._protocol import Backend, FinishReason, TokenChunk, completion_of
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.tools._build import user
from harmony_kit.wire._render import render
from harmony_kit.wire._vocabulary import SIZE

_T = TypeVar("_T")

_CANCELLED_AT_ONCE: Final = 10


class BackendUnderTest:
    """How the tests make a backend, and what they have to know about it.

    Attributes:
        max_context: The maximum number of tokens of a prompt and its completion; `None` if the
            tests could not reach it.
        vocabulary_size: The lowest token id that the engine does not know.
        can_seed: Whether a seed makes sampling repeatable.
        is_greedy_deterministic: Whether greedy decoding gives the same tokens whatever else the
            engine does. False for low precision, where sums depend on the batch.
        delivers_stop_token: Whether the stop token is part of the completion.
        long_completion: The number of tokens that the engine can generate for a prompt of `prompt`.
        concurrency: How many requests run at once.
        cancellations: How many requests are cancelled after a random number of tokens.
        patience: Seconds that a test may take once the backend is made, and that the engine may
            take to drop an aborted request.
    """

    max_context: ClassVar[int | None] = None
    vocabulary_size: ClassVar[int] = SIZE
    can_seed: ClassVar[bool] = True
    is_greedy_deterministic: ClassVar[bool] = True
    delivers_stop_token: ClassVar[bool] = True
    long_completion: ClassVar[int] = 48
    concurrency: ClassVar[int] = 32
    cancellations: ClassVar[int] = 10
    patience: ClassVar[float] = 120.0

    # --- To override ------------------------------------------------------------------------

    def make_backend(self) -> Backend | Awaitable[Backend]:
        """Make the backend. A coroutine function is awaited in the event loop of the tests."""
        raise NotImplementedError("override make_backend")

    def clean_up(self, backend: Backend) -> Awaitable[None] | None:  # noqa: ARG002
        """Free what `make_backend` made next to the backend, which is closed already."""
        return None

    def prompt(self, number: int = 0) -> list[int]:
        """A prompt for a completion of `long_completion` tokens, different for each number."""
        return render([user(f"Tell me about the number {number}.")])

    def unfinished_requests(self, backend: Backend) -> int | None:  # noqa: ARG002
        """The number of requests that the engine is working on; `None` if that is unknown."""
        return None

    # --- Requests and checks ----------------------------------------------------------------

    def _needs_determinism(self) -> None:
        if not self.is_greedy_deterministic:
            pytest.skip("the backend's greedy decoding is not deterministic")

    @staticmethod
    def _greedy(max_tokens: int) -> SamplingParams:
        return SamplingParams(max_tokens=max_tokens, temperature=0, stop_tokens=())

    async def _chunks(
        self, backend: Backend, prompt: Sequence[int], sampling: SamplingParams
    ) -> list[TokenChunk]:
        return [chunk async for chunk in backend.generate(prompt, sampling)]

    async def _complete(
        self, backend: Backend, prompt: Sequence[int], sampling: SamplingParams
    ) -> tuple[list[int], FinishReason | None]:
        chunks = await self._chunks(backend, prompt, sampling)
        tokens = [token for chunk in chunks for token in chunk.tokens]
        return tokens, chunks[-1].finish_reason

    async def _works(self, backend: Backend) -> None:
        tokens, reason = await self._complete(backend, self.prompt(), self._greedy(3))
        assert (len(tokens), reason) == (3, "length")

    async def _becomes_idle(self, backend: Backend) -> None:
        """Wait until the engine has dropped aborted requests."""
        deadline = time.monotonic() + self.patience
        while unfinished := self.unfinished_requests(backend):
            assert time.monotonic() < deadline, f"{unfinished} requests are unfinished"
            await asyncio.sleep(0.01)

    async def _cancel_at(self, backend: Backend, count: int, sampling: SamplingParams) -> None:
        """Cancel a consumer after it has received a number of tokens."""
        reached = asyncio.Event()

        async def consume() -> None:
            received = 0
            try:
                if count == 0:
                    reached.set()
                async with aclosing(completion_of(backend, self.prompt(), sampling)) as chunks:
                    async for chunk in chunks:
                        received += len(chunk.tokens)
                        if received >= count:
                            reached.set()
                            await asyncio.sleep(0)
            finally:
                reached.set()

        task = asyncio.create_task(consume())
        await reached.wait()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # it ended before, or raises its error here


class Harness:
    """A backend and its event loop."""

    def __init__(self, contract: BackendUnderTest) -> None:
        self._contract = contract
        self._runner = asyncio.Runner()
        self._backend: Backend | None = None

    def run(self, test: Callable[[Backend], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine function with the backend, which is made if there is none."""

        async def go() -> _T:
            if self._backend is None:
                made = self._contract.make_backend()
                self._backend = await made if inspect.isawaitable(made) else made
            async with asyncio.timeout(self._contract.patience):
                return await test(self._backend)

        return self._runner.run(go())

    def discard(self) -> None:
        """Close the backend; the next test gets a new one."""

        async def go(backend: Backend) -> None:
            await backend.aclose()
            cleaned = self._contract.clean_up(backend)
            if cleaned is not None:
                await cleaned

        if self._backend is not None:
            backend, self._backend = self._backend, None
            self._runner.run(go(backend))

    def close(self) -> None:
        """Close the backend and the event loop."""
        try:
            self.discard()
        finally:
            self._runner.close()


class BackendContract(BackendUnderTest):
    """Tests that pass for every backend.

    Derive a class whose name begins with `Test`, override `make_backend`, and override those of the
    other attributes and methods of `BackendUnderTest` that differ for your backend.
    """

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest) -> Harness:
        """The backend of the class, in its event loop."""
        cls = type(self)
        harness: Harness | None = cls.__dict__.get("_harness")
        if harness is None:
            harness = Harness(self)
            cls._harness = harness  # type: ignore[attr-defined]

            def close() -> None:
                del cls._harness  # type: ignore[attr-defined]
                harness.close()

            # Closed with the class. A fixture of that scope would have to be a class method,
            # which older versions of pytest do not take.
            parent = request.node.getparent(pytest.Class)
            parent.addfinalizer(close)
        return harness

    def test_ids_go_in_and_ids_come_out(self, harness: Harness) -> None:
        """Chunks of ids, of which the last has a finish reason."""

        async def go(backend: Backend) -> None:
            assert isinstance(backend, Backend)
            assert isinstance(backend.name, str)
            assert backend.name
            chunks = await self._chunks(backend, self.prompt(), self._greedy(8))
            assert all(isinstance(chunk, TokenChunk) for chunk in chunks)
            tokens = [token for chunk in chunks for token in chunk.tokens]
            assert len(tokens) == 8
            assert all(type(token) is int for token in tokens), tokens
            assert all(0 <= token < self.vocabulary_size for token in tokens), tokens
            *before, last = (chunk.finish_reason for chunk in chunks)
            assert set(before) <= {None}
            assert last == "length"

        harness.run(go)

    def test_logprobs_come_with_every_token_or_are_refused(self, harness: Harness) -> None:
        """Those of the token itself and of the likeliest; greedy tokens are the likeliest."""

        async def go(backend: Backend) -> None:
            sampling = replace(self._greedy(8), logprobs=3)
            if "logprobs" not in backend.supports:
                with pytest.raises(BackendError, match="logprobs"):
                    await self._chunks(backend, self.prompt(), sampling)
                return
            chunks = await self._chunks(backend, self.prompt(), sampling)
            count = 0
            for chunk in chunks:
                assert len(chunk.logprobs or ()) == len(chunk.tokens)
                for token, likely in zip(chunk.tokens, chunk.logprobs or (), strict=True):
                    count += 1
                    assert 3 <= len(likely) <= 4
                    assert likely[token] == max(likely.values()) <= 0
            assert count == 8
            own = await self._chunks(backend, self.prompt(), replace(sampling, logprobs=0))
            assert [*map(set, own[0].logprobs or ())] == [{token} for token in own[0].tokens]

        harness.run(go)

    def test_a_prompt_may_be_any_sequence(self, harness: Harness) -> None:
        """Such as a tuple; it is not changed."""

        async def go(backend: Backend) -> None:
            prompt = self.prompt()
            _, reason = await self._complete(backend, tuple(prompt), self._greedy(4))
            assert reason == "length"
            assert prompt == self.prompt()

        harness.run(go)

    def test_the_stop_token_comes_last(self, harness: Harness) -> None:
        """Checked with a token that a greedy completion has only once so far."""
        self._needs_determinism()

        async def go(backend: Backend) -> None:
            tokens, _ = await self._complete(backend, self.prompt(), self._greedy(16))
            place = max(tokens.index(token) for token in set(tokens[1:]))
            sampling = SamplingParams(max_tokens=16, temperature=0, stop_tokens=(tokens[place],))
            stopped = await self._complete(backend, self.prompt(), sampling)
            end = place + self.delivers_stop_token
            assert stopped == (tokens[:end], "stop")

        harness.run(go)

    @pytest.mark.parametrize("limit", [1, 2, 7])
    def test_a_limit_truncates(self, harness: Harness, limit: int) -> None:
        """At exactly this number of tokens."""

        async def go(backend: Backend) -> None:
            tokens, reason = await self._complete(backend, self.prompt(), self._greedy(limit))
            assert (len(tokens), reason) == (limit, "length")

        harness.run(go)

    def test_a_seed_repeats(self, harness: Harness) -> None:
        """A seeded completion is the same the second time."""
        if not self.can_seed:
            pytest.skip("the backend has no seed")

        async def go(backend: Backend) -> None:
            sampling = SamplingParams(max_tokens=12, temperature=1.0, seed=7, stop_tokens=())
            first = await self._complete(backend, self.prompt(), sampling)
            assert await self._complete(backend, self.prompt(), sampling) == first

        harness.run(go)

    def test_concurrent_requests_give_what_sequential_ones_give(self, harness: Harness) -> None:
        """Requests do not affect each other."""
        self._needs_determinism()
        prompts = [self.prompt(number) for number in range(self.concurrency)]

        async def go(backend: Backend) -> None:
            sampling = self._greedy(8)
            one_by_one = [await self._complete(backend, prompt, sampling) for prompt in prompts]
            together = await asyncio.gather(
                *(self._complete(backend, prompt, sampling) for prompt in prompts)
            )
            assert together == one_by_one
            await self._becomes_idle(backend)

        harness.run(go)

    def test_an_iterator_that_was_never_started_holds_nothing(self, harness: Harness) -> None:
        """A generation starts with the request for the first chunk."""

        async def go(backend: Backend) -> None:
            await _close(backend.generate(self.prompt(), self._greedy(8)))
            await self._becomes_idle(backend)
            await self._works(backend)

        harness.run(go)

    def test_closing_the_iterator_frees_the_engine(self, harness: Harness) -> None:
        """In the middle of a generation."""

        async def go(backend: Backend) -> None:
            chunks = backend.generate(self.prompt(), self._greedy(self.long_completion))
            await anext(chunks)
            await _close(chunks)
            await self._becomes_idle(backend)
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
            await self._works(backend)

        harness.run(go)

    def test_cancelling_the_consumer_frees_the_engine(self, harness: Harness) -> None:
        """At random tokens, several at once, next to a request that is not disturbed."""
        chance = random.Random(20250805)
        positions = [chance.randrange(self.long_completion) for _ in range(self.cancellations)]

        async def go(backend: Backend) -> None:
            long = self._greedy(self.long_completion)
            for start in range(0, self.cancellations, _CANCELLED_AT_ONCE):
                undisturbed = asyncio.create_task(self._complete(backend, self.prompt(1), long))
                cancelled = positions[start : start + _CANCELLED_AT_ONCE]
                await asyncio.gather(*(self._cancel_at(backend, at, long) for at in cancelled))
                tokens, reason = await undisturbed
                assert (len(tokens), reason) == (self.long_completion, "length")
            await self._becomes_idle(backend)
            await self._works(backend)

        harness.run(go)

    @pytest.mark.parametrize("position", [0, 3])
    @pytest.mark.parametrize("kind", ["negative", "too high", "not an integer"])
    def test_an_invalid_id_is_refused(self, harness: Harness, kind: str, position: int) -> None:
        """With an error that names the position; the engine keeps working."""
        bad: Any = {"negative": -1, "too high": self.vocabulary_size, "not an integer": "1"}[kind]
        prompt = self.prompt()
        prompt[position] = bad

        async def go(backend: Backend) -> None:
            with pytest.raises(BackendError, match=rf"\b{position}\b"):
                await self._complete(backend, prompt, self._greedy(4))
            await self._works(backend)

        harness.run(go)

    def test_an_empty_prompt_is_refused(self, harness: Harness) -> None:
        """With an error that names the reason; the engine keeps working."""

        async def go(backend: Backend) -> None:
            with pytest.raises(BackendError, match="empty"):
                await self._complete(backend, [], self._greedy(4))
            await self._works(backend)

        harness.run(go)

    def test_an_over_long_prompt_is_refused(self, harness: Harness) -> None:
        """A prompt that is longer than the engine's context."""
        if self.max_context is None:
            pytest.skip("the backend has no context limit")
        length = self.max_context + 1
        once = self.prompt()
        prompt = (once * (length // len(once) + 1))[:length]

        async def go(backend: Backend) -> None:
            with pytest.raises(BackendError):
                await self._complete(backend, prompt, self._greedy(4))
            await self._becomes_idle(backend)
            await self._works(backend)

        harness.run(go)

    def test_refused_requests_do_not_affect_others(self, harness: Harness) -> None:
        """Concurrent requests generate what they generate alone."""
        self._needs_determinism()

        async def go(backend: Backend) -> None:
            sampling = self._greedy(12)
            alone = await self._complete(backend, self.prompt(), sampling)
            prompts: list[list[int]] = [self.prompt(), [], self.prompt(), [self.vocabulary_size]]
            results = await asyncio.gather(
                *(self._complete(backend, prompt, sampling) for prompt in prompts),
                return_exceptions=True,
            )
            assert results[::2] == [alone, alone]
            assert all(isinstance(result, BackendError) for result in results[1::2])

        harness.run(go)

    def test_closing_twice_and_using_a_closed_backend(self, harness: Harness) -> None:
        """Closing twice is fine, a request after that is an error."""

        async def go(backend: Backend) -> None:
            await self._works(backend)
            await backend.aclose()
            await backend.aclose()
            with pytest.raises(BackendError, match="closed"):
                await self._complete(backend, self.prompt(), self._greedy(4))

        try:
            harness.run(go)
        finally:
            harness.discard()


async def _close(chunks: AsyncIterator[TokenChunk]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
