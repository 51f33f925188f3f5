"""Messages to calls: who is called, with which arguments, and whether the call can be run.

The recipient alone makes a message a call, on any channel. Its name is resolved against the
declared tools, its content is read as the arguments, and a status says what came of it. No
call raises: what is wrong with one is for the model to hear.
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
    """What came of reading a call."""

    OK = "ok"
    """The call is as it should be."""
    REPAIRED = "repaired"
    """The name or the arguments were written wrongly, and read as what was meant."""
    COERCED = "coerced"
    """Values of a wrong type were converted to the types that the tool asks for."""
    RAW = "raw"
    """The tool takes text, and the text is as written."""
    INVALID = "invalid"
    """The arguments are no JSON object, or not what the tool asks for."""
    TRUNCATED = "truncated"
    """The call is not whole: it was cut off, or no `<|call|>` closed what its arguments opened."""
    EMPTY_ARGUMENTS = "empty_arguments"
    """There are no arguments; read as an empty object."""
    MISSING_ARGUMENTS = "missing_arguments"
    """The call breaks off before its arguments."""
    MISSING_NAME = "missing_name"
    """What looks like a call addresses nobody."""
    UNDECLARED = "undeclared"
    """The tool was not declared."""
    DUPLICATE = "duplicate"
    """The same call was made before in this turn."""
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
    """A call of a tool, as a message makes it.

    Attributes:
        name: The tool's name within its namespace; `None` where the message names none.
        namespace: The namespace, such as `"functions"`; `None` for a tool that is addressed by
            the bare name, like `python`.
        arguments: The arguments to hand on: JSON text, or the text for a tool that takes text.
            As written where they could not be read.
        raw: The content of the message as written.
        status: What came of reading the call.
        problems: What is wrong with it, and what was changed. The spans are those of the header
            or the content: token indices where the messages have spans, else characters of
            the content.
        message: The message that makes the call.
        message_index: The position of the message among those given.
        span: The tokens of the message, where they are known.
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
        """Whether the call can be run as it stands."""
        return self.status in _RUNNABLE and not any(
            problem.code == "schema_mismatch" for problem in self.problems
        )

    @property
    def value(self) -> Any:
        """The arguments as a fresh value: the JSON value, or the text for a tool that takes text.

        `None` where they could not be read.
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

    Args:
        messages: Messages, or a `Completion`, whose turn is read.
        declared: The declared tools.

    Raises:
        InvalidMessageError: Something among the messages is none.
    """
    given = messages.turn if isinstance(messages, Completion) else messages
    made: set[tuple[str, str]] = set()
    calls: list[ToolCall] = []
    for index, item in enumerate(given):
        facts = facts_of(item)
        if facts.message.role is not Role.ASSISTANT:
            made.clear()  # another turn
            continue
        call = call_of(facts, index, declared)
        if call is not None:
            calls.append(once(call, made))
    return tuple(calls)


class Facts(NamedTuple):
    """A message, and what is known of its reading.

    Attributes:
        message: The message.
        span: Its tokens.
        codes: The codes of its problems.
        words: The words of its header that the parser could not place.
        is_closed: Whether it is known that `<|call|>` closed it.
        is_whole: Whether it may stand in a history.
        is_cut: Whether it is known that the input ended within it.
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


# Problems whose detail is words of a header that may name a tool.
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
    """The tool that a call names in another place of its header than the recipient's."""
    declared_words = {word for word in facts.words if declared.has(word)}
    found = declared_words or {word for word in facts.words if _NAMESPACED.fullmatch(word)}
    return found.pop() if len(found) == 1 else None


_NAMESPACED: Final = re.compile(r"(?:functions|browser)\.[\w.-]+")


def _addressed(facts: Facts, resolved: Resolved) -> Message:
    """A message with the recipient that it meant."""
    message, target = facts.message, resolved.target
    name = f"{target.namespace}.{target.name}" if target.namespace else target.name
    known = message.channel in (Channel.ANALYSIS, Channel.COMMENTARY)
    content_type = message.content_type if message.content_type in ("json", "code") else None
    header = message.header._replace(
        recipient=name,
        channel=message.channel if known else Channel.COMMENTARY.value,
        content_type=content_type,
        constrained=message.constrained and content_type is not None,
    )
    return trusted_message(header, message.content, CLOSED_CALL if facts.is_closed else None)


def once(call: ToolCall, made: set[tuple[str, str]]) -> ToolCall:
    """A call, marked if it was made before."""
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
    """The call that a message makes, if it makes one."""
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
    """What came of a content."""

    arguments: str
    status: CallStatus
    findings: tuple[Finding, ...] = ()


def _reading(content: str, resolved: Resolved, facts: Facts) -> _Reading:
    """Read the content of a call. The order of the tests is the rank of the statuses."""
    if not resolved.declared and facts.is_whole:
        return _Reading(content, CallStatus.UNDECLARED)
    blank = says_nothing(content)
    if not content and "missing_message" in facts.codes:  # it breaks off in its header
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
    """The arguments in a content, for either kind of tool."""

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
    """The text for a tool that takes text, out of a JSON object if the model made one."""
    code = _wrapped_code(content)
    if code is not None:
        return _Read(code, CallStatus.REPAIRED, (Finding("json_wrapped_code"),), True)
    if not content.strip():
        return _Read(content, CallStatus.RAW, (Finding("empty_arguments"),), False)
    return _Read(content, CallStatus.RAW, (), False)


def _wrapped_code(content: str) -> str | None:
    """The code in `{"code": "..."}`; in any other text none, for it may be the code itself."""
    if not content.lstrip().startswith("{"):
        return None
    try:
        value = valid_json(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and value.keys() == {"code"} and isinstance(value["code"], str):
        return value["code"]
    return None
