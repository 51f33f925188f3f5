"""The built-in tool `browser`: search, open and find, as the model was trained to call them."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ..._options import checked_options
from ...errors import ToolError
from ...tools._results import whole_characters
from ...wire._builtin_tools import BROWSER
from ...wire._contents import Tool, ToolNamespace
from ._document import Document, PageSource
from ._document_page import page_of_document, source_page
from ._errors import BrowserArgumentsError, BrowserError, required
from ._fetching import WebFetcher
from ._find import find_in_page, line_of_passage
from ._history import PageHistory
from ._marks import clean_line
from ._page import Link, Page
from ._page_view import render_view
from ._search_provider import SearchProvider, results_page

_LINES_BEFORE: Final = 4  # lines of context before a passage
_CACHED_PAGES: Final = 64
_MAX_PASSAGE: Final = 60  # characters of a snippet that are searched for in the page
_LINK_ID: Final = re.compile(r"\s*【?\s*(-?\d{1,9})(?:\.0*)?\s*(?:†.*)?】?\s*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\d)")
_VIEW_SOURCE: Final = "view-source:"


class BrowserTool:
    """Runs the calls of the built-in tool `browser`.

    A browser is one session: its pages, numbered by cursors, were shown in one conversation. It can
    be used from several event loops sequentially.

    Args:
        search: The search provider. Without one, searches fail, but pages can be opened by URL.
        fetch: Loads pages; defaults to a `WebFetcher`. A search provider with its own pages is
            asked first.
        view_tokens: The number of tokens of a view's lines if the model does not request a number
            of lines.
        max_view_tokens: The maximum number of tokens of a view.
        max_results: The maximum number of search results.
        cache_seconds: The time for which a loaded page is shown again without reloading.

    Attributes:
        is_builtin: True: the tools are declared in the system message.

    Raises:
        ToolError: A package of the extra `browser` is not installed.
    """

    is_builtin = True

    @checked_options
    def __init__(
        self,
        search: SearchProvider | None = None,
        fetch: PageSource | None = None,
        *,
        view_tokens: int = 1024,
        max_view_tokens: int = 4096,
        max_results: int = 20,
        cache_seconds: float = 900.0,
    ) -> None:
        required("lxml")
        if min(view_tokens, max_view_tokens, max_results) < 1:
            raise ToolError("view_tokens, max_view_tokens and max_results must be positive")
        self._provider = search
        fetcher = WebFetcher() if fetch is None else fetch
        own = (search,) if isinstance(search, PageSource) else ()
        self._sources: tuple[PageSource, ...] = (*own, fetcher)
        self._view_tokens = min(view_tokens, max_view_tokens)
        self._max_view_tokens = max_view_tokens
        self._max_results = max_results
        self._history = PageHistory()
        self._cache = _Cache(cache_seconds)
        functions: dict[str, Callable[..., Any]] = {
            "search": self.search,
            "open": self.open,
            "find": self.find,
        }
        self._namespace = ToolNamespace(
            BROWSER.name,
            tuple(_with_function(tool, functions[tool.name]) for tool in BROWSER.tools),
            BROWSER.description,
        )

    @property
    def namespace(self) -> ToolNamespace:
        """The declaration in the system message, word for word as in training."""
        return self._namespace

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by full name, each with its function."""
        return {f"{BROWSER.name}.{tool.name}": tool for tool in self._namespace.tools}

    def page(self, cursor: int) -> Page | None:
        """The page that was shown under a cursor, or `None`.

        Args:
            cursor: The number in brackets before a view.
        """
        return self._history.get(cursor)

    def to_dict(self) -> dict[str, Any]:
        """The session as JSON data: all pages with a cursor."""
        return self._history.to_dict()

    def restore(self, data: Any) -> None:
        """Resume a saved session: its cursors refer to the same pages.

        Args:
            data: The data of `to_dict`.

        Raises:
            ToolError: The data is not a saved session.
        """
        self._history.restore(data)

    async def aclose(self) -> None:
        """Close the search provider and the page source, if they can be closed."""
        for part in dict.fromkeys((self._provider, *self._sources)):
            close = getattr(part, "aclose", None)
            if close is not None:
                await close()

    # --- What the model calls ---------------------------------------------------------------

    async def search(
        self, query: str, topn: float | None = 10, source: str | None = None, **_: object
    ) -> str:
        """Search, and show the results.

        Args:
            query: The query.
            topn: The number of results.
            source: Ignored; there is a single source.

        Raises:
            BrowserError: There is no search provider, or the search failed.
        """
        del source
        if self._provider is None:
            raise BrowserError(
                "there is no search here; open and find work, with URLs that you know"
            )
        query = whole_characters(query)
        if not query.strip():
            raise BrowserArgumentsError("search needs a query")
        wanted = _whole(topn, "topn")
        count = min(max(wanted or 10, 1), self._max_results)
        results = await self._provider.search(query, count)
        return self._show(results_page(query, results[:count]), 0, None)

    async def open(
        self,
        id: float | str | None = -1,  # noqa: A002 - the name that the model uses
        cursor: float | None = -1,
        loc: float | None = -1,
        num_lines: float | None = -1,
        view_source: bool | None = False,
        source: str | None = None,
        **_: object,
    ) -> str:
        """Open a link, a URL, or another place of a page, and show it.

        Args:
            id: The number of a link on the page, or a URL; the default stays on the page.
            cursor: The page; by default the last one that was shown.
            loc: The first line to show.
            num_lines: The number of lines to show.
            view_source: Whether to show the source of the document.
            source: Ignored; there is a single source.

        Raises:
            BrowserError: The page, link or line does not exist, or the page cannot be loaded.
        """
        del source
        line, count = _whole(loc, "loc"), _whole(num_lines, "num_lines")
        target = self._target(id, _whole(cursor, "cursor"))
        page = target.page
        if page is None or view_source:
            page = await self._page_at(target.link.url, bool(view_source))
        if line is None:
            line = 0 if view_source else await _line_of(target.link, page)
        return self._show(page, line, count)

    async def find(self, pattern: str, cursor: float | None = -1, **_: object) -> str:
        """Show the places of a page that contain a text.

        Args:
            pattern: The text.
            cursor: The page; by default the last one that was shown.

        Raises:
            BrowserError: The page does not exist, or the text is empty.
        """
        page = self._history.page(_whole(cursor, "cursor"))
        # A search within the results of `find` searches the original page.
        found = await asyncio.to_thread(find_in_page, page.origin or page, str(pattern))
        return self._show(found, 0, None)

    # --- How it is done ---------------------------------------------------------------------

    def _show(self, page: Page, line: int, num_lines: int | None) -> str:
        """Show a page under a new cursor; a page that cannot be shown gets none."""
        tokens = self._max_view_tokens if num_lines else self._view_tokens
        cursor = len(self._history)
        view = render_view(page, cursor, line=line, num_lines=num_lines, tokens=tokens)
        self._history.push(page)
        return view

    def _target(self, link_id: float | str | None, cursor: int | None) -> _Target:
        """The target of a call of `open`."""
        if isinstance(link_id, str) and link_id.strip():
            number = _LINK_ID.fullmatch(link_id)
            if number is None:
                return _Target(Link(_completed(link_id.strip())))
            link_id = int(number[1])
        page = self._history.page(cursor)
        number_given = None if isinstance(link_id, str) else _whole(link_id, "id")
        if number_given is None:
            return _Target(Link(page.url), page)
        if number_given >= len(page.links):
            there = f"0 to {len(page.links) - 1}" if page.links else "none"
            raise BrowserArgumentsError(
                f"there is no link {number_given} on this page; links: {there}"
            )
        return _Target(page.links[number_given], page.origin)

    async def _page_at(self, url: str, view_source: bool) -> Page:
        if not url:
            raise BrowserArgumentsError("a list of results has no source to view")
        if url.startswith(_VIEW_SOURCE):
            url, view_source = url.removeprefix(_VIEW_SOURCE), True
        key = (url.partition("#")[0], view_source)
        page = self._cache.get(key)
        if page is None:
            document = await self._document(key[0])
            make = source_page if view_source else page_of_document
            page = await asyncio.to_thread(_made, make, document)
            self._cache.put(key, page)
        return page

    async def _document(self, url: str) -> Document:
        for source in self._sources:
            document = await source.fetch(url)
            if document is not None:
                return document
        raise BrowserError(f"{clean_line(url, 300)} cannot be found")


class _Target(NamedTuple):
    """The target of a call of `open`: a URL, and the page if it was shown before."""

    link: Link
    page: Page | None = None


async def _line_of(link: Link, page: Page) -> int:
    """The line to show first: slightly above the target of a link."""
    line = link.line
    if line is None and link.passage:
        line = await asyncio.to_thread(line_of_passage, page, link.passage[:_MAX_PASSAGE])
    return 0 if line is None else max(0, line - _LINES_BEFORE)


def _made(make: Callable[[Document], Page], document: Document) -> Page:
    """A page with its lines, both of which take time to compute."""
    page = make(document)
    assert page.lines
    return page


def _with_function(tool: Tool, function: Callable[..., Any]) -> Tool:
    return Tool(tool.name, tool.description, tool.parameters, function=function)


def _whole(value: float | None, name: str) -> int | None:
    """An integer from `3` or `3.0`; `None` and negative numbers mean the default."""
    if value is None or value < 0:
        return None
    if not math.isfinite(value) or value != int(value):
        raise BrowserArgumentsError(f"{name} is {value}; expected a whole number")
    return int(value)


def _completed(url: str) -> str:
    """A URL that the model wrote with or without its scheme."""
    return url if _SCHEME.match(url) else f"https://{url.removeprefix('//')}"


class _Cache:
    """Recently loaded pages; the least recently used are evicted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pages: OrderedDict[tuple[str, bool], tuple[float, Page]] = OrderedDict()

    def get(self, key: tuple[str, bool]) -> Page | None:
        loaded, page = self._pages.get(key, (-math.inf, None))
        if page is None or time.monotonic() - loaded > self._seconds:
            return None
        self._pages.move_to_end(key)
        return page

    def put(self, key: tuple[str, bool], page: Page) -> None:
        self._pages[key] = (time.monotonic(), page)
        self._pages.move_to_end(key)
        while len(self._pages) > _CACHED_PAGES:
            self._pages.popitem(last=False)
