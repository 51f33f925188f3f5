"""Problems that lenient parsing finds and repairs: the table of codes, and their collection.

A problem states what was found, at which tokens, and how it was repaired. Strict parsing raises a
`ParseError` with the code of the first problem.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from ..errors import ParseError


class Layer(StrEnum):
    """The part of parsing that finds a problem."""

    HEADER = "header"
    """Reading one header."""
    STRUCTURE = "structure"
    """Finding messages in the tokens."""
    CONTENT = "content"
    """Reading the tokens of one content."""
    TURN = "turn"
    """Relating the messages of a completion to each other."""
    TEXT = "text"
    """Reading text instead of tokens."""
    CALL = "call"
    """Reading the tool call in a message."""


class ProblemKind(NamedTuple):
    """The description of a code.

    Attributes:
        layer: The part of parsing that finds it.
        meaning: What was found.
        repair: How it is repaired.
    """

    layer: Layer
    meaning: str
    repair: str


class Span(NamedTuple):
    """A range of the input: token indices, or characters of a parsed text.

    Attributes:
        start: The first index.
        end: One past the last index.
    """

    start: int
    end: int


class Problem(NamedTuple):
    """A deviation from the format.

    Attributes:
        code: The kind of problem; docs/problems.md lists them.
        span: Its position: token indices from the first token fed, or characters of a text.
        message: What was found and how it was repaired, in words.
        detail: The value concerned, such as the word that was not understood.
        outside: Whether the span is outside all messages. Such spans and those of the messages
            partition the input.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> found = parse(encode_with_special("<|channel|>finalx<|message|>H<|end|>")).problems[0]
        >>> found.code, found.detail
        ('unknown_channel_normalized', 'finalx')
    """

    code: str
    span: Span
    message: str
    detail: str | None = None
    outside: bool = False


def problem(
    code: str, start: int, end: int, detail: str | None = None, *, outside: bool = False
) -> Problem:
    """A problem with the message that the table has for its code."""
    kind = PROBLEM_KINDS[code]
    return Problem(code, Span(start, end), f"{kind.meaning}; {kind.repair}", detail, outside)


_HEADER, _STRUCTURE, _CONTENT = Layer.HEADER, Layer.STRUCTURE, Layer.CONTENT
_TURN, _TEXT, _CALL = Layer.TURN, Layer.TEXT, Layer.CALL

PROBLEM_KINDS: Final[dict[str, ProblemKind]] = {
    # --- One header ---
    "missing_role": ProblemKind(_HEADER, "no role after <|start|>", "read as the assistant's"),
    "role_normalized": ProblemKind(
        _HEADER, "a misspelled role, such as assistantassistant", "read as the role meant"
    ),
    "unknown_role": ProblemKind(
        _HEADER, "an author that is neither a role nor a tool", "read as a tool of that name"
    ),
    "missing_channel": ProblemKind(
        _HEADER,
        "an assistant message without a channel",
        "final if it ends the turn, analysis if a message follows, commentary if it is a call",
    ),
    "missing_channel_marker": ProblemKind(
        _HEADER, "a channel without <|channel|> before it", "read as a channel"
    ),
    "empty_channel": ProblemKind(
        _HEADER, "no channel follows <|channel|>", "the marker is ignored"
    ),
    "repeated_channel": ProblemKind(_HEADER, "more than one channel", "the last one counts"),
    "unknown_channel": ProblemKind(
        _HEADER, "a channel that the format does not define", "kept unchanged"
    ),
    "unknown_channel_normalized": ProblemKind(
        _HEADER, "a misspelled channel, such as finalx", "read as the channel meant"
    ),
    "empty_recipient": ProblemKind(_HEADER, "no recipient follows to=", "to= is ignored"),
    "duplicate_recipient": ProblemKind(
        _HEADER, "the same recipient twice", "the repetition is ignored"
    ),
    "conflicting_recipient": ProblemKind(
        _HEADER, "two different recipients", "the last one counts; the call is marked as ambiguous"
    ),
    "self_recipient": ProblemKind(
        _HEADER, "the assistant addresses the assistant", "kept; not read as a call"
    ),
    "empty_constrain": ProblemKind(
        _HEADER, "no content type follows <|constrain|>", "the marker is ignored"
    ),
    "glued_constrain": ProblemKind(
        _HEADER, "<|constrain|> without a space before it", "read as if the space were there"
    ),
    "unknown_content_type": ProblemKind(
        _HEADER, "a content type other than json and code", "kept unchanged"
    ),
    "unexpected_header_text": ProblemKind(
        _HEADER, "words that cannot be part of a header", "ignored"
    ),
    "header_whitespace": ProblemKind(
        _HEADER, "whitespace other than one space, or where a header has none", "ignored"
    ),
    "special_token_in_header": ProblemKind(
        _HEADER, "a special token that is not allowed in a header", "ignored"
    ),
    # --- Messages and the tokens between them ---
    "repeated_start": ProblemKind(
        _STRUCTURE, "<|start|> twice before a header", "the repetition is ignored"
    ),
    "repeated_message": ProblemKind(_STRUCTURE, "<|message|> twice", "the repetition is ignored"),
    "missing_start": ProblemKind(
        _STRUCTURE, "a message that does not begin with <|start|>", "read as the assistant's"
    ),
    "missing_message": ProblemKind(
        _STRUCTURE,
        "a message without <|message|>",
        "the content begins where the header cannot continue",
    ),
    "missing_terminator": ProblemKind(
        _STRUCTURE,
        "a message without a terminator",
        "it ends where the next message begins or the input ends",
    ),
    "garbage_header": ProblemKind(
        _STRUCTURE, "a header without <|message|>, content or recipient", "not part of any message"
    ),
    "empty_message_dropped": ProblemKind(
        _STRUCTURE, "a message without recipient and content", "dropped"
    ),
    "truncated_header": ProblemKind(
        _STRUCTURE, "the input ends inside a header", "not part of any message"
    ),
    "text_between_messages": ProblemKind(
        _STRUCTURE, "text between two messages", "not part of any message"
    ),
    "stray_terminator": ProblemKind(
        _STRUCTURE, "a terminator without a message", "not part of any message"
    ),
    "ended_by_endoftext": ProblemKind(
        _STRUCTURE, "<|endoftext|> instead of a terminator", "the message and the turn end there"
    ),
    "trailing_tokens": ProblemKind(
        _STRUCTURE, "tokens after the end of the turn", "parsed, but not part of the turn"
    ),
    "more_problems": ProblemKind(
        _STRUCTURE, "more problems than are listed", "their tokens are not part of any message"
    ),
    # --- One content ---
    "special_token_in_body": ProblemKind(
        _CONTENT, "a control token inside a content", "read as its spelling"
    ),
    "reserved_special_token": ProblemKind(_CONTENT, "a reserved token", "read as its spelling"),
    "unknown_token": ProblemKind(
        _CONTENT, "an id that is not in the vocabulary", "read as the character U+FFFD"
    ),
    "invalid_utf8": ProblemKind(
        _CONTENT, "bytes that are not UTF-8", "read as the character U+FFFD"
    ),
    # --- A whole completion ---
    "empty_output": ProblemKind(_TURN, "a completion without any message", "parsed as no messages"),
    "answer_on_unknown_channel": ProblemKind(
        _TURN,
        "a turn that ends on an unknown channel, without a final answer",
        "read as the final answer",
    ),
    "no_final": ProblemKind(
        _TURN, "the turn ended without a final answer or a call", "none is added"
    ),
    "empty_final": ProblemKind(_TURN, "a final answer without text", "kept as an empty message"),
    "unterminated_call": ProblemKind(
        _TURN, "a call that is truncated in its header", "kept as a call without arguments"
    ),
    "missing_recipient": ProblemKind(
        _TURN,
        "a message that looks like a call but has no recipient",
        "read as a call without a name",
    ),
    "call_ended_with_end": ProblemKind(_TURN, "a call closed by <|end|>", "read as a call"),
    "call_ended_with_return": ProblemKind(_TURN, "a call closed by <|return|>", "read as a call"),
    "text_ended_with_call": ProblemKind(
        _TURN, "<|call|> after a text without a recipient", "read as a text"
    ),
    "tool_call_on_final": ProblemKind(
        _TURN, "a call on the final channel", "read as a call, not as an answer"
    ),
    "tool_call_on_analysis": ProblemKind(
        _TURN, "a call of a function on the analysis channel", "read as a call"
    ),
    "multiple_calls": ProblemKind(
        _TURN, "a call after <|call|>", "both calls are part of the turn"
    ),
    "call_after_final": ProblemKind(_TURN, "a call after a final answer", "kept in order"),
    "text_after_call": ProblemKind(
        _TURN, "a text after a call that has no result yet", "kept in order"
    ),
    "hallucinated_turn": ProblemKind(
        _TURN, "a user's message in a completion", "the turn ends before it"
    ),
    "hallucinated_tool_message": ProblemKind(
        _TURN, "a tool's message in a completion", "the turn ends before it"
    ),
    "forged_role": ProblemKind(
        _TURN, "a system or developer message in a completion", "the turn ends before it"
    ),
    # --- Text ---
    "partial_special_token": ProblemKind(
        _TEXT, "the text ends inside the spelling of a special token", "not part of any message"
    ),
    "stripped_special_tokens": ProblemKind(
        _TEXT,
        "a text that lost its special tokens",
        "they are restored where the header words show them",
    ),
    "partially_stripped_special_tokens": ProblemKind(
        _TEXT, "a text that lost some of its special tokens", "the others are restored"
    ),
    "text_looks_like_call": ProblemKind(
        _TEXT,
        "plain text with a recipient and an object, as a call without its markers has",
        "left in the answer; `stripped=True` reads it as a call",
    ),
    "no_harmony_markup": ProblemKind(
        _TEXT, "a text without any sign of the format", "read as the final answer"
    ),
    # --- Calls ---
    "undeclared_tool": ProblemKind(_CALL, "a tool that was not declared", "the call is not run"),
    "recipient_normalized": ProblemKind(_CALL, "a misspelled tool name", "read as the name meant"),
    "repeated_call": ProblemKind(_CALL, "the same call again", "marked as a duplicate"),
    "empty_arguments": ProblemKind(_CALL, "no arguments", "read as an empty object"),
    "truncated_json": ProblemKind(_CALL, "truncated JSON", "closed where it ends"),
    "json_repaired": ProblemKind(_CALL, "text that is close to JSON", "read as the JSON meant"),
    "double_encoded_json": ProblemKind(_CALL, "JSON inside a JSON string", "unpacked"),
    "enveloped_arguments": ProblemKind(
        _CALL, "the arguments wrapped in an object that names them or the tool", "unwrapped"
    ),
    "several_objects": ProblemKind(
        _CALL, "two different objects in sequence", "the call is ambiguous and not run"
    ),
    "json_wrapped_code": ProblemKind(_CALL, "code wrapped in a JSON object", "unwrapped"),
    "not_json": ProblemKind(_CALL, "arguments that cannot be repaired to JSON", "kept as text"),
    "duplicate_keys": ProblemKind(_CALL, "an object with duplicate keys", "the last one counts"),
    "schema_coercion": ProblemKind(
        _CALL, "a value of the wrong type that can be converted without loss", "converted"
    ),
    "schema_mismatch": ProblemKind(
        _CALL, "arguments that do not match the schema of the tool", "the call is not run"
    ),
    "too_deep": ProblemKind(_CALL, "arguments nested too deeply", "kept as text"),
}
"""The description of every code."""

_ORDER: Final = {code: position for position, code in enumerate(PROBLEM_KINDS)}


def rank(found: Problem) -> tuple[int, int]:
    """The sort key of a problem: its position, then the order of the table."""
    return found.span.start, _ORDER[found.code]


# --- While reading --------------------------------------------------------------------------

PROBLEMS_KEPT: Final = 10_000
"""How many problems a parser lists.

Beyond that, problems within messages are only counted; problems outside of messages become
`more_problems`, one for each run of adjacent tokens.
"""

# The only problems that are reported after the end of the turn.
_REPORTED_AFTER_THE_TURN: Final = frozenset(
    {
        "trailing_tokens",
        "unknown_token",
        "empty_output",
        "hallucinated_turn",
        "hallucinated_tool_message",
        "forged_role",
    }
)

# Listed even beyond the limit, since they decide whether a call may be run; a message has few.
_NEEDED_BY_CALLS: Final = frozenset(
    {"missing_recipient", "missing_message", "conflicting_recipient"}
)


class ProblemLog:
    """Collects the problems of a parse by message.

    Adjacent problems of one kind are merged, and their number is limited. Strict parsing raises the
    first of them by `rank`, as soon as no earlier one can follow.

    Args:
        strict: Whether to raise.
        tell: Called with every problem once it is final.

    Attributes:
        stray: The problems that do not belong to a message.
        omitted: How many problems were only counted.
        after_turn: Whether the turn has ended, after which few problems are reported.
        has_trailing: Whether `trailing_tokens` was reported.
    """

    __slots__ = (
        "_current",
        "_first",
        "_kept",
        "_last",
        "_last_home",
        "_tell",
        "after_turn",
        "has_trailing",
        "omitted",
        "stray",
        "strict",
    )

    def __init__(self, strict: bool, tell: Callable[[Problem], None]) -> None:
        self.strict = strict
        self.stray: list[Problem] = []
        self.omitted = 0
        self.after_turn = False
        self.has_trailing = False
        self._tell = tell
        self._kept = 0
        self._current: list[Problem] = []  # of the message that is being read
        self._last: Problem | None = None  # may still be merged with the next
        self._last_home = self._current
        self._first: Problem | None = None  # by rank; strict parsing raises it

    def report(
        self,
        code: str,
        start: int,
        end: int,
        detail: str | None = None,
        *,
        outside: bool = False,
        home: list[Problem] | None = None,
    ) -> None:
        """Note a problem.

        Args:
            code: As for `Problem`.
            start: The start of its span.
            end: The end of its span.
            detail: As for `Problem`.
            outside: As for `Problem`.
            home: The list to which it is added; by default that of the message being read, or
                `stray` if it is outside.
        """
        if self.after_turn and code not in _REPORTED_AFTER_THE_TURN:
            if not outside:
                return
            code = "trailing_tokens"
        self.has_trailing |= code == "trailing_tokens"
        if home is None:
            home = self.stray if outside else self._current
        last = self._last
        is_adjacent = last is not None and end > start == last.span.end
        if last is not None and is_adjacent and (last.code, last.outside) == (code, outside):
            self._last = last._replace(span=Span(last.span.start, end))
            return
        self.settle()
        found = problem(code, start, end, detail, outside=outside)
        self._last, self._last_home = found, home
        if self.strict and (self._first is None or rank(found) < rank(self._first)):
            self._first = found

    def settle(self) -> None:
        """Add the last problem to its list: nothing more is merged with it."""
        found, self._last = self._last, None
        if found is None:
            return
        if self._kept < PROBLEMS_KEPT or found.code in _NEEDED_BY_CALLS:
            self._kept += 1
            self._last_home.append(found)
            self._tell(found)
            return
        self.omitted += 1
        if found.outside:
            self._keep_apart(found.span)

    def _keep_apart(self, span: Span) -> None:
        last = self.stray[-1] if self.stray else None
        if last is not None and last.code == "more_problems" and last.span.end == span.start:
            self.stray[-1] = last._replace(span=Span(last.span.start, span.end))
        else:
            self.stray.append(problem("more_problems", *span, outside=True))

    def take(self) -> list[Problem]:
        """Remove and return the problems of the message being read."""
        self.settle()
        found, self._current = self._current, []
        return found

    def abandon(self) -> None:
        """Move the problems of the message being read to `stray`: it is not a message after all."""
        if self._last_home is self._current:
            self.settle()
        if self._current:
            self.stray += self._current
            self._current.clear()

    def problems(self) -> tuple[Problem, ...]:
        """The problems so far that do not belong to a complete message."""
        last = () if self._last is None or self._kept >= PROBLEMS_KEPT else (self._last,)
        return (*self.stray, *self._current, *last)

    def check(self, before: int | None = None) -> None:
        """Raise the first problem, if parsing is strict.

        Args:
            before: The position before which no further problem can be found; `None` at the end.

        Raises:
            ParseError: There is a problem before that position.
        """
        first = self._first
        if first is not None and (before is None or first.span.start < before):
            raise parse_error(first)


def parse_error(found: Problem) -> ParseError:
    """The error that strict parsing raises for a problem."""
    kind = PROBLEM_KINDS[found.code]
    reason = kind.meaning if found.detail is None else f"{kind.meaning}: {found.detail!r}"
    return ParseError(found.code, reason, position=found.span.start)
