"""The transformers backend: `generate` of Hugging Face transformers, in a thread.

For small models, machines without a server's engine, and comparisons. Requests that come
together are generated together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from harmony_kit.engine._protocol import Feature, TokenChunk, check_prompt, check_support
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams

from .closing import Closing
from .stop_texts import StopTexts
from .transformers_batches import Batches
from .transformers_rows import Row


class TransformersBackend(Closing):
    """Generates with transformers, several requests at once.

    No tokenizer is needed. Log-probabilities are those of the model, before temperature, top-p and
    penalties.

    Args:
        model: A folder or a name, as transformers takes it.
        device: Where the model runs, such as `"cuda"`; by default there if it can.
        dtype: The numbers that it computes with, such as `"float32"`; by default those of the
            checkpoint.
        context: How many tokens a prompt and its completion may have together; by default
            what the model was made for.
        batch_size: How many requests are generated together, at most.
        **model_arguments: What `from_pretrained` takes beside it.

    Raises:
        BackendError: transformers or torch are not installed, or the model cannot be loaded.
    """

    name = "transformers"
    supports: frozenset[Feature] = frozenset({"logprobs", "constraint"})

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        context: int | None = None,
        batch_size: int = 32,
        **model_arguments: Any,
    ) -> None:
        self._model = _load(str(model), device, dtype, model_arguments)
        config = self._model.config.get_text_config()
        self._vocabulary_size: int = config.vocab_size
        self._context: int = context or config.max_position_embeddings
        self._closed = False
        self._active: set[Row] = set()
        self._batches = Batches(self._model, batch_size)

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
        """How many requests are being worked on, or wait for a place in a batch."""
        return len(self._active)

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
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
        row = Row(
            prompt,
            sampling,
            limit,
            self._vocabulary_size,
            self._model.generation_config,
            self._model.device,
        )
        self._active.add(row)
        self._batches.add(row)
        stop_texts = StopTexts(sampling.stop)
        try:
            async with aclosing(row.inbox.values()) as deltas:
                async for delta in deltas:
                    if stop_texts.find(delta.tokens) is not None:
                        yield delta._replace(finish_reason="stop")
                        return
                    yield delta
        finally:
            self._batches.abort(row)
            await asyncio.wrap_future(row.left)  # at the next token at the latest
            self._active.discard(row)

    async def aclose(self) -> None:
        """Abort what is being generated and free the model."""
        self._closed = True
        for row in list(self._active):
            self._batches.abort(row)
        await asyncio.to_thread(self._batches.close)
        self._model = None

    def _limit(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
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
        return min(room, sampling.max_tokens)


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
