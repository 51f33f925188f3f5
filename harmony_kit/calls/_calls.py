"""Reading messages as tool calls: the tool, the arguments, and whether the call can be run.

A message with a recipient is a call, on any channel. The recipient is resolved among the declared
tools, the content is read as the arguments, and a status summarizes the result. A malformed call
raises no exception: its problems are reported to the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ..errors import InvalidMessageError
from ..wire._events import Completion, MessageSpan, ParsedMessage, Terminator
from ..wire._messages import CLOSED_CALL, NO_TOOLS, Message, trusted_message
from ..wire._problems import Problem, problem
from ..wire._roles import Channel, Role
from ._arguments import Arguments, read_arguments
from ._json import Finding, says_nothing, valid_json
from ._resolve import DeclaredNames, Resolved, Target, names_nobody


class CallStatus(StrEnum):
    """The result of reading a call."""

    OK = "ok"
    """The call is valid."""
    REPAIRED = "repaired"
    """The name or the arguments were malformed and have been repaired."""
    COERCED = "coerced"
    """Values of the wrong type were converted to the types in the tool's schema."""
    RAW = "raw"
    """The tool takes text; the content is passed unchanged."""
    INVALID = "invalid"
    """The arguments are not a JSON object, or do not match the tool's schema."""
    TRUNCATED = "truncated"
    """The call is truncated, or its arguments are unterminated and no `<|call|>` follows them."""
    EMPTY_ARGUMENTS = "empty_arguments"
    """The arguments are empty and are read as an empty object."""
    MISSING_ARGUMENTS = "missing_arguments"
    """The call ends before its arguments, without `<|message|>`."""
    MISSING_NAME = "missing_name"
    """The call has no tool name."""
    UNDECLARED = "undeclared"
    """The tool is not declared."""
    DUPLICATE = "duplicate"
    """The call repeats an earlier call of this turn."""
    AMBIGUOUS = "ambiguous"
    """The header names two recipients, or the arguments are two different objects."""


_RUNNABLE: Final = frozenset(
    {
        CallStatus.OK,
        CallStatus.REPAIRED,
        CallStatus.COERCED,
        CallStatus.RAW,
        CallStatus.EMPTY_ARGUMENTS,
    }
)


@dataclass(frozen=True)
class ToolCall:
    """A tool call made by a message.

    Attributes:
        name: The tool's name within its namespace; `None` if the message names none.
        namespace: The namespace, such as `"functions"`; `None` for a tool that is addressed by its
            bare name, such as `python`.
        arguments: The arguments as JSON text, or the text for a tool that takes text; the original
            content if it could not be read.
        raw: The content of the message.
        status: The result of reading the call.
        problems: What is wrong with the call and what was changed. Spans cover the header or the
            content: in token indices if the messages have spans, else in characters of the content.
        message: The message that makes the call.
        message_index: The position of the message in the input.
        span: The token span of the message, if known.
        takes_text: Whether the tool takes text instead of JSON.
    """

    name: str | None
    namespace: str | None
    arguments: str
    raw: str
    status: CallStatus
    problems: tuple[Problem, ...]
    message: Message
    message_index: int
    span: MessageSpan | None = None
    takes_text: bool = False

    @property
    def full_name(self) -> str | None:
        """The name with its namespace, such as `"functions.get_weather"`."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def runnable(self) -> bool:
        """Whether the tool can be run with these arguments."""
        return self.status in _RUNNABLE and not any(
            problem.code == "schema_mismatch" for problem in self.problems
        )

    @property
    def value(self) -> Any:
        """The arguments as a fresh JSON value, or the text for a tool that takes text.

        `None` if they could not be read.
        """
        if self.takes_text:
            return self.arguments
        try:
            return valid_json(self.arguments)
        except (ValueError, RecursionError):
            return None


def read_calls(
    messages: Iterable[Message | ParsedMessage] | Completion, declared: DeclaredNames
) -> tuple[ToolCall, ...]:
    """The calls that messages make, in order; see `harmony_kit.tool_calls`.

    Raises:
        InvalidMessageError: An item is not a message.
    """
    given = messages.turn if isinstance(messages, Completion) else messages
    made: set[tuple[str, str]] = set()
    calls: list[ToolCall] = []
    for index, item in enumerate(given):
        facts = facts_of(item)
        if facts.message.role is not Role.ASSISTANT:
            made.clear()  # a new turn begins
            continue
        call = call_of(facts, index, declared)
        if call is not None:
            calls.append(once(call, made))
    return tuple(calls)


class Facts(NamedTuple):
    """A message, and what is known about how it was parsed.

    Attributes:
        codes: The codes of its problems.
        words: The words of its header that the parser could not assign to a part.
        is_closed: Whether it is known to end with `<|call|>`.
        is_whole: Whether it may appear in a history.
        is_cut: Whether the input is known to end within it.
    """

    message: Message
    span: MessageSpan | None = None
    codes: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    is_closed: bool = False
    is_whole: bool = True
    is_cut: bool = False


def facts_of(item: Message | ParsedMessage) -> Facts:
    if isinstance(item, ParsedMessage):
        codes = frozenset(found.code for found in item.problems)
        is_closed = item.terminator is Terminator.CALL
        is_whole = not item.header.is_call or item.is_whole
        words = tuple(
            word
            for found in item.problems
            if found.code in _OF_WORDS
            for word in (found.detail or "").split()
        )
        is_cut = not item.is_complete
        return Facts(item.message, item.span, codes, words, is_closed, is_whole, is_cut)
    if not isinstance(item, Message):
        kind = type(item).__name__
        raise InvalidMessageError(f"expected a Message, got {kind}", field="messages")
    return Facts(item, is_closed=item.is_closed_call, is_whole=item.is_whole)


# Problems whose detail consists of header words that may name a tool.
_OF_WORDS: Final = frozenset(
    {
        "repeated_channel",
        "unexpected_header_text",
        "unknown_channel",
        "unknown_channel_normalized",
        "unknown_content_type",
    }
)


def _named_elsewhere(facts: Facts, declared: DeclaredNames) -> str | None:
    """The tool that a call names in another part of its header than the recipient."""
    declared_words = {word for word in facts.words if declared.has(word)}
    found = declared_words or {word for word in facts.words if _NAMESPACED.fullmatch(word)}
    return found.pop() if len(found) == 1 else None


_NAMESPACED: Final = re.compile(r"(?:functions|browser)\.[\w.-]+")


def _addressed(facts: Facts, resolved: Resolved) -> Message:
    """The message with its intended recipient."""
    message = facts.message
    known = message.channel in (Channel.ANALYSIS, Channel.COMMENTARY)
    content_type = message.content_type if message.content_type in ("json", "code") else None
    header = message.header._replace(
        recipient=resolved.target.full_name,
        channel=message.channel if known else Channel.COMMENTARY.value,
        content_type=content_type,
        constrained=message.constrained and content_type is not None,
    )
    return trusted_message(header, message.content, CLOSED_CALL if facts.is_closed else None)


def once(call: ToolCall, made: set[tuple[str, str]]) -> ToolCall:
    """The call, marked as a duplicate if it was made before."""
    if not call.runnable:
        return call
    key = (call.full_name or "", _canonical(call))
    if key not in made:
        made.add(key)
        return call
    problems = (*call.problems, _content_problem(call, Finding("repeated_call", call.full_name)))
    return replace(call, status=CallStatus.DUPLICATE, problems=problems)


def _canonical(call: ToolCall) -> str:
    """A text that is the same for equal arguments."""
    if call.takes_text:
        return call.arguments
    import json

    return json.dumps(call.value, sort_keys=True)


def _content_problem(call: ToolCall, finding: Finding) -> Problem:
    return _problem(call.span, call.raw, finding)


def _problem(
    span: MessageSpan | None, content: str, finding: Finding, *, in_header: bool = False
) -> Problem:
    if span is None:
        start, end = (0, 0) if in_header else (0, len(content))
    elif in_header:
        start, end = span.start, span.content_start
    else:
        start, end = span.content_start, span.content_end
    return problem(finding.code, start, end, finding.detail)


def call_of(facts: Facts, index: int, declared: DeclaredNames) -> ToolCall | None:
    """The call that a message makes; `None` if it makes none."""
    message = facts.message
    content = message.text
    recipient = message.recipient or ""
    named = _named_elsewhere(facts, declared) if "missing_recipient" in facts.codes else None
    if named is not None:
        recipient = named
    elif message.recipient in NO_TOOLS or names_nobody(recipient):
        if message.recipient in NO_TOOLS and "missing_recipient" not in facts.codes:
            return None
        return ToolCall(
            None,
            None,
            content,
            content,
            CallStatus.MISSING_NAME,
            (),
            message,
            index,
            facts.span,
        )
    resolved = declared.resolve(recipient)
    if named is not None:
        resolved = resolved._replace(normalized=True)
        message = _addressed(facts, resolved)
    reading = _reading(content, resolved, facts)
    problems = [_problem(facts.span, content, finding) for finding in reading.findings]
    name_finding = _name_finding(recipient, resolved)
    if name_finding is not None:
        problems.insert(0, _problem(facts.span, content, name_finding, in_header=True))
    return ToolCall(
        resolved.target.name,
        resolved.target.namespace,
        reading.arguments,
        content,
        reading.status,
        tuple(problems),
        message,
        index,
        facts.span,
        resolved.target.takes_text,
    )


def _name_finding(recipient: str, resolved: Resolved) -> Finding | None:
    if not resolved.declared:
        return Finding("undeclared_tool", recipient)
    if resolved.normalized:
        return Finding("recipient_normalized", recipient)
    return None


class _Reading(NamedTuple):
    """The result of reading the content of a call."""

    arguments: str
    status: CallStatus
    findings: tuple[Finding, ...] = ()


def _reading(content: str, resolved: Resolved, facts: Facts) -> _Reading:
    """Read the content of a call; the checks are in order of precedence of the statuses."""
    if not resolved.declared and facts.is_whole:
        return _Reading(content, CallStatus.UNDECLARED)
    blank = says_nothing(content)
    if not content and "missing_message" in facts.codes:  # it ends within its header
        cut = facts.is_cut
        return _Reading("", CallStatus.TRUNCATED if cut else CallStatus.MISSING_ARGUMENTS)
    text, status, findings, is_closed = _read(content, resolved.target)
    if not facts.is_whole or not (is_closed or facts.is_closed):
        status = CallStatus.TRUNCATED
    elif "conflicting_recipient" in facts.codes or _are_several(findings):
        status = CallStatus.AMBIGUOUS
    elif blank:
        status = CallStatus.EMPTY_ARGUMENTS
    elif resolved.normalized and status in (CallStatus.OK, CallStatus.RAW):
        status = CallStatus.REPAIRED
    return _Reading(text, status, findings)


def _are_several(findings: Iterable[Finding]) -> bool:
    return any(finding.code == "several_objects" for finding in findings)


class _Read(NamedTuple):
    """The arguments in a content, as JSON or text."""

    text: str
    status: CallStatus
    findings: tuple[Finding, ...]
    is_closed: bool


def _read(content: str, target: Target) -> _Read:
    if target.takes_text:
        return _read_text(content)
    read: Arguments = read_arguments(content, target.schema_json, name=target.name)
    return _Read(read.text, CallStatus(read.status), read.findings, read.is_closed)


def _read_text(content: str) -> _Read:
    """The text for a tool that takes text, unwrapped if the model wrote a JSON object."""
    code = _wrapped_code(content)
    if code is not None:
        return _Read(code, CallStatus.REPAIRED, (Finding("json_wrapped_code"),), True)
    if not content.strip():
        return _Read(content, CallStatus.RAW, (Finding("empty_arguments"),), False)
    return _Read(content, CallStatus.RAW, (), False)


def _wrapped_code(content: str) -> str | None:
    """The code in `{"code": "..."}`; `None` for any other text, which may be code itself."""
    if not content.lstrip().startswith("{"):
        return None
    try:
        value = valid_json(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and value.keys() == {"code"} and isinstance(value["code"], str):
        return value["code"]
    return None
