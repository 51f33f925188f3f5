"""Tokens between two messages."""

from __future__ import annotations

from collections.abc import Sequence

from ._problems import ProblemLog


class Gap:
    """The text tokens since the last message.

    Args:
        log: Receives the problem when the text turns out to belong to no message.

    Attributes:
        tokens: The tokens.
        start: The position of the first of them.
    """

    __slots__ = ("_log", "start", "tokens")

    def __init__(self, log: ProblemLog) -> None:
        self._log = log
        self.tokens: list[int] = []
        self.start = 0

    def add(self, tokens: Sequence[int], position: int) -> None:
        """Add tokens, of which the first is at a position."""
        if not self.tokens:
            self.start = position
        self.tokens += tokens

    def take(self) -> list[int]:
        """Empty the gap; returns its tokens."""
        tokens, self.tokens = self.tokens, []
        return tokens

    def take_from(self, place: int | None) -> list[int]:
        """Remove the tokens from an index on, if there is one; returns them."""
        if place is None:
            return []
        self.tokens, taken = self.tokens[:place], self.tokens[place:]
        return taken

    def end(self) -> None:
        """Report the tokens, if any: they belong to no message."""
        if self.tokens:
            self._log.abandon()
            end = self.start + len(self.tokens)
            self._log.report("text_between_messages", self.start, end, outside=True)
            self.tokens = []
