"""A logits processor for vLLM that keeps a completion within a constraint.

vLLM's own structured outputs need a tokenizer, pass over the reasoning of gpt-oss models, and
know no limit of tokens. This one follows the completion from its first token, over the
vocabulary that harmony-kit brings along, and sees to it that it is whole in time. vLLM loads it
by name, where the backend is made with `constraints=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from harmony_kit.grammar import Matcher

from .masks import masked


class Constrained(AdapterLogitsProcessor):
    """Masks the tokens that a request's `constraint`, a Lark grammar, does not admit."""

    def is_argmax_invariant(self) -> bool:
        """Whether greedy choices stay what they were: no."""
        return False

    def new_req_logits_processor(
        self, params: Any
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """The processor of one request, if it has a constraint."""
        arguments = getattr(params, "extra_args", None) or {}
        grammar = arguments.get("constraint")
        if grammar is None:
            return None
        # The backend has made the same matcher before: an error here would end the engine.
        size = arguments["vocabulary_size"]
        matcher = Matcher(grammar, params.max_tokens, vocabulary_size=size)

        def constrain(output: list[int], logits: torch.Tensor) -> torch.Tensor:
            for token in output[matcher.position :]:
                matcher.take(token)
            return masked(logits, matcher.mask())

        return constrain
