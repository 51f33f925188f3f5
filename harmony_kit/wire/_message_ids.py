"""The token ids of the message being read, which the finished message remembers."""

from __future__ import annotations

from functools import cache
from typing import Final

from ._chunks import packed
from ._events import MessageSpan, Terminator
from ._messages import Header, pack_tokens, trusted_message
from ._render import next_header
from ._roles import Role
from ._vocabulary import CALL, END

PACKED_END: Final = packed([END])
_PACKED_CALL: Final = packed([CALL])

# How many ids before the current message may accumulate until they are dropped together.
_MAX_OBSOLETE: Final = 4096


class MessageIds:
    """Stores the ids from the start of the current message on.

    Args:
        role: The role with which the prompt ended, or `None`.
        remembers: Whether to store ids at all.

    Attributes:
        remembers: Likewise.
        prompted: The packed ids at the end of the prompt with which the current message begins:
            none, except for the first message. `None` if its ids do not continue them.
    """

    __slots__ = ("_ids", "_start", "prompted", "remembers")

    def __init__(self, role: Role | None, *, remembers: bool) -> None:
        self.remembers = remembers
        self.prompted: bytes | None = b"" if role is None else _prompt_ids(role)
        self._ids = bytearray()
        self._start = 0  # the position of the first of them

    def add(self, ids: bytes) -> None:
        """Add packed ids."""
        if self.remembers:
            self._ids += ids

    def forget(self, before: int) -> None:
        """Drop the ids before a position, now or later."""
        if before - self._start > _MAX_OBSOLETE:
            del self._ids[: 4 * (before - self._start)]
            self._start = before

    def of_message(
        self,
        header: Header,
        content: str,
        span: MessageSpan,
        terminator: Terminator | None,
        *,
        is_generated: bool,
    ) -> bytes | None:
        """The ids of the message that ends, as `pack_tokens` gives them; `None` if not known."""
        prompted, self.prompted = self.prompted, b""
        if not self.remembers or prompted is None or (terminator is None and not is_generated):
            return None
        origin = self._start
        ids = prompted + self._ids[4 * (span.start - origin) : 4 * (span.end - origin)]
        added = 1
        if terminator is Terminator.RETURN:
            ids = ids[:-4] + PACKED_END
        elif terminator is None:
            is_whole_call = header.is_call and trusted_message(header, content).is_whole
            ids += _PACKED_CALL if is_whole_call else PACKED_END
        else:
            added = 0
        return pack_tokens(ids, len(prompted) // 4, added) if is_generated else bytes(ids)


@cache
def _prompt_ids(role: Role) -> bytes:
    """The packed ids of `<|start|>` and a role, with which a prompt ends."""
    return packed(next_header(role))
