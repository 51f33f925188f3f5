"""The replay backend: answers from a recording, without any engine.

For tests and demonstrations: it plays back what a model once said, provided that it is asked
exactly what was asked then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import Feature, TokenChunk, check_prompt, check_support
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import SIZE, decode

from .closing import Closing
from .cutting import Cutter
from .recording import Exchange, read_recording


class PromptMismatchError(BackendError):
    """A prompt is not one that was recorded.

    Attributes:
        position: The index of the first token that differs from the nearest recorded prompt.
    """

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        super().__init__(message)


class ReplayBackend(Closing):
    """Plays recorded completions.

    A prompt gets the completion that was recorded for it. Where one prompt was recorded
    several times its completions are played in order, the last one again and again.

    Args:
        recording: A path, the name of a recording that ships with the package, or the
            exchanges themselves.
        chunk_size: How many tokens a delta has.

    Raises:
        BackendError: The recording cannot be read.
    """

    name = "replay"
    supports: frozenset[Feature] = frozenset({"constraint"})

    @checked_options
    def __init__(self, recording: str | Path | Iterable[Exchange], *, chunk_size: int = 1) -> None:
        if chunk_size < 1:
            raise BackendError(f"chunk_size is {chunk_size}; it must be at least 1")
        if isinstance(recording, str | Path):
            recording = read_recording(recording)
        self._closed = False
        self._chunk_size = chunk_size
        self._exchanges: dict[tuple[int, ...], list[Exchange]] = {}
        for exchange in recording:
            self._exchanges.setdefault(exchange.prompt, []).append(exchange)

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Play the completion of a prompt; see `harmony_kit.Backend`.

        Of the sampling, the stop tokens and `max_tokens` cut the completion; it must keep to
        the constraint; the rest is without effect.

        Raises:
            PromptMismatchError: The prompt was not recorded; the error says at which token
                it differs from the nearest recorded one.
            BackendError: The prompt is none, the recorded completion is not what the
                constraint admits, or the backend is closed.
        """
        if self._closed:
            raise BackendError("replay is closed")
        check_support(self, sampling)
        check_prompt(prompt)
        exchange = self._next_exchange(tuple(prompt))
        _check_constraint(exchange, sampling)
        tokens, finish_reason, _ = Cutter(sampling).cut(exchange.completion)
        # A completion that was recorded whole ended for the reason that was recorded.
        if len(tokens) == len(exchange.completion):
            finish_reason = exchange.finish_reason
        for start in range(0, max(len(tokens), 1), self._chunk_size):
            if start:
                await asyncio.sleep(0)  # so that replays run side by side, as in an engine
            end = start + self._chunk_size
            yield TokenChunk(tokens[start:end], None if end < len(tokens) else finish_reason)

    def _next_exchange(self, prompt: tuple[int, ...]) -> Exchange:
        exchanges = self._exchanges.get(prompt)
        if exchanges is None:
            raise self._mismatch(prompt)
        return exchanges.pop(0) if len(exchanges) > 1 else exchanges[0]

    def _mismatch(self, prompt: tuple[int, ...]) -> PromptMismatchError:
        if not self._exchanges:
            return PromptMismatchError("the recording is empty", 0)
        nearest = max(self._exchanges, key=lambda recorded: _common_length(prompt, recorded))
        position = _common_length(prompt, nearest)
        return PromptMismatchError(
            f"the prompt was not recorded: at token {position} it has "
            f"{_token(prompt, position)} where the nearest recorded prompt has "
            f"{_token(nearest, position)}",
            position,
        )

    async def aclose(self) -> None:
        """Take no more prompts."""
        self._closed = True


def _check_constraint(exchange: Exchange, sampling: SamplingParams) -> None:
    """What was recorded cannot be changed, but it can be refused."""
    if sampling.constraint is None:
        return
    refusal = sampling.constraint.check(exchange.completion)
    was_cut = exchange.finish_reason == "length"
    if refusal is not None and not (refusal.token is None and was_cut):
        raise BackendError(
            f"the recorded completion leaves the constraint: at token {refusal.position} it has "
            f"{_token(exchange.completion, refusal.position)}"
        )


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    differing = (position for position, (a, b) in enumerate(pairs) if a != b)
    return next(differing, min(len(one), len(other)))


def _token(tokens: Sequence[int], position: int) -> str:
    if position >= len(tokens):
        return "its end"
    token = tokens[position]
    return f"{token} {decode([token])!r}" if 0 <= token < SIZE else str(token)
