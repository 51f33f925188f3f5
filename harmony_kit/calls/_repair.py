"""Repairing text that is almost a JSON object.

The steps before the library json-repair are each linear in the text, for the library is
super-linear on text made to hurt it and rewrites spelling that could be kept; none of them
parses JSON itself: each only rewrites text that the standard library's reader then reads.

The object is taken out of the text around it, quotes are unescaped, a cut-off end is closed,
comments and Python's spellings are written as JSON. The library gets what is left, where it
is small enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from ._json import STRUCTURE, Found, check_depth, json_text, read_beginning, read_json


def closed_string(text: str) -> Found | None:
    """The JSON string that a text is, but for its lost end.

    Args:
        text: The text.

    Returns:
        The string; `None` if the text is something else.
    """
    string = STRUCTURE.match(text)
    if string is None or string[1] != "" or not _CUT_OFF_ESCAPE.fullmatch(text, string.end()):
        return None
    try:
        return read_json(string[0] + '"')
    except ValueError:
        return None


def repaired_object(text: str, name: str | None = None) -> Found | None:
    """The object that a text without being JSON is meant to be.

    Args:
        text: The text.
        name: The tool's name, for text that spells a call of it.

    Returns:
        The object; `None` if there is no telling.
    """
    body = _object_part(text, name)
    if body is None:
        return None
    check_depth(body)  # again: a quote before the object hid its brackets
    found = _object_with_which_begins(body)
    return found.noting("json_repaired") if found and body != text else found


def _object_with_which_begins(body: str) -> Found | None:
    """The object that a text means which begins with its brace: the least change that helps."""
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
# What prose does not have: a call of a function, a statement.
_CODE: Final = re.compile(r"\w\(|^[ \t]*+(?:import|return|def|class)\b", re.MULTILINE)


def _object_part(text: str, name: str | None) -> str | None:
    """A text from its object on, without what stands before it; `None` if it has none."""
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
    """Whether no other object follows the one with which a text begins."""
    try:
        _, end = _beginning(body)
    except ValueError:
        return True
    return "{" not in body[end:]


def _first_object(body: str) -> Found | None:
    """The valid object with which a text begins, whatever follows."""
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
    """Whether what follows an object is one more that differs from it."""
    text = rest.lstrip(" \t\r\n,;")
    if not text.startswith("{"):
        return False
    try:
        following, _ = _beginning(text)
    except ValueError:
        return False
    return isinstance(following.value, dict) and following.value not in ({}, first)


def _beginning(text: str) -> tuple[Found, int]:
    """The value with which a text begins, read leniently if need be, and its end."""
    try:
        return read_beginning(text)
    except ValueError:
        return read_beginning(text, lenient=True)


def _unescaped(body: str) -> Iterator[str]:
    """A text whose quotes were escaped, without the backslashes."""
    if '\\"' in body:
        with suppress(ValueError):
            yield read_json(f'"{body}"', lenient=True).value
        yield body.replace('\\"', '"')


# --- A lost end -----------------------------------------------------------------------------


_PAIRS: Final = {"{": "}", "[": "]"}
# What can stand at the end of a text that was cut inside an escape.
_CUT_OFF_ESCAPE: Final = re.compile(r"(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_HALF_CHARACTER: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
# The beginning of a member that lacks its value, or has one that is no value yet.
_UNFINISHED: Final = re.compile(
    r',?\s*+(?:"(?:[^"\\]|\\.)*+(?:"\s*+(?::\s*+[\w.+-]*)?|\\?)|[\w.+-]*)\s*', re.DOTALL
)


def _completed_object(body: str) -> Found | None:
    """The object of a text that was cut off, closed where it ends."""
    for candidate in _completions(body):
        with suppress(ValueError):
            found, end = _beginning(candidate)
            if end == len(candidate):
                return found.noting("truncated_json")
    return None


def _is_cut_off(body: str) -> bool:
    return next(_completions(body), None) is not None


def _completions(body: str) -> Iterator[str]:
    """A text that was cut off, closed; then without the member at which it was cut."""
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
# A path of Windows, from a drive or a server up to whitespace or a quote.
_PATH: Final = re.compile(
    r"""(?:(?<![A-Za-z])[A-Za-z]:\\|(?<![^\s"'(=,;])\\\\(?=[\w.$?]))(?:[^\s\\"'|<>]|\\(?!["'\s]))*+"""
)
_ESCAPED_DRIVE: Final = re.compile(r"[A-Za-z]:\\\\")
_UNKNOWN_ESCAPE: Final = re.compile(
    r"""(?:[^\\]|\\(?:["'\\/bfnrt\n]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}))*+\\(?!\Z)""", re.DOTALL
)
_BACKSPACE_OR_FORM_FEED: Final = re.compile(r"((?:[^\\]|\\[^bf])*+)\\([bf])", re.DOTALL)
_LITERALS: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


def _rewritten(body: str) -> str:
    """A text without comments, trailing commas and the spellings of Python."""
    return _TRAILING_COMMA.sub(r"\1", _LEXEME.sub(_as_json, body))


def _with_raw_text(body: str) -> str:
    """A text with the backslashes doubled that were meant as themselves in its strings."""
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
    """The inside of a string, with the backslashes doubled that were meant literally.

    In a path of Windows, all are. In a string with an escape that JSON does not know, as regular
    expressions have, a backspace or a form feed is not meant as one.
    """
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
    if not _UNKNOWN_ESCAPE.match(inner):
        return inner
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
"""What json-repair is given: at most so many characters times punctuation marks.

Its time grows with that product on text made to hurt it (0.2 microseconds each, measured with
0.64: `{"a":"` and then `{a:` again and again), so that this is one second at worst. Longer
text with the usual faults never reaches it."""

_FENCE: Final = re.compile(r"\n?```\s*\Z")
_EMPTY_TEXT: Final = re.compile(r'(?<!\\)""')
_MARK: Final = re.compile(r"[^\w\s]")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_MADE_LITERALS: Final = frozenset({"true", "false", "none", "null", "nan", "infinity"})


def _library_object(body: str) -> Found | None:
    """The object that json-repair makes of a text, if that is no invention."""
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
    except Exception:  # a library that promises none; the text stays what it is
        return None
    if _is_invention(body, written):
        return None
    cut_off = _is_cut_off(body) or _is_cut_off(_rewritten(body))
    return Found(value, written).noting("truncated_json" if cut_off else "json_repaired")


def _is_invention(body: str, written: str) -> bool:
    """Whether json-repair added or lost something: it makes an object of nearly anything."""
    if '"""' in body or "'''" in body:
        return True
    if _EMPTY_TEXT.search(written) and '""' not in body and "''" not in body:
        return True
    comments = {word for comment in _COMMENT.findall(body) for word in _words(comment)}
    return not _words(body) <= _words(written) | comments | _MADE_LITERALS


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(_ESCAPE.sub(" ", text))}
