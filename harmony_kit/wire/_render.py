"""Messages to tokens: prompts, plain conversations and training examples.

A message becomes its header, its contents and its terminator. Content is only ever encoded
as ordinary text: whatever is written in a message, a tool result or a tool's description,
no control token comes of it.

A rendered message is kept with the (frozen) message, so that a prompt which extends an
earlier one by a message costs that message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    TypedDict,
    Unpack,
    get_args,
    overload,
)

from .._options import checked_fields, checked_options, refuse_options
from ..errors import InvalidMessageError, OptionError
from ._header import HeaderOrder, header_tokens
from ._messages import (
    FUNCTIONS,
    Channel,
    DeveloperContent,
    Message,
    Part,
    ResponseFormat,
    Role,
    SchemaStyle,
    SystemContent,
    Tool,
    ToolNamespace,
    unpack_tokens,
)
from ._problems import Span
from ._vocabulary import CALL, END, MESSAGE, RETURN, START, decode
from ._vocabulary import encode_text as encode

DropAnalysis = Literal["reference", "finished-turns", "never"]
"""Which analysis messages of earlier turns are left out of a rendering.

`"finished-turns"`: the analysis before the *last* final answer, which is what the format's
documentation describes ("drop any previous CoT content"). `"reference"`: as openai-harmony: where
the last assistant message is a final answer, the analysis before the *first* final answer.
`"never"`: keep all.
"""


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(repr(str(choice)) for choice in choices)
        raise OptionError(f"{value!r} is none of {known}", option=name)


@checked_fields
@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """How conversations are rendered; the same defaults hold wherever a prompt is made.

    Args:
        drop_analysis: Which reasoning of earlier turns is left out; see `DropAnalysis`.
        header_order: Where the recipient stands in a header; see `HeaderOrder`.
        schema_style: How tool parameters are written: `"reference"` is byte for byte what
            the model was trained on, `"extended"` covers all of JSON Schema.
        verbatim: Whether messages that remember their tokens (`Message.tokens`) are rendered as
            these, id for id, so that prompts go on from what a model generated. The header order
            is that of the other messages.

    Raises:
        OptionError: An option has an unknown value.

    Example:
        >>> RenderOptions(drop_analysis="never").header_order
        'recipient-first'
    """

    drop_analysis: DropAnalysis = "finished-turns"
    header_order: HeaderOrder = "recipient-first"
    schema_style: SchemaStyle = "reference"
    verbatim: bool = True

    REFERENCE: ClassVar[RenderOptions]
    """The options with which `render` gives the tokens of openai-harmony."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        if not isinstance(self.verbatim, bool):
            raise OptionError(f"{self.verbatim!r} is neither True nor False", option="verbatim")

    @classmethod
    def of(
        cls, options: RenderOptions | None, changes: Mapping[str, Any], where: str
    ) -> RenderOptions:
        """Options with some of them changed, as keyword arguments of a function say it.

        Args:
            options: The options; the defaults if there are none.
            changes: Values by the name of the option.
            where: The function, for errors.

        Raises:
            TypeError: There is no option of that name.
            OptionError: An option has an unknown value.
        """
        options = _DEFAULTS if options is None else options
        if not isinstance(options, RenderOptions):
            kind = type(options).__name__
            raise OptionError(f"expected RenderOptions, got {kind}", option="options")
        if not changes:
            return options
        if not changes.keys() <= RENDER_OPTIONS:
            others = {"options", *_OTHER_OPTIONS.get(where, ())}
            refuse_options(where, changes, RENDER_OPTIONS | others)
        return replace(options, **changes)


class RenderKeywords(TypedDict, total=False):
    """The fields of `RenderOptions` as keyword arguments."""

    drop_analysis: DropAnalysis
    header_order: HeaderOrder
    schema_style: SchemaStyle
    verbatim: bool


_CHOICES: Final = {
    "drop_analysis": get_args(DropAnalysis),
    "header_order": get_args(HeaderOrder),
    "schema_style": get_args(SchemaStyle),
}
# What functions take beside the options, for the suggestions of errors.
_OTHER_OPTIONS: Final = {
    "render": ("next_role",),
    "render_prompt": ("next_role",),
    "extend": ("new_messages", "next_role"),
    "render_message": ("has_function_tools",),
}
_ROLES: Final = tuple(Role)
RENDER_OPTIONS: Final = frozenset(field.name for field in fields(RenderOptions))
"""The names of the options."""
RenderOptions.REFERENCE = RenderOptions(drop_analysis="reference", verbatim=False)
_DEFAULTS: Final = RenderOptions()


class _Style(NamedTuple):
    """All that decides, beside the message, how a message is rendered."""

    header_order: HeaderOrder
    schema_style: SchemaStyle
    verbatim: bool
    has_function_tools: bool


@cache
def _style(options: RenderOptions, has_function_tools: bool) -> _Style:
    # Cached so that equal styles are one object, and kept renderings are compared by identity.
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
        next_role: Whose message the model is to write: the prompt then ends in `<|start|>`
            and this role. `None` renders the conversation alone.
        options: How to render.
        **changes: Options that differ from those: the fields of `RenderOptions`.

    Returns:
        Token ids.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error says which, and where.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.
    """
    chosen = RenderOptions.of(options, changes, "render")
    messages = checked_messages(conversation)
    style = _style(chosen, _has_function_tools(messages))
    tokens: list[int] = []
    for index, message in kept_messages(messages, chosen.drop_analysis):
        rendering: _Rendering | None = message._rendering
        if rendering is None or rendering.style is not style:
            tokens += _message_tokens(message, style, index)
        else:
            tokens += rendering.tokens
    tokens += next_header(next_role)
    return tokens


@dataclass(frozen=True)
class Prompt(Sequence[int]):
    """A prompt, and which of its ids a model generated.

    Attributes:
        tokens: Token ids.
        sampled: The stretches of ids that are known to have been sampled, in order.
        extends: Whether it begins, id for id, with an earlier prompt and its completion (but for a
            last `<|return|>`, in whose place a history has `<|end|>`). If not, a new segment
            begins: engines find less of it in their caches, and a trainer has to start anew.
    """

    tokens: list[int]
    sampled: tuple[Span, ...] = ()
    extends: bool = False

    @property
    def mask(self) -> list[bool]:
        """For each id, whether a model sampled it."""
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
    """Render a conversation as `render` does, telling which ids a model sampled.

    Args:
        conversation: The messages, oldest first.
        next_role: As for `render`.
        options: How to render.
        **changes: Options that differ from those: the fields of `RenderOptions`.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error says which, and where.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.
    """
    chosen = RenderOptions.of(options, changes, "render_prompt")
    messages = checked_messages(conversation)
    style = _style(chosen, _has_function_tools(messages))
    tokens: list[int] = []
    sampled: list[Span] = []
    for index, message in kept_messages(messages, chosen.drop_analysis):
        start = len(tokens)
        tokens += _message_tokens(message, style, index)
        if style.verbatim:
            sampled += _sampled_part(message, start, len(tokens))
    return Prompt([*tokens, *next_header(next_role)], joined_spans(sampled))


def _sampled_part(message: Message, start: int, end: int) -> Iterable[Span]:
    """The stretch of a rendered message that a model sampled, if any."""
    if message._tokens:
        _, prompted, added = unpack_tokens(message._tokens)
        if added is not None:
            yield Span(start + prompted, end - added)


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Stretches in order, those that meet as one.

    Args:
        spans: The stretches; empty ones are left out.
    """
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
        has_function_tools: Whether the conversation around it declares function tools, which
            a system message mentions.
        options: How to render.
        **changes: Options that differ from those: the fields of `RenderOptions`.

    Raises:
        InvalidMessageError: The message cannot be rendered.
    """
    chosen = RenderOptions.of(options, changes, "render_message")
    style = _style(chosen, has_function_tools)
    return list(_message_tokens(checked_messages([message])[0], style, None))


def token_counts(
    conversation: Iterable[Message],
    *,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> list[int]:
    """How many tokens each message has in the prompt of a conversation.

    Args:
        conversation: The messages, oldest first.
        options: How to render.
        **changes: Options that differ from those: the fields of `RenderOptions`.

    Returns:
        One number for each message, 0 for what is left out. Their sum is the length of `render`
        without a next role.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error says which, and where.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.
    """
    chosen = RenderOptions.of(options, changes, "token_counts")
    messages = checked_messages(conversation)
    style = _style(chosen, _has_function_tools(messages))
    counts = [0] * len(messages)
    for index, message in kept_messages(messages, chosen.drop_analysis):
        counts[index] = len(_message_tokens(message, style, index))
    return counts


class TokenPart(StrEnum):
    """The part of its message in which a token stands."""

    HEADER = "header"
    """From `<|start|>` to `<|message|>`."""
    CONTENT = "content"
    TERMINATOR = "terminator"
    """`<|end|>`, `<|call|>` or `<|return|>`."""


@dataclass(frozen=True)
class TrainingRendering:
    """A conversation as a training example.

    Attributes:
        tokens: Token ids.
        message_indices: For each token, the index of its message in the conversation given.
        parts: For each token, the part of the message in which it stands.
        messages: The conversation.
    """

    tokens: list[int]
    message_indices: list[int]
    parts: list[TokenPart]
    messages: tuple[Message, ...]

    def loss_mask(self, include: Callable[[Message, TokenPart], bool] | None = None) -> list[bool]:
        """For each token, whether it counts in the loss.

        Args:
            include: Decides by message and part. By default all that an assistant writes:
                every token of its messages, save the `<|start|>assistant` that opens its
                turn, which stands in the prompt.
        """
        if include is not None:
            chosen = {
                place: include(self.messages[place[0]], place[1])
                for place in dict.fromkeys(zip(self.message_indices, self.parts, strict=True))
            }
            return [chosen[p] for p in zip(self.message_indices, self.parts, strict=True)]
        mask = [self.messages[i].role is Role.ASSISTANT for i in self.message_indices]
        prompt = len(next_header(Role.ASSISTANT))
        for position, token in enumerate(self.tokens):
            opens = token == START and mask[position] and not (position and mask[position - 1])
            if opens:
                mask[position : position + prompt] = [False] * prompt
        return mask


def render_training(
    conversation: Iterable[Message],
    *,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> TrainingRendering:
    """Render a conversation as a training example.

    Like `render` without a next role, but a final answer at the end closes with
    `<|return|>`, the token at which the model shall stop.

    Args:
        conversation: The messages, oldest first.
        options: How to render.
        **changes: Options that differ from those: the fields of `RenderOptions`.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error says which, and where.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.
    """
    chosen = RenderOptions.of(options, changes, "render_training")
    messages = checked_messages(conversation)
    style = _style(chosen, _has_function_tools(messages))
    tokens: list[int] = []
    indices: list[int] = []
    parts: list[TokenPart] = []
    for index, message in kept_messages(messages, chosen.drop_analysis):
        rendered = _message_tokens(message, style, index)
        length, header_length = len(rendered), rendered.index(MESSAGE) + 1
        tokens += rendered
        indices += [index] * length
        parts += [TokenPart.HEADER] * header_length
        parts += [TokenPart.CONTENT] * (length - header_length - 1)
        parts.append(TokenPart.TERMINATOR)
    if messages and _is_final(messages[-1]):
        tokens[-1] = RETURN
    return TrainingRendering(tokens, indices, parts, messages)


@checked_options
def render_text(tokens: Sequence[int]) -> str:
    """Tokens as text for a person to read, special tokens spelt out.

    Not a rendering to feed to a model: text in a message that spells a special token looks
    the same as the token itself.

    Args:
        tokens: Token ids.

    Raises:
        UnknownTokenError: An id is not in the vocabulary.
    """
    return decode(tokens)


def checked_messages(conversation: Iterable[Message]) -> tuple[Message, ...]:
    """The messages of a conversation.

    Args:
        conversation: The messages.

    Raises:
        InvalidMessageError: Something among them is none; the error says which.
    """
    messages = tuple(conversation)
    if set(map(type, messages)) <= {Message}:  # the usual case, and much faster than a loop
        return messages
    for index, message in enumerate(messages):
        if not isinstance(message, Message):
            raise InvalidMessageError(
                f"expected a Message, got {type(message).__name__}", field="message", index=index
            )
    return messages


def _has_function_tools(messages: Sequence[Message]) -> bool:
    for message in messages:
        if type(message.content) is str:  # most are, and this is asked of all in every prompt
            continue
        for part in _contents(message):
            if isinstance(part, DeveloperContent) and any(
                namespace.name == FUNCTIONS and namespace.tools for namespace in part.tools
            ):
                return True
    return False


def _is_final(message: Message) -> bool:
    header = message.header
    return header.channel == Channel.FINAL and header.role is Role.ASSISTANT


def kept_messages(
    messages: Sequence[Message], policy: DropAnalysis
) -> Iterable[tuple[int, Message]]:
    """The messages that are rendered, each with its index.

    Args:
        messages: The messages of a conversation.
        policy: Which reasoning is left out.
    """
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
    for place in range(len(messages) - 1, -1, -1):  # plain, for every prompt asks this
        header = messages[place].header
        if header.channel == final and header.role is assistant:
            return place
    return 0


def next_header(role: Role | str | None) -> list[int]:
    """How a prompt ends whose next message a role writes.

    Args:
        role: The role; `None` for nothing.

    Raises:
        OptionError: There is no such role.
    """
    if role is None:
        return []
    _check_choice("next_role", role, _ROLES)
    return [*_opening(role)]


@cache
def _opening(role: str) -> tuple[int, ...]:
    return (START, *encode(Role(role).value))


# --- One message ----------------------------------------------------------------------------


def _message_tokens(message: Message, style: _Style, index: int | None) -> list[int]:
    """The tokens of a message: those that it remembers, or those of its canonical form."""
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


# --- The texts of system and developer messages ---------------------------------------------


def system_text(
    content: SystemContent,
    *,
    has_function_tools: bool = False,
    schema_style: SchemaStyle = "reference",
) -> str:
    """What a system message says (format, section "System message format").

    Args:
        content: The content.
        has_function_tools: Whether the conversation declares function tools.
        schema_style: How tool parameters are written, as for `render`.
    """
    facts = []
    if content.model_identity is not None:
        facts.append(content.model_identity)
    if content.knowledge_cutoff is not None:
        facts.append(f"Knowledge cutoff: {content.knowledge_cutoff}")
    if content.current_date is not None:
        facts.append(f"Current date: {content.current_date}")
    sections = ["\n".join(facts)] if facts else []
    if content.reasoning_effort is not None:
        sections.append(f"Reasoning: {content.reasoning_effort.value}")
    if content.tools:
        sections.append(tools_section(_by_name(content.tools), schema_style=schema_style))
    if content.valid_channels:
        sections.append(_channels_section(content, has_function_tools))
    return "\n\n".join(sections)


def _channels_section(content: SystemContent, has_function_tools: bool) -> str:
    text = f"# Valid channels: {', '.join(content.valid_channels)}."
    if content.channel_required:
        text += " Channel must be included for every message."
    if has_function_tools:
        text += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return text


def developer_text(content: DeveloperContent, *, schema_style: SchemaStyle = "reference") -> str:
    """What a developer message says (format, section "Developer message format").

    Args:
        content: The content.
        schema_style: How tool parameters are written, as for `render`.
    """
    sections = []
    if content.instructions is not None:
        sections += ["# Instructions", content.instructions]
    if content.tools:
        sections.append(tools_section(_by_name(content.tools), schema_style=schema_style))
    if content.response_formats:
        sections += ["# Response Formats", *map(_response_format, content.response_formats)]
    return "\n\n".join(sections)


def _response_format(response_format: ResponseFormat) -> str:
    lines = [f"## {response_format.name}", ""]
    lines += _comment(response_format.description or "")
    return "\n".join([*lines, response_format.schema_json])


def tools_section(
    namespaces: Iterable[ToolNamespace], *, schema_style: SchemaStyle = "reference"
) -> str:
    """The section that declares tools (format, section "Defining available tools").

    Args:
        namespaces: The tools, in the order in which they are written.
        schema_style: How tool parameters are written, as for `render`.
    """
    sections = ["# Tools"]
    sections += ["\n".join(_namespace_lines(namespace, schema_style)) for namespace in namespaces]
    return "\n\n".join(sections)


def _by_name(namespaces: Iterable[ToolNamespace]) -> list[ToolNamespace]:
    return sorted(namespaces, key=lambda namespace: namespace.name)


def _namespace_lines(namespace: ToolNamespace, schema_style: SchemaStyle) -> list[str]:
    lines = [f"## {namespace.name}", ""]
    description = namespace.description or ""
    if not namespace.tools:
        return lines + _lines(description)
    lines += [*_comment(description), f"namespace {namespace.name} {{", ""]
    for tool in namespace.tools:
        lines += [*_comment(tool.description), _declaration(tool, schema_style), ""]
    return [*lines, f"}} // namespace {namespace.name}"]


def _declaration(tool: Tool, schema_style: SchemaStyle) -> str:
    if tool.parameters_json is None:
        return f"type {tool.name} = () => any;"
    from ._typescript import type_text_of_json  # only tools need it

    parameters = type_text_of_json(tool.parameters_json, style=schema_style)
    return f"type {tool.name} = (_: {parameters}) => any;"


def _comment(text: str) -> list[str]:
    return [f"// {line}" for line in _lines(text)]


def _lines(text: str) -> list[str]:
    """Lines as the reference counts them: ended by a line feed, one carriage return dropped."""
    *ended, rest = text.split("\n")
    lines = [line.removesuffix("\r") for line in ended]
    return [*lines, rest] if rest else lines
