"""The tools of an MCP server, through the official `mcp` package.

The connection runs in its own thread. It can therefore be used from any task of any event loop,
from several at once or without an event loop, and closed from anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from .._options import checked_options
from ..errors import ToolError
from ..wire._contents import Tool, ToolNamespace
from ._mcp_connection import Connection, Server
from ._models import without_made_up_titles
from ._names import identifier, identifiers
from ._results import ToolResult
from ._source import full_name

if TYPE_CHECKING:
    import mcp


class McpTools:
    """The tools of an MCP server, as a source for a `Toolbox` or a run.

    Open it with `with` or `async with`; both work for `run` and `arun`:

        with McpTools(["python", "server.py"]) as files:
            reply = hk.run(conversation, backend, tools=[files])

    Tool names that are not TypeScript identifiers are replaced in the prompt; calls to the server
    use the original names. A server's descriptions become part of the prompt: connect only to
    servers that you trust.

    Args:
        server: The command that starts a server, as a list, to communicate over its standard input
            and output; the URL of a server that speaks streamable HTTP; or any other argument of
            `mcp.Client`, such as a transport or a server object in this process.
        namespace: The name of the tools' namespace; defaults to the server's name for itself. With
            `"functions"`, the tools are declared among other functions.
        only: The server's names of the tools to use; all by default.
        environment: For a command: environment variables to set in addition to the few that are
            passed on.
        folder: For a command: its working directory.
        headers: For a URL: HTTP headers, such as one that authorizes.
        timeout: The maximum time to connect and list the tools, in seconds.

    Raises:
        ToolError: `environment`, `folder` or `headers` do not apply to the server.
    """

    is_builtin = False

    @checked_options
    def __init__(
        self,
        server: Sequence[str] | Any,
        *,
        namespace: str | None = None,
        only: Iterable[str] | None = None,
        environment: Mapping[str, str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        is_command = isinstance(server, list | tuple)
        if not is_command and (environment is not None or folder is not None):
            raise ToolError("environment and folder are for a command that starts a server")
        if not isinstance(server, str) and headers is not None:
            raise ToolError("headers are for the URL of a server")
        self._server = Server(
            tuple(map(str, server)) if is_command else server,
            None if environment is None else dict(environment),
            None if folder is None else os.fspath(folder),
            None if headers is None else dict(headers),
        )
        self._wanted_name = namespace
        self._only = None if only is None else tuple(only)
        self._timeout = timeout
        self._connection: Connection | None = None
        self._namespace: ToolNamespace | None = None

    # The source protocol

    @property
    def namespace(self) -> ToolNamespace:
        """The declaration of the tools that the server had when it was opened.

        Raises:
            ToolError: It has not been opened.
        """
        if self._namespace is None:
            raise ToolError(f"the MCP server {self._server} is not open: use `with`")
        return self._namespace

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by full name.

        Raises:
            ToolError: It has not been opened.
        """
        namespace = self.namespace
        return MappingProxyType({full_name(namespace, tool): tool for tool in namespace.tools})

    # Opening and closing

    def open(self) -> None:
        """Connect and list the tools.

        Raises:
            ToolError: The server cannot be reached, does not answer in time or lacks a requested
                tool; or it is already open.
        """
        connection = self._connect()
        try:
            self._take(*connection.ready.result())
        except BaseException:
            self.close()
            raise

    async def aopen(self) -> None:
        """Like `open`, within an event loop.

        Raises:
            ToolError: As for `open`.
        """
        connection = self._connect()
        try:
            self._take(*await asyncio.shield(asyncio.wrap_future(connection.ready)))
        except BaseException:
            await self.aclose()
            raise

    def close(self) -> None:
        """Close the connection, and stop a server that was started; pending calls fail."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            connection.ended.result()
            connection.join()

    async def aclose(self) -> None:
        """Like `close`, within an event loop."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await asyncio.shield(asyncio.wrap_future(connection.ended))
            connection.join()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.aopen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _connect(self) -> Connection:
        if self._connection is not None:
            raise ToolError(f"the MCP server {self._server} is open already")
        self._connection = Connection(self._server, self._timeout)
        return self._connection

    def _take(self, client: mcp.Client, listed: Sequence[mcp.types.Tool]) -> None:
        assert self._connection is not None
        found = {tool.name: tool for tool in listed}
        for name in self._only or ():
            if name not in found:
                raise ToolError(f"the MCP server {self._server} has no tool {name}")
        taken = [found[name] for name in (found if self._only is None else self._only)]
        names = identifiers(tool.name for tool in taken)
        own_name = client.server_info.name if client.server_info is not None else "mcp"
        self._namespace = ToolNamespace(
            identifier(own_name) if self._wanted_name is None else self._wanted_name,
            tuple(_as_tool(tool, names[tool.name], self._connection) for tool in taken),
            client.instructions or None,
        )


def _as_tool(tool: mcp.types.Tool, name: str, connection: Connection) -> Tool:
    schema = without_made_up_titles(tool.input_schema)
    schema.pop("title", None)
    description = tool.description or tool.title or ""
    return Tool(name, description, schema, function=_calling(tool.name, connection))


def _calling(name: str, connection: Connection) -> Callable[..., Awaitable[ToolResult]]:
    async def call(**arguments: Any) -> ToolResult:
        asked = connection.submit(lambda client: client.call_tool(name, arguments))
        try:
            result = await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if connection.is_closed and task is not None and not task.cancelling():
                raise ToolError("the MCP server was closed during the call") from None
            raise
        parts = _parts(result)
        if result.is_error:
            raise ToolError("\n".join(parts) or "the MCP server reports an error")
        return ToolResult(parts, result)

    return call


# --- Results --------------------------------------------------------------------------------


def _parts(result: mcp.types.CallToolResult) -> tuple[str, ...]:
    """The parts of a result as text, which is all that the model can read."""
    parts = tuple(map(_part, result.content))
    if parts or result.structured_content is None:
        return parts
    return (json.dumps(result.structured_content, ensure_ascii=False),)


def _part(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type == "resource_link":
        return " ".join(filter(None, (f"[{block.name}: {block.uri}]", block.description)))
    if block.type == "resource":
        resource = block.resource
        if hasattr(resource, "text"):
            return str(resource.text)
        return _not_shown(f"{resource.uri}, {resource.mime_type or 'data'}", resource.blob)
    return _not_shown(block.mime_type, block.data)


_BASE64: Final = 3 / 4
"""Decoded bytes per character."""


def _not_shown(what: str, data: str) -> str:
    size = int(len(data.rstrip("=")) * _BASE64)
    return f"[{what}, {size:,} bytes: not shown]"
