"""The contract over the backends that need no engine, and what each has beside it."""

import asyncio
import doctest
import gc
import hashlib
import importlib
import json
import random
import subprocess
import sys
import tracemalloc
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from harmony_backends.function import FunctionBackend
from harmony_backends.recording import (
    Exchange,
    RecordingBackend,
    read_recording,
)
from harmony_backends.replay import ReplayBackend
from harmony_backends.testing import BackendContract

import harmony_kit as hk
from harmony_kit.cli import main
from harmony_kit.engine import _protocol as generation
from harmony_kit.engine._protocol import check_prompt, supported_by
from harmony_kit.wire._vocabulary import CALL, RETURN, SIZE


def babble(prompt, sampling):
    """Endless tokens that follow from the prompt, and from the seed where it is not greedy."""
    seed = hashlib.sha256(repr(prompt).encode()).hexdigest()
    chance = random.Random(f"{seed} {sampling.seed if sampling.temperature else 0}")
    while True:
        yield chance.randrange(100_000)


def collect(backend, prompt, **sampling):
    async def go():
        return [chunk async for chunk in backend.generate(prompt, hk.SamplingParams(**sampling))]

    chunks = asyncio.run(go())
    return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason


# --- The contract ---------------------------------------------------------------------------


class TestFunctionContract(BackendContract):
    max_context = 200
    cancellations = 100

    def make_backend(self):
        return FunctionBackend(babble, max_context=self.max_context)

    def unfinished_requests(self, backend):
        return backend.unfinished


class TestChunksContract(TestFunctionContract):
    """Chunks of several tokens, as from engines that were busy."""

    def make_backend(self):
        return FunctionBackend(babble, chunk_size=5, max_context=self.max_context)


class TestRecorderContract(TestFunctionContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path_factory):
        type(self).path = tmp_path_factory.getbasetemp() / "contract.jsonl"

    def make_backend(self):
        self.function = super().make_backend()
        return RecordingBackend(self.function, self.path)

    def unfinished_requests(self, backend):
        return backend._backend.unfinished


class TestReplayContract(BackendContract):
    cancellations = 100

    async def make_backend(self):
        """Over a recording of all prompts that the contract has."""
        exchanges = []
        function = FunctionBackend(babble)
        sampling = hk.SamplingParams(max_tokens=self.long_completion, temperature=0, stop_tokens=())
        for number in range(self.concurrency):
            prompt = self.prompt(number)
            tokens, reason = await self._complete(function, prompt, sampling)
            exchanges.append(Exchange(tuple(prompt), tuple(tokens), reason))
        return ReplayBackend(exchanges)


# --- Function -------------------------------------------------------------------------------


async def later(prompt, sampling):
    await asyncio.sleep(0)
    return [5, 6, RETURN]


async def one_by_one(prompt, sampling):
    for token in (5, 6, RETURN, 7):
        await asyncio.sleep(0)
        yield token


@pytest.mark.parametrize(
    "function",
    [
        lambda prompt, sampling: [5, 6, RETURN],
        lambda prompt, sampling: iter((5, 6, RETURN, 7)),
        lambda prompt, sampling: hk.decode([5, 6]) + "<|return|>",
        later,
        one_by_one,
    ],
)
@pytest.mark.parametrize("chunk_size", [1, 2, 9])
def test_what_a_function_may_give(function, chunk_size):
    backend = FunctionBackend(function, chunk_size=chunk_size)
    assert collect(backend, [1]) == ([5, 6, RETURN], "stop")
    assert collect(backend, [1], max_tokens=2) == ([5, 6], "length")
    assert collect(backend, [1], max_tokens=3) == ([5, 6, RETURN], "stop")
    assert collect(backend, [1], stop_tokens=(5,)) == ([5], "stop")


def test_a_function_gets_the_prompt_and_the_sampling():
    got = []

    def function(*arguments):
        got.append(arguments)
        return ""

    assert collect(FunctionBackend(function), (1, 2), seed=3) == ([], "stop")
    assert got == [([1, 2], hk.SamplingParams(seed=3))]


@pytest.mark.parametrize("chunk_size", [1, 3, 50])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<|channel|>final<|message|>one END two<|return|>", "one END"),
        (
            "<|channel|>analysis<|message|>END<|end|>"
            "<|start|>assistant<|channel|>final<|message|>x END",
            "x END",
        ),
        ("<|channel|>END<|message|>no stop in a header", None),
        ("plain END text", "plain END"),
    ],
)
def test_stop_texts_end_what_is_shown(text, shown, chunk_size):
    tokens = hk.encode_with_special(text)
    backend = FunctionBackend(lambda prompt, sampling: tokens, chunk_size=chunk_size)

    async def go():
        sampling = hk.SamplingParams(stop=["END"])
        return [chunk async for chunk in backend.generate([1], sampling)]

    chunks = asyncio.run(go())
    generated = [token for chunk in chunks for token in chunk.tokens]
    assert chunks[-1].finish_reason == "stop"
    assert hk.decode(generated).endswith(shown or text)


def test_a_function_answers_a_conversation():
    def function(prompt, sampling):
        asked = "Paris" in hk.decode(prompt)
        return f"<|channel|>final<|message|>{'Clear.' if asked else 'Where?'}<|return|>"

    backend = hk.load_backend("function", function=function)
    assert hk.run([hk.user("The weather?")], backend).text == "Where?"
    assert hk.run([hk.user("The weather in Paris?")], backend).text == "Clear."


def test_a_functions_generator_is_closed_with_the_iterator():
    closed = []

    def function(prompt, sampling):
        try:
            while True:
                yield 5
        finally:
            closed.append("sync")

    async def async_function(prompt, sampling):
        try:
            while True:
                yield 5
        finally:
            closed.append("async")

    async def go():
        for either in (function, async_function):
            chunks = FunctionBackend(either).generate([1], hk.SamplingParams())
            await anext(chunks)
            await chunks.aclose()

    asyncio.run(go())
    assert closed == ["sync", "async"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda prompt, sampling: 1 / 0, "mine: ZeroDivisionError: division by zero"),
        (lambda prompt, sampling: [1, -1], "mine returned -1, which is not a token id"),
        (lambda prompt, sampling: [1, SIZE], "mine returned 201089"),
        (lambda prompt, sampling: [1, "a"], "mine returned 'a'"),
        (lambda prompt, sampling: None, r"mine: TypeError: .*NoneType"),
    ],
)
def test_a_function_that_fails(function, reason):
    backend = FunctionBackend(function, "mine")
    with pytest.raises(hk.errors.BackendError, match=reason):
        collect(backend, [1])
    assert backend.unfinished == 0


def test_options_of_a_function():
    with pytest.raises(hk.errors.BackendError, match="5, which is not callable"):
        hk.load_backend("function", function=5)
    with pytest.raises(hk.errors.BackendError, match="chunk_size is 0"):
        FunctionBackend(babble, chunk_size=0)
    assert collect(FunctionBackend(babble, max_context=7), [1, 2, 3])[1] == "length"
    assert len(collect(FunctionBackend(babble, max_context=7), [1, 2, 3])[0]) == 4


# --- Loading and closing --------------------------------------------------------------------


class Half:
    """What somebody took for a backend."""

    name = "half"
    generate = None

    async def aclose(self):
        pass


def entry_points_of(value):
    return lambda **_: EntryPoints([EntryPoint("mine", value, generation.ENTRY_POINTS)])


def test_a_plugin_that_is_no_backend_is_told_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "plugins", type(sys)("plugins"))
    sys.modules["plugins"].Half = Half
    sys.modules["plugins"].nothing = lambda: None
    monkeypatch.setattr(generation, "entry_points", entry_points_of("plugins:Half"))
    with pytest.raises(hk.errors.BackendError) as caught:
        hk.load_backend("mine")
    assert str(caught.value) == (
        "backend 'mine': Half is not a backend: it lacks supports and generate(); "
        "see harmony_kit.Backend"
    )
    monkeypatch.setattr(generation, "entry_points", entry_points_of("plugins:nothing"))
    with pytest.raises(
        hk.errors.BackendError, match=r"lacks name, supports, generate\(\) and aclose\(\)"
    ):
        hk.load_backend("mine")


def test_a_plugin_that_is_no_backend_is_refused_without_assertions_too(tmp_path):
    folder = tmp_path / "some_engines-1.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-engines\nVersion: 1\n"
    )
    folder.joinpath("entry_points.txt").write_text(
        "[harmony_kit.backends]\nmine = builtins:object\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import harmony_kit as hk\n"
        "try: hk.load_backend('mine')\n"
        "except hk.errors.BackendError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, check=True)
    assert b"lacks name, supports, generate() and aclose()" in ran.stdout


def test_what_a_backend_lacks_is_told_of_the_whole_protocol():
    members = {name for name in vars(hk.engine.Backend) if not name.startswith("_")}
    assert members | set(hk.engine.Backend.__annotations__) == {
        "name",
        "supports",
        "generate",
        "aclose",
    }


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        (
            "function",
            {"function": babble, "chunksize": 2},
            "'chunksize'; did you mean 'chunk_size'",
        ),
        ("replay", {"recordings": []}, "'recordings'; did you mean 'recording'"),
        ("openai_completions", {"base_ur": "http://x"}, "'base_ur'; did you mean 'base_url'"),
    ],
)
def test_a_misspelt_option_of_a_backend(name, options, hint):
    with pytest.raises(
        hk.errors.BackendError, match=f"backend '{name}': .*: unexpected option {hint}"
    ):
        hk.load_backend(name, **options)


def test_a_misspelt_option_of_the_recorder(tmp_path):
    with pytest.raises(TypeError, match="did you mean 'path'"):
        RecordingBackend(FunctionBackend(babble), paths=tmp_path / "a.jsonl")


def backends(folder):
    yield FunctionBackend(babble)
    yield ReplayBackend([Exchange((1,), (5, RETURN), "stop")])
    yield RecordingBackend(FunctionBackend(babble), folder / "recording.jsonl")


def is_closed(backend):
    with pytest.raises(hk.errors.BackendError, match="closed"):
        collect(backend, [1])
    return True


def test_backends_are_closed_by_with(tmp_path):
    for backend in backends(tmp_path):
        with backend as entered:
            assert entered is backend
            assert collect(backend, [1], max_tokens=1)[1] == "length"
        assert is_closed(backend)
        backend.close()


def test_backends_are_closed_by_async_with(tmp_path):
    async def go(backend):
        async with backend as entered:
            assert entered is backend
            await anext(backend.generate([1], hk.SamplingParams(max_tokens=1)))

    for backend in backends(tmp_path):
        asyncio.run(go(backend))
        assert is_closed(backend)


def test_every_backend_that_is_found_by_name_can_be_closed_in_all_ways():
    from harmony_backends.closing import Closing
    from harmony_backends.llama_cpp import LlamaCppBackend
    from harmony_backends.openai_completions import OpenAICompletionsBackend
    from harmony_backends.transformers import TransformersBackend
    from harmony_backends.vllm import VLLMBackend

    for kind in (LlamaCppBackend, OpenAICompletionsBackend, TransformersBackend, VLLMBackend):
        assert issubclass(kind, Closing)


def test_an_event_loop_awaits_the_end(tmp_path):
    """Beside a running loop `hk.run` is refused too."""

    async def go(backend):
        with pytest.raises(hk.errors.BackendError, match="an event loop is running here"):
            backend.close()
        with pytest.raises(hk.errors.BackendError, match="use 'async with'"), backend:
            pass
        await anext(backend.generate([1], hk.SamplingParams(max_tokens=1)))
        await backend.aclose()

    for backend in backends(tmp_path):
        asyncio.run(go(backend))


def test_closing_a_recorder_closes_what_it_wraps(tmp_path):
    function = FunctionBackend(babble)
    with RecordingBackend(function, tmp_path / "recording.jsonl"):
        pass
    assert is_closed(function)


# --- What is supported ----------------------------------------------------------------------


class Asking(FunctionBackend):
    """Knows what it can do when it has asked."""

    supports = frozenset({"logprobs", "constraint"})

    async def connect(self):
        self.supports = frozenset({"logprobs"})


def test_what_is_supported_is_asked_where_that_is_needed(tmp_path):
    assert asyncio.run(supported_by(FunctionBackend(babble))) == frozenset()
    assert asyncio.run(supported_by(Asking(babble))) == {"logprobs"}


def test_a_recorder_supports_what_it_wraps_at_all_times(tmp_path):
    asking = Asking(babble)
    recorder = RecordingBackend(asking, tmp_path / "recording.jsonl")
    assert recorder.supports == {"logprobs", "constraint"}
    assert asyncio.run(supported_by(recorder)) == {"logprobs"} == recorder.supports


# --- Prompts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([], "empty"),
        ([1, -1], "at position 1 -1, .*ids go from 0 to 201088"),
        ([SIZE], "at position 0 201089"),
        ([1, 2, True], "at position 2 True"),
        ([1.0], r"at position 0 1\.0"),
        ("ab", "at position 0 'a'"),
    ],
)
def test_prompts_that_are_none(prompt, reason):
    with pytest.raises(hk.errors.BackendError, match=reason):
        check_prompt(prompt)


def test_prompts_are_checked_against_the_model():
    check_prompt([0, SIZE - 1])
    check_prompt((5,), vocabulary_size=6)
    with pytest.raises(hk.errors.BackendError, match=r"at position 1 6, .*0 to 5"):
        check_prompt([5, 6], vocabulary_size=6)


# --- Replay and recorder --------------------------------------------------------------------


def test_replay_cuts_at_stop_tokens():
    for chunk_size in (1, 2, 9):
        backend = ReplayBackend([Exchange((1,), (5, 6, 7, CALL), "stop")], chunk_size=chunk_size)
        assert collect(backend, [1]) == ([5, 6, 7, CALL], "stop")
        assert collect(backend, [1], stop_tokens=(6,)) == ([5, 6], "stop")
        assert collect(backend, [1], stop_tokens=(6,), max_tokens=1) == ([5], "length")
        assert collect(backend, [1], max_tokens=4) == ([5, 6, 7, CALL], "stop")


def test_a_recorder_does_not_record_what_is_refused(tmp_path):
    path = tmp_path / "recording.jsonl"
    backend = RecordingBackend(FunctionBackend(babble), path)
    with pytest.raises(hk.errors.BackendError):
        collect(backend, [])
    collect(backend, [1], max_tokens=2)
    assert [exchange.prompt for exchange in read_recording(path)] == [(1,)]


# --- Many requests --------------------------------------------------------------------------


def test_many_requests_need_no_more_memory_and_leave_no_task():
    """10,000 one after the other, and 1,000 at once."""
    prompt = (1, 2, 3)
    backend = ReplayBackend([Exchange(prompt, (5, 6, 7, RETURN), "stop")])

    async def complete():
        return [chunk async for chunk in backend.generate(prompt, hk.SamplingParams())]

    async def at_once(count):
        assert all(await asyncio.gather(*(complete() for _ in range(count))))

    async def memory():
        await asyncio.sleep(0)  # the loop lets go of what it ran last
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def go():
        tasks = asyncio.all_tasks()
        for _ in range(500):  # what is made once is made before counting
            await complete()
        await at_once(1000)
        tracemalloc.start()
        try:
            start = await memory()
            for _ in range(10_000):
                await complete()
            after_sequence = await memory()
            await at_once(1000)
            after_all = await memory()
        finally:
            tracemalloc.stop()
        assert after_sequence - start < 50_000
        assert after_all - start < 100_000
        assert asyncio.all_tasks() == tasks

    asyncio.run(go())


# --- The command ----------------------------------------------------------------------------


def test_the_command_lists_backends(capsys):
    assert main(["backends", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(hk.engine.backend_names())
    for name in ("function", "replay"):
        assert listed[name] == {
            "name": name,
            "package": "harmony-kit",
            "installed": True,
            "reason": None,
            "install": None,
        }
    assert main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > len(listed)
    assert next(line for line in lines if line.startswith("replay ")).split()[2] == "yes"


METADATA = """Metadata-Version: 2.1
Name: some-engines
Version: 1
Provides-Extra: far
Provides-Extra: common
Requires-Dist: regex
Requires-Dist: no-such-package-1>=2 ; extra == 'common'
Requires-Dist: some-engines[common] ; extra == 'far'
Requires-Dist: regex ; extra == 'far'
"""
ENTRY_POINTS = """[harmony_kit.backends]
far = no_such_module:Backend
lost = no_such_module:Backend
broken = broken_engine:Backend
"""


def test_the_command_says_why_a_backend_is_not_installed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "some_engines-1.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text(METADATA)
    folder.joinpath("entry_points.txt").write_text(ENTRY_POINTS)
    tmp_path.joinpath("broken_engine.py").write_text("raise OSError('no driver')")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["backends", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {entry["package"] for entry in map(listed.get, ("far", "lost", "broken"))} == {
        "some-engines"
    }
    found = [(listed[name]["reason"], listed[name]["install"]) for name in ("far", "lost")]
    assert found == [
        ("needs no-such-package-1", "pip install 'some-engines[far]'"),
        ("needs no_such_module", None),
    ]
    assert listed["broken"]["reason"] == "cannot be loaded: OSError: no driver"
    assert main(["backends"]) == 0
    assert "no_such_module" in capsys.readouterr().out
    with pytest.raises(hk.errors.BackendError, match=r"pip install 'some-engines\[far\]'"):
        hk.load_backend("far")


# --- Examples -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", ["closing", "function", "openai_completions._backend", "recording", "replay"]
)
def test_examples_run(module):
    failed, attempted = doctest.testmod(importlib.import_module(f"harmony_backends.{module}"))
    assert attempted
    assert failed == 0
