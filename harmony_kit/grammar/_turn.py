"""The shape of a completion: one turn of the assistant, from `<|start|>assistant` to its end.

    { analysis or preamble <|end|> <|start|>assistant }  ( call <|call|>  |  final <|return|> )

The headers are those that `header.py` writes, and thereby those that the parser reads. Where
the model may write a header in several ways, all of them are admitted: the recipient before
or after the channel, the content type with and without `<|constrain|>`, or left out.

One completion makes one call, since `<|call|>` ends it. Several calls are several completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from ._schema import json_value, load_schema
from ._shape import (
    EMPTY,
    FixedText,
    FreeText,
    JsonValue,
    OneOf,
    Shape,
    SpecialToken,
    ZeroOrMore,
    in_order,
    one_of,
    shape_of_tokens,
)

Reasoning = Literal["free", "none"] | int
"""How much the model may think: as it likes, not at all, or at most so many tokens at once."""

_ORDERS: Final[tuple[HeaderOrder, ...]] = ("channel-first", "recipient-first")
_NEXT: Final = in_order(SpecialToken(START), FixedText(Role.ASSISTANT.value))

_ContentType = tuple[str | None, bool]
_JSON_TYPES: Final[tuple[_ContentType, ...]] = (("json", True), ("json", False), (None, False))
# What the model writes before the code, and the arguments, of its built-in tools.
_CODE_TYPES: Final[tuple[_ContentType, ...]] = (("code", False), (None, False))
_TEXT_TYPES: Final[tuple[_ContentType, ...]] = ((None, False),)

_NO_ARGUMENTS: Final = {"type": "object", "properties": {}, "additionalProperties": False}
_ANY_ARGUMENTS: Final = {"type": "object"}


@dataclass(frozen=True)
class Turn:
    """What the model may do in one turn.

    Attributes:
        tools: The tools that were declared.
        tool_choice: Which of them it may or must call.
        answer: The shape of the final answer.
        reasoning: How much it may think.
        strict: The full names of the tools whose arguments must meet their schema; `None` for
            all. The arguments of others are any JSON object.
    """

    tools: tuple[ToolNamespace, ...] = ()
    tool_choice: ToolChoice = ANY_TOOL
    answer: Shape = FreeText(required=True)  # noqa: RUF009 -- frozen
    reasoning: Reasoning = "free"
    strict: frozenset[str] | None = None


def turn_shape(turn: Turn) -> Shape:
    """The shape of the completions of a turn.

    Args:
        turn: What the model may do.

    Raises:
        GrammarError: A tool must be called that there is not.
    """
    calls = [_call(target, turn) for target in _targets(turn)]
    if turn.tool_choice.mode == "required" and not calls:
        raise GrammarError("a call is required, but there is no tool to call", path="tool_choice")
    endings = list(calls)
    if turn.tool_choice.mode != "required":
        endings.append(_final(turn.answer))
    return in_order(_beginning(turn, may_call=bool(calls)), one_of(*endings))


# --- Messages before the last ---------------------------------------------------------------


def _beginning(turn: Turn, *, may_call: bool) -> Shape:
    """Reasoning, and what is said before a call."""
    before = []
    if may_call:
        preamble = FreeText(required=True)
        before.append(in_order(_plain_header(Channel.COMMENTARY), preamble, SpecialToken(END)))
    limit = turn.reasoning if isinstance(turn.reasoning, int) else None
    analysis = in_order(
        _plain_header(Channel.ANALYSIS), FreeText(max_tokens=limit), SpecialToken(END)
    )
    if turn.reasoning == "free":
        before.append(analysis)
    once = EMPTY if limit is None else one_of(in_order(analysis, _NEXT), EMPTY)
    repeated = ZeroOrMore(in_order(one_of(*before), _NEXT)) if before else EMPTY
    return in_order(once, repeated)


def _plain_header(channel: Channel) -> Shape:
    return _header(Header(Role.ASSISTANT, channel=channel))


@lru_cache(maxsize=4096)
def _header(header: Header, order: HeaderOrder = "channel-first") -> Shape:
    """A header as it stands after `<|start|>assistant`."""
    beginning = header_tokens(Header(Role.ASSISTANT), order)[:-1]
    return shape_of_tokens(header_tokens(header, order)[len(beginning) :])


# --- The last message -----------------------------------------------------------------------


def _final(answer: Shape) -> Shape:
    forms = answer.options if isinstance(answer, OneOf) else (answer,)
    is_json = all(isinstance(form, JsonValue) for form in forms)
    types = _JSON_TYPES if is_json else _TEXT_TYPES
    headers = (
        Header(Role.ASSISTANT, channel=Channel.FINAL, content_type=name, constrained=constrained)
        for name, constrained in types
    )
    return in_order(one_of(*map(_header, headers)), answer, SpecialToken(RETURN))


@dataclass(frozen=True)
class _Target:
    """Something that can be called.

    Attributes:
        recipient: Its full name.
        tool: What is declared; `None` where text is sent to a namespace itself.
        is_function: Whether it is one of the functions, which are called on commentary only.
    """

    recipient: str
    tool: Tool | None
    is_function: bool


def _targets(turn: Turn) -> list[_Target]:
    """What may be called."""
    mode, names = turn.tool_choice.mode, turn.tool_choice.names
    targets = list(_declared(turn.tools))
    known = {target.recipient for target in targets} | {space.name for space in turn.tools}
    for name in names:
        if name not in known:
            raise GrammarError(f"no tool {name!r} was declared", path="tool_choice")
    if mode == "none":
        return []
    return [
        target
        for target in targets
        if not names or target.recipient in names or target.recipient.split(".")[0] in names
    ]


def _declared(namespaces: Iterable[ToolNamespace]) -> Iterator[_Target]:
    for namespace in namespaces:
        is_function = namespace.name == FUNCTIONS
        if not namespace.tools and not is_function:
            yield _Target(namespace.name, None, is_function)
        for tool in namespace.tools:
            yield _Target(f"{namespace.name}.{tool.name}", tool, is_function)


def _call(target: _Target, turn: Turn) -> Shape:
    is_strict = turn.strict is None or target.recipient in turn.strict
    content: Shape = FreeText(required=True)
    if target.tool is not None:
        schema = _arguments_schema(target) if is_strict else _ANY_ARGUMENTS
        content = json_value(schema, target.recipient)
    return in_order(one_of(*_call_headers(target)), content, SpecialToken(CALL))


def _call_headers(target: _Target) -> Iterator[Shape]:
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
    """The schema of a tool's arguments, which are always an object."""
    if target.tool is None or target.tool.parameters_json is None:
        return _NO_ARGUMENTS
    schema = load_schema(JsonValue(target.tool.parameters_json, target.recipient))
    if schema is True:
        return _ANY_ARGUMENTS
    if isinstance(schema, dict) and not schema.keys() & _SAY_THE_TYPE:
        return {"type": "object", **schema}
    return schema


_SAY_THE_TYPE: Final = {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}
