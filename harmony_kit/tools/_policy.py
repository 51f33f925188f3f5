"""Policies for running calls: timeout, retries, confirmation, error handling."""

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
"""Whether a call may run; a string is the reason why it may not."""

Confirm = Callable[["ToolCall"], Confirmation | Awaitable[Confirmation]]


@checked_fields
@dataclass(frozen=True, kw_only=True)
class ToolPolicy:
    """How the calls of a tool are run.

    Args:
        timeout: The maximum time of one attempt in seconds; `None` for no limit. An async function
            is cancelled. A plain function runs in a thread, which cannot be stopped: it keeps
            running in the background and its result is discarded.
        on_error: What happens when the function still raises after all attempts: `"tell"` reports
            the exception to the model, `"raise"` raises it in the caller. The model's own errors
            (an unknown name, invalid arguments) and timeouts are always reported to the model.
        retries: The number of further attempts after an exception. There are none after a timeout
            or invalid arguments.
        max_result_characters: The maximum length of a result or an error in characters; `None` for
            no limit. The middle of a longer one is replaced by a note with the number of characters
            left out. Four characters of English are about one token.
        confirm: A function, sync or async, that is called before a call runs, with the arguments
            read and validated. `True` runs the call; `False` or a string refuses it and reports
            that to the model. A sync function runs in the event loop, so that questions to a person
            are asked one at a time.

    Raises:
        OptionError: An option has an invalid value.

    Example:
        >>> policy = ToolPolicy(timeout=10, retries=1)
        >>> policy.timeout
        10
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
