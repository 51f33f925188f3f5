"""Where a completion ends, for backends whose engine does not end it."""

from __future__ import annotations

from collections.abc import Sequence

from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.sampling import SamplingParams


class Cutter:
    """Truncates a stream of tokens after its first stop token, or at the token limit."""

    def __init__(self, sampling: SamplingParams) -> None:
        self._stop_tokens = frozenset(sampling.stop_tokens)
        self._left = sampling.max_tokens

    def cut(self, tokens: Sequence[int]) -> TokenChunk:
        """The part of the next tokens that belongs to the completion.

        It has a finish reason if the completion ends there.
        """
        if self._left is not None:
            tokens = tokens[: self._left]
        for position, token in enumerate(tokens, 1):
            if token in self._stop_tokens:
                return TokenChunk(tokens[:position], "stop")
        if self._left is None:
            return TokenChunk(tokens)
        self._left -= len(tokens)
        return TokenChunk(tokens, None if self._left > 0 else "length")
