"""The HTTP backend under constraints."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from completions_server import (
    HELLO,
    Server,
    becomes_true,
    complete,
    fails,
    goes_on,
    own_logprob,
    serving,
)
from harmony_backends.openai_completions import MODEL_VOCABULARY_SIZE, OpenAICompletionsBackend

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CALL, END_OF_TEXT, RETURN

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
        "grammar": "llama.cpp silently ignores",
    }[way[1]]

    async def go():
        async with constrained_by(way, [*said, RETURN, *said]) as (server, backend):
            made = hk.constraint([WEATHER], tool_choice="required")
            match = f"violates the constraint: at token {after} .*{advice}"
            assert await fails(backend, match, after=after, constraint=made) == said[:after]
            await becomes_true(lambda: not server.unfinished)

    asyncio.run(go())


@pytest.mark.parametrize("way", GRAMMARS)
@pytest.mark.parametrize("end", [RETURN, END_OF_TEXT])
def test_a_server_writes_the_wrong_stop_token(way, end):
    """Where there is no choice it is the right one; else the server chooses once more."""
    wrong = [*CODED[:-1], end]
    matcher = hk.constraint([hk.PYTHON], tool_choice="python").matcher()
    assert all(map(matcher.accept_token, CODED[:-1]))
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
            assert choice_of_one(body) == set_of(matcher.bitmask())
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
            await becomes_true(lambda: not server.unfinished)
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
            await fails(backend, "or max_tokens", constraint=hk.constraint())
            assert server.requests == []

    asyncio.run(go())


def test_log_probabilities_under_the_processor():
    answer = hk.encode_with_special("<|channel|>final<|message|>Yes.<|return|>")

    async def go():
        async with constrained_by(WAYS[1], answer) as (_, backend):
            sampling = hk.SamplingParams(logprobs=0, constraint=hk.constraint())
            chunks = [chunk async for chunk in backend.generate([1, 2, 3], sampling)]
        found = [logprobs for chunk in chunks for logprobs in chunk.logprobs]
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
            "constraints is 'processor'; .* supports auto, grammar",
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
