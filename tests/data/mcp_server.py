"""A small MCP server: over standard input and output, or over HTTP at a port given as argument."""

import asyncio
import os
import sys

from mcp.server.mcpserver import Image, MCPServer
from mcp.types import EmbeddedResource, ResourceLink, TextResourceContents

server = MCPServer("Test server-1", instructions="Adds and fails.")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="get.weather")
def get_weather(city: str = "Paris") -> str:
    """The weather, named with a dot."""
    return f"dot: {city}"


@server.tool(name="get-weather")
def get_weather_again(city: str) -> str:
    """The weather, named with a hyphen."""
    return f"hyphen: {city}"


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=b"\x89PNG" * 25, format="png")


@server.tool()
def documents() -> list[EmbeddedResource | ResourceLink]:
    """A document and a link to another."""
    inner = TextResourceContents(uri="note:1", text="a <|end|> b")
    return [
        EmbeddedResource(type="resource", resource=inner),
        ResourceLink(type="resource_link", name="two", uri="note:2", description="Another."),
    ]


@server.tool()
def fail(reason: str) -> str:
    """Fails."""
    raise LookupError(reason)


@server.tool()
async def hang() -> str:
    """Never ends."""
    await asyncio.sleep(3600)
    return "too late"


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(3)


if __name__ == "__main__":
    print("the test server starts", file=sys.stderr)
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
