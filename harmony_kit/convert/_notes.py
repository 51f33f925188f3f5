"""What could not be converted from a request, with its JSON path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ..errors import RequestError
from ._reading import JsonObject

Unsupported = Literal["error", "note"]
"""How to treat what Harmony cannot carry: raise an error, or leave it out with a note."""


class Note(NamedTuple):
    """Something in a request that was left out or changed.

    Attributes:
        path: The JSON path of the field.
        reason: Why, or what it was changed to.
    """

    path: str
    reason: str


class Notes:
    """Collects notes while a request is read."""

    def __init__(self, unsupported: Unsupported) -> None:
        if unsupported not in ("error", "note"):
            raise RequestError(f"{unsupported!r} is neither 'error' nor 'note'", path="unsupported")
        self._raises = unsupported == "error"
        self._notes: list[Note] = []

    def lost(self, path: str, reason: str) -> None:
        """Note, or raise a `RequestError` for, what cannot be carried."""
        if self._raises:
            raise RequestError(reason, path=path)
        self._notes.append(Note(path, reason))

    def changed(self, path: str, reason: str) -> None:
        """Note what is carried in a changed form, or makes no difference to the model."""
        self._notes.append(Note(path, reason))

    def unknown_fields(
        self, node: JsonObject, known: Iterable[str], idle: Iterable[str] = ()
    ) -> None:
        """Report the fields that are not read; `idle` ones make no difference to the model."""
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
