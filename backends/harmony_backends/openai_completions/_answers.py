"""Reads the answer to a request: whole, or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import httpx
from httpx_sse import EventSource, SSEError

from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.errors import BackendError

from ._dialects import Dialect
from ._retry import server_message
from ._tokens import TokenReader

_DRAIN_SECONDS: Final = 1.0  # to read the end of an answer, so that its connection can be reused


async def read_answer(
    response: httpx.Response, dialect: Dialect, reader: TokenReader, name: str
) -> AsyncGenerator[TokenChunk, None]:
    """The completion in an answer.

    Args:
        response: The open response.
        dialect: The server's dialect.
        reader: Makes tokens of the server's chunks.
        name: The backend's name, for errors.

    Raises:
        BackendError: The answer is malformed or incomplete, or reports an error.
    """
    async with aclosing(_events(response, name)) as events:
        async for event in events:
            part = dialect.read(event)
            if part is None:
                continue
            chunk = reader.read(part)
            is_finished = chunk.finish_reason is not None
            if is_finished or chunk.tokens:
                yield chunk
            if is_finished:
                with suppress(TimeoutError, httpx.HTTPError, BackendError):
                    async with asyncio.timeout(_DRAIN_SECONDS):
                        # A stop token that only this side knows does not stop the server.
                        if part.finish_reason is not None or await _ends_next(events, dialect):
                            await _exhaust(events)
                return
    raise BackendError(f"{name}: the stream ended without a finish reason")


async def _ends_next(events: AsyncGenerator[Mapping[str, Any], None], dialect: Dialect) -> bool:
    """Whether the server, too, ends the completion, with its next event."""
    part = dialect.read(await anext(events, {}))
    return part is not None and part.finish_reason is not None


async def _events(response: httpx.Response, name: str) -> AsyncGenerator[Mapping[str, Any], None]:
    """The JSON objects in an answer."""
    if response.headers.get("content-type", "").partition(";")[0] == "application/json":
        yield _object((await response.aread()).decode("utf-8", "replace"), name)
        return
    try:
        async with aclosing(EventSource(response).aiter_sse()) as sent:
            async for event in sent:
                if event.data == "[DONE]":
                    await _exhaust(sent)
                    return
                if event.data:
                    yield _object(event.data, name)
    except SSEError as error:
        raise BackendError(f"{name}: {error}") from error


def _object(text: str, name: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BackendError(
            f"{name}: the server sent data that is not a JSON object: {text[:200]!r}"
        )
    if "error" in value or value.get("object") == "error":
        raise BackendError(f"{name}: {server_message(text)}")
    return value


async def _exhaust(events: AsyncIterator[Any]) -> None:
    async for _ in events:
        pass
