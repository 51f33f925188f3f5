"""The transformers backend on a small model."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from harmony_backends.transformers import TransformersBackend
from odd_model import OddModel

import harmony_kit as hk
from harmony_kit.wire._vocabulary import END_OF_TEXT

pytest.register_assert_rewrite("harmony_backends.testing")
from harmony_backends.testing import BackendContract  # noqa: E402

if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None:
    pytest.skip("transformers or torch is not installed", allow_module_level=True)

CONTEXT = 1024
VOCABULARY = 201088
HELLO = hk.encode_with_special("<|start|>user<|message|>Hello<|end|><|start|>assistant")


class TestTransformers(BackendContract):
    """The contract."""

    max_context = CONTEXT
    vocabulary_size = VOCABULARY
    checkpoint: Path

    @pytest.fixture(autouse=True)
    def _checkpoint(self, checkpoint: Path) -> None:
        type(self).checkpoint = checkpoint

    def make_backend(self) -> TransformersBackend:
        return TransformersBackend(str(self.checkpoint), device="cpu", context=CONTEXT)

    def unfinished_requests(self, backend: hk.engine.Backend) -> int:
        assert isinstance(backend, TransformersBackend)
        return backend.unfinished_requests


@pytest.fixture(scope="module")
def backend(checkpoint: Path) -> Iterator[TransformersBackend]:
    options = {"device": "cpu", "dtype": "float32", "context": 64}
    backend = hk.load_backend("transformers", model=str(checkpoint), **options)
    assert isinstance(backend, TransformersBackend)
    yield backend
    assert backend.unfinished_requests == 0
    asyncio.run(backend.aclose())


def complete(
    backend: hk.engine.Backend, prompt: Sequence[int], **options: Any
) -> tuple[list[int], str | None]:
    async def go() -> tuple[list[int], str | None]:
        chunks = [chunk async for chunk in backend.generate(prompt, hk.SamplingParams(**options))]
        return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason

    return asyncio.run(go())


def test_run_twice(backend: TransformersBackend) -> None:
    sampling = hk.SamplingParams(max_tokens=6, temperature=0)
    for _ in range(2):
        reply = hk.run([hk.user("Hi")], backend, sampling=sampling)
        assert reply.usage.completion_tokens == 6


def test_a_limit_of_none_is_the_context(backend: TransformersBackend) -> None:
    tokens, reason = complete(backend, HELLO, temperature=0, stop_tokens=())
    assert (len(tokens), reason) == (64 - len(HELLO), "length")


def test_a_stop_text_ends_the_completion(backend: TransformersBackend) -> None:
    tokens, _ = complete(backend, HELLO, temperature=0, max_tokens=20, stop_tokens=())
    text = hk.decode(tokens[3:5])
    stopped, reason = complete(
        backend, HELLO, temperature=0, max_tokens=20, stop_tokens=(), stop=("never", text)
    )
    assert reason == "stop"
    assert stopped == tokens[: len(stopped)]
    assert len(stopped) <= 5


def test_penalties_forbid_or_favour_repetition(backend: TransformersBackend) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "stop_tokens": ()}
    for name in ("presence_penalty", "frequency_penalty"):
        tokens, _ = complete(backend, HELLO, **options, **{name: 2.0})
        assert len(set(tokens)) == 30
        tokens, _ = complete(backend, HELLO, **options, **{name: -2.0})
        assert len(set(tokens)) <= 15


def test_sampling(backend: TransformersBackend) -> None:
    options: dict[str, Any] = {"max_tokens": 12, "stop_tokens": ()}
    greedy = complete(backend, HELLO, **options, temperature=0)
    assert complete(backend, HELLO, **options, temperature=1.0, top_p=1e-6) == greedy
    one, other = (complete(backend, HELLO, **options, temperature=1.0, seed=s) for s in (1, 2))
    assert one != other


def test_logprobs_are_the_models_before_anything_changes_them(
    backend: TransformersBackend,
) -> None:
    import torch

    ways: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 2.0, "top_p": 0.5, "seed": 3, "presence_penalty": 1.0},
    ]
    for options in ways:
        sampling = hk.SamplingParams(max_tokens=5, stop_tokens=(), logprobs=4, **options)

        async def go(sampling: hk.SamplingParams = sampling) -> list[hk.engine.TokenChunk]:
            return [chunk async for chunk in backend.generate(HELLO, sampling)]

        chunks = asyncio.run(go())
        said = [token for chunk in chunks for token in chunk.tokens]
        with torch.no_grad():
            logits = backend._model(torch.tensor([[*HELLO, *said]])).logits[0]
        expected = logits[len(HELLO) - 1 : -1].log_softmax(-1)
        for chunk, row in zip(chunks, expected, strict=True):
            (found,) = chunk.logprobs or ()
            assert {*chunk.tokens, *row.topk(4).indices.tolist()} == set(found)
            assert [*found.values()] == pytest.approx(
                [float(row[token]) for token in found], abs=1e-4
            )


# --- Several requests together --------------------------------------------------------------

WAYS: tuple[dict[str, Any], ...] = (
    {"temperature": 0, "max_tokens": 40},
    {"temperature": 0, "max_tokens": 3},
    {"temperature": 1.0, "seed": 1, "max_tokens": 12},
    {"temperature": 1.0, "seed": 2, "max_tokens": 12},
    {"temperature": 0.7, "top_p": 0.9, "seed": 1, "max_tokens": 12},
    {"temperature": 0, "presence_penalty": 2.0, "max_tokens": 12},
    {"temperature": 0, "frequency_penalty": -2.0, "max_tokens": 12},
    {"temperature": 0, "logprobs": 2, "max_tokens": 5},
)


def test_each_request_of_a_batch_has_its_own_way(backend: TransformersBackend) -> None:
    """Lengths, stop tokens, seeds, penalties: what they give together they give alone."""
    prompts = [[*HELLO, *range(100, 100 + number)] for number in range(len(WAYS))]
    greedy, _ = complete(backend, prompts[0], **WAYS[0], stop_tokens=())
    stop = next(token for token in greedy[5:] if token not in greedy[:5])
    requests = [
        (prompt, {"stop_tokens": (), **way}) for prompt, way in zip(prompts, WAYS, strict=True)
    ]
    requests.append((prompts[0], {**WAYS[0], "stop_tokens": (stop,)}))
    alone = [complete(backend, prompt, **way) for prompt, way in requests]
    assert alone[-1] == (greedy[: greedy.index(stop) + 1], "stop")

    async def one(prompt: list[int], way: dict[str, Any]) -> tuple[list[int], str | None]:
        chunks = [chunk async for chunk in backend.generate(prompt, hk.SamplingParams(**way))]
        return [token for chunk in chunks for token in chunk.tokens], chunks[-1].finish_reason

    async def go() -> list[tuple[list[int], str | None]]:
        return await asyncio.gather(*(one(prompt, way) for prompt, way in requests))

    assert asyncio.run(go()) == alone


def test_who_comes_later_joins(checkpoint: Path) -> None:
    """And need not wait for the end of what runs, which goes on as it would have."""
    sampling = hk.SamplingParams(max_tokens=200, temperature=0, stop_tokens=())

    async def go() -> None:
        backend = TransformersBackend(str(checkpoint), device="cpu", dtype="float32")
        alone = [chunk.tokens[0] async for chunk in backend.generate(HELLO, sampling)]
        long = backend.generate(HELLO, sampling)
        together = [(await anext(long)).tokens[0]]
        for number in range(3):  # each comes after the one before has left
            short = hk.SamplingParams(max_tokens=4, temperature=0, stop_tokens=())
            count = [chunk async for chunk in backend.generate([*HELLO, number], short)]
            assert len(count) == 4
        (row,) = backend._active
        assert not row.is_finished
        together += [chunk.tokens[0] async for chunk in long]
        assert together == alone
        await backend.aclose()

    asyncio.run(go())


def test_no_batch_has_more_than_its_size(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        backend = TransformersBackend(str(checkpoint), device="cpu", batch_size=3)
        model = backend._model
        forward, sizes = model.forward, set()

        def counting(*args: Any, **kwargs: Any) -> Any:
            sizes.add(len(kwargs["input_ids"]))
            return forward(*args, **kwargs)

        monkeypatch.setattr(model, "forward", counting)
        sampling = hk.SamplingParams(max_tokens=20, temperature=0, stop_tokens=())

        async def one(number: int) -> int:
            return len([d async for d in backend.generate([*HELLO, number], sampling)])

        assert await asyncio.gather(*map(one, range(8))) == [20] * 8
        assert max(sizes) == 3
        await backend.aclose()

    asyncio.run(go())


def test_an_error_is_that_of_the_request_which_causes_it(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = backend._model
    forward = model.forward

    def picky(*args: Any, **kwargs: Any) -> Any:
        if (kwargs["input_ids"] == 777).any():
            raise RuntimeError("no 777")
        return forward(*args, **kwargs)

    sampling = hk.SamplingParams(max_tokens=6, temperature=0, stop_tokens=())

    async def one(number: int) -> int:
        return len([d async for d in backend.generate([*HELLO, number], sampling)])

    async def go() -> list[int | BaseException]:
        numbers = (1, 777, 2, 3, 777)
        return await asyncio.gather(*map(one, numbers), return_exceptions=True)

    with monkeypatch.context() as patched:
        patched.setattr(model, "forward", picky)
        first, failed, *others, failed_too = asyncio.run(go())
    assert [first, *others] == [6, 6, 6]
    for error in (failed, failed_too):
        assert isinstance(error, hk.errors.BackendError)
        assert "no 777" in str(error)


# --- Prompts that go on from the last -------------------------------------------------------


def test_law_11_every_prompt_begins_with_the_last_and_its_completion(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = OddModel()
    backend = TransformersBackend(str(checkpoint), device="cpu", context=CONTEXT)
    forward = backend._model.forward

    def scripted(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        (row,) = backend._active
        output.logits[..., model.script(row.tokens)[0]] = 1e9
        return output

    monkeypatch.setattr(backend._model, "forward", scripted)
    model.run(backend)
    asyncio.run(backend.aclose())


# --- Endings and errors ---------------------------------------------------------------------


def test_endoftext_stops(backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for: nothing comes after it."""
    model = backend._model
    forward = model.forward

    def forced(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits[..., END_OF_TEXT] = 1e9
        return output

    monkeypatch.setattr(model, "forward", forced)
    assert complete(backend, HELLO, temperature=0, stop_tokens=()) == ([END_OF_TEXT], "stop")


def test_an_error_of_the_model_is_one_of_that_request(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(backend._model, "forward", broken)
        with pytest.raises(hk.errors.BackendError, match="out of memory"):
            complete(backend, HELLO, max_tokens=3)
    assert complete(backend, HELLO, max_tokens=3, temperature=0)[1] == "length"


def test_closing_aborts_what_runs_and_what_waits(checkpoint: Path) -> None:
    async def go() -> None:
        backend = TransformersBackend(str(checkpoint), device="cpu")

        async def consume() -> str | None:
            sampling = hk.SamplingParams(temperature=0, stop_tokens=())
            return [chunk async for chunk in backend.generate(HELLO, sampling)][-1].finish_reason

        requests = [asyncio.create_task(consume()) for _ in range(3)]
        await asyncio.sleep(0.5)
        await backend.aclose()
        assert await asyncio.gather(*requests) == ["abort"] * 3
        assert backend.unfinished_requests == 0

    asyncio.run(go())


def test_a_model_that_is_none_is_a_backend_error(tmp_path: Path) -> None:
    with pytest.raises(hk.errors.BackendError, match="cannot load"):
        hk.load_backend("transformers", model=str(tmp_path))


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(hk.errors.BackendError, match=r"pip install 'harmony-kit\[transformers\]'"):
        hk.load_backend("transformers", model="any")


def test_constrained_completions_are_well_formed(checkpoint: Path) -> None:
    """From the first token on, though the model's weights are random, and within the limit."""
    pytest.importorskip("llguidance")
    from constrained_requests import answer_all, check_all

    async def go() -> list[list[int]]:
        backend = TransformersBackend(str(checkpoint), device="cpu", dtype="float32")
        try:
            return await answer_all(backend)
        finally:
            await backend.aclose()

    check_all(asyncio.run(go()))
