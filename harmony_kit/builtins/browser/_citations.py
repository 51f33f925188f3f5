"""Resolving citation marks in answers.

The model cites lines of the pages that it was shown: `【6†L9-L11】`, `【8†L3】`. Each mark is
replaced by a short one for readers, and described by a `Citation` with the page, the lines and the
quoted text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ._marks import without_links
from ._page import Page

_MAX_MARK: Final = 200
"""Characters; longer text is not a mark, so a stream does not wait for its end."""

_MARK: Final = re.compile(rf"【([^【】]{{1,{_MAX_MARK}}})】")
_INSIDE: Final = re.compile(r"\s*\[?(\d{1,9})\]?\s*†(.*)", re.DOTALL)
_LINES: Final = re.compile(r"L(\d{1,9})(?:\s*[-–—‐‑−]\s*L?(\d{1,9}))?", re.IGNORECASE)


class HasPages(Protocol):
    """An object with pages by cursor, such as a `BrowserTool`."""

    def page(self, cursor: int) -> Page | None:
        """The page of a cursor, or `None`."""
        ...


@dataclass(frozen=True, slots=True)
class Citation:
    """A resolved mark.

    Attributes:
        number: The number of its source in this text, from 1; marks of one URL share it.
        start: The start of the replacement in the resolved text, in characters.
        end: The end of the replacement.
        mark: The mark as the model wrote it.
        cursor: The cursor in the mark.
        lines: The first and the last line of each cited range; empty if the mark names no lines.
        url: The URL of the source; in a list of search results, that of the result.
        title: The title of the source.
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
    """A mark that cites a page or line that does not exist; it stays in the text unchanged.

    Attributes:
        start: The start of the mark in the resolved text, in characters.
        end: The end of the mark.
        mark: The mark as the model wrote it.
        cursor: The cursor in the mark.
        reason: Why it could not be resolved.
    """

    start: int
    end: int
    mark: str
    cursor: int
    reason: str


@dataclass(frozen=True, slots=True)
class ResolvedText:
    """An answer with resolved marks.

    Attributes:
        text: The text.
        citations: The resolved marks, in order.
        unresolved: The unresolved marks, in order.
        incomplete: An incomplete mark at the end of the text, or empty. It is also in the text.
    """

    text: str
    citations: tuple[Citation, ...]
    unresolved: tuple[UnresolvedCitation, ...]
    incomplete: str


def numbered(number: int, page_url: str) -> str:
    """The default replacement of a mark: `[1]`."""
    del page_url
    return f"[{number}]"


def resolve_citations(
    text: str, browser: HasPages, *, marker: Callable[[int, str], str] = numbered
) -> ResolvedText:
    r"""Resolve the citation marks of an answer.

    Args:
        text: The answer. Brackets without a cursor, which are common in Japanese and Chinese
            text, are left unchanged.
        browser: The browser that showed the pages.
        marker: Returns the replacement of a mark from the number of the source and its URL.

    Example:
        >>> from harmony_kit.builtins.browser import Page
        >>> class Pages:  # a BrowserTool has this method
        ...     def page(self, cursor):
        ...         return Page("https://example.com", "Example", "first line\nsecond line")
        >>> resolved = resolve_citations("It says so【0†L1】.", Pages())
        >>> resolved.text, resolved.citations[0].quote
        ('It says so[1].', 'second line')
    """
    stream = CitationStream(browser, marker=marker)
    resolved = stream.feed(text) + stream.close()
    return ResolvedText(
        resolved, tuple(stream.citations), tuple(stream.unresolved), stream.incomplete
    )


class CitationStream:
    """Resolves the marks of an answer while it is generated.

    The concatenated output does not depend on how the text is split. An incomplete mark is held
    back until it is complete or cannot become a mark.

    Args:
        browser: The browser that showed the pages.
        marker: Returns the replacement of a mark from the number of the source and its URL.

    Attributes:
        citations: The resolved marks so far.
        unresolved: The unresolved marks so far.
        incomplete: After `close`, an incomplete mark at the end of the text.
    """

    def __init__(self, browser: HasPages, *, marker: Callable[[int, str], str] = numbered) -> None:
        self.citations: list[Citation] = []
        self.unresolved: list[UnresolvedCitation] = []
        self.incomplete = ""
        self._browser = browser
        self._marker = marker
        self._numbers: dict[str, int] = {}  # by URL
        self._held = ""
        self._length = 0  # of the output

    def feed(self, text: str) -> str:
        """Process a part of the answer, and return the text that can be shown now."""
        text = self._held + text
        start = text.rfind("【")
        is_open = start >= 0 and "】" not in text[start:] and len(text) - start <= _MAX_MARK + 1
        self._held = text[start:] if is_open else ""
        return self._resolve(text[:start] if is_open else text)

    def close(self) -> str:
        """End the answer, and return an incomplete mark that was held back."""
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
        """The replacement of a mark; an unresolved mark is unchanged."""
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
    """The ranges of lines that a mark names after its dagger."""
    found = [(int(lines[1]), int(lines[2] or lines[1])) for lines in _LINES.finditer(place)]
    return [(min(stretch), max(stretch)) for stretch in found]
