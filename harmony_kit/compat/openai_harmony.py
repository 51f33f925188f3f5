"""A drop-in for the package `openai_harmony`: change the import, keep the program.

    from harmony_kit.compat import openai_harmony
    from harmony_kit.compat.openai_harmony import Conversation, Message, Role

Same names, same signatures, same tokens, same errors as openai-harmony 0.0.8; but nothing
is downloaded, and `HarmonyError` is one of `harmony_kit.errors` as well. New programs are
better served by `harmony_kit` itself, whose parser loses no token.

Models are pydantic's, so this module needs the extra `compat`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, StrEnum
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, NamedTuple, Self

try:
    from pydantic import BaseModel, Field
except ImportError:
    raise ImportError(
        "harmony_kit.compat.openai_harmony needs pydantic: pip install 'harmony-kit[compat]'"
    ) from None

from ..wire import _vocabulary as vocabulary
from ..wire._builtin_tools import BROWSER, PYTHON
from ..wire._messages import ToolNamespace
from ._reference_json import read_conversation, read_message
from ._reference_parser import (
    ROLES,
    HarmonyError,
    ParsedMessage,
    StreamState,
    TokenParser,
    decode_bytes,
    decode_utf8,
    parse_completion,
    token_id,
    token_ids,
)
from ._reference_render import (
    Turn,
    render_for_completion,
    render_for_training,
    render_turn,
    render_turns,
    turn_of,
)

# Those that the reference exports; the other public names are imported by name, as there.
__all__ = [
    "Author",
    "Content",
    "Conversation",
    "DeveloperContent",
    "HarmonyEncoding",
    "HarmonyEncodingName",
    "HarmonyError",
    "Message",
    "Role",
    "StreamState",
    "StreamableParser",
    "SystemContent",
    "TextContent",
    "ToolDescription",
    "load_harmony_encoding",
]


def raise_disallowed_special_token(token: str) -> None:
    """Raise the error that a text spells a special token.

    Args:
        token: The spelling.

    Raises:
        HarmonyError: Always.
    """
    raise HarmonyError(
        f"Encountered text corresponding to disallowed special token {token!r}.\n"
        "If you want this text to be encoded as a special token, "
        f"pass it to `allowed_special`, e.g. `allowed_special={{'{token}', ...}}`.\n"
        "If you want this text to be encoded as normal text, disable the check for this token "
        f"by passing `disallowed_special=(enc.special_tokens_set - {{'{token}'}})`.\n"
        "To disable this check for all special tokens, pass `disallowed_special=()`.\n"
    )


# --- Messages -------------------------------------------------------------------------------


class Role(str, Enum):  # noqa: UP042 - str(Role.USER) is "Role.USER"
    """Who wrote a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    DEVELOPER = "developer"
    TOOL = "tool"

    @classmethod
    def _missing_(cls, value: object) -> Role:
        raise ValueError(f"Unknown role: {value!r}")


class Author(BaseModel):
    """The author of a message; a tool has its full name."""

    role: Role
    name: str | None = None

    @classmethod
    def new(cls, role: Role, name: str) -> Author:
        """Make an author with a name."""
        return cls(role=role, name=name)


class Content(BaseModel):
    """A part of what a message says."""

    def to_dict(self) -> dict[str, Any]:
        """Give the content as plain data."""
        raise NotImplementedError


class TextContent(Content):
    """Plain text."""

    text: str

    def to_dict(self) -> dict[str, Any]:
        """Give the content as plain data."""
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
        """Make a tool."""
        return cls(name=name, description=description, parameters=parameters)


class ReasoningEffort(str, Enum):  # noqa: UP042 - as with Role
    """How much the model is asked to think."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class ChannelConfig(BaseModel):
    """The channels that a system message names."""

    valid_channels: list[str]
    channel_required: bool

    @classmethod
    def require_channels(cls, channels: list[str]) -> ChannelConfig:
        """Name channels, one of which every message must have."""
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
    """What a system message says. The `with_` methods change the content and return it."""

    model_identity: str | None = "You are ChatGPT, a large language model trained by OpenAI."
    reasoning_effort: ReasoningEffort | None = ReasoningEffort.MEDIUM
    conversation_start_date: str | None = None
    knowledge_cutoff: str | None = "2024-06"
    channel_config: ChannelConfig | None = Field(default_factory=_all_channels)
    tools: dict[str, ToolNamespaceConfig] | None = None

    @classmethod
    def new(cls) -> SystemContent:
        """Make a content with the defaults."""
        return cls()

    def with_model_identity(self, model_identity: str) -> Self:
        """Set the first line."""
        self.model_identity = model_identity
        return self

    def with_reasoning_effort(self, reasoning_effort: ReasoningEffort) -> Self:
        """Set how much to think."""
        self.reasoning_effort = reasoning_effort
        return self

    def with_conversation_start_date(self, conversation_start_date: str) -> Self:
        """Set today's date."""
        self.conversation_start_date = conversation_start_date
        return self

    def with_knowledge_cutoff(self, knowledge_cutoff: str) -> Self:
        """Set until when the training data reaches."""
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
        """Add a namespace of tools, or replace the one of that name."""
        self.tools = _with_namespace(self.tools, ns_config)
        return self

    def with_browser_tool(self) -> Self:
        """Add the built-in tool `browser`."""
        return self.with_tools(ToolNamespaceConfig.browser())

    def with_python_tool(self) -> Self:
        """Add the built-in tool `python`."""
        return self.with_tools(ToolNamespaceConfig.python())

    def to_dict(self) -> dict[str, Any]:
        """Give the content as plain data, without what is not set."""
        return {**self.model_dump(exclude_none=True), "type": "system_content"}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SystemContent:
        """Make a content of what `to_dict` gave."""
        return cls(**raw)


class DeveloperContent(Content):
    """What a developer message says. The `with_` methods change the content and return it."""

    instructions: str | None = None
    tools: dict[str, ToolNamespaceConfig] | None = None

    @classmethod
    def new(cls) -> DeveloperContent:
        """Make an empty content."""
        return cls()

    def with_instructions(self, instructions: str) -> Self:
        """Set the instructions."""
        self.instructions = instructions
        return self

    def with_tools(self, ns_config: ToolNamespaceConfig) -> Self:
        """Add a namespace of tools, or replace the one of that name."""
        self.tools = _with_namespace(self.tools, ns_config)
        return self

    def with_function_tools(self, tools: Sequence[ToolDescription]) -> Self:
        """Set the function tools."""
        return self.with_tools(
            ToolNamespaceConfig(name="functions", description=None, tools=list(tools))
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the content as plain data, without what is not set."""
        return {**self.model_dump(exclude_none=True), "type": "developer_content"}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> DeveloperContent:
        """Make a content of what `to_dict` gave."""
        return cls(**raw)


def _with_namespace(
    tools: dict[str, ToolNamespaceConfig] | None, namespace: ToolNamespaceConfig
) -> dict[str, ToolNamespaceConfig]:
    # The map stays the same object: whoever holds it sees the new namespace.
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
        """Make a message of one content."""
        return cls(author=author, content=[_as_content(content)])

    @classmethod
    def from_role_and_content(cls, role: Role, content: str | Content) -> Message:
        """Make a message of one content, by an author without a name."""
        return cls.from_author_and_content(Author(role=role), content)

    @classmethod
    def from_role_and_contents(cls, role: Role, contents: Sequence[Content]) -> Message:
        """Make a message of several contents, by an author without a name."""
        return cls(author=Author(role=role), content=list(contents))

    def adding_content(self, content: str | Content) -> Self:
        """Add a content at the end."""
        self.content.append(_as_content(content))
        return self

    def with_channel(self, channel: str) -> Self:
        """Set what the message is for."""
        self.channel = channel
        return self

    def with_recipient(self, recipient: str) -> Self:
        """Set whom the message addresses."""
        self.recipient = recipient
        return self

    def with_content_type(self, content_type: str) -> Self:
        """Set what the content is, such as `"<|constrain|>json"`."""
        self.content_type = content_type
        return self

    def to_dict(self) -> dict[str, Any]:
        """Give the message as plain data."""
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
        """Give the message as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Message:
        """Make a message of what `to_dict` gave; the content may also be a string.

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
        """Make a conversation."""
        return cls(messages=list(messages))

    def __iter__(self) -> Iterator[Message]:  # type: ignore[override]
        return iter(self.messages)

    def to_dict(self) -> dict[str, Any]:
        """Give the conversation as plain data."""
        return {"messages": [message.to_dict() for message in self.messages]}

    def to_json(self) -> str:
        """Give the conversation as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, payload: str) -> Conversation:
        """Make a conversation of what `to_json` gave."""
        return cls(messages=list(map(Message.from_dict, json.loads(payload)["messages"])))


# --- From models to what is rendered --------------------------------------------------------


class RenderConversationConfig(BaseModel):
    """Whether analysis before the first final answer is left out once there is an answer."""

    auto_drop_analysis: bool = True


class RenderOptions(BaseModel):
    """What a message rendered alone cannot know: whether there are function tools."""

    conversation_has_function_tools: bool = False


def _turns(conversation: Conversation) -> list[Turn]:
    if type(conversation) is Conversation:
        messages = conversation.messages
        turns = [turn for message in messages if (turn := _turn(message, _DEPTH_OF_MESSAGES))]
        if len(turns) == len(messages):
            return turns
    return list(map(turn_of, read_conversation(conversation.to_json())))


# A message in a conversation is in a list in an object.
_DEPTH_OF_MESSAGES: Final = 2


def _turn(message: Message, depth: int) -> Turn | None:
    """The message for rendering; `None` if the reference may find fault with it.

    What it finds and where is then for `read_conversation` or `read_message` to say, which
    need the whole JSON; going through that each time would be slow.
    """
    if type(message) is not Message or type(message.author) is not Author:
        return None
    author = message.author
    header = (author.name, message.recipient, message.channel, message.content_type)
    if type(author.role) is not Role or not all(map(_is_text_or_none, header)):
        return None
    texts = [content.text for content in message.content if type(content) is TextContent]
    if len(texts) == len(message.content) and all(map(_is_text, texts)):
        return Turn(author.role.value, *header, tuple(texts))
    try:
        return _turn_from_json(message.to_json(), depth)
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _turn_from_json(text: str, depth: int) -> Turn:
    return turn_of(read_message(text, depth))


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_text(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_flag(value: Any, default: bool) -> bool:
    return value if isinstance(value, bool) else default


def _drops_analysis(config: RenderConversationConfig | None) -> bool:
    return True if config is None else _as_flag(config.auto_drop_analysis, True)


def _as_runtime_error(render: Callable[..., list[int]], *args: Any, **kwargs: Any) -> list[int]:
    # Only rendering for a completion raises HarmonyError.
    try:
        return render(*args, **kwargs)
    except HarmonyError as error:
        raise RuntimeError(str(error)) from None


# --- The encoding ---------------------------------------------------------------------------


class HarmonyEncodingName(StrEnum):
    """The encodings that there are."""

    HARMONY_GPT_OSS = "HarmonyGptOss"


class _Encoding(NamedTuple):
    """What tells one encoding from another."""

    name: str


def load_harmony_encoding(name: str | HarmonyEncodingName) -> HarmonyEncoding:
    """Give the encoding of that name; the only one is `"HarmonyGptOss"`.

    Args:
        name: The name.

    Raises:
        ValueError: There is no such encoding.
    """
    text = str.__str__(name) if isinstance(name, str) else str(name)
    text.encode()
    if text != HarmonyEncodingName.HARMONY_GPT_OSS.value:
        raise ValueError(f"Invalid HarmonyEncodingName: {text}")
    return HarmonyEncoding(_Encoding(text))


_SPELT_TOKEN: Final = re.compile(r"<\|[a-z0-9_]+\|>")


class HarmonyEncoding:
    """Renders conversations to tokens, and parses tokens to messages.

    Get it from `load_harmony_encoding`.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """The name of the encoding."""
        name: str = self._inner.name
        return name

    @cached_property
    def special_tokens_set(self) -> set[str]:
        """The spellings of all special tokens."""
        return set(vocabulary.SPECIAL_TOKENS)

    def render_conversation_for_completion(
        self,
        conversation: Conversation,
        next_turn_role: Role,
        config: RenderConversationConfig | None = None,
    ) -> list[int]:
        """Render a conversation as a prompt, which ends in the start of the next message.

        Args:
            conversation: The messages.
            next_turn_role: Who is to write the next message.
            config: Which messages are left out.

        Raises:
            ValueError: A value in the conversation is not what it should be.
            HarmonyError: A message cannot be rendered.
        """
        drop_analysis = _drops_analysis(config)
        role = _role_name(next_turn_role)
        turns = _turns(conversation)
        return render_for_completion(turns, _known_role(role), drop_analysis=drop_analysis)

    def render_conversation(
        self, conversation: Conversation, config: RenderConversationConfig | None = None
    ) -> list[int]:
        """Render a conversation as it stands.

        Args:
            conversation: The messages.
            config: Which messages are left out.

        Raises:
            ValueError: A value in the conversation is not what it should be.
            RuntimeError: A message cannot be rendered.
        """
        drop_analysis = _drops_analysis(config)
        turns = _turns(conversation)
        return _as_runtime_error(render_turns, turns, drop_analysis=drop_analysis)

    def render_conversation_for_training(
        self, conversation: Conversation, config: RenderConversationConfig | None = None
    ) -> list[int]:
        """Render a conversation that closes with `<|return|>` if a final answer ends it.

        Args:
            conversation: The messages.
            config: Which messages are left out.

        Raises:
            ValueError: A value in the conversation is not what it should be.
            RuntimeError: A message cannot be rendered.
        """
        drop_analysis = _drops_analysis(config)
        turns = _turns(conversation)
        return _as_runtime_error(render_for_training, turns, drop_analysis=drop_analysis)

    def render(self, message: Message, render_options: RenderOptions | None = None) -> list[int]:
        """Render one message.

        Args:
            message: The message.
            render_options: What is known of the conversation around it.

        Raises:
            ValueError: A value in the message is not what it should be.
            RuntimeError: The message cannot be rendered.
        """
        has_function_tools = render_options is not None and _as_flag(
            render_options.conversation_has_function_tools, False
        )
        turn = _turn(message, 0) or turn_of(read_message(message.to_json()))
        return _as_runtime_error(render_turn, turn, has_function_tools=has_function_tools)

    def parse_messages_from_completion_tokens(
        self, tokens: Sequence[int], role: Role | None = None, *, strict: bool = True
    ) -> list[Message]:
        """Parse what a model wrote.

        Args:
            tokens: The tokens.
            role: The role of the first message, if the prompt ended in it.
            strict: Whether a message without a content is an error, or is made the best of.

        Raises:
            HarmonyError: The tokens are not well-formed.
        """
        ids = token_ids(list(tokens)).tolist()
        role_name, is_strict = _parser_arguments(role, strict)
        return list(map(_message, parse_completion(ids, role_name, is_strict)))

    def decode_utf8(self, tokens: Sequence[int]) -> str:
        """Decode tokens, whose bytes must be UTF-8.

        Args:
            tokens: The tokens.

        Raises:
            HarmonyError: They are not, or a token is unknown.
        """
        return decode_utf8(token_ids(list(tokens)))

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = "all",
    ) -> list[int]:
        """Encode text.

        Args:
            text: The text.
            allowed_special: The special tokens whose spellings become themselves.
            disallowed_special: Those whose spellings are an error; `"all"` means all that
                are not allowed. Other spellings are ordinary text.

        Raises:
            HarmonyError: The text spells a disallowed special token.
        """
        if allowed_special == "all":
            allowed_special = self.special_tokens_set
        if disallowed_special == "all":
            disallowed_special = ()
            self._refuse_special(text, set(allowed_special))
        if disallowed_special:
            spellings = "|".join(map(re.escape, frozenset(disallowed_special)))
            if spelt := re.search(spellings, text):
                raise_disallowed_special_token(spelt.group())
        allowed = list(allowed_special)
        return vocabulary.encode_with_special(_without_surrogates(text), _names(allowed))

    def _refuse_special(self, text: str, allowed: set[str]) -> None:
        if allowed >= self.special_tokens_set:
            return
        for spelt in _SPELT_TOKEN.finditer(text):
            token = spelt.group()
            if token in self.special_tokens_set and token not in allowed:
                raise_disallowed_special_token(token)

    def decode(self, tokens: Sequence[int], errors: str = "replace") -> str:
        """Decode tokens.

        Args:
            tokens: The tokens.
            errors: What to do with bytes that are not UTF-8, as for `bytes.decode`.

        Raises:
            HarmonyError: A token is unknown.
        """
        return decode_bytes(token_ids(list(tokens))).decode("utf-8", errors)

    def is_special_token(self, token: int) -> bool:
        """Whether a token is a special one."""
        return token_id(token, "token") in vocabulary.SPECIAL_TOKEN_NAMES

    def stop_tokens(self) -> list[int]:
        """The tokens that end a message."""
        return sorted(vocabulary.TERMINATORS)

    def stop_tokens_for_assistant_actions(self) -> list[int]:
        """The tokens that end the assistant's turn."""
        return sorted(vocabulary.STOP_TOKENS)


def _role_name(role: Role) -> str:
    name = str(role.value)
    name.encode()
    return name


def _known_role(name: str) -> str:
    if name not in ROLES:
        raise ValueError(f"unknown role: {name}")
    return name


def _parser_arguments(role: Role | None, strict: Any) -> tuple[str | None, bool]:
    """The arguments of a parser, checked in the reference's order."""
    name = None if role is None else _role_name(role)
    if strict is not None and not isinstance(strict, bool):
        raise TypeError(f"argument 'strict': {_not_converted(strict, 'PyBool')}")
    return None if name is None else _known_role(name), strict is not False


def _not_converted(value: Any, kind: str) -> str:
    return f"'{type(value).__name__}' object cannot be converted to '{kind}'"


def _names(values: list[Any]) -> frozenset[str]:
    for value in values:
        if not isinstance(value, str):
            reason = f"TypeError: {_not_converted(value, 'PyString')}"
            raise ValueError(f"invalid allowed_special: {reason}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            reason = f"UnicodeEncodeError: {error}"
            raise ValueError(f"invalid allowed_special: {reason}") from None
    return frozenset(values)


def _without_surrogates(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"argument 'text': {_not_converted(text, 'PyString')}")
    if _is_text(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _message(parsed: ParsedMessage) -> Message:
    header = parsed.header
    return Message(
        author=Author(role=Role(header.role), name=header.name),
        content=[TextContent(text=parsed.text)],
        channel=header.channel,
        recipient=header.recipient,
        content_type=header.content_type,
    )


class StreamableParser(TokenParser):
    """Parses what a model writes, token by token.

    Args:
        encoding: The encoding.
        role: The role of the first message, if the prompt ended in it.
        strict: Whether a message without a content is an error, or is made the best of.
    """

    def __init__(
        self, encoding: HarmonyEncoding, role: Role | None, *, strict: bool = True
    ) -> None:
        self._inner = encoding._inner
        super().__init__(*_parser_arguments(role, strict))

    @property
    def current_role(self) -> Role | None:
        """The role of the open message, or of the next one if it is known."""
        role = self._next_role if self._open is None else self._open.header.role
        return None if role is None else Role(role)

    @property
    def messages(self) -> list[Message]:
        """All messages that are complete."""
        return list(map(_message, self._parsed))
