"""Search over files or given pages with SQLite's full-text index, ranked by BM25."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ...errors import ToolError
from ._charsets import decode_document
from ._document import Document
from ._document_page import page_of_document
from ._errors import BrowserError
from ._marks import without_links
from ._search_provider import SearchResult

_MEDIA_TYPES: Final = {
    ".htm": "text/html",
    ".html": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".json": "application/json",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".rst": "text/plain",
    ".txt": "text/plain",
}

# Scripts without spaces between words. The index cannot split them into words, so both the index
# and queries use pairs of adjacent characters instead.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]+"
)
_TERM: Final = re.compile(r"\w+")
_MAX_TERMS: Final = 64
_SNIPPET: Final = 240  # characters
_TITLE_WEIGHT: Final = 4.0  # a word in a title counts like four in the text


class LocalSearch:
    """Searches and opens given pages.

    Args:
        documents: The pages. Their URLs can have any scheme; these URLs are served from here
            instead of the web.

    Raises:
        ToolError: Two documents have the same URL, or this Python's SQLite lacks FTS5.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents: dict[str, Document] = {}
        self._lock = threading.Lock()
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._index.execute(
                "CREATE VIRTUAL TABLE pages USING fts5(title_words, text_words, "
                "url UNINDEXED, title UNINDEXED, text UNINDEXED, "
                "tokenize = 'porter unicode61 remove_diacritics 2')"
            )
        except sqlite3.OperationalError as error:
            raise ToolError(f"local search needs SQLite with FTS5: {error}") from error
        for document in documents:
            self._add(document)

    @classmethod
    def from_folder(
        cls, folder: str | Path, pattern: str = "**/*", *, base_url: str = "local:///"
    ) -> LocalSearch:
        """Index the HTML, Markdown, JSON and text files of a folder.

        The files are read once, by this call.

        Args:
            folder: The folder.
            pattern: The files, as for `Path.glob`. Hidden files are left out.
            base_url: The prefix of a file's URL, before its path within the folder, such as the URL
                where the folder is published. Citations contain it.

        Raises:
            ToolError: The folder does not exist, or contains no readable file.
        """
        return cls(_documents_of(Path(folder), pattern, base_url))

    async def search(self, query: str, topn: int) -> Sequence[SearchResult]:
        """Find pages that contain any word of the query; see `SearchProvider`.

        Args:
            query: Words; there is no query syntax.
            topn: The maximum number of results.
        """
        return await asyncio.to_thread(self._search, query, topn)

    async def fetch(self, url: str) -> Document | None:
        """Load a page; see `PageSource`.

        Raises:
            BrowserError: The URL is one of a local page, but the page does not exist.
        """
        found = self._documents.get(url) or self._documents.get(url.partition("#")[0])
        if found is None and url.startswith("local:"):
            raise BrowserError(f"there is no page {url}")
        return found

    async def aclose(self) -> None:
        """Delete the index."""
        with self._lock:
            self._index.close()

    def _add(self, document: Document) -> None:
        if document.url in self._documents:
            raise ToolError(f"two pages have the address {document.url}")
        page = page_of_document(document)
        text = without_links(page.text)
        self._documents[document.url] = document
        row = (_indexed(page.title), _indexed(text), page.url, page.title, text)
        self._index.execute("INSERT INTO pages VALUES (?, ?, ?, ?, ?)", row)

    def _search(self, query: str, topn: int) -> list[SearchResult]:
        terms = _terms(query)
        if not terms:
            return []
        match = " OR ".join(f'"{term}"' for term in terms)
        with self._lock, _told_when_closed():
            rows = self._index.execute(
                "SELECT url, title, text FROM pages WHERE pages MATCH ? "
                f"ORDER BY bm25(pages, {_TITLE_WEIGHT}, 1.0) LIMIT ?",
                (match, topn),
            ).fetchall()
        return [SearchResult(url, title, _snippet(text, terms)) for url, title, text in rows]


@contextmanager
def _told_when_closed() -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise BrowserError("the local search is closed") from error


def _documents_of(folder: Path, pattern: str, base_url: str) -> Iterator[Document]:
    if not folder.is_dir():
        raise ToolError(f"there is no folder {folder}")
    count = 0
    for path in sorted(folder.glob(pattern)):
        place = path.relative_to(folder)
        media_type = _MEDIA_TYPES.get(path.suffix.lower())
        if media_type is None or not path.is_file() or any(p.startswith(".") for p in place.parts):
            continue
        count += 1
        url = base_url + quote(place.as_posix())
        yield Document(url, decode_document(path.read_bytes(), None), media_type)
    if not count:
        raise ToolError(f"there is no file in {folder} that local search can read")


def _terms(query: str) -> list[str]:
    """The words of a query as in the index; pairs become phrases."""
    words = (word for chunk in _TERM.findall(query) for word in _words(chunk))
    return list(dict.fromkeys(words))[:_MAX_TERMS]


def _words(chunk: str) -> Iterator[str]:
    start = 0
    for run in _UNSPACED.finditer(chunk):
        if start < run.start():
            yield chunk[start : run.start()]
        yield from _pairs(run[0])
        start = run.end()
    if start < len(chunk):
        yield chunk[start:]


def _pairs(run: str) -> list[str]:
    return [run[index : index + 2] for index in range(max(1, len(run) - 1))]


def _indexed(text: str) -> str:
    return _UNSPACED.sub(lambda run: f" {' '.join(_pairs(run[0]))} {run[0][-1]} ", text)


def _snippet(text: str, terms: Sequence[str]) -> str:
    """The part of a text with the most terms."""
    found = re.compile("|".join(map(re.escape, terms)), re.IGNORECASE)
    places = [(match.start(), match[0].lower()) for match in found.finditer(text)]
    best, most, first = 0, 0, 0
    counts: dict[str, int] = {}
    for start, term in places:
        counts[term] = counts.get(term, 0) + 1
        while start - places[first][0] > _SNIPPET:
            early = places[first][1]
            counts[early] -= 1
            if not counts[early]:
                del counts[early]
            first += 1
        if len(counts) > most:
            most, best = len(counts), places[first][0]
    before = max(0, best - _SNIPPET // 4)
    start = max(text.rfind("\n", before, best), text.rfind(". ", before, best)) + 1 or best
    return " ".join(text[start : start + _SNIPPET].split())
