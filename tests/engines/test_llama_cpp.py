"""The llama_cpp backend on a small model."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from odd_model import OddModel

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CALL, END, END_OF_TEXT, RETURN

pytest.register_assert_rewrite("harmony_backends.testing")
from harmony_backends.testing import BackendContract  # noqa: E402

for module in ("xllamacpp", "gguf", "httpx"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

from harmony_backends.llama_cpp import LlamaCppBackend  # noqa: E402
from harmony_backends.vllm import DeadEngineError  # noqa: E402

CONTEXT = 1024
VOCABULARY = 201088
HELLO = hk.encode_with_special("<|start|>user<|message|>Hello<|end|><|start|>assistant")
GREEDY = hk.SamplingParams(temperature=0, max_tokens=24, stop_tokens=())

# One thread, as the machine may be small. Float32 throughout, to compare ids: llama.cpp's flash
# attention computes in less, whatever its cache has.
EXACT: dict[str, Any] = {
    "flash_attn_type": "disabled",
    "cache_type_k": "f32",
    "cache_type_v": "f32",
    "cpuparams": {"n_threads": 1},
    "cpuparams_batch": {"n_threads": 1},
    "warmup": False,
}


def start(gguf: Path, **options: Any) -> LlamaCppBackend:
    options = {"context": CONTEXT, "parallel": 4, **EXACT, **options}
    backend = hk.load_backend("llama_cpp", model=str(gguf), **options)
    assert isinstance(backend, LlamaCppBackend)
    return backend


class TestLlamaCpp(BackendContract):
    """The contract."""

    max_context = CONTEXT
    vocabulary_size = VOCABULARY
    gguf: Path

    @pytest.fixture(autouse=True)
    def _gguf(self, gguf: Path) -> None:
        type(self).gguf = gguf

    def make_backend(self) -> LlamaCppBackend:
        return start(self.gguf)

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        assert isinstance(backend, LlamaCppBackend)
        return backend.unfinished_requests


def assert_idle(backend: LlamaCppBackend) -> None:
    """The engine's process may need a moment to end what was given up, also by tests before."""
    deadline = time.monotonic() + 30
    while unfinished := backend.unfinished_requests:
        assert time.monotonic() < deadline, f"{unfinished} requests are unfinished"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def backend(gguf: Path) -> Iterator[LlamaCppBackend]:
    backend = start(gguf, context=512, sampling={"top_k": 0, "min_p": 0.0})
    yield backend
    assert_idle(backend)
    asyncio.run(backend.aclose())
    asyncio.run(backend.aclose())


async def complete(
    backend: hk.engine.Backend, prompt: Sequence[int], sampling: hk.SamplingParams
) -> tuple[list[int], str | None]:
    chunks = [chunk async for chunk in backend.generate(prompt, sampling)]
    assert {chunk.finish_reason for chunk in chunks[:-1]} <= {None}
    return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason


def completion(
    backend: hk.engine.Backend, prompt: Sequence[int], **options: Any
) -> tuple[list[int], str | None]:
    return asyncio.run(complete(backend, prompt, hk.SamplingParams(**options)))


@pytest.fixture
def favour(gguf: Path, backend: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the model say tokens: the engine is asked with a bias for them."""
    dialect = backend._requests._dialect
    assert dialect is not None
    body = dialect.body

    def set_bias(*tokens: int, by: float = 1000.0) -> None:
        def biased(prompt: list[int], sampling: hk.SamplingParams) -> dict[str, Any]:
            return {**body(prompt, sampling), "logit_bias": [[token, by] for token in tokens]}

        monkeypatch.setattr(dialect, "body", biased, raising=False)

    return set_bias


# --- Ids ------------------------------------------------------------------------------------


def test_greedy_tokens_are_those_of_transformers(
    backend: LlamaCppBackend, checkpoint: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from harmony_backends.transformers import TransformersBackend

    prompts = [[*HELLO, 100 + number] for number in range(16)]
    prompts += [(HELLO * 100)[:length] for length in (100, 200, 300, 480)]

    async def go(generator: hk.engine.Backend) -> list[tuple[list[int], str | None]]:
        return [await complete(generator, prompt, GREEDY) for prompt in prompts]

    ours = asyncio.run(go(backend))
    theirs = TransformersBackend(str(checkpoint), device="cpu", dtype="float32")
    assert ours == asyncio.run(go(theirs))
    assert len({tuple(tokens) for tokens, _ in ours}) == len(prompts)


@pytest.mark.parametrize(
    "tokens",
    [
        hk.encode("🫠"),
        [172, 7908, 222],  # "🥀", whose first three bytes are also 4103, 98
        [172],  # a byte that begins a character, again and again
        [222],  # one that continues none
    ],
)
def test_no_id_is_left_out_within_a_character(
    backend: LlamaCppBackend, favour: Any, tokens: list[int]
) -> None:
    """Though llama.cpp's stream leaves them out; its whole answers have all."""
    favour(*tokens)

    async def whole(limit: int) -> list[int]:
        from harmony_backends.openai_completions import OpenAICompletionsBackend

        server = backend._server
        asked = OpenAICompletionsBackend(
            server.url, api_key=server.key, dialect="llama_cpp", stream=False
        )
        sampling = hk.SamplingParams(temperature=0, max_tokens=limit, stop_tokens=())
        said, _ = await complete(asked, HELLO, sampling)
        await asked.aclose()
        return said

    for limit in (1, 2, 3, 4, 20):
        expected = asyncio.run(whole(limit))
        assert len(expected) == limit
        assert completion(backend, HELLO, temperature=0, max_tokens=limit, stop_tokens=()) == (
            expected,
            "length",
        )
        if len(tokens) == 1:
            assert set(expected) == set(tokens)


def test_a_seeded_draw_repeats_though_ids_were_asked_for_again(
    backend: LlamaCppBackend, favour: Any
) -> None:
    favour(*range(128, 256), by=20.0)
    options: dict[str, Any] = {"temperature": 1.0, "max_tokens": 60, "stop_tokens": ()}
    first, reason = completion(backend, HELLO, **options, seed=3)
    assert (len(first), reason) == (60, "length")
    assert len(set(first)) > 10
    assert completion(backend, HELLO, **options, seed=3)[0] == first
    assert completion(backend, HELLO, **options, seed=4)[0] != first


# --- Prompts that go on from the last -------------------------------------------------------


def test_law_11_the_cache_has_all_of_the_last_prompt_and_its_completion(
    gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last token, which was chosen and is yet to be read."""
    model = OddModel()
    backend = start(gguf)
    dialect = backend._requests._dialect
    assert dialect is not None
    body, read = dialect.body, dialect.read
    asked: list[tuple[int, ...]] = []
    cached: dict[tuple[int, ...], int] = {}

    def scripted(prompt: list[int], sampling: hk.SamplingParams) -> dict[str, Any]:
        asked.append(tuple(prompt))
        made_to_say = forced(model.script(prompt))
        return {**body(prompt, sampling), **made_to_say, "timings_per_token": True}

    def counted(event: dict[str, Any]) -> Any:
        cached.setdefault(asked[-1], event["timings"]["cache_n"])
        return read(event)

    monkeypatch.setattr(dialect, "body", scripted, raising=False)
    monkeypatch.setattr(dialect, "read", counted, raising=False)
    prompts = model.run(backend)
    assert [cached[prompt] for prompt, _ in prompts] == [before - 1 for _, before in prompts]
    asyncio.run(backend.aclose())


def forced(tokens: Sequence[int]) -> dict[str, Any]:
    """What has llama.cpp say tokens: a grammar of their ids, and of the texts of characters that
    have several, whose ids are favoured; so is the last, which stands outside of grammars."""
    elements, favoured, character = [], [tokens[-1]], []
    for token in tokens[:-1]:
        character.append(token)
        text = hk.decode(character)
        if "\ufffd" in text:
            favoured.append(token)
            continue
        elements.append(f"<[{token}]>" if len(character) == 1 else f'"{text}"')
        character = []
    return {
        "grammar": "root ::= " + (" ".join(elements) or '""'),
        "logit_bias": [[token, 1000.0] for token in favoured],
    }


# --- Where completions end ------------------------------------------------------------------


@pytest.mark.parametrize("stop", [RETURN, CALL, END, 5000])
def test_a_stop_token_is_delivered_last(backend: LlamaCppBackend, favour: Any, stop: int) -> None:
    favour(stop)
    assert completion(backend, HELLO, stop_tokens=(stop,)) == ([stop], "stop")


def test_endoftext_stops(backend: LlamaCppBackend, favour: Any) -> None:
    """Whatever is asked for: nothing comes after it."""
    favour(END_OF_TEXT)
    assert completion(backend, HELLO, stop_tokens=()) == ([END_OF_TEXT], "stop")


@pytest.mark.parametrize("token", [RETURN, CALL])
def test_only_the_stop_tokens_that_were_asked_for_stop(
    backend: LlamaCppBackend, favour: Any, token: int
) -> None:
    """Though llama.cpp ends the completion at both."""
    favour(token)
    other = RETURN + CALL - token
    said = completion(backend, HELLO, stop_tokens=(other,), max_tokens=5)
    assert said == ([token] * 5, "length")


def test_a_limit_of_none_is_the_context(backend: LlamaCppBackend) -> None:
    assert backend.context == 512
    prompt = (HELLO * 100)[:500]
    for limit in (None, 500):
        tokens, reason = completion(
            backend, prompt, temperature=0, stop_tokens=(), max_tokens=limit
        )
        assert (len(tokens), reason) == (12, "length")


def test_a_prompt_that_leaves_no_room_is_refused(backend: LlamaCppBackend) -> None:
    with pytest.raises(hk.errors.BackendError, match="context of 512"):
        completion(backend, (HELLO * 100)[:512])


def test_a_stop_text_ends_the_completion(backend: LlamaCppBackend) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 20, "stop_tokens": ()}
    tokens, _ = completion(backend, HELLO, **options)
    text = hk.decode(tokens[3:5])
    stopped, reason = completion(backend, HELLO, **options, stop=("never", text))
    assert reason == "stop"
    assert stopped == tokens[: len(stopped)]
    assert text in hk.decode(stopped)
    assert len(stopped) <= 5
    assert_idle(backend)


# --- How tokens are chosen ------------------------------------------------------------------


def test_penalties_forbid_or_favour_repetition(backend: LlamaCppBackend) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "stop_tokens": ()}
    for name in ("presence_penalty", "frequency_penalty"):
        tokens, _ = completion(backend, HELLO, **options, **{name: 2.0})
        assert len(set(tokens)) == 30
        tokens, _ = completion(backend, HELLO, **options, **{name: -2.0})
        assert len(set(tokens)) <= 15


def test_sampling(backend: LlamaCppBackend) -> None:
    options: dict[str, Any] = {"max_tokens": 12, "stop_tokens": ()}
    greedy = completion(backend, HELLO, **options, temperature=0)
    assert completion(backend, HELLO, **options, temperature=1.0, top_p=1e-6) == greedy
    one, other = (completion(backend, HELLO, **options, temperature=1.0, seed=s) for s in (1, 2))
    assert one != other


def test_what_the_server_refuses_is_an_error_of_that_request_alone(
    backend: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = backend._requests._dialect
    assert dialect is not None
    with monkeypatch.context() as patched:
        patched.setattr(
            dialect, "body", lambda *_: {"prompt": HELLO, "grammar": "root ::= nothing"}
        )
        with pytest.raises(hk.errors.BackendError, match="grammar"):
            completion(backend, HELLO, max_tokens=3)
    assert completion(backend, HELLO, temperature=0, max_tokens=3, stop_tokens=())[1] == "length"


def test_what_is_not_supported_is_refused(backend: LlamaCppBackend) -> None:
    with pytest.raises(hk.errors.BackendError, match="logprobs"):
        completion(backend, HELLO, logprobs=1)


# --- Constraints ----------------------------------------------------------------------------


def test_constrained_completions_are_well_formed(backend: LlamaCppBackend) -> None:
    """From the first token on, and within the limit, though llama.cpp counts no tokens."""
    pytest.importorskip("llguidance")
    from constrained_requests import answer_all, check_all

    async def go() -> list[list[int]]:
        answers = await answer_all(backend)
        impossible = hk.SamplingParams(max_tokens=3, constraint=hk.constraint())
        with pytest.raises(hk.errors.GrammarError, match="max_tokens is 3"):
            await complete(backend, HELLO, impossible)
        return answers

    check_all(asyncio.run(go()))
    assert_idle(backend)


@pytest.mark.parametrize("tokens", [[172, 7908, 222], hk.encode("\\u00")])
def test_a_constraint_holds_where_ids_are_left_out_and_where_languages_differ(
    backend: LlamaCppBackend, favour: Any, tokens: list[int]
) -> None:
    favour(*tokens, RETURN, CALL, by=20.0)
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 3}},
        "required": ["text"],
        "additionalProperties": False,
    }
    for options in (
        {"response_format": schema, "reasoning": "none"},
        {"tools": [hk.PYTHON], "tool_choice": "python", "reasoning": 5},
    ):
        constraint = hk.constraint(**options)
        said, reason = completion(
            backend, HELLO, temperature=1.0, seed=0, max_tokens=90, constraint=constraint
        )
        assert reason == "stop"
        assert constraint.check(said) is None
        assert hk.parse(said, strict=True).messages


def test_a_constraint_ends_at_the_context(backend: LlamaCppBackend) -> None:
    prompt = (HELLO * 100)[:440]
    constraint = hk.constraint([hk.PYTHON], tool_choice="python")
    said, reason = completion(backend, prompt, constraint=constraint)
    assert reason == "stop"
    assert len(said) <= backend.context - len(prompt)
    assert constraint.check(said) is None


def test_what_the_grammar_cannot_say_is_refused(backend: LlamaCppBackend) -> None:
    schema = {"type": "object", "patternProperties": {"^a": {"type": "string"}}}
    constraint = hk.constraint(response_format=schema)
    with pytest.raises(hk.errors.GrammarError, match="patternProperties"):
        completion(backend, HELLO, constraint=constraint)
    assert_idle(backend)


# --- Many requests, many event loops --------------------------------------------------------


def test_run_twice(backend: LlamaCppBackend) -> None:
    sampling = hk.SamplingParams(max_tokens=6, temperature=0, stop_tokens=())
    for _ in range(2):
        reply = hk.run([hk.user("Hi")], backend, sampling=sampling)
        assert reply.usage.completion_tokens == 6


def test_cancelled_a_hundred_times(backend: LlamaCppBackend) -> None:
    async def go() -> None:
        sampling = hk.SamplingParams(max_tokens=200, temperature=0, stop_tokens=())
        for number in range(100):
            task = asyncio.create_task(complete(backend, [*HELLO, number], sampling))
            await asyncio.sleep(number % 10 * 0.005)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(go())
    assert_idle(backend)
    assert len(asyncio.run(complete(backend, HELLO, GREEDY))[0]) == 24


def test_a_request_that_waits_for_its_turn_can_be_aborted(backend: LlamaCppBackend) -> None:
    """The server counts the tokens of finished requests only: of these, hardly any."""
    count, length = 12, 400
    start = finished_tokens(backend)
    asyncio.run(complete(backend, HELLO, GREEDY))
    before = finished_tokens(backend)
    assert before > start

    async def go() -> None:
        sampling = hk.SamplingParams(max_tokens=length, temperature=0, stop_tokens=())
        tasks = [
            asyncio.create_task(complete(backend, [*HELLO, number], sampling))
            for number in range(count)
        ]
        while backend.unfinished_requests < count:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(go())
    assert_idle(backend)
    assert finished_tokens(backend) - before < count * length / 2


def finished_tokens(backend: LlamaCppBackend) -> int:
    found = re.search(
        r"^llamacpp:tokens_predicted_total (\d+)", backend._server.ask("/metrics"), re.MULTILINE
    )
    assert found
    return int(found[1])


# --- The engine's life ----------------------------------------------------------------------


def test_closing_aborts_what_is_being_generated(gguf: Path) -> None:
    async def go() -> None:
        backend = start(gguf)
        sampling = hk.SamplingParams(temperature=0, stop_tokens=())
        unfinished = asyncio.create_task(complete(backend, HELLO, sampling))
        while backend.unfinished_requests == 0:
            await asyncio.sleep(0.01)
        await backend.aclose()
        _, reason = await asyncio.wait_for(unfinished, 30)
        assert reason == "abort"
        assert backend.unfinished_requests == 0

    asyncio.run(go())


def test_a_dead_engine_is_a_named_error(gguf: Path) -> None:
    backend = start(gguf)

    async def go() -> None:
        sampling = hk.SamplingParams(temperature=0, stop_tokens=())
        received = []

        async def consume() -> None:
            async with aclosing(backend.generate(HELLO, sampling)) as chunks:
                async for chunk in chunks:
                    received.extend(chunk.tokens)
                    if len(received) == 5:
                        os.kill(backend._server.process_id, signal.SIGKILL)

        with pytest.raises(DeadEngineError, match="new backend"):
            await consume()
        assert len(received) >= 5
        with pytest.raises(DeadEngineError, match="new backend"):
            await complete(backend, HELLO, GREEDY)
        await backend.aclose()
        await backend.aclose()

    asyncio.run(go())


PROGRAM = """
import sys
import harmony_kit as hk

backend = hk.load_backend("llama_cpp", model=sys.argv[1], context=256, parallel=1)
sampling = hk.SamplingParams(max_tokens=5, temperature=0, stop_tokens=())
for _ in range(2):
    reply = hk.run([hk.user("Hi")], backend, sampling=sampling)
    print("completion tokens:", reply.usage.completion_tokens)
print(backend._server.process_id, flush=True)
"""


def test_a_program_that_never_closes_ends_and_nothing_else_is_printed(gguf: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(gguf)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *lines, process = done.stdout.splitlines()
    assert lines == ["completion tokens: 5"] * 2
    assert_gone(int(process))


def test_the_engine_ends_with_a_program_that_is_killed(gguf: Path) -> None:
    program = PROGRAM + "sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(gguf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        process = [running.stdout.readline() for _ in range(3)][-1]
        running.kill()
    assert_gone(int(process))


def assert_gone(process: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_command_prints_its_json_alone(gguf: Path) -> None:
    command = [sys.executable, "-m", "harmony_kit", "run", "Hi", "--json", "--max-tokens", "8"]
    command += ["--backend", "llama_cpp"]
    for option in (f"model={gguf}", "context=256", "parallel=1", "verbosity=4"):
        command += ["--option", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    json.loads(done.stdout)


def test_no_proxy_is_asked(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    backend = start(gguf)
    assert len(asyncio.run(complete(backend, HELLO, GREEDY))[0]) == 24
    asyncio.run(backend.aclose())


# --- What cannot be started -----------------------------------------------------------------


def test_a_model_that_is_none_is_a_backend_error(tmp_path: Path) -> None:
    with pytest.raises(hk.errors.BackendError, match="no such file"):
        hk.load_backend("llama_cpp", model=str(tmp_path / "none.gguf"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF nothing more")
    with pytest.raises(hk.errors.BackendError, match="does not start"):
        hk.load_backend("llama_cpp", model=str(broken))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"no_such_option": 1}, "no option no_such_option"),
        ({"cpuparams": {"none": 1}}, r"no option cpuparams\.none"),
        ({"cache_type_k": "q77"}, "cache_type_k cannot be 'q77'; known: .*Q8_0"),
        ({"n_batch": "many"}, "n_batch"),
        ({"parallel": 0}, "at least 1"),
    ],
)
def test_an_option_that_is_none_is_named(
    tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    model = tmp_path / "model.gguf"
    model.touch()
    with pytest.raises(hk.errors.BackendError, match=match):
        hk.load_backend("llama_cpp", model=str(model), **options)


def test_without_xllamacpp_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.touch()
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(hk.errors.BackendError, match=r"pip install 'harmony-kit\[llama_cpp\]'"):
        hk.load_backend("llama_cpp", model=str(model))
