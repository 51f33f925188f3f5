"""Link marks in page views, and text cleaned so that it cannot forge them.

A link is `【id†text】`, or `【id†text†domain】` if it leaves the page's site. Such brackets in a
page's own text are replaced, so every mark in a view was made by the browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_LINE_BREAKS: Final = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_INVISIBLE: Final = (
    *range(0x09),
    *range(0x0E, 0x1C),
    0x1F,
    *range(0x7F, 0x85),
    *range(0x86, 0xA0),
    0x00AD,  # soft hyphen
    0x200B,  # zero width space
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),  # bidirectional controls
    *range(0x2066, 0x206A),
    0xFEFF,
    *range(0xE0000, 0xE0080),  # invisible tag characters
)
_REPLACEMENTS: Final[dict[int, str | None]] = {
    **dict.fromkeys(_INVISIBLE),
    **{ord(character): "\n" for character in _LINE_BREAKS},
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    ord("【"): "〖",
    ord("】"): "〗",
}

_LINK: Final = re.compile(r"【\d+†([^【】†]*)(?:†[^【】†]*)?】")
_LINK_END: Final = re.compile(r"\A([^【】†]*)(?:†[^【】†]*)?】")
_LINK_START: Final = re.compile(r"【\d*(?:†([^【】†]*)(?:†[^【】†]*)?)?\Z")
_TOKEN: Final = re.compile(r"\s+|[^\s【】]+|[【】]")


def clean_text(text: str) -> str:
    """Text from outside, made safe for a page.

    It contains no marks, and no invisible characters: control characters, zero-width characters,
    lone surrogates. Lines end with a newline.
    """
    return text.replace("\r\n", "\n").translate(_REPLACEMENTS)


def clean_line(text: str, limit: int | None = None) -> str:
    """Text from outside as one line with whitespace folded."""
    line = " ".join(clean_text(text).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def link_mark(link_id: int, text: str, domain: str = "") -> str:
    """The mark of a link."""
    text = text.replace("†", "‡")
    return f"【{link_id}†{text}†{domain}】" if domain else f"【{link_id}†{text}】"


def without_links(text: str) -> str:
    """A part of a page's text with link marks replaced by their text, including split marks."""
    if "【" not in text and "】" not in text:
        return text
    text = _LINK.sub(r"\1", text)
    text = _LINK_END.sub(r"\1", text)
    return _LINK_START.sub(lambda found: found[1] or "", text)


class Word(NamedTuple):
    """A run of text between whitespace or marks.

    Attributes:
        text: The text.
        position: The index of its first character.
        after_blank: Whether a word starts here, rather than continuing after a link.
    """

    text: str
    position: int
    after_blank: bool


def words_of(text: str) -> Iterator[Word]:
    """The words of a page's text, without link marks."""
    after_blank = False
    for start, end in _stretches_without_marks(text):
        for token in _TOKEN.finditer(text, start, end):
            if token[0].isspace():
                after_blank = True
            else:
                yield Word(token[0], token.start(), after_blank)
                after_blank = False


def _stretches_without_marks(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for link in _LINK.finditer(text):
        yield start, link.start()
        yield link.span(1)
        start = link.end()
    yield start, len(text)
