"""Stores of responses, to which later requests can refer."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

from .._options import checked_fields, checked_options
from ..errors import HarmonyError
from ..wire._events import Completion, FinishReason
from ..wire._messages import Message
from ._reply import Kind, kind_of
from .harmony import message_from_dict, message_to_dict, messages_from_json, messages_to_json

if TYPE_CHECKING:
    from ._request import HarmonyRequest


class StoredItem(NamedTuple):
    """An output item of a response of the Responses API.

    Attributes:
        message: The message of the model.
        call_id: The id of the call, if the message is a call.
        full_name: The full name of the called tool.
    """

    message: Message
    call_id: str | None = None
    full_name: str | None = None


@checked_fields
@dataclass(frozen=True)
class StoredResponse:
    """A response with the conversation before it.

    Attributes:
        messages: The conversation including the response, without the system message, the tools
            and the instructions, which every request repeats.
        calls: The full name of the tool, by the id of each call of the conversation.
        items: The output items of this response by their ids; only the Responses API has any.
        reasonings: The reasoning that led to a call of this response, by the id of the call.
    """

    messages: tuple[Message, ...]
    calls: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, StoredItem] = field(default_factory=dict)
    reasonings: Mapping[str, str] = field(default_factory=dict)


class ResponseStore(Protocol):
    """Keeps responses by their ids. Lookups of unknown ids return `None`."""

    def get(self, response_id: str) -> StoredResponse | None:
        """Look up a response."""
        ...

    def put(self, response_id: str, response: StoredResponse) -> None:
        """Store a response; it replaces an earlier one with the same id."""
        ...

    def item(self, item_id: str) -> StoredItem | None:
        """Look up an output item of any response."""
        ...

    def reasoning(self, call_id: str) -> str | None:
        """Look up the reasoning that led to a call, for clients that do not send it back."""
        ...


def stored(
    request: HarmonyRequest | None,
    result: Completion,
    calls: Mapping[int, tuple[str, str]],
    *,
    finish_reason: FinishReason | None,
    item_ids: Mapping[int, str] | None = None,
) -> StoredResponse:
    """What a store keeps of a response; truncated messages are left out.

    Args:
        request: The request; without it the conversation before is unknown.
        result: The completion.
        calls: The id and the full name of each call, by its position in the turn.
        finish_reason: Why the engine stopped.
        item_ids: The ids of output items by the positions of their messages.
    """
    before, names = ((), {}) if request is None else (request.history, dict(request.calls))
    history = result.history(finish_reason=finish_reason)
    kept = set(map(id, history))
    items: dict[str, StoredItem] = {}
    reasonings: dict[str, str] = {}
    thoughts: list[str] = []  # since the last call
    for index, parsed in enumerate(result.turn):
        message = parsed.message
        if id(message) not in kept:
            continue
        if kind_of(parsed.header) is Kind.REASONING:
            thoughts.append(message.text)
        made = calls.get(index)
        if made is not None:
            call_id, names[call_id] = made
            if thoughts:
                reasonings[call_id] = "\n".join(thoughts)
                thoughts.clear()
        if item_ids is not None and index in item_ids:
            items[item_ids[index]] = StoredItem(message, *(made or ()))
    return StoredResponse((*before, *history), names, items, reasonings)


class MemoryStore:
    """A `ResponseStore` in memory. Safe to share across threads.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> from harmony_kit.convert import chat_completions
        >>> store = MemoryStore()
        >>> result = parse(encode_with_special("<|channel|>final<|message|>Hi!<|return|>"))
        >>> _ = chat_completions.write_response(result, id="r1", model="gpt-oss", store=store)
        >>> store.get("r1").messages[-1].text
        'Hi!'
        >>> store.get("r2") is None
        True
    """

    @checked_options
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._responses: dict[str, StoredResponse] = {}
        self._items: dict[str, StoredItem] = {}
        self._reasonings: dict[str, str] = {}

    def get(self, response_id: str) -> StoredResponse | None:
        """Look up a response."""
        with self._lock:
            return self._responses.get(response_id)

    def put(self, response_id: str, response: StoredResponse) -> None:
        """Store a response; it replaces an earlier one with the same id."""
        with self._lock:
            replaced = self._responses.get(response_id)
            if replaced is not None:
                for item_id in replaced.items:
                    self._items.pop(item_id, None)
                for call_id in replaced.reasonings:
                    self._reasonings.pop(call_id, None)
            self._responses[response_id] = response
            self._items.update(response.items)
            self._reasonings.update(response.reasonings)

    def item(self, item_id: str) -> StoredItem | None:
        """Look up an output item of any response."""
        with self._lock:
            return self._items.get(item_id)

    def reasoning(self, call_id: str) -> str | None:
        """Look up the reasoning that led to a call."""
        with self._lock:
            return self._reasonings.get(call_id)


_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, messages TEXT NOT NULL, calls TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY, response_id TEXT NOT NULL, message TEXT NOT NULL,
    call_id TEXT, full_name TEXT
);
CREATE TABLE IF NOT EXISTS reasonings (
    call_id TEXT PRIMARY KEY, response_id TEXT NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS items_of_responses ON items (response_id);
CREATE INDEX IF NOT EXISTS reasonings_of_responses ON reasonings (response_id);
"""


class SQLiteStore:
    """A `ResponseStore` in an SQLite file. Safe to share across threads.

    A context manager that closes the file. All methods but `close` raise a `HarmonyError` once the
    store is closed.

    Args:
        path: The file, created if it does not exist; `":memory:"` for none.

    Raises:
        sqlite3.Error: The file cannot be opened, or is not a database.

    Example:
        >>> from harmony_kit import user
        >>> with SQLiteStore(":memory:") as store:
        ...     store.put("r1", StoredResponse((user("Hi"),), reasonings={"call_1": "Look."}))
        ...     print(store.get("r1").messages[0].text, store.reasoning("call_1"))
        Hi Look.
    """

    @checked_options
    def __init__(self, path: str | PathLike[str]) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = sqlite3.connect(path, check_same_thread=False)
        try:
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error:
            self.close()
            raise

    def get(self, response_id: str) -> StoredResponse | None:
        """Look up a response."""
        with self._lock:
            row = self._row("SELECT messages, calls FROM responses WHERE id = ?", response_id)
            if row is None:
                return None
            items = self._rows(
                "SELECT id, message, call_id, full_name FROM items WHERE response_id = ?",
                response_id,
            )
            reasonings = self._rows(
                "SELECT call_id, text FROM reasonings WHERE response_id = ?", response_id
            )
        return StoredResponse(
            tuple(messages_from_json(row[0])),
            json.loads(row[1]),
            {item_id: _item(*rest) for item_id, *rest in items},
            dict(reasonings),
        )

    def put(self, response_id: str, response: StoredResponse) -> None:
        """Store a response; it replaces an earlier one with the same id."""
        calls = json.dumps(dict(response.calls))
        row = (response_id, messages_to_json(response.messages, tokens=True), calls)
        items = [
            (
                item_id,
                response_id,
                json.dumps(message_to_dict(message, tokens=True)),
                call_id,
                full_name,
            )
            for item_id, (message, call_id, full_name) in response.items.items()
        ]
        reasonings = [(key, response_id, text) for key, text in response.reasonings.items()]
        with self._lock, self._open() as connection:
            connection.execute("DELETE FROM items WHERE response_id = ?", (response_id,))
            connection.execute("DELETE FROM reasonings WHERE response_id = ?", (response_id,))
            connection.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?)", row)
            connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", items)
            connection.executemany("INSERT OR REPLACE INTO reasonings VALUES (?, ?, ?)", reasonings)

    def item(self, item_id: str) -> StoredItem | None:
        """Look up an output item of any response."""
        with self._lock:
            row = self._row("SELECT message, call_id, full_name FROM items WHERE id = ?", item_id)
        return None if row is None else _item(*row)

    def reasoning(self, call_id: str) -> str | None:
        """Look up the reasoning that led to a call."""
        with self._lock:
            row = self._row("SELECT text FROM reasonings WHERE call_id = ?", call_id)
        text: str | None = None if row is None else row[0]
        return text

    def close(self) -> None:
        """Close the file. Closing it again does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise HarmonyError("the store is closed")
        return self._connection

    def _rows(self, query: str, key: str) -> list[tuple[Any, ...]]:
        return self._open().execute(query, (key,)).fetchall()

    def _row(self, query: str, key: str) -> tuple[Any, ...] | None:
        rows = self._rows(query, key)
        return rows[0] if rows else None


def _item(message: str, call_id: str | None, full_name: str | None) -> StoredItem:
    return StoredItem(message_from_dict(json.loads(message)), call_id, full_name)
