"""Messages to calls: who is called, with which arguments, and whether the call can be run.

The recipient alone makes a message a call, on any channel. Its name is resolved against the
declared tools, its content is read as the arguments, and a status says what came of it. No
call raises: what is wrong with one is for the model to hear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from .._options import checked_options
from ..errors import InvalidMessageError
from ..messages import FUNCTIONS, NO_TOOLS, Header, Message, Role, Tool, ToolNamespace
from ..parsed import (
    Completion,
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParsedMessage,
    Terminator,
)
from ..problems import Problem, problem
from .arguments import Arguments, read_arguments
from .builtin import BROWSER, PYTHON
from .json_reading import Finding, valid_json
from .source import ToolsLike, namespace_of


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
    """The header names two different recipients."""


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


# --- Names ----------------------------------------------------------------------------------


DeclaredTool = ToolsLike | str
"""What can be declared for calls: a tool, several that belong together, or just the name of a
function."""


class _Target(NamedTuple):
    """A tool that can be called."""

    name: str
    namespace: str | None
    schema_json: str | None = None
    takes_text: bool = False


class _Resolved(NamedTuple):
    """Whom a recipient means.

    Attributes:
        target: The tool.
        declared: Whether it was declared.
        normalized: Whether the recipient was written wrongly.
    """

    target: _Target
    declared: bool
    normalized: bool = False


# What a model leaves behind a name. Underscores and hyphens belong to names.
_PUNCTUATION: Final = " \t\n.,:;!?()[]{}<>|=*/\\\"'`"
_SPECIAL_SPELLINGS: Final = re.compile(r"(?:<\|[a-z_]*\|>\s*)*")


class _Declared:
    """The declared tools by every recipient that means them.

    Args:
        tools: The tools, or `None` if nothing is known about them.
    """

    def __init__(self, tools: Iterable[DeclaredTool] | None) -> None:
        self._known = tools is not None
        self._targets: dict[str, _Target] = {}
        targets = [*_targets(tools)] if tools is not None else []
        for target in targets:
            self._targets.setdefault(_full_name(target), target)
        # Other ways to write a name never hide a tool that has it as its own.
        for target in targets:
            alias = target.name if target.namespace == FUNCTIONS else _behind_functions(target)
            self._targets.setdefault(alias, target)

    def resolve(self, recipient: str) -> _Resolved:
        """Whom a recipient means.

        Args:
            recipient: The recipient of a message.
        """
        if not self._known:
            return _Resolved(_split(recipient), declared=True)
        target = self._targets.get(recipient)
        if target is not None:
            return _Resolved(target, declared=True)
        cleaned = _without_remains(recipient)
        target = self._targets.get(cleaned)
        if target is not None:
            return _Resolved(target, declared=True, normalized=True)
        return _Resolved(_split(recipient), declared=False)


def _full_name(target: _Target) -> str:
    return f"{target.namespace}.{target.name}" if target.namespace else target.name


def _behind_functions(target: _Target) -> str:
    return f"{FUNCTIONS}.{_full_name(target)}"


def _without_remains(recipient: str) -> str:
    """A recipient without special tokens spelt out and punctuation after the name."""
    return _without_special_tokens(recipient).rstrip(_PUNCTUATION)


def _without_special_tokens(recipient: str) -> str:
    spelled = _SPECIAL_SPELLINGS.match(recipient)
    return recipient[spelled.end() if spelled else 0 :].partition("<|")[0]


def _split(recipient: str) -> _Target:
    """The parts of a name about which nothing is known."""
    if recipient == PYTHON.name:
        return _Target(recipient, None, takes_text=True)
    recipient = _without_special_tokens(recipient)
    namespace, _, name = recipient.partition(".")
    return _Target(name, namespace) if namespace and name else _Target(recipient, None)


def _targets(tools: Iterable[DeclaredTool]) -> Iterator[_Target]:
    for tool in tools:
        if isinstance(tool, str):
            yield from _named(tool)
        else:
            yield from _in_namespace(namespace_of(tool))


def _of_tool(tool: Tool, namespace: str) -> _Target:
    return _Target(tool.name, namespace, tool.parameters_json)


def _in_namespace(namespace: ToolNamespace) -> Iterator[_Target]:
    if not namespace.tools:
        yield _Target(namespace.name, None, takes_text=True)
    for tool in namespace.tools:
        yield _of_tool(tool, namespace.name)


def _named(name: str) -> Iterator[_Target]:
    """What a plain name declares: a built-in tool, or else a function without a schema."""
    if name in (PYTHON.name, BROWSER.name):
        yield from _in_namespace(PYTHON if name == PYTHON.name else BROWSER)
        return
    built_in = [target for target in _in_namespace(BROWSER) if _full_name(target) == name]
    yield from built_in or [_Target(name.removeprefix(f"{FUNCTIONS}."), FUNCTIONS)]


# --- Calls ----------------------------------------------------------------------------------


@checked_options
def tool_calls(
    messages: Iterable[Message | ParsedMessage] | Completion,
    tools: Iterable[DeclaredTool] | None = None,
) -> tuple[ToolCall, ...]:
    """The calls that messages make, in order.

    Every message of the assistant that addresses a tool is a call, whatever its channel and
    whatever stands before or after it.

    Args:
        messages: Messages, as they were parsed or without what is known of that; or a
            `Completion`, whose turn is read.
        tools: The tools that were declared: tools, functions, namespaces such as `PYTHON`,
            sources, a `Toolbox`, or plain names of functions. With `None` nothing is
            undeclared, and arguments are repaired but not checked.

    Raises:
        ToolError: A declared tool is none.
        InvalidMessageError: Something among the messages is none.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> tokens = encode_with_special(
        ...     '<|channel|>commentary to=functions.f<|message|>{"city": "Paris"}<|call|>'
        ... )
        >>> (call,) = tool_calls(parse(tokens))
        >>> call.name, call.arguments, call.status.value
        ('f', '{"city": "Paris"}', 'ok')
    """
    declared = _Declared(tools)
    given = messages.turn if isinstance(messages, Completion) else messages
    made: set[tuple[str, str]] = set()
    calls: list[ToolCall] = []
    for index, item in enumerate(given):
        facts = _facts_of(item)
        if facts.message.role is not Role.ASSISTANT:
            made.clear()  # another turn
            continue
        call = _call(facts, index, declared)
        if call is not None:
            calls.append(_once(call, made))
    return tuple(calls)


class _Facts(NamedTuple):
    """A message, and what is known of its reading.

    Attributes:
        message: The message.
        span: Its tokens.
        codes: The codes of its problems.
        is_closed: Whether it is known that `<|call|>` closed it.
        is_whole: Whether it may stand in a history.
        is_cut: Whether it is known that the input ended within it.
    """

    message: Message
    span: MessageSpan | None = None
    codes: frozenset[str] = frozenset()
    is_closed: bool = False
    is_whole: bool = True
    is_cut: bool = False


def _facts_of(item: Message | ParsedMessage) -> _Facts:
    if isinstance(item, ParsedMessage):
        codes = frozenset(found.code for found in item.problems)
        is_closed = item.terminator is Terminator.CALL
        is_whole = not item.header.is_call or item.is_whole
        return _Facts(item.message, item.span, codes, is_closed, is_whole, not item.is_complete)
    if not isinstance(item, Message):
        kind = type(item).__name__
        raise InvalidMessageError(f"expected a Message, got {kind}", field="messages")
    return _Facts(item, is_closed=item.is_closed_call, is_whole=item.is_whole)


def _once(call: ToolCall, made: set[tuple[str, str]]) -> ToolCall:
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


def _call(facts: _Facts, index: int, declared: _Declared) -> ToolCall | None:
    """The call that a message makes, if it makes one."""
    message = facts.message
    content = message.text
    if message.recipient in NO_TOOLS or _names_nobody(message.recipient or ""):
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
    recipient = message.recipient or ""
    resolved = declared.resolve(recipient)
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


def _names_nobody(recipient: str) -> bool:
    return _without_remains(recipient) in ("", FUNCTIONS)


def _name_finding(recipient: str, resolved: _Resolved) -> Finding | None:
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


def _reading(content: str, resolved: _Resolved, facts: _Facts) -> _Reading:
    """Read the content of a call. The order of the tests is the rank of the statuses."""
    if not resolved.declared and facts.is_whole:
        return _Reading(content, CallStatus.UNDECLARED)
    blank = not content.strip()
    if not content and "missing_message" in facts.codes:  # it breaks off in its header
        cut = facts.is_cut
        return _Reading("", CallStatus.TRUNCATED if cut else CallStatus.MISSING_ARGUMENTS)
    text, status, findings, is_closed = _read(content, resolved.target)
    if not facts.is_whole or not (is_closed or facts.is_closed):
        status = CallStatus.TRUNCATED
    elif "conflicting_recipient" in facts.codes:
        status = CallStatus.AMBIGUOUS
    elif blank:
        status = CallStatus.EMPTY_ARGUMENTS
    elif resolved.normalized and status in (CallStatus.OK, CallStatus.RAW):
        status = CallStatus.REPAIRED
    return _Reading(text, status, findings)


class _Read(NamedTuple):
    """The arguments in a content, for either kind of tool."""

    text: str
    status: CallStatus
    findings: tuple[Finding, ...]
    is_closed: bool


def _read(content: str, target: _Target) -> _Read:
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


# --- Streams --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The header of a call is complete.

    Attributes:
        index: The position of the call among those of the turn.
        name: The tool's name within its namespace.
        namespace: The namespace; `None` for a tool that is addressed by the bare name.
        header: The header of the message.
    """

    index: int
    name: str | None
    namespace: str | None
    header: Header


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """A piece of a call's content, as written.

    Attributes:
        index: The position of the call among those of the turn.
        text: The piece; never empty.
    """

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is complete.

    Attributes:
        index: The position of the call among those of the turn.
        call: The call.
    """

    index: int
    call: ToolCall


CallEvent = CallStarted | ArgumentsDelta | CallEnded


class ToolCallStream:
    """Makes calls of the events of a parser, as they come, for one completion.

    The calls are those of `tool_calls`.

    Args:
        tools: The tools that were declared, as for `tool_calls`.

    Raises:
        ToolError: A declared tool is none.
    """

    @checked_options
    def __init__(self, tools: Iterable[DeclaredTool] | None = None) -> None:
        self._declared = _Declared(tools)
        self._made: set[tuple[str, str]] = set()
        self._index = 0
        self._message_index: int | None = None  # of the call that is being read
        self._over = False

    def feed(self, events: Iterable[Event]) -> list[CallEvent]:
        """Take events of the parser.

        Args:
            events: What `Parser.feed` and `Parser.close` return.

        Returns:
            What happened to the calls, in order. The pieces of a call join to its content.
        """
        found: list[CallEvent] = []
        for event in events:
            if isinstance(event, ContentDelta):
                if event.message_index == self._message_index:
                    found.append(ArgumentsDelta(self._index, event.text))
            elif isinstance(event, MessageStarted):
                self._start(event, found)
            elif isinstance(event, MessageEnded):
                self._end(event, found)
        return found

    def _start(self, event: MessageStarted, found: list[CallEvent]) -> None:
        header = event.header
        self._over = self._over or header.role is not Role.ASSISTANT
        if self._over or not header.is_call or _names_nobody(header.recipient or ""):
            return
        target = self._declared.resolve(header.recipient or "").target
        self._message_index = event.message_index
        found.append(CallStarted(self._index, target.name, target.namespace, header))

    def _end(self, event: MessageEnded, found: list[CallEvent]) -> None:
        if event.terminator is Terminator.RETURN:
            self._over = True
        if event.message_index != self._message_index:
            return
        self._message_index = None
        call = _call(_facts_of(event.parsed), event.message_index, self._declared)
        if call is not None:
            found.append(CallEnded(self._index, _once(call, self._made)))
            self._index += 1
