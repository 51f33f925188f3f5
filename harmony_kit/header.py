"""The header of a message, both ways: the one grammar.

    <|start|> author {part} <|message|>

    author   a role, `role:name`, or the full name of a tool
    part     ` to=` recipient       whom the message addresses
             <|channel|> channel    what it is for
             ` ` content type       one word, the last part
             <|constrain|> content type

The recipient may stand before the channel (recipient-first: openai-harmony 0.0.8 and the
model repository's chat template) or after it (channel-first: what the model itself writes);
reading accepts both. Every part may occur once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from .errors import InvalidMessageError, ParseError
from .messages import Message, Role
from .vocabulary import (
    CHANNEL,
    CONSTRAIN,
    FIRST_SPECIAL,
    MESSAGE,
    SPECIAL_TOKEN_NAMES,
    START,
    decode_bytes,
    encode,
)

HeaderOrder = Literal["recipient-first", "channel-first"]
"""Where the recipient stands in a rendered header: before the channel, or after it."""


class Header(NamedTuple):
    """Everything that a message's header says.

    Attributes:
        role: Who wrote the message.
        name: The author's name; for a tool its full name.
        channel: What the message is for.
        recipient: Whom it addresses.
        content_type: What its content is, one word such as `"json"`.
        constrained: Whether `<|constrain|>` stands before the content type.
    """

    role: Role
    name: str | None = None
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    constrained: bool = False


def header_of(message: Message) -> Header:
    """What the header of a message says.

    Args:
        message: The message.
    """
    return Header(
        message.role,
        message.name,
        message.channel,
        message.recipient,
        message.content_type,
        message.constrained,
    )


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


# --- Reading --------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A part of a header as it was read, before the grammar judges it."""

    kind: Literal["word", "recipient", "channel", "constrain"]
    text: str
    position: int


# Words end at any blank: Unicode's White_Space.
_WORD: Final = re.compile(r"[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def parse_header(tokens: Sequence[int], role: Role | None, position: int = 0) -> Header:
    """Read a header strictly.

    Args:
        tokens: The tokens between `<|start|>` and `<|message|>`, both excluded.
        role: The role, where it was already given by the prompt; else the header names it.
        position: The index of the first of these tokens, for errors.

    Raises:
        ParseError: The tokens are not a header.
    """
    parts = list(_parts(tokens, position))
    if role is None:
        role, name = _author(parts, position)
    else:
        name = None
        # The role may be repeated; the prompt ended with it.
        first = next((part for part in parts if part.kind != "channel"), None)
        if first is not None and first.kind == "word" and first.text == role:
            parts.remove(first)
    found: dict[str, _Part] = {}
    for part in parts:
        kind = "content type" if part.kind in ("word", "constrain") else part.kind
        if kind in found or ("content type" in found and kind == "recipient"):
            raise ParseError(
                "unexpected_header_text",
                f"unexpected {part.text!r} in a header",
                position=part.position,
            )
        found[kind] = part
    content_type = found.get("content type")
    return Header(
        role,
        name,
        found["channel"].text if "channel" in found else None,
        found["recipient"].text if "recipient" in found else None,
        content_type.text if content_type else None,
        content_type is not None and content_type.kind == "constrain",
    )


def _parts(tokens: Sequence[int], position: int) -> Iterator[_Part]:
    for marker, text, place in _sections(tokens, position):
        words = _WORD.findall(text)
        if marker is not None:
            kind: Literal["channel", "constrain"] = "channel" if marker == CHANNEL else "constrain"
            if not words or not text.startswith(words[0]):
                raise ParseError(
                    f"empty_{kind}",
                    f"nothing follows {SPECIAL_TOKEN_NAMES[marker]} in a header",
                    position=place,
                )
            yield _Part(kind, words.pop(0), place)
        for word in words:
            if not word.startswith("to="):
                yield _Part("word", word, place)
            elif word == "to=":
                raise ParseError("empty_recipient", "no recipient follows to=", position=place)
            else:
                yield _Part("recipient", word[3:], place)


def _sections(tokens: Sequence[int], position: int) -> Iterator[tuple[int | None, str, int]]:
    """The stretches of text of a header, each with the marker before it and its position."""
    marker = None
    start = 0
    for index, token in enumerate([*tokens, CHANNEL]):
        if 0 <= token < FIRST_SPECIAL:
            continue
        if token not in (CHANNEL, CONSTRAIN):
            name = SPECIAL_TOKEN_NAMES.get(token, f"token {token}")
            raise ParseError(
                "special_token_in_header", f"{name} inside a header", position=position + index
            )
        try:
            text = decode_bytes(tokens[start:index]).decode()
        except UnicodeDecodeError:
            raise ParseError(
                "invalid_utf8", "a header that is not UTF-8", position=position + start
            ) from None
        yield marker, text, position + start
        marker, start = token, index + 1


_ROLES: Final = {role.value: role for role in Role}
# Tools that are addressed by a bare name; other tools' names have a namespace and a dot.
_BARE_TOOLS: Final = frozenset({"python", "browser"})


def _author(parts: list[_Part], position: int) -> tuple[Role, str | None]:
    if not parts or parts[0].kind != "word":
        raise ParseError("missing_role", "a header without a role", position=position)
    word = parts.pop(0).text
    role = _ROLES.get(word)
    if role is not None:
        return role, word if role is Role.TOOL else None
    prefix, colon, name = word.partition(":")
    if colon and prefix in _ROLES and prefix != Role.TOOL:
        return _ROLES[prefix], name
    # A tool's message starts with the tool's name. As in the reference, an unknown word alone
    # is no tool; unlike there, one that looks like a tool is.
    if "." in word or word in _BARE_TOOLS or any(part.kind != "channel" for part in parts):
        return Role.TOOL, word
    raise ParseError("unknown_role", f"unknown role {word!r}", position=position)
