"""What system and developer messages say: instructions, settings, tools as they are declared."""

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
        check_text(self.name, "name")
        object.__setattr__(self, "tools", tuple_of(Tool, self.tools, "tools"))
        check_optional_text(self.description, "description")


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
        check_text(name, "name")
        check_optional_text(description, "description")
        put = object.__setattr__
        put(self, "name", name)
        put(self, "schema_json", json_text(schema, "schema"))
        put(self, "description", description)

    @property
    def schema(self) -> Any:
        """A fresh copy of the JSON Schema."""
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
            raise InvalidMessageError(f"a second namespace {name!r}", field=f"tools[{position}]")
    return namespaces


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
        check_optional_text(self.instructions, "instructions")
        put = object.__setattr__
        put(self, "tools", _namespaces(self.tools))
        formats = tuple_of(ResponseFormat, self.response_formats, "response_formats")
        put(self, "response_formats", formats)


Part = str | SystemContent | DeveloperContent
Content = Part | tuple[Part, ...]
"""What a message says: one part, or several that follow one another without a separator."""
