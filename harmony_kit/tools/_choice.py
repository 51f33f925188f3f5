"""Which tools the model may or must call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from .._options import checked_fields
from ..errors import OptionError

Mode = Literal["auto", "none", "required"]
_MODES: Final = ", ".join(repr(mode) for mode in get_args(Mode))


@checked_fields
@dataclass(frozen=True)
class ToolChoice:
    """Which tools the model may or must call.

    Args:
        mode: `"auto"`: as it likes. `"none"`: none. `"required"`: at least one.
        names: The full names that it may call; none means all. The name of a namespace stands
            for all of its tools.

    Raises:
        OptionError: There is no such mode, or a name is no text.
    """

    mode: Mode = "auto"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise OptionError(f"{self.mode!r} is none of {_MODES}", option="mode")
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise OptionError(f"expected names of tools, got {self.names!r}", option="names")
        object.__setattr__(self, "names", tuple(self.names))


def tool_choice_of(choice: ToolChoice | str) -> ToolChoice:
    """Which tools a completion may or must call, from all that can say it.

    Args:
        choice: A mode, the full name of the tool that must be called, or a `ToolChoice`.

    Raises:
        OptionError: It is something else.
    """
    if isinstance(choice, ToolChoice):
        return choice
    if not isinstance(choice, str):
        raise OptionError(
            f"expected {_MODES}, the full name of a tool or a ToolChoice, got {choice!r}",
            option="tool_choice",
        )
    if choice in get_args(Mode):
        return ToolChoice(choice)  # type: ignore[arg-type]
    return ToolChoice("required", (choice,))


ANY_TOOL: Final = ToolChoice()
"""Any of the tools, or none."""
