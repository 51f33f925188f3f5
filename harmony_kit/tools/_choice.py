"""Tool choice: which tools a completion may or must call."""

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
    """Which tools a completion may or must call.

    Args:
        mode: `"auto"`: any number of calls. `"none"`: no call. `"required"`: at least one call.
        names: The full names of the tools that may be called; empty for all. The name of a
            namespace stands for all of its tools.

    Raises:
        OptionError: The mode is unknown, or a name is not a string.
    """

    mode: Mode = "auto"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise OptionError(f"expected one of {_MODES}, got {self.mode!r}", option="mode")
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise OptionError(f"expected a list of tool names, got {self.names!r}", option="names")
        object.__setattr__(self, "names", tuple(self.names))


def tool_choice_of(choice: ToolChoice | str) -> ToolChoice:
    """A `ToolChoice` from a mode, the full name of the tool to call, or a `ToolChoice`.

    Raises:
        OptionError: The value is none of these.
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
