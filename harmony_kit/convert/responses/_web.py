"""Converts calls of the browser to the actions of a web search, and back.

An action has less than a call. The page of a link that is given by its number is known only to the
browser: such a page has a `cursor:` address, `cursor:3#5` for link 5 of page 3. Arguments for which
an action has no field (the number of results, the lines) are lost.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ...calls import read_arguments
from ...wire._builtin_tools import BROWSER
from .._reading import JsonObject

ACTIONS: Final = {"search": "search", "open": "open_page", "find": "find_in_page"}
"""The types of the actions, by the names of the browser's tools."""

RECIPIENTS: Final = tuple(f"{BROWSER.name}.{tool.name}" for tool in BROWSER.tools)
"""The full names of the browser's tools."""

_CURSOR: Final = re.compile(r"cursor:(-?[0-9]{1,18})?(?:#(-?[0-9]{1,18}))?")


def write_action(name: str, content: str) -> dict[str, Any]:
    """The action of a call of the browser's tool `"search"`, `"open"` or `"find"`."""
    value = read_arguments(content).value
    arguments = value if isinstance(value, dict) else {}
    kind = ACTIONS[name]
    if kind == "search":
        query = _text(arguments.get("query", content))
        return {"type": kind, "query": query, "queries": [query]}
    if kind == "open_page":
        link = arguments.get("id")
        return {"type": kind, "url": _text(link) if isinstance(link, str) else _address(arguments)}
    pattern = _text(arguments.get("pattern", content))
    return {"type": kind, "pattern": pattern, "url": _address({**arguments, "id": None})}


def _text(value: Any) -> str:
    return proper_text(value if isinstance(value, str) else _json(value))


def proper_text(text: str) -> str:
    """A text without lone surrogates, which escapes in JSON can produce."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _address(arguments: dict[str, Any]) -> str:
    cursor, link = (_integer(arguments.get(key)) for key in ("cursor", "id"))
    return f"cursor:{cursor}" + (f"#{link}" if link else "")


def _integer(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(int(value)) if is_number and value == value // 1 else ""


def read_action(action: JsonObject) -> tuple[str, str] | None:
    """The browser's tool and its arguments as JSON text; `None` if no call does the action."""
    kind = action.text("type")
    if kind == "search":
        query = action.text("query")
        queries = [query for query, _ in action.items("queries") if isinstance(query, str)]
        query = queries[0] if query is None and len(queries) == 1 else query
        if query is None or (queries and queries != [query]):
            return None
        return "search", _json({"query": query})
    url = action.text("url")
    place = _CURSOR.fullmatch("cursor:" if url is None else url)
    found = place.groups() if place else (None, None)
    cursor = {} if found[0] is None else {"cursor": int(found[0])}
    if kind == "open_page":
        link = {"id": url} if place is None else {"id": int(found[1])} if found[1] else {}
        return "open", _json(cursor | link)
    if kind == "find_in_page" and place is not None:
        return "find", _json({"pattern": action.required_text("pattern")} | cursor)
    return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
