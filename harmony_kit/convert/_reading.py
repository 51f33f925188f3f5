"""Reading JSON data whose shape others decide: every error names the path of the field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import RequestError


def plain(value: Any) -> Any:
    """JSON data as dicts, lists and scalars.

    Args:
        value: JSON data; a pydantic object is taken for the data that it holds.
    """
    if type(value) in _PLAIN:  # the usual case, in a tenth of the time
        return value
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_unset=True, by_alias=True) if callable(dump) else value


_PLAIN: Final = frozenset({dict, list, str, int, float, bool, type(None)})


class JsonObject:
    """An object of JSON data, and where it stands.

    Args:
        value: The data.
        path: Its JSON path, such as `messages[2]`; empty for the whole.

    Raises:
        RequestError: The value is no object.
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if type(value) is not dict:
            value = plain(value)
            if not isinstance(value, Mapping):
                raise RequestError(f"expected an object, got {_kind(value)}", path=path)
        self.value: Mapping[str, Any] = value
        self.path = path

    def at(self, key: str) -> str:
        """The path of a field.

        Args:
            key: Its name.
        """
        return f"{self.path}.{key}" if self.path else key

    def error(self, key: str, reason: str) -> RequestError:
        """An error about a field.

        Args:
            key: Its name; empty for the object itself.
            reason: What is wrong.
        """
        return RequestError(reason, path=self.at(key) if key else self.path)

    def get(self, key: str) -> Any:
        """The value of a field, whatever it is; `None` if it is absent.

        Args:
            key: Its name.
        """
        return self.value.get(key)

    def has(self, key: str) -> bool:
        """Whether a field is there and not null.

        Args:
            key: Its name.
        """
        return self.value.get(key) is not None

    def text(self, key: str) -> str | None:
        """A text, or `None`.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is something else.
        """
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"expected text, got {_kind(value)}")
        return value

    def required_text(self, key: str) -> str:
        """A text.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is absent or something else.
        """
        value = self.text(key)
        if value is None:
            raise self.error(key, "missing")
        return value

    def integer(self, key: str) -> int | None:
        """An integer, or `None`.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is something else.
        """
        value = self.get(key)
        if isinstance(value, bool):
            raise self.error(key, "expected an integer, got a boolean")
        number: int | None = self._typed(key, int, "an integer")
        return number

    def number(self, key: str) -> float | None:
        """A number, or `None`.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is something else.
        """
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise self.error(key, f"expected a number, got {_kind(value)}")
        return value

    def boolean(self, key: str) -> bool | None:
        """A boolean, or `None`.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is something else.
        """
        value: bool | None = self._typed(key, bool, "a boolean")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """One of some texts, or `None`.

        Args:
            key: The field's name.
            choices: The texts.

        Raises:
            RequestError: It is something else.
        """
        value = self.text(key)
        if value is not None and value not in choices:
            raise self.error(key, f"{value!r} is none of {', '.join(map(repr, choices))}")
        return value

    def node(self, key: str) -> JsonObject | None:
        """An object, or `None`.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is something else.
        """
        return JsonObject(self.get(key), self.at(key)) if self.has(key) else None

    def required_node(self, key: str) -> JsonObject:
        """An object.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is absent or something else.
        """
        if not self.has(key):
            raise self.error(key, "missing")
        return JsonObject(self.get(key), self.at(key))

    def items(self, key: str) -> Iterator[tuple[Any, str]]:
        """The items of a list, each with its path; none if it is absent.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is no list.
        """
        value = self.get(key)
        if value is None:
            return
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise self.error(key, f"expected a list, got {_kind(value)}")
        path = self.at(key)
        for index, item in enumerate(value):
            yield plain(item), f"{path}[{index}]"

    def nodes(self, key: str) -> Iterator[JsonObject]:
        """The items of a list of objects; none if it is absent.

        Args:
            key: The field's name.

        Raises:
            RequestError: It is no list, or an item is no object.
        """
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
