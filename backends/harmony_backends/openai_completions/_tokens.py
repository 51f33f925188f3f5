"""From what a server of completions says to token ids, also where it does not say them all."""

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

from .completions_dialects import Piece
from .cutting import Cutter

_SPECIAL: Final = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


class LeftOutIdsError(BackendError):
    """A server left ids out of its stream, and its text does not say which.

    Attributes:
        missing: How many.
    """

    def __init__(self, missing: int) -> None:
        self.missing = missing
        super().__init__(
            f"the server left out {missing} ids within a character, and its text does not say "
            "which; with stream=False it gives all of them"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (LeftOutIdsError, (self.missing,))


class TokenReader:
    """Reads the pieces of one completion.

    Args:
        sampling: What was asked for.
        on_text: Called when a piece has text and no ids, and its text is to be encoded; it
            raises where that is not wanted.
    """

    def __init__(self, sampling: SamplingParams, on_text: Callable[[], None]) -> None:
        self._cutter = Cutter(sampling)
        # Text may have more tokens than the model used for it; the server kept the limit.
        self._text_cutter = Cutter(SamplingParams(stop_tokens=sampling.stop_tokens))
        self._on_text = on_text
        self._logprobs = sampling.logprobs
        self._received = 0
        self._text = ""
        self._is_text = False

    def read(self, piece: Piece) -> TokenChunk:
        """The tokens of a piece.

        Args:
            piece: What the server said.

        Raises:
            LeftOutIdsError: The server left ids out of its stream.
            BackendError: It gives none at all, or not the log-probabilities that were asked for.
        """
        has_no_ids = piece.tokens is None and (piece.text != "" or piece.finish_reason is not None)
        if has_no_ids or self._is_text:
            return self._read_text(piece)
        tokens = list(piece.tokens or ())
        if piece.is_from_start:
            tokens = tokens[self._received :]
        self._received += len(tokens)
        if piece.generated is not None and piece.generated > self._received:
            missing = piece.generated - self._received
            if self._logprobs is not None:
                raise LeftOutIdsError(missing)
            tokens = _all_of_text(piece, missing)
            self._received = piece.generated
        delta = _ending(self._cutter.cut(tokens), piece.finish_reason)
        if self._logprobs is None:
            return delta
        return delta._replace(logprobs=self._logprobs_of(piece, tokens)[: len(delta.tokens)])

    def _logprobs_of(self, piece: Piece, tokens: Sequence[int]) -> list[Mapping[int, float]]:
        """The log-probabilities of new tokens, each with as many others as were asked for."""
        given = list(piece.logprobs or ())[-len(tokens) :] if tokens else []
        if len(given) != len(tokens) or not all(map(contains, given, tokens)):
            raise BackendError("the server did not send the log-probability of every token")
        return [
            _first(found, token, self._logprobs or 0)
            for token, found in zip(tokens, given, strict=True)
        ]

    def _read_text(self, piece: Piece) -> TokenChunk:
        """Encode the text up to the last special token.

        What is text on both sides of a boundary may be one token, but none goes beyond a
        special one.
        """
        if not self._is_text:
            self._on_text()
            if self._logprobs is not None:
                raise BackendError("there are no log-probabilities without token ids")
            self._is_text = True
        self._text += piece.text
        end = 0
        for match in _SPECIAL.finditer(self._text):
            end = match.end()
        if piece.finish_reason is not None:
            end = len(self._text)
        tokens = encode_with_special(self._text[:end])
        self._text = self._text[end:]
        stop = piece.stop_token
        if stop is not None and tokens[-1:] != [stop]:
            tokens.append(stop)  # which servers leave out of the text
        return _ending(self._text_cutter.cut(tokens), piece.finish_reason)


def _ending(delta: TokenChunk, finish_reason: FinishReason | None) -> TokenChunk:
    return TokenChunk(delta.tokens, delta.finish_reason or finish_reason)


def _first(found: Mapping[int, float], token: int, count: int) -> dict[int, float]:
    """A token's own log-probability and those of the likeliest."""
    likeliest = sorted(found, key=lambda other: -found[other])[:count]
    return {other: found[other] for other in (token, *likeliest)}


def _all_of_text(piece: Piece, missing: int) -> list[int]:
    """The tokens of a piece that gives only the last of them.

    llama.cpp sends nothing while a character is incomplete, and then all of the text with only
    the id of the last token. What the others were follows from their bytes, if these can
    be cut into so many tokens, none of which completes a character, in one way.
    """
    given = list(piece.tokens or ())
    data, end = piece.text.encode(), decode_bytes(given)
    # U+FFFD stands for whatever bytes are not UTF-8.
    if data.endswith(end) and "\ufffd" not in piece.text:
        cuts = list(islice(_cuts(data, len(data) - len(end), missing), 2))
        if len(cuts) == 1:
            return cuts[0] + given
    raise LeftOutIdsError(missing)


def _cuts(data: bytes, end: int, count: int, start: int = 0) -> Iterator[list[int]]:
    """The ways to cut a part of UTF-8 into a number of tokens that all end within a character."""
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
    """Whether the byte after a place continues a character of UTF-8."""
    return place < len(data) and data[place] & 0xC0 == 0x80


@cache
def _token_table() -> dict[bytes, int]:
    return {data: token for token, data in enumerate(ordinary_token_table()) if data}


def warn_of_text(name: str) -> None:
    """Say that ids are made of text.

    Args:
        name: The backend's name.
    """
    warnings.warn(
        f"{name}: the server gives no token ids; its text is encoded, so that the model may have "
        "used other tokens, and what looks like a special token is one",
        stacklevel=2,
    )
