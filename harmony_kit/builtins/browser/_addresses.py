"""Which addresses the browser may connect to.

A page may link to anything, and so may a model that a page has talked into something.
What is not on the public internet is refused unless the user allows it. Names say nothing:
the addresses that a name resolves to are checked, and the connection goes to the very
address that was checked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from ...errors import ToolError
from ._errors import BrowserError

if TYPE_CHECKING:
    import httpx

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host name and a port to addresses, as text."""

PORTS: Final = frozenset({80, 443, 8000, 8008, 8080, 8443, 8888})
"""Where web servers are; other ports are those of other services."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
# Ranges that the ipaddress of some Python versions takes for public.
_NOT_PUBLIC: Final = (
    IPv4Network("168.63.129.16/32"),  # a cloud's service for its own machines
    IPv4Network("192.88.99.0/24"),
    IPv6Network("::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("fec0::/10"),
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
)


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Ask the operating system for the addresses of a host.

    Args:
        host: A name or an address.
        port: The port.

    Raises:
        OSError: There is no such host.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the public internet, and so is the one that it may stand for.

    Args:
        address: The address.
    """
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which a gateway or the system itself would go instead."""
    if isinstance(address, IPv4Address):
        return None
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64[0]:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


@dataclass(frozen=True, slots=True)
class _Allowed:
    """One entry of an allow-list."""

    host: str | None
    network: IPv4Network | IPv6Network | None
    port: int | None

    @staticmethod
    def parse(entry: str) -> _Allowed:
        try:
            return _Allowed(None, ip_network(entry.strip("[]")), None)
        except ValueError:
            pass
        host, colon, port = entry.rpartition(":")
        if not colon:
            host, port = entry, ""
        if (port and not port.isdecimal()) or not host or "/" in host or "@" in host:
            raise ToolError(
                f"allow: {entry!r} is no host, host:port, address or network such as 10.0.0.0/8"
            )
        number = int(port) if port else None
        try:
            return _Allowed(None, ip_network(host.strip("[]")), number)
        except ValueError:
            return _Allowed(host.lower().rstrip("."), None, number)

    def covers(self, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.host is not None:
            return self.host == host
        return self.network is not None and address is not None and address in self.network


class AddressPolicy:
    """What may be connected to.

    Args:
        allow: What is allowed though it is not public: hosts (`"wiki.corp"`), addresses and
            networks (`"10.1.0.0/16"`), hosts and addresses with a port (`"127.0.0.1:8000"`). An
            entry without a port allows every port.
        ports: The ports that are allowed on public addresses; `None` for all.
        resolve: What resolves names; by default the operating system.

    Raises:
        ToolError: An entry cannot be read.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        ports: Collection[int] | None = PORTS,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        if isinstance(allow, str):
            raise ToolError("allow is a text; expected a list of hosts")
        self._allowed = tuple(map(_Allowed.parse, allow))
        self._ports = ports
        self._resolve = resolve

    async def addresses(self, url: httpx.URL) -> list[str]:
        """The addresses to which a request may be sent; each was checked.

        Args:
            url: The URL of the request.

        Raises:
            BrowserError: The URL is refused, or its host has no address.
        """
        if url.scheme not in _DEFAULT_PORTS:
            raise BrowserError(f"only http and https are opened, not {url.scheme or 'this'}: {url}")
        if url.userinfo:
            raise BrowserError("a URL with a user name or password in it is not opened")
        if not url.host:
            raise BrowserError(f"there is no host in {url}")
        host = url.raw_host.decode("ascii").lower().rstrip(".")
        port = url.port or _DEFAULT_PORTS[url.scheme]
        try:
            found = [_address(text) for text in await self._resolve(host, port)]
        except (OSError, UnicodeError) as error:
            raise BrowserError(f"the host {url.host} is not known") from error
        if not found:
            raise BrowserError(f"the host {url.host} is not known")
        for address in found:
            self._check(url.host, host, address, port)
        return [str(address) for address in found]

    def _check(self, shown: str, host: str, address: IPv4Address | IPv6Address, port: int) -> None:
        """Refuse a host one of whose addresses is refused: who mixes them is up to something."""
        if any(entry.covers(host, address, port) for entry in self._allowed):
            return
        if not is_public(address):
            raise BrowserError(f"{shown} is not on the public internet; it is not opened")
        if self._ports is not None and port not in self._ports:
            raise BrowserError(f"port {port} is not one of web pages; {shown} is not opened")


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise OSError(f"no address: {text!r}") from error
