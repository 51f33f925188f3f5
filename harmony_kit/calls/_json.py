"""Reading and writing standard JSON within limits, with duplicate keys reported.

The standard library's parser does the reading, configured to refuse non-standard JSON and numbers
that Python cannot represent.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 128
"""The maximum nesting depth, which is that of serde_json, the parser of most servers.

Python's parsers recurse, so a limit is needed that is safe for any caller's stack."""

BLANKS: Final = " \t\n\r"
"""The whitespace of JSON."""

_NOTHING: Final = re.compile(
    r"[\s\ufeff\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064]*+"
)


def says_nothing(text: str) -> bool:
    """Whether a text has nothing but whitespace and characters that show nothing.

    Args:
        text: The text.
    """
    return _NOTHING.fullmatch(text) is not None


STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*+("?)|[{}\[\],]', re.DOTALL)
"""Matches the strings, brackets and commas of a text.

The group is the closing quote of a string; it is empty for an unterminated string, which matches
up to the end of the text (or up to a truncated escape), so that no input is scanned twice."""

_MAX_DIGITS: Final = 4300
"""The most digits of an integer that Python reads; longer ones take quadratic time."""

_MAX_DETAIL: Final = 500
"""The maximum length of a detail, which may quote the whole input."""


class TooDeepError(ValueError):
    """A JSON text is nested too deeply."""


class TooLargeError(ValueError):
    """A number is larger than Python reads."""


class Finding(NamedTuple):
    """A problem of the arguments, or a change to them.

    Attributes:
        code: The kind of problem, a key of `harmony_kit.wire._problems.PROBLEM_KINDS`.
        detail: What it is about.
    """

    code: str
    detail: str | None = None


class Found(NamedTuple):
    """A JSON value found in a text.

    Attributes:
        value: The value.
        text: The value as JSON text.
        findings: What was wrong and what was changed.
    """

    value: Any
    text: str
    findings: tuple[Finding, ...] = ()

    def noting(self, code: str, detail: str | None = None) -> Found:
        """A copy with one more finding, unless it has one of the same code."""
        if any(finding.code == code for finding in self.findings):
            return self
        finding = Finding(code, detail and shortened(detail))
        return self._replace(findings=(*self.findings, finding))


def shortened(text: str) -> str:
    """The part of a text that a detail quotes."""
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"


# --- Reading --------------------------------------------------------------------------------


def valid_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is not JSON, is nested more than `MAX_DEPTH` levels, or contains a number
            that Python cannot represent.
    """
    body = text.strip(BLANKS)
    check_depth(body)
    return read_json(body).value


def read_json(text: str, *, lenient: bool = False) -> Found:
    """Read a JSON value whose depth has been checked.

    Raises:
        ValueError: It is not JSON.
        TooLargeError: It contains a number that Python cannot represent.
    """
    found, end = read_beginning(text, lenient=lenient)
    if end != len(text):
        raise ValueError("text after the value")
    return found


def read_beginning(text: str, *, lenient: bool = False) -> tuple[Found, int]:
    """Read the JSON value at the start of a text, and the position after it.

    Raises:
        ValueError: The text does not start with JSON.
        TooLargeError: The value contains a number that Python cannot represent.
    """
    repeated = False

    def entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        value = dict(pairs)
        repeated = repeated or len(value) != len(pairs)
        return value

    decoder = json.JSONDecoder(
        object_pairs_hook=entries,
        parse_constant=_nothing if lenient else _refused,
        parse_float=_float,
        parse_int=_integer,
        strict=not lenient,
    )
    value, end = decoder.raw_decode(text)
    written = json_text(value, text) if lenient or repeated else text[:end]
    return Found(value, written, (Finding("duplicate_keys"),) if repeated else ()), end


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _nothing(_constant: str) -> None:
    return None


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise TooLargeError
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise TooLargeError
    return value


def check_depth(text: str) -> None:
    """Refuse text that is nested too deeply for a recursive parser.

    Raises:
        TooDeepError: It is nested more than `MAX_DEPTH` levels.
    """
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for match in STRUCTURE.finditer(text):
        character = text[match.start()]
        if character in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise TooDeepError
        elif character in "}]":
            depth = max(depth - 1, 0)


# --- Writing --------------------------------------------------------------------------------


_COLON: Final = re.compile(r"""[\w"']\s*+:(\s?)""")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def json_text(value: Any, like: str = "") -> str:
    """The value as JSON text, with the spacing of `like`.

    Raises:
        ValueError: The value contains a number that JSON cannot represent.
    """
    colon = _COLON.search(like)
    separators = (",", ":") if colon and not colon[1] else (", ", ": ")
    written = json.dumps(value, ensure_ascii=False, separators=separators, allow_nan=False)
    if _SURROGATE.search(written):  # a surrogate can only be written as an escape
        written = json.dumps(value, separators=separators)
    return written
