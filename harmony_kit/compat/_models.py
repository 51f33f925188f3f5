"""The pydantic models of openai-harmony: messages, contents, configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Final, Self

from ..wire._builtin_tools import BROWSER, PYTHON
from ..wire._contents import ToolNamespace

try:
    from pydantic import BaseModel, Field
except ImportError:
    raise ImportError(
        "harmony_kit.compat.openai_harmony needs pydantic: pip install 'harmony-kit[compat]'"
    ) from None


class Role(str, Enum):  # noqa: UP042 - str(Role.USER) is "Role.USER"
    """The author role of a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    DEVELOPER = "developer"
    TOOL = "tool"

    @classmethod
    def _missing_(cls, value: object) -> Role:
        raise ValueError(f"Unknown role: {value!r}")


class Author(BaseModel):
    """The author of a message; the name of a tool is its full name."""

    role: Role
    name: str | None = None

    @classmethod
    def new(cls, role: Role, name: str) -> Author:
        """Create an author with a name."""
        return cls(role=role, name=name)


class Content(BaseModel):
    """A part of a message's content."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain data."""
        raise NotImplementedError


class TextContent(Content):
    """Plain text."""

    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain data."""
        return {"type": "text", "text": self.text}


class ToolDescription(BaseModel):
    """A tool, with the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[Any, Any] | None = None

    @classmethod
    def new(
        cls, name: str, description: str, parameters: dict[Any, Any] | None = None
    ) -> ToolDescription:
        """Create a tool."""
        return cls(name=name, description=description, parameters=parameters)


class ReasoningEffort(str, Enum):  # noqa: UP042 - as with Role
    """The reasoning effort that the system message requests."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class ChannelConfig(BaseModel):
    """The channels that a system message names."""

    valid_channels: list[str]
    channel_required: bool

    @classmethod
    def require_channels(cls, channels: list[str]) -> ChannelConfig:
        """Declare channels, one of which every message must have."""
        return cls(valid_channels=channels, channel_required=True)


class ToolNamespaceConfig(BaseModel):
    """Tools under a common name."""

    name: str
    description: str | None = None
    tools: list[ToolDescription]

    @staticmethod
    def browser() -> ToolNamespaceConfig:
        """The built-in tool `browser`."""
        return _namespace_config(BROWSER)

    @staticmethod
    def python() -> ToolNamespaceConfig:
        """The built-in tool `python`."""
        return _namespace_config(PYTHON)


def _namespace_config(namespace: ToolNamespace) -> ToolNamespaceConfig:
    tools = [
        ToolDescription(name=tool.name, description=tool.description, parameters=tool.parameters)
        for tool in namespace.tools
    ]
    return ToolNamespaceConfig(name=namespace.name, description=namespace.description, tools=tools)


def _all_channels() -> ChannelConfig:
    return ChannelConfig.require_channels(["analysis", "commentary", "final"])


class SystemContent(Content):
    """The content of a system message. The `with_` methods change the content and return it."""

    model_identity: str | None = "You are ChatGPT, a large language model trained by OpenAI."
    reasoning_effort: ReasoningEffort | None = ReasoningEffort.MEDIUM
    conversation_start_date: str | None = None
    knowledge_cutoff: str | None = "2024-06"
    channel_config: ChannelConfig | None = Field(default_factory=_all_channels)
    tools: dict[str, ToolNamespaceConfig] | None = None

    @classmethod
    def new(cls) -> SystemContent:
        """Create a content with the defaults."""
        return cls()

    def with_model_identity(self, model_identity: str) -> Self:
        """Set the first line."""
        self.model_identity = model_identity
        return self

    def with_reasoning_effort(self, reasoning_effort: ReasoningEffort) -> Self:
        """Set the reasoning effort."""
        self.reasoning_effort = reasoning_effort
        return self

    def with_conversation_start_date(self, conversation_start_date: str) -> Self:
        """Set the current date."""
        self.conversation_start_date = conversation_start_date
        return self

    def with_knowledge_cutoff(self, knowledge_cutoff: str) -> Self:
        """Set the month in which the training data ends."""
        self.knowledge_cutoff = knowledge_cutoff
        return self

    def with_channel_config(self, channel_config: ChannelConfig) -> Self:
        """Set the channels."""
        self.channel_config = channel_config
        return self

    def with_required_channels(self, channels: list[str]) -> Self:
        """Set the channels, one of which every message must have."""
        self.channel_config = ChannelConfig.require_channels(channels)
        return self

    def with_tools(self, ns_config: ToolNamespaceConfig) -> Self:
        """Add a namespace of tools, or replace the one of the same name."""
        self.tools = _with_namespace(self.tools, ns_config)
        return self

    def with_browser_tool(self) -> Self:
        """Add the built-in tool `browser`."""
        return self.with_tools(ToolNamespaceConfig.browser())

    def with_python_tool(self) -> Self:
        """Add the built-in tool `python`."""
        return self.with_tools(ToolNamespaceConfig.python())

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain data, without unset fields."""
        return {**self.model_dump(exclude_none=True), "type": "system_content"}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SystemContent:
        """Create a content from the data of `to_dict`."""
        return cls(**raw)


class DeveloperContent(Content):
    """The content of a developer message. The `with_` methods change the content and return it."""

    instructions: str | None = None
    tools: dict[str, ToolNamespaceConfig] | None = None

    @classmethod
    def new(cls) -> DeveloperContent:
        """Create an empty content."""
        return cls()

    def with_instructions(self, instructions: str) -> Self:
        """Set the instructions."""
        self.instructions = instructions
        return self

    def with_tools(self, ns_config: ToolNamespaceConfig) -> Self:
        """Add a namespace of tools, or replace the one of the same name."""
        self.tools = _with_namespace(self.tools, ns_config)
        return self

    def with_function_tools(self, tools: Sequence[ToolDescription]) -> Self:
        """Set the function tools."""
        return self.with_tools(
            ToolNamespaceConfig(name="functions", description=None, tools=list(tools))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain data, without unset fields."""
        return {**self.model_dump(exclude_none=True), "type": "developer_content"}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> DeveloperContent:
        """Create a content from the data of `to_dict`."""
        return cls(**raw)


def _with_namespace(
    tools: dict[str, ToolNamespaceConfig] | None, namespace: ToolNamespaceConfig
) -> dict[str, ToolNamespaceConfig]:
    # The mapping stays the same object, as in the reference.
    tools = {} if tools is None else tools
    tools[namespace.name] = namespace
    return tools


class Message(BaseModel):
    """A message. The `adding_` and `with_` methods change the message and return it."""

    author: Author
    content: list[Content] = Field(default_factory=list)
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None

    @classmethod
    def from_author_and_content(cls, author: Author, content: str | Content) -> Message:
        """Create a message with one content."""
        return cls(author=author, content=[_as_content(content)])

    @classmethod
    def from_role_and_content(cls, role: Role, content: str | Content) -> Message:
        """Create a message with one content, by an author without a name."""
        return cls.from_author_and_content(Author(role=role), content)

    @classmethod
    def from_role_and_contents(cls, role: Role, contents: Sequence[Content]) -> Message:
        """Create a message with several contents, by an author without a name."""
        return cls(author=Author(role=role), content=list(contents))

    def adding_content(self, content: str | Content) -> Self:
        """Append a content."""
        self.content.append(_as_content(content))
        return self

    def with_channel(self, channel: str) -> Self:
        """Set the channel."""
        self.channel = channel
        return self

    def with_recipient(self, recipient: str) -> Self:
        """Set the recipient."""
        self.recipient = recipient
        return self

    def with_content_type(self, content_type: str) -> Self:
        """Set the content type, such as `"<|constrain|>json"`."""
        self.content_type = content_type
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the message as plain data."""
        fields = {
            "channel": self.channel,
            "recipient": self.recipient,
            "content_type": self.content_type,
        }
        return {
            **self.author.model_dump(),
            "content": [content.to_dict() for content in self.content],
            **{key: value for key, value in fields.items() if value is not None},
        }

    def to_json(self) -> str:
        """Return the message as JSON text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Message:
        """Create a message from the data of `to_dict`; the content may also be a string.

        Raises:
            ValueError: The role or the type of a content is unknown.
        """
        author = Author(role=Role(data["role"]), name=data.get("name"))
        contents = data["content"]
        if isinstance(contents, str):
            contents = [{"type": "text", "text": contents}]
        message = cls(author=author, content=list(map(_content_from_dict, contents)))
        message.channel = data.get("channel")
        message.recipient = data.get("recipient")
        message.content_type = data.get("content_type")
        return message


def _as_content(content: str | Content) -> Content:
    return TextContent(text=content) if isinstance(content, str) else content


_CONTENTS: Final[dict[str, type[Content]]] = {
    "text": TextContent,
    "system_content": SystemContent,
    "developer_content": DeveloperContent,
}


def _content_from_dict(raw: dict[str, Any]) -> Content:
    kind = _CONTENTS.get(raw.get("type"))  # type: ignore[arg-type]
    if kind is None:
        raise ValueError(f"Unknown content variant: {raw}")
    return kind(**raw)


class Conversation(BaseModel):
    """Messages, oldest first."""

    messages: list[Message] = Field(default_factory=list)

    @classmethod
    def from_messages(cls, messages: Sequence[Message]) -> Conversation:
        """Create a conversation."""
        return cls(messages=list(messages))

    def __iter__(self) -> Iterator[Message]:  # type: ignore[override]
        return iter(self.messages)

    def to_dict(self) -> dict[str, Any]:
        """Return the conversation as plain data."""
        return {"messages": [message.to_dict() for message in self.messages]}

    def to_json(self) -> str:
        """Return the conversation as JSON text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, payload: str) -> Conversation:
        """Create a conversation from the text of `to_json`."""
        return cls(messages=list(map(Message.from_dict, json.loads(payload)["messages"])))


class RenderConversationConfig(BaseModel):
    """Whether analysis before the first final answer is dropped once there is an answer."""

    auto_drop_analysis: bool = True


class RenderOptions(BaseModel):
    """The context of a message that is rendered alone: whether there are function tools."""

    conversation_has_function_tools: bool = False
