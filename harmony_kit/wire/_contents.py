"""The contents of system and developer messages: instructions, settings, declared tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._options import checked_fields, checked_options
from ..errors import InvalidMessageError
from ._fields import (
    check_bool,
    check_optional_text,
    check_text,
    json_text,
    kind_of,
    member,
    tuple_of,
)
from ._roles import CHANNELS, KNOWLEDGE_CUTOFF, MODEL_IDENTITY, ReasoningEffort


@dataclass(frozen=True, init=False, repr=False)
class Tool:
    """The declaration of a tool, and optionally the function that runs it.

    Args:
        name: The name within its namespace, such as `"get_weather"`.
        description: What the tool does; may have several lines.
        parameters: A JSON Schema of the arguments; `None` for a tool without arguments.
        function: Called with the arguments as keywords to run a call. Not compared by `==`.

    Raises:
        InvalidMessageError: A field has the wrong type, or the schema is not JSON.

    Example:
        >>> Tool("get_time", "The time in a city.", {"type": "object"}).parameters
        {'type': 'object'}
    """

    name: str
    description: str
    parameters_json: str | None
    """The JSON Schema as compact JSON text, in the given order."""
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
        check_text(name, "name")
        check_text(description, "description")
        parameters_json = None if parameters is None else json_text(parameters, "parameters")
        if function is not None and not callable(function):
            raise InvalidMessageError(
                f"expected a callable, got {kind_of(function)}", field="function"
            )
        put = object.__setattr__
        put(self, "name", name)
        put(self, "description", description)
        put(self, "parameters_json", parameters_json)
        put(self, "function", function)

    @property
    def parameters(self) -> Any:
        """A new copy of the JSON Schema of the arguments, or `None`."""
        import json

        return None if self.parameters_json is None else json.loads(self.parameters_json)

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, {self.description!r}, {self.parameters!r})"


@checked_fields
@dataclass(frozen=True)
class ToolNamespace:
    """Tools with a common prefix, such as `functions` or `browser`.

    Args:
        name: The part of a recipient before the dot.
        tools: The tools; empty for a tool that is addressed by the bare name, such as `python`.
        description: A text above the tools; may have several lines.

    Raises:
        InvalidMessageError: A field has the wrong type.

    Example:
        >>> ToolNamespace("functions", (Tool("get_time"),)).tools[0].name
        'get_time'
    """

    name: str
    tools: tuple[Tool, ...] = ()
    description: str | None = None

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        object.__setattr__(self, "tools", tuple_of(Tool, self.tools, "tools"))
        check_optional_text(self.description, "description")


@dataclass(frozen=True, init=False, repr=False)
class ResponseFormat:
    """A JSON Schema for the final answer, declared in the developer message.

    Args:
        name: The name of the format.
        schema: The JSON Schema.
        description: What the format is for; may have several lines.

    Raises:
        InvalidMessageError: A field has the wrong type, or the schema is not JSON.

    Example:
        >>> ResponseFormat("city", {"type": "string"}).schema_json
        '{"type":"string"}'
    """

    name: str
    schema_json: str
    """The JSON Schema as compact JSON text, in the given order."""
    description: str | None

    @checked_options
    def __init__(
        self, name: str, schema: Mapping[str, Any] | bool, description: str | None = None
    ) -> None:
        check_text(name, "name")
        check_optional_text(description, "description")
        put = object.__setattr__
        put(self, "name", name)
        put(self, "schema_json", json_text(schema, "schema"))
        put(self, "description", description)

    @property
    def schema(self) -> Any:
        """A new copy of the JSON Schema."""
        import json

        return json.loads(self.schema_json)

    def __repr__(self) -> str:
        return f"ResponseFormat({self.name!r}, {self.schema!r}, {self.description!r})"


# --- Contents -------------------------------------------------------------------------------


def _namespaces(values: object) -> tuple[ToolNamespace, ...]:
    namespaces = tuple_of(ToolNamespace, values, "tools")
    names = [namespace.name for namespace in namespaces]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InvalidMessageError(f"duplicate namespace {name!r}", field=f"tools[{position}]")
    return namespaces


@checked_fields
@dataclass(frozen=True, kw_only=True)
class SystemContent:
    """The content of a system message: identity, dates, effort, built-in tools, channels.

    Args:
        model_identity: The first line.
        knowledge_cutoff: Where the training data ends, such as `"2024-06"`.
        current_date: The date, such as `"2025-06-28"`. It is never taken from the clock.
        reasoning_effort: How much the model is to reason.
        valid_channels: The channels to list; if empty, the section is omitted.
        channel_required: Whether to state that every message must have a channel.
        tools: Built-in tools, such as `BROWSER` and `PYTHON`.

    Raises:
        InvalidMessageError: A field has the wrong type or an unknown value.

    Example:
        >>> SystemContent(reasoning_effort="high").reasoning_effort
        <ReasoningEffort.HIGH: 'high'>
    """

    model_identity: str | None = MODEL_IDENTITY
    knowledge_cutoff: str | None = KNOWLEDGE_CUTOFF
    current_date: str | None = None
    reasoning_effort: ReasoningEffort | None = ReasoningEffort.MEDIUM
    valid_channels: tuple[str, ...] = CHANNELS
    channel_required: bool = True
    tools: tuple[ToolNamespace, ...] = ()

    def __post_init__(self) -> None:
        check_optional_text(self.model_identity, "model_identity")
        check_optional_text(self.knowledge_cutoff, "knowledge_cutoff")
        check_optional_text(self.current_date, "current_date")
        put = object.__setattr__
        if self.reasoning_effort is not None:
            effort = member(ReasoningEffort, self.reasoning_effort, "reasoning_effort")
            put(self, "reasoning_effort", effort)
        put(self, "valid_channels", tuple_of(str, self.valid_channels, "valid_channels"))
        check_bool(self.channel_required, "channel_required")
        put(self, "tools", _namespaces(self.tools))


@checked_fields
@dataclass(frozen=True, kw_only=True)
class DeveloperContent:
    """The content of a developer message: instructions, function tools, response formats.

    Args:
        instructions: The text that other formats call the system prompt.
        tools: The tools that the model may call, by namespace.
        response_formats: Formats of the final answer.

    Raises:
        InvalidMessageError: A field has the wrong type.

    Example:
        >>> DeveloperContent(instructions="Answer briefly.").instructions
        'Answer briefly.'
    """

    instructions: str | None = None
    tools: tuple[ToolNamespace, ...] = ()
    response_formats: tuple[ResponseFormat, ...] = ()

    def __post_init__(self) -> None:
        check_optional_text(self.instructions, "instructions")
        put = object.__setattr__
        put(self, "tools", _namespaces(self.tools))
        formats = tuple_of(ResponseFormat, self.response_formats, "response_formats")
        put(self, "response_formats", formats)


Part = str | SystemContent | DeveloperContent
Content = Part | tuple[Part, ...]
"""The content of a message: one part, or several that are joined without a separator."""
