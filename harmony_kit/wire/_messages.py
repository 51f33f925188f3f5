"""Messages and their headers.

Both are frozen: equal values are interchangeable, and results computed from one (such as its
tokens) can be cached. Fields are checked by the constructor, so that an error is raised where the
wrong value was given.
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
    """The header of a message.

    Attributes:
        role: The author's role.
        name: The author's name; for a tool its full name.
        channel: The channel, usually a `Channel`.
        recipient: The role or tool that the message addresses.
        content_type: The type of the content, one word such as `"json"`.
        constrained: Whether `<|constrain|>` precedes the content type.

    Example:
        >>> Header(Role.ASSISTANT, recipient="functions.get_weather").is_call
        True
    """

    role: Role
    name: str | None = None
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    constrained: bool = False

    @property
    def is_call(self) -> bool:
        """Whether the message calls a tool: it is the assistant's, and addresses one."""
        return self.role is Role.ASSISTANT and self.recipient not in NO_TOOLS


NO_TOOLS: Final = frozenset({None, "all", "user", "assistant"})
"""Recipients that are not tools; `all` addresses no one in particular."""


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
        raise InvalidMessageError(
            "a tool message needs the full name of the tool, such as 'functions.get_weather'",
            field="name",
        )
    if constrained and content_type is None:
        raise InvalidMessageError("constrained=True needs a content_type", field="content_type")
    return Header(role, name, channel, recipient, content_type, constrained)  # type: ignore[arg-type]


# --- Messages -------------------------------------------------------------------------------


class Message:
    """One message of a conversation, a frozen value.

    A message that was parsed without a problem remembers its token ids, and rendering repeats them.
    Comparisons ignore them, and a copy with changed fields has none.

    Args:
        role: A `Role` or its name.
        content: Text, a `SystemContent`, a `DeveloperContent`, or a sequence of those.
        name: The author's name. For a tool message it is required: the tool's full name, such as
            `"functions.get_weather"`, which the header has instead of the role.
        channel: The channel, usually a `Channel`.
        recipient: The role or tool that it addresses; in a tool call, the tool's full name.
        content_type: The type of the content, one word such as `"json"` or `"code"`.
        constrained: Whether `<|constrain|>` precedes the content type.

    Raises:
        InvalidMessageError: A field has the wrong type, the role is unknown, a tool message
            has no name, or the role does not allow the content.

    Example:
        >>> Message("assistant", "Hello!", channel="final")
        Message('assistant', 'Hello!', channel='final')
    """

    __slots__ = ("_rendering", "_tokens", "content", "header")

    header: Header
    """All fields but the content."""
    content: Content
    """The content, as text or as parts."""
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
        """The author's role."""
        return self.header.role

    @property
    def name(self) -> str | None:
        """The author's name; a tool's full name."""
        return self.header.name

    @property
    def channel(self) -> str | None:
        """The channel."""
        return self.header.channel

    @property
    def recipient(self) -> str | None:
        """The role or tool that it addresses."""
        return self.header.recipient

    @property
    def content_type(self) -> str | None:
        """The type of the content, such as `"json"`."""
        return self.header.content_type

    @property
    def constrained(self) -> bool:
        """Whether `<|constrain|>` precedes the content type."""
        return self.header.constrained

    @property
    def is_call(self) -> bool:
        """Whether it calls a tool: it is the assistant's, and addresses one."""
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
        """Whether it is a call that is known to have been closed by `<|call|>`."""
        if self._tokens is None or not self.is_call:
            return False
        ids, _, added = unpack_tokens(self._tokens)
        return not ids or (not added and ids.endswith(_CALL))

    @property
    def is_whole(self) -> bool:
        """Whether it can be part of a history: any message but a call that may be truncated.

        A call is whole if `<|call|>` closed it, or if its arguments are one complete JSON value.
        Code for `python` does not show where it ends, so such a call needs `<|call|>`.
        """
        if not self.is_call or self.is_closed_call:
            return True
        return self.recipient != "python" and is_closed_json(self.text)

    @property
    def tokens(self) -> MessageTokens | None:
        """The ids from which it was parsed, or `None`."""
        if not self._tokens:
            return None
        packed, prompted, added = unpack_tokens(self._tokens)
        ids = tuple(memoryview(packed).cast("I"))
        if added is None:
            return MessageTokens(ids, 0, 0)
        return MessageTokens(ids, prompted, len(ids) - added)

    def replace(self, **changes: Any) -> Message:
        """A copy with changed fields, which remembers no tokens.

        Args:
            **changes: Arguments of `Message`.

        Raises:
            InvalidMessageError: A value is not valid.
            TypeError: An argument is unknown.

        Example:
            >>> Message("user", "Hello!").replace(content="Bye!")
            Message('user', 'Bye!')
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
    """The token ids of a parsed message, which rendering repeats.

    They begin with `<|start|>`; in the first message of a completion, `<|start|>assistant` comes
    from the end of the prompt. A missing terminator is added, and `<|return|>` is replaced by
    `<|end|>`, as in every history.

    Attributes:
        ids: The ids of the whole message, from `<|start|>` to its terminator.
        sampled_start: The index of the first id that a model generated.
        sampled_end: One past the index of the last id that a model generated; equal to
            `sampled_start` if none is known to be generated.
    """

    ids: tuple[int, ...]
    sampled_start: int
    sampled_end: int


_new = object.__new__
put_header, put_content, put_tokens, put_rendering = (
    vars(Message)[name].__set__ for name in ("header", "content", "_tokens", "_rendering")
)


def pack_tokens(ids: bytes, prompted: int, added: int) -> bytes:
    """The tokens of a generated message in a compact form.

    Tokens that are not known to be generated are stored as `ids` alone.

    Args:
        ids: The ids as unsigned 32-bit integers.
        prompted: How many ids at the start come from the prompt.
        added: How many ids at the end were added, 0 or 1.
    """
    return ids + bytes((2 * prompted + added,))


def unpack_tokens(tokens: bytes) -> tuple[bytes, int, int | None]:
    """The arguments of `pack_tokens`; `added` is `None` for ids not known to be generated."""
    if len(tokens) % 4 == 0:
        return tokens, 0, None
    return tokens[:-1], tokens[-1] // 2, tokens[-1] % 2


CLOSED_CALL: Final = b""
"""Stored instead of tokens by a call that `<|call|>` closed and whose tokens are not known."""
_CALL: Final = array("I", [CALL]).tobytes()


def trusted_message(header: Header, content: Content, tokens: bytes | None = None) -> Message:
    """A message of valid values, made without checks in a quarter of the time.

    Args:
        header: The header.
        content: The content.
        tokens: Its tokens, as `pack_tokens` returns them.
    """
    message = _new(Message)
    put_header(message, header)
    put_content(message, content)
    put_tokens(message, tokens)
    put_rendering(message, None)
    return message


def with_tokens(message: Message, tokens: MessageTokens | None) -> Message:
    """A copy of a message that remembers tokens, which must be those of the message, or none."""
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
            f"{kind_of(part)} is allowed only in a {home} message, not in a {role} message",
            field=place,
        )
    return part
