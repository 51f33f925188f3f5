"""Complete token ids from a server that leaves some out of its stream.

llama.cpp sends nothing while a character is incomplete, and then only the id of the last token. The
others mostly follow from the text. If they do not, or if the completion was truncated within a
character, the tokens of the gap are requested again without streaming: such answers have all ids.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.sampling import SamplingParams

from ._tokens import LeftOutIdsError

Complete = Callable[[list[int], SamplingParams, bool], AsyncGenerator[TokenChunk, None]]
"""Completes a prompt; the last argument is whether to stream."""


async def without_gaps(
    complete: Complete, prompt: list[int], sampling: SamplingParams, *, stream: bool
) -> AsyncGenerator[TokenChunk, None]:
    """A completion with all of its ids.

    What the model wrote in a gap is discarded and generated again. With greedy decoding that gives
    the same tokens; otherwise it is a new draw, with the seed plus the number of tokens before it.

    Args:
        complete: Sends a request to the server.
        prompt: Token ids.
        sampling: The sampling of the whole completion.
        stream: Whether to stream what has no gap.

    Raises:
        LeftOutIdsError: Ids are missing and there are stop texts; the server could not find one
            that started before the gap.
    """
    generated: list[int] = []
    gap = 0  # the number of tokens to request without streaming
    is_finished = False
    while True:
        rest = _rest(sampling, len(generated))
        if gap:
            limit = gap if rest.max_tokens is None else min(gap, rest.max_tokens)
            rest = replace(rest, max_tokens=limit)
        end = len(generated) + gap
        completion = complete([*prompt, *generated], rest, stream and not gap)
        try:
            async with aclosing(completion) as chunks:
                async for chunk in chunks:
                    generated += chunk.tokens
                    is_gap_filled = chunk.finish_reason == "length" and len(generated) == end
                    if is_gap_filled and len(generated) != sampling.max_tokens:
                        yield chunk._replace(finish_reason=None)
                    else:
                        yield chunk
                        is_finished = chunk.finish_reason is not None
        except LeftOutIdsError as error:
            if gap:
                raise
            gap = error.missing + 1
        else:
            if is_finished:
                return
            gap = 0


def _rest(sampling: SamplingParams, generated: int) -> SamplingParams:
    """The sampling of what follows a number of generated tokens."""
    limit, seed = sampling.max_tokens, sampling.seed
    return replace(
        sampling,
        max_tokens=None if limit is None else limit - generated,
        seed=None if seed is None else seed + generated,
    )
