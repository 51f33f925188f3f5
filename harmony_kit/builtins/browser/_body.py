"""Reading the body of a response up to a limit."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final

from ._errors import BrowserError

ACCEPT_ENCODING: Final = "gzip, deflate"
"""Encodings that can be decompressed in steps; others can turn one chunk into gigabytes."""

_ANY_HEADER: Final = zlib.MAX_WBITS | 32  # of gzip or zlib
_NO_HEADER: Final = -zlib.MAX_WBITS


async def read_body(pieces: AsyncIterator[bytes], encoding: str, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of a body, compressed and decompressed, and whether there are more.

    Raises:
        BrowserError: The encoding is unknown, or the body is invalid.
    """
    encoding = encoding.strip().lower()
    unpacker = _Unpacker() if encoding in ("gzip", "x-gzip", "deflate") else None
    if unpacker is None and encoding not in ("", "identity"):
        raise BrowserError(f"the server sent a page in the unknown encoding {encoding[:40]!r}")
    body = bytearray()
    received = 0
    async for piece in pieces:
        received += len(piece)
        room = limit + 1 - len(body)
        body += piece[:room] if unpacker is None else unpacker.unpack(piece, room)
        if len(body) > limit or received > limit:
            return bytes(body[:limit]), True
    return bytes(body), False


class _Unpacker:
    """Decompresses gzip and deflate, the latter with or without its header."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_ANY_HEADER)
        self._is_first = True

    def unpack(self, data: bytes, limit: int) -> bytes:
        """At most `limit` decompressed bytes of a chunk; the rest is dropped."""
        try:
            return self._unpack(data, limit)
        except zlib.error as error:
            raise BrowserError("the server sent a page whose compression is broken") from error

    def _unpack(self, data: bytes, limit: int) -> bytes:
        unpacked = bytearray()
        while data and len(unpacked) < limit:
            if self._stream.eof:  # another member of the same gzip file
                self._stream = zlib.decompressobj(_ANY_HEADER)
            try:
                unpacked += self._stream.decompress(data, limit - len(unpacked))
            except zlib.error:
                if not self._is_first:
                    raise
                self._stream = zlib.decompressobj(_NO_HEADER)
                unpacked += self._stream.decompress(data, limit)
            self._is_first = False
            data = self._stream.unused_data
        return bytes(unpacked)
