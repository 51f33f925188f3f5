"""Decoding documents: their encoding, and its name on the web."""

from __future__ import annotations

import codecs
import re
from typing import Final

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Browsers decode these as supersets (https://encoding.spec.whatwg.org/).
_SUPERSETS: Final = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "utf-16": "utf-16-le",
}

# Python has codecs that are not encodings of documents, and some that are slow.
_KNOWN: Final = re.compile(
    r"utf-8|utf-16-[lb]e|cp(?:125\d|866|874|932|949)|iso8859-\d+|koi8-[ru]|mac-(?:roman|cyrillic)"
    r"|gb18030|big5hkscs|euc_jp|iso2022_jp"
)

_META: Final = re.compile(
    rb"<meta[^>]{0,500}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w:.-]{1,40})", re.I
)
_XML: Final = re.compile(rb"\A<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([\w:.-]{1,40})")
_META_REACH: Final = 4096  # the first bytes of a document, searched for its encoding


def decode_document(data: bytes, charset: str | None) -> str:
    """The text of a document.

    The byte order mark takes precedence over the server's charset, and that over the document's own
    declaration. Without any of them the encoding is UTF-8, or Windows-1252 if the bytes are not
    UTF-8.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    encoding_named = _codec(charset) or _codec(_declared(data))
    if encoding_named is not None:
        return data.decode(encoding_named, "replace")
    text = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        return text.decode(data)  # a truncated character at the end is not an error
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _declared(data: bytes) -> str | None:
    head = data[:_META_REACH]
    found = _XML.search(head) or _META.search(head)
    if found is None:
        return None
    name = found[1].decode("ascii", "replace")
    # A document whose declaration is readable as ASCII is not in UTF-16.
    return "utf-8" if name.lower().startswith("utf-16") else name


def _codec(name: str | None) -> str | None:
    """Python's codec for an encoding of the web; `None` if it is unknown."""
    if not name:
        return None
    try:
        known = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):
        return None
    known = _SUPERSETS.get(known, known)
    return known if _KNOWN.fullmatch(known) else None
