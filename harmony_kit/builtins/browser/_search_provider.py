"""The protocol of search providers, and the page of results."""

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
    """A search result.

    Attributes:
        url: The URL of the page.
        title: The title of the page.
        snippet: An excerpt about the query. If the page contains it literally, opening the result
            shows that place first.
    """

    url: str
    title: str
    snippet: str = ""


@runtime_checkable
class SearchProvider(Protocol):
    """An object that finds pages.

    If a provider also has the `fetch` method of `PageSource`, it is asked first for the pages that
    the model opens. If it has an async method `aclose`, it is closed with the browser.
    """

    async def search(self, query: str, topn: int) -> Sequence[SearchResult]:
        """Find pages.

        Args:
            query: The model's query, any text.
            topn: The maximum number of useful results.

        Raises:
            BrowserError: The search failed; the text is reported to the model.
        """
        ...


def results_page(query: str, results: Iterable[SearchResult]) -> Page:
    """The results of a search as a page with a list of links."""
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
