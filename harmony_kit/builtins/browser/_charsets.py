"""Bytes to text: which encoding a document is in, and its name on the web."""

from __future__ import annotations

import codecs
import re
from typing import Final

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# What browsers read under these names is a superset (https://encoding.spec.whatwg.org/).
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

# Python knows names that are no encodings of documents, and some that are slow to decode.
_KNOWN: Final = re.compile(
    r"utf-8|utf-16-[lb]e|cp(?:125\d|866|874|932|949)|iso8859-\d+|koi8-[ru]|mac-(?:roman|cyrillic)"
    r"|gb18030|big5hkscs|euc_jp|iso2022_jp"
)

_META: Final = re.compile(
    rb"<meta[^>]{0,500}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w:.-]{1,40})", re.I
)
_XML: Final = re.compile(rb"\A<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([\w:.-]{1,40})")
_META_REACH: Final = 4096  # bytes of a document in which it may say what it is written in


def decode_document(data: bytes, charset: str | None) -> str:
    """The text of a document.

    Its byte order mark counts first, then what the server says, then what the document
    says. Without any of these it is UTF-8, or if it cannot be, Windows-1252.

    Args:
        data: The bytes; the last character may be cut off.
        charset: The encoding that the server names.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    encoding_named = _codec(charset) or _codec(_declared(data))
    if encoding_named is not None:
        return data.decode(encoding_named, "replace")
    text = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        return text.decode(data)  # a character cut off at the end is no fault
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _declared(data: bytes) -> str | None:
    head = data[:_META_REACH]
    found = _XML.search(head) or _META.search(head)
    if found is None:
        return None
    name = found[1].decode("ascii", "replace")
    # A text in which this could be read is not in UTF-16.
    return "utf-8" if name.lower().startswith("utf-16") else name


def _codec(name: str | None) -> str | None:
    """Python's name of an encoding of the web, if it is one."""
    if not name:
        return None
    try:
        known = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):
        return None
    known = _SUPERSETS.get(known, known)
    return known if _KNOWN.fullmatch(known) else None
