"""From a server's stream to token ids, even if the stream does not have all of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from operator import contains
from typing import Final

from harmony_kit.engine._protocol import FinishReason, TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import (
    SPECIAL_TOKENS,
    decode_bytes,
    encode_with_special,
    ordinary_token_table,
)

from .._cutting import Cutter
from ._dialects import ServerChunk

_SPECIAL: Final = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


class LeftOutIdsError(BackendError):
    """A server left ids out of its stream, and its text does not determine them.

    Attributes:
        missing: The number of missing ids.
    """

    def __init__(self, missing: int) -> None:
        self.missing = missing
        super().__init__(
            f"the server left out {missing} ids within a character, and its text does not "
            "determine them; with stream=False it returns all ids"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (LeftOutIdsError, (self.missing,))


class TokenReader:
    """Reads the chunks of one completion.

    Args:
        sampling: The request's sampling.
        on_text: Called before text without ids is encoded; raises if that is not allowed.
    """

    def __init__(self, sampling: SamplingParams, on_text: Callable[[], None]) -> None:
        self._cutter = Cutter(sampling)
        # No limit: the text may have more tokens than the model generated within the limit.
        self._text_cutter = Cutter(SamplingParams(stop_tokens=sampling.stop_tokens))
        self._on_text = on_text
        self._logprobs = sampling.logprobs
        self._received = 0
        self._text = ""
        self._is_text = False

    def read(self, part: ServerChunk) -> TokenChunk:
        """The tokens of a server's chunk.

        Raises:
            LeftOutIdsError: The server left ids out of its stream.
            BackendError: There are no ids at all, or log-probabilities are missing.
        """
        has_no_ids = part.tokens is None and (part.text != "" or part.finish_reason is not None)
        if has_no_ids or self._is_text:
            return self._read_text(part)
        tokens = list(part.tokens or ())
        if part.is_from_start:
            tokens = tokens[self._received :]
        self._received += len(tokens)
        if part.generated is not None and part.generated > self._received:
            missing = part.generated - self._received
            if self._logprobs is not None:
                raise LeftOutIdsError(missing)
            tokens = _all_of_text(part, missing)
            self._received = part.generated
        chunk = _ending(self._cutter.cut(tokens), part.finish_reason)
        if self._logprobs is None:
            return chunk
        return chunk._replace(logprobs=self._logprobs_of(part, tokens)[: len(chunk.tokens)])

    def _logprobs_of(self, part: ServerChunk, tokens: Sequence[int]) -> list[Mapping[int, float]]:
        """The log-probabilities of new tokens, each with the requested number of others."""
        given = list(part.logprobs or ())[-len(tokens) :] if tokens else []
        if len(given) != len(tokens) or not all(map(contains, given, tokens)):
            raise BackendError("the server did not send the log-probability of every token")
        return [
            _first(found, token, self._logprobs or 0)
            for token, found in zip(tokens, given, strict=True)
        ]

    def _read_text(self, part: ServerChunk) -> TokenChunk:
        """Encode the text up to the last special token.

        A token may span two chunks of text, but none extends across a special token.
        """
        if not self._is_text:
            self._on_text()
            if self._logprobs is not None:
                raise BackendError("there are no log-probabilities without token ids")
            self._is_text = True
        self._text += part.text
        end = 0
        for match in _SPECIAL.finditer(self._text):
            end = match.end()
        if part.finish_reason is not None:
            end = len(self._text)
        tokens = encode_with_special(self._text[:end])
        self._text = self._text[end:]
        stop = part.stop_token
        if stop is not None and tokens[-1:] != [stop]:
            tokens.append(stop)  # servers leave it out of the text
        return _ending(self._text_cutter.cut(tokens), part.finish_reason)


def _ending(chunk: TokenChunk, finish_reason: FinishReason | None) -> TokenChunk:
    return TokenChunk(chunk.tokens, chunk.finish_reason or finish_reason)


def _first(found: Mapping[int, float], token: int, count: int) -> dict[int, float]:
    """The log-probabilities of a token and of the likeliest ones."""
    likeliest = sorted(found, key=lambda other: -found[other])[:count]
    return {other: found[other] for other in (token, *likeliest)}


def _all_of_text(part: ServerChunk, missing: int) -> list[int]:
    """The tokens of a chunk that has only the id of the last one.

    llama.cpp sends nothing while a character is incomplete, and then the text of all tokens with
    the id of the last. The others follow from their bytes if there is exactly one way to split
    these into `missing` tokens that all end within a character.
    """
    given = list(part.tokens or ())
    data, end = part.text.encode(), decode_bytes(given)
    # U+FFFD replaces bytes that are not UTF-8.
    if data.endswith(end) and "\ufffd" not in part.text:
        cuts = list(islice(_cuts(data, len(data) - len(end), missing), 2))
        if len(cuts) == 1:
            return cuts[0] + given
    raise LeftOutIdsError(missing)


def _cuts(data: bytes, end: int, count: int, start: int = 0) -> Iterator[list[int]]:
    """The ways to split UTF-8 into `count` tokens that all end within a character."""
    if count == 0:
        if start == end:
            yield []
        return
    for cut in range(start + 1, end - count + 2):
        token = _token_table().get(data[start:cut])
        if token is not None and _is_within_a_character(data, cut):
            for rest in _cuts(data, end, count - 1, cut):
                yield [token, *rest]


def _is_within_a_character(data: bytes, place: int) -> bool:
    """Whether the byte at a place continues a UTF-8 character."""
    return place < len(data) and data[place] & 0xC0 == 0x80


@cache
def _token_table() -> dict[bytes, int]:
    return {data: token for token, data in enumerate(ordinary_token_table()) if data}


def warn_of_text(name: str) -> None:
    """Warn that a server's text is encoded to get ids."""
    warnings.warn(
        f"{name}: the server returns no token ids; its text is encoded, so that the model may have "
        "generated other tokens, and text that looks like a special token becomes one",
        stacklevel=2,
    )
