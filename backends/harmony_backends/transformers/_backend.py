"""The transformers backend: `generate` of Hugging Face transformers, in a thread.

For small models, for machines without a serving engine, and for comparisons. Concurrent requests
are generated in batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from harmony_kit.engine._protocol import Feature, TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams

from .._limits import EngineBackend
from .._stop_texts import StopTexts
from ._batches import Batches
from ._rows import Row


class TransformersBackend(EngineBackend):
    """Generates with transformers, several requests at once.

    No tokenizer is needed. Log-probabilities are those of the model, before temperature, top-p and
    penalties.

    Args:
        model: A folder or a name, as for transformers' `from_pretrained`.
        device: The model's device, such as `"cuda"`; by default CUDA if it is available.
        dtype: The number type, such as `"float32"`; by default that of the checkpoint.
        context: The maximum number of tokens of a prompt and its completion together; by default
            that of the model's configuration.
        batch_size: The maximum number of requests in a batch.
        **model_arguments: Further arguments of `from_pretrained`.

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
        self._vocabulary_size = config.vocab_size
        self._context = context or config.max_position_embeddings
        self._active: set[Row] = set()
        self._batches = Batches(self._model, batch_size)

    @property
    def unfinished_requests(self) -> int:
        """The number of requests that are running or waiting for a place in a batch."""
        return len(self._active)

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """Generate a completion; see `harmony_kit.engine.Backend`.

        A completion also ends with the token that completes a stop text, and at `<|endoftext|>`.

        Yields:
            The tokens, one at a time.

        Raises:
            GrammarError: No completion under the constraint fits the token limit.
            BackendError: The prompt is refused, or the generation failed.
        """
        limit = self._room_for(prompt, sampling)
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
            async with aclosing(row.inbox.values()) as chunks:
                async for chunk in chunks:
                    if stop_texts.find(chunk.tokens) is not None:
                        yield chunk._replace(finish_reason="stop")
                        return
                    yield chunk
        finally:
            self._batches.abort(row)
            await asyncio.wrap_future(row.left)  # at the next token at the latest
            self._active.discard(row)

    async def aclose(self) -> None:
        """Abort all requests and free the model."""
        self._closed = True
        for row in list(self._active):
            self._batches.abort(row)
        await asyncio.to_thread(self._batches.close)
        self._model = None


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
