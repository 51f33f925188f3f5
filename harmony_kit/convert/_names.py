"""Names of functions: those of clients, and those that a TypeScript namespace can carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..tools._names import identifier, identifiers


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

    What is an identifier of TypeScript stays; `identifiers` says what becomes of the others.

    Args:
        names: The clients' names, in order.
    """
    return ToolNames(identifiers(names))
