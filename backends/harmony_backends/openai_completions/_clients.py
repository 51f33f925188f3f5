"""HTTP clients, one for each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import httpx

_SECONDS_TO_CLOSE: Final = 1.0


class LoopClient(NamedTuple):
    """The client of one event loop.

    Attributes:
        client: The client.
        asking: Held while the server is asked what it is.
        lifetime: Closes the client when it is closed itself.
    """

    client: httpx.AsyncClient
    asking: asyncio.Lock
    lifetime: AsyncGenerator[httpx.AsyncClient, None]


class LoopClients:
    """One HTTP client for each event loop, since connections are bound to an event loop.

    Every `harmony_kit.run` has its own event loop. Before asyncio closes a loop, it closes the
    asynchronous generators that were started in it. Each client belongs to such a generator, so
    that it is closed with its loop, and in its loop.

    Args:
        make: Creates a client.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._clients: dict[asyncio.AbstractEventLoop, LoopClient] = {}

    async def get(self) -> LoopClient:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            self._forget_closed_loops()
            lifetime = self._lifetime(loop)
            found = LoopClient(await anext(lifetime), asyncio.Lock(), lifetime)
            self._clients[loop] = found
        return found

    async def aclose(self) -> None:
        """Close the clients of this loop, and of the loops that run in other threads.

        The client of a loop that is not running is closed when the loop ends.
        """
        here = asyncio.get_running_loop()
        for loop, found in list(self._clients.items()):
            if loop is here:
                await found.lifetime.aclose()
            elif loop.is_running():
                await _close_in(loop, found.lifetime)
        self._forget_closed_loops()

    async def _lifetime(
        self, loop: asyncio.AbstractEventLoop
    ) -> AsyncGenerator[httpx.AsyncClient, None]:
        client = self._make()
        try:
            yield client
        finally:
            self._clients.pop(loop, None)
            await client.aclose()

    def _forget_closed_loops(self) -> None:
        """Drop loops that were closed without closing their generators."""
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)


async def _close_in(
    loop: asyncio.AbstractEventLoop, lifetime: AsyncGenerator[httpx.AsyncClient, None]
) -> None:
    async def close() -> None:
        with suppress(RuntimeError):  # the loop is ending, and is closing it right now
            await lifetime.aclose()

    closing = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(close(), loop))
    # With a timeout: a loop that is ending may never run this, and closes the client itself.
    await asyncio.wait([closing], timeout=_SECONDS_TO_CLOSE)
