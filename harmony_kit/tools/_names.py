"""Tool names that the TypeScript-like text of a prompt can contain."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_BLANKS: Final = re.compile(r"[\s.\-/]+")


def identifier(name: str) -> str:
    """A name as a TypeScript identifier.

    Whitespace, dots, slashes and hyphens become `_`; other invalid characters are removed.
    """
    kept = "".join(c for c in _BLANKS.sub("_", name) if c.isalpha() or c.isdecimal() or c in "_$")
    if not kept:
        return "unnamed"
    return f"_{kept}" if kept[0].isdecimal() else kept


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """A unique identifier for each name, by name.

    Valid identifiers are unchanged; a name whose identifier is taken gets a number.
    """
    found: dict[str, str] = {}
    wanted = list(dict.fromkeys(names))
    taken = {name for name in wanted if identifier(name) == name}
    for name in wanted:
        own = identifier(name)
        if own != name:
            own = _free(own, taken)
            taken.add(own)
        found[name] = own
    return found


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
