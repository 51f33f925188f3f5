"""What a completion is to a client of any API: reasoning, text, calls."""

from __future__ import annotations

from enum import StrEnum

from ..header import Header, header_of
from ..messages import Channel
from ..parsed import ParseResult


class Kind(StrEnum):
    """What a message of the model is to a client."""

    REASONING = "reasoning"
    """Thinking, on the analysis channel."""
    COMMENTARY = "commentary"
    """A text that users see before the answer, such as a plan before a call."""
    FINAL = "final"
    """The answer."""
    CALL = "call"
    """A call of a tool, on any channel."""
    HIDDEN = "hidden"
    """A text on a channel that the format does not know; it is shown to nobody."""


_KINDS = {
    Channel.ANALYSIS.value: Kind.REASONING,
    Channel.COMMENTARY.value: Kind.COMMENTARY,
    Channel.FINAL.value: Kind.FINAL,
}


def kind_of(header: Header) -> Kind:
    """What a message is to a client.

    Args:
        header: The header of a message of the assistant.
    """
    if header.is_call:
        return Kind.CALL
    return _KINDS.get(header.channel or "", Kind.HIDDEN)


def completion_tokens(result: ParseResult) -> int:
    """How many tokens a completion has, as far as they were parsed.

    Args:
        result: The completion, parsed from token ids.
    """
    ends = [span.end for span in result.spans]
    ends += [found.span.end for found in result.problems]
    return max(ends, default=0)


def reasoning_tokens(result: ParseResult) -> int:
    """How many tokens of a completion were thought, not said.

    Args:
        result: The completion, parsed from token ids.
    """
    spans = zip(result.turn, result.spans, strict=False)
    return sum(
        span.end - span.start
        for message, span in spans
        if kind_of(header_of(message)) is Kind.REASONING
    )
