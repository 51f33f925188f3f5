"""Tells complete JSON, or text close to JSON, from truncated JSON."""

from __future__ import annotations

import re
from typing import Final

# Strings (the group is the closing quote; empty if there is none) and brackets. A single quote,
# as in a Python literal, begins a string only where a value or a key can begin.
_MARK: Final = re.compile(
    r"""
    " (?: [^"\\] | \\. )*+ ( "? )
    | (?<= [{\[,:\s] ) ' (?: [^'\\] | \\. )*+ ( '? )
    | [{}\[\]]
    """,
    re.DOTALL | re.VERBOSE,
)
_PAIRS: Final = {"{": "}", "[": "]"}
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_WORDS: Final = frozenset({"true", "false", "null", "True", "False", "None"})


def is_closed_json(text: str) -> bool:
    """Whether a text is one JSON value in which every string and bracket is closed.

    Whitespace around it is allowed. A number alone is never closed, since digits may be missing.

    Args:
        text: JSON, or text close to JSON such as a Python dictionary.

    Example:
        >>> is_closed_json('{"city": "Paris"}'), is_closed_json('{"city": "Par')
        (True, False)
    """
    body = text.strip()
    if not body.startswith(("{", "[")):
        return body in _WORDS or _STRING.fullmatch(body) is not None
    open_brackets: list[str] = []
    for match in _MARK.finditer(body):
        mark = match[0][0]
        if mark in _PAIRS:
            open_brackets.append(_PAIRS[mark])
        elif mark in "\"'":
            if not (match[1] or match[2]):
                return False
        elif open_brackets.pop() != mark:
            return False
        if not open_brackets:
            return match.end() == len(body)
    return False
