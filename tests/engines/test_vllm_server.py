"""The HTTP backend against vLLM's own server, and beside its chat endpoint."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from harmony_backends.recording import read_recording

import harmony_kit as hk
from harmony_kit.convert import chat_completions
from harmony_kit.engine._protocol import Feature, completion_of
from harmony_kit.wire._vocabulary import CALL, END_OF_TEXT, RETURN

pytest.register_assert_rewrite("harmony_backends.testing")
from harmony_backends.testing import BackendContract  # noqa: E402

for module in ("vllm", "transformers", "httpx", "uvicorn", "prometheus_fastapi_instrumentator"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

import httpx  # noqa: E402
from harmony_backends.openai_completions import OpenAICompletionsBackend  # noqa: E402

CONTEXT = 1024
START_SECONDS = 300
DATE = "2025-08-06"
HELLO = hk.encode_with_special("<|start|>user<|message|>Hello<|end|><|start|>assistant")
ENDLESS = hk.SamplingParams(temperature=0, stop_tokens=())

CHAT = "--tool-call-parser openai --enable-auto-tool-choice --reasoning-parser openai_gptoss"
# Without it, structured outputs begin after the reasoning (trap of gpt-oss reasoning parsers).
IN_REASONING = ("--structured-outputs-config", '{"enable_in_reasoning": true}')
SCRIPTED = "harmony_backends.scripted:Scripted"
CONSTRAINED = "harmony_backends.constrained:Constrained"


class Server:
    """vLLM's server in a process of its own, on a free port.

    It has the logits processor that makes a model say a script.
    """

    def __init__(
        self, model: Path, log: Path, *arguments: str, processors: Sequence[str] = (SCRIPTED,)
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = log
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *("--model", str(model), "--served-model-name", "gpt-oss"),
                *("--host", "127.0.0.1", "--port", str(port), "--uvicorn-log-level", "warning"),
                *("--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT)),
                *("--max-num-seqs", "32"),
                *("--logits-processors", *processors),
                *arguments,
            ],
            env=os.environ
            | {"TIKTOKEN_ENCODINGS_BASE": str(model), "VLLM_SYSTEM_START_DATE": DATE},
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx.get(self.url.removesuffix("/v1") + "/health").is_success:
                    return
            except httpx.TransportError:
                pass
            is_running = self.process.poll() is None and time.monotonic() < deadline
            assert is_running, self._log.read_text()[-3000:]
            time.sleep(0.2)

    def backend(self, said: Sequence[int] = (), **options: Any) -> OpenAICompletionsBackend:
        """A backend whose model says a script."""
        extra = {"vllm_xargs": {"script": [*said]}} if said else None
        return OpenAICompletionsBackend(self.url, extra_body=extra, backoff=0.01, **options)

    def unfinished_requests(self) -> int:
        text = httpx.get(self.url.removesuffix("/v1") + "/metrics", timeout=60).text
        pattern = r"^vllm:num_requests_(?:running|waiting){.*} ([\d.]+)"
        found = re.findall(pattern, text, re.MULTILINE)
        assert len(found) == 2
        return sum(int(float(number)) for number in found)

    def stop(self) -> None:
        with suppress(ProcessLookupError):  # it has ended, and so have its processes
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def servers(
    checkpoint: Path, checkpoint_with_tokenizer: Path, tmp_path_factory: Any
) -> Iterator[dict[str, Server]]:
    """Two, which start at the same time."""
    logs = tmp_path_factory.mktemp("servers")
    servers = {
        "full": Server(
            *(checkpoint_with_tokenizer, logs / "full", *CHAT.split(), *IN_REASONING),
            processors=(SCRIPTED, CONSTRAINED),
        ),
        "bare": Server(checkpoint, logs / "bare", "--skip-tokenizer-init"),
    }
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="module")
def server(servers: dict[str, Server]) -> Server:
    """One that has a tokenizer, converts chats, and keeps to constraints."""
    servers["full"].wait_until_ready()
    return servers["full"]


class TestVLLMServer(BackendContract):
    """The contract, over HTTP."""

    max_context = CONTEXT
    vocabulary_size = 201088
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        type(self).server = server

    def make_backend(self) -> OpenAICompletionsBackend:
        return self.server.backend()

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        return self.server.unfinished_requests()


async def complete(
    backend: hk.engine.Backend, prompt: Sequence[int], **options: Any
) -> tuple[list[int], str | None]:
    chunks = [chunk async for chunk in backend.generate(prompt, hk.SamplingParams(**options))]
    return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason


def test_a_limit_of_none_is_the_context(server: Server) -> None:
    """Where nothing is said, the server stops after 16 tokens."""

    async def go() -> None:
        prompt = (HELLO * CONTEXT)[: CONTEXT - 30]
        for dialect in ("auto", "vllm"):
            backend = server.backend(dialect=dialect)
            for limit in (None, 500, 5000):
                tokens, reason = await complete(
                    backend, prompt, max_tokens=limit, temperature=0, stop_tokens=()
                )
                assert (len(tokens), reason) == (30, "length")
            with pytest.raises(hk.errors.BackendError, match="context of 1024"):
                await complete(backend, (HELLO * CONTEXT)[:CONTEXT])
            await backend.aclose()

    asyncio.run(go())


@pytest.mark.parametrize("stop", [RETURN, CALL, END_OF_TEXT])
@pytest.mark.parametrize("stream", [True, False])
def test_every_stop_token_is_delivered_last(server: Server, stop: int, stream: bool) -> None:
    said = [*hk.encode("Grüß Gott! ☃"), stop]

    async def go() -> None:
        backend = server.backend([*said, 5, 6], stream=stream)
        assert await complete(backend, HELLO) == (said, "stop")
        await backend.aclose()

    asyncio.run(go())


def test_only_the_stop_tokens_that_were_asked_for_stop(server: Server) -> None:
    """Though `<|return|>` is the end of sequence in the model's files."""
    said = [11, RETURN, 12, CALL]

    async def go() -> None:
        backend = server.backend([*said, 13])
        assert await complete(backend, HELLO, stop_tokens=(CALL,)) == (said, "stop")
        await backend.aclose()

    asyncio.run(go())


def test_greedy_tokens_and_their_logprobs_are_those_of_transformers(
    server: Server, checkpoint: Path
) -> None:
    from harmony_backends.transformers import TransformersBackend

    prompts = [[*HELLO, 100 + number] for number in range(3)] + [(HELLO * 60)[:300]]
    sampling = hk.SamplingParams(max_tokens=12, temperature=0, stop_tokens=(), logprobs=3)

    async def go(backend: hk.engine.Backend) -> list[list[hk.engine.TokenChunk]]:
        every = [
            [chunk async for chunk in backend.generate(prompt, sampling)] for prompt in prompts
        ]
        await backend.aclose()
        return every

    of_server = asyncio.run(go(server.backend()))
    of_transformers = asyncio.run(
        go(TransformersBackend(str(checkpoint), device="cpu", dtype="float32"))
    )
    for ours, theirs in zip(of_server, of_transformers, strict=True):
        assert [t for chunk in ours for t in chunk.tokens] == [
            t for chunk in theirs for t in chunk.tokens
        ]
        for found, expected in zip(logprobs_of(ours), logprobs_of(theirs), strict=True):
            assert found == pytest.approx(expected, abs=1e-3)


def logprobs_of(chunks: Sequence[hk.engine.TokenChunk]) -> list[dict[int, float]]:
    return [dict(found) for chunk in chunks for found in chunk.logprobs or ()]


# --- The loop -------------------------------------------------------------------------------


class Scripted:
    """A backend that says, through a server, what scripts say to prompts."""

    name = "scripted"
    supports: frozenset[Feature] = frozenset()

    def __init__(self, server: Server, scripts: dict[tuple[int, ...], Sequence[int]]) -> None:
        self._backends = {prompt: server.backend(said) for prompt, said in scripts.items()}

    def generate(
        self, prompt: Sequence[int], sampling: hk.SamplingParams
    ) -> AsyncIterator[hk.engine.TokenChunk]:
        return self._backends[tuple(prompt)].generate(prompt, sampling)

    async def aclose(self) -> None:
        for backend in self._backends.values():
            await backend.aclose()


def weather_tool(cities: list[str]) -> Callable[[str], str]:
    def get_current_weather(location: str) -> str:
        """Returns the current weather status at a given location as a string.

        Args:
            location: The location to get the weather for.
        """
        cities.append(location)
        return "Terrestrial."

    return get_current_weather


def test_the_whole_loop_over_http(server: Server) -> None:
    paris = read_recording("paris-weather")
    backend = Scripted(server, {exchange.prompt: exchange.completion for exchange in paris})
    conversation = [
        hk.system(current_date=DATE, tools=[hk.BROWSER, hk.PYTHON]),
        hk.user("What's the weather in Paris right now?"),
    ]
    cities: list[str] = []

    async def go() -> hk.Reply:
        reply = await hk.arun(conversation, backend, tools=[weather_tool(cities)])
        await backend.aclose()
        return reply

    reply = asyncio.run(go())
    assert reply.outcome == "final"
    assert cities == ["Paris"]
    assert reply.text is not None
    assert reply.text in hk.decode(paris[-1].completion)
    assert reply.usage.completion_tokens == sum(len(e.completion) for e in paris)


# --- Constraints ----------------------------------------------------------------------------


@pytest.mark.parametrize("constraints", ["structured_outputs", "processor"])
def test_constrained_completions_are_well_formed(server: Server, constraints: Any) -> None:
    """From the first token on, and within the limit."""
    pytest.importorskip("llguidance")
    from constrained_requests import answer_all, check_all

    async def go() -> list[list[int]]:
        backend = server.backend(constraints=constraints)
        try:
            return await answer_all(backend)
        finally:
            await backend.aclose()

    check_all(asyncio.run(go()))
    assert server.unfinished_requests() == 0


def test_code_ends_with_a_call_though_the_server_would_write_another_stop_token(
    server: Server,
) -> None:
    """vLLM's structured outputs end with any stop token; another one is asked for then."""
    bias = {"logit_bias": {str(RETURN): 100, str(CALL): 50}}
    constraint = hk.constraint([hk.PYTHON], tool_choice="python", reasoning="none")

    async def go() -> tuple[list[int], str | None]:
        backend = OpenAICompletionsBackend(server.url, extra_body=bias)
        completion = await complete(backend, HELLO, max_tokens=100, constraint=constraint)
        await backend.aclose()
        return completion

    tokens, reason = asyncio.run(go())
    (call,) = hk.tool_calls(hk.parse(tokens, strict=True), [hk.PYTHON])
    assert (tokens[-1], reason) == (CALL, "stop")
    assert len(hk.encode(call.raw)) == 1


# --- Beside the server's own conversion of chats --------------------------------------------

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                },
                "required": ["city"],
            },
        },
    }
]
ASKED = {"role": "user", "content": "What is the weather in SF?"}
CALLED = {
    "role": "assistant",
    "content": None,
    "reasoning": "I call it.",
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "SF"}'},
        }
    ],
}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "an answer": (
        {"messages": [{"role": "user", "content": "Hi"}]},
        "<|channel|>analysis<|message|>They greet me.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Grüß Gott! ☃<|return|>",
    ),
    "an answer without reasoning, to instructions": (
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "And now?"},
            ],
            "reasoning_effort": "low",
        },
        "<|channel|>final<|message|>Bye.\n\n- one\n- two<|return|>",
    ),
    "a call": (
        {"messages": [ASKED], "tools": TOOLS, "reasoning_effort": "high"},
        "<|channel|>analysis<|message|>I call it.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.get_weather <|constrain|>json<|message|>{"city": "SF", "unit": "f"}<|call|>',
    ),
    "a preamble and a call whose recipient stands first": (
        {"messages": [ASKED], "tools": TOOLS},
        "<|channel|>commentary<|message|>I look it up.<|end|><|start|>assistant "
        'to=functions.get_weather<|channel|>commentary json<|message|>{"city": "SF"}<|call|>',
    ),
    "an answer after a call": (
        {
            "messages": [
                ASKED,
                CALLED,
                {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
            ],
            "tools": TOOLS,
        },
        "<|channel|>final<|message|>It is sunny.<|return|>",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_chat_is_what_the_server_makes_of_it(server: Server, case: str) -> None:
    """The same prompt, token for token, and the same reply.

    But vLLM 0.32 writes the header of a tool's result with its channel before its recipient,
    and that of a call the other way round; here, as in openai-harmony, the recipient is
    first in both.
    """
    body, text = CASES[case]
    said = hk.encode_with_special(text)
    request = chat_completions.read_request(body, current_date=DATE)
    prompt = request.prompt()

    async def ours() -> list[int]:
        backend = server.backend(said)
        tokens, _ = await complete(backend, prompt)
        await backend.aclose()
        return tokens

    result = hk.parse(asyncio.run(ours()))
    written = chat_completions.write_response(result, id="r", created=0, model="gpt-oss")
    asked = {**body, "model": "gpt-oss", "vllm_xargs": {"script": said}, "return_token_ids": True}
    theirs = httpx.post(server.url + "/chat/completions", json=asked, timeout=60).json()

    expected = hk.decode(theirs["prompt_token_ids"]).replace(
        "get_weather<|channel|>commentary to=assistant<",
        "get_weather to=assistant<|channel|>commentary<",
    )
    assert hk.decode(prompt) == expected
    if case != "an answer after a call":
        assert prompt == theirs["prompt_token_ids"]
    assert _gist(written) == _gist(theirs)


def _gist(response: dict[str, Any]) -> dict[str, Any]:
    """What two responses must have in common; vLLM writes the JSON of arguments anew."""
    (choice,) = response["choices"]
    message = choice["message"]
    return {
        "content": message.get("content"),
        "reasoning": message.get("reasoning"),
        "calls": [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        ],
        "finish_reason": choice["finish_reason"],
    }


# --- A server without a tokenizer, and its end ----------------------------------------------


def test_without_a_tokenizer_and_killed_in_the_middle_of_a_stream(
    servers: dict[str, Server],
) -> None:
    server = servers["bare"]
    server.wait_until_ready()
    said = [*hk.encode("Grüß Gott! ☃"), RETURN]

    async def go() -> None:
        scripted = server.backend(said)
        assert await complete(scripted, HELLO, logprobs=1) == (said, "stop")
        await scripted.aclose()

        # It has no processor of ours, and structured outputs need a tokenizer.
        for way, match in (("processor", "violates"), ("structured_outputs", "tokenizer")):
            free = server.backend(constraints=way)
            with pytest.raises(hk.errors.BackendError, match=match):
                await complete(free, HELLO, constraint=hk.constraint())
            await free.aclose()

        backend = server.backend(max_retries=1)
        received: list[int] = []

        async def consume() -> None:
            async with aclosing(completion_of(backend, HELLO, ENDLESS)) as chunks:
                async for chunk in chunks:
                    received.extend(chunk.tokens)
                    if len(received) == 5:
                        os.kill(server.process.pid, signal.SIGKILL)

        with pytest.raises(hk.errors.BackendError, match="openai_completions at"):
            await asyncio.wait_for(consume(), 60)
        assert 5 <= len(received) < CONTEXT - len(HELLO)
        with pytest.raises(hk.errors.BackendError, match="cannot be reached"):
            await complete(backend, HELLO, max_tokens=3)
        await backend.aclose()

    asyncio.run(go())
