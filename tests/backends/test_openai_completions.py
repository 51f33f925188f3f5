"""The HTTP backend against a server on loopback that speaks as vLLM and as llama.cpp do.

And as sglang's documentation says that sglang does.
"""

import asyncio
import gc
import json
import random
import threading
import time
import warnings
import weakref
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from harmony_backends.completions_retry import _retry_after, server_message
from harmony_backends.function import FunctionBackend
from harmony_backends.openai_completions import MODEL_VOCABULARY_SIZE, OpenAICompletionsBackend
from harmony_backends.testing import BackendContract

import harmony_kit as hk
from harmony_kit.engine._protocol import supported_by
from harmony_kit.wire._vocabulary import (
    CALL,
    END_OF_TEXT,
    RETURN,
    SPECIAL_TOKEN_NAMES,
    decode_bytes,
    token_bytes,
)

ASCII = [token for token in range(5000) if token_bytes(token).isascii()]
MAX_CONTEXT = 200
HELLO = "<|channel|>analysis<|message|>Hm, hm.<|end|><|start|>assistant<|channel|>final<|message|>"
ANSWER = hk.encode_with_special(HELLO + "Grey cat on seven hills.<|return|>")


def babble(prompt, sampling, tokens=range(100_000)):
    """Endless tokens that follow from the prompt, and from the seed where it is not greedy."""
    chance = random.Random(f"{prompt} {sampling.seed if sampling.temperature else 0}")
    while True:
        yield chance.choice(tokens)


def babble_ascii(prompt, sampling):
    return babble(prompt, sampling, ASCII)


# --- The server -----------------------------------------------------------------------------


class Server:
    """Completions over HTTP, of what a function answers.

    Each request takes the next of `faults`; `None` is none.
    """

    def __init__(
        self,
        function=babble,
        dialect="vllm",
        *,
        pace=0.0,
        faults=(),
        tells_context=True,
        is_incremental=False,
    ):
        self.backend = FunctionBackend(function, max_context=MAX_CONTEXT)
        self.dialect = dialect
        self.tells_context = tells_context
        self.is_incremental = is_incremental  # sglang's --incremental-streaming-output
        self.pace = pace
        self.faults = list(faults)
        self.requests = []  # (path, headers, body) of all posts
        self.gets = []
        self.connections = 0
        self.tasks = set()

    async def start(self):
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            await asyncio.sleep(0.01)

    @property
    def unfinished(self):
        return self.backend.unfinished

    async def _connected(self, reader, writer):
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(asyncio.current_task())
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _request(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET":
            self.gets.append(path)
            owner = {"vllm": "vllm", "llama_cpp": "llamacpp", "sglang": "sglang"}[self.dialect]
            model = {"id": "m", "owned_by": owner}
            if self.tells_context and self.dialect == "vllm":
                model["max_model_len"] = MAX_CONTEXT
            self._whole(writer, 200, {"data": [model]})
            return True
        body = json.loads(body)
        self.requests.append((path, headers, body))
        expected = {
            "vllm": "/v1/completions",
            "llama_cpp": "/completion",
            "sglang": "/generate",
        }[self.dialect]
        if path != expected:
            self._whole(writer, 404, {"error": {"message": f"no {path}"}})
            return True
        generation = asyncio.create_task(self._complete(body, writer))
        gone = asyncio.create_task(reader.read(1))
        await asyncio.wait([generation, gone], return_when="FIRST_COMPLETED")
        for task in (generation, gone):
            task.cancel()
        await asyncio.wait([generation, gone])
        return not generation.cancelled() and generation.result() is not False

    async def _complete(self, body, writer):
        """What a request gets; `False` if the connection is to be closed then."""
        fault = self.faults.pop(0) if self.faults else None
        if fault == "close at once":
            return False
        if fault == "hang at once":
            await asyncio.sleep(100)
        if isinstance(fault, tuple):
            status, answer, *headers = fault
            self._whole(writer, status, answer, *headers)
            return True
        prompt = body["input_ids" if self.dialect == "sglang" else "prompt"]
        deltas = self.backend.generate(prompt, self._sampling(body))
        try:
            first = await anext(deltas)  # an error comes before a status is sent
        except hk.errors.BackendError as error:
            await deltas.aclose()
            self._whole(writer, 400, {"error": {"message": str(error), "code": 400}})
            return True
        try:
            return await self._answer(body, first, deltas, writer, fault)
        finally:
            await deltas.aclose()

    async def _answer(self, body, first, deltas, writer, fault):
        async def every():
            yield first
            async for delta in deltas:
                await asyncio.sleep(self.pace)
                yield delta

        if not body["stream"]:
            tokens = []
            async for delta in every():
                tokens += delta.tokens
                reason = delta.finish_reason
            self._whole(writer, 200, self._event(tokens, tokens, len(tokens), reason, body))
            return True
        self._start(writer)
        held, generated, said = [], 0, []
        async for number, delta in _enumerate(every()):
            said += delta.tokens
            if number == 3 and fault not in (None, "no ids"):
                if fault == "hang":
                    await asyncio.sleep(100)
                if fault == "close":
                    return False
                if fault == "no reason":
                    break
                self._send(writer, fault)
                continue
            held += delta.tokens
            generated += len(delta.tokens)
            is_incomplete = self.dialect == "llama_cpp" and "�" in hk.decode(held)
            if not is_incomplete:
                reason = None if self.dialect == "llama_cpp" else delta.finish_reason
                given = held[-1:] if self.dialect == "llama_cpp" else held
                if self.dialect == "sglang" and not self.is_incremental:
                    given = said
                event = self._event(given, held, generated, reason, body)
                if fault == "no ids":
                    del event["choices"][0]["token_ids"]
                self._send_json(writer, event)
                held = []
            if delta.finish_reason and self.dialect == "llama_cpp":
                event = self._event([], [], generated, delta.finish_reason, body)
                self._send_json(writer, event)
            await writer.drain()
        if self.dialect != "llama_cpp" and fault != "no reason":
            if self.dialect == "vllm":
                self._send_json(writer, {"choices": [], "usage": {}})
            self._send(writer, "data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        return None

    def _sampling(self, body):
        if self.dialect == "llama_cpp":
            limit = body["n_predict"] if body["n_predict"] >= 0 else None
            stop_tokens = (RETURN, CALL)
        elif self.dialect == "sglang":
            body = body["sampling_params"]
            limit = body.get("max_new_tokens", 128)
            stop_tokens = tuple(body["stop_token_ids"])
        else:
            limit = body["max_tokens"]
            stop_tokens = tuple(body["stop_token_ids"])
        return hk.SamplingParams(
            max_tokens=limit,
            temperature=body.get("temperature"),
            seed=body.get("sampling_seed" if self.dialect == "sglang" else "seed"),
            stop_tokens=stop_tokens,
        )

    def _event(self, given, tokens, generated, reason, body):
        text = hk.decode(tokens)
        if self.dialect == "llama_cpp":
            stop_type = {None: "none", "length": "limit", "stop": "eos"}[reason]
            event = {
                "content": text,
                "tokens": given,
                "stop": reason is not None,
                "stop_type": stop_type,
                "tokens_predicted": generated,
            }
            if body.get("n_probs", 0) > 0:
                event["completion_probabilities"] = [
                    {
                        "id": token,
                        "logprob": own_logprob(token),
                        "top_logprobs": [
                            {"id": other, "logprob": logprob}
                            for other, logprob in likeliest(token, body["n_probs"])
                        ],
                    }
                    for token in given
                ]
            return event
        if self.dialect == "sglang":
            finish = reason and {"type": reason, "matched": tokens[-1] if tokens else None}
            about = {"completion_tokens": generated, "finish_reason": finish}
            if body.get("return_logprob"):
                count = body["top_logprobs_num"]
                about["output_token_logprobs"] = [
                    [own_logprob(token), token, None] for token in given
                ]
                about["output_top_logprobs"] = [
                    [[logprob, other, None] for other, logprob in likeliest(token, count)] or None
                    for token in given
                ]
            return {"text": "", "output_ids": given, "meta_info": about}
        choice = {"index": 0, "text": text, "token_ids": given, "finish_reason": reason}
        if "logprobs" in body:
            assert body["return_tokens_as_token_ids"]
            choice["logprobs"] = {
                "top_logprobs": [
                    {f"token_id:{token}": own_logprob(token)}
                    | {
                        f"token_id:{other}": logprob
                        for other, logprob in likeliest(token, body["logprobs"])
                    }
                    for token in given
                ]
            }
        if reason == "stop" and tokens and tokens[-1] in body["stop_token_ids"]:
            choice["text"] = hk.decode(tokens[:-1])
            choice["stop_reason"] = tokens[-1]
        return {"object": "text_completion", "choices": [choice]}

    def _start(self, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    def _send_json(self, writer, event):
        self._send(writer, f"data: {json.dumps(event, ensure_ascii=False)}\n\n")

    def _send(self, writer, text):
        data = text.encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _whole(self, writer, status, answer, *headers):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        kind = "text/html" if isinstance(answer, bytes) else "application/json"
        lines = [f"HTTP/1.1 {status} It", f"content-type: {kind}", f"content-length: {len(data)}"]
        writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + data)


def own_logprob(token):
    return -(token % 7) / 10


def likeliest(token, count):
    """Ids and log-probabilities, of which the first is the token's own."""
    return [(token + place, own_logprob(token) - place) for place in range(count)]


async def _enumerate(items):
    number = 0
    async for item in items:
        yield number, item
        number += 1


@asynccontextmanager
async def serving(*arguments, **options):
    """A server and a backend that asks it."""
    how = {
        name: options.pop(name)
        for name in (
            "timeout",
            "max_retries",
            "text_fallback",
            "api_key",
            "stream",
            "model",
            "context",
        )
        if name in options
    }
    server = await Server(*arguments, **options).start()
    backend = OpenAICompletionsBackend(server.url, dialect=server.dialect, backoff=0.01, **how)
    try:
        yield server, backend
    finally:
        await backend.aclose()
        await server.stop()


async def complete(backend, prompt=(1, 2, 3), **sampling):
    deltas = [delta async for delta in backend.generate(prompt, hk.SamplingParams(**sampling))]
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    return [token for delta in deltas for token in delta.tokens], deltas[-1].finish_reason


async def fails(backend, match, *, after=0, **sampling):
    """Check that a completion fails, after so many tokens, which are returned."""
    tokens = []

    async def consume():
        async for delta in backend.generate([1, 2, 3], hk.SamplingParams(**sampling)):
            tokens.extend(delta.tokens)

    with pytest.raises(hk.errors.BackendError, match=match):
        await consume()
    assert len(tokens) == after
    return tokens


def expected(count, function=babble):
    stream = function([1, 2, 3], hk.SamplingParams(temperature=0))
    return [next(stream) for _ in range(count)]


# --- The contract ---------------------------------------------------------------------------


class TestVllmContract(BackendContract):
    max_context = MAX_CONTEXT
    vocabulary_size = MODEL_VOCABULARY_SIZE
    cancellations = 100
    function = staticmethod(babble)
    options: dict = {}  # noqa: RUF012
    dialect = "vllm"
    server_options: dict = {}  # noqa: RUF012

    async def make_backend(self):
        server = await Server(
            self.function, self.dialect, pace=0.0005, **self.server_options
        ).start()
        backend = OpenAICompletionsBackend(server.url, **self.options)
        backend.server = server
        return backend

    def unfinished_requests(self, backend):
        return backend.server.unfinished

    async def clean_up(self, backend):
        await backend.server.stop()


class TestSglangContract(TestVllmContract):
    dialect = "sglang"


class TestIncrementalSglangContract(TestSglangContract):
    server_options = {"is_incremental": True}  # noqa: RUF012


class TestLlamaCppContract(TestVllmContract):
    dialect = "llama_cpp"
    function = staticmethod(babble_ascii)


class TestLlamaCppWholeContract(TestVllmContract):
    """With all tokens in one answer, among them those that are no characters."""

    dialect = "llama_cpp"
    options = {"stream": False}  # noqa: RUF012


# --- What is asked --------------------------------------------------------------------------


def test_what_vllm_is_asked():
    async def go():
        async with serving(model="gpt-oss-20b", api_key="secret") as (server, backend):
            await complete(
                backend,
                max_tokens=3,
                temperature=0.5,
                top_p=0.9,
                seed=4,
                stop=("a", "b"),
                frequency_penalty=0.1,
                presence_penalty=0.2,
            )
            ((path, headers, body),) = server.requests
        assert path == "/v1/completions"
        assert headers["authorization"] == "Bearer secret"
        assert body == {
            "model": "gpt-oss-20b",
            "prompt": [1, 2, 3],
            "stream": True,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "ignore_eos": True,
            "stop_token_ids": [RETURN, CALL, END_OF_TEXT],
            "max_tokens": 3,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 4,
            "stop": ["a", "b"],
            "frequency_penalty": 0.1,
            "presence_penalty": 0.2,
        }
        assert "secret" not in backend.name

    asyncio.run(go())


def test_what_sglang_is_asked():
    async def go():
        async with serving(dialect="sglang", model="gpt-oss-20b") as (server, backend):
            await complete(backend, max_tokens=3, temperature=0.5, seed=4, logprobs=2)
            ((path, _, body),) = server.requests
        assert path == "/generate"
        assert body == {
            "input_ids": [1, 2, 3],
            "stream": True,
            "return_logprob": True,
            "top_logprobs_num": 2,
            "sampling_params": {
                "max_new_tokens": 3,
                "temperature": 0.5,
                "sampling_seed": 4,
                "ignore_eos": True,
                "stop_token_ids": [RETURN, CALL, END_OF_TEXT],
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
                "no_stop_trim": True,
            },
        }

    asyncio.run(go())


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llama_cpp"])
def test_no_limit_is_no_limit(dialect):
    """Though without one vLLM stops after 16 tokens, and sglang after 128."""

    async def go():
        async with serving(babble_ascii, dialect) as (server, backend):
            tokens, reason = await complete(backend, temperature=0, stop_tokens=())
            assert (len(tokens), reason) == (MAX_CONTEXT - 3, "length")
            await complete(backend, max_tokens=2)
            assert len(server.gets) == (dialect == "vllm")

    asyncio.run(go())


def test_where_the_context_is_unknown_there_must_be_a_limit():
    async def go():
        async with serving(tells_context=False) as (server, backend):
            await fails(backend, r"context=\.\.\., or give max_tokens")
            assert (await complete(backend, max_tokens=3))[1] == "length"
            assert len(server.gets) == 1
        async with serving(tells_context=False, context=50) as (server, backend):
            tokens, _ = await complete(backend, temperature=0, stop_tokens=())
            assert len(tokens) == 47
            tokens, _ = await complete(backend, max_tokens=90, temperature=0, stop_tokens=())
            assert len(tokens) == 47
            assert server.gets == []

    asyncio.run(go())


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "sglang"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_logprobs(dialect, stream, count):
    async def go():
        async with serving(lambda *_: ANSWER, dialect, stream=stream) as (_, backend):
            sampling = hk.SamplingParams(logprobs=count)
            deltas = [delta async for delta in backend.generate([1, 2, 3], sampling)]
        tokens = [token for delta in deltas for token in delta.tokens]
        assert tokens == ANSWER
        found = [logprobs for delta in deltas for logprobs in delta.logprobs]
        assert found == [
            {token: own_logprob(token)} | dict(likeliest(token, count)) for token in tokens
        ]

    asyncio.run(go())


def test_logprobs_of_ids_that_llama_cpp_leaves_out_are_asked_for_again():
    answer = [*hk.encode("a 🫠 b"), RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp") as (server, backend):
            sampling = hk.SamplingParams(logprobs=0)
            deltas = [delta async for delta in backend.generate([1, 2, 3], sampling)]
            assert [token for delta in deltas for token in delta.tokens] == answer
            found = [logprobs for delta in deltas for logprobs in delta.logprobs]
            assert found == [{token: own_logprob(token)} for token in answer]
            assert len(server.requests) > 1

    asyncio.run(go())


def test_logprobs_that_do_not_come_are_an_error():
    event = {"choices": [{"token_ids": [5], "text": "x", "finish_reason": None}]}
    by_text = {"choices": [{**event["choices"][0], "logprobs": {"top_logprobs": [{"x": -1.0}]}}]}
    own = {"choices": [{**event["choices"][0], "logprobs": {"top_logprobs": [{"token_id:6": -1}]}}]}
    for garbage, message in (
        (event, "did not send the log-probability"),
        (own, "did not send the log-probability"),
        (by_text, "are no log-probabilities"),
    ):

        async def go(garbage=garbage, message=message):
            fault = f"data: {json.dumps(garbage)}\n\n"
            async with serving(faults=[fault]) as (_, backend):
                await fails(backend, message, after=3, max_tokens=9, logprobs=0)

        asyncio.run(go())


def test_a_server_that_aborts_says_why():
    about = {"completion_tokens": 4, "finish_reason": {"type": "abort", "message": "out of memory"}}
    fault = f"data: {json.dumps({'output_ids': [1], 'meta_info': about})}\n\n"

    async def go():
        async with serving(dialect="sglang", faults=[fault]) as (_, backend):
            await fails(backend, "aborted the request: out of memory", after=3, max_tokens=9)
        async with serving(dialect="sglang", faults=['data: {"text": "x"}\n\n']) as (_, backend):
            await fails(backend, "without output_ids", after=3, max_tokens=9)

    asyncio.run(go())


def test_what_llama_cpp_is_asked():
    async def go():
        async with serving(lambda *_: ANSWER, "llama_cpp") as (server, backend):
            await complete(backend)
            await complete(backend, max_tokens=3, temperature=0)
            bodies = [body for _, _, body in server.requests]
        common = {
            "prompt": [1, 2, 3],
            "stream": True,
            "return_tokens": True,
            "cache_prompt": True,
        }
        assert bodies == [
            {**common, "n_predict": -1},
            {**common, "n_predict": 3, "temperature": 0},
        ]

    asyncio.run(go())


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "sglang"])
@pytest.mark.parametrize("base", ["/v1", "/v1/", ""])
def test_the_server_is_asked_once_what_it_is(dialect, base):
    if dialect == "vllm" and base == "":
        pytest.skip("vLLM has nothing there")

    async def go():
        server = await Server(babble_ascii, dialect).start()
        backend = OpenAICompletionsBackend(server.url.removesuffix("/v1") + base)
        assert await complete(backend, max_tokens=4, temperature=0) == (
            expected(4, babble_ascii),
            "length",
        )
        await complete(backend, max_tokens=4)
        assert len(server.gets) == 1
        await backend.aclose()
        await server.stop()

    asyncio.run(go())


def test_requests_at_once_ask_what_the_server_is_once():
    async def go():
        async with serving(babble_ascii, dialect="llama_cpp") as (server, _):
            backend = OpenAICompletionsBackend(server.url)
            await asyncio.gather(*(complete(backend, max_tokens=2) for _ in range(20)))
            assert len(server.gets) == 1
            await backend.aclose()

    asyncio.run(go())


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "sglang"])
def test_what_is_supported_is_settled_once(dialect):
    """As much as any server can until it is asked, then what this one can."""
    features = {"logprobs"} if dialect == "sglang" else {"logprobs", "constraint"}

    async def go():
        async with serving(babble_ascii, dialect) as (server, stated):
            assert stated.supports == features
            backend = OpenAICompletionsBackend(server.url)
            assert backend.supports == {"logprobs", "constraint"}
            await backend.connect()
            assert backend.supports == features
            await backend.connect()
            await complete(backend, max_tokens=2)
            assert (backend.supports, len(server.gets)) == (features, 1)
            await backend.aclose()
            lazy = OpenAICompletionsBackend(server.url)
            await complete(lazy, max_tokens=2)
            assert (lazy.supports, len(server.gets)) == (features, 2)
            await lazy.aclose()
            with pytest.raises(hk.errors.BackendError, match="closed"):
                await lazy.connect()

    asyncio.run(go())


def test_a_request_is_adapted_to_the_server_that_answers_it():
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_object"},
    }
    request = hk.convert.chat_completions.read_request(body)

    async def go():
        async with serving(lambda *_: ANSWER, "sglang") as (server, _):
            backend = OpenAICompletionsBackend(server.url)
            sampling, notes = request.for_backend(await supported_by(backend))
            assert sampling.constraint is None
            assert "not enforced" in notes[-1].reason
            deltas = [delta async for delta in backend.generate([1, 2, 3], sampling)]
            assert deltas[-1].finish_reason == "stop"
            await backend.aclose()

    asyncio.run(go())


def test_a_server_that_is_stated_and_whose_context_is_given_is_not_asked():
    async def go():
        async with serving(context=100) as (server, backend):
            await backend.connect()
            assert server.gets == []

    asyncio.run(go())


def test_a_server_that_is_not_ready_is_not_taken_for_another():
    """Only one that has no list of models is taken for what follows vLLM."""

    class Loading(Server):
        status = 503

        def _whole(self, writer, status, answer, *headers):
            status = self.status if len(self.gets) and not self.requests else status
            super()._whole(writer, status, answer, *headers)

    async def go():
        server = await Loading(babble_ascii, "llama_cpp").start()
        backend = OpenAICompletionsBackend(server.url, max_retries=1, backoff=0.01)
        with pytest.raises(hk.errors.BackendError, match="answered 503"):
            await backend.connect()
        server.status = 200
        assert len(await complete(backend, max_tokens=2)) == 2
        assert server.requests[0][0] == "/completion"
        await backend.aclose()
        server.status = 404
        server.requests.clear()
        backend = OpenAICompletionsBackend(server.url)
        await backend.connect()
        assert backend.supports == {"logprobs", "constraint"}
        await backend.aclose()
        await server.stop()

    asyncio.run(go())


def test_an_unknown_dialect_is_refused():
    with pytest.raises(hk.errors.BackendError, match="unknown dialect 'ollama'; known: auto, vllm"):
        hk.load_backend("openai_completions", base_url="http://x/v1", dialect="ollama")


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "sglang"])
def test_connections_are_used_again(dialect):
    async def go():
        async with serving(lambda *_: ANSWER, dialect) as (server, backend):
            for limit in (None, 3, None, 2):
                await complete(backend, max_tokens=limit)
            assert server.connections == 1

    asyncio.run(go())


@pytest.mark.parametrize("key", ["secret\n", "sécret", ""])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key):
    with pytest.raises(hk.errors.BackendError, match="api_key") as raised:
        OpenAICompletionsBackend("http://x/v1", api_key=key)
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:1/v1", "ftp://x/v1", "http://[::1/v1"])
def test_what_is_no_url(url):
    asyncio.run(fails(OpenAICompletionsBackend(url, dialect="vllm"), "."))


# --- What comes back ------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "sglang"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_completion_with_its_stop_token(dialect, stream):
    async def go():
        async with serving(lambda *_: ANSWER, dialect, stream=stream) as (_, backend):
            assert await complete(backend) == (ANSWER, "stop")

    asyncio.run(go())


def test_line_separators_of_unicode_are_no_lines():
    answer = [*hk.encode("a\u2028b\u2029c\x85d\x0be"), RETURN]

    async def go():
        async with serving(lambda *_: answer) as (_, backend):
            assert await complete(backend) == (answer, "stop")

    asyncio.run(go())


@pytest.mark.parametrize("text", ["a 🫠 b", "𓀀𓀁", "鸞鳳 🧑‍🚀🦩!"])
def test_ids_that_llama_cpp_leaves_out_are_found_again(text):
    answer = [*hk.encode(text), RETURN]
    assert any("�" in hk.decode([token]) for token in answer[:-1])

    async def go():
        async with serving(lambda *_: answer, "llama_cpp") as (_, backend):
            assert await complete(backend) == (answer, "stop")

    asyncio.run(go())


def test_ids_are_found_again_where_a_character_was_written_in_an_unusual_way():
    bytewise = [hk.encode("a")[0], *_single_bytes("é"), RETURN]
    assert bytewise != hk.encode_with_special("aé<|return|>")

    async def go():
        async with serving(lambda *_: bytewise, "llama_cpp") as (_, backend):
            assert await complete(backend) == (bytewise, "stop")

    asyncio.run(go())


@pytest.mark.parametrize("limit", [None, 2, 3, 4, 5])
def test_ids_that_cannot_be_found_again_are_asked_for_again(limit):
    """The text could be of other tokens, or is not there as the limit cuts the character off."""
    character = [172, 7908, 222]  # whose first three bytes are also 4103, 98
    assert hk.decode(character) == "🥀"
    answer = [*hk.encode("a"), *character, *character, RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp") as (server, backend):
            expected = (answer, "stop") if limit is None else (answer[:limit], "length")
            assert await complete(backend, max_tokens=limit, seed=7) == expected
            asked = [(body["stream"], body["seed"]) for _, _, body in server.requests]
            every = [(True, 7), (False, 8), (True, 11), (False, 11), (True, 14)]
            assert asked == every[: len(asked)]
            assert limit is not None or asked == every

    asyncio.run(go())


def test_ids_are_not_asked_for_again_where_a_stop_text_may_have_begun():
    answer = [*hk.encode("a"), 172, 7908, 222, RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp") as (_, backend):
            await fails(backend, "left out .* ids.*stream=False", after=1, stop=("never",))
        async with serving(goes_on(answer), "llama_cpp", stream=False) as (_, backend):
            assert await complete(backend, stop=("never",)) == (answer, "stop")

    asyncio.run(go())


def goes_on(answer):
    """What answers the prompt [1, 2, 3], and goes on where the prompt has a part of it."""

    def function(prompt, _):
        said = prompt[3:]
        assert said == answer[: len(said)]
        return answer[len(said) :]

    return function


def _single_bytes(text):
    singles = {token_bytes(token): token for token in range(256)}
    return [singles[bytes([byte])] for byte in text.encode()]


def test_a_server_without_ids_is_refused_or_read_as_text():
    async def go():
        async with serving(lambda *_: ANSWER, faults=["no ids"]) as (_, backend):
            await fails(backend, "gives no token ids.*text_fallback=True")
        async with serving(lambda *_: ANSWER, faults=["no ids"] * 2, text_fallback=True) as (
            _,
            backend,
        ):
            with pytest.warns(UserWarning, match="gives no token ids; its text is encoded"):
                assert await complete(backend) == (ANSWER, "stop")
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert await complete(backend) == (ANSWER, "stop")

    asyncio.run(go())


def test_text_is_encoded_whole_and_given_message_by_message():
    """The tokens that a model used for the text are not those of its pieces."""
    text = HELLO + "Grey cats."
    tokens = hk.encode_with_special(text)
    pieces = [
        token
        for run in tokens
        for token in ([run] if run in SPECIAL_TOKEN_NAMES else _single_bytes_of(run))
    ]

    async def go():
        async with serving(lambda *_: pieces, faults=["no ids"], text_fallback=True) as (
            _,
            backend,
        ):
            with pytest.warns(UserWarning, match="gives no token ids"):
                deltas = [d async for d in backend.generate([1], hk.SamplingParams())]
        assert [token for delta in deltas for token in delta.tokens] == tokens
        assert len(deltas) > 5

    asyncio.run(go())


def _single_bytes_of(token):
    return _single_bytes(decode_bytes([token]).decode())


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
        async with serving(faults=[(429, {}, "retry-after: 1")]) as (server, backend):
            start = time.monotonic()
            await complete(backend, max_tokens=2)
            assert time.monotonic() - start >= 1
            assert len(server.requests) == 2
        faults = [(429, {"error": {"message": "quota"}}, "retry-after: 3600")]
        async with serving(faults=faults) as (server, backend):
            await fails(backend, "answered 429: quota")
            assert len(server.requests) == 1

    asyncio.run(go())


def test_retry_after_may_be_a_date():
    now = datetime.now(UTC)
    assert 58 < _retry_after(format_datetime(now + timedelta(seconds=60), usegmt=True)) <= 60
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
        ("data: {not json\n\n", "no JSON object: '{not json'"),
        ("data: [1]\n\n", "no JSON object"),
        ('data: {"x": 1}\n\n', "an event without choices"),
        ('data: {"choices": [1]}\n\n', "an event without choices"),
        ('data: {"choices": [{"token_ids": ["1"]}]}\n\n', "what are no token ids"),
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


@pytest.mark.parametrize(("fault", "after"), [("hang at once", 0), ("hang", 3)])
def test_the_server_hangs(fault, after):
    async def go():
        async with serving(faults=[fault], timeout=0.2) as (server, backend):
            await fails(backend, r"was silent for 0\.2 s", after=after, max_tokens=9)
            assert len(server.requests) == 1
            await complete(backend, max_tokens=2)

    asyncio.run(go())


def test_closing_the_backend_ends_what_is_going_on():
    async def go():
        async with serving(pace=0.01) as (server, backend):
            deltas = backend.generate([1, 2, 3], hk.SamplingParams(max_tokens=50))
            await anext(deltas)
            await backend.aclose()
            with pytest.raises(hk.errors.BackendError):
                async for _ in deltas:
                    pass
            while server.unfinished:
                await asyncio.sleep(0.01)

    asyncio.run(go())


def test_what_is_closed_does_not_ask_again_for_ids_that_were_left_out():
    character = [172, 7908, 222]
    answer = [*hk.encode("a"), *character, *character, RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp") as (server, backend):
            deltas = backend.generate([1, 2, 3], hk.SamplingParams())
            assert [(await anext(deltas)).tokens for _ in range(2)] == [[64], character]
            asked = len(server.requests)
            await backend.aclose()
            with pytest.raises(hk.errors.BackendError, match="is closed"):
                await anext(deltas)
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


def becomes_true(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_runs_one_after_the_other():
    """Each has an event loop of its own, in which its connections live and end."""
    with in_a_thread(Server(lambda *_: ANSWER)) as server, no_leaks():
        with hk.load_backend("openai_completions", base_url=server.url) as backend:
            for _ in range(3):
                reply = hk.run([hk.user("hi")], backend)
                assert (reply.outcome, reply.text) == ("final", "Grey cat on seven hills.")
                becomes_true(lambda: not server.tasks)
        assert server.connections == 3
        with pytest.raises(hk.errors.BackendError, match="closed"):
            hk.run([hk.user("hi")], backend)


def test_a_backend_that_is_forgotten_leaks_nothing():
    async def forget(url):
        await complete(OpenAICompletionsBackend(url), max_tokens=2)

    with in_a_thread(Server()) as server, no_leaks():
        asyncio.run(forget(server.url))
        becomes_true(lambda: not server.tasks)


def test_event_loops_that_run_in_other_threads_are_closed_in():
    """And connections of a loop that waits are closed when it ends."""

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
        becomes_true(lambda: len(server.tasks) == 1)
        waiting.close()
        becomes_true(lambda: not server.tasks)
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
        becomes_true(lambda: not server.tasks)
        backend.close()


def test_leaving_a_run_gives_the_request_up():
    with in_a_thread(Server(pace=0.01)) as server:
        backend = hk.load_backend("openai_completions", base_url=server.url)
        for event in hk.stream([hk.user("hi")], backend, sampling=hk.SamplingParams(max_tokens=90)):
            if not isinstance(event, hk.loop.TurnStarted):
                break
        deadline = time.monotonic() + 10
        while server.unfinished:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_cancelled_requests_leave_no_task_and_no_connection():
    chance = random.Random(6)

    async def go():
        async with serving(pace=0.0005) as (server, backend):
            before = len(asyncio.all_tasks())

            async def consume(most):
                received = 0
                generation = backend.generate([1, 2, 3], hk.SamplingParams(max_tokens=60))
                async with aclosing(generation) as deltas:
                    async for delta in deltas:
                        received += len(delta.tokens)
                        if received >= most:
                            await asyncio.sleep(60)

            tasks = [asyncio.create_task(consume(chance.randrange(40))) for _ in range(100)]
            for task in tasks:
                await asyncio.sleep(0.002)
                task.cancel()
            await asyncio.wait(tasks)
            await backend.aclose()
            deadline = time.monotonic() + 10
            while server.unfinished or server.tasks or len(asyncio.all_tasks()) > before:
                assert time.monotonic() < deadline, asyncio.all_tasks()
                await asyncio.sleep(0.01)

    asyncio.run(go())


# --- Constraints ----------------------------------------------------------------------------

WEATHER = hk.Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
WAYS = [("vllm", "structured_outputs"), ("vllm", "processor"), ("llama_cpp", "grammar")]
GRAMMARS = [("vllm", "structured_outputs"), ("llama_cpp", "grammar")]
CALLED = hk.encode_with_special(
    "<|channel|>analysis<|message|>Ah.<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.get_weather <|constrain|>json<|message|>{"city": "São 🥀", "days": 3}<|call|>'
)
CODED = hk.encode_with_special("<|channel|>analysis to=python code<|message|>print(1)<|call|>")


@asynccontextmanager
async def constrained_by(way, *answers, limit=120, **options):
    """A server that gives answers in turn, one to each request, and a backend that asks it.

    Of an answer that the prompt has a part of already it gives the rest.
    """
    dialect, constraints = way
    answers = [*answers]

    def function(prompt, _):
        said, answer = prompt[3:], answers.pop(0)
        return answer[len(said) :] if said == answer[: len(said)] else answer

    arguments = {"context": 3 + limit, "constraints": constraints, **options}
    server = await Server(function, dialect).start()
    backend = OpenAICompletionsBackend(server.url, dialect=dialect, **arguments)
    try:
        yield server, backend
    finally:
        await backend.aclose()
        await server.stop()


def told(body):
    """The constraint, in whatever language a request has it."""
    if "structured_outputs" in body:
        return json.loads(body["structured_outputs"]["structural_tag"])
    return body.get("grammar") or body.get("vllm_xargs", {}).get("constraint")


def choice_of_one(body):
    """The tokens that a request for one token leaves."""
    if "logit_bias" in body:
        assert {bias for _, bias in body["logit_bias"]} == {False}
        return set(range(MODEL_VOCABULARY_SIZE)) - {token for token, _ in body["logit_bias"]}
    return set(body["allowed_token_ids"])


def set_of(mask):
    return {token for token in range(8 * len(mask)) if mask[token // 8] >> token % 8 & 1}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [True, False])
def test_servers_are_told_the_constraint_in_their_language(way, stream):
    made = hk.constraint([WEATHER])
    extra = {"vllm_xargs": {"other": 1}} if way[1] == "processor" else {}

    async def go():
        async with constrained_by(way, CALLED, stream=stream, extra_body=extra) as (
            server,
            backend,
        ):
            assert await complete(backend, constraint=made, seed=5) == (CALLED, "stop")
            ((_, _, body),) = server.requests
        assert (
            told(body)
            == {
                "structured_outputs": made.without_stop_token.structural_tag,
                "processor": made.lark,
                "grammar": made.gbnf,
            }[way[1]]
        )
        assert body.get("max_tokens", body.get("n_predict")) == 120
        assert body["seed"] == 5
        if extra:
            assert body["vllm_xargs"] == {"other": 1, "constraint": made.lark}

    asyncio.run(go())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("said", "after"),
    [
        ("Hello.<|return|>", 0),
        ("<|channel|>commentary to=functions.get_weather<|message|>{}<|call|>", 9),
        ("<|channel|>final<|message|>", 1),
    ],
)
def test_a_server_that_passes_over_the_constraint_is_an_error(way, said, after):
    """At the first token that leaves it."""
    said = hk.encode_with_special(said)
    advice = {
        "processor": "--logits-processors harmony_backends.constrained:Constrained",
        "structured_outputs": "enable_in_reasoning",
        "grammar": "llama.cpp says nothing",
    }[way[1]]

    async def go():
        async with constrained_by(way, [*said, RETURN, *said]) as (server, backend):
            made = hk.constraint([WEATHER], tool_choice="required")
            match = f"does not keep to the constraint: at token {after} .*{advice}"
            assert await fails(backend, match, after=after, constraint=made) == said[:after]
            while server.unfinished:
                await asyncio.sleep(0.01)

    asyncio.run(go())


@pytest.mark.parametrize("way", GRAMMARS)
@pytest.mark.parametrize("end", [RETURN, END_OF_TEXT])
def test_a_server_writes_the_wrong_stop_token(way, end):
    """Where there is no choice it is the right one; else the server chooses once more."""
    wrong = [*CODED[:-1], end]
    matcher = hk.constraint([hk.PYTHON], tool_choice="python").matcher()
    assert all(map(matcher.take, CODED[:-1]))
    (more,) = hk.encode(" #")

    async def go():
        made = hk.constraint([WEATHER], tool_choice="required")
        async with constrained_by(way, [*CALLED[:-1], end]) as (server, backend):
            assert await complete(backend, constraint=made) == (CALLED, "stop")
            assert len(server.requests) == 1

        made = hk.constraint([hk.PYTHON], tool_choice="python")
        async with constrained_by(way, wrong, [CALL]) as (server, backend):
            assert await complete(backend, constraint=made, seed=5) == (CODED, "stop")
            _, (_, _, body) = server.requests
            assert choice_of_one(body) == set_of(matcher.mask())
            assert told(body) is None
            assert body["prompt"] == [1, 2, 3, *CODED[:-1]]
            assert body.get("max_tokens", body.get("n_predict")) == 1
            assert (body["stream"], body["seed"]) == (False, 5 + len(CODED) - 1)

        async with constrained_by(way, wrong, [more], [CALL]) as (server, backend):
            tokens, _ = await complete(backend, constraint=made)
            assert tokens == [*CODED[:-1], more, CALL]
            *_, (_, _, body) = server.requests
            rest = hk.constraint([hk.PYTHON], tool_choice="python", after=tokens[:-1])
            expected = rest.without_stop_token.structural_tag if way[0] == "vllm" else rest.gbnf
            assert told(body) == expected
            assert body.get("max_tokens", body.get("n_predict")) == 120 - len(CODED)

    asyncio.run(go())


@pytest.mark.parametrize("way", GRAMMARS)
@pytest.mark.parametrize("limit", [30, 60])
def test_a_completion_is_whole_when_the_limit_is_reached(way, limit):
    """Though the server knows no limit: the last tokens are written without it."""
    endless = [*CALLED[:3], *CALLED[3:5] * 200]
    made = hk.constraint([WEATHER], tool_choice="required")

    async def go():
        async with constrained_by(way, endless, limit=limit) as (server, backend):
            tokens, reason = await complete(backend, constraint=made)
            while server.unfinished:
                await asyncio.sleep(0.01)
            assert len(server.requests) <= 1
        assert reason == "stop"
        assert len(tokens) <= limit
        assert made.check(tokens) is None

    asyncio.run(go())


def test_a_limit_of_the_reasoning_that_llama_cpp_is_not_told():
    made = hk.constraint(reasoning=3)
    head = hk.encode_with_special("<|channel|>analysis<|message|>")
    thought = hk.encode(" a b c")
    rest = hk.encode_with_special("<|end|><|start|>assistant<|channel|>final<|message|>")
    answer = [*hk.encode("Yes."), RETURN]

    async def go():
        way = ("llama_cpp", "grammar")
        async with constrained_by(way, [*head, *thought * 20], answer) as (server, backend):
            tokens, _ = await complete(backend, constraint=made)
            assert tokens == [*head, *thought, *rest, *answer]
            # What there is no choice of is not asked for.
            assert server.requests[-1][2]["prompt"] == [1, 2, 3, *head, *thought, *rest]

    asyncio.run(go())


def test_ids_that_llama_cpp_leaves_out_under_a_constraint():
    """They are asked for anew, one by one, and then the rest of the grammar goes on."""
    character = [172, 7908, 222]  # whose first three bytes are also 4103, 98
    head = CALLED[: CALLED.index(hk.encode('{"')[0]) + 1]
    before = [*head, *hk.encode('city":"')]
    answer = [*before, *character, *hk.encode('"}'), CALL]
    made = hk.constraint([WEATHER])

    async def go():
        server = await Server(goes_on(answer), "llama_cpp").start()
        backend = OpenAICompletionsBackend(server.url, dialect="llama_cpp", context=123)
        assert await complete(backend, constraint=made) == (answer, "stop")
        streamed = [body["stream"] for _, _, body in server.requests]
        assert streamed == [True, False, False, False, True]
        for _, _, body in server.requests[1:-1]:
            assert body["n_predict"] == 1
        assert told(server.requests[-1][2]) != made.gbnf
        await backend.aclose()
        await server.stop()

    asyncio.run(go())


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_is_refused_before_anything_is_generated(way):
    nothing = {"not": {"type": "string"}}

    async def go():
        async with constrained_by(way) as (server, backend):
            with pytest.raises(hk.errors.GrammarError, match=r"^response_format\.not: "):
                await complete(backend, constraint=hk.constraint(response_format=nothing))
            with pytest.raises(hk.errors.GrammarError, match="max_tokens is 3"):
                await complete(backend, max_tokens=3, constraint=hk.constraint())
            if way[1] != "processor":
                await fails(backend, "logprobs", logprobs=1, constraint=hk.constraint())
            assert server.requests == []
        async with constrained_by(way, context=None) as (server, backend):
            server.tells_context = False
            await fails(backend, "give max_tokens", constraint=hk.constraint())
            assert server.requests == []

    asyncio.run(go())


def test_log_probabilities_under_the_processor():
    answer = hk.encode_with_special("<|channel|>final<|message|>Yes.<|return|>")

    async def go():
        async with constrained_by(WAYS[1], answer) as (_, backend):
            sampling = hk.SamplingParams(logprobs=0, constraint=hk.constraint())
            deltas = [delta async for delta in backend.generate([1, 2, 3], sampling)]
        found = [logprobs for delta in deltas for logprobs in delta.logprobs]
        assert found == [{token: own_logprob(token)} for token in answer]

    asyncio.run(go())


def test_stop_texts_and_stop_tokens_under_a_constraint():
    answer = hk.encode_with_special(HELLO + "Grey cat on seven hills.<|return|>")
    text = hk.encode("Grey cat")
    end = answer.index(text[-1]) + 1

    async def go():
        for way in GRAMMARS:
            async with constrained_by(way, answer, answer, answer) as (_, backend):
                made = hk.constraint()
                stopped = await complete(backend, constraint=made, stop=("y cat",))
                assert stopped == (answer[:end], "stop")
                stopped = await complete(backend, constraint=made, stop_tokens=(text[0],))
                assert stopped == (answer[: end - 1], "stop")
                assert await complete(backend, constraint=made, stop_tokens=()) == (answer, "stop")

    asyncio.run(go())


def test_a_server_that_cannot_be_told_a_constraint():
    async def go():
        async with serving(dialect="sglang") as (server, backend):
            assert backend.supports == {"logprobs"}
            await fails(
                backend, r"does not support SamplingParams\(constraint", constraint=hk.constraint()
            )
            assert server.requests == []
        server = await Server(dialect="llama_cpp").start()
        backend = OpenAICompletionsBackend(server.url, constraints="processor")
        await fails(
            backend,
            "constraints is 'processor'; .* knows auto, grammar",
            constraint=hk.constraint(),
        )
        assert server.requests == []
        await backend.aclose()
        await server.stop()

    asyncio.run(go())
    with pytest.raises(
        hk.errors.BackendError, match=r"constraints is 'grammar'; .* structured_outputs"
    ):
        OpenAICompletionsBackend("http://x/v1", dialect="vllm", constraints="grammar")


def test_a_limit_of_the_servers_own_is_no_end():
    """It is asked to go on; where it gives nothing more, that is an error."""
    made = hk.constraint([WEATHER], tool_choice="required")

    class Short(Server):
        def _sampling(self, body):
            given = {**body, "n_predict": min(body["n_predict"], 7)}
            return super()._sampling(given)

    async def go():
        server = await Short(goes_on(CALLED), "llama_cpp").start()
        backend = OpenAICompletionsBackend(server.url, dialect="llama_cpp", context=123)
        assert await complete(backend, constraint=made) == (CALLED, "stop")
        assert len(server.requests) > 3
        await backend.aclose()
        await server.stop()

    asyncio.run(go())
