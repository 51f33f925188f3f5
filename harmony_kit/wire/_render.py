"""Renders messages to tokens.

A message is rendered as header, content and terminator. Content is always encoded as ordinary text:
special tokens spelled out in a message, a tool result or the description of a tool do not become
control tokens.

The tokens of a message are cached on the (frozen) message, so that a prompt that extends an earlier
one takes time for the new messages only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import (
    Final,
    NamedTuple,
    Unpack,
    overload,
)

from .._options import checked_options
from ..errors import InvalidMessageError
from ._contents import DeveloperContent, Part, SystemContent
from ._header.writing import HeaderOrder, header_tokens
from ._instructions import developer_text, system_text
from ._messages import Message, unpack_tokens
from ._problems import Span
from ._render_options import DropAnalysis, RenderKeywords, RenderOptions, check_choice
from ._roles import FUNCTIONS, Channel, Role, SchemaStyle
from ._vocabulary import CALL, END, START, decode
from ._vocabulary import encode_text as encode

_ROLES: Final = tuple(Role)


class _Style(NamedTuple):
    """Everything other than the message that affects its tokens."""

    header_order: HeaderOrder
    schema_style: SchemaStyle
    verbatim: bool
    has_function_tools: bool


@cache
def style_of(options: RenderOptions, has_function_tools: bool) -> _Style:
    # Cached so that equal styles are one object, and cached renderings are compared by identity.
    return _Style(options.header_order, options.schema_style, options.verbatim, has_function_tools)


class _Rendering(NamedTuple):
    """A rendered message, and the style in which it was rendered."""

    style: _Style
    tokens: list[int]


# --- Conversations --------------------------------------------------------------------------


def render(
    conversation: Iterable[Message],
    *,
    next_role: Role | str | None = Role.ASSISTANT,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> list[int]:
    """Render a conversation to prompt tokens.

    Args:
        conversation: The messages, oldest first.
        next_role: The role of the message that the model generates next: the prompt ends with
            `<|start|>` and this role. `None` renders the conversation alone.
        options: How to render.
        **changes: Fields of `RenderOptions` that differ from `options`.

    Returns:
        Token ids.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error names it and the field.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.

    Example:
        >>> tokens = render([Message("user", "Hello!")])
        >>> render_text(tokens)
        '<|start|>user<|message|>Hello!<|end|><|start|>assistant'
    """
    chosen = RenderOptions.of(options, changes, "render")
    messages = checked_messages(conversation)
    style = style_of(chosen, declares_functions(messages))
    tokens: list[int] = []
    for index, message in kept_messages(messages, chosen.drop_analysis):
        rendering: _Rendering | None = message._rendering
        if rendering is None or rendering.style is not style:
            tokens += message_tokens(message, style, index)
        else:
            tokens += rendering.tokens
    tokens += next_header(next_role)
    return tokens


@dataclass(frozen=True)
class Prompt(Sequence[int]):
    """A prompt, and which of its ids were sampled from a model.

    It is a sequence of its token ids.

    Attributes:
        tokens: Token ids.
        sampled: The ranges of ids that are known to have been sampled, in order.
        extends: Whether it begins with the ids of an earlier prompt and its completion, where
            `<|end|>` may replace a last `<|return|>`. If not, an engine finds less of the prompt in
            its prefix cache, and a trainer must begin a new sequence.

    Example:
        >>> prompt = render_prompt([Message("user", "Hi")])
        >>> prompt[:2], len(prompt), any(prompt.mask)
        ([200006, 1428], 7, False)
    """

    tokens: list[int]
    sampled: tuple[Span, ...] = ()
    extends: bool = False

    @property
    def mask(self) -> list[bool]:
        """For each id, whether it was sampled."""
        mask = [False] * len(self.tokens)
        for start, end in self.sampled:
            mask[start:end] = [True] * (end - start)
        return mask

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        return self.tokens[index]


def render_prompt(
    conversation: Iterable[Message],
    *,
    next_role: Role | str | None = Role.ASSISTANT,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> Prompt:
    """Render a conversation as `render` does, and report which ids were sampled from a model.

    Args:
        conversation: The messages, oldest first.
        next_role: As for `render`.
        options: How to render.
        **changes: Fields of `RenderOptions` that differ from `options`.

    Returns:
        The token ids, and which of them were sampled.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error names it and the field.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> completion = encode_with_special("<|channel|>final<|message|>Hi<|end|>")
        >>> prompt = render_prompt(parse(completion).messages, next_role=None)
        >>> prompt.sampled  # all but <|start|>assistant
        (Span(start=2, end=7),)
    """
    chosen = RenderOptions.of(options, changes, "render_prompt")
    messages = checked_messages(conversation)
    style = style_of(chosen, declares_functions(messages))
    tokens: list[int] = []
    sampled: list[Span] = []
    for index, message in kept_messages(messages, chosen.drop_analysis):
        start = len(tokens)
        tokens += message_tokens(message, style, index)
        if style.verbatim:
            sampled += _sampled_part(message, start, len(tokens))
    return Prompt([*tokens, *next_header(next_role)], joined_spans(sampled))


def _sampled_part(message: Message, start: int, end: int) -> Iterable[Span]:
    """The range of a rendered message that was sampled, if any."""
    if message._tokens:
        _, prompted, added = unpack_tokens(message._tokens)
        if added is not None:
            yield Span(start + prompted, end - added)


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Merge adjacent spans of a sorted sequence, and drop empty ones."""
    joined: list[Span] = []
    for span in spans:
        if span.start == span.end:
            continue
        if joined and joined[-1].end == span.start:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
    return tuple(joined)


def render_message(
    message: Message,
    *,
    has_function_tools: bool = False,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> list[int]:
    """Render one message, from `<|start|>` to its terminator.

    Args:
        message: The message.
        has_function_tools: Whether the conversation declares function tools, which a system
            message mentions.
        options: How to render.
        **changes: Fields of `RenderOptions` that differ from `options`.

    Returns:
        Token ids.

    Raises:
        InvalidMessageError: The message cannot be rendered; the error names the field.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.

    Example:
        >>> render_text(render_message(Message("assistant", "Hello!", channel="final")))
        '<|start|>assistant<|channel|>final<|message|>Hello!<|end|>'
    """
    chosen = RenderOptions.of(options, changes, "render_message")
    style = style_of(chosen, has_function_tools)
    return list(message_tokens(checked_messages([message])[0], style, None))


def token_counts(
    conversation: Iterable[Message],
    *,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> list[int]:
    """Count the tokens of each message in the prompt of a conversation.

    Args:
        conversation: The messages, oldest first.
        options: How to render.
        **changes: Fields of `RenderOptions` that differ from `options`.

    Returns:
        One number per message, 0 for a message that is dropped. Their sum is the length of the
        result of `render` with `next_role=None`.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error names it and the field.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.

    Example:
        >>> token_counts([Message("user", "Hello!"), Message("assistant", "Hi", channel="final")])
        [6, 7]
    """
    chosen = RenderOptions.of(options, changes, "token_counts")
    messages = checked_messages(conversation)
    style = style_of(chosen, declares_functions(messages))
    counts = [0] * len(messages)
    for index, message in kept_messages(messages, chosen.drop_analysis):
        counts[index] = len(message_tokens(message, style, index))
    return counts


@checked_options
def render_text(tokens: Sequence[int]) -> str:
    """Decode tokens to text for people to read, with special tokens spelled out.

    Do not use the text as a prompt: a special token and the same characters in a message's content
    look alike in it.

    Args:
        tokens: Token ids.

    Returns:
        The text; bytes that are not UTF-8 become U+FFFD.

    Raises:
        UnknownTokenError: An id is not in the vocabulary.

    Example:
        >>> render_text([200006, 1428, 200008])
        '<|start|>user<|message|>'
    """
    return decode(tokens)


def checked_messages(conversation: Iterable[Message]) -> tuple[Message, ...]:
    """The messages of a conversation as a tuple.

    Raises:
        InvalidMessageError: An item is not a message; the error has its index.
    """
    messages = tuple(conversation)
    if set(map(type, messages)) <= {Message}:  # much faster than a loop
        return messages
    for index, message in enumerate(messages):
        if not isinstance(message, Message):
            raise InvalidMessageError(
                f"expected a Message, got {type(message).__name__}", field="message", index=index
            )
    return messages


def declares_functions(messages: Sequence[Message]) -> bool:
    """Whether a message declares function tools."""
    for message in messages:
        if type(message.content) is str:  # the usual case; this runs for every message and prompt
            continue
        for part in _contents(message):
            if isinstance(part, DeveloperContent) and any(
                namespace.name == FUNCTIONS and namespace.tools for namespace in part.tools
            ):
                return True
    return False


def is_final(message: Message) -> bool:
    """Whether a message is on the final channel of the assistant."""
    header = message.header
    return header.channel == Channel.FINAL and header.role is Role.ASSISTANT


def kept_messages(
    messages: Sequence[Message], policy: DropAnalysis
) -> Iterable[tuple[int, Message]]:
    """The messages that are rendered, each with its index."""
    before = 0
    if policy == "reference":
        last = next((m for m in reversed(messages) if m.role is Role.ASSISTANT), None)
        if last is not None and last.channel == Channel.FINAL:
            channels = [message.channel for message in messages]
            before = channels.index(Channel.FINAL)
    elif policy == "finished-turns":
        before = _last_final(messages)
    if not before:
        return enumerate(messages)
    return [
        (index, message)
        for index, message in enumerate(messages)
        if index >= before or message.channel != Channel.ANALYSIS
    ]


def _last_final(messages: Sequence[Message]) -> int:
    final, assistant = Channel.FINAL, Role.ASSISTANT
    for place in range(len(messages) - 1, -1, -1):  # no generator: this runs for every prompt
        header = messages[place].header
        if header.channel == final and header.role is assistant:
            return place
    return 0


def next_header(role: Role | str | None) -> list[int]:
    """The tokens `<|start|>` and a role, with which a prompt ends; empty for `None`.

    Raises:
        OptionError: The role is unknown.
    """
    if role is None:
        return []
    check_choice("next_role", role, _ROLES)
    return [*_opening(role)]


# The role names as token ids, so that parsing does not need an encoder.
_ROLE_IDS: Final = {"system": 17360, "developer": 77944, "user": 1428, "assistant": 173781}


@cache
def _opening(role: str) -> tuple[int, ...]:
    known = _ROLE_IDS.get(role)
    return (START, *encode(Role(role).value)) if known is None else (START, known)


# --- One message ----------------------------------------------------------------------------


def message_tokens(message: Message, style: _Style, index: int | None) -> list[int]:
    """The tokens of a message: those that it remembers, or those of its header and content."""
    if style.verbatim and message._tokens:
        return memoryview(unpack_tokens(message._tokens)[0]).cast("I").tolist()
    return _render(message, style, index).tokens


def _render(message: Message, style: _Style, index: int | None) -> _Rendering:
    kept: _Rendering | None = message._rendering
    if kept is not None and kept.style is style:
        return kept
    header = message.header
    try:
        tokens = [*header_tokens(header, style.header_order)]
        for part in _contents(message):
            tokens += _encode_content(_part_text(part, style))
    except InvalidMessageError as error:
        raise error if index is None else error.at(index) from None
    is_call = message.role is Role.ASSISTANT and message.recipient is not None
    tokens.append(CALL if is_call else END)
    rendering = _Rendering(style, tokens)
    object.__setattr__(message, "_rendering", rendering)
    return rendering


def _contents(message: Message) -> tuple[Part, ...]:
    content = message.content
    return content if isinstance(content, tuple) else (content,)


def _encode_content(text: str) -> list[int]:
    try:
        return encode(text)
    except InvalidMessageError as error:
        raise InvalidMessageError(error.reason, field="content") from None


def _part_text(part: Part, style: _Style) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, SystemContent):
        return system_text(
            part, has_function_tools=style.has_function_tools, schema_style=style.schema_style
        )
    return developer_text(part, schema_style=style.schema_style)
