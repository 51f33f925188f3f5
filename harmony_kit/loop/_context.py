"""Keeping prompts within a token limit by leaving messages out."""

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
"""A function that selects the messages to leave out of a prompt.

It receives the messages, the number of prompt tokens of each, and the number of tokens to remove,
and returns the indices of the messages to leave out. It should leave the same messages out of later
prompts, so that engines find the prefixes of prompts in their caches. If the prompt is still too
long, it is called again.
"""


@checked_options
def drop_tool_cycles(
    messages: Sequence[Message], token_counts: Sequence[int], excess: int
) -> set[int]:
    """Select finished tool cycles, oldest first, then finished exchanges, to be left out.

    A tool cycle is the reasoning of a turn, its calls and their results; it is finished once
    another message follows. An exchange starts with a user message and is finished once another
    starts. System and developer messages stay, and so does everything that the latest results
    answer.

    Args:
        messages: The messages.
        token_counts: The number of prompt tokens of each message.
        excess: The number of tokens to remove.

    Returns:
        The indices of the messages to leave out. A call is always left out together with its
        results.

    Example:
        >>> from harmony_kit import assistant, user
        >>> messages = [user("Hi"), assistant("Hello!"), user("What is 2 + 2?")]
        >>> sorted(drop_tool_cycles(messages, [5, 5, 9], excess=8))
        [0, 1]
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
    """A prompt within the limit.

    Attributes:
        prompt: The prompt.
        full_length: The number of tokens with all messages.
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
    """Render a prompt of at most `max_tokens`; `None` if the policy leaves out too little.

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
        # Leaving out an answer can restore reasoning that rendering had dropped because of it.
        prompt = render_prompt(kept, options=options)
        excess += max(len(prompt) - max_tokens, 0)
    return FittedPrompt(prompt, full_length, tuple(messages[i] for i in sorted(left_out)))
