"""The HTTP backend, failures of servers, and connections over several event loops."""

import asyncio
import gc
import random
import threading
import time
import warnings
import weakref
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain

import pytest
from completions_server import (
    ANSWER,
    HELLO,
    MAX_CONTEXT,
    PATIENCE,
    Server,
    babble_ascii,
    becomes_true,
    complete,
    expected,
    fails,
    goes_on,
    serving,
)
from harmony_backends.openai_completions import OpenAICompletionsBackend, _clients
from harmony_backends.openai_completions._retry import _retry_after, server_message

import harmony_kit as hk
from harmony_kit.wire._vocabulary import RETURN

# --- Faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "sglang"])
def test_the_server_closes_in_the_middle(dialect):
    async def go():
        async with serving(babble_ascii, dialect, faults=["close"]) as (server, backend):
            tokens = await fails(backend, "peer closed|Protocol|disconnect", after=3, max_tokens=9)
            assert tokens == expected(3, babble_ascii)
            assert len(server.requests) == 1  # what has begun is not sent anew
            await complete(backend, max_tokens=2)

    asyncio.run(go())


def test_the_stream_ends_without_a_finish_reason():
    async def go():
        async with serving(faults=["no reason"]) as (_, backend):
            await fails(backend, "ended without a finish reason", after=3, max_tokens=9)

    asyncio.run(go())


@pytest.mark.parametrize(
    "faults",
    [
        [(500, {"error": "oops"})],
        [(503, b"<html>busy</html>"), (502, b"")],
        ["close at once"],
        ["close at once", (500, {"message": "oops"}), (429, {})],
    ],
)
def test_passing_failures_are_tried_again(faults):
    async def go():
        async with serving(faults=faults) as (server, backend):
            result = await complete(backend, max_tokens=4, temperature=0)
            assert result == (expected(4), "length")
            assert len(server.requests) == len(faults) + 1

    asyncio.run(go())


def test_failures_are_tried_again_only_so_often():
    async def go():
        faults = [(500, {"error": {"message": "out of memory"}})] * 3
        async with serving(faults=faults, max_retries=2) as (server, backend):
            await fails(backend, "the server answered 500: out of memory")
            assert len(server.requests) == 3
            await complete(backend, max_tokens=2)
        async with serving(faults=["close at once"] * 2, max_retries=1) as (server, backend):
            await fails(backend, "cannot be reached: ")

    asyncio.run(go())


def test_nobody_listens():
    async def go():
        async with serving(max_retries=1) as (server, backend):
            await server.stop()
            await fails(backend, "the server cannot be reached: ConnectError")

    asyncio.run(go())


def test_a_busy_server_says_when_to_come_again():
    async def go():
        async with serving(faults=[(429, {}, "retry-after: 0.3")]) as (server, backend):
            start = time.monotonic()
            await complete(backend, max_tokens=2)
            assert time.monotonic() - start >= 0.3
            assert len(server.requests) == 2
        faults = [(429, {"error": {"message": "quota"}}, "retry-after: 3600")]
        async with serving(faults=faults) as (server, backend):
            await fails(backend, "answered 429: quota")
            assert len(server.requests) == 1

    asyncio.run(go())


def test_retry_after_may_be_a_date():
    now = datetime.now(UTC)
    assert 3000 < _retry_after(format_datetime(now + timedelta(hours=1), usegmt=True)) <= 3600
    assert _retry_after(format_datetime(now - timedelta(seconds=60), usegmt=True)) == 0
    assert _retry_after("soon") is None
    assert _retry_after(None) is None
    assert _retry_after("2.5") == 2.5


def test_a_bad_request_is_not_tried_again():
    async def go():
        faults = [(400, {"error": {"message": "no such model"}}), (401, {"detail": "no key"})]
        async with serving(faults=faults) as (server, backend):
            await fails(backend, "answered 400: no such model")
            await fails(backend, "answered 401: no key")
            assert len(server.requests) == 2

    asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "a", "code": 400}}', "a"),
        ('{"error": "b"}', "b"),
        ('{"object": "error", "message": "c"}', "c"),
        ('{"detail": [{"loc": ["x"]}]}', '[{"loc": ["x"]}]'),
        ("<html>", "<html>"),
        ("x" * 1000, "x" * 499 + "…"),
    ],
)
def test_messages_of_servers(body, message):
    assert server_message(body) == message


@pytest.mark.parametrize(
    ("garbage", "message"),
    [
        ("data: {not json\n\n", "not a JSON object: '{not json'"),
        ("data: [1]\n\n", "not a JSON object"),
        ('data: {"x": 1}\n\n', "an event without choices"),
        ('data: {"choices": [1]}\n\n', "an event without choices"),
        ('data: {"choices": [{"token_ids": ["1"]}]}\n\n', "invalid token ids"),
        ('data: {"error": {"message": "the engine died"}}\n\n', "the engine died"),
    ],
)
def test_garbage_in_the_stream(garbage, message):
    async def go():
        async with serving(faults=[garbage]) as (_, backend):
            await fails(backend, message, after=3, max_tokens=9)
            await complete(backend, max_tokens=2)

    asyncio.run(go())


def test_an_answer_that_is_no_stream():
    async def go():
        async with serving(faults=[(200, b"<html>log in</html>")]) as (_, backend):
            await fails(backend, "text/html")

    asyncio.run(go())


@pytest.mark.parametrize("fault", ["hang at once", "hang"])
def test_the_server_hangs(fault):
    """After three tokens, of which fewer are there if the machine was too busy meanwhile."""
    received = []

    async def go():
        async with serving(faults=[fault]) as (server, patient):
            backend = OpenAICompletionsBackend(
                server.url, dialect="vllm", timeout=0.2, context=MAX_CONTEXT
            )

            async def consume():
                async for chunk in backend.generate([1, 2, 3], hk.SamplingParams(temperature=0)):
                    received.extend(chunk.tokens)

            with pytest.raises(hk.errors.BackendError, match=r"was silent for 0\.2 s"):
                await consume()
            assert len(server.requests) <= 1
            server.faults.clear()
            await complete(patient, max_tokens=2)
            await backend.aclose()

    asyncio.run(go())
    assert received == expected(3 if fault == "hang" else 0)[: len(received)]


def test_closing_the_backend_ends_what_is_going_on():
    async def go():
        async with serving(pace=0.01) as (server, backend):
            chunks = backend.generate([1, 2, 3], hk.SamplingParams(max_tokens=50))
            await anext(chunks)
            await backend.aclose()
            with pytest.raises(hk.errors.BackendError):
                async for _ in chunks:
                    pass
            await becomes_true(lambda: not server.unfinished)

    asyncio.run(go())


def test_what_is_closed_does_not_ask_again_for_ids_that_were_left_out():
    character = [172, 7908, 222]
    answer = [*hk.encode("a"), *character, *character, RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp") as (server, backend):
            chunks = backend.generate([1, 2, 3], hk.SamplingParams())
            assert [(await anext(chunks)).tokens for _ in range(2)] == [[64], character]
            asked = len(server.requests)
            await backend.aclose()
            with pytest.raises(hk.errors.BackendError, match="is closed"):
                await anext(chunks)
            assert len(server.requests) == asked

    asyncio.run(go())


# --- Together with the loop -----------------------------------------------------------------


@contextmanager
def in_a_thread(server):
    """A server beside event loops that come and go."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def no_leaks():
    """Nothing that was left open is found by the garbage collector."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_runs_one_after_the_other():
    """Each has an event loop of its own, in which its connections live and end."""
    with in_a_thread(Server(lambda *_: ANSWER)) as server, no_leaks():
        with hk.load_backend("openai_completions", base_url=server.url) as backend:
            for _ in range(3):
                reply = hk.run([hk.user("hi")], backend)
                assert (reply.outcome, reply.text) == ("final", "Grey cat on seven hills.")
                asyncio.run(becomes_true(lambda: not server.tasks))
        assert server.connections == 3
        with pytest.raises(hk.errors.BackendError, match="closed"):
            hk.run([hk.user("hi")], backend)


def test_a_backend_that_is_forgotten_leaks_nothing():
    async def forget(url):
        await complete(OpenAICompletionsBackend(url), max_tokens=2)

    with in_a_thread(Server()) as server, no_leaks():
        asyncio.run(forget(server.url))
        asyncio.run(becomes_true(lambda: not server.tasks))


def test_event_loops_that_run_in_other_threads_are_closed_in(monkeypatch):
    """And connections of a loop that waits are closed when it ends."""
    monkeypatch.setattr(_clients, "_SECONDS_TO_CLOSE", PATIENCE)

    async def use(backend):
        await complete(backend, max_tokens=2)
        return asyncio.get_running_loop()

    with in_a_thread(Server()) as server, no_leaks(), asyncio.Runner() as waiting:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        backend = OpenAICompletionsBackend(server.url)
        asyncio.run_coroutine_threadsafe(use(backend), loop).result()
        waiting.run(use(backend))
        assert len(server.tasks) == 2
        backend.close()
        asyncio.run(becomes_true(lambda: len(server.tasks) == 1))
        waiting.close()
        asyncio.run(becomes_true(lambda: not server.tasks))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_loop_that_was_closed_without_its_generators_is_let_go():
    """Its sockets are closed with it, as Python warns."""

    def run_badly(coroutine):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(coroutine)
        loop.close()
        return weakref.ref(loop)

    with in_a_thread(Server()) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        backend = OpenAICompletionsBackend(server.url)
        ended = run_badly(complete(backend, max_tokens=2))
        asyncio.run(complete(backend, max_tokens=2))
        gc.collect()
        assert ended() is None
        asyncio.run(becomes_true(lambda: not server.tasks))
        backend.close()


def test_leaving_a_run_aborts_the_request():
    generated = []

    def endless(prompt, sampling):
        for token in chain(hk.encode_with_special(HELLO), babble_ascii(prompt, sampling)):
            generated.append(token)
            yield token

    with in_a_thread(Server(endless, pace=0.01)) as server:
        backend = hk.load_backend("openai_completions", base_url=server.url)
        sampling = hk.SamplingParams(max_tokens=100)
        for event in hk.stream([hk.user("hi")], backend, sampling=sampling):
            if isinstance(event, hk.ContentDelta):
                break
        asyncio.run(becomes_true(lambda: not server.unfinished))
        assert len(generated) < 100


def test_cancelled_requests_leave_no_task_and_no_connection():
    chance = random.Random(6)

    async def go():
        async with serving(pace=0.0005) as (server, backend):
            before = len(asyncio.all_tasks())

            async def consume(most):
                received = 0
                generation = backend.generate([1, 2, 3], hk.SamplingParams(max_tokens=60))
                async with aclosing(generation) as chunks:
                    async for chunk in chunks:
                        received += len(chunk.tokens)
                        if received >= most:
                            await asyncio.sleep(60)

            tasks = [asyncio.create_task(consume(chance.randrange(40))) for _ in range(100)]
            for task in tasks:
                await asyncio.sleep(0.002)
                task.cancel()
            await asyncio.wait(tasks)
            await backend.aclose()
            await becomes_true(
                lambda: (
                    not server.unfinished
                    and not server.tasks
                    and len(asyncio.all_tasks()) <= before
                )
            )

    asyncio.run(go())
