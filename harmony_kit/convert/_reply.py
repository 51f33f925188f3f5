"""What a completion is to a client of any API: kinds of messages, and token counts."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ..wire._events import Completion, FinishReason, TurnEnd, check_finish_reason
from ..wire._messages import Header
from ..wire._roles import Channel


class Kind(StrEnum):
    """What a message of the model is to a client."""

    REASONING = "reasoning"
    """A message on the analysis channel."""
    COMMENTARY = "commentary"
    """Text shown to users before the answer, such as a plan before a call."""
    FINAL = "final"
    """The answer."""
    CALL = "call"
    """A tool call, on any channel."""
    HIDDEN = "hidden"
    """Text on a channel that the format does not define; never shown."""


_KINDS = {
    Channel.ANALYSIS.value: Kind.REASONING,
    Channel.COMMENTARY.value: Kind.COMMENTARY,
    Channel.FINAL.value: Kind.FINAL,
}


def kind_of(header: Header) -> Kind:
    """The kind of an assistant message with this header."""
    if header.is_call:
        return Kind.CALL
    return _KINDS.get(header.channel or "", Kind.HIDDEN)


class TokenCounts(NamedTuple):
    """The tokens of a request and its response."""

    prompt: int
    completion: int
    reasoning: int


def count_tokens(
    result: Completion, prompt_tokens: int, completion_tokens: int | None
) -> TokenCounts:
    """The token counts; `completion_tokens` defaults to the number of tokens parsed."""
    if completion_tokens is None:
        ends = [parsed.span.end for parsed in result.parsed]
        ends += [found.span.end for found in result.problems]
        completion_tokens = max(ends, default=0)
    reasoning = sum(
        parsed.span.end - parsed.span.start
        for parsed in result.turn
        if kind_of(parsed.header) is Kind.REASONING
    )
    return TokenCounts(prompt_tokens, completion_tokens, reasoning)


def is_truncated(result: Completion, finish_reason: FinishReason | None) -> bool:
    """Whether the turn was truncated."""
    check_finish_reason(finish_reason)
    if finish_reason is not None:
        return finish_reason in ("length", "abort")
    if result.incomplete is not None:
        return result.turn_end in (TurnEnd.LENGTH, None)
    # A whole call awaits its result, even without <|call|> after it.
    awaits_result = bool(result.turn) and result.turn[-1].header.is_call
    return result.turn_end is TurnEnd.LENGTH and not awaits_result
