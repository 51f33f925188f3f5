"""The addresses that the browser may connect to.

A page may link to any address, and a model that was misled by a page may open any. Addresses
outside the public internet are refused unless the user allows them. The addresses that a name
resolves to are checked, not the name, and the connection goes to the checked address.
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
"""Resolves a host name and a port to addresses, as text."""

PORTS: Final = frozenset({80, 443, 8000, 8008, 8080, 8443, 8888})
"""The ports of web servers; other ports belong to other services."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
# Ranges that the ipaddress module of some Python versions considers public.
_NOT_PUBLIC: Final = (
    IPv4Network("168.63.129.16/32"),  # a cloud provider's internal service
    IPv4Network("192.88.99.0/24"),
    IPv6Network("::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("fec0::/10"),
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
)


async def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses of a host, from the operating system.

    Raises:
        OSError: The host is unknown.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address, and the IPv4 address embedded in it, are on the public internet."""
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which a gateway or the system would connect instead."""
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
                f"allow: {entry!r} is not a host, host:port, address or network such as 10.0.0.0/8"
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
    """The addresses that may be connected to.

    Args:
        allow: Exceptions outside the public internet: hosts (`"wiki.corp"`), addresses and
            networks (`"10.1.0.0/16"`), hosts and addresses with a port (`"127.0.0.1:8000"`). An
            entry without a port allows every port.
        ports: The allowed ports of public addresses; `None` for all.
        resolve: Resolves names; defaults to the operating system.

    Raises:
        ToolError: An entry cannot be parsed.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        ports: Collection[int] | None = PORTS,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        if isinstance(allow, str):
            raise ToolError("allow is a string; expected a list of hosts")
        self._allowed = tuple(map(_Allowed.parse, allow))
        self._ports = ports
        self._resolve = resolve

    async def addresses(self, url: httpx.URL) -> list[str]:
        """The checked addresses to which a request may be sent.

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
        """Refuse a host if any of its addresses is refused: mixing them is a known attack."""
        if any(entry.covers(host, address, port) for entry in self._allowed):
            return
        if not is_public(address):
            raise BrowserError(f"{shown} is not on the public internet; it is not opened")
        if self._ports is not None and port not in self._ports:
            raise BrowserError(f"port {port} is not a port of web servers; {shown} is not opened")


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise OSError(f"no address: {text!r}") from error
