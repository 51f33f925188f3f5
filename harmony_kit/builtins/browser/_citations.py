"""Citation marks in answers, and what they cite.

The model cites lines of what it was shown: `【6†L9-L11】`, `【8†L3】`. Here each mark becomes a
short one that a reader can follow, and a value that says which page, which lines and what
stands there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ._marks import without_links
from ._page import Page

_MAX_MARK: Final = 200
"""Characters; what is longer is no mark, so that a stream need not wait for its end."""

_MARK: Final = re.compile(rf"【([^【】]{{1,{_MAX_MARK}}})】")
_INSIDE: Final = re.compile(r"\s*\[?(\d{1,9})\]?\s*†(.*)", re.DOTALL)
_LINES: Final = re.compile(r"L(\d{1,9})(?:\s*[-–—‐‑−]\s*L?(\d{1,9}))?", re.IGNORECASE)


class HasPages(Protocol):
    """Whatever knows pages by their cursors, such as a `BrowserTool`."""

    def page(self, cursor: int) -> Page | None:
        """The page of a cursor, or `None`."""
        ...


@dataclass(frozen=True, slots=True)
class Citation:
    """A mark that was resolved.

    Attributes:
        number: The number of its source in this text, from 1; marks of one URL share it.
        start: Where what stands for the mark begins in the resolved text, in characters.
        end: Where that ends.
        mark: The mark as the model wrote it.
        cursor: The cursor in it.
        lines: The first and the last line of each stretch that it cites; none if it names no
            lines.
        url: The address of what is cited. Of a list of results, that of the result.
        title: Its title.
        quote: The text of the lines, without link marks.
    """

    number: int
    start: int
    end: int
    mark: str
    cursor: int
    lines: tuple[tuple[int, int], ...]
    url: str
    title: str
    quote: str


@dataclass(frozen=True, slots=True)
class UnresolvedCitation:
    """A mark that cites what there is not. It stays in the text as it was.

    Attributes:
        start: Where it begins in the resolved text, in characters.
        end: Where it ends.
        mark: The mark as the model wrote it.
        cursor: The cursor in it.
        reason: What there is not, in words.
    """

    start: int
    end: int
    mark: str
    cursor: int
    reason: str


@dataclass(frozen=True, slots=True)
class ResolvedText:
    """An answer whose marks were resolved.

    Attributes:
        text: The text.
        citations: The marks that were resolved, in order.
        unresolved: Those that were not, in order.
        incomplete: The beginning of a mark with which the text ends, or empty. It stays in
            the text, too.
    """

    text: str
    citations: tuple[Citation, ...]
    unresolved: tuple[UnresolvedCitation, ...]
    incomplete: str


def numbered(number: int, page_url: str) -> str:
    """What stands for a mark by default: `[1]`.

    Args:
        number: The number of the source.
        page_url: Its address.
    """
    del page_url
    return f"[{number}]"


def resolve_citations(
    text: str, browser: HasPages, *, marker: Callable[[int, str], str] = numbered
) -> ResolvedText:
    """Resolve the citation marks of an answer.

    Args:
        text: The answer. Brackets without a cursor, which Japanese and Chinese texts use for
            their own ends, stay what they are.
        browser: What showed the pages.
        marker: Makes what stands for a mark, of the number of the source and its URL.
    """
    stream = CitationStream(browser, marker=marker)
    resolved = stream.feed(text) + stream.close()
    return ResolvedText(
        resolved, tuple(stream.citations), tuple(stream.unresolved), stream.incomplete
    )


class CitationStream:
    """Resolves the marks of an answer while it comes.

    However the text is cut into pieces, what comes out joins to the same text. A mark that is
    not complete is held back until it is, or until it cannot be one any more.

    Args:
        browser: What showed the pages.
        marker: Makes what stands for a mark, of the number of the source and its URL.

    Attributes:
        citations: The marks that were resolved until now.
        unresolved: Those that were not.
        incomplete: After `close`, the beginning of a mark with which the text ended.
    """

    def __init__(self, browser: HasPages, *, marker: Callable[[int, str], str] = numbered) -> None:
        self.citations: list[Citation] = []
        self.unresolved: list[UnresolvedCitation] = []
        self.incomplete = ""
        self._browser = browser
        self._marker = marker
        self._numbers: dict[str, int] = {}  # of the URLs
        self._held = ""
        self._length = 0  # of what came out

    def feed(self, text: str) -> str:
        """Take a piece of the answer.

        Args:
            text: The piece.

        Returns:
            What can be shown now; often the piece itself.
        """
        text = self._held + text
        start = text.rfind("【")
        is_open = start >= 0 and "】" not in text[start:] and len(text) - start <= _MAX_MARK + 1
        self._held = text[start:] if is_open else ""
        return self._resolve(text[:start] if is_open else text)

    def close(self) -> str:
        """End the answer.

        Returns:
            What was held back: the beginning of a mark that never ended, as it was written.
        """
        held, self._held = self._held, ""
        self.incomplete = held if re.match(r"【\d", held) or held == "【" else ""
        self._length += len(held)
        return held

    def _resolve(self, text: str) -> str:
        pieces: list[str] = []
        start = 0
        for mark in _MARK.finditer(text):
            inside = _INSIDE.fullmatch(mark[1])
            if inside is None:
                continue
            self._add(pieces, text[start : mark.start()])
            self._add(pieces, self._replacement(mark[0], int(inside[1]), inside[2]))
            start = mark.end()
        self._add(pieces, text[start:])
        return "".join(pieces)

    def _add(self, pieces: list[str], piece: str) -> None:
        pieces.append(piece)
        self._length += len(piece)

    def _replacement(self, mark: str, cursor: int, place: str) -> str:
        """What stands for a mark; a mark that cites nothing stays."""
        page = self._browser.page(cursor)
        if page is None:
            return self._unresolved(mark, cursor, f"no page has the cursor {cursor}")
        stretches = _stretches(place)
        last = len(page.lines) - 1
        there = [(first, min(end, last)) for first, end in stretches if first <= min(end, last)]
        if stretches and not there:
            return self._unresolved(mark, cursor, f"page {cursor} has lines 0 to {last} only")
        source = page.source_of_line(there[0][0] if there else 0)
        number = self._numbers.setdefault(source.url, len(self._numbers) + 1)
        shown = self._marker(number, source.url)
        quote = "\n".join(line for first, end in there for line in page.lines[first : end + 1])
        self.citations.append(
            Citation(
                number=number,
                start=self._length,
                end=self._length + len(shown),
                mark=mark,
                cursor=cursor,
                lines=tuple(there),
                url=source.url,
                title=source.title,
                quote=without_links(quote),
            )
        )
        return shown

    def _unresolved(self, mark: str, cursor: int, reason: str) -> str:
        end = self._length + len(mark)
        self.unresolved.append(UnresolvedCitation(self._length, end, mark, cursor, reason))
        return mark


def _stretches(place: str) -> list[tuple[int, int]]:
    """The stretches of lines that a mark names after its dagger."""
    found = [(int(lines[1]), int(lines[2] or lines[1])) for lines in _LINES.finditer(place)]
    return [(min(stretch), max(stretch)) for stretch in found]
