"""The vocabulary o200k_harmony: ids, bytes and special tokens.

The package contains the 199,998 byte-pair ranks of o200k_base, so nothing is downloaded. Two
structures are built from them on first use: the table of token bytes for parsing (about 20 ms), and
the encoder for rendering (about 60 ms for the first short texts of a process, another 130 ms when
more text is encoded).

`encode` treats all text as ordinary: `encode("<|start|>")` returns the tokens of these characters,
not the control token. Only `encode_with_special` converts text to control tokens.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Final, Literal

from .._options import checked_options
from ..errors import HarmonyError, InvalidMessageError, UnknownTokenError

START_OF_TEXT: Final = 199998
END_OF_TEXT: Final = 199999
RETURN: Final = 200002
CONSTRAIN: Final = 200003
CHANNEL: Final = 200005
START: Final = 200006
END: Final = 200007
MESSAGE: Final = 200008
CALL: Final = 200012

FIRST_SPECIAL: Final = START_OF_TEXT
"""The lowest special token id; all ids below are ordinary text."""

SIZE: Final = 201089
"""The number of token ids, which are 0 to 201088."""

_NAMED: Final = {
    START_OF_TEXT: "<|startoftext|>",
    END_OF_TEXT: "<|endoftext|>",
    RETURN: "<|return|>",
    CONSTRAIN: "<|constrain|>",
    CHANNEL: "<|channel|>",
    START: "<|start|>",
    END: "<|end|>",
    MESSAGE: "<|message|>",
    CALL: "<|call|>",
}

SPECIAL_TOKENS: Final[dict[str, int]] = {
    _NAMED.get(token, f"<|reserved_{token}|>"): token for token in range(FIRST_SPECIAL, SIZE)
}
"""The ids of the special tokens by spelling, such as `"<|start|>"`."""

SPECIAL_TOKEN_NAMES: Final[dict[int, str]] = {token: name for name, token in SPECIAL_TOKENS.items()}
"""The spellings of the special tokens by id."""

NAMED_SPECIAL_TOKENS: Final = frozenset(_NAMED)
"""The special tokens that have a meaning; the others are reserved."""

TERMINATORS: Final = frozenset({RETURN, END, CALL})
"""The tokens that close a message."""

STOP_TOKENS: Final = frozenset({RETURN, CALL})
"""The tokens that end the generation of an assistant turn."""

# How o200k_base splits text before byte pairs are merged. Like the ranks, it determines the tokens.
_PATTERN: Final = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

# Two bytes that occur neither within a token nor across the end of a token and the separator.
_SEPARATOR: Final = b"\xff\xfe"

Encoder = Callable[[str], list[int]]
"""Encodes ordinary text without lone surrogates to exactly the token ids of o200k_base."""


# --- Bytes of tokens ------------------------------------------------------------------------


def _ranks() -> list[bytes]:
    from pkgutil import get_data  # imports ten times faster than importlib.resources

    packed = get_data(__package__, "data/o200k_base.ranks.zlib")
    assert packed is not None
    return zlib.decompress(packed).split(_SEPARATOR)


def _rank_table() -> dict[bytes, int]:
    ranks = _ranks()
    return dict(zip(ranks, range(len(ranks)), strict=True))


@cache
def ordinary_token_table() -> tuple[bytes, ...]:
    """The bytes of every ordinary token by id; `b""` at all other indices.

    The table is twice as long as the vocabulary. Thus a special token, an id beyond the vocabulary
    and a small negative number, which Python takes as an index from the end, find `b""` or raise
    `IndexError`. Callers must exclude lower ids, which wrap around to a real token.
    """
    ranks = _ranks()
    return tuple(ranks + [b""] * (2 * SIZE - len(ranks)))


def token_bytes(token: int) -> bytes:
    """The bytes of one token; for a special token, its spelling.

    Raises:
        UnknownTokenError: The id is not in the vocabulary.
    """
    return decode_bytes((token,))


def decode_bytes(tokens: Sequence[int]) -> bytes:
    """The bytes of a sequence of tokens, with special tokens spelled out.

    Raises:
        UnknownTokenError: An id is not in the vocabulary.
    """
    table = ordinary_token_table()
    pieces = []
    for position, token in enumerate(tokens):
        try:
            piece = table[token] if token >= 0 else b""
        except (IndexError, TypeError):
            raise UnknownTokenError(token, position) from None
        if not piece:
            name = SPECIAL_TOKEN_NAMES.get(token)
            if name is None:
                raise UnknownTokenError(token, position)
            piece = name.encode()
        pieces.append(piece)
    return b"".join(pieces)


@checked_options
def decode(tokens: Sequence[int], errors: str = "replace") -> str:
    """Decode tokens to text, with special tokens spelled out.

    Args:
        tokens: Token ids.
        errors: How to handle bytes that are not UTF-8, as for `bytes.decode`.

    Returns:
        The text.

    Raises:
        UnknownTokenError: An id is not in the vocabulary.
        UnicodeDecodeError: With `errors="strict"`, the bytes are not UTF-8.

    Example:
        >>> decode([200006, 1428, 200008, 13225, 0])
        '<|start|>user<|message|>Hello!'
    """
    return decode_bytes(tokens).decode("utf-8", errors)


def decode_leniently(tokens: Sequence[int]) -> str:
    """The text of any integers, with U+FFFD for unknown ids and bytes that are not UTF-8."""
    table = ordinary_token_table()
    pieces = []
    for token in tokens:
        if 0 <= token < FIRST_SPECIAL:
            pieces.append(table[token])
        else:
            pieces.append(SPECIAL_TOKEN_NAMES.get(token, "\ufffd").encode())
    return b"".join(pieces).decode("utf-8", "replace")


@checked_options
def export_tiktoken() -> bytes:
    """Export the byte-pair ranks in the format of tiktoken.

    Returns:
        The content of the published file `o200k_base.tiktoken`.

    Example:
        >>> export_tiktoken().splitlines()[0]
        b'IQ== 0'
    """
    from base64 import b64encode

    return b"".join(b"%s %d\n" % (b64encode(piece), rank) for rank, piece in enumerate(_ranks()))


# --- Text to tokens -------------------------------------------------------------------------


# The look-ahead of `\s+(?!\S)` makes tiktoken's regex engine backtrack, which takes a third of
# the time and overflows its stack on about a million spaces. It matters only for a run of two or
# more whitespace characters before a visible one: all but the last are one piece, and the last may
# belong to the next word. Such runs are split off here; tiktoken's pattern omits the look-ahead.
_PATTERN_WITHOUT_LOOK_AHEAD: Final = _PATTERN.replace(r"|\s+(?!\S)", "")

# `\s` in that pattern is Unicode's White_Space; this is all of it but \r, \n and space.
_OTHER_BLANKS: Final = (
    "\t\v\f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def _runs_of(blank: str) -> re.Pattern[str]:
    """A pattern of runs of two or more whitespace characters before a visible one.

    It takes linear time, because inside a run the look-behind fails at once. It begins with a
    literal or a set of characters, which `re` searches for fast.
    """
    return re.compile(rf"({blank}{blank}(?<!{blank}{{3}}){blank}*+(?=[^\r\n]))")


def _has_other_blanks(text: str) -> bool:
    if text.isascii():
        return "\t" in text or "\v" in text or "\f" in text
    # Python counts all of them as unprintable; in most texts it finds some such character early.
    return not text.isprintable() and any(map(text.__contains__, _OTHER_BLANKS))


def tiktoken_encoder() -> Encoder:
    """The default encoder: tiktoken, made faster and safe for long runs of whitespace."""
    return _tiktoken_encoder(_rank_table())


def _tiktoken_encoder(ranks: dict[bytes, int]) -> Encoder:
    import tiktoken

    core = tiktoken.Encoding(
        "o200k_base",
        pat_str=_PATTERN_WITHOUT_LOOK_AHEAD,
        mergeable_ranks=ranks,
        special_tokens={},
    )._core_bpe
    encode_ordinary: Encoder = core.encode_ordinary
    encode_piece: Callable[[bytes], list[int]] = core.encode_single_piece
    spaces, blanks = _runs_of(" "), _runs_of(f"[ {_OTHER_BLANKS}]")
    tokens_of = {
        blank * length: encode_piece(blank.encode() * (length - 1))
        for blank in " \t"
        for length in range(2, 100)
    }

    def encode(text: str) -> list[int]:
        runs = blanks if _has_other_blanks(text) else spaces
        if not runs.search(text):
            return encode_ordinary(text)
        # No piece of the pattern continues from other text into such a run, so that the parts can
        # be encoded separately.
        parts = iter(runs.split(text))
        tokens = encode_ordinary(next(parts))
        for run, part in zip(parts, parts, strict=True):
            tokens += tokens_of.get(run) or encode_piece(run[:-1].encode())
            tokens += encode_ordinary(run[-1] + part)
        return tokens

    return encode


_FIRST_CHARACTERS: Final = 8000
"""How many characters of short texts are encoded before tiktoken's encoder is built."""


class _EncoderSlot:
    """Holds the encoder of the process. All encoders return the same tokens; the speeds differ."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None

    def get(self) -> Encoder:
        encoder = self._encoder
        if encoder is None:
            with self._lock:
                encoder = self._encoder = self._encoder or self._first_encoder()
        return encoder

    def put(self, encoder: Encoder) -> None:
        with self._lock:
            self._encoder = encoder

    def _first_encoder(self) -> Encoder:
        """An encoder of the first short texts, which then replaces itself by tiktoken."""
        from ._ascii_encoder import AsciiEncoder  # only rendering needs it

        ranks = _rank_table()
        ascii_encoder = AsciiEncoder(ranks, _FIRST_CHARACTERS)

        def encode(text: str) -> list[int]:
            tokens = ascii_encoder.encode(text)
            if tokens is not None:
                return tokens
            with self._lock:
                if self._encoder is encode:
                    self._encoder = _tiktoken_encoder(ranks)
            return self.get()(text)

        return encode


_slot = _EncoderSlot()


@checked_options
def use_encoder(encoder: Literal["tiktoken"] | Encoder) -> None:
    """Choose the encoder of ordinary text for the whole process.

    Args:
        encoder: `"tiktoken"` (the default), or a callable that returns the token ids of o200k_base
            for any text without lone surrogates.

    Raises:
        HarmonyError: The encoder is neither `"tiktoken"` nor a callable.

    Example:
        >>> use_encoder("tiktoken")
    """
    if callable(encoder):
        _slot.put(_kept_from_surrogates(encoder))
    elif encoder == "tiktoken":
        _slot.put(tiktoken_encoder())
    else:
        raise HarmonyError(f"unknown encoder {encoder!r}; expected 'tiktoken' or a callable")


def _kept_from_surrogates(encoder: Encoder) -> Encoder:
    """An encoder that refuses lone surrogates, as tiktoken does."""

    def encode(text: str) -> list[int]:
        if not text.isascii():
            text.encode()
        return encoder(text)

    return encode


@checked_options
def encode(text: str) -> list[int]:
    """Encode ordinary text; special tokens spelled out in it stay text.

    Args:
        text: Any text.

    Returns:
        Token ids.

    Raises:
        InvalidMessageError: The text contains a lone surrogate, which UTF-8 cannot represent.

    Example:
        >>> encode("Hello!")
        [13225, 0]
        >>> len(encode("<|start|>"))
        5
    """
    return encode_text(text)


def encode_text(text: str) -> list[int]:
    """Do the same as `encode`, without the check of option names."""
    try:
        return _slot.get()(text)
    except UnicodeEncodeError:
        _refuse_surrogates(text)  # counts from the start, unlike an encoder that splits the text
        raise


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessageError(
            f"lone surrogate {text[error.start]!r} at character {error.start}", field="text"
        ) from None


@checked_options
def encode_with_special(text: str, allowed: Collection[str] | None = None) -> list[int]:
    """Encode text in which special tokens are spelled out.

    Do not use this on untrusted text, since its author could insert control tokens.

    Args:
        text: Any text.
        allowed: The spellings that become special tokens; by default, those of all special tokens.

    Returns:
        Token ids.

    Raises:
        InvalidMessageError: The text contains a lone surrogate.

    Example:
        >>> encode_with_special("<|start|>user<|message|>Hello!")
        [200006, 1428, 200008, 13225, 0]
    """
    _refuse_surrogates(text)  # before it is split, so that an error counts from the start
    tokens: list[int] = []
    start = 0
    for match in _SPECIAL.finditer(text):
        name = match.group()
        token = SPECIAL_TOKENS.get(name)
        if token is None or (allowed is not None and name not in allowed):
            continue
        tokens += encode_text(text[start : match.start()])
        tokens.append(token)
        start = match.end()
    return tokens + encode_text(text[start:])


_SPECIAL: Final = re.compile(r"<\|[a-z0-9_]+\|>")
