"""HTTP clients that live as long as their event loops."""

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
        asking: Held by whoever asks the server what it is.
        lifetime: Closes the client when it is closed itself.
    """

    client: httpx.AsyncClient
    asking: asyncio.Lock
    lifetime: AsyncGenerator[httpx.AsyncClient, None]


class LoopClients:
    """One HTTP client for each event loop, as connections live and die with theirs.

    Every `harmony_kit.run` has an event loop of its own. Before such a loop is closed, asyncio
    closes the asynchronous generators that were begun in it; here each client belongs to one, and
    is closed with it, in the only loop that can do that.

    Args:
        make: Makes a client.
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
        """Close the clients of this loop, and of loops that run in other threads.

        That of a loop which does not run at the moment is closed when the loop ends.
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
        """Let go of loops that were closed without their generators."""
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)


async def _close_in(
    loop: asyncio.AbstractEventLoop, lifetime: AsyncGenerator[httpx.AsyncClient, None]
) -> None:
    async def close() -> None:
        with suppress(RuntimeError):  # the loop is ending, and closes it just now
            await lifetime.aclose()

    closing = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(close(), loop))
    # Not for ever: a loop that is ending may not get to it, and need not.
    await asyncio.wait([closing], timeout=_SECONDS_TO_CLOSE)
