"""Function names: the client's, and the TypeScript identifiers used for them in prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .._options import checked_fields
from ..tools._names import identifier, identifiers


@checked_fields
@dataclass(frozen=True)
class ToolNames:
    """Maps the client's function names to those in prompts, and back.

    Args:
        harmony_names: The name in the prompt, by the client's name.

    Example:
        >>> names = ToolNames({"get-weather": "get_weather"})
        >>> names.to_harmony("get-weather"), names.to_client("get_weather")
        ('get_weather', 'get-weather')
    """

    harmony_names: Mapping[str, str] = field(default_factory=dict)

    def to_harmony(self, name: str) -> str:
        """The name in the prompt of a client's function; an unknown name becomes an identifier."""
        return self.harmony_names.get(name) or identifier(name)

    def to_client(self, name: str) -> str:
        """The client's name of a function in the prompt; an unknown name is returned as it is.

        Args:
            name: The name without its namespace.
        """
        for client_name, harmony_name in self.harmony_names.items():
            if harmony_name == name:
                return client_name
        return name


OWN_NAMES = ToolNames()
"""Where the client calls its functions as the prompt does."""


def tool_names(names: Iterable[str]) -> ToolNames:
    """Names for the prompt for all functions of a client; see `identifiers`."""
    return ToolNames(identifiers(names))
