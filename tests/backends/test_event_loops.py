"""What engines' backends share: crossing event loops, and stop texts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count

import pytest
from harmony_backends._event_loops import EngineLoop, Inbox
from harmony_backends._stop_texts import StopTexts

import harmony_kit as hk


class Source:
    """Counts, in the engine's event loop, and notes that it was closed."""

    def __init__(self, fails_at: int = -1, *, is_endless: bool = False) -> None:
        self.fails_at = fails_at
        self.is_endless = is_endless
        self.closed = False
        self.thread: threading.Thread | None = None

    async def values(self) -> AsyncGenerator[int, None]:
        self.thread = threading.current_thread()
        try:
            for number in count() if self.is_endless else range(1000):
                if number == self.fails_at:
                    raise ValueError("broken")
                yield number
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            self.closed = True


def test_values_come_in_order_from_the_other_thread() -> None:
    loop, source = EngineLoop(), Source()

    async def go() -> list[int]:
        return [value async for value in loop.bring(source.values())]

    assert asyncio.run(go()) == list(range(1000))
    assert source.closed
    assert source.thread is not threading.current_thread()
    loop.end()
    loop.end()


def test_every_event_loop_may_ask_and_several_at_once() -> None:
    loop = EngineLoop()

    async def count() -> int:
        return len([value async for value in loop.bring(Source().values())])

    async def go() -> list[int]:
        return await asyncio.gather(*(count() for _ in range(20)))

    assert [asyncio.run(go()) for _ in range(2)] == [[1000] * 20] * 2
    loop.end()


@pytest.mark.parametrize("last", range(5))
def test_leaving_closes_the_source_before_it_goes_on(last: int) -> None:
    # Endless: one that comes to its end just then is cancelled while it closes itself.
    loop, source = EngineLoop(), Source(is_endless=True)

    async def go() -> None:
        async with aclosing(loop.bring(source.values())) as values:
            async for value in values:
                if value == last:
                    break
        assert source.closed

    asyncio.run(go())
    loop.end()


def test_cancelling_closes_the_source() -> None:
    loop = EngineLoop()

    async def go() -> None:
        for number in range(50):
            source = Source(is_endless=True)

            async def consume(source: Source = source) -> None:
                async for _ in loop.bring(source.values()):
                    pass

            task = asyncio.create_task(consume())
            await asyncio.sleep(number / 20_000)
            task.cancel()
            await asyncio.wait([task])
            # One that was cancelled before it began holds nothing.
            assert source.closed or source.thread is None

    asyncio.run(go())
    loop.end()


def test_an_error_of_the_source_arrives() -> None:
    loop = EngineLoop()

    async def go() -> None:
        values = loop.bring(Source(3).values())
        assert [await anext(values) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="broken"):
            await anext(values)

    asyncio.run(go())
    loop.end()


def test_an_event_loop_that_has_ended_is_a_named_error() -> None:
    async def make() -> EngineLoop:
        loop = EngineLoop()
        assert loop.is_here
        assert loop.call(lambda: 5) == 5
        return loop

    loop = asyncio.run(make())

    async def go() -> None:
        with pytest.raises(hk.errors.BackendError, match="not running any more"):
            await anext(loop.bring(Source().values()))

    asyncio.run(go())
    loop.end()


def test_ending_the_loop_ends_who_still_waits() -> None:
    loop = EngineLoop()

    async def forever() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(3600)

    async def go() -> None:
        values = loop.bring(forever())
        assert await anext(values) == 1
        await asyncio.to_thread(loop.end)
        with pytest.raises(hk.errors.BackendError, match="has ended"):
            await anext(values)

    asyncio.run(go())


def test_an_inbox_whose_coroutine_has_gone_is_silent() -> None:
    async def make() -> Inbox[int]:
        return Inbox()

    inbox = asyncio.run(make())
    inbox.put(1)
    inbox.close()


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_stop_text_is_found_across_tokens_and_characters(size: int) -> None:
    tokens = hk.encode("Once upon a ☃ 🦜 time there was an answer: 42. The end of it.")
    for text in ("Once", "a ☃ 🦜 t", "swer: 4", "it."):
        stops = StopTexts(["", "nowhere", text])
        found = None
        for start in range(0, len(tokens), size):
            count = stops.find(tokens[start : start + size])
            if count is not None:
                found = start + count
                break
        assert found is not None
        assert text in hk.decode(tokens[:found])
        assert text not in hk.decode(tokens[: found - 1])


def test_no_stop_texts_are_never_found() -> None:
    assert StopTexts(()).find(hk.encode("anything")) is None
    assert StopTexts([""]).find([0, 201088, 300_000]) is None
    assert StopTexts(["x"]).find([201088, 300_000]) is None
