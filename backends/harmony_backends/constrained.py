"""A logits processor for vLLM that enforces constraints.

vLLM's own structured outputs need a tokenizer, skip the reasoning of gpt-oss models, and have no
token limit. This processor follows a completion from its first token, with harmony-kit's own
vocabulary, and ensures that it is complete in time. vLLM loads it by name, if the backend is
created with `constraints=True`.

The masks of a batch are computed together, in several threads, while the model computes the
scores; they are copied to the device once, and applied once.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from harmony_kit.errors import GrammarError
from harmony_kit.grammar import Matcher, constraint
from harmony_kit.grammar._matching import MaskWriter, mask_size

from ._masks import keep_only


class Constrained(LogitsProcessor):
    """Masks the tokens that a request's `constraint`, a Lark grammar, does not admit.

    Args:
        vllm_config: vLLM's configuration.
        device: The device of the scores.
        is_pin_memory: Whether memory can be pinned, so that copies are asynchronous.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._vocabulary_size: int = vllm_config.model_config.get_vocab_size()
        self._device = device
        self._is_pin_memory = is_pin_memory
        self._writer = MaskWriter()
        Matcher(constraint().lark, vocabulary_size=self._vocabulary_size)  # loads the vocabulary
        self._completions: dict[int, _Completion] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a constraint that cannot be enforced: later the error would end the engine.

        Raises:
            GrammarError: The constraint is not a grammar, or no completion fits the token limit.
        """
        grammar = _grammar(sampling_params)
        if grammar is not None:
            Matcher(grammar, sampling_params.max_tokens)

    def is_argmax_invariant(self) -> bool:
        """Whether the highest score always stays the highest: no."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Track which request is in which row of the batch."""
        process_dict_updates(self._completions, batch_update, self._new_completion)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask the scores (one row per request) in place, and return them."""
        if not self._completions:
            return logits
        rows = sorted(self._completions)
        matchers = [self._completions[row].follow() for row in rows]
        masks = self._memory(len(rows), mask_size(self._vocabulary_size), dtype=torch.uint8)
        self._writer.write(matchers, masks.numpy().data)
        if len(rows) == len(logits):
            keep_only(logits, self._on_device(masks))
        else:
            places = self._memory(len(rows), dtype=torch.int64)
            places.copy_(torch.tensor(rows))
            keep_only(logits, self._on_device(masks), self._on_device(places))
        return logits

    def _memory(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """New each time, from the allocator's cache: the last copy may still be in progress."""
        return torch.empty(shape, dtype=dtype, pin_memory=self._is_pin_memory)

    def _on_device(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self._device, non_blocking=True)

    def _new_completion(
        self, params: Any, _prompt: list[int] | None, output: list[int]
    ) -> _Completion | None:
        grammar = _grammar(params)
        if grammar is None:
            return None
        matcher = Matcher(grammar, params.max_tokens, vocabulary_size=self._vocabulary_size)
        return _Completion(matcher, output)


def _grammar(params: Any) -> str | None:
    grammar = (params.extra_args or {}).get("constraint")
    if grammar is not None and not isinstance(grammar, str):
        raise GrammarError("the constraint is not a grammar", path="constraint")
    return grammar


class _Completion:
    """A completion in progress.

    Args:
        matcher: A matcher at the start.
        output: The generated tokens, a list that vLLM extends.
    """

    def __init__(self, matcher: Matcher, output: list[int]) -> None:
        self._matcher = matcher
        self._output = output

    def follow(self) -> Matcher:
        """The matcher, advanced to the end of the output."""
        for token in self._output[self._matcher.position :]:
            self._matcher.accept_token(token)
        return self._matcher
