"""The ways to close a backend, made of one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from harmony_kit.errors import BackendError


class Closing(ABC):
    """Adds `async with`, `with` and `close` to a backend that has `aclose`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free what the backend holds. May be called more than once."""

    def close(self) -> None:
        """Like `aclose`, outside of any event loop, as `harmony_kit.run` is.

        Raises:
            BackendError: An event loop is running here.
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
