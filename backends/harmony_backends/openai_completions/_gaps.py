"""Completions without gaps, from a server that leaves ids out of its stream.

llama.cpp sends nothing while a character is incomplete, and then only the id of the last
token. Mostly the text says what the others were. Where it does not, or the completion was cut
off within a character, the server is asked again from the gap on, for all of it at once: such
answers have all ids.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.sampling import SamplingParams

from .completions_tokens import LeftOutIdsError

Complete = Callable[[list[int], SamplingParams, bool], AsyncGenerator[TokenChunk, None]]
"""Completes a prompt; the last argument says whether to stream."""


async def without_gaps(
    complete: Complete, prompt: list[int], sampling: SamplingParams, *, stream: bool
) -> AsyncGenerator[TokenChunk, None]:
    """A completion of which no id is missing.

    What the model wrote within the gap is thrown away and written anew. Greedily that is the
    same; where tokens are drawn, it is another draw, from the seed plus the number of tokens
    before it.

    Args:
        complete: What asks the server.
        prompt: Token ids.
        sampling: How to choose tokens, and when to stop.
        stream: Whether to stream what has no gap.

    Yields:
        The tokens.

    Raises:
        LeftOutIdsError: Ids are missing and stop texts were asked for, of which the server
            would not see the part before the gap.
    """
    said: list[int] = []
    at_once = 0  # how many tokens to ask for without a stream
    is_over = False
    while True:
        rest = _rest(sampling, len(said))
        if at_once:
            limit = at_once if rest.max_tokens is None else min(at_once, rest.max_tokens)
            rest = replace(rest, max_tokens=limit)
        end = len(said) + at_once
        try:
            async with aclosing(complete([*prompt, *said], rest, stream and not at_once)) as part:
                async for delta in part:
                    said += delta.tokens
                    is_gap_filled = delta.finish_reason == "length" and len(said) == end
                    if is_gap_filled and len(said) != sampling.max_tokens:
                        yield delta._replace(finish_reason=None)
                    else:
                        yield delta
                        is_over = delta.finish_reason is not None
        except LeftOutIdsError as error:
            if at_once or sampling.stop:
                raise
            at_once = error.missing + 1
        else:
            if is_over:
                return
            at_once = 0


def _rest(sampling: SamplingParams, said: int) -> SamplingParams:
    """The same sampling, for what follows a number of tokens."""
    limit, seed = sampling.max_tokens, sampling.seed
    return replace(
        sampling,
        max_tokens=None if limit is None else limit - said,
        seed=None if seed is None else seed + said,
    )
