"""The maximum depth of a schema."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from ...errors import InvalidMessageError

MAX_DEPTH: Final = 128
"""How deep a schema may be nested, counting objects and arrays; the limit of serde_json."""
_CONTAINERS: Final = (dict, list)


def check_depth(schema: Any) -> None:
    level = [schema] if isinstance(schema, _CONTAINERS) else []
    for _ in range(MAX_DEPTH):
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [c for c in chain.from_iterable(children) if isinstance(c, _CONTAINERS)]
        if not level:
            return
    raise too_deep()


def too_deep() -> InvalidMessageError:
    return InvalidMessageError("the JSON Schema is nested too deeply", field="parameters")
