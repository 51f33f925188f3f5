"""Retries: which requests are sent again, and after how long."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from harmony_kit.errors import BackendError

_LONGEST_BACKOFF: Final = 30.0
_LONGEST_RETRY_AFTER: Final = 120.0

_NOT_ANSWERED: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,  # an idle connection that the server has closed meanwhile
)


class StatusError(BackendError):
    """A server answered with an error status.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status == 429 or self.status >= 500

    def __reduce__(self) -> tuple[object, ...]:
        return (StatusError, (str(self), self.status))


class Retries:
    """Sends requests, and sends them again after temporary failures.

    Args:
        most: The maximum number of retries.
        backoff: Seconds before the first retry; twice as long before each further one.
    """

    def __init__(self, most: int, backoff: float) -> None:
        self._most = most
        self._backoff = backoff

    async def send(
        self, client: httpx.AsyncClient, request: httpx.Request, name: str
    ) -> httpx.Response:
        """Send a request, and return the open response of a success.

        Args:
            client: The HTTP client.
            request: The request.
            name: The backend's name, for errors.

        Raises:
            BackendError: The server cannot be reached, or answered with an error.
            httpx.TimeoutException: The server did not answer in time.
        """
        attempt = 0
        while True:
            try:
                response = await client.send(request, stream=True)
            except _NOT_ANSWERED as error:
                if attempt >= self._most:
                    reason = describe(error)
                    raise BackendError(f"{name}: the server cannot be reached: {reason}") from error
                wait = self._wait(attempt, None)
            else:
                if response.is_success:
                    return response
                failure, retry_after = await _failure(response, name)
                wait = self._wait(attempt, retry_after)
                if not failure.is_passing or attempt >= self._most or wait > _LONGEST_RETRY_AFTER:
                    raise failure
            await asyncio.sleep(wait)
            attempt += 1

    def _wait(self, attempt: int, retry_after: float | None) -> float:
        backoff = min(self._backoff * 2.0**attempt, _LONGEST_BACKOFF)
        # The random part spreads the retries of clients that failed at the same time.
        jittered = backoff * random.uniform(0.5, 1.0)
        return jittered if retry_after is None else retry_after + jittered / 10


def describe(error: Exception) -> str:
    """The exception's type, and its message if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def server_message(text: str) -> str:
    """The error message in the body of a server's answer."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    message = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return message if len(message) <= 500 else message[:499] + "…"


async def _failure(response: httpx.Response, name: str) -> tuple[StatusError, float | None]:
    try:
        body = (await response.aread()).decode("utf-8", "replace")
    except httpx.HTTPError:
        body = ""
    finally:
        await response.aclose()
    message = server_message(body) or response.reason_phrase
    status = response.status_code
    error = StatusError(f"{name}: the server answered {status}: {message}", status)
    return error, _retry_after(response.headers.get("retry-after"))


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a Retry-After header with seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
