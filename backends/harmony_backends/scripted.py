"""A logits processor for vLLM that makes a model generate given tokens.

For tests: it makes a model with random weights generate any Harmony text, through the real engine.
`VLLMBackend` loads it if it gets a script:

    VLLMBackend(model, script=lambda prompt: encode_with_special("<|channel|>final..."))

Without this backend, vLLM loads it with `logits_processors=["harmony_backends.scripted:Scripted"]`,
and a request has its script in `SamplingParams(extra_args={"script": [ids]})`, or over HTTP in
`vllm_xargs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor


class Scripted(AdapterLogitsProcessor):
    """Forces the tokens of a request's `script`, and nothing after them."""

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a script that is not a list of token ids, which would end the engine.

        Raises:
            ValueError: The script is not a list of token ids.
        """
        _script(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Whether greedy choices stay the same: no."""
        return False

    def new_req_logits_processor(
        self, params: Any
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """The processor of one request, if it has a script."""
        script = _script(params)
        if not script:
            return None

        def force(output: list[int], logits: torch.Tensor) -> torch.Tensor:
            position = len(output)
            if position >= len(script) or script[position] >= logits.shape[-1]:
                return logits
            forced = torch.full_like(logits, float("-inf"))
            forced[script[position]] = 0.0
            return forced

        return force


def _script(params: Any) -> Sequence[int]:
    script = (getattr(params, "extra_args", None) or {}).get("script", ())
    if not isinstance(script, list | tuple) or any(
        type(token) is not int or token < 0 for token in script
    ):
        raise ValueError("script is not a list of token ids")
    return script
