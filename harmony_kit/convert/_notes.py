"""What is not carried over from a request, and where it stood."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ..errors import RequestError
from ._reading import JsonObject

Unsupported = Literal["error", "note"]
"""What becomes of a field that Harmony cannot carry: an error, or a note in the result."""


class Note(NamedTuple):
    """Something that was not carried over, or not as it was.

    Attributes:
        path: The JSON path of the field.
        reason: What became of it.
    """

    path: str
    reason: str


class Notes:
    """Collects what is not carried over while a request is read.

    Args:
        unsupported: Whether to raise instead.
    """

    def __init__(self, unsupported: Unsupported) -> None:
        if unsupported not in ("error", "note"):
            raise RequestError(f"{unsupported!r} is neither 'error' nor 'note'", path="unsupported")
        self._raises = unsupported == "error"
        self._notes: list[Note] = []

    def lost(self, path: str, reason: str) -> None:
        """Something cannot be carried over.

        Args:
            path: Its JSON path.
            reason: Why, or what becomes of it.

        Raises:
            RequestError: Where the caller wants errors.
        """
        if self._raises:
            raise RequestError(reason, path=path)
        self._notes.append(Note(path, reason))

    def changed(self, path: str, reason: str) -> None:
        """Something is carried over, but not as it was, or is of no consequence.

        Args:
            path: Its JSON path.
            reason: What became of it.
        """
        self._notes.append(Note(path, reason))

    def unknown_fields(
        self, node: JsonObject, known: Iterable[str], idle: Iterable[str] = ()
    ) -> None:
        """Report the fields of an object that are not read.

        Args:
            node: The object.
            known: The fields that are read.
            idle: Fields that make no difference to what the model is told.

        Raises:
            RequestError: Where the caller wants errors.
        """
        for key in node.value:
            if key in known or node.value[key] is None:
                continue
            if key in idle:
                self.changed(node.at(key), "of no consequence to the model")
            else:
                self.lost(node.at(key), "not supported")

    def all(self) -> tuple[Note, ...]:
        """The notes so far."""
        return tuple(self._notes)
