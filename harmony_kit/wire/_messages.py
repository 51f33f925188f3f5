"""The values of a conversation: messages, what stands in them, and the tools they declare.

All of them are frozen: two equal values are interchangeable, and what is computed from one
(its tokens, say) can be kept. They are checked when they are made, so that a wrong type or
an unknown role is reported where it was written.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, TypeVar

from .._options import checked_fields, checked_options
from ..errors import InvalidMessageError
from ._closed_json import is_closed_json
from ._vocabulary import CALL


class Role(StrEnum):
    """Who wrote a message; the order is that of authority, highest first."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Channel(StrEnum):
    """What an assistant message is for. A message may also carry a channel not listed here."""

    ANALYSIS = "analysis"
    """Reasoning, never to be shown to an end user."""
    COMMENTARY = "commentary"
    """Calls of function tools, and preambles that an end user may see."""
    FINAL = "final"
    """The answer."""


class ReasoningEffort(StrEnum):
    """How much the model is asked to think before it answers."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


MODEL_IDENTITY: Final = "You are ChatGPT, a large language model trained by OpenAI."
KNOWLEDGE_CUTOFF: Final = "2024-06"
CHANNELS: Final[tuple[str, ...]] = (Channel.ANALYSIS, Channel.COMMENTARY, Channel.FINAL)
FUNCTIONS: Final = "functions"
"""The namespace of function tools."""

SchemaStyle = Literal["reference", "extended"]
"""How a JSON Schema is written: as openai-harmony does, or with all that it says."""


# --- Checks ---------------------------------------------------------------------------------

_Enum = TypeVar("_Enum", bound=StrEnum)


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidMessageError(f"expected text, got {_kind(value)}", field=name)


def _check_optional_text(value: object, name: str) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidMessageError(f"expected text or None, got {_kind(value)}", field=name)


def _check_bool(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise InvalidMessageError(f"expected True or False, got {_kind(value)}", field=name)


def _member(kind: type[_Enum], value: Any, name: str) -> _Enum:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind)
        raise InvalidMessageError(
            f"unknown {name.replace('_', ' ')} {value!r}; there are {known}", field=name
        ) from None


_Item = TypeVar("_Item")


def _tuple_of(kind: type[_Item], values: object, name: str) -> tuple[_Item, ...]:
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise InvalidMessageError(
            f"expected a sequence of {kind.__name__}, got {_kind(values)}", field=name
        )
    items = tuple(values)
    for position, item in enumerate(items):
        if not isinstance(item, kind):
            raise InvalidMessageError(
                f"expected {kind.__name__}, got {_kind(item)}", field=f"{name}[{position}]"
            )
    return items


def _namespaces(values: object) -> tuple[ToolNamespace, ...]:
    namespaces = _tuple_of(ToolNamespace, values, "tools")
    names = [namespace.name for namespace in namespaces]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InvalidMessageError(f"a second namespace {name!r}", field=f"tools[{position}]")
    return namespaces


def _json_text(value: object, name: str) -> str:
    """A JSON Schema as text: hashable, immune to later changes of the caller's dict."""
    if not isinstance(value, Mapping | bool):
        raise InvalidMessageError(
            f"expected a JSON Schema (a dict or a bool), got {_kind(value)}", field=name
        )
    import json  # only tools and response formats need it

    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError(f"not JSON: {error}", field=name) from None


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


# --- Tools ----------------------------------------------------------------------------------


@dataclass(frozen=True, init=False, repr=False)
class Tool:
    """A tool as the model sees it, and optionally the function that runs it.

    Args:
        name: The name within its namespace, such as `"get_weather"`.
        description: What the tool does; may span lines.
        parameters: A JSON Schema of the arguments, or `None` for a tool without any.
        function: What runs a call; takes the arguments by name. It is no part of the
            value: tools are equal if the model sees the same.

    Raises:
        InvalidMessageError: A field has the wrong type, or the schema is not JSON.
    """

    name: str
    description: str
    parameters_json: str | None
    """The JSON Schema as compact JSON text, in the order in which it was given."""
    function: Callable[..., Any] | None = field(compare=False)

    @checked_options
    def __init__(
        self,
        name: str,
        description: str = "",
        parameters: Mapping[str, Any] | bool | None = None,
        *,
        function: Callable[..., Any] | None = None,
    ) -> None:
        _check_text(name, "name")
        _check_text(description, "description")
        parameters_json = None if parameters is None else _json_text(parameters, "parameters")
        if function is not None and not callable(function):
            raise InvalidMessageError(
                f"expected a callable, got {_kind(function)}", field="function"
            )
        put = object.__setattr__
        put(self, "name", name)
        put(self, "description", description)
        put(self, "parameters_json", parameters_json)
        put(self, "function", function)

    @property
    def parameters(self) -> Any:
        """A fresh copy of the JSON Schema of the arguments, or `None`."""
        import json

        return None if self.parameters_json is None else json.loads(self.parameters_json)

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, {self.description!r}, {self.parameters!r})"


@checked_fields
@dataclass(frozen=True)
class ToolNamespace:
    """Tools under a common name, such as `functions` or `browser`.

    Args:
        name: The name before the dot of a recipient.
        tools: The tools; none for a tool that is addressed by the bare name, like `python`.
        description: A text above the tools; may span lines.

    Raises:
        InvalidMessageError: A field has the wrong type.
    """

    name: str
    tools: tuple[Tool, ...] = ()
    description: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.name, "name")
        object.__setattr__(self, "tools", _tuple_of(Tool, self.tools, "tools"))
        _check_optional_text(self.description, "description")


@dataclass(frozen=True, init=False, repr=False)
class ResponseFormat:
    """A shape that the final answer shall have, declared in the developer message.

    Args:
        name: The name of the format.
        schema: The JSON Schema of the answer.
        description: What the format is for; may span lines.

    Raises:
        InvalidMessageError: A field has the wrong type, or the schema is not JSON.
    """

    name: str
    schema_json: str
    """The JSON Schema as compact JSON text, in the order in which it was given."""
    description: str | None

    @checked_options
    def __init__(
        self, name: str, schema: Mapping[str, Any] | bool, description: str | None = None
    ) -> None:
        _check_text(name, "name")
        _check_optional_text(description, "description")
        put = object.__setattr__
        put(self, "name", name)
        put(self, "schema_json", _json_text(schema, "schema"))
        put(self, "description", description)

    @property
    def schema(self) -> Any:
        """A fresh copy of the JSON Schema."""
        import json

        return json.loads(self.schema_json)

    def __repr__(self) -> str:
        return f"ResponseFormat({self.name!r}, {self.schema!r}, {self.description!r})"


# --- Contents -------------------------------------------------------------------------------


@checked_fields
@dataclass(frozen=True, kw_only=True)
class SystemContent:
    """What a system message says: identity, dates, effort, built-in tools, channels.

    Args:
        model_identity: The first line.
        knowledge_cutoff: Until when the training data reaches, such as `"2024-06"`.
        current_date: Today, such as `"2025-06-28"`. Never taken from the clock.
        reasoning_effort: How much to think.
        valid_channels: The channels to name; none leaves the section out.
        channel_required: Whether to say that every message must have a channel.
        tools: Built-in tools, such as `BROWSER` and `PYTHON`.

    Raises:
        InvalidMessageError: A field has the wrong type or an unknown value.
    """

    model_identity: str | None = MODEL_IDENTITY
    knowledge_cutoff: str | None = KNOWLEDGE_CUTOFF
    current_date: str | None = None
    reasoning_effort: ReasoningEffort | None = ReasoningEffort.MEDIUM
    valid_channels: tuple[str, ...] = CHANNELS
    channel_required: bool = True
    tools: tuple[ToolNamespace, ...] = ()

    def __post_init__(self) -> None:
        _check_optional_text(self.model_identity, "model_identity")
        _check_optional_text(self.knowledge_cutoff, "knowledge_cutoff")
        _check_optional_text(self.current_date, "current_date")
        put = object.__setattr__
        if self.reasoning_effort is not None:
            effort = _member(ReasoningEffort, self.reasoning_effort, "reasoning_effort")
            put(self, "reasoning_effort", effort)
        put(self, "valid_channels", _tuple_of(str, self.valid_channels, "valid_channels"))
        _check_bool(self.channel_required, "channel_required")
        put(self, "tools", _namespaces(self.tools))


@checked_fields
@dataclass(frozen=True, kw_only=True)
class DeveloperContent:
    """What a developer message says: instructions, function tools, response formats.

    Args:
        instructions: What users of other formats call the system prompt.
        tools: The tools on offer, by namespace.
        response_formats: Shapes for the final answer.

    Raises:
        InvalidMessageError: A field has the wrong type.
    """

    instructions: str | None = None
    tools: tuple[ToolNamespace, ...] = ()
    response_formats: tuple[ResponseFormat, ...] = ()

    def __post_init__(self) -> None:
        _check_optional_text(self.instructions, "instructions")
        put = object.__setattr__
        put(self, "tools", _namespaces(self.tools))
        formats = _tuple_of(ResponseFormat, self.response_formats, "response_formats")
        put(self, "response_formats", formats)


Part = str | SystemContent | DeveloperContent
Content = Part | tuple[Part, ...]
"""What a message says: one part, or several that follow one another without a separator."""


# --- Headers --------------------------------------------------------------------------------


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
    role = role if type(role) is Role else _member(Role, role, "role")
    _check_optional_text(name, "name")
    _check_optional_text(channel, "channel")
    _check_optional_text(recipient, "recipient")
    _check_optional_text(content_type, "content_type")
    _check_bool(constrained, "constrained")
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
                raise InvalidMessageError(f"{_kind(part)} is not text", field="content")
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
            f"expected text, a SystemContent or a DeveloperContent, got {_kind(part)}", field=place
        )
    home = Role.SYSTEM if isinstance(part, SystemContent) else Role.DEVELOPER
    if role is not home:
        raise InvalidMessageError(
            f"{_kind(part)} may stand only in a {home} message, not in a {role} message",
            field=place,
        )
    return part
