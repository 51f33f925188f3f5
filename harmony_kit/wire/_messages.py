"""The values of a conversation: messages, what stands in them, and the tools they declare.

All of them are frozen: two equal values are interchangeable, and what is computed from one
(its tokens, say) can be kept. They are checked when they are made, so that a wrong type or
an unknown role is reported where it was written.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from typing import Any, Final, NamedTuple

from .._options import checked_options
from ..errors import InvalidMessageError
from ._closed_json import is_closed_json
from ._contents import Content, DeveloperContent, Part, SystemContent
from ._fields import check_bool, check_optional_text, kind_of, member
from ._roles import Role
from ._vocabulary import CALL


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

    @property
    def is_call(self) -> bool:
        """Whether the message calls a tool: only the recipient decides."""
        return self.role is Role.ASSISTANT and self.recipient not in NO_TOOLS


NO_TOOLS: Final = frozenset({None, "all", "user", "assistant"})
"""Whom a message may address without calling a tool; `all` is nobody in particular."""


def _checked_header(
    role: object,
    name: object,
    channel: object,
    recipient: object,
    content_type: object,
    constrained: object,
) -> Header:
    role = role if type(role) is Role else member(Role, role, "role")
    check_optional_text(name, "name")
    check_optional_text(channel, "channel")
    check_optional_text(recipient, "recipient")
    check_optional_text(content_type, "content_type")
    check_bool(constrained, "constrained")
    if role is Role.TOOL and name is None:
        raise InvalidMessageError("a tool message needs the tool's name", field="name")
    if constrained and content_type is None:
        raise InvalidMessageError(
            "a constrained content needs a content type", field="content_type"
        )
    return Header(role, name, channel, recipient, content_type, constrained)  # type: ignore[arg-type]


# --- Messages -------------------------------------------------------------------------------


class Message:
    """One message of a conversation: a frozen value, equal to any other with the same fields.

    A message that was parsed without a problem remembers its tokens, and rendering repeats them.
    They are no part of its value: they do not count in comparisons, and a copy with another
    field has none.

    Args:
        role: Who wrote it; a `Role` or its name.
        content: Text, a `SystemContent`, a `DeveloperContent`, or a sequence of those.
        name: The author's name within the role. For a tool message it is the tool's full
            name, such as `"functions.get_weather"`, and stands in the role's place.
        channel: What the message is for; usually a `Channel`.
        recipient: Whom it is addressed to: for a tool call the tool's full name.
        content_type: What the content is, as one word such as `"json"` or `"code"`.
        constrained: Whether `<|constrain|>` stands before the content type.

    Raises:
        InvalidMessageError: A field has the wrong type, the role is unknown, a tool message
            has no name, or a content stands under a role that cannot have it.

    Example:
        >>> Message("assistant", "Hello!", channel="final")
        Message('assistant', 'Hello!', channel='final')
    """

    __slots__ = ("_rendering", "_tokens", "content", "header")

    header: Header
    """All fields but the content."""
    content: Content
    """What it says."""
    _tokens: bytes | None  # packed by `pack_tokens`; empty where only `is_closed_call` is known
    _rendering: Any

    @checked_options
    def __init__(
        self,
        role: Role | str,
        content: Part | Sequence[Part],
        *,
        name: str | None = None,
        channel: str | None = None,
        recipient: str | None = None,
        content_type: str | None = None,
        constrained: bool = False,
    ) -> None:
        header = _checked_header(role, name, channel, recipient, content_type, constrained)
        put_header(self, header)
        put_content(self, content if type(content) is str else _checked_content(content, header))
        put_tokens(self, None)
        put_rendering(self, None)

    @property
    def role(self) -> Role:
        """Who wrote it."""
        return self.header.role

    @property
    def name(self) -> str | None:
        """The author's name within the role; a tool's full name."""
        return self.header.name

    @property
    def channel(self) -> str | None:
        """What the message is for."""
        return self.header.channel

    @property
    def recipient(self) -> str | None:
        """Whom it is addressed to."""
        return self.header.recipient

    @property
    def content_type(self) -> str | None:
        """What the content is, as one word."""
        return self.header.content_type

    @property
    def constrained(self) -> bool:
        """Whether `<|constrain|>` stands before the content type."""
        return self.header.constrained

    @property
    def is_call(self) -> bool:
        """Whether it calls a tool: a message of the assistant that addresses one."""
        return self.header.is_call

    @property
    def text(self) -> str:
        """The content as text.

        Raises:
            InvalidMessageError: The content is not text.
        """
        if type(self.content) is str:
            return self.content
        parts = self.content if isinstance(self.content, tuple) else (self.content,)
        for part in parts:
            if not isinstance(part, str):
                raise InvalidMessageError(f"{kind_of(part)} is not text", field="content")
        return "".join(map(str, parts))

    @property
    def is_closed_call(self) -> bool:
        """Whether it is a call of which it is known that `<|call|>` closed it."""
        if self._tokens is None or not self.is_call:
            return False
        ids, _, added = unpack_tokens(self._tokens)
        return not ids or (not added and ids.endswith(_CALL))

    @property
    def is_whole(self) -> bool:
        """Whether it is known to be whole, so that it may stand in a history: any text is.

        A call must be closed by `<|call|>`, or have arguments that are one closed JSON value; else
        it may be the beginning of another call. Code has no end of its own.
        """
        if not self.is_call or self.is_closed_call:
            return True
        return self.recipient != "python" and is_closed_json(self.text)

    @property
    def tokens(self) -> MessageTokens | None:
        """The ids from which it was parsed; `None` where they are not known."""
        if not self._tokens:
            return None
        packed, prompted, added = unpack_tokens(self._tokens)
        ids = tuple(memoryview(packed).cast("I"))
        if added is None:
            return MessageTokens(ids, 0, 0)
        return MessageTokens(ids, prompted, len(ids) - added)

    def replace(self, **changes: Any) -> Message:
        """A copy with other fields; it remembers no tokens.

        Args:
            **changes: Arguments of `Message`.

        Raises:
            InvalidMessageError: The result is no message.
            TypeError: There is no such argument.
        """
        return Message(**{**self.header._asdict(), "content": self.content, **changes})

    __replace__ = replace

    def __eq__(self, other: object) -> bool:
        if type(other) is not Message:
            return NotImplemented
        return self.content == other.content and self.header == other.header

    def __hash__(self) -> int:
        return hash((self.header, self.content))

    def __repr__(self) -> str:
        named = (
            f", {name}={str(value)!r}" if isinstance(value, str) else f", {name}={value!r}"
            for name, value in zip(Header._fields[1:], self.header[1:], strict=True)
            if value is not None and value is not False
        )
        return f"Message({str(self.role)!r}, {self.content!r}{''.join(named)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (trusted_message, (self.header, self.content, self._tokens))


class MessageTokens(NamedTuple):
    """The token ids of a message as it was parsed, which a rendering repeats.

    They begin with `<|start|>`. The first message of a completion has its `<|start|>assistant` from
    the end of the prompt. A terminator that was missing is added; `<|end|>` stands in the place
    of `<|return|>`, as in every history.

    Attributes:
        ids: The ids of the whole message, from `<|start|>` to its terminator.
        sampled_start: The first of them that a model generated.
        sampled_end: One past the last that a model generated; equal to `sampled_start` where it is
            not known that a model did.
    """

    ids: tuple[int, ...]
    sampled_start: int
    sampled_end: int


_new = object.__new__
put_header, put_content, put_tokens, put_rendering = (
    vars(Message)[name].__set__ for name in ("header", "content", "_tokens", "_rendering")
)


def pack_tokens(ids: bytes, prompted: int, added: int) -> bytes:
    """The tokens of a message that a model generated, in as little memory as they need.

    Tokens that nobody is known to have generated are `ids` alone.

    Args:
        ids: The ids as an array of unsigned integers of 4 bytes each.
        prompted: How many at the beginning the prompt gave.
        added: How many at the end were added, 0 or 1.
    """
    return ids + bytes((2 * prompted + added,))


def unpack_tokens(tokens: bytes) -> tuple[bytes, int, int | None]:
    """What `pack_tokens` was given; `added` is `None` if nobody is known to have generated them.

    Args:
        tokens: The packed tokens.
    """
    if len(tokens) % 4 == 0:
        return tokens, 0, None
    return tokens[:-1], tokens[-1] // 2, tokens[-1] % 2


CLOSED_CALL: Final = b""
"""What a call remembers that `<|call|>` closed, and whose tokens are not kept."""
_CALL: Final = array("I", [CALL]).tobytes()


def trusted_message(header: Header, content: Content, tokens: bytes | None = None) -> Message:
    """A message of values that are known to be right: no checks, a quarter of the time.

    For the parser, which makes thousands a second of what it read itself.

    Args:
        header: The header.
        content: The content.
        tokens: Its tokens, as `pack_tokens` gives them.
    """
    message = _new(Message)
    put_header(message, header)
    put_content(message, content)
    put_tokens(message, tokens)
    put_rendering(message, None)
    return message


def with_tokens(message: Message, tokens: MessageTokens | None) -> Message:
    """The same message, remembering its tokens.

    Args:
        message: The message.
        tokens: The tokens, which must spell exactly this message; `None` to forget them.
    """
    if tokens is None:
        return trusted_message(message.header, message.content)
    ids, start, end = tokens
    packed = array("I", ids).tobytes()
    if start < end:
        packed = pack_tokens(packed, start, len(ids) - end)
    return trusted_message(message.header, message.content, packed)


def _checked_content(content: object, header: Header) -> Content:
    role = header.role
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return tuple(
            _checked_part(part, role, f"content[{position}]")
            for position, part in enumerate(content)
        )
    return _checked_part(content, role, "content")


def _checked_part(part: object, role: Role, place: str) -> Part:
    if isinstance(part, str):
        return part
    if not isinstance(part, SystemContent | DeveloperContent):
        raise InvalidMessageError(
            f"expected text, a SystemContent or a DeveloperContent, got {kind_of(part)}",
            field=place,
        )
    home = Role.SYSTEM if isinstance(part, SystemContent) else Role.DEVELOPER
    if role is not home:
        raise InvalidMessageError(
            f"{kind_of(part)} may stand only in a {home} message, not in a {role} message",
            field=place,
        )
    return part
