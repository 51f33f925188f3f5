"""How calls are run: how long, how often, who is asked, what is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .._checks import NOT_NEGATIVE, checked_integer, checked_number
from .._options import checked_fields
from ..errors import OptionError

if TYPE_CHECKING:
    from ..calls._calls import ToolCall

Confirmation = bool | str
"""Whether a call may run; a text says why not."""

Confirm = Callable[["ToolCall"], Confirmation | Awaitable[Confirmation]]
"""Decides whether a call may run."""


@checked_fields
@dataclass(frozen=True, kw_only=True)
class ToolPolicy:
    """How the calls of a tool are run.

    Args:
        timeout: The most seconds that one attempt may take; `None` for no limit. An async
            function is cancelled then. A plain function runs in a thread, and no thread can be
            stopped: it is left behind, and what it still does happens unheard.
        on_error: What an exception of the function does, once all attempts are used up:
            `"tell"` tells the model, `"raise"` raises it to whoever runs the call. What the
            model did wrong (a wrong name, wrong arguments) and a time-out are always told.
        retries: How many more attempts there are after an exception. None follows a time-out,
            or arguments that the tool cannot take.
        max_result_characters: How much of a result, or of an error, the model is told, in
            characters; `None` for all. Of a longer one the middle is left out, and the text
            says how much. Four characters of English are about one token.
        confirm: Asked before a call runs, with its arguments read and checked: `True` runs it,
            `False` or a text refuses, and the model is told so. Sync or async; a sync one is
            called in the event loop, so that questions come one after another.

    Raises:
        OptionError: An option has a value that it cannot have.
    """

    timeout: float | None = 300.0
    on_error: Literal["tell", "raise"] = "tell"
    retries: int = 0
    max_result_characters: int | None = 50_000
    confirm: Confirm | None = None

    def __post_init__(self) -> None:
        if self.on_error not in ("tell", "raise"):
            reason = f"expected 'tell' or 'raise', got {self.on_error!r}"
            raise OptionError(reason, option="on_error")
        checked_number("timeout", self.timeout, NOT_NEGATIVE)
        checked_integer("retries", self.retries, least=0, optional=False)
        checked_integer("max_result_characters", self.max_result_characters, least=0)
        if self.confirm is not None and not callable(self.confirm):
            raise OptionError(f"expected a function, got {self.confirm!r}", option="confirm")
