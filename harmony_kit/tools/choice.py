"""Which tools the model may or must call."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class ToolChoice(NamedTuple):
    """Which tools the model may or must call.

    Attributes:
        mode: `"auto"`: as it likes. `"none"`: none. `"required"`: at least one.
        names: The full names that it may call; none means all. The name of a namespace stands
            for all of its tools.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()


ANY_TOOL: Final = ToolChoice()
"""Any of the tools, or none."""
