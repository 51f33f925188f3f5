"""Whether a JSON value was written to its end, however it is spelt."""

from __future__ import annotations

import re
from typing import Final

# Strings (the group is the quote with which one ends, empty where it never does) and brackets.
# A single quote begins a string only where a value or a key can stand, as in Python's spelling.
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
    """Whether a text is one JSON value, or nearly, that has closed all that it opened.

    Nothing but whitespace may stand around it. A number by itself is never closed: more digits may
    have been to come.

    Args:
        text: JSON, or nearly, such as a dictionary as Python spells it.

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
