"""What a completion is to a client of any API: reasoning, text, calls."""

from __future__ import annotations

from enum import StrEnum

from ..wire._events import Completion
from ..wire._messages import Header
from ..wire._roles import Channel


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


def completion_tokens(result: Completion) -> int:
    """How many tokens a completion has, as far as they were parsed.

    Args:
        result: The completion, parsed from token ids.
    """
    ends = [parsed.span.end for parsed in result.parsed]
    ends += [found.span.end for found in result.problems]
    return max(ends, default=0)


def reasoning_tokens(result: Completion) -> int:
    """How many tokens of a completion were thought, not said.

    Args:
        result: The completion, parsed from token ids.
    """
    return sum(
        parsed.span.end - parsed.span.start
        for parsed in result.turn
        if kind_of(parsed.header) is Kind.REASONING
    )
