"""A connection to an MCP server, in its own thread with its own event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..errors import ToolError
from ._results import error_text

if TYPE_CHECKING:
    import asyncio

    import mcp

_Result = TypeVar("_Result")

_MAX_LOG: Final = 4000
"""The number of bytes of a server's standard error that are kept."""


class Server(NamedTuple):
    """The address of a server.

    Attributes:
        target: A command as a tuple, a URL, or another argument of `mcp.Client`.
        environment: Environment variables for a command.
        folder: The working directory of a command.
        headers: HTTP headers for a URL.
    """

    target: Any
    environment: dict[str, str] | None = None
    folder: str | None = None
    headers: dict[str, str] | None = None

    def __str__(self) -> str:
        target = self.target
        return " ".join(target) if isinstance(target, tuple) else str(target)


class Connection:
    """A connection that is open until it is closed or the server exits.

    Args:
        timeout: The maximum time to connect, in seconds.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._log = _Log()
        self._calls: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._client: mcp.Client
        self.ready: Future[tuple[mcp.Client, list[mcp.types.Tool]]] = Future()
        """The client and the server's tools, once connected."""
        self._closing: Future[None] = Future()
        self.ended: Future[None] = Future()
        """Done once nothing is running any more."""
        self._thread = threading.Thread(target=self._work, name="harmony-kit mcp", daemon=True)
        self._thread.start()

    # From any thread

    def submit(self, ask: Callable[[mcp.Client], Awaitable[_Result]]) -> Future[_Result]:
        """Call `ask` with the client in the connection's thread.

        Raises:
            ToolError: The connection is closed.
        """
        import asyncio

        asking = self._tracked(ask)
        try:
            if self.is_closed:
                raise RuntimeError
            return asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # also if the event loop has ended meanwhile
            asking.close()
            raise ToolError(f"the MCP server {self._server} is closed") from None

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed or closing."""
        return self._closing.done() or self.ended.done()

    def close(self) -> None:
        """Start closing the connection; `ended` is done when it is closed."""
        if not self._closing.done():
            self._closing.set_result(None)

    def join(self) -> None:
        """Wait for the thread, which ends right after `ended`."""
        self._thread.join()

    # In the thread

    def _work(self) -> None:
        import asyncio

        try:
            asyncio.run(self._connected())
        except BaseException as error:
            if not self.ready.done():
                self.ready.set_exception(self._failure(error))
        finally:
            self._log.close()
            self._closing.cancel()
            self.ended.set_result(None)

    def _failure(self, error: BaseException) -> ToolError:
        took_too_long = isinstance(error, TimeoutError) and not str(error)
        reason = f"no answer within {self._timeout:g} seconds" if took_too_long else _said(error)
        log = self._log.text()
        return ToolError(f"MCP server {self._server}: {reason}{log and f'; it wrote: {log}'}")

    async def _connected(self) -> None:
        """Connect, and stay connected until the connection is to be closed."""
        import asyncio

        leave = asyncio.Event()
        living = asyncio.create_task(self._live(leave))
        closing = asyncio.wrap_future(self._closing)
        await asyncio.wait({living, closing}, return_when=asyncio.FIRST_COMPLETED)
        if self.ready.done():
            leave.set()
        else:
            living.cancel()
        await living

    async def _live(self, leave: asyncio.Event) -> None:
        import asyncio

        async with asyncio.timeout(self._timeout) as limit, self._opened() as client:
            tools = await _listed(client)
            self._log.hand_over()
            self._loop = asyncio.get_running_loop()
            self._client = client
            self.ready.set_result((client, tools))
            limit.reschedule(None)
            await leave.wait()
            for call in self._calls:
                call.cancel()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[mcp.Client]:
        try:
            from mcp import Client, StdioServerParameters, stdio_client
            from mcp.client.streamable_http import streamable_http_client
        except ImportError as error:
            raise ToolError(
                "MCP servers need version 2 of the package mcp: pip install 'harmony-kit[mcp]'"
            ) from error
        target, environment, folder, headers = self._server
        if isinstance(target, tuple):
            command, *arguments = target
            parameters = StdioServerParameters(
                command=command, args=arguments, env=environment, cwd=folder
            )
            target = stdio_client(parameters, errlog=self._log.file)  # type: ignore[arg-type]
        if headers is None:
            async with Client(target) as client:
                yield client
            return
        import httpx2

        # The timeouts are the defaults of mcp: servers may keep a response open.
        timeout = httpx2.Timeout(30, read=300)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
            Client(streamable_http_client(target, http_client=http)) as client,
        ):
            yield client

    async def _tracked(self, ask: Callable[[mcp.Client], Awaitable[_Result]]) -> _Result:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await ask(self._client)
        finally:
            self._calls.discard(task)


async def _listed(client: mcp.Client) -> list[mcp.types.Tool]:
    """All tools of a server, from every page of its list."""
    tools: list[mcp.types.Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            return tools


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, ToolError) else error_text(error)


class _Log:
    """The last bytes of a server's standard error, for the error if it does not start."""

    def __init__(self) -> None:
        self._end = b""
        read, write = os.pipe()
        self.file = os.fdopen(write, "wb")
        self._thread = threading.Thread(
            target=self._read, args=(read,), name="harmony-kit mcp log", daemon=True
        )
        self._thread.start()

    def _read(self, pipe: int) -> None:
        with os.fdopen(pipe, "rb", buffering=0) as output:
            while data := output.read(65536):
                self._end = (self._end + data)[-_MAX_LOG:]

    def hand_over(self) -> None:
        """Leave the file to the server; it is read until the server exits."""
        self.file.close()

    def close(self) -> None:
        """Read the rest; child processes of the server may still hold the file open."""
        self.file.close()
        self._thread.join(timeout=1)

    def text(self) -> str:
        """The bytes kept so far, as text."""
        self.close()
        return self._end.decode("utf-8", "replace").strip()
