"""Masks of tokens, applied to a model's scores."""

from __future__ import annotations

from typing import Any


def masked(scores: Any, mask: bytes) -> Any:
    """Scores in which only some tokens are left.

    Args:
        scores: A torch tensor, one score for each token of the vocabulary.
        mask: As `harmony_kit.grammar.Matcher.mask` gives it.

    Returns:
        A tensor of the same shape, with minus infinity wherever no bit is set.
    """
    import torch

    packed = torch.frombuffer(bytearray(mask), dtype=torch.uint8).to(scores.device)
    bits = torch.arange(8, dtype=torch.uint8, device=scores.device)
    allowed = (packed[:, None] >> bits & 1).bool().flatten()[: scores.shape[-1]]
    kept = torch.full_like(scores, float("-inf"))
    kept[: len(allowed)] = scores[: len(allowed)].masked_fill(~allowed, float("-inf"))
    return kept
