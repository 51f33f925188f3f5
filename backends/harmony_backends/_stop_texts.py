"""Stop texts, for engines that run without a tokenizer."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from harmony_kit.wire._vocabulary import SIZE, token_bytes


class StopTexts:
    """Searches a stream of tokens for texts; empty texts are ignored."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(filter(None, texts))
        self._longest = max(map(len, self._texts), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._tail = ""

    def find(self, tokens: Sequence[int]) -> int | None:
        """Search the next tokens, including texts that started in earlier ones.

        Returns:
            The number of tokens up to and including the one that completes a text; `None` if
            there is none.
        """
        if not self._texts:
            return None
        for count, token in enumerate(tokens, 1):
            new = self._decoder.decode(token_bytes(token) if token < SIZE else b"")
            # Long enough for a text that started earlier, too short for one found before.
            window = self._tail[-self._longest :] + new
            if any(text in window for text in self._texts):
                return count
            self._tail = window
        return None
