"""What searches: the protocol of providers, and their results made a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from ._link_urls import domain_of
from ._marks import clean_line, link_mark
from ._page import Link, Page

_MAX_TITLE: Final = 200
_MAX_SNIPPET: Final = 1000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result of a search.

    Attributes:
        url: The address of the page.
        title: Its title.
        snippet: What it says about the query. If the page holds these very words, they are
            shown first when the result is opened.
    """

    url: str
    title: str
    snippet: str = ""


@runtime_checkable
class SearchProvider(Protocol):
    """Whatever finds pages.

    A provider that has the method `fetch` of `PageSource` as well is asked first for the pages
    that the model opens. One that has an async method `aclose` is closed with the browser.
    """

    async def search(self, query: str, topn: int) -> Sequence[SearchResult]:
        """Find pages.

        Args:
            query: What the model looks for, any text.
            topn: The most results that are of use.

        Raises:
            BrowserError: The search failed; the text is told to the model.
        """
        ...


def results_page(query: str, results: Iterable[SearchResult]) -> Page:
    """The results of a search as a page: a list of links.

    Args:
        query: What was searched.
        results: What was found, best first.
    """
    text = "\nURL: \n# Search Results\n"
    links: list[Link] = []
    sections: list[int] = []
    for result in results:
        url, snippet = clean_line(result.url), clean_line(result.snippet, _MAX_SNIPPET)
        title = clean_line(result.title, _MAX_TITLE) or url
        text += "\n"
        sections.append(len(text))
        text += f"  * {link_mark(len(links), title, domain_of(url))} {snippet}".rstrip()
        links.append(Link(url, title, passage=snippet))
    if not links:
        text += "\nNothing was found. Try other words."
    return Page("", query, text, tuple(links), tuple(sections))
