"""Stop texts: found here in the generated tokens, and never sent to an engine."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from harmony_kit import ContentDelta, Parser
from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.wire import MessageStarted
from harmony_kit.wire._events import is_shown
from harmony_kit.wire._vocabulary import FIRST_SPECIAL, token_bytes


class StopTexts:
    """Searches a completion for texts, in the answer and in commentary; empty ones are ignored.

    Reasoning, headers and the arguments of calls are not searched. Before the first special token,
    everything is, since a completion without any is an answer.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(filter(None, texts))
        self._longest = max(map(len, self._texts), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parser = Parser()
        self._is_plain = True
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
            new = self._shown(token)
            # Long enough for a text that started earlier, too short for one found before.
            window = self._tail[-self._longest :] + new
            if any(text in window for text in self._texts):
                return count
            self._tail = window
        return None

    def _shown(self, token: int) -> str:
        """The text that a token adds to what is searched."""
        events = self._parser.feed(token)
        if self._is_plain and 0 <= token < FIRST_SPECIAL:
            return self._decoder.decode(token_bytes(token))
        self._is_plain = False
        text = ""
        for event in events:
            if isinstance(event, MessageStarted):
                self._tail = ""
            elif isinstance(event, ContentDelta) and is_shown(event.header):
                text += event.text
        return text


async def until_stop_text(
    completion: AsyncGenerator[TokenChunk, None], texts: Sequence[str]
) -> AsyncGenerator[TokenChunk, None]:
    """The chunks of a completion up to the token that completes a stop text."""
    stop_texts = StopTexts(texts)
    async with aclosing(completion) as chunks:
        async for chunk in chunks:
            end = stop_texts.find(chunk.tokens)
            if end is not None:
                logprobs = chunk.logprobs and chunk.logprobs[:end]
                yield TokenChunk(chunk.tokens[:end], "stop", logprobs)
                return
            yield chunk
