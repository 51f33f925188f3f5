"""Names of functions: those of clients, and those that a TypeScript namespace can carry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_BLANKS: Final = re.compile(r"[\s.\-]+")


@dataclass(frozen=True)
class ToolNames:
    """The names of functions, there and back.

    Args:
        harmony_names: The name in a prompt, by the client's name.
    """

    harmony_names: Mapping[str, str] = field(default_factory=dict)

    def to_harmony(self, name: str) -> str:
        """The name in a prompt of a client's function; of one that is unknown, its own.

        Args:
            name: The client's name.
        """
        return self.harmony_names.get(name) or identifier(name)

    def to_client(self, name: str) -> str:
        """The client's name of a function of the prompt; of one that is unknown, its own.

        Args:
            name: The name in the prompt, without its namespace.
        """
        for client_name, harmony_name in self.harmony_names.items():
            if harmony_name == name:
                return client_name
        return name


def tool_names(names: Iterable[str]) -> ToolNames:
    """Find a name for the prompt for every function of a client.

    What is an identifier of TypeScript stays. Else blanks, dots and hyphens become `_` and
    other characters are left out; a name that is then taken gets a number.

    Args:
        names: The clients' names, in order.
    """
    found: dict[str, str] = {}
    wanted = list(dict.fromkeys(names))
    taken = {name for name in wanted if identifier(name) == name}
    for name in wanted:
        harmony_name = identifier(name)
        if harmony_name != name:
            harmony_name = _free(harmony_name, taken)
            taken.add(harmony_name)
        found[name] = harmony_name
    return ToolNames(found)


def identifier(name: str) -> str:
    """A name as an identifier of TypeScript.

    Args:
        name: Any text.
    """
    kept = "".join(c for c in _BLANKS.sub("_", name) if c.isalpha() or c.isdecimal() or c in "_$")
    if not kept:
        return "unnamed"
    return f"_{kept}" if kept[0].isdecimal() else kept


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
