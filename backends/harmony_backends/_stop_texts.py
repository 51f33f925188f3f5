"""Texts that end a completion, for engines that have no tokenizer."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from harmony_kit.wire._vocabulary import SIZE, token_bytes


class StopTexts:
    """Looks for texts in a stream of tokens.

    Args:
        texts: What to look for; empty ones are ignored.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(filter(None, texts))
        self._longest = max(map(len, self._texts), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._tail = ""

    def find(self, tokens: Sequence[int]) -> int | None:
        """Look for the texts in further tokens, and across those before.

        Args:
            tokens: What was generated since the last call.

        Returns:
            How many of the tokens there are up to the one that completes a text; `None` if
            none does.
        """
        if not self._texts:
            return None
        for count, token in enumerate(tokens, 1):
            new = self._decoder.decode(token_bytes(token) if token < SIZE else b"")
            # Of what was there before, no text is found twice.
            window = self._tail[-self._longest :] + new
            if any(text in window for text in self._texts):
                return count
            self._tail = window
        return None
