"""The HTTP backend against a server on loopback: what it asks, and what comes back."""

import asyncio
import json
import warnings

import pytest
from completions_server import (
    ANSWER,
    HELLO,
    MAX_CONTEXT,
    PATIENCE,
    Server,
    babble,
    babble_ascii,
    complete,
    expected,
    fails,
    goes_on,
    likeliest,
    own_logprob,
    serving,
)
from harmony_backends.openai_completions import (
    MODEL_VOCABULARY_SIZE,
    OpenAICompletionsBackend,
    _answers,
)
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
            await fails(backend, r"pass context=\.\.\. to the backend, or max_tokens")
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
            chunks = [chunk async for chunk in backend.generate([1, 2, 3], sampling)]
        tokens = [token for chunk in chunks for token in chunk.tokens]
        assert tokens == ANSWER
        found = [logprobs for chunk in chunks for logprobs in chunk.logprobs]
        assert found == [
            {token: own_logprob(token)} | dict(likeliest(token, count)) for token in tokens
        ]

    asyncio.run(go())


def test_logprobs_of_ids_that_llama_cpp_leaves_out_are_asked_for_again():
    answer = [*hk.encode("a 🫠 b"), RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp") as (server, backend):
            sampling = hk.SamplingParams(logprobs=0)
            chunks = [chunk async for chunk in backend.generate([1, 2, 3], sampling)]
            assert [token for chunk in chunks for token in chunk.tokens] == answer
            found = [logprobs for chunk in chunks for logprobs in chunk.logprobs]
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
        (by_text, "invalid log-probabilities"),
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
            chunks = [chunk async for chunk in backend.generate([1, 2, 3], sampling)]
            assert chunks[-1].finish_reason == "stop"
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
def test_connections_are_used_again(dialect, monkeypatch):
    monkeypatch.setattr(_answers, "_DRAIN_SECONDS", PATIENCE)

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


@pytest.mark.parametrize("stream", [True, False])
def test_stop_texts_are_found_here_and_not_sent(stream):
    thought = hk.encode_with_special("<|channel|>analysis<|message|>an END<|end|>")
    header = hk.encode_with_special("<|start|>assistant<|channel|>final<|message|>")
    said = hk.encode("one END two")
    answer = [*thought, *header, *said, RETURN]

    async def go():
        async with serving(goes_on(answer), "llama_cpp", stream=stream) as (server, backend):
            tokens, reason = await complete(backend, stop=("END",))
            assert all("stop" not in body or not body["stop"] for _, _, body in server.requests)
        assert reason == "stop"
        assert tokens == answer[: len(tokens)]
        assert hk.parse(tokens).text == "one END"

    asyncio.run(go())


def _single_bytes(text):
    singles = {token_bytes(token): token for token in range(256)}
    return [singles[bytes([byte])] for byte in text.encode()]


def test_a_server_without_ids_is_refused_or_read_as_text():
    async def go():
        async with serving(lambda *_: ANSWER, faults=["no ids"]) as (_, backend):
            await fails(backend, "returns no token ids.*text_fallback=True")
        async with serving(lambda *_: ANSWER, faults=["no ids"] * 2, text_fallback=True) as (
            _,
            backend,
        ):
            with pytest.warns(UserWarning, match="returns no token ids; its text is encoded"):
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
            with pytest.warns(UserWarning, match="returns no token ids"):
                chunks = [d async for d in backend.generate([1], hk.SamplingParams())]
        assert [token for chunk in chunks for token in chunk.tokens] == tokens
        assert len(chunks) > 5

    asyncio.run(go())


def _single_bytes_of(token):
    return _single_bytes(decode_bytes([token]).decode())
