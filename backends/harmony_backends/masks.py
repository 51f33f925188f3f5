"""Masks of tokens, applied to a model's scores."""

from __future__ import annotations

from typing import Any


def masked(scores: Any, mask: bytes) -> Any:
    """Scores in which only some tokens are left.

    Args:
        scores: A torch tensor, one score for each token of the vocabulary.
        mask: As `harmony_kit.grammar.Matcher.bitmask` gives it.

    Returns:
        A tensor of the same shape, with minus infinity wherever no bit is set.
    """
    import torch

    packed = torch.frombuffer(bytearray(mask), dtype=torch.uint8).to(scores.device)
    kept = scores.clone()
    keep_only(kept[None], packed[None])
    return kept


def keep_only(scores: Any, masks: Any, rows: Any = None) -> None:
    """Put minus infinity in the place of the scores of tokens that may not come.

    Args:
        scores: A torch tensor, one row for each request, one column for each token.
        masks: A mask in each row, as bytes, on the same device.
        rows: Which rows of the scores they are for, as a tensor on that device; all of them in
            their order if there is none.
    """
    import torch

    bits = 1 << torch.arange(8, dtype=torch.uint8, device=scores.device)
    refused = ((masks[:, :, None] & bits) == 0).flatten(1)
    width = min(refused.shape[1], scores.shape[1])
    kept = scores if rows is None else scores[rows]
    kept[:, :width].masked_fill_(refused[:, :width], float("-inf"))
    kept[:, width:] = float("-inf")
    if rows is not None:
        scores[rows] = kept
