"""Repair of text that is almost a JSON object.

The steps before the library json-repair take linear time, because the library is super-linear
on adversarial text and rewrites spelling that could be preserved. None of them parses JSON: each
rewrites text, which the standard library's parser then reads.

The object is extracted from surrounding text, escaped quotes are unescaped, a truncated object is
closed, and comments and Python literals are rewritten as JSON. The library gets the remainder if it
is small enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from ._json import STRUCTURE, Found, check_depth, json_text, read_beginning, read_json


def closed_string(text: str) -> Found | None:
    """The JSON string that a text is, with its missing closing quote; `None` for other text."""
    string = STRUCTURE.match(text)
    if string is None or string[1] != "" or not _CUT_OFF_ESCAPE.fullmatch(text, string.end()):
        return None
    try:
        return read_json(string[0] + '"')
    except ValueError:
        return None


def repaired_object(text: str, name: str | None = None) -> Found | None:
    """The object that an invalid JSON text was meant to be; `None` if that is unclear."""
    body = _object_part(text, name)
    if body is None:
        return None
    check_depth(body)  # again: a quote before the object could hide its brackets
    found = _object_with_which_begins(body)
    return found.noting("json_repaired") if found and body != text else found


def _object_with_which_begins(body: str) -> Found | None:
    """The object at the start of a text that begins with a brace, with the smallest repair."""
    body = _with_raw_text(body)
    spellings = [body, *_unescaped(body)]
    for read in (_first_object, _completed_object):
        for spelling in spellings:
            found = read(spelling)
            if found is not None:
                return found
    written = _rewritten(body)
    found = _first_object(written) or _completed_object(written)
    if found is not None:
        return found._replace(text=json_text(found.value, body))
    return _library_object(body)


# --- The text around ------------------------------------------------------------------------


_LOST_BRACE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"\s*+:', re.DOTALL)
_BRACES: Final = re.compile(r"\{(?:\s*+\{)*+")
# A function call or a statement, which prose does not contain.
_CODE: Final = re.compile(r"\w\(|^[ \t]*+(?:import|return|def|class)\b", re.MULTILINE)


def _object_part(text: str, name: str | None) -> str | None:
    """The text from its object on; `None` if it contains none."""
    if _LOST_BRACE.match(text):
        return "{" + text
    braces = _BRACES.search(text)
    if braces is None:
        return None
    before = text[: braces.start()].rstrip()
    if name:
        before = before.removesuffix(f"{name}(")
    if _CODE.search(before):
        return None
    body = text[braces.end() - 1 :]
    return None if "[" in before and not _is_alone(body) else body


def _is_alone(body: str) -> bool:
    """Whether no other object follows the one at the start."""
    try:
        _, end = _beginning(body)
    except ValueError:
        return True
    return "{" not in body[end:]


def _first_object(body: str) -> Found | None:
    """The valid object at the start of a text, whatever follows."""
    try:
        found, end = _beginning(body)
    except ValueError:
        return None
    rest = body[end:].strip()
    if not isinstance(found.value, dict) or _CODE.search(rest):
        return None
    if _is_another_object(rest, found.value):
        return found.noting("several_objects", rest)
    found = found.noting("json_repaired", f"cut: {rest}" if rest else None)
    return found.noting("truncated_json") if _is_cut_off(rest) else found


def _is_another_object(rest: str, first: dict[str, Any]) -> bool:
    """Whether the text after an object is a second one that differs from it."""
    text = rest.lstrip(" \t\r\n,;")
    if not text.startswith("{"):
        return False
    try:
        following, _ = _beginning(text)
    except ValueError:
        return False
    return isinstance(following.value, dict) and following.value not in ({}, first)


def _beginning(text: str) -> tuple[Found, int]:
    """The value at the start of a text and its end, read leniently if necessary."""
    try:
        return read_beginning(text)
    except ValueError:
        return read_beginning(text, lenient=True)


def _unescaped(body: str) -> Iterator[str]:
    """The text without the backslashes before its quotes."""
    if '\\"' in body:
        with suppress(ValueError):
            yield read_json(f'"{body}"', lenient=True).value
        yield body.replace('\\"', '"')


# --- A lost end -----------------------------------------------------------------------------


_PAIRS: Final = {"{": "}", "[": "]"}
# An incomplete escape at the end of a truncated text.
_CUT_OFF_ESCAPE: Final = re.compile(r"(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_HALF_CHARACTER: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
# An incomplete member at the end of a truncated text: without a value or with a partial one.
_UNFINISHED: Final = re.compile(
    r',?\s*+(?:"(?:[^"\\]|\\.)*+(?:"\s*+(?::\s*+[\w.+-]*)?|\\?)|[\w.+-]*)\s*', re.DOTALL
)


def _completed_object(body: str) -> Found | None:
    """The object of a truncated text, closed at its end."""
    for candidate in _completions(body):
        with suppress(ValueError):
            found, end = _beginning(candidate)
            if end == len(candidate):
                return found.noting("truncated_json")
    return None


def _is_cut_off(body: str) -> bool:
    return next(_completions(body), None) is not None


def _completions(body: str) -> Iterator[str]:
    """The truncated text, closed; then the same without its incomplete last member."""
    closing: list[str] = []
    cut = 0
    string: re.Match[str] | None = None
    for match in STRUCTURE.finditer(body):
        character = body[match.start()]
        string = match if character == '"' else None
        if character in _PAIRS:
            closing.append(_PAIRS[character])
            cut = match.end()
        elif character == ",":
            cut = match.start()
        elif character in "}]":
            if not closing or closing.pop() != character or not closing:
                return
            cut = match.end()
    if not closing:
        return
    end = "".join(reversed(closing))
    if string is not None and not string[1]:
        if _CUT_OFF_ESCAPE.fullmatch(body, string.end()):
            yield _HALF_CHARACTER.sub("", body[: string.end()]) + '"' + end
    else:
        yield body.rstrip() + end
    if _UNFINISHED.fullmatch(body, cut):
        yield body[:cut] + end


# --- Other spellings ------------------------------------------------------------------------


_COMMENT: Final = re.compile(r"//[^\n]*+|\#[^\n]*+|/\*.*?(?:\*/|\Z)", re.DOTALL)
_LEXEME: Final = re.compile(
    r'"(?:[^"\\]|\\.)*+"?'
    r"|'(?:[^'\\]|\\.)*+'?"
    rf"|{_COMMENT.pattern}"
    r"|\b(?:True|False|None|undefined)\b",
    re.DOTALL,
)
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?' r"|'(?:[^'\\]|\\.)*+'?", re.DOTALL)
_TRAILING_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*+[}\]])', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPE_OR_QUOTE: Final = re.compile(_ESCAPE.pattern + '|"', re.DOTALL)
# A Windows path, from a drive or a server up to whitespace or a quote.
_PATH: Final = re.compile(
    r"""(?:(?<![A-Za-z])[A-Za-z]:\\(?!u[0-9a-fA-F]{4})|(?<![^\s"'(=,;])\\\\(?=[\w.$?]))(?:[^\s\\"'|<>]|\\(?!["'\s]))*+"""
)
_ESCAPED_DRIVE: Final = re.compile(r"[A-Za-z]:\\\\")
_UNKNOWN_ESCAPE: Final = re.compile(
    r"""(?:[^\\]|\\(?:["'\\/bfnrt\n]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}))*+\\(?!\Z)""", re.DOTALL
)
_LITERALS: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


def _rewritten(body: str) -> str:
    """The text without comments, trailing commas and Python literals."""
    return _TRAILING_COMMA.sub(r"\1", _LEXEME.sub(_as_json, body))


def _with_raw_text(body: str) -> str:
    """The text with literal backslashes in its strings doubled."""
    if "\\" not in body:
        return body
    return _STRING.sub(lambda string: _escaped_raw_text(string[0]), body)


def _as_json(lexeme: re.Match[str]) -> str:
    text = lexeme[0]
    quote = text[0]
    if quote not in "\"'":
        return _LITERALS.get(text, " ")
    before = text[1:-1]
    escapes = len(before) - len(before.rstrip("\\"))
    ended = len(text) > 1 and text.endswith(quote) and escapes % 2 == 0
    inner = text[1:-1] if ended else text[1:]
    return f'"{_ESCAPE_OR_QUOTE.sub(_escape, inner)}' + ('"' if ended else "")


def _escaped_raw_text(inner: str) -> str:
    """The inside of a string with literal backslashes doubled.

    In a Windows path, every backslash is literal. In a string with an escape that JSON does not
    define, as in regular expressions, so are the escapes of backspace and form feed.
    """
    if not _UNKNOWN_ESCAPE.match(inner):
        return inner
    pieces: list[str] = []
    place = 0
    for path in _PATH.finditer(inner):
        pieces += [_escaped_pattern(inner[place : path.start()]), _escaped_path(path[0])]
        place = path.end()
    return "".join([*pieces, _escaped_pattern(inner[place:])])


def _escaped_path(path: str) -> str:
    if not _ESCAPED_DRIVE.match(path):
        return path.replace("\\", "\\\\")
    if not _UNKNOWN_ESCAPE.match(path):
        return path
    return _ESCAPE.sub(lambda escape: escape[0] if escape[0] == "\\\\" else f"\\{escape[0]}", path)


def _escaped_pattern(inner: str) -> str:
    return _ESCAPE.sub(
        lambda escape: f"\\{escape[0]}" if escape[0][1] in "bf" else escape[0], inner
    )


def _escape(match: re.Match[str]) -> str:
    escape = match[0]
    if escape == '"':
        return '\\"'
    if len(escape) == 4:
        return f"\\u00{escape[2:]}"
    if len(escape) == 6 or escape[1] in '"\\/bfnrt':
        return escape
    return "'" if escape[1] == "'" else f"\\{escape}"


# --- The library ----------------------------------------------------------------------------


_MAX_LIBRARY_LENGTH: Final = 100_000
_MAX_LIBRARY_WORK: Final = 5_000_000
"""The limit for input to json-repair: characters times punctuation marks.

Its time grows with that product on adversarial text (0.2 microseconds each, measured with version
0.64 on `{"a":"` followed by many `{a:`), so the worst case is one second. The steps before it
repair longer text with common errors."""

_FENCE: Final = re.compile(r"\n?```\s*\Z")
_EMPTY_TEXT: Final = re.compile(r'(?<!\\)""')
_MARK: Final = re.compile(r"[^\w\s]")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_MADE_LITERALS: Final = frozenset({"true", "false", "none", "null", "nan", "infinity"})


def _library_object(body: str) -> Found | None:
    """The object that json-repair makes of a text, unless it is an invention."""
    body = _FENCE.sub("", body)
    if len(body) > _MAX_LIBRARY_LENGTH:
        return None
    if len(body) * len(_MARK.findall(body)) > _MAX_LIBRARY_WORK:
        return None
    import json_repair

    try:
        value: Any = json_repair.loads(body, skip_json_loads=True)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict) or not value:
            return None
        written = json_text(value, body)
    except RecursionError:
        raise
    except Exception:  # the library documents no exceptions; the text stays unread
        return None
    if _is_invention(body, written):
        return None
    cut_off = _is_cut_off(body) or _is_cut_off(_rewritten(body))
    return Found(value, written).noting("truncated_json" if cut_off else "json_repaired")


def _is_invention(body: str, written: str) -> bool:
    """Whether json-repair added or lost something: it makes an object of nearly any text."""
    if '"""' in body or "'''" in body:
        return True
    if _EMPTY_TEXT.search(written) and '""' not in body and "''" not in body:
        return True
    comments = {word for comment in _COMMENT.findall(body) for word in _words(comment)}
    return not _words(body) <= _words(written) | comments | _MADE_LITERALS


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(_ESCAPE.sub(" ", text))}
