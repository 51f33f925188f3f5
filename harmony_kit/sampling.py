"""How tokens are chosen, and when to stop: what requests ask for and backends obey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .vocabulary import CALL, RETURN

if TYPE_CHECKING:
    from .grammar import Constraint


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, and when to stop.

    What is `None` is left to the engine.

    Args:
        max_tokens: The most completion tokens.
        temperature: 0 for greedy decoding.
        top_p: The probability mass to sample from.
        seed: Makes sampling repeatable, where the engine can.
        stop_tokens: Token ids that end the generation.
        stop: Texts that end the generation, where the engine can.
        frequency_penalty: Against tokens by how often they occurred.
        presence_penalty: Against tokens that occurred at all.
        logprobs: How many of the likeliest tokens to tell of at each position, beside the one
            that was chosen; 0 for that one alone.
        constraint: What the completion may be. A backend that cannot keep to it refuses.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop_tokens: tuple[int, ...] = (RETURN, CALL)
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: int | None = None
    constraint: Constraint | None = None
