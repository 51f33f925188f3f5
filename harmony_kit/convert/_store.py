"""Stores of responses: what a later request can refer to instead of sending it again."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from .._options import checked_options
from ..errors import HarmonyError
from ..wire._messages import Message
from .harmony import message_from_dict, message_to_dict, messages_from_json, messages_to_json


class StoredItem(NamedTuple):
    """An output item of a response.

    Attributes:
        message: What the model wrote.
        call_id: The id of the call, if it is one.
        full_name: The full name of the tool that it calls.
    """

    message: Message
    call_id: str | None = None
    full_name: str | None = None


@dataclass(frozen=True)
class StoredResponse:
    """A response, and the conversation that led to it.

    Attributes:
        messages: The conversation, the response included, but without the system message, the
            tools and the instructions of the request: each request brings its own.
        calls: The full name of the tool, by the id of each call of the conversation.
        items: The output items of this response by their ids.
        reasonings: The reasoning right before a call of this response, by the call's id.
    """

    messages: tuple[Message, ...]
    calls: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, StoredItem] = field(default_factory=dict)
    reasonings: Mapping[str, str] = field(default_factory=dict)


class ResponseStore(Protocol):
    """Keeps responses. What is not there is `None`."""

    def get(self, response_id: str) -> StoredResponse | None:
        """A response.

        Args:
            response_id: Its id.
        """
        ...

    def put(self, response_id: str, response: StoredResponse) -> None:
        """Keep a response; one with the same id is replaced.

        Args:
            response_id: Its id.
            response: The response.
        """
        ...

    def item(self, item_id: str) -> StoredItem | None:
        """An output item of any response.

        Args:
            item_id: Its id.
        """
        ...

    def reasoning(self, call_id: str) -> str | None:
        """The reasoning that led to a call, for clients that send only the call again.

        Args:
            call_id: The id of the call.
        """
        ...


class MemoryStore:
    """Keeps responses as long as the process runs. Safe across threads."""

    @checked_options
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._responses: dict[str, StoredResponse] = {}
        self._items: dict[str, StoredItem] = {}
        self._reasonings: dict[str, str] = {}

    def get(self, response_id: str) -> StoredResponse | None:
        """A response.

        Args:
            response_id: Its id.
        """
        with self._lock:
            return self._responses.get(response_id)

    def put(self, response_id: str, response: StoredResponse) -> None:
        """Keep a response; one with the same id is replaced.

        Args:
            response_id: Its id.
            response: The response.
        """
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
        """An output item of any response.

        Args:
            item_id: Its id.
        """
        with self._lock:
            return self._items.get(item_id)

    def reasoning(self, call_id: str) -> str | None:
        """The reasoning that led to a call.

        Args:
            call_id: The id of the call.
        """
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
    """Keeps responses in a file. Safe across threads; a context manager that closes it.

    Args:
        path: The file; it is made if it is absent. `":memory:"` keeps nothing on disk.

    Raises:
        sqlite3.Error: The file cannot be opened, or is no database.
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
        """A response.

        Args:
            response_id: Its id.

        Raises:
            HarmonyError: The store is closed.
        """
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
        """Keep a response; one with the same id is replaced.

        Args:
            response_id: Its id.
            response: The response.

        Raises:
            HarmonyError: The store is closed.
        """
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
        """An output item of any response.

        Args:
            item_id: Its id.

        Raises:
            HarmonyError: The store is closed.
        """
        with self._lock:
            row = self._row("SELECT message, call_id, full_name FROM items WHERE id = ?", item_id)
        return None if row is None else _item(*row)

    def reasoning(self, call_id: str) -> str | None:
        """The reasoning that led to a call.

        Args:
            call_id: The id of the call.

        Raises:
            HarmonyError: The store is closed.
        """
        with self._lock:
            row = self._row("SELECT text FROM reasonings WHERE call_id = ?", call_id)
        text: str | None = None if row is None else row[0]
        return text

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
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


def _message_text(message: Message) -> str:
    return json.dumps(message_to_dict(message, tokens=True))


def _item(message: str, call_id: str | None, full_name: str | None) -> StoredItem:
    return StoredItem(message_from_dict(json.loads(message)), call_id, full_name)
