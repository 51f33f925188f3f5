"""Headers that were read before; a completion has few different ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ._header.reading import HeaderReading, read_header
from ._messages import Header
from ._roles import Role

# How many headers are cached, and how many tokens a cached header may have.
_LIMIT: Final = 1000


class HeaderCache:
    """Reads each different header once.

    Attributes:
        plain: Headers without a problem by their packed ids, `<|start|>` included; `None` for
            headers that have one.
    """

    __slots__ = ("_readings", "plain")

    def __init__(self) -> None:
        self._readings: dict[tuple[Role | None, tuple[int, ...]], HeaderReading] = {}
        self.plain: dict[bytes, Header | None] = {}

    def read(self, role: Role | None, tokens: Sequence[int]) -> HeaderReading:
        """What `read_header` returns."""
        key = (role, tuple(tokens))
        reading = self._readings.get(key)
        if reading is None:
            reading = read_header(key[1], role)
            if len(self._readings) < _LIMIT and len(key[1]) < _LIMIT:
                self._readings[key] = reading
        return reading

    def read_plain(self, key: bytes, tokens: Sequence[int]) -> Header | None:
        """A header that is written in full, if it has no problem.

        Args:
            key: Its packed ids, `<|start|>` included.
            tokens: Its ids without `<|start|>`.
        """
        if key not in self.plain and len(self.plain) < _LIMIT:
            reading = self.read(None, tokens)
            self.plain[key] = None if reading.problems else reading.header
        return self.plain.get(key)
