"""A search provider for services that answer with JSON."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from ...errors import ToolError
from ._body import ACCEPT_ENCODING, read_body
from ._errors import BrowserError, required
from ._search_provider import SearchResult

_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_MAX_BYTES: Final = 4_000_000


class HttpSearch:
    """Searches through a JSON service.

    Paths to fields of the response are names and positions separated by dots, such as
    `"data.results"` or `"links.0.href"`.

    Args:
        url: The URL of the service. It is chosen by the user, so private addresses are allowed.
        query_field: The name of the parameter for the query.
        count_field: The name of the parameter for the number of results; `None` to omit it.
        parameters: Further parameters of every search.
        method: `"GET"` sends the parameters in the URL, `"POST"` as a JSON object.
        headers: Headers, such as one with a key. They appear in no message.
        results: The path of the list of results; empty if the response is the list.
        result_url: The path of the URL within a result.
        result_title: The path of the title within a result.
        result_snippet: The path of the summary within a result. Markup is removed.
        timeout: The maximum time of a search, in seconds.

    Raises:
        ToolError: httpx is not installed, or an argument is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        query_field: str = "q",
        count_field: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        method: Literal["GET", "POST"] = "GET",
        headers: Mapping[str, str] | None = None,
        results: str = "results",
        result_url: str = "url",
        result_title: str = "title",
        result_snippet: str = "snippet",
        timeout: float = 20.0,
    ) -> None:
        required("httpx")
        if method not in ("GET", "POST"):
            raise ToolError(f"method is {method!r}; expected 'GET' or 'POST'")
        if any(not re.fullmatch(r"[ -~]*", value) for value in (headers or {}).values()):
            raise ToolError(
                "headers contains a value with characters that HTTP headers do not allow"
            )
        self._url = url
        self._query_field = query_field
        self._count_field = count_field
        self._parameters = dict(parameters or {})
        self._method = method
        self._headers = {**(headers or {}), "Accept-Encoding": ACCEPT_ENCODING}
        self._results = results
        self._fields = (result_url, result_title, result_snippet)
        self._timeout = timeout

    async def search(self, query: str, topn: int) -> Sequence[SearchResult]:
        """Find pages; see `SearchProvider`.

        Raises:
            BrowserError: The service cannot be reached, or its response contains no results.
        """
        answer = await self._ask(query, topn)
        found = _at(answer, self._results)
        if not isinstance(found, list):
            raise BrowserError(f"the answer of the search has no list at {self._results!r}")
        results = [self._result(item) for item in found]
        return [result for result in results if result.url][:topn]

    async def _ask(self, query: str, topn: int) -> Any:
        import httpx

        parameters = {**self._parameters, self._query_field: query}
        if self._count_field is not None:
            parameters[self._count_field] = topn
        sent: dict[str, Any] = {"params" if self._method == "GET" else "json": parameters}
        try:
            async with (
                asyncio.timeout(self._timeout),
                httpx.AsyncClient(timeout=self._timeout, follow_redirects=False) as client,
                client.stream(self._method, self._url, headers=self._headers, **sent) as response,
            ):
                if not response.is_success:
                    raise BrowserError(f"the search failed: status {response.status_code}")
                encoding = response.headers.get("content-encoding", "")
                body, truncated = await read_body(response.aiter_raw(), encoding, _MAX_BYTES)
        except TimeoutError as error:
            raise BrowserError(f"the search took longer than {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The text of the error may contain the URL, which may contain a key.
            raise BrowserError(f"the search failed: {type(error).__name__}") from None
        if truncated:
            raise BrowserError("the answer of the search is too long")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BrowserError("the answer of the search is not JSON") from error

    def _result(self, item: Any) -> SearchResult:
        url, title, snippet = (_text(_at(item, path)) for path in self._fields)
        return SearchResult(url, _without_markup(title), _without_markup(snippet))


def _at(value: Any, path: str) -> Any:
    """The value at a path, or `None`."""
    for name in filter(None, path.split(".")):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " … ".join(item for item in value if isinstance(item, str))
    return value if isinstance(value, str) else ""


def _without_markup(text: str) -> str:
    return html.unescape(_TAG.sub("", text))
