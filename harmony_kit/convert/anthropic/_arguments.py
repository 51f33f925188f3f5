"""The arguments of calls: what the model wrote, and objects that a client can read.

The API has objects for `input`, and its clients raise in the middle of a stream if the pieces
of one cannot be read. What the model writes is not always an object. So its text goes out
as it comes while it is the beginning of an object, and no further than its first fault. At
the end the object is closed, and the whole text stands in it under `INVALID_JSON`, the
name that the API's documentation proposes for this.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from ...wire._closed_json import is_closed_json

INVALID_JSON: Final = "INVALID_JSON"
"""The field of a call's input that has what the model wrote, where that is no JSON object."""

TRUNCATED_JSON: Final = "TRUNCATED_JSON"
"""The only field of the input of a call that was cut off; has what the model wrote of it."""

_BLANKS: Final = re.compile(r"[ \t\n\r]+")
# Lone surrogates are left out: clients in other languages cannot read them.
_IN_STRING: Final = re.compile(
    r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))++"
)
_SCALAR: Final = re.compile(
    r"(?:true|false|null|-?(?:0|[1-9][0-9]{0,299})(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,9})?)"
    r"(?=[ \t\n\r,\]}])"
)
# Longer than any token: what then still is none will never be one.
_LONGEST_TOKEN: Final = 1000
_DEEPEST: Final = 100  # clients read about 200

# What is missing behind the text that was sent, for the state in which it breaks off.
_CLOSINGS: Final = {"in_key": '":null', "colon": ":null", "value": "null", "in_value": '"'}
_OPENINGS: Final = {"{": "first_key", "[": "first_item"}
_CLOSERS: Final = {"{": "}", "[": "]"}
_VALUES: Final = frozenset({"value", "first_item", "item"})


class ArgumentsWriter:
    """Turns the text of a call, as it comes, into the JSON text of an object.

    What `feed` and `end` return joins to the text itself where that is an object. The state
    names what may come next; text in which a fault may still show (a comma that nothing
    follows, the last brace) is held back.
    """

    def __init__(self) -> None:
        self._written: list[str] = []
        self._rest = ""
        self._held: list[str] = []
        self._stack: list[str] = []
        self._state = "start"
        self._is_empty = True
        self._is_faulty = False

    def feed(self, text: str) -> str:
        """Take a piece of what the model wrote.

        Args:
            text: The piece.

        Returns:
            What can be sent of it.
        """
        self._written.append(text)
        if self._is_faulty:
            return ""
        self._rest += text
        sent: list[str] = []
        position = 0
        while (end := self._token_end(position)) > position:
            self._take(self._rest[position:end], sent)
            position = end
        self._rest = self._rest[position:]
        self._is_faulty = len(self._rest) > _LONGEST_TOKEN
        return "".join(sent)

    def end(self) -> str:
        """The text is over.

        Returns:
            The rest of the object.
        """
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
        """The text breaks off: the object stays open, so that nobody takes it for the whole.

        Returns:
            The rest of what can be sent.
        """
        return "{" if self._state == "start" else ""

    def _token_end(self, position: int) -> int:
        """Where the token ends that may stand next; `position` where there is none (yet)."""
        text, state = self._rest, self._state
        if position == len(text):
            return position
        char = text[position]
        if state in ("in_key", "in_value"):
            run = _IN_STRING.match(text, position)
            return run.end() if run else position + (char == '"')
        blanks = _BLANKS.match(text, position)
        if blanks:
            return blanks.end()
        if char in self._signs():
            return position + 1
        scalar = _SCALAR.match(text, position) if state in _VALUES else None
        return scalar.end() if scalar and math.isfinite(_number(scalar[0])) else position

    def _signs(self) -> str:
        """The signs that may come next."""
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
        """The state after a token that is neither blank nor within a text."""
        if token in _OPENINGS:
            self._stack.append(token)
            return _OPENINGS[token]
        if token in ("}", "]"):
            # The outermost stays: there may be more than the object.
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
    """Turns the text of a call that is code, as it comes, into the JSON text of an object."""

    def __init__(self) -> None:
        self._opening = '{"code": "'

    def feed(self, text: str) -> str:
        """Take a piece of what the model wrote.

        Args:
            text: The piece.

        Returns:
            The same as JSON text.
        """
        opening, self._opening = self._opening, ""
        return opening + json.dumps(text, ensure_ascii=False)[1:-1]

    def end(self) -> str:
        """The text is over.

        Returns:
            The rest of the object.
        """
        return self._opening + '"}'

    def cut(self) -> str:
        """The text breaks off, and the object stays open.

        Returns:
            The rest of what can be sent.
        """
        return self._opening


def folded_input(text: str) -> dict[str, Any]:
    """The input of a call, from the pieces of a stream: the object, or the text of one cut off.

    Args:
        text: The pieces, joined.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return call_input(text) if isinstance(value, dict) else {TRUNCATED_JSON: text}


def call_input(text: str) -> dict[str, Any]:
    """The input of a call: the object that the text is, or what could be read and the text.

    Args:
        text: What the model wrote.
    """
    writer = ArgumentsWriter()
    value: dict[str, Any] = json.loads(writer.feed(text) + writer.end())
    # An argument of that name, which would look like a call that was cut off.
    return {INVALID_JSON: text} if _is_cut_off(value) else value


def _is_cut_off(value: dict[str, Any]) -> bool:
    """Whether an input has nothing but a text that breaks off."""
    written = value.get(TRUNCATED_JSON)
    return len(value) == 1 and isinstance(written, str) and not is_closed_json(written)


def call_text(value: dict[str, Any]) -> str:
    """What the model wrote, from the input of a call.

    Args:
        value: The input.
    """
    if _is_cut_off(value):
        return str(value[TRUNCATED_JSON])
    written = value.get(INVALID_JSON)
    # A tool may have an argument of this name.
    if isinstance(written, str) and call_input(written) == value:
        return written
    return json.dumps(value, ensure_ascii=False)


def code_text(value: dict[str, Any]) -> str | None:
    """The code that the model wrote, from the input of a call; `None` if it is something else.

    Args:
        value: The input.
    """
    if _is_cut_off(value):
        try:
            value = json.loads(f'{value[TRUNCATED_JSON]}"}}')
        except ValueError:
            return None
    code = value.get("code")
    return code if value.keys() == {"code"} and isinstance(code, str) else None
