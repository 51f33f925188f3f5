"""Headers to tokens."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from ...errors import InvalidMessageError
from .._messages import Header
from .._roles import Role
from .._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    MESSAGE,
    START,
    encode,
)

HeaderOrder = Literal["recipient-first", "channel-first"]
"""Where the recipient stands in a rendered header: before the channel, or after it."""


# --- Writing --------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def header_tokens(header: Header, order: HeaderOrder) -> tuple[int, ...]:
    """The tokens of a header, from `<|start|>` to `<|message|>`.

    Each piece is encoded by itself, as the reference does it, so that token boundaries fall
    at the edges of the pieces.

    Args:
        header: What to write.
        order: Where the recipient stands.

    Raises:
        InvalidMessageError: A piece holds a lone surrogate; the error names the field.
    """
    tokens = [START]
    if header.role is Role.TOOL:
        tokens += piece_tokens(header.name or "", "name")
    else:
        tokens += piece_tokens(header.role.value, "role")
        if header.name is not None:
            tokens += piece_tokens(f":{header.name}", "name")
    recipient: tuple[int, ...] = ()
    # "all" is the reference's word for nobody in particular; it is never written.
    if header.recipient is not None and header.recipient != "all":
        recipient = piece_tokens(f" to={header.recipient}", "recipient")
    channel: tuple[int, ...] = ()
    if header.channel is not None:
        channel = (CHANNEL, *piece_tokens(header.channel, "channel"))
    tokens += recipient + channel if order == "recipient-first" else channel + recipient
    if header.constrained:
        tokens += [*piece_tokens(" ", "content_type"), CONSTRAIN]
        tokens += piece_tokens(header.content_type or "", "content_type")
    elif header.content_type is not None:
        tokens += piece_tokens(f" {header.content_type}", "content_type")
    return (*tokens, MESSAGE)


@lru_cache(maxsize=4096)
def piece_tokens(text: str, field: str) -> tuple[int, ...]:
    """The tokens of one piece of a header. Headers differ, but are made of few pieces.

    Args:
        text: The piece.
        field: The field of the message from which it comes, for errors.

    Raises:
        InvalidMessageError: The piece holds a lone surrogate.
    """
    try:
        return tuple(encode(text))
    except InvalidMessageError as error:
        raise InvalidMessageError(error.reason, field=field) from None
