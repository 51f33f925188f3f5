"""The contract of a backend, as tests that anyone can run on a backend of their own.

In a test module:

    from harmony_backends.testing import BackendContract

    class TestMyBackend(BackendContract):
        max_context = 1024

        async def make_backend(self):
            return MyBackend("some model")

and, so that failures show what was compared, in `conftest.py`:

    pytest.register_assert_rewrite("harmony_backends.testing")

The backend is made once for the class, in an event loop that all tests of the class share,
so that an engine which takes long to start does so once.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import pytest

from harmony_kit.engine._protocol import Backend, FinishReason, TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.tools._build import user
from harmony_kit.wire._render import render
from harmony_kit.wire._vocabulary import SIZE

_T = TypeVar("_T")


class Harness:
    """One backend and the event loop that it lives in.

    Args:
        contract: The tests, which say how the backend is made and cleaned up.
    """

    def __init__(self, contract: BackendContract) -> None:
        self._contract = contract
        self._runner = asyncio.Runner()
        self._backend: Backend | None = None

    def run(self, test: Callable[[Backend], Coroutine[Any, Any, _T]]) -> _T:
        """Run a test with the backend, which is made if there is none.

        Args:
            test: A coroutine function that takes the backend.
        """

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


class BackendContract:
    """What holds for every backend.

    Derive a class whose name begins with `Test`, and override `make_backend` and whatever
    of the following is otherwise with your backend.

    Attributes:
        max_context: How many tokens the engine's window holds; `None` if it has no limit that
            the tests could reach.
        vocabulary_size: The lowest id that the engine does not know.
        can_seed: Whether a seed makes sampling repeatable.
        is_greedy_deterministic: Whether greedy decoding always gives the same, whatever
            else the engine is doing. It does not in low precision, where sums depend on
            the batch.
        delivers_stop_token: Whether the token that stopped a generation is delivered.
        long_completion: How many tokens the engine can generate for a prompt of `prompt`.
        concurrency: How many requests run at once.
        cancellations: How many requests are cancelled at random tokens.
        patience: How many seconds a test may take once the backend is made, and how many an
            aborted request may take to leave the engine.
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
        """Make the backend; may be a coroutine function, and then runs in the event loop."""
        raise NotImplementedError("override make_backend")

    def clean_up(self, backend: Backend) -> Awaitable[None] | None:  # noqa: ARG002
        """Free what `make_backend` made beside the backend, which is closed already.

        Args:
            backend: The backend.
        """
        return None

    def prompt(self, number: int = 0) -> list[int]:
        """A prompt that the backend can answer with `long_completion` tokens.

        Args:
            number: Which one; every number has another prompt.
        """
        return render([user(f"Tell me about the number {number}.")])

    def unfinished_requests(self, backend: Backend) -> int | None:  # noqa: ARG002
        """How many requests the engine is working on; `None` if that cannot be known.

        Args:
            backend: The backend.
        """
        return None

    # --- The tests --------------------------------------------------------------------------

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
        """Deltas of ids, of which the last says why the generation ended."""

        async def go(backend: Backend) -> None:
            assert isinstance(backend, Backend)
            assert isinstance(backend.name, str)
            assert backend.name
            deltas = await self._deltas(backend, self.prompt(), self._greedy(8))
            assert all(isinstance(delta, TokenChunk) for delta in deltas)
            tokens = [token for delta in deltas for token in delta.tokens]
            assert len(tokens) == 8
            assert all(type(token) is int for token in tokens), tokens
            assert all(0 <= token < self.vocabulary_size for token in tokens), tokens
            *before, last = (delta.finish_reason for delta in deltas)
            assert set(before) <= {None}
            assert last == "length"

        harness.run(go)

    def test_logprobs_come_with_every_token_or_are_refused(self, harness: Harness) -> None:
        """Those of the token itself and of the likeliest; greedy tokens are the likeliest."""

        async def go(backend: Backend) -> None:
            sampling = replace(self._greedy(8), logprobs=3)
            if "logprobs" not in backend.supports:
                with pytest.raises(BackendError, match="logprobs"):
                    await self._deltas(backend, self.prompt(), sampling)
                return
            deltas = await self._deltas(backend, self.prompt(), sampling)
            count = 0
            for delta in deltas:
                assert len(delta.logprobs or ()) == len(delta.tokens)
                for token, likely in zip(delta.tokens, delta.logprobs or (), strict=True):
                    count += 1
                    assert 3 <= len(likely) <= 4
                    assert likely[token] == max(likely.values()) <= 0
            assert count == 8
            own = await self._deltas(backend, self.prompt(), replace(sampling, logprobs=0))
            assert [*map(set, own[0].logprobs or ())] == [{token} for token in own[0].tokens]

        harness.run(go)

    def test_a_prompt_may_be_any_sequence(self, harness: Harness) -> None:
        """Such as a tuple; and it stays as it was."""

        async def go(backend: Backend) -> None:
            prompt = self.prompt()
            _, reason = await self._complete(backend, tuple(prompt), self._greedy(4))
            assert reason == "length"
            assert prompt == self.prompt()

        harness.run(go)

    def test_the_stop_token_comes_last(self, harness: Harness) -> None:
        """Of a greedy completion, a token that stands at no earlier place is made a stop token."""
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
    def test_a_limit_cuts(self, harness: Harness, limit: int) -> None:
        """At exactly so many tokens."""

        async def go(backend: Backend) -> None:
            tokens, reason = await self._complete(backend, self.prompt(), self._greedy(limit))
            assert (len(tokens), reason) == (limit, "length")

        harness.run(go)

    def test_a_seed_repeats(self, harness: Harness) -> None:
        """A seeded completion is the same a second time."""
        if not self.can_seed:
            pytest.skip("the backend has no seed")

        async def go(backend: Backend) -> None:
            sampling = SamplingParams(max_tokens=12, temperature=1.0, seed=7, stop_tokens=())
            first = await self._complete(backend, self.prompt(), sampling)
            assert await self._complete(backend, self.prompt(), sampling) == first

        harness.run(go)

    def test_concurrent_requests_give_what_sequential_ones_give(self, harness: Harness) -> None:
        """No request sees anything of another."""
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

    def test_an_iterator_that_was_never_begun_holds_nothing(self, harness: Harness) -> None:
        """Only asking for the first delta begins a generation."""

        async def go(backend: Backend) -> None:
            await _close(backend.generate(self.prompt(), self._greedy(8)))
            await self._becomes_idle(backend)
            await self._works(backend)

        harness.run(go)

    def test_closing_the_iterator_frees_the_engine(self, harness: Harness) -> None:
        """In the middle of a generation."""

        async def go(backend: Backend) -> None:
            deltas = backend.generate(self.prompt(), self._greedy(self.long_completion))
            await anext(deltas)
            await _close(deltas)
            await self._becomes_idle(backend)
            with pytest.raises(StopAsyncIteration):
                await anext(deltas)
            await self._works(backend)

        harness.run(go)

    def test_cancelling_the_consumer_frees_the_engine(self, harness: Harness) -> None:
        """At random tokens, several at once and one beside them that goes on undisturbed."""
        chance = random.Random(20250805)

        async def go(backend: Backend) -> None:
            undisturbed = asyncio.create_task(self._complete(backend, self.prompt(1), long))
            for _ in range(self.cancellations):
                await self._cancel_at(backend, chance.randrange(self.long_completion), long)
            tokens, reason = await undisturbed
            assert (len(tokens), reason) == (self.long_completion, "length")
            await self._becomes_idle(backend)
            await self._works(backend)

        long = self._greedy(self.long_completion)
        harness.run(go)

    @pytest.mark.parametrize("position", [0, 3])
    @pytest.mark.parametrize("kind", ["negative", "too high", "no integer"])
    def test_an_id_that_is_none_is_refused(
        self, harness: Harness, kind: str, position: int
    ) -> None:
        """By an error that names the position, and without harm to the engine."""
        bad: Any = {"negative": -1, "too high": self.vocabulary_size, "no integer": "1"}[kind]
        prompt = self.prompt()
        prompt[position] = bad

        async def go(backend: Backend) -> None:
            with pytest.raises(BackendError, match=rf"\b{position}\b"):
                await self._complete(backend, prompt, self._greedy(4))
            await self._works(backend)

        harness.run(go)

    def test_an_empty_prompt_is_refused(self, harness: Harness) -> None:
        """By an error that says so, and without harm to the engine."""

        async def go(backend: Backend) -> None:
            with pytest.raises(BackendError, match="empty"):
                await self._complete(backend, [], self._greedy(4))
            await self._works(backend)

        harness.run(go)

    def test_an_over_long_prompt_is_refused(self, harness: Harness) -> None:
        """One that is longer than the engine's window."""
        if self.max_context is None:
            pytest.skip("the backend has no window")
        length = self.max_context + 1
        once = self.prompt()
        prompt = (once * (length // len(once) + 1))[:length]

        async def go(backend: Backend) -> None:
            with pytest.raises(BackendError):
                await self._complete(backend, prompt, self._greedy(4))
            await self._becomes_idle(backend)
            await self._works(backend)

        harness.run(go)

    def test_refused_requests_do_no_harm_to_others(self, harness: Harness) -> None:
        """Those that run beside them give what they give alone."""
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

    def test_closing_twice_and_using_what_is_closed(self, harness: Harness) -> None:
        """The first is well, the second an error."""

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

    # --- What the tests share ---------------------------------------------------------------

    def _needs_determinism(self) -> None:
        if not self.is_greedy_deterministic:
            pytest.skip("the backend's greedy decoding is not deterministic")

    @staticmethod
    def _greedy(max_tokens: int) -> SamplingParams:
        return SamplingParams(max_tokens=max_tokens, temperature=0, stop_tokens=())

    async def _deltas(
        self, backend: Backend, prompt: Sequence[int], sampling: SamplingParams
    ) -> list[TokenChunk]:
        return [delta async for delta in backend.generate(prompt, sampling)]

    async def _complete(
        self, backend: Backend, prompt: Sequence[int], sampling: SamplingParams
    ) -> tuple[list[int], FinishReason | None]:
        deltas = await self._deltas(backend, prompt, sampling)
        tokens = [token for delta in deltas for token in delta.tokens]
        return tokens, deltas[-1].finish_reason

    async def _works(self, backend: Backend) -> None:
        tokens, reason = await self._complete(backend, self.prompt(), self._greedy(3))
        assert (len(tokens), reason) == (3, "length")

    async def _becomes_idle(self, backend: Backend) -> None:
        """The engine may need a moment to notice that a request was given up."""
        deadline = time.monotonic() + self.patience
        while unfinished := self.unfinished_requests(backend):
            assert time.monotonic() < deadline, f"{unfinished} requests are unfinished"
            await asyncio.sleep(0.01)

    async def _cancel_at(self, backend: Backend, count: int, sampling: SamplingParams) -> None:
        """Cancel a consumer when it has been given a number of tokens."""
        reached = asyncio.Event()

        async def consume() -> None:
            received = 0
            deltas = backend.generate(self.prompt(), sampling)
            try:
                if count == 0:
                    reached.set()
                async for delta in deltas:
                    received += len(delta.tokens)
                    if received >= count:
                        reached.set()
                        await asyncio.sleep(0)
            finally:
                # What the loop of this package does too: garbage collection would come too late.
                await _close(deltas)

        task = asyncio.create_task(consume())
        await reached.wait()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # It had ended before, or shows what went wrong.


async def _close(deltas: AsyncIterator[TokenChunk]) -> None:
    close = getattr(deltas, "aclose", None)
    if close is not None:
        await close()
