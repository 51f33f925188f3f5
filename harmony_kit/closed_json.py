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
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_WORDS: Final = frozenset({"true", "false", "null", "True", "False", "None"})


def is_closed_json(text: str) -> bool:
    """Whether a text is a JSON value, or nearly, that has closed all that it opened.

    A number by itself is never closed: more digits may have been to come.

    Args:
        text: JSON, or nearly, such as a dictionary as Python spells it.

    Example:
        >>> is_closed_json('{"city": "Paris"}'), is_closed_json('{"city": "Par')
        (True, False)
    """
    depth = 0
    position = 0
    has_brackets = False
    while (match := _MARK.search(text, position)) is not None:
        mark = match[0][0]
        position = match.end()
        if mark == "'" and not depth:  # an apostrophe in the text around the value
            position = match.start() + 1
        elif mark in "\"'":
            if not (match[1] or match[2]):
                return False
        else:
            depth += 1 if mark in "{[" else -1
            has_brackets = True
    if has_brackets:
        return depth <= 0
    body = text.strip()
    return body in _WORDS or _STRING.fullmatch(body) is not None
