"""The grammar of a completion: one turn of the assistant, after `<|start|>assistant`.

    { analysis or preamble <|end|> <|start|>assistant }  ( call <|call|>  |  final <|return|> )

The headers are those that the renderer writes, and that the parser therefore reads. Where the
model may write a header in several ways, all of them are admitted: the recipient before or after
the channel, the content type with or without `<|constrain|>`, or no content type.

One completion makes one call, since `<|call|>` ends it. Several calls are several completions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Final, Literal

from ..errors import GrammarError
from ..tools._choice import ANY_TOOL, ToolChoice
from ..wire._contents import Tool, ToolNamespace
from ..wire._header.writing import HeaderOrder, header_tokens
from ..wire._messages import Header
from ..wire._roles import FUNCTIONS, Channel, Role
from ..wire._vocabulary import CALL, END, RETURN, START
from ._nodes import (
    EPSILON,
    Alternatives,
    FreeText,
    JsonValue,
    Node,
    Token,
    alternatives,
    literal,
    optional,
    repeat,
    sequence,
    tokens_node,
)
from ._schema import json_value, load_schema

Reasoning = Literal["free", "none"] | int
"""How much the model may reason: freely, not at all, or in one message of at most n tokens."""

_ORDERS: Final[tuple[HeaderOrder, ...]] = ("channel-first", "recipient-first")
_NEXT: Final = sequence(Token(START), literal(Role.ASSISTANT.value))

_ContentType = tuple[str | None, bool]
_JSON_TYPES: Final[tuple[_ContentType, ...]] = (("json", True), ("json", False), (None, False))
# The content types that the model writes for the code and the arguments of built-in tools.
_CODE_TYPES: Final[tuple[_ContentType, ...]] = (("code", False), (None, False))
_TEXT_TYPES: Final[tuple[_ContentType, ...]] = ((None, False),)

_NO_ARGUMENTS: Final = {"type": "object", "properties": {}, "additionalProperties": False}
_ANY_ARGUMENTS: Final = {"type": "object"}


@dataclass(frozen=True)
class Turn:
    """What the model may do in one turn.

    Attributes:
        tools: The declared tools.
        tool_choice: Which of them may or must be called.
        answer: The grammar of the final answer.
        reasoning: How much the model may reason.
        strict: The full names of the tools whose arguments must meet their schema; `None` for
            all. The arguments of others are any JSON object.
    """

    tools: tuple[ToolNamespace, ...] = ()
    tool_choice: ToolChoice = ANY_TOOL
    answer: Node = FreeText(required=True)  # noqa: RUF009 -- frozen
    reasoning: Reasoning = "free"
    strict: frozenset[str] | None = None


def turn_grammar(turn: Turn) -> Node:
    """The grammar of the completions of a turn.

    Raises:
        GrammarError: A tool that must be called is not declared.
    """
    calls = [_call(target, turn) for target in _targets(turn)]
    if turn.tool_choice.mode == "required" and not calls:
        raise GrammarError("a call is required, but there is no tool to call", path="tool_choice")
    endings = list(calls)
    if turn.tool_choice.mode != "required":
        endings.append(_final(turn.answer))
    return sequence(_earlier_messages(turn, may_call=bool(calls)), alternatives(*endings))


# --- Messages before the last ---------------------------------------------------------------


def _earlier_messages(turn: Turn, *, may_call: bool) -> Node:
    """Reasoning, and preambles where a call may follow."""
    once: Node = EPSILON
    repeated = []
    if may_call:
        repeated.append(_message(Channel.COMMENTARY, FreeText(required=True)))
    if turn.reasoning == "free":
        repeated.append(_message(Channel.ANALYSIS, FreeText()))
    elif turn.reasoning != "none":
        limited = FreeText(max_tokens=turn.reasoning)
        once = optional(sequence(_message(Channel.ANALYSIS, limited), _NEXT))
    return sequence(once, repeat(sequence(alternatives(*repeated), _NEXT)))


def _message(channel: Channel, text: FreeText) -> Node:
    return sequence(_header(Header(Role.ASSISTANT, channel=channel)), text, Token(END))


@lru_cache(maxsize=4096)
def _header(header: Header, order: HeaderOrder = "channel-first") -> Node:
    """A header without `<|start|>assistant`."""
    start = header_tokens(Header(Role.ASSISTANT), order)[:-1]
    return tokens_node(header_tokens(header, order)[len(start) :])


# --- The last message -----------------------------------------------------------------------


def _final(answer: Node) -> Node:
    forms = answer.options if isinstance(answer, Alternatives) else (answer,)
    is_json = all(isinstance(form, JsonValue) for form in forms)
    types = _JSON_TYPES if is_json else _TEXT_TYPES
    headers = (
        Header(Role.ASSISTANT, channel=Channel.FINAL, content_type=name, constrained=constrained)
        for name, constrained in types
    )
    return sequence(alternatives(*map(_header, headers)), answer, Token(RETURN))


@dataclass(frozen=True)
class _Target:
    """A recipient of calls.

    Attributes:
        recipient: The full name.
        tool: The declared tool; `None` where text is sent to a namespace as a whole.
        is_function: Whether it is in `functions`, which are called on commentary only.
    """

    recipient: str
    tool: Tool | None
    is_function: bool


def _targets(turn: Turn) -> list[_Target]:
    mode, names = turn.tool_choice.mode, turn.tool_choice.names
    targets = list(_declared(turn.tools))
    known = {target.recipient for target in targets} | {space.name for space in turn.tools}
    names = tuple(_full_name(name, known) for name in names)
    if mode == "none":
        return []
    return [
        target
        for target in targets
        if not names or target.recipient in names or target.recipient.split(".")[0] in names
    ]


def _full_name(name: str, known: Collection[str]) -> str:
    """A name that was declared, in full: functions can be named without their namespace."""
    for candidate in (name, f"{FUNCTIONS}.{name}"):
        if candidate in known:
            return candidate
    declared = ", ".join(sorted(known)) or "none"
    raise GrammarError(f"no tool {name!r} was declared; there are {declared}", path="tool_choice")


def _declared(namespaces: Iterable[ToolNamespace]) -> Iterator[_Target]:
    for namespace in namespaces:
        is_function = namespace.name == FUNCTIONS
        if not namespace.tools and not is_function:
            yield _Target(namespace.name, None, is_function)
        for tool in namespace.tools:
            yield _Target(f"{namespace.name}.{tool.name}", tool, is_function)


def _call(target: _Target, turn: Turn) -> Node:
    is_strict = turn.strict is None or target.recipient in turn.strict
    content: Node = FreeText(required=True)
    if target.tool is not None:
        schema = _arguments_schema(target) if is_strict else _ANY_ARGUMENTS
        content = json_value(schema, target.recipient)
    return sequence(alternatives(*_call_headers(target)), content, Token(CALL))


def _call_headers(target: _Target) -> Iterator[Node]:
    channels = (
        (Channel.COMMENTARY,) if target.is_function else (Channel.ANALYSIS, Channel.COMMENTARY)
    )
    types = _CODE_TYPES if target.tool is None else _JSON_TYPES
    if target.tool is not None and not target.is_function:
        types = (*_JSON_TYPES, *_CODE_TYPES)
    for order, channel, (name, constrained) in product(_ORDERS, channels, types):
        header = Header(
            Role.ASSISTANT,
            channel=channel,
            recipient=target.recipient,
            content_type=name,
            constrained=constrained,
        )
        yield _header(header, order)


def _arguments_schema(target: _Target) -> Any:
    """The schema of a tool's arguments, which is made one of objects if it has no type."""
    if target.tool is None or target.tool.parameters_json is None:
        return _NO_ARGUMENTS
    schema = load_schema(JsonValue(target.tool.parameters_json, target.recipient))
    if schema is True:
        return _ANY_ARGUMENTS
    if isinstance(schema, dict) and not schema.keys() & _WITH_TYPE:
        return {"type": "object", **schema}
    return schema


_WITH_TYPE: Final = {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}
