"""`close`, `with` and `async with` for backends that have `aclose`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from harmony_kit.errors import BackendError


class Closing(ABC):
    """Adds `async with`, `with` and `close` to a backend that has `aclose`.

    Example:
        >>> class MyBackend(Closing):
        ...     async def aclose(self):
        ...         print("closed")
        >>> with MyBackend():
        ...     print("open")
        open
        closed
    """

    @abstractmethod
    async def aclose(self) -> None:
        """Free the backend's resources. May be called more than once."""

    def close(self) -> None:
        """Free the backend's resources; `aclose` for code outside of any event loop.

        Raises:
            BackendError: An event loop is running in this thread.
        """
        _check_no_loop("await aclose()")
        asyncio.run(self.aclose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        _check_no_loop("use 'async with'")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check_no_loop(instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BackendError(f"an event loop is running here: {instead}")
