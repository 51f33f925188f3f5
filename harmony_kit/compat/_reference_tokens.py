"""Token ids and their bytes, checked and decoded like the reference."""

from __future__ import annotations

import operator
import unicodedata
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from .. import errors
from ..wire._vocabulary import (
    FIRST_SPECIAL,
    SIZE,
    SPECIAL_TOKEN_NAMES,
    ordinary_token_table,
)

REPLACEMENT: Final = "\ufffd"
TOKEN_LIMIT: Final = 2**32
_LONG: Final = 2**63


class HarmonyError(errors.HarmonyError, RuntimeError):
    """The reference's exception for tokens that cannot be parsed, decoded or rendered."""


HarmonyError.__module__ = "harmony_kit.compat.openai_harmony"


# --- Token ids ------------------------------------------------------------------------------


def token_id(value: Any, argument: str) -> int:
    """A value as a token id, an unsigned 32-bit integer.

    Raises:
        TypeError: The value is not an integer.
        OverflowError: It is negative or has more than 32 bits.
    """
    try:
        token = int(operator.index(value))
    except TypeError as error:
        raise TypeError(f"argument '{argument}': {error}") from None
    if not -_LONG <= token < _LONG:
        raise OverflowError("Python int too large to convert to C long")
    if not 0 <= token < TOKEN_LIMIT:
        raise OverflowError("out of range integral type conversion attempted")
    return token


def token_ids(values: list[Any]) -> array[int]:
    """Values as token ids; the errors are those of `token_id`."""
    try:
        return array("I", values)
    except (TypeError, OverflowError):
        return array("I", [token_id(value, "tokens") for value in values])


_ESCAPES: Final = {"\0": r"\0", "\t": r"\t", "\r": r"\r", "\n": r"\n", "\\": r"\\", '"': r"\""}


def rust_debug(text: str) -> str:
    """Quoted text in the format of Rust's `Debug`."""
    return '"' + "".join(map(_rust_escape, text)) + '"'


def _rust_escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isascii() and char.isprintable():
        return char
    extends = unicodedata.category(char) in ("Mn", "Me") or char in _OTHER_EXTENDERS
    return char if char.isprintable() and not extends else f"\\u{{{ord(char):x}}}"


# Unicode's Grapheme_Extend beyond the categories Mn and Me.
_OTHER_EXTENDERS: Final = frozenset(
    "\u09be\u09d7\u0b3e\u0b57\u0bbe\u0bd7\u0cc0\u0cc2\u0cc7\u0cc8\u0cca\u0ccb\u0cd5"
    "\u0cd6\u0d3e\u0d57\u0dcf\u0ddf\u1715\u1734\u1b35\u1b3b\u1b3d\u1b43\u1b44\u1baa"
    "\u1bf2\u1bf3\u302e\u302f\ua953\ua9c0\uff9e\uff9f\U000111c0\U00011235\U0001133e"
    "\U0001134d\U00011357\U000114b0\U000114bd\U000115af\U000116b6\U00011930\U0001193d"
    "\U00016ff0\U00016ff1\U0001d165\U0001d166\U0001d16d\U0001d16e\U0001d16f\U0001d170"
    "\U0001d171\U0001d172"
)


# --- Decoding -------------------------------------------------------------------------------


@cache
def token_table() -> tuple[bytes, ...]:
    """The bytes of every token, with special tokens spelled out."""
    ordinary = ordinary_token_table()[:FIRST_SPECIAL]
    return (*ordinary, *(SPECIAL_TOKEN_NAMES[i].encode() for i in range(FIRST_SPECIAL, SIZE)))


def decode_bytes(tokens: Sequence[int]) -> bytes:
    """The bytes of tokens.

    Raises:
        HarmonyError: An id is unknown.
    """
    try:
        table = token_table()
        return b"".join([table[token] for token in tokens])
    except IndexError:
        unknown = next(token for token in tokens if token >= SIZE)
        raise HarmonyError(f"Invalid token for decoding: {unknown}") from None


def decode_utf8(tokens: Sequence[int]) -> str:
    """The text of tokens.

    Raises:
        HarmonyError: An id is unknown, or the bytes are not UTF-8.
    """
    try:
        return decode_bytes(tokens).decode()
    except HarmonyError as error:
        reason = f"Invalid token error: {error}"
    except UnicodeDecodeError as error:
        if _is_incomplete(error):
            reason = f"incomplete utf-8 byte sequence from index {error.start}"
        else:
            length = error.end - error.start
            reason = f"invalid utf-8 sequence of {length} bytes from index {error.start}"
        reason = f"Invalid utf-8 sequence: {reason}"
    raise HarmonyError(f"Could not decode tokens: {reason}")


def _is_incomplete(error: UnicodeDecodeError) -> bool:
    return error.reason == "unexpected end of data"


def cut_text(data: bytes) -> tuple[list[str], str, bytes]:
    """Split bytes at invalid UTF-8 sequences.

    Returns the texts before each invalid sequence, the text after the last one, and an incomplete
    sequence at the end.
    """
    broken: list[str] = []
    start = 0
    while True:
        try:
            return broken, data[start:].decode(), b""
        except UnicodeDecodeError as error:
            text = data[start : start + error.start].decode()
            if _is_incomplete(error):
                return broken, text, data[start + error.start :]
            broken.append(text)
            start += error.end
