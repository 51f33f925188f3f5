"""The program of the server's process: llama.cpp's server, from xllamacpp.

It runs as a script and imports nothing from this package. It reads one line of JSON from its
standard input, the server's options, and writes one line of JSON to its standard output: the
server's address, or an error. It ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any


class OptionError(Exception):
    """llama.cpp has no such option, or refuses its value."""


def main() -> None:
    """Start the server, and stop it when standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # llama.cpp prints to both; all of it is its log
    options = json.loads(sys.stdin.buffer.readline())
    try:
        server = _start(options)
    except Exception as error:
        kind = "option" if isinstance(error, OptionError) else "start"
        _answer(answers, {"error": str(error) or type(error).__name__, "kind": kind})
        return
    _answer(answers, {"address": server.listening_address})
    sys.stdin.buffer.read()
    # The server's own shutdown waits for all requests; there is nothing to save.
    os._exit(0)


def _answer(answers: Any, value: Mapping[str, str]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _start(options: Mapping[str, Any]) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    set_options(parameters, options)
    return xllamacpp.Server(parameters)


def set_options(parameters: Any, options: Mapping[str, Any], prefix: str = "") -> None:
    """Set llama.cpp's options, which are attributes of an object.

    Args:
        parameters: The object.
        options: The values by name. A mapping sets attributes of an attribute. An enum constant is
            named in full or by its end, such as `"q8_0"` for `GGML_TYPE_Q8_0`.
        prefix: The path to the object, for errors, with a dot at its end.

    Raises:
        OptionError: There is no such option, or its value is invalid.
    """
    for name, value in options.items():
        if name.startswith("_") or not hasattr(parameters, name):
            raise OptionError(f"llama.cpp has no option {prefix}{name}")
        present = getattr(parameters, name)
        if isinstance(value, Mapping):
            set_options(present, value, f"{prefix}{name}.")
            continue
        if isinstance(present, Enum) and isinstance(value, str):
            value = _constant(type(present), value, prefix + name)  # noqa: PLW2901
        try:
            setattr(parameters, name, value)
        except Exception as error:
            raise OptionError(f"{prefix}{name}: {error}") from error


def _constant(kind: type[Enum], name: str, option: str) -> Enum:
    wanted = name.upper()
    found = [constant for constant in kind if f"_{constant.name}".endswith(f"_{wanted}")]
    if len(found) != 1:
        known = ", ".join(constant.name for constant in kind)
        raise OptionError(f"{option} cannot be {name!r}; known: {known}")
    return found[0]


if __name__ == "__main__":
    main()
