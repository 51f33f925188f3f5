"""The built-in tool `browser`: searching, opening, reading and citing pages."""

from ._citations import (
    Citation,
    CitationStream,
    ResolvedText,
    UnresolvedCitation,
    resolve_citations,
)
from ._document import Document, PageSource
from ._errors import BrowserArgumentsError, BrowserError
from ._fetching import WebFetcher
from ._http_search import HttpSearch
from ._local_search import LocalSearch
from ._page import Link, Page
from ._search_provider import SearchProvider, SearchResult
from ._tool import BrowserTool

__all__ = [
    "BrowserArgumentsError",
    "BrowserError",
    "BrowserTool",
    "Citation",
    "CitationStream",
    "Document",
    "HttpSearch",
    "Link",
    "LocalSearch",
    "Page",
    "PageSource",
    "ResolvedText",
    "SearchProvider",
    "SearchResult",
    "UnresolvedCitation",
    "WebFetcher",
    "resolve_citations",
]
