"""Reading conversations and messages from JSON, with the errors of the reference.

The reference passes conversations as JSON, so its errors for invalid ones are those of its JSON
library, with line and column. Programs and their tests match such texts, so they are reproduced
here: values are read in the same order, and errors are detected at the same place.

Some values are validated while the text is read; others, whose type the reference knows only
later, are collected and validated afterwards. Errors of the latter have no place of their own and
get the end of the enclosing object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, TypeVar

from ..errors import InvalidMessageError
from ..wire._typescript.numbers import reference_number
from ._reference_parser import ROLES
from ._reference_tokens import rust_debug

_MAX_DEPTH: Final = 127
_BLANKS: Final = re.compile(rb"[ \t\n\r]*")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ESCAPE: Final = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)")
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS: Final = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}


class _JsonError(Exception):
    """An error and its place; `None` for a place that is determined by a caller."""

    def __init__(self, reason: str, place: int | None = None) -> None:
        self.reason = reason
        self.place = place
        super().__init__(reason)


def read_conversation(text: str) -> list[dict[str, Any]]:
    """The messages of a conversation.

    Raises:
        ValueError: It is not a conversation; the text is the reference's.
    """
    return _read(_Reader(text), "conversation", _Reader.conversation)


def read_message(text: str, depth: int = 0) -> dict[str, Any]:
    """The fields of a message by name; absent ones are `None`.

    Raises:
        ValueError: It is not a message; the text is the reference's.
    """
    plain = _read_plain(text, depth)
    return plain or _read(_Reader(text, depth), "message", _Reader.message)


def _read_plain(text: str, depth: int) -> dict[str, Any] | None:
    """The message if it is plainly valid, read by Python's fast parser; `None` otherwise."""
    try:
        message = _PLAIN.decode(text)
        if _SURROGATE.search(text):
            json.dumps(message, ensure_ascii=False).encode()  # lone surrogates cannot be encoded
        if not isinstance(message, dict) or _is_deeper(message, _MAX_DEPTH - depth):
            return None
        return _message(message) | _author(message)
    except (ValueError, RecursionError, _JsonError):
        return None


_SURROGATE: Final = re.compile(r"\\u[dD]|[\ud800-\udfff]")


def _plain_int(text: str) -> int:
    if len(text) > 300:
        raise ValueError("may be out of range")
    return int(text)


def _plain_float(text: str) -> float:
    value = float(text)
    if not -1e300 < value < 1e300:
        raise ValueError("may be out of range, or no number")
    return value


_PLAIN: Final = json.JSONDecoder(
    parse_int=_plain_int, parse_float=_plain_float, parse_constant=_plain_float
)


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        if not level:
            return False
        members = (item.values() if isinstance(item, dict) else item for item in level)
        level = [m for m in chain.from_iterable(members) if isinstance(m, dict | list)]
    return True


_T = TypeVar("_T")


def _read(reader: _Reader, what: str, read: Callable[[_Reader], _T]) -> _T:
    try:
        value = read(reader)
        if reader.peek():
            raise reader.error_ahead("trailing characters")
    except _JsonError as error:
        place = reader.describe(reader.at if error.place is None else error.place)
        raise ValueError(f"invalid {what} JSON: {error.reason} at {place}") from None
    return value


class _Reader:
    """Reads JSON value by value; places are byte offsets.

    Attributes:
        at: The offset of the next byte.
    """

    def __init__(self, text: str, depth: int = 0) -> None:
        self._data = text.encode()
        self._depth = depth
        self.at = 0

    def describe(self, place: int) -> str:
        """A place as line and column."""
        before = self._data[:place]
        column = len(before) - before.rfind(b"\n") - 1
        lines = before.count(b"\n")
        return f"line {lines + 1} column {column}"

    # --- What is read straight away ---

    def conversation(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] | None = None
        with self._inside(b"{", "struct Conversation"):
            for key in self._keys():
                if key == "messages":
                    messages = self._list("a sequence", self.message)
                else:
                    self._value()
            if messages is None:
                raise _JsonError("missing field `messages`")
        return messages

    def message(self) -> dict[str, Any]:
        fields: dict[str, Any] = dict.fromkeys(("recipient", "channel", "content_type"))
        author: dict[str, Any] = {}
        with self._inside(b"{", "struct Message"):
            for key in self._keys():
                if key == "content":
                    fields[key] = self._contents()
                elif key in fields:
                    fields[key] = self._text_or_none()
                else:
                    author[key] = self._value()
            if "content" not in fields:
                raise _JsonError("missing field `content`")
            return fields | _author(author)

    def _contents(self) -> list[dict[str, Any]]:
        if self.peek() == b'"':
            return [_text_content(self._string())]
        expected = "string or list of content"
        if self.peek() == b"{":
            with self._inside(b"{", expected):
                raise _JsonError(_invalid_type({}, expected))
        return self._list(expected, self._content)

    def _content(self) -> dict[str, Any]:
        kind: str | None = None
        fields: dict[str, Any] = {}
        with self._inside(b"{", "internally tagged enum Content"):
            for key in self._keys():
                if key != "type":
                    fields[key] = self._value()
                    continue
                kind = self._text("variant identifier")
                if kind not in _contents:
                    raise _JsonError(_unknown_variant(kind, _contents), self.at)
            if kind is None:
                raise _JsonError("missing field `type`")
        return _content({"type": kind, **fields})

    # --- JSON ---

    def peek(self) -> bytes:
        """The next byte that is not whitespace, unread; empty at the end."""
        blanks = _BLANKS.match(self._data, self.at)
        assert blanks is not None
        self.at = blanks.end()
        return self._data[self.at : self.at + 1]

    def error_ahead(self, reason: str) -> _JsonError:
        """An error at the next byte."""
        return _JsonError(reason, self.at + 1)

    def _value(self) -> Any:
        start = self.peek()
        if start == b"{":
            with self._inside(b"{", "any value"):
                return {key: self._value() for key in self._keys()}
        if start == b"[":
            return self._list("any value", self._value)
        return self._scalar(start)

    def _scalar(self, start: bytes) -> Any:
        if start == b'"':
            return self._string()
        if start == b"-" or start.isdigit():
            return self._number()
        word, value = _WORDS.get(start, (b"", None))
        if not word or not self._data.startswith(word, self.at):
            raise self.error_ahead("expected value")
        self.at += len(word)
        return value

    def _list(self, expected: str, read_item: Callable[[], Any]) -> list[Any]:
        with self._inside(b"[", expected):
            return [read_item() for _ in self._items(b"]")]

    @contextmanager
    def _inside(self, start: bytes, expected: str) -> Iterator[None]:
        """Reads the start of an object or a list on entry and its end on exit.

        An error without a place gets that of the end.
        """
        found = self.peek()
        if found != start:
            raise self._wrong_type(found, expected)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.error_ahead("recursion limit exceeded")
        self.at += 1
        skip_end = self._skip_end_of_object if start == b"{" else self._skip_end_of_list
        try:
            yield
        except _JsonError as error:
            if error.place is None:
                skip_end()
                error.place = self.at
            raise
        skip_end()
        self._depth -= 1

    def _keys(self) -> Iterator[str]:
        for _ in self._items(b"}"):
            key = self._text("a string")
            if self.peek() != b":":
                raise self.error_ahead("expected `:`")
            self.at += 1
            yield key

    def _items(self, end: bytes) -> Iterator[None]:
        """Yields before each item."""
        if self.peek() == end:
            return
        while True:
            yield
            found = self.peek()
            if found == end:
                return
            if found != b",":
                raise self.error_ahead(f"expected `,` or `{end.decode()}`")
            self.at += 1

    def _skip_end_of_object(self) -> None:
        if self.peek() == b"}":
            self.at += 1

    def _skip_end_of_list(self) -> None:
        # If an item is invalid, the reference has already consumed the comma after it.
        found = self.peek()
        if found in (b"]", b","):
            self.at += 1
        if found == b",":
            self.peek()

    def _wrong_type(self, found: bytes, expected: str) -> _JsonError:
        if found == b"[":
            return _JsonError(_invalid_type([], expected), self.at)
        if found == b"{":
            return _JsonError(_invalid_type({}, expected), self.at)
        value = self._scalar(found)
        return _JsonError(_invalid_type(value, expected), self.at)

    def _text(self, expected: str) -> str:
        found = self.peek()
        if found != b'"':
            raise self._wrong_type(found, expected)
        return self._string()

    def _text_or_none(self) -> str | None:
        if self.peek() == b"n":
            self._scalar(b"n")
            return None
        return self._text("a string")

    def _string(self) -> str:
        match = _STRING.match(self._data, self.at)
        if match is None:
            raise _JsonError("EOF while parsing a string", len(self._data))
        if b"\\u" in match.group():
            self._check_surrogates(match.start(), match.end())
        self.at = match.end()
        text: str = json.loads(match.group())
        return text

    def _check_surrogates(self, start: int, end: int) -> None:
        escapes = _ESCAPE.finditer(self._data, start, end)
        for escape in escapes:
            unit = int(escape[1] or b"0", 16)
            if 0xDC00 <= unit < 0xE000:
                raise _JsonError(_LONE, escape.end())
            if not 0xD800 <= unit < 0xDC00:
                continue
            place = escape.end()
            for expected in (b"\\", b"u"):
                if self._data[place : place + 1] != expected:
                    raise _JsonError("unexpected end of hex escape", place + 1)
                place += 1
            second = next(escapes)
            if not 0xDC00 <= int(second[1], 16) < 0xE000:
                raise _JsonError(_LONE, second.end())

    def _number(self) -> int | float:
        match = _NUMBER.match(self._data, self.at)
        if match is None:
            raise _JsonError("invalid number", self.at + 2)
        self.at = match.end()
        value: int | float = json.loads(match.group())
        try:
            reference_number(value)
        except InvalidMessageError:
            raise _JsonError("number out of range", self.at) from None
        return value


_LONE: Final = "lone leading surrogate in hex escape"


# --- What is judged afterwards --------------------------------------------------------------

_Shape = Callable[[Any], Any]
"""Validates a value and returns it, structs with all their fields."""


def _invalid_type(value: Any, expected: str) -> str:
    return f"invalid type: {_kind(value)}, expected {expected}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, str):
        return f"string {rust_debug(value)}"
    if isinstance(value, list):
        return "sequence"
    if isinstance(value, dict):
        return "map"
    number = reference_number(value)
    kind = "integer" if number.lstrip("-").isdigit() else "floating point"
    return f"{kind} `{number}`"


def _unknown_variant(name: str, known: Iterable[str]) -> str:
    return f"unknown variant `{name}`, expected one of {', '.join(f'`{k}`' for k in known)}"


def _any(value: Any) -> Any:
    return value


def _instance(kind: type, expected: str) -> _Shape:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise _JsonError(_invalid_type(value, expected))
        return value

    return check


_text: Final = _instance(str, "a string")
_bool: Final = _instance(bool, "a boolean")
_list: Final = _instance(list, "a sequence")
_map: Final = _instance(dict, "a map")


class _Optional:
    """A value that may be `null` or, in a struct, absent."""

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape

    def __call__(self, value: Any) -> Any:
        return None if value is None else self._shape(value)


def _list_of(shape: _Shape) -> _Shape:
    return lambda value: [shape(item) for item in _list(value)]


def _map_of(shape: _Shape) -> _Shape:
    return lambda value: {key: shape(member) for key, member in _map(value).items()}


def _one_of(*names: str) -> _Shape:
    def check(value: Any) -> str:
        unit = None
        if isinstance(value, dict):
            if len(value) != 1:
                raise _JsonError("invalid value: map, expected map with a single key")
            [(value, unit)] = value.items()
        if not isinstance(value, str):
            raise _JsonError(_invalid_type(value, "string or map"))
        if value not in names:
            raise _JsonError(_unknown_variant(value, names))
        if unit not in (None, {}):
            raise _JsonError(_invalid_type(unit, "unit"))
        return value

    return check


def _struct(struct: str, /, **shapes: _Shape) -> Callable[[Any], dict[str, Any]]:
    absent = {key: None for key, shape in shapes.items() if isinstance(shape, _Optional)}

    def check(value: Any) -> dict[str, Any]:
        if isinstance(value, list):
            return check_list(value)
        if not isinstance(value, dict):
            raise _JsonError(_invalid_type(value, f"struct {struct}"))
        fields = {key: shapes[key](member) for key, member in value.items() if key in shapes}
        for key in shapes:
            if key not in fields and key not in absent:
                raise _JsonError(f"missing field `{key}`")
        return absent | fields

    def check_list(values: list[Any]) -> dict[str, Any]:
        # A list of all fields in order is accepted as well.
        fields = {key: shapes[key](value) for key, value in zip(shapes, values, strict=False)}
        count = len(shapes)
        if len(values) != count:
            elements = f"{count} element{'s' if count > 1 else ''}"
            expected = f"struct {struct} with {elements}"
            if len(values) > count:
                expected = f"{elements} in sequence"
            raise _JsonError(f"invalid length {len(values)}, expected {expected}")
        return fields

    return check


_tools: Final = _Optional(
    _map_of(
        _struct(
            "ToolNamespaceConfig",
            name=_text,
            description=_Optional(_text),
            tools=_list_of(
                _struct(
                    "ToolDescription",
                    name=_text,
                    description=_text,
                    parameters=_Optional(_any),
                )
            ),
        )
    )
)
_author: Final = _struct("Author", role=_one_of(*ROLES), name=_Optional(_text))
_contents: Final = {
    "text": _struct("TextContent", text=_text),
    "system_content": _struct(
        "SystemContent",
        model_identity=_Optional(_text),
        reasoning_effort=_Optional(_one_of("Low", "Medium", "High")),
        tools=_tools,
        conversation_start_date=_Optional(_text),
        knowledge_cutoff=_Optional(_text),
        channel_config=_Optional(
            _struct("ChannelConfig", valid_channels=_list_of(_text), channel_required=_bool)
        ),
    ),
    "developer_content": _struct("DeveloperContent", instructions=_Optional(_text), tools=_tools),
}


def _any_contents(value: Any) -> list[dict[str, Any]]:
    return [_text_content(value)] if isinstance(value, str) else list(map(_content, _list(value)))


def _text_content(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _content(value: Any) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _contents:
        raise _JsonError("no content")
    return {"type": kind, **_contents[kind](value)}


_message: Final = _struct(
    "Message",
    recipient=_Optional(_text),
    channel=_Optional(_text),
    content_type=_Optional(_text),
    content=_any_contents,
)
