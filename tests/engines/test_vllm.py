"""The vllm backend on a real engine, and the whole loop with a model that is told what to say."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from harmony_backends.recording import read_recording
from harmony_backends.vllm import DeadEngineError, VLLMBackend
from odd_model import OddModel

import harmony_kit as hk
from harmony_kit.engine._protocol import completion_of
from harmony_kit.wire._vocabulary import CALL, END_OF_TEXT, RETURN

pytest.register_assert_rewrite("harmony_backends.testing")
from harmony_backends.testing import BackendContract, Harness  # noqa: E402

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

CONTEXT = 1024
VOCABULARY = 201088

PARIS = read_recording("paris-weather")
HELLO = hk.encode_with_special("<|start|>user<|message|>Hello<|end|><|start|>assistant")
ANSWER = hk.encode_with_special(
    "<|channel|>analysis<|message|>They greet me.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Grüß Gott! ☃<|return|>"
)
SCRIPTS = {exchange.prompt: exchange.completion for exchange in PARIS} | {
    tuple(HELLO): tuple(ANSWER)
}


def script(prompt: Sequence[int]) -> Sequence[int]:
    """What is known is answered as it was; otherwise the model is free."""
    return SCRIPTS.get(tuple(prompt), ())


def start(checkpoint: Path, **arguments: Any) -> VLLMBackend:
    return VLLMBackend(
        str(checkpoint),
        dtype="float32",
        enforce_eager=True,
        max_model_len=CONTEXT,
        max_num_seqs=32,
        **arguments,
    )


async def complete(
    backend: hk.engine.Backend, prompt: Sequence[int], sampling: hk.SamplingParams
) -> tuple[list[int], str | None]:
    chunks = [chunk async for chunk in backend.generate(prompt, sampling)]
    return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason


class TestVLLM(BackendContract):
    """The contract, with the engine in the event loop of its requests, and without a tokenizer."""

    max_context = CONTEXT
    vocabulary_size = VOCABULARY
    checkpoint: Path

    @pytest.fixture(autouse=True)
    def _checkpoint(self, checkpoint: Path) -> None:
        type(self).checkpoint = checkpoint

    async def make_backend(self) -> VLLMBackend:
        return start(self.checkpoint, script=script, constraints=True)

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        assert isinstance(backend, VLLMBackend)
        return backend.unfinished_requests

    def test_a_slow_consumer_gets_several_tokens_at_once(self, harness: Harness) -> None:
        async def go(backend: hk.engine.Backend) -> None:
            chunks = []
            async with aclosing(completion_of(backend, HELLO, hk.SamplingParams())) as generated:
                async for chunk in generated:
                    chunks.append(chunk)
                    await asyncio.sleep(0.3)
            assert max(len(chunk.tokens) for chunk in chunks) > 1
            assert [token for chunk in chunks for token in chunk.tokens] == ANSWER
            assert hk.parse(ANSWER).messages[-1].text == "Grüß Gott! ☃"

        harness.run(go)

    def test_constrained_completions_are_well_formed(self, harness: Harness) -> None:
        """From the first token on, without a tokenizer (traps 6 and 7), and within the limit."""
        pytest.importorskip("llguidance")
        from constrained_requests import answer_all, check_all

        async def go(backend: hk.engine.Backend) -> list[list[int]]:
            answers = await answer_all(backend)
            impossible = hk.SamplingParams(max_tokens=3, constraint=hk.constraint())
            with pytest.raises(hk.errors.GrammarError, match="max_tokens is 3"):
                await complete(backend, HELLO, impossible)
            assert self.unfinished_requests(backend) == 0
            return answers

        check_all(harness.run(go))

    def test_closing_aborts_what_is_being_generated(self, harness: Harness) -> None:
        async def go(backend: hk.engine.Backend) -> None:
            sampling = hk.SamplingParams(temperature=0, stop_tokens=())
            unfinished = asyncio.create_task(complete(backend, [*HELLO, 5], sampling))
            while self.unfinished_requests(backend) == 0:
                await asyncio.sleep(0.01)
            await backend.aclose()
            _, reason = await asyncio.wait_for(unfinished, 30)
            assert reason == "abort"

        harness.run(go)

    def test_closing_twice_and_using_a_closed_backend(self, harness: Harness) -> None:
        """Here, at the end of the class: the engine is closed already."""

        async def go(backend: hk.engine.Backend) -> None:
            await backend.aclose()
            with pytest.raises(hk.errors.BackendError, match="closed"):
                await complete(backend, HELLO, GREEDY)

        try:
            harness.run(go)
        finally:
            harness.discard()


@pytest.fixture(scope="module")
def backend(checkpoint_with_tokenizer: Path) -> Iterator[VLLMBackend]:
    """One that was made outside of any event loop, and says what scripts say.

    It has a tokenizer, with which vLLM does not say that `<|return|>` was what stopped. And it
    keeps all blocks of sliding windows, of which vLLM 0.32 by itself keeps those at the end of a
    prompt alone: completions are then in no cache.
    """
    backend = start(
        checkpoint_with_tokenizer,
        script=script,
        skip_tokenizer_init=False,
        block_size=32,
        prefix_cache_retention_interval=None,
    )
    yield backend
    assert backend.unfinished_requests == 0
    asyncio.run(backend.aclose())
    asyncio.run(backend.aclose())


GREEDY = hk.SamplingParams(temperature=0, max_tokens=24, stop_tokens=())


class TestTheWholeLoop:
    """Render, generate, parse, call a tool, render, generate, parse, answer: again and again."""

    conversation = (
        hk.system(current_date="2025-08-06", tools=[hk.BROWSER, hk.PYTHON]),
        hk.user("What's the weather in Paris right now?"),
    )

    @staticmethod
    def tool(cities: list[str]) -> Callable[[str], str]:
        def get_current_weather(location: str) -> str:
            """Returns the current weather status at a given location as a string.

            Args:
                location: The location to get the weather for.
            """
            cities.append(location)
            return "Terrestrial."

        return get_current_weather

    @pytest.mark.parametrize("time", ["first", "second"])
    def test_run(self, backend: VLLMBackend, time: str) -> None:
        cities: list[str] = []
        reply = hk.run(self.conversation, backend, tools=[self.tool(cities)])
        assert reply.outcome == "final"
        assert cities == ["Paris"]
        said = [hk.decode(exchange.completion) for exchange in PARIS]
        assert reply.text is not None
        assert reply.text in said[-1]
        assert reply.usage.completion_tokens == sum(len(e.completion) for e in PARIS)

    def test_concurrently_in_one_event_loop(self, backend: VLLMBackend) -> None:
        async def go() -> list[hk.Reply]:
            tools = [self.tool([])]
            runs = (hk.arun(self.conversation, backend, tools=tools) for _ in range(8))
            return await asyncio.gather(*runs)

        replies = asyncio.run(go())
        assert {reply.outcome for reply in replies} == {"final"}
        assert len({reply.text for reply in replies}) == 1

    def test_an_iterator_that_is_left_aborts(self, backend: VLLMBackend) -> None:
        for event in hk.stream(self.conversation, backend, tools=[self.tool([])]):
            if isinstance(event, hk.ContentDelta):
                break
        assert_idle(backend)


def assert_idle(backend: VLLMBackend) -> None:
    deadline = time.monotonic() + 30
    while backend.unfinished_requests:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_model_says_the_script_and_stops_at_its_end(backend: VLLMBackend) -> None:
    assert asyncio.run(complete(backend, HELLO, hk.SamplingParams())) == (ANSWER, "stop")


@pytest.mark.parametrize("stop", [RETURN, CALL, END_OF_TEXT])
def test_every_stop_token_is_delivered_last(backend: VLLMBackend, stop: int) -> None:
    prompt = [*HELLO, stop]
    SCRIPTS[tuple(prompt)] = (*ANSWER[:6], stop, *ANSWER)
    completion = asyncio.run(complete(backend, prompt, hk.SamplingParams(temperature=0.5)))
    assert completion == ([*ANSWER[:6], stop], "stop")


def test_only_the_stop_tokens_that_were_asked_for_stop(backend: VLLMBackend) -> None:
    """Though `<|return|>` is the end of sequence in the model's files."""
    prompt = [*HELLO, 1]
    SCRIPTS[tuple(prompt)] = (11, RETURN, 12, CALL, 13)
    sampling = hk.SamplingParams(stop_tokens=(CALL,))
    assert asyncio.run(complete(backend, prompt, sampling)) == ([11, RETURN, 12, CALL], "stop")


def test_a_limit_of_none_is_the_context(backend: VLLMBackend) -> None:
    prompt = (HELLO * CONTEXT)[: CONTEXT - 10]
    sampling = hk.SamplingParams(temperature=0, stop_tokens=())
    tokens, reason = asyncio.run(complete(backend, prompt, sampling))
    assert (len(tokens), reason) == (10, "length")
    tokens, reason = asyncio.run(
        complete(backend, prompt, hk.SamplingParams(max_tokens=500, temperature=0, stop_tokens=()))
    )
    assert (len(tokens), reason) == (10, "length")


def test_a_prompt_that_leaves_no_room_is_refused(backend: VLLMBackend) -> None:
    prompt = (HELLO * CONTEXT)[:CONTEXT]
    with pytest.raises(hk.errors.BackendError, match="context of 1024"):
        asyncio.run(complete(backend, prompt, GREEDY))


def test_what_vllm_refuses_is_an_error_of_that_request_alone(backend: VLLMBackend) -> None:
    with pytest.raises(hk.errors.BackendError, match="logprobs"):  # more than its max_logprobs
        asyncio.run(complete(backend, HELLO, hk.SamplingParams(logprobs=1000)))
    assert asyncio.run(complete(backend, HELLO, hk.SamplingParams())) == (ANSWER, "stop")


def test_a_stop_text_ends_the_completion(backend: VLLMBackend) -> None:
    async def go() -> tuple[list[int], str | None]:
        return await complete(backend, HELLO, hk.SamplingParams(stop=("never", "Grüß G")))

    tokens, reason = asyncio.run(go())
    assert reason == "stop"
    assert tokens == ANSWER[: len(tokens)]
    assert "Grüß G" in hk.decode(tokens)
    assert "Grüß G" not in hk.decode(tokens[:-1])
    assert_idle(backend)


def test_penalties_and_top_p_reach_the_engine(backend: VLLMBackend) -> None:
    prompt = [*HELLO, 2]

    async def go(**options: Any) -> list[int]:
        sampling = hk.SamplingParams(max_tokens=40, stop_tokens=(), **options)
        return (await complete(backend, prompt, sampling))[0]

    greedy = asyncio.run(go(temperature=0))
    assert len(set(asyncio.run(go(temperature=0, presence_penalty=2.0)))) >= len(set(greedy))
    assert asyncio.run(go(temperature=1.0, top_p=1e-6, seed=1)) == greedy
    assert asyncio.run(go(temperature=1.0, seed=1)) != greedy
    assert asyncio.run(go(temperature=1.0, seed=1)) == asyncio.run(go(temperature=1.0, seed=1))
    assert asyncio.run(go(temperature=1.0, seed=2)) != asyncio.run(go(temperature=1.0, seed=1))


def test_cancelled_a_hundred_times_from_other_event_loops(backend: VLLMBackend) -> None:
    async def go() -> None:
        sampling = hk.SamplingParams(max_tokens=200, temperature=0, stop_tokens=())
        for number in range(100):
            task = asyncio.create_task(complete(backend, [*HELLO, number], sampling))
            await asyncio.sleep(number % 10 * 0.005)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(go())
    assert_idle(backend)
    assert asyncio.run(complete(backend, HELLO, hk.SamplingParams())) == (ANSWER, "stop")


def test_an_earlier_turn_is_a_prefix_of_the_next_prompt() -> None:
    """Token for token, so that the engine's prefix cache holds what it has seen."""
    first, second = (exchange.prompt for exchange in PARIS)
    said = first + PARIS[0].completion[:-1]
    assert second[: len(said)] == said


def test_law_11_the_cache_has_all_of_the_last_prompt_and_its_completion(
    backend: VLLMBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whole blocks, but for the last token, which was chosen and is yet to be read."""
    model = OddModel()
    engine = backend._engine
    generate = engine.generate
    cached: dict[tuple[int, ...], int] = {}

    async def counted(given: dict[str, Any], *arguments: Any) -> AsyncIterator[Any]:
        async with aclosing(generate(given, *arguments)) as outputs:
            async for output in outputs:
                cached[tuple(given["prompt_token_ids"])] = output.num_cached_tokens
                yield output

    monkeypatch.setattr(engine, "generate", counted)
    monkeypatch.setattr(backend, "_script", model.script)
    prompts = model.run(backend)
    block = engine.vllm_config.cache_config.block_size
    assert block == 32
    whole_blocks = [(before - 1) // block * block for _, before in prompts]
    assert [cached[prompt] for prompt, _ in prompts] == whole_blocks


def test_greedy_tokens_are_those_of_transformers(backend: VLLMBackend, checkpoint: Path) -> None:
    pytest.importorskip("transformers")
    from harmony_backends.transformers import TransformersBackend

    prompts = [[*HELLO, 100 + number] for number in range(6)] + [(HELLO * 60)[:300]]

    async def go(generator: hk.engine.Backend) -> list[tuple[list[int], str | None]]:
        return [await complete(generator, prompt, GREEDY) for prompt in prompts]

    ours = asyncio.run(go(backend))
    assert ours == asyncio.run(go(TransformersBackend(str(checkpoint), dtype="float32")))
    assert len({tuple(tokens) for tokens, _ in ours}) == len(prompts)


def test_logprobs_are_those_of_transformers(backend: VLLMBackend, checkpoint: Path) -> None:
    """The model's own, before temperature and penalties change them."""
    pytest.importorskip("transformers")
    from harmony_backends.transformers import TransformersBackend

    prompt = [*HELLO, 300]
    ways: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0, "presence_penalty": 2.0, "frequency_penalty": 1.0},
        {"temperature": 2.0, "top_p": 1e-6},
    ]

    async def go(generator: hk.engine.Backend) -> list[dict[int, float]]:
        found = []
        for options in ways:
            sampling = hk.SamplingParams(max_tokens=8, stop_tokens=(), logprobs=3, **options)
            async for chunk in generator.generate(prompt, sampling):
                found += [dict(logprobs) for logprobs in chunk.logprobs or ()]
        return found

    ours = asyncio.run(go(backend))
    theirs = asyncio.run(go(TransformersBackend(str(checkpoint), device="cpu", dtype="float32")))
    assert len(ours) == len(theirs) == 8 * len(ways)
    for found, expected in zip(ours, theirs, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)


def test_a_dead_engine_is_a_named_error(checkpoint: Path) -> None:
    backend = start(checkpoint)
    (worker,) = engine_processes(backend)

    async def go() -> None:
        sampling = hk.SamplingParams(max_tokens=900, temperature=0, stop_tokens=())
        running = asyncio.create_task(complete(backend, HELLO, sampling))
        await asyncio.sleep(1)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(DeadEngineError, match="dead"):
            await asyncio.wait_for(running, 30)
        with pytest.raises(DeadEngineError, match="new backend"):
            await complete(backend, HELLO, GREEDY)
        await backend.aclose()
        await backend.aclose()

    asyncio.run(go())


def engine_processes(backend: VLLMBackend) -> list[int]:
    processes = backend._engine.engine_core.resources.engine_manager.processes
    return [process.pid for process in processes]


PROGRAM = """
import sys
import harmony_kit as hk

if __name__ == "__main__":
    backend = hk.load_backend(
        "vllm", model=sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=256
    )
    sampling = hk.SamplingParams(max_tokens=5, temperature=0)
    for _ in range(2):
        reply = hk.run([hk.user("Hi")], backend, sampling=sampling)
        print("completion tokens:", reply.usage.completion_tokens)
"""


class Program:
    """A program of Python's that runs meanwhile."""

    def __init__(self, folder: Path, *arguments: str, log_level: str) -> None:
        self._said, self._log = folder / "said", folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=self._said.open("w"),
            stderr=self._log.open("w"),
            env={**os.environ, "VLLM_LOGGING_LEVEL": log_level},
        )

    def ended(self) -> tuple[str, str]:
        """What it wrote to its output and its log, when it has ended well."""
        code = self.process.wait(300)
        said, log = self._said.read_text(), self._log.read_text()
        assert code == 0, log
        return said, log


@pytest.fixture(scope="module")
def programs(checkpoint: Path, tmp_path_factory: Any) -> Iterator[dict[str, Program]]:
    """Programs with an engine each, which start at the same time."""
    folders = [tmp_path_factory.mktemp("program") for _ in range(2)]
    file = folders[0] / "program.py"
    file.write_text(PROGRAM)
    settings = {"dtype": "float32", "enforce_eager": "true", "max_model_len": "256"}
    command = ["-m", "harmony_kit", "run", "Hi", "--json", "--max-tokens", "5"]
    command += ["--backend", "vllm", "--model", str(checkpoint)]
    command += [f"--option={name}={value}" for name, value in settings.items()]
    programs = {
        "never closes": Program(folders[0], str(file), str(checkpoint), log_level="WARNING"),
        "command": Program(folders[1], *command, log_level="INFO"),
    }
    yield programs
    for program in programs.values():
        program.process.kill()


def test_a_program_that_never_closes_ends(programs: dict[str, Program]) -> None:
    """It needs the guard: the engine's process may run the module again."""
    said, log = programs["never closes"].ended()
    assert said.count("completion tokens: 5\n") == 2
    assert "EngineDeadError" not in said + log


def test_what_vllm_logs_is_no_part_of_the_output(programs: dict[str, Program]) -> None:
    """Neither what it logs in this process, nor in those that it starts."""
    said, log = programs["command"].ended()
    # What was cut off is no part of a conversation.
    assert [message["role"] for message in json.loads(said)["messages"]] == ["system", "user"]
    assert "EngineCore" in log


def test_a_model_that_is_none_is_a_backend_error(tmp_path: Path) -> None:
    with pytest.raises(hk.errors.BackendError, match="vllm"):
        hk.load_backend("vllm", model=str(tmp_path))
    with pytest.raises(hk.errors.BackendError, match="no_such_argument"):
        hk.load_backend("vllm", model=str(tmp_path), no_such_argument=1)


def test_without_vllm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(hk.errors.BackendError, match=r"pip install 'harmony-kit\[vllm\]'"):
        hk.load_backend("vllm", model="any")


def test_a_constraint_is_never_left_out_in_silence(backend: VLLMBackend) -> None:
    """A backend that was not made for constraints refuses them."""
    with pytest.raises(hk.errors.BackendError, match="constraint"):
        asyncio.run(complete(backend, HELLO, hk.SamplingParams(constraint=hk.constraint())))


class TestVLLMInAThreadWithATokenizer(BackendContract):
    """The contract, with the engine in an event loop of its own: of the backend of all tests.

    It is the last to use it, and closes it.
    """

    max_context = CONTEXT
    vocabulary_size = VOCABULARY
    backend: VLLMBackend

    @pytest.fixture(autouse=True)
    def _backend(self, backend: VLLMBackend) -> None:
        type(self).backend = backend

    def make_backend(self) -> VLLMBackend:
        return self.backend

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        assert isinstance(backend, VLLMBackend)
        return backend.unfinished_requests
