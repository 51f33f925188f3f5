"""Writes headers as tokens."""

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
"""Whether the recipient comes before or after the channel in a rendered header."""


@lru_cache(maxsize=4096)
def header_tokens(header: Header, order: HeaderOrder) -> tuple[int, ...]:
    """The tokens of a header, from `<|start|>` to `<|message|>`.

    Each part is encoded separately, as in the reference, so that no token spans two parts.

    Raises:
        InvalidMessageError: A part contains a lone surrogate; the error names the field.
    """
    tokens = [START]
    if header.role is Role.TOOL:
        tokens += piece_tokens(header.name or "", "name")
    else:
        tokens += piece_tokens(header.role.value, "role")
        if header.name is not None:
            tokens += piece_tokens(f":{header.name}", "name")
    recipient: tuple[int, ...] = ()
    # "all" is the reference's recipient for messages to no one in particular; it is not written.
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
    """The tokens of one part of a header; cached because headers are made of few different parts.

    Args:
        text: The part.
        field: The field of the message, for errors.

    Raises:
        InvalidMessageError: The part contains a lone surrogate.
    """
    try:
        return tuple(encode(text))
    except InvalidMessageError as error:
        raise InvalidMessageError(error.reason, field=field) from None
