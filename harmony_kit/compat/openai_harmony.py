"""A drop-in replacement for the package `openai_harmony`: only the import changes.

    from harmony_kit.compat import openai_harmony
    from harmony_kit.compat.openai_harmony import Conversation, Message, Role

It has the names, signatures, tokens and errors of openai-harmony 0.0.8, but downloads nothing, and
its `HarmonyError` is also one of `harmony_kit.errors`. New programs should use `harmony_kit`
itself, whose parser loses no token.

The models are pydantic's, so this module needs the extra `compat`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, NamedTuple

from ..wire import _vocabulary as vocabulary
from ._models import (  # noqa: F401 -- the reference has all of these names here
    Author,
    ChannelConfig,
    Content,
    Conversation,
    DeveloperContent,
    Message,
    ReasoningEffort,
    RenderConversationConfig,
    RenderOptions,
    Role,
    SystemContent,
    TextContent,
    ToolDescription,
    ToolNamespaceConfig,
)
from ._reference_json import read_conversation, read_message
from ._reference_parser import ROLES, ParsedMessage, StreamState, TokenParser, parse_completion
from ._reference_render import (
    Turn,
    render_for_completion,
    render_for_training,
    render_turn,
    render_turns,
    turn_of,
)
from ._reference_tokens import HarmonyError, decode_bytes, decode_utf8, token_id, token_ids

# The names that the reference exports; it also has public names that it does not export.
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
    """Raise the error for a special token in a text.

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


def _turns(conversation: Conversation) -> list[Turn]:
    if type(conversation) is Conversation:
        messages = conversation.messages
        turns = [turn for message in messages if (turn := _turn(message, _DEPTH_OF_MESSAGES))]
        if len(turns) == len(messages):
            return turns
    return list(map(turn_of, read_conversation(conversation.to_json())))


# A message in a conversation is nested in a list and an object.
_DEPTH_OF_MESSAGES: Final = 2


def _turn(message: Message, depth: int) -> Turn | None:
    """The message for rendering; `None` if the reference may refuse it.

    The error is then raised by `read_conversation` or `read_message`, which need the whole JSON;
    reading that every time would be slow.
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
    """The names of the encodings."""

    HARMONY_GPT_OSS = "HarmonyGptOss"


class _Encoding(NamedTuple):
    """The fields that distinguish encodings."""

    name: str


def load_harmony_encoding(name: str | HarmonyEncodingName) -> HarmonyEncoding:
    """Return an encoding by name; the only one is `"HarmonyGptOss"`.

    Raises:
        ValueError: The name is unknown.
    """
    text = str.__str__(name) if isinstance(name, str) else str(name)
    text.encode()
    if text != HarmonyEncodingName.HARMONY_GPT_OSS.value:
        raise ValueError(f"Invalid HarmonyEncodingName: {text}")
    return HarmonyEncoding(_Encoding(text))


_SPELT_TOKEN: Final = re.compile(r"<\|[a-z0-9_]+\|>")


class HarmonyEncoding:
    """Renders conversations to tokens, and parses tokens to messages.

    Create it with `load_harmony_encoding`.
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
        """Render a conversation as a prompt, which ends with the start of the next message.

        Args:
            conversation: The messages.
            next_turn_role: The role of the next message.
            config: Whether messages are dropped.

        Raises:
            ValueError: A value in the conversation is invalid.
            HarmonyError: A message cannot be rendered.
        """
        drop_analysis = _drops_analysis(config)
        role = _role_name(next_turn_role)
        turns = _turns(conversation)
        return render_for_completion(turns, _known_role(role), drop_analysis=drop_analysis)

    def render_conversation(
        self, conversation: Conversation, config: RenderConversationConfig | None = None
    ) -> list[int]:
        """Render a conversation without a start of the next message.

        Args:
            conversation: The messages.
            config: Whether messages are dropped.

        Raises:
            ValueError: A value in the conversation is invalid.
            RuntimeError: A message cannot be rendered.
        """
        drop_analysis = _drops_analysis(config)
        turns = _turns(conversation)
        return _as_runtime_error(render_turns, turns, drop_analysis=drop_analysis)

    def render_conversation_for_training(
        self, conversation: Conversation, config: RenderConversationConfig | None = None
    ) -> list[int]:
        """Render a conversation; a final answer at its end is closed with `<|return|>`.

        Args:
            conversation: The messages.
            config: Whether messages are dropped.

        Raises:
            ValueError: A value in the conversation is invalid.
            RuntimeError: A message cannot be rendered.
        """
        drop_analysis = _drops_analysis(config)
        turns = _turns(conversation)
        return _as_runtime_error(render_for_training, turns, drop_analysis=drop_analysis)

    def render(self, message: Message, render_options: RenderOptions | None = None) -> list[int]:
        """Render one message.

        Args:
            message: The message.
            render_options: The context of the message.

        Raises:
            ValueError: A value in the message is invalid.
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
        """Parse a completion.

        Args:
            tokens: The token ids.
            role: The role of the first message, if the prompt ended with it.
            strict: Whether a message without a content is an error; otherwise it is repaired.

        Raises:
            HarmonyError: The tokens are not well-formed.
        """
        ids = token_ids(list(tokens)).tolist()
        role_name, is_strict = _parser_arguments(role, strict)
        return list(map(_message, parse_completion(ids, role_name, is_strict)))

    def decode_utf8(self, tokens: Sequence[int]) -> str:
        """Decode tokens to text.

        Raises:
            HarmonyError: The bytes are not UTF-8, or a token is unknown.
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
            allowed_special: The special tokens that are encoded as themselves.
            disallowed_special: The special tokens that are an error; `"all"` means all that are not
                allowed. The remaining ones are ordinary text.

        Raises:
            HarmonyError: The text contains a disallowed special token.
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
        """Decode tokens to text.

        Args:
            tokens: The token ids.
            errors: The handling of invalid UTF-8, as for `bytes.decode`.

        Raises:
            HarmonyError: A token is unknown.
        """
        return decode_bytes(token_ids(list(tokens))).decode("utf-8", errors)

    def is_special_token(self, token: int) -> bool:
        """Whether a token is a special token."""
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
    """Parses a completion token by token.

    Args:
        encoding: The encoding.
        role: The role of the first message, if the prompt ended with it.
        strict: Whether a message without a content is an error; otherwise it is repaired.
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
        """The complete messages."""
        return list(map(_message, self._parsed))
