"""The built-in tool `browser`: searching, opening and reading pages, and citing them."""

from .citations import (
    Citation,
    CitationStream,
    ResolvedText,
    UnresolvedCitation,
    resolve_citations,
)
from .document import Document, PageSource
from .errors import BrowserArgumentsError, BrowserError
from .fetching import WebFetcher
from .http_search import HttpSearch
from .local_search import LocalSearch
from .page import Link, Page
from .search_provider import SearchProvider, SearchResult
from .tool import BrowserTool

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
