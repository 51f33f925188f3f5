"""The values of a conversation: messages, what stands in them, and the tools they declare.

All of them are frozen: two equal values are interchangeable, and what is computed from one
(its tokens, say) can be kept. They are checked when they are made, so that a wrong type or
an unknown role is reported where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, TypeVar

from .errors import InvalidMessageError


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


def _member(kind: type[_Enum], value: str, name: str) -> _Enum:
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


# --- Messages -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

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
    """

    role: Role
    content: Content
    name: str | None = field(default=None, kw_only=True)
    channel: str | None = field(default=None, kw_only=True)
    recipient: str | None = field(default=None, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)
    constrained: bool = field(default=False, kw_only=True)
    _rendering: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        role = self.role if type(self.role) is Role else _member(Role, self.role, "role")
        object.__setattr__(self, "role", role)
        if type(self.content) is not str:
            object.__setattr__(self, "content", _checked_content(self.content, role))
        _check_optional_text(self.name, "name")
        _check_optional_text(self.channel, "channel")
        _check_optional_text(self.recipient, "recipient")
        _check_optional_text(self.content_type, "content_type")
        _check_bool(self.constrained, "constrained")
        if role is Role.TOOL and self.name is None:
            raise InvalidMessageError("a tool message needs the tool's name", field="name")
        if self.constrained and self.content_type is None:
            raise InvalidMessageError(
                "a constrained content needs a content type", field="content_type"
            )

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

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.role, self.content, self.name, self.channel)
        return (trusted_message, (*fields, self.recipient, self.content_type, self.constrained))


_new = object.__new__
_put_role, _put_content, _put_name, _put_channel, _put_recipient, _put_content_type = (
    vars(Message)[name].__set__
    for name in ("role", "content", "name", "channel", "recipient", "content_type")
)
_put_constrained = vars(Message)["constrained"].__set__
_put_rendering = vars(Message)["_rendering"].__set__


def trusted_message(
    role: Role,
    content: Content,
    name: str | None,
    channel: str | None,
    recipient: str | None,
    content_type: str | None,
    constrained: bool,
) -> Message:
    """A message of values that are known to be right: no checks, a quarter of the time.

    For the parser, which makes thousands a second of what it read itself.
    """
    message = _new(Message)
    _put_role(message, role)
    _put_content(message, content)
    _put_name(message, name)
    _put_channel(message, channel)
    _put_recipient(message, recipient)
    _put_content_type(message, content_type)
    _put_constrained(message, constrained)
    _put_rendering(message, None)
    return message


def _checked_content(content: object, role: Role) -> Content:
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
