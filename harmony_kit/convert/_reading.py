"""Reads JSON data of clients and servers: every error names the JSON path of the field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import RequestError


def plain(value: Any) -> Any:
    """JSON data as dicts, lists and scalars; a pydantic object becomes its data."""
    if type(value) in _PLAIN:  # the usual case, in a tenth of the time
        return value
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_unset=True, by_alias=True) if callable(dump) else value


_PLAIN: Final = frozenset({dict, list, str, int, float, bool, type(None)})


class JsonObject:
    """A JSON object and its path, such as `messages[2]`; the path of the root is empty.

    The typed getters raise a `RequestError` for a value of another type. For a field that is
    absent or null they return `None`, or, if their name begins with `required`, raise as well.
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if type(value) is not dict:
            value = plain(value)
            if not isinstance(value, Mapping):
                raise RequestError(f"expected an object, got {_kind(value)}", path=path)
        self.value: Mapping[str, Any] = value
        self.path = path

    def at(self, key: str) -> str:
        """The path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def error(self, key: str, reason: str) -> RequestError:
        """An error about a field; about the object itself if `key` is empty."""
        return RequestError(reason, path=self.at(key) if key else self.path)

    def get(self, key: str) -> Any:
        """The value of a field, of any type; `None` if it is absent."""
        return self.value.get(key)

    def has(self, key: str) -> bool:
        """Whether a field is present and not null."""
        return self.value.get(key) is not None

    def text(self, key: str) -> str | None:
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"expected text, got {_kind(value)}")
        return value

    def required_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise self.error(key, "missing")
        return value

    def integer(self, key: str) -> int | None:
        value = self.get(key)
        if isinstance(value, bool):
            raise self.error(key, "expected an integer, got a boolean")
        number: int | None = self._typed(key, int, "an integer")
        return number

    def number(self, key: str) -> float | None:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise self.error(key, f"expected a number, got {_kind(value)}")
        return value

    def boolean(self, key: str) -> bool | None:
        value: bool | None = self._typed(key, bool, "a boolean")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """A text that must be one of `choices`."""
        value = self.text(key)
        if value is not None and value not in choices:
            raise self.error(key, f"{value!r} is none of {', '.join(map(repr, choices))}")
        return value

    def node(self, key: str) -> JsonObject | None:
        """A nested object."""
        return JsonObject(self.get(key), self.at(key)) if self.has(key) else None

    def required_node(self, key: str) -> JsonObject:
        """A nested object."""
        if not self.has(key):
            raise self.error(key, "missing")
        return JsonObject(self.get(key), self.at(key))

    def items(self, key: str) -> Iterator[tuple[Any, str]]:
        """The items of a list, each with its path; empty if the list is absent."""
        value = self.get(key)
        if value is None:
            return
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise self.error(key, f"expected a list, got {_kind(value)}")
        path = self.at(key)
        for index, item in enumerate(value):
            yield plain(item), f"{path}[{index}]"

    def nodes(self, key: str) -> Iterator[JsonObject]:
        """The objects of a list of objects; empty if the list is absent."""
        if self.value.get(key) is None:
            return
        for item, path in self.items(key):
            yield JsonObject(item, path)

    def _typed(self, key: str, kind: type[Any], name: str) -> Any:
        value = self.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.error(key, f"expected {name}, got {_kind(value)}")
        return value


_KINDS: Final[dict[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")
