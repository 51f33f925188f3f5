"""The marks in page views: links as the model knows them, and text that cannot forge them.

A link is `【id†text】`, or `【id†text†domain】` if it leaves the page's site. Brackets of this
kind in a page's own text are replaced, so that every mark in a view is one that we made.
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
    *range(0x202A, 0x202F),  # text that is shown in another order than it is written
    *range(0x2066, 0x206A),
    0xFEFF,
    *range(0xE0000, 0xE0080),  # letters that nobody sees
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
    """Text from outside as a page may hold it.

    Marks cannot be forged in it, lines end with a newline, and there is nothing in it that a
    reader would not see: control characters, characters without width, halves of surrogates.

    Args:
        text: Any text.
    """
    return text.replace("\r\n", "\n").translate(_REPLACEMENTS)


def clean_line(text: str, limit: int | None = None) -> str:
    """Text from outside as one line, blanks folded.

    Args:
        text: Any text.
        limit: The most characters that are kept, the dots at a cut included.
    """
    line = " ".join(clean_text(text).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def link_mark(link_id: int, text: str, domain: str = "") -> str:
    """A link as the model sees it.

    Args:
        link_id: The number by which it is opened.
        text: What it says; marks in it must have been replaced.
        domain: Where it leads, if to another site.
    """
    text = text.replace("†", "‡")
    return f"【{link_id}†{text}†{domain}】" if domain else f"【{link_id}†{text}】"


def without_links(text: str) -> str:
    """A part of a page's text with the bare words of its links, also of those cut in two.

    Args:
        text: Any stretch of a page's text.
    """
    if "【" not in text and "】" not in text:
        return text
    text = _LINK.sub(r"\1", text)
    text = _LINK_END.sub(r"\1", text)
    return _LINK_START.sub(lambda found: found[1] or "", text)


class Word(NamedTuple):
    """A piece of text between blanks or marks.

    Attributes:
        text: The piece.
        position: The index of its first character.
        after_blank: Whether it is a word of its own, and not the rest of one that a link ends.
    """

    text: str
    position: int
    after_blank: bool


def words_of(text: str) -> Iterator[Word]:
    """The words of a page's text, without the marks of links.

    Args:
        text: A page's text.
    """
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
