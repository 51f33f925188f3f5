"""Masks of tokens, applied to a model's scores."""

from __future__ import annotations

from typing import Any


def masked(scores: Any, mask: bytes) -> Any:
    """A copy of the scores with minus infinity for the tokens outside a mask.

    Args:
        scores: A torch tensor, one score for each token of the vocabulary.
        mask: From `harmony_kit.grammar.Matcher.bitmask`.
    """
    import torch

    packed = torch.frombuffer(bytearray(mask), dtype=torch.uint8).to(scores.device)
    kept = scores.clone()
    keep_only(kept[None], packed[None])
    return kept


def keep_only(scores: Any, masks: Any, rows: Any = None) -> None:
    """Set the scores of tokens outside the masks to minus infinity, in place.

    Args:
        scores: A torch tensor, one row per request, one column per token.
        masks: A tensor of bytes on the same device, one mask per row.
        rows: The rows of the scores that the masks are for, as a tensor on that device; `None` for
            all rows.
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
