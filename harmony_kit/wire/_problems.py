"""What lenient reading noticed: one table of codes, and the value that says where.

A problem is never an exception: it says what was found, at which tokens, and what was done
about it. Strict parsing raises a `ParseError` with the same code at the first of them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from ..errors import ParseError


class Layer(StrEnum):
    """Who notices a problem."""

    HEADER = "header"
    """Reading one header."""
    STRUCTURE = "structure"
    """Messages and the tokens between them."""
    CONTENT = "content"
    """The tokens of one content."""
    TURN = "turn"
    """The messages of a completion together."""
    TEXT = "text"
    """Reading text instead of tokens."""
    CALL = "call"
    """Making a tool call of a message."""


class ProblemKind(NamedTuple):
    """What a code means.

    Attributes:
        layer: Who notices it.
        meaning: What was found.
        repair: What is done about it.
    """

    layer: Layer
    meaning: str
    repair: str


class Span(NamedTuple):
    """A stretch of the input: token indices, or characters where text was read.

    Attributes:
        start: The first.
        end: One past the last.
    """

    start: int
    end: int


class Problem(NamedTuple):
    """Something that is not as the format has it.

    Attributes:
        code: The kind, a key of `PROBLEM_KINDS`.
        span: Where: token indices from the first token fed, or characters of a text.
        message: What was found and what was done, in words.
        detail: What it is about, such as the word that was not understood.
        outside: Whether the span belongs to no message. Such spans and those of the
            messages partition the input.
    """

    code: str
    span: Span
    message: str
    detail: str | None = None
    outside: bool = False


def problem(
    code: str, start: int, end: int, detail: str | None = None, *, outside: bool = False
) -> Problem:
    """A problem of a kind, with the words of the table.

    Args:
        code: The kind.
        start: Where it begins.
        end: Where it ends.
        detail: What it is about.
        outside: Whether the span belongs to no message.
    """
    kind = PROBLEM_KINDS[code]
    return Problem(code, Span(start, end), f"{kind.meaning}; {kind.repair}", detail, outside)


_HEADER, _STRUCTURE, _CONTENT = Layer.HEADER, Layer.STRUCTURE, Layer.CONTENT
_TURN, _TEXT, _CALL = Layer.TURN, Layer.TEXT, Layer.CALL

PROBLEM_KINDS: Final[dict[str, ProblemKind]] = {
    # --- One header ---
    "missing_role": ProblemKind(_HEADER, "no role after <|start|>", "taken for the assistant's"),
    "role_normalized": ProblemKind(
        _HEADER, "a role written wrongly, such as assistantassistant", "read as the role meant"
    ),
    "unknown_role": ProblemKind(
        _HEADER, "an author that is no role and no tool", "kept as a tool of that name"
    ),
    "missing_channel": ProblemKind(
        _HEADER,
        "an assistant message without a channel",
        "final if it ends the turn, analysis if another message follows, commentary if a call",
    ),
    "missing_channel_marker": ProblemKind(
        _HEADER, "a channel without <|channel|> before it", "read as the channel"
    ),
    "empty_channel": ProblemKind(
        _HEADER, "no channel follows <|channel|>", "the marker is ignored"
    ),
    "repeated_channel": ProblemKind(_HEADER, "more than one channel", "the last one counts"),
    "unknown_channel": ProblemKind(
        _HEADER, "a channel that the format does not know", "kept as it stands"
    ),
    "unknown_channel_normalized": ProblemKind(
        _HEADER, "a channel written wrongly, such as finalx", "read as the channel meant"
    ),
    "empty_recipient": ProblemKind(_HEADER, "no recipient follows to=", "ignored"),
    "duplicate_recipient": ProblemKind(_HEADER, "the same recipient twice", "read once"),
    "conflicting_recipient": ProblemKind(
        _HEADER, "two different recipients", "the last one counts; the call is ambiguous"
    ),
    "self_recipient": ProblemKind(
        _HEADER, "the assistant addresses the assistant", "kept, and no call"
    ),
    "empty_constrain": ProblemKind(
        _HEADER, "no content type follows <|constrain|>", "the marker is ignored"
    ),
    "glued_constrain": ProblemKind(
        _HEADER, "<|constrain|> without a blank before it", "read as if it were there"
    ),
    "unknown_content_type": ProblemKind(
        _HEADER, "a content type other than json and code", "kept as it stands"
    ),
    "unexpected_header_text": ProblemKind(_HEADER, "words that are no part of a header", "ignored"),
    "header_whitespace": ProblemKind(
        _HEADER, "blanks where a header has none, or other than one space", "ignored"
    ),
    "special_token_in_header": ProblemKind(
        _HEADER, "a special token that has no place in a header", "ignored"
    ),
    # --- Messages and what stands between them ---
    "repeated_start": ProblemKind(_STRUCTURE, "<|start|> again before a header", "read once"),
    "repeated_message": ProblemKind(_STRUCTURE, "<|message|> twice", "read once"),
    "missing_start": ProblemKind(
        _STRUCTURE, "a message that does not begin with <|start|>", "read as the assistant's"
    ),
    "missing_message": ProblemKind(
        _STRUCTURE,
        "a message without <|message|>",
        "its content begins where a header cannot go on",
    ),
    "missing_terminator": ProblemKind(
        _STRUCTURE, "a message that was not closed", "it ends where the next begins or input ends"
    ),
    "garbage_header": ProblemKind(_STRUCTURE, "a header that says nothing", "kept apart"),
    "empty_message_dropped": ProblemKind(
        _STRUCTURE, "a message that is neither addressed nor has a content", "not made"
    ),
    "truncated_header": ProblemKind(_STRUCTURE, "the input ends inside a header", "kept apart"),
    "text_between_messages": ProblemKind(_STRUCTURE, "text between two messages", "kept apart"),
    "stray_terminator": ProblemKind(_STRUCTURE, "a terminator that closes nothing", "kept apart"),
    "ended_by_endoftext": ProblemKind(
        _STRUCTURE, "<|endoftext|> instead of a terminator", "the message and the turn end there"
    ),
    "trailing_tokens": ProblemKind(
        _STRUCTURE, "tokens after the end of the turn", "kept, but not part of the turn"
    ),
    "more_problems": ProblemKind(
        _STRUCTURE, "more problems than are told apart", "their tokens are kept apart"
    ),
    # --- One content ---
    "special_token_in_body": ProblemKind(
        _CONTENT, "a control token inside a content", "spelt out as text"
    ),
    "reserved_special_token": ProblemKind(_CONTENT, "a reserved token", "spelt out as text"),
    "unknown_token": ProblemKind(
        _CONTENT, "an id that is not in the vocabulary", "read as the character U+FFFD"
    ),
    "invalid_utf8": ProblemKind(
        _CONTENT, "bytes that are not UTF-8", "read as the character U+FFFD"
    ),
    # --- A whole completion ---
    "empty_output": ProblemKind(_TURN, "a completion without a message", "no message is made"),
    "answer_on_unknown_channel": ProblemKind(
        _TURN,
        "a turn that ends on an unknown channel, with no final answer",
        "that message is the final answer",
    ),
    "no_final": ProblemKind(
        _TURN, "the turn ended without a final answer or a call", "the turn stays without one"
    ),
    "empty_final": ProblemKind(_TURN, "a final answer without text", "kept empty"),
    "unterminated_call": ProblemKind(_TURN, "a call that breaks off in its header", "kept empty"),
    "missing_recipient": ProblemKind(
        _TURN, "what looks like a call but addresses nobody", "a call without a name"
    ),
    "call_ended_with_end": ProblemKind(_TURN, "a call closed by <|end|>", "a call all the same"),
    "call_ended_with_return": ProblemKind(
        _TURN, "a call closed by <|return|>", "a call all the same"
    ),
    "text_ended_with_call": ProblemKind(
        _TURN, "<|call|> after a text that addresses nobody", "a text all the same"
    ),
    "tool_call_on_final": ProblemKind(
        _TURN, "a call on the final channel", "a call, and no answer"
    ),
    "tool_call_on_analysis": ProblemKind(
        _TURN, "a call of a function on the analysis channel", "a call all the same"
    ),
    "multiple_calls": ProblemKind(_TURN, "a call after <|call|>", "both are calls of the turn"),
    "call_after_final": ProblemKind(_TURN, "a call after a final answer", "kept in its order"),
    "text_after_call": ProblemKind(
        _TURN, "a text after a call that was not answered yet", "kept in its order"
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
        _TEXT, "the text ends inside the spelling of a special token", "kept apart"
    ),
    "stripped_special_tokens": ProblemKind(
        _TEXT, "a text without its special tokens", "they are restored where the words show them"
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
        _TEXT, "a text without any sign of the format", "taken for the final answer"
    ),
    # --- Calls ---
    "undeclared_tool": ProblemKind(_CALL, "a tool that was not declared", "never run"),
    "recipient_normalized": ProblemKind(
        _CALL, "a tool's name written wrongly", "read as the name meant"
    ),
    "repeated_call": ProblemKind(_CALL, "the same call again", "marked as a duplicate"),
    "empty_arguments": ProblemKind(_CALL, "no arguments at all", "read as an empty object"),
    "truncated_json": ProblemKind(_CALL, "JSON that breaks off", "closed where it ends"),
    "json_repaired": ProblemKind(_CALL, "text that is almost JSON", "read as the JSON meant"),
    "double_encoded_json": ProblemKind(_CALL, "JSON inside a JSON string", "unpacked"),
    "enveloped_arguments": ProblemKind(
        _CALL, "the arguments inside an object that names them or the tool", "taken out of it"
    ),
    "several_objects": ProblemKind(
        _CALL, "two different objects in sequence", "the call is ambiguous, and not run"
    ),
    "json_wrapped_code": ProblemKind(_CALL, "code inside a JSON object", "taken out of it"),
    "not_json": ProblemKind(_CALL, "arguments that no repair makes JSON", "kept as text"),
    "duplicate_keys": ProblemKind(_CALL, "an object with a key twice", "the last one counts"),
    "schema_coercion": ProblemKind(
        _CALL, "a value of a wrong type that loses nothing in the right one", "converted"
    ),
    "schema_mismatch": ProblemKind(
        _CALL, "arguments that are not what the tool asks for", "never run"
    ),
    "too_deep": ProblemKind(_CALL, "arguments nested too deeply", "kept as text"),
}
"""What every code means."""

_ORDER: Final = {code: position for position, code in enumerate(PROBLEM_KINDS)}


def rank(found: Problem) -> tuple[int, int]:
    """The place of a problem among others: by its start, then in the order of the table.

    Args:
        found: The problem.
    """
    return found.span.start, _ORDER[found.code]


# --- While reading --------------------------------------------------------------------------

PROBLEMS_KEPT: Final = 10_000
"""How many problems a parser tells apart.

Of more, those about tokens of a message are only counted; those about tokens that belong to
no message are kept as `more_problems`, one for each stretch of such tokens.
"""

# What is still worth reporting of tokens after the end of the turn.
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


# These decide whether a call may be run; a message has few of them.
_NEEDED_BY_CALLS: Final = frozenset(
    {"missing_recipient", "missing_message", "conflicting_recipient"}
)


class ProblemLog:
    """Collects the problems of a parse, each with the message that it is about.

    Adjacent problems of one kind are merged; their number is bounded. Strict reading raises the
    first of them, by `rank`, as soon as no earlier one can come.

    Args:
        strict: Whether to raise.
        tell: Called with every problem once it cannot grow any more.

    Attributes:
        stray: The problems that are about no message.
        omitted: How many problems more there were than are kept.
        after_turn: Whether the turn is over, so that little is worth reporting.
        has_trailing: Whether tokens after the turn were reported.
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
        self._last: Problem | None = None  # may still grow by one like it
        self._last_home = self._current
        self._first: Problem | None = None  # by rank; strict reading raises it

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
            code: The kind.
            start: Where it begins.
            end: Where it ends.
            detail: What it is about.
            outside: Whether the span belongs to no message.
            home: The problems among which it belongs; by default those of the message that is
                being read, or `stray` if it lies outside.
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
        """Keep the last problem: it cannot grow any more."""
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
        """The problems of the message that is being read, which ends here."""
        self.settle()
        found, self._current = self._current, []
        return found

    def abandon(self) -> None:
        """What was being read is no message: its problems are about none."""
        if self._last_home is self._current:
            self.settle()
        if self._current:
            self.stray += self._current
            self._current.clear()

    def problems(self) -> tuple[Problem, ...]:
        """The problems so far that are about no message, or about one that is not complete."""
        last = () if self._last is None or self._kept >= PROBLEMS_KEPT else (self._last,)
        return (*self.stray, *self._current, *last)

    def check(self, before: int | None = None) -> None:
        """Raise the first problem, if reading is strict.

        Args:
            before: The place before which no further problem can come; `None` if none can come.

        Raises:
            ParseError: There is one before that place.
        """
        first = self._first
        if first is not None and (before is None or first.span.start < before):
            raise parse_error(first)


def parse_error(found: Problem) -> ParseError:
    """What strict reading raises at a problem.

    Args:
        found: The problem.
    """
    kind = PROBLEM_KINDS[found.code]
    reason = kind.meaning if found.detail is None else f"{kind.meaning}: {found.detail!r}"
    return ParseError(found.code, reason, position=found.span.start)
