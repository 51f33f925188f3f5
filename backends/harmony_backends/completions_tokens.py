"""From what a server of completions says to token ids, also where it does not say them all."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Final

from harmony_kit.errors import BackendError
from harmony_kit.generation import Delta, FinishReason
from harmony_kit.sampling import Sampling
from harmony_kit.vocabulary import (
    SPECIAL_TOKENS,
    decode_bytes,
    encode_with_special,
    ordinary_token_table,
)

from .completions_dialects import Piece
from .cutting import Cutter

_SPECIAL: Final = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


class TokenReader:
    """Reads the pieces of one completion.

    Args:
        sampling: What was asked for.
        on_text: Called when a piece has text and no ids, and its text is to be encoded; it
            raises where that is not wanted.
    """

    def __init__(self, sampling: Sampling, on_text: Callable[[], None]) -> None:
        self._cutter = Cutter(sampling)
        # Text may have more tokens than the model used for it; the server kept the limit.
        self._text_cutter = Cutter(Sampling(stop_tokens=sampling.stop_tokens))
        self._on_text = on_text
        self._received = 0
        self._text = ""
        self._is_text = False

    def read(self, piece: Piece) -> Delta:
        """The tokens of a piece.

        Args:
            piece: What the server said.

        Raises:
            BackendError: The server kept ids to itself.
        """
        has_no_ids = piece.tokens is None and (piece.text != "" or piece.finish_reason is not None)
        if has_no_ids or self._is_text:
            return self._read_text(piece)
        tokens = list(piece.tokens or ())
        self._received += len(tokens)
        if piece.generated is not None and piece.generated > self._received:
            tokens = _all_of_text(piece, piece.generated - self._received)
            self._received = piece.generated
        return _ending(self._cutter.cut(tokens), piece.finish_reason)

    def _read_text(self, piece: Piece) -> Delta:
        """Encode the text up to the last special token.

        What is text on both sides of a boundary may be one token, but none goes beyond a
        special one.
        """
        if not self._is_text:
            self._on_text()
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


def _ending(delta: Delta, finish_reason: FinishReason | None) -> Delta:
    return Delta(delta.tokens, delta.finish_reason or finish_reason)


def _all_of_text(piece: Piece, missing: int) -> list[int]:
    """The tokens of a piece that gives only the last of them.

    llama.cpp sends nothing while a character is incomplete, and then all of the text with only
    the id of the last token. What the others were follows from their bytes, if these can
    be cut into so many tokens in one way; otherwise they are taken to be what is usual.
    """
    given = list(piece.tokens or ())
    data, end = piece.text.encode(), decode_bytes(given)
    if data.endswith(end):
        cuts = list(islice(_cuts(data.removesuffix(end), missing), 2))
        if len(cuts) == 1:
            return cuts[0] + given
    tokens = encode_with_special(piece.text)
    if len(tokens) != missing + len(given) or tokens[missing:] != given:
        raise BackendError(
            f"the server left out {missing} ids within a character, and its text does not say "
            "which; with stream=False it gives all of them"
        )
    return tokens


def _cuts(data: bytes, count: int) -> Iterator[list[int]]:
    """The ways to cut bytes into a number of tokens."""
    if count == 0:
        if not data:
            yield []
        return
    for end in range(1, len(data) - count + 2):
        token = _token_table().get(data[:end])
        if token is not None:
            for rest in _cuts(data[end:], count - 1):
                yield [token, *rest]


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
