"""Where a completion ends: for backends whose engine does not see to it itself."""

from __future__ import annotations

from collections.abc import Sequence

from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.sampling import SamplingParams


class Cutter:
    """Cuts a stream of tokens after the first stop token, and at the token limit.

    Args:
        sampling: What the stop tokens and the limit are.
    """

    def __init__(self, sampling: SamplingParams) -> None:
        self._stop_tokens = frozenset(sampling.stop_tokens)
        self._left = sampling.max_tokens

    def cut(self, tokens: Sequence[int]) -> TokenChunk:
        """What of further tokens belongs to the completion.

        Args:
            tokens: What was generated since the last call.

        Returns:
            The tokens; with a finish reason if the completion ends with them.
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
