"""The transformers backend: `generate` of Hugging Face transformers, in a thread.

For small models, machines without a server's engine, and comparisons: requests are worked on
one after the other.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from harmony_kit.errors import BackendError
from harmony_kit.generation import Delta, Feature, check_prompt, check_support
from harmony_kit.sampling import Sampling
from harmony_kit.vocabulary import END_OF_TEXT

from .event_loops import Inbox
from .stop_texts import StopTexts


class TransformersBackend:
    """Generates with transformers, one request at a time.

    No tokenizer is needed.

    Args:
        model: A folder or a name, as transformers takes it.
        device: Where the model runs, such as `"cuda"`; by default there if it can.
        dtype: The numbers that it computes with, such as `"float32"`; by default those of the
            checkpoint.
        context: How many tokens a prompt and its completion may have together; by default
            what the model was made for.
        **model_arguments: What `from_pretrained` takes beside it.

    Raises:
        BackendError: transformers or torch are not installed, or the model cannot be loaded.
    """

    name = "transformers"
    supports: frozenset[Feature] = frozenset()

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        context: int | None = None,
        **model_arguments: Any,
    ) -> None:
        self._model = _load(str(model), device, dtype, model_arguments)
        config = self._model.config.get_text_config()
        self._vocabulary_size: int = config.vocab_size
        self._context: int = context or config.max_position_embeddings
        self._closed = False
        self._active: set[threading.Event] = set()
        # One thread: torch's random numbers, which a seed sets, are the whole process's.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="harmony-kit transformers")

    @property
    def vocabulary_size(self) -> int:
        """The lowest id that the model does not know."""
        return self._vocabulary_size

    @property
    def context(self) -> int:
        """How many tokens a prompt and its completion may have together."""
        return self._context

    @property
    def unfinished_requests(self) -> int:
        """How many requests are being worked on, or wait for their turn."""
        return len(self._active)

    async def generate(
        self, prompt: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """Generate a completion; see `harmony_kit.Backend`.

        Stop texts are looked for in the tokens' text; the token that completes one is the
        last of the completion.

        Args:
            prompt: Token ids.
            sampling: How to choose tokens, and when to stop. `<|endoftext|>` stops as well.

        Yields:
            The tokens, one at a time.

        Raises:
            BackendError: The prompt is none for this model, or generating failed.
        """
        limit = self._limit(prompt, sampling)
        inbox: Inbox[Delta] = Inbox()
        request = _Request(list(prompt), sampling, limit, inbox)
        self._active.add(request.aborted)
        done = self._worker.submit(self._work, request)
        stop_texts = StopTexts(sampling.stop)
        try:
            async with aclosing(inbox.values()) as deltas:
                async for delta in deltas:
                    if stop_texts.find(delta.tokens) is not None:
                        yield Delta(delta.tokens, "stop")
                        return
                    yield delta
        finally:
            request.aborted.set()
            if not done.cancel():
                await asyncio.wrap_future(done)  # it looks at the flag at every token
            self._active.discard(request.aborted)

    async def aclose(self) -> None:
        """Abort what is being generated and free the model."""
        self._closed = True
        for aborted in self._active:
            aborted.set()
        await asyncio.to_thread(self._worker.shutdown)
        self._model = None

    def _limit(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """How many tokens may be generated, for a prompt that may be generated for."""
        if self._closed:
            raise BackendError("the transformers backend is closed")
        check_support(self, sampling)
        check_prompt(prompt, vocabulary_size=self._vocabulary_size)
        room = self._context - len(prompt)
        if room < 1:
            raise BackendError(
                f"the prompt has {len(prompt)} tokens; the context of {self._context} leaves "
                "no room for a completion"
            )
        if sampling.max_tokens is None:
            return room
        if sampling.max_tokens < 1:
            raise BackendError(f"max_tokens is {sampling.max_tokens}; it must be at least 1")
        return min(room, sampling.max_tokens)

    # --- In the worker's thread -------------------------------------------------------------

    def _work(self, request: _Request) -> None:
        try:
            if not request.aborted.is_set():
                self._generate(request)
            if request.aborted.is_set():
                request.inbox.put(Delta((), "abort"))
        except Exception as error:
            request.inbox.close(BackendError(f"transformers: {type(error).__name__}: {error}"))
        else:
            request.inbox.close()

    def _generate(self, request: _Request) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        prompt = torch.tensor([request.prompt], device=self._model.device)
        seed = request.sampling.seed
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=_configure(self._model.generation_config, request),
                logits_processor=LogitsProcessorList(_penalties(request)),
                stopping_criteria=StoppingCriteriaList([request.is_aborted]),
                streamer=_Streamer(request),
            )


class _Request:
    """A prompt, what was asked for it, and where its completion goes."""

    def __init__(
        self, prompt: list[int], sampling: Sampling, limit: int, inbox: Inbox[Delta]
    ) -> None:
        self.prompt = prompt
        self.sampling = sampling
        self.limit = limit
        self.inbox = inbox
        self.aborted = threading.Event()
        self.stop_tokens = (*sampling.stop_tokens, END_OF_TEXT)

    def is_aborted(self, tokens: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002
        """A stopping criterion of transformers."""
        import torch

        shape, device = tokens.shape[:1], tokens.device
        return torch.full(shape, self.aborted.is_set(), dtype=torch.bool, device=device)


class _Streamer:
    """A streamer of transformers, for ids instead of text."""

    def __init__(self, request: _Request) -> None:
        self._request = request
        self._generated = -1  # the prompt comes first

    def put(self, tokens: Any) -> None:
        self._generated += 1
        if self._generated == 0:
            return
        (token,) = tokens.tolist()
        if token in self._request.stop_tokens:
            self._request.inbox.put(Delta((token,), "stop"))
        elif self._generated == self._request.limit:
            self._request.inbox.put(Delta((token,), "length"))
        else:
            self._request.inbox.put(Delta((token,)))

    def end(self) -> None:
        """Nothing is held back."""


class _Penalties:
    """A logits processor of transformers: the two penalties of OpenAI's API."""

    def __init__(self, start: int, frequency: float, presence: float) -> None:
        self._start = start
        self._frequency = frequency
        self._presence = presence

    def __call__(self, tokens: Any, scores: Any) -> Any:
        import torch

        counts = torch.bincount(tokens[0, self._start :], minlength=scores.shape[-1])
        return scores - self._frequency * counts - self._presence * (counts > 0)


def _penalties(request: _Request) -> list[_Penalties]:
    frequency = request.sampling.frequency_penalty or 0.0
    presence = request.sampling.presence_penalty or 0.0
    if not frequency and not presence:
        return []
    return [_Penalties(len(request.prompt), frequency, presence)]


def _configure(defaults: Any, request: _Request) -> Any:
    """The model's way of generating, changed as the request asks."""
    config = copy.deepcopy(defaults)
    sampling = request.sampling
    config.max_length = None
    config.max_new_tokens = request.limit
    config.eos_token_id = list(request.stop_tokens)
    config.pad_token_id = END_OF_TEXT
    config.top_k = config.top_k or 0  # transformers would take the 50 best
    if sampling.temperature == 0:
        config.do_sample = False
        config.temperature = config.top_p = config.top_k = None
        return config
    if sampling.temperature is not None:
        config.do_sample = True
        config.temperature = float(sampling.temperature)
    if sampling.top_p is not None:
        config.do_sample = True
        config.top_p = float(sampling.top_p)
    return config


def _load(model: str, device: str | None, dtype: str | None, arguments: dict[str, Any]) -> Any:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise BackendError(
            f"backend 'transformers' needs the package {error.name!r}: "
            "pip install 'harmony-kit[transformers]'"
        ) from error
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype or "auto", **arguments)
        if "device_map" not in arguments:
            loaded = loaded.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return loaded.eval()
    except Exception as error:
        raise BackendError(f"transformers cannot load {model}: {error}") from error
