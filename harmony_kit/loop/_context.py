"""What is left out of a prompt that would be too long."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from .._options import checked_options
from ..wire._messages import Message
from ..wire._render import Prompt, render_prompt, token_counts
from ..wire._render_options import RenderOptions
from ..wire._roles import Channel, Role

ContextPolicy = Callable[[Sequence[Message], Sequence[int], int], Collection[int]]
"""Says what to leave out of a prompt.

It gets the messages, how many tokens each has in the prompt, and how many have to go; it returns
the indices of messages to leave out. What it leaves out of a prompt it should leave out of later
ones too, so that engines find the beginnings of prompts in their caches. It is asked again, for
more, where that was not enough.
"""


@checked_options
def drop_tool_cycles(
    messages: Sequence[Message], token_counts: Sequence[int], excess: int
) -> set[int]:
    """Leave out finished tool cycles, the oldest first; then finished exchanges.

    A tool cycle is the reasoning of a turn, its calls and their results; it is finished when
    something follows. An exchange begins with a user's message and is finished when another
    begins. What system and developer say stays, as does all that the newest results answer.

    Args:
        messages: The messages.
        token_counts: How many tokens each has in the prompt.
        excess: How many tokens have to go.

    Returns:
        The indices of the messages to leave out. A call and its results are both among them, or
        neither is.
    """
    left_out: set[int] = set()
    for group in (*_finished_tool_cycles(messages), *_finished_exchanges(messages)):
        if sum(token_counts[index] for index in left_out) >= excess:
            break
        left_out.update(group)
    return left_out


def _finished_tool_cycles(messages: Sequence[Message]) -> Iterator[list[int]]:
    cycle: list[int] = []
    has_results = False
    for index, message in enumerate(messages):
        if has_results and message.role is not Role.TOOL:
            yield cycle
            cycle, has_results = [], False
        if message.role is Role.TOOL:
            cycle.append(index)
            has_results = True
        elif message.role is not Role.ASSISTANT:
            cycle = []
        elif message.channel == Channel.ANALYSIS or message.header.is_call:
            cycle.append(index)


def _finished_exchanges(messages: Sequence[Message]) -> Iterator[list[int]]:
    starts = [index for index, message in enumerate(messages) if message.role is Role.USER]
    for start, end in pairwise(starts):
        yield [
            index
            for index in range(start, end)
            if messages[index].role not in (Role.SYSTEM, Role.DEVELOPER)
        ]


class FittedPrompt(NamedTuple):
    """A prompt that is not too long.

    Attributes:
        prompt: The prompt.
        full_length: How many tokens it would have with all messages.
        left_out: The messages that were left out.
    """

    prompt: Prompt
    full_length: int
    left_out: tuple[Message, ...] = ()


def prompt_within(
    messages: Sequence[Message],
    max_tokens: int | None,
    policy: ContextPolicy,
    options: RenderOptions | None = None,
) -> FittedPrompt | None:
    """Render a prompt that is not too long.

    Args:
        messages: The messages.
        max_tokens: The most tokens that it may have; `None` for any number.
        policy: What says which messages to leave out.
        options: How to render.

    Returns:
        The prompt, or `None` if the policy leaves out too little.

    Raises:
        InvalidMessageError: A message cannot be rendered.
    """
    prompt = render_prompt(messages, options=options)
    full_length = len(prompt)
    if max_tokens is None or full_length <= max_tokens:
        return FittedPrompt(prompt, full_length)
    counts = token_counts(messages, options=options)
    excess = full_length - max_tokens
    left_out: frozenset[int] = frozenset()
    while len(prompt) > max_tokens:
        more = left_out.union(policy(messages, counts, excess))
        if more == left_out:
            return None
        left_out = more
        kept = [message for index, message in enumerate(messages) if index not in left_out]
        # Leaving out an answer can bring back reasoning that was dropped before it.
        prompt = render_prompt(kept, options=options)
        excess += max(len(prompt) - max_tokens, 0)
    return FittedPrompt(prompt, full_length, tuple(messages[i] for i in sorted(left_out)))
