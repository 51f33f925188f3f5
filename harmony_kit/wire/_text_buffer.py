"""The text of the content being read, decoded from UTF-8 as its bytes arrive."""

from __future__ import annotations

from codecs import utf_8_decode


class TextBuffer:
    """Decodes bytes and accumulates the text.

    Attributes:
        pending: The first bytes of a character whose other bytes have not arrived.
        has_bad_bytes: Whether bytes were not UTF-8 and became U+FFFD.
        chunks: Text that follows `text` and has not been joined to it.
    """

    __slots__ = ("_text", "chunks", "has_bad_bytes", "pending")

    def __init__(self) -> None:
        self._text = ""
        self.chunks: list[str] = []
        self.pending = b""
        self.has_bad_bytes = False

    @property
    def text(self) -> str:
        """All text since the last `clear`."""
        if self.chunks:
            # With no other reference to the text, CPython appends to it in place.
            text, self._text = self._text, ""
            text += "".join(self.chunks)
            self._text = text
            self.chunks.clear()
        return self._text

    def decode(self, data: bytes) -> str:
        """Add bytes; returns the text of the characters that are complete with them."""
        if self.pending:
            data = self.pending + data
        try:
            text, consumed = utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            self.has_bad_bytes = True
            text, consumed = utf_8_decode(data, "replace", False)
        self.pending = data[consumed:]
        if text:
            self.chunks.append(text)
        return text

    def flush(self) -> str:
        """Replace the incomplete last character, which must be there; returns the replacement."""
        text = self.pending.decode("utf-8", "replace")
        self.has_bad_bytes = True
        self.pending = b""
        self.chunks.append(text)
        return text

    def clear(self) -> None:
        """Begin a new content."""
        self._text = ""
        self.chunks.clear()
        self.pending = b""
        self.has_bad_bytes = False
