"""A server of completions on loopback, with the formats of vLLM, llama.cpp and sglang.

sglang's is written after its documentation.
"""

import asyncio
import json
import random
import time
from contextlib import asynccontextmanager, suppress

import pytest
from harmony_backends.function import FunctionBackend
from harmony_backends.openai_completions import OpenAICompletionsBackend

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CALL, RETURN, token_bytes

ASCII = [token for token in range(5000) if token_bytes(token).isascii()]
MAX_CONTEXT = 200
PATIENCE = 30.0  # seconds to wait for what takes none on an idle machine
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
        await becomes_true(lambda: not self.tasks)

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
        chunks = self.backend.generate(prompt, self._sampling(body))
        try:
            first = await anext(chunks)  # an error comes before a status is sent
        except hk.errors.BackendError as error:
            await chunks.aclose()
            self._whole(writer, 400, {"error": {"message": str(error), "code": 400}})
            return True
        try:
            return await self._answer(body, first, chunks, writer, fault)
        finally:
            await chunks.aclose()

    async def _answer(self, body, first, chunks, writer, fault):
        async def every():
            yield first
            async for chunk in chunks:
                await asyncio.sleep(self.pace)
                yield chunk

        if not body["stream"]:
            tokens = []
            async for chunk in every():
                tokens += chunk.tokens
                reason = chunk.finish_reason
            self._whole(writer, 200, self._event(tokens, tokens, len(tokens), reason, body))
            return True
        self._start(writer)
        held, generated, said = [], 0, []
        async for number, chunk in _enumerate(every()):
            said += chunk.tokens
            if number == 3 and fault not in (None, "no ids"):
                if fault == "hang":
                    await asyncio.sleep(100)
                if fault == "close":
                    return False
                if fault == "no reason":
                    break
                self._send(writer, fault)
                continue
            held += chunk.tokens
            generated += len(chunk.tokens)
            is_incomplete = self.dialect == "llama_cpp" and "�" in hk.decode(held)
            if not is_incomplete:
                reason = None if self.dialect == "llama_cpp" else chunk.finish_reason
                given = held[-1:] if self.dialect == "llama_cpp" else held
                if self.dialect == "sglang" and not self.is_incremental:
                    given = said
                event = self._event(given, held, generated, reason, body)
                if fault == "no ids":
                    del event["choices"][0]["token_ids"]
                self._send_json(writer, event)
                held = []
            if chunk.finish_reason and self.dialect == "llama_cpp":
                event = self._event([], [], generated, chunk.finish_reason, body)
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
    chunks = [chunk async for chunk in backend.generate(prompt, hk.SamplingParams(**sampling))]
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason


async def fails(backend, match, *, after=0, **sampling):
    """Check that a completion fails, after so many tokens, which are returned."""
    tokens = []

    async def consume():
        async for chunk in backend.generate([1, 2, 3], hk.SamplingParams(**sampling)):
            tokens.extend(chunk.tokens)

    with pytest.raises(hk.errors.BackendError, match=match):
        await consume()
    assert len(tokens) == after
    return tokens


async def becomes_true(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def expected(count, function=babble):
    stream = function([1, 2, 3], hk.SamplingParams(temperature=0))
    return [next(stream) for _ in range(count)]


def goes_on(answer):
    """What answers the prompt [1, 2, 3], and goes on where the prompt has a part of it."""

    def function(prompt, _):
        said = prompt[3:]
        assert said == answer[: len(said)]
        return answer[len(said) :]

    return function
