"""Loading documents from the web, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from ...errors import ToolError
from ._addresses import PORTS, AddressPolicy, Resolve, resolve_by_system
from ._body import ACCEPT_ENCODING, read_body
from ._charsets import decode_document
from ._document import Document
from ._errors import BrowserError, required
from ._marks import clean_line

if TYPE_CHECKING:
    import ssl

    import httpx

_CONNECT_SECONDS: Final = 10.0
_MAX_SHOWN: Final = 300  # characters of an address in an error
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_TEXT: Final = frozenset({"application/json", "application/xml", "application/javascript"})
_TEXT_SUFFIXES: Final = ("+json", "+xml")
_ACCEPT: Final = (
    "text/html,application/xhtml+xml,text/markdown,text/plain,application/json,*/*;q=0.1"
)


class WebFetcher:
    """Loads documents over http and https.

    No connection stays open between two documents, so it can be used from any event loop. Cookies
    are not kept, and the proxies of the environment are not used.

    Args:
        allow: Exceptions outside the public internet: hosts (`"wiki.corp"`), addresses and networks
            (`"10.1.0.0/16"`), hosts and addresses with a port (`"127.0.0.1:8000"`). An entry
            without a port allows every port.
        ports: The allowed ports of public addresses; `None` for all.
        max_bytes: The maximum size of a document in bytes, compressed and decompressed.
        timeout: The maximum time to load a document, in seconds.
        max_redirects: The maximum number of redirects. Each is checked like the first URL.
        user_agent: The User-Agent header.
        resolve: Resolves names; defaults to the operating system.

    Raises:
        ToolError: httpx is not installed, or an argument is invalid.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        ports: Collection[int] | None = PORTS,
        max_bytes: int = 3_000_000,
        timeout: float = 20.0,
        max_redirects: int = 10,
        user_agent: str = "harmony-kit-browser",
        resolve: Resolve = resolve_by_system,
    ) -> None:
        required("httpx")
        if max_bytes <= 0 or timeout <= 0 or max_redirects < 0:
            raise ToolError("max_bytes and timeout must be positive, max_redirects not negative")
        self._policy = AddressPolicy(allow, ports, resolve)
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._max_redirects = max_redirects
        self._headers = {
            "User-Agent": user_agent,
            "Accept": _ACCEPT,
            "Accept-Encoding": ACCEPT_ENCODING,
        }
        self._certificates: ssl.SSLContext | None = None  # slow to load, and usable in any loop

    async def fetch(self, url: str) -> Document:
        """Load a document; see `PageSource`.

        Raises:
            BrowserError: It cannot be loaded, or is not allowed.
        """
        import httpx

        shown = clean_line(url, _MAX_SHOWN)
        try:
            async with asyncio.timeout(self._timeout), self._client() as client:
                return await self._load(client, httpx.URL(url))
        except TimeoutError as error:
            raise BrowserError(f"{shown} took longer than {self._timeout:g} s to load") from error
        except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise BrowserError(f"{shown} is not a URL: {_what_failed(error)}") from error
        except httpx.HTTPError as error:
            raise BrowserError(f"{shown} cannot be loaded: {_what_failed(error)}") from error

    def _client(self) -> httpx.AsyncClient:
        import httpx

        if self._certificates is None:
            self._certificates = httpx.create_ssl_context()
        return httpx.AsyncClient(
            transport=_checked_transport(self._policy, self._certificates),
            headers=self._headers,
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS)),
            trust_env=False,
        )

    async def _load(self, client: httpx.AsyncClient, url: httpx.URL) -> Document:
        response = await self._follow(client, url)
        try:
            return await self._read(response)
        finally:
            await response.aclose()

    async def _follow(self, client: httpx.AsyncClient, url: httpx.URL) -> httpx.Response:
        """The first response that is not a redirect. The bodies of redirects are not read."""
        request = client.build_request("GET", url)
        for _ in range(self._max_redirects + 1):
            response = await client.send(request, stream=True, follow_redirects=False)
            if response.next_request is None:
                return response
            await response.aclose()
            request = response.next_request
        raise BrowserError(f"{url} redirects more than {self._max_redirects} times")

    async def _read(self, response: httpx.Response) -> Document:
        url = str(response.url)
        if not response.is_success:
            reason = clean_line(response.reason_phrase, 100)
            raise BrowserError(
                f"{url}: the server answered {response.status_code} {reason}".rstrip()
            )
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        _refuse_unreadable(url, media_type)
        encoding = response.headers.get("content-encoding", "")
        data, truncated = await read_body(response.aiter_raw(), encoding, self._max_bytes)
        text = decode_document(data, response.charset_encoding)
        _refuse_binary(url, text)
        return Document(url, text, media_type or _guess(text), truncated=truncated)


def _checked_transport(policy: AddressPolicy, certificates: ssl.SSLContext) -> Any:
    """A transport that sends each request to a checked address."""
    import httpx

    class CheckedTransport(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            # Connections are pooled by address and must not be reused for another host.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._inner = httpx.AsyncHTTPTransport(
                verify=certificates, trust_env=False, limits=limits
            )

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            addresses = await policy.addresses(request.url)
            for address in addresses[:-1]:
                try:
                    return await self._inner.handle_async_request(_sent_to(request, address))
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
            return await self._inner.handle_async_request(_sent_to(request, addresses[-1]))

        async def aclose(self) -> None:
            await self._inner.aclose()

    return CheckedTransport()


def _sent_to(request: httpx.Request, address: str) -> httpx.Request:
    """The request, sent to an address; its Host header and certificate check use the host name."""
    import httpx

    host = request.url.raw_host.decode("ascii")
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


def _what_failed(error: Exception) -> str:
    said = clean_line(str(error), 300)
    return said or type(error).__name__


def _refuse_unreadable(url: str, media_type: str) -> None:
    readable = (
        not media_type
        or media_type.startswith("text/")
        or media_type in _TEXT
        or media_type.endswith(_TEXT_SUFFIXES)
    )
    if readable:
        return
    kind = "a PDF document" if media_type == "application/pdf" else f"of type {media_type[:100]}"
    raise BrowserError(f"{url} is {kind}; only HTML and text can be read")


def _refuse_binary(url: str, text: str) -> None:
    """Refuse binary data that the server labels as text or does not label."""
    if text.startswith("%PDF-"):
        raise BrowserError(f"{url} is a PDF document; only HTML and text can be read")
    if "\0" in text[:1024]:
        raise BrowserError(f"{url} is not text; only HTML and text can be read")


def _guess(text: str) -> str:
    """The media type of a document without a Content-Type."""
    return "text/html" if text.lstrip()[:1] == "<" else "text/plain"


def is_html(media_type: str) -> bool:
    """Whether a document is HTML."""
    return media_type in _HTML
