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

import harmony_kit as hk
from harmony_kit.vocabulary import END_OF_TEXT

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

    def unfinished_requests(self, backend: hk.Backend) -> int:
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
    backend: hk.Backend, prompt: Sequence[int], **options: Any
) -> tuple[list[int], str | None]:
    async def go() -> tuple[list[int], str | None]:
        deltas = [delta async for delta in backend.generate(prompt, hk.Sampling(**options))]
        return [token for delta in deltas for token in delta.tokens], deltas[-1].finish_reason

    return asyncio.run(go())


def test_run_twice(backend: TransformersBackend) -> None:
    sampling = hk.Sampling(max_tokens=6, temperature=0)
    for _ in range(2):
        reply = hk.run([hk.user("Hi")], backend, sampling=sampling)
        assert reply.usage.completion_tokens == 6


def test_a_limit_of_none_is_the_context(backend: TransformersBackend) -> None:
    tokens, reason = complete(backend, HELLO, temperature=0, stop_tokens=())
    assert (len(tokens), reason) == (64 - len(HELLO), "length")


def test_a_limit_of_nothing_is_refused(backend: TransformersBackend) -> None:
    with pytest.raises(hk.BackendError, match="max_tokens is 0"):
        complete(backend, HELLO, max_tokens=0)


def test_a_stop_text_ends_the_completion(backend: TransformersBackend) -> None:
    tokens, _ = complete(backend, HELLO, temperature=0, max_tokens=20, stop_tokens=())
    text = hk.decode(tokens[3:5])
    stopped, reason = complete(
        backend, HELLO, temperature=0, max_tokens=20, stop_tokens=(), stop=("", text)
    )
    assert reason == "stop"
    assert stopped == tokens[: len(stopped)]
    assert len(stopped) <= 5


def test_penalties_forbid_repetition(backend: TransformersBackend) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "stop_tokens": ()}
    for name in ("presence_penalty", "frequency_penalty"):
        tokens, _ = complete(backend, HELLO, **options, **{name: 1000.0})
        assert len(set(tokens)) == 30
    # The more often, the likelier.
    tokens, _ = complete(backend, HELLO, **options, frequency_penalty=-1000.0)
    assert len(set(tokens)) == 1


def test_sampling(backend: TransformersBackend) -> None:
    options: dict[str, Any] = {"max_tokens": 12, "stop_tokens": ()}
    greedy = complete(backend, HELLO, **options, temperature=0)
    assert complete(backend, HELLO, **options, temperature=1.0, top_p=1e-6) == greedy
    one, other = (complete(backend, HELLO, **options, temperature=1.0, seed=s) for s in (1, 2))
    assert one != other


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
        with pytest.raises(hk.BackendError, match="out of memory"):
            complete(backend, HELLO, max_tokens=3)
    assert complete(backend, HELLO, max_tokens=3, temperature=0)[1] == "length"


def test_closing_aborts_what_runs_and_what_waits(checkpoint: Path) -> None:
    async def go() -> None:
        backend = TransformersBackend(str(checkpoint), device="cpu")

        async def consume() -> str | None:
            sampling = hk.Sampling(temperature=0, stop_tokens=())
            return [delta async for delta in backend.generate(HELLO, sampling)][-1].finish_reason

        requests = [asyncio.create_task(consume()) for _ in range(3)]
        await asyncio.sleep(0.5)
        await backend.aclose()
        assert await asyncio.gather(*requests) == ["abort"] * 3
        assert backend.unfinished_requests == 0

    asyncio.run(go())


def test_a_model_that_is_none_is_a_backend_error(tmp_path: Path) -> None:
    with pytest.raises(hk.BackendError, match="cannot load"):
        hk.load_backend("transformers", model=str(tmp_path))


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(hk.BackendError, match=r"pip install 'harmony-kit\[transformers\]'"):
        hk.load_backend("transformers", model="any")
