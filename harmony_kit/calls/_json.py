"""Reading and writing JSON: as the standard has it, within bounds, doubled keys reported.

The standard library's reader does the reading. It is told to refuse what is no JSON, and the
numbers that Python cannot hold.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 128
"""How many levels of nesting are read: as many as serde_json, the reader of most servers, takes.

Python's own readers recurse, so that a limit is needed that no caller's stack can meet."""

BLANKS: Final = " \t\n\r"
"""What may stand around a JSON value."""

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
"""The strings, brackets and commas of a text.

The group is the quote with which a string ends, empty where it never does. Such a string is one
match up to the end of the text (or up to a cut-off escape), so that no input is looked at twice."""

_MAX_DIGITS: Final = 4300
"""The longest integer that Python reads; reading longer ones takes quadratic time."""

_MAX_DETAIL: Final = 500
"""How many characters of a detail are kept: it may quote everything."""


class TooDeepError(ValueError):
    """A text is nested too deeply."""


class TooLargeError(ValueError):
    """A number is larger than Python reads."""


class Finding(NamedTuple):
    """Something about the arguments that is not as it should be.

    Attributes:
        code: The kind of problem, a key of `harmony_kit.problems.PROBLEM_KINDS`.
        detail: What it is about.
    """

    code: str
    detail: str | None = None


class Found(NamedTuple):
    """A JSON value that was found in a text, and how.

    Attributes:
        value: The value.
        text: The value as JSON text.
        findings: What was wrong and what was changed.
    """

    value: Any
    text: str
    findings: tuple[Finding, ...] = ()

    def noting(self, code: str, detail: str | None = None) -> Found:
        """The same with one more finding, if there is none of its kind.

        Args:
            code: The kind of problem.
            detail: What it is about; shortened if it is long.
        """
        if any(finding.code == code for finding in self.findings):
            return self
        finding = Finding(code, detail and shortened(detail))
        return self._replace(findings=(*self.findings, finding))


def shortened(text: str) -> str:
    """A text as far as a detail quotes it.

    Args:
        text: The text.
    """
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"


# --- Reading --------------------------------------------------------------------------------


def valid_json(text: str) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.

    Raises:
        ValueError: It is not JSON, or nested more than `MAX_DEPTH` levels, or has a number that
            Python cannot hold.
    """
    body = text.strip(BLANKS)
    check_depth(body)
    return read_json(body).value


def read_json(text: str, *, lenient: bool = False) -> Found:
    """Read a JSON value whose depth was checked.

    Args:
        text: The text, without blanks around the value.
        lenient: Whether line breaks may stand in strings, and NaN is read as null. The text
            found is written anew then.

    Raises:
        ValueError: It is not JSON.
        TooLargeError: It has a number that Python cannot hold.
    """
    found, end = read_beginning(text, lenient=lenient)
    if end != len(text):
        raise ValueError("text after the value")
    return found


def read_beginning(text: str, *, lenient: bool = False) -> tuple[Found, int]:
    """Read the JSON value with which a text begins.

    Args:
        text: The text.
        lenient: As for `read_json`.

    Returns:
        The value, and the position after it.

    Raises:
        ValueError: The text does not begin with JSON.
        TooLargeError: The value has a number that Python cannot hold.
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
    """Refuse a text that no reader should be given.

    Args:
        text: JSON, or nearly.

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
    """Write a value as JSON.

    Args:
        value: The value.
        like: A text whose blanks are imitated: with none after its first colon, none is written.

    Raises:
        ValueError: The value holds a number that JSON does not have.
    """
    colon = _COLON.search(like)
    separators = (",", ":") if colon and not colon[1] else (", ", ": ")
    written = json.dumps(value, ensure_ascii=False, separators=separators, allow_nan=False)
    if _SURROGATE.search(written):  # only an escape can carry one
        written = json.dumps(value, separators=separators)
    return written
