"""The arguments of calls: the text that the model writes, and the objects that clients read.

In the API, `input` is an object, and clients raise in the middle of a stream that cannot be part of
one. What the model writes is not always an object. So its text is sent as it comes while it is a
prefix of an object, up to the first error. At the end the object is closed, and has the whole text
under `INVALID_JSON`, the name that the API's documentation proposes for this.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from ...wire._closed_json import is_closed_json

INVALID_JSON: Final = "INVALID_JSON"
"""The field of a call's input with the text of the model, if that is not a JSON object."""

TRUNCATED_JSON: Final = "TRUNCATED_JSON"
"""The only field of a truncated call's input, with the text of the model."""

_WHITESPACE: Final = re.compile(r"[ \t\n\r]+")
# Lone surrogates are left out: clients in other languages cannot read them.
_IN_STRING: Final = re.compile(
    r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))++"
)
_SCALAR: Final = re.compile(
    r"(?:true|false|null|-?(?:0|[1-9][0-9]{0,299})(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,9})?)"
    r"(?=[ \t\n\r,\]}])"
)
# Longer than any token: what is longer and not a token never becomes one.
_LONGEST_TOKEN: Final = 1000
_DEEPEST: Final = 100  # clients read about 200

# What completes the text that was sent, by the state in which it ends.
_CLOSINGS: Final = {"in_key": '":null', "colon": ":null", "value": "null", "in_value": '"'}
_OPENINGS: Final = {"{": "first_key", "[": "first_item"}
_CLOSERS: Final = {"{": "}", "[": "]"}
_VALUES: Final = frozenset({"value", "first_item", "item"})


class ArgumentsWriter:
    """Turns the text of a call into the JSON text of an object, incrementally.

    If the text is an object, the results of `feed` and `end` join to that text. The state names
    what may come next. Text in which an error may still follow (a comma, the last brace) is held
    back.
    """

    def __init__(self) -> None:
        self._written: list[str] = []
        self._rest = ""
        self._held: list[str] = []
        self._stack: list[str] = []
        self._state = "start"
        self._is_empty = True
        self._is_invalid = False

    def feed(self, text: str) -> str:
        """Add text, and return what can be sent."""
        self._written.append(text)
        if self._is_invalid:
            return ""
        self._rest += text
        sent: list[str] = []
        position = 0
        while (end := self._token_end(position)) > position:
            self._take(self._rest[position:end], sent)
            position = end
        self._rest = self._rest[position:]
        self._is_invalid = len(self._rest) > _LONGEST_TOKEN
        return "".join(sent)

    def end(self) -> str:
        """The rest of the object."""
        if self._state == "end" and not self._rest:
            return "".join(self._held)
        written = "".join(self._written)
        if not written.strip():
            return "{}"
        member = f"{json.dumps(INVALID_JSON)}:{json.dumps(written, ensure_ascii=False)}}}"
        if self._state == "start":
            return "{" + member
        closing = _CLOSINGS.get(self._state, "")
        closing += "".join(_CLOSERS[opener] for opener in reversed(self._stack[1:]))
        return closing + ("" if self._is_empty else ",") + member

    def cut(self) -> str:
        """The rest of a truncated call: the object stays open, so that it never looks whole."""
        return "{" if self._state == "start" else ""

    def _token_end(self, position: int) -> int:
        """The end of the token at `position`; `position` if there is none (yet)."""
        text, state = self._rest, self._state
        if position == len(text):
            return position
        char = text[position]
        if state in ("in_key", "in_value"):
            run = _IN_STRING.match(text, position)
            return run.end() if run else position + (char == '"')
        whitespace = _WHITESPACE.match(text, position)
        if whitespace:
            return whitespace.end()
        if char in self._signs():
            return position + 1
        scalar = _SCALAR.match(text, position) if state in _VALUES else None
        return scalar.end() if scalar and math.isfinite(_number(scalar[0])) else position

    def _signs(self) -> str:
        """The punctuation that may come next."""
        opener = self._stack[-1] if self._stack else ""
        signs = {
            "start": "{",
            "first_key": '"}',
            "key": '"',
            "colon": ":",
            "after": f",{_CLOSERS.get(opener, '')}",
            "end": "",
        }.get(self._state, '"')
        if self._state in _VALUES and len(self._stack) < _DEEPEST:
            signs += "{["
        return signs + "]" if self._state == "first_item" else signs

    def _take(self, token: str, sent: list[str]) -> None:
        state = self._state
        if state in ("in_key", "in_value"):
            if token == '"':
                self._state = "colon" if state == "in_key" else "after"
        elif token.isspace():
            if self._held or state == "start":
                self._held.append(token)
                return
        else:
            self._state = self._after(token)
            if self._state in ("key", "item", "end"):
                self._held.append(token)
                return
        sent += [*self._held, token]
        self._held.clear()

    def _after(self, token: str) -> str:
        """The state after a token that is neither whitespace nor within a string."""
        if token in _OPENINGS:
            self._stack.append(token)
            return _OPENINGS[token]
        if token in ("}", "]"):
            # The outermost stays: text may follow the object.
            if len(self._stack) == 1:
                return "end"
            self._stack.pop()
            return "after"
        if token == ",":
            return "key" if self._stack[-1] == "{" else "item"
        if token == ":":
            return "value"
        if token != '"':
            return "after"
        if self._state in _VALUES:
            return "in_value"
        self._is_empty = False
        return "in_key"


def _number(token: str) -> float:
    return float(token) if token[0] in "-0123456789" else 0.0


class CodeWriter:
    """Turns the text of a call that is code into the JSON text of an object, incrementally."""

    def __init__(self) -> None:
        self._opening = '{"code": "'

    def feed(self, text: str) -> str:
        """Add text, and return what can be sent."""
        opening, self._opening = self._opening, ""
        return opening + json.dumps(text, ensure_ascii=False)[1:-1]

    def end(self) -> str:
        """The rest of the object."""
        return self._opening + '"}'

    def cut(self) -> str:
        """The rest of a truncated call: the object stays open."""
        return self._opening


def folded_input(text: str) -> dict[str, Any]:
    """The input of a call, from the joined deltas of a stream."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return call_input(text) if isinstance(value, dict) else {TRUNCATED_JSON: text}


def call_input(text: str) -> dict[str, Any]:
    """The input of a call, from the text of the model."""
    writer = ArgumentsWriter()
    value: dict[str, Any] = json.loads(writer.feed(text) + writer.end())
    # An argument of that name would look like a truncated call.
    return {INVALID_JSON: text} if _is_truncated(value) else value


def _is_truncated(value: dict[str, Any]) -> bool:
    """Whether an input is that of a truncated call."""
    written = value.get(TRUNCATED_JSON)
    return len(value) == 1 and isinstance(written, str) and not is_closed_json(written)


def call_text(value: dict[str, Any]) -> str:
    """The text of the model, from the input of a call."""
    if _is_truncated(value):
        return str(value[TRUNCATED_JSON])
    written = value.get(INVALID_JSON)
    # A tool may have an argument of this name.
    if isinstance(written, str) and call_input(written) == value:
        return written
    return json.dumps(value, ensure_ascii=False)


def code_text(value: dict[str, Any]) -> str | None:
    """The code of the model, from the input of a call; `None` if it has other fields."""
    if _is_truncated(value):
        try:
            value = json.loads(f'{value[TRUNCATED_JSON]}"}}')
        except ValueError:
            return None
    code = value.get("code")
    return code if value.keys() == {"code"} and isinstance(code, str) else None
