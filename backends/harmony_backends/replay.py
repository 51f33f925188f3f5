"""The replay backend: recorded completions, without an engine.

For tests and demonstrations: it plays the completions of a recording to exactly the prompts that
were recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import Feature, TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import SIZE, decode

from ._cutting import Cutter
from ._limits import closed_error, room_for
from .closing import Closing
from .recording import Exchange, read_recording


class PromptMismatchError(BackendError):
    """A prompt was not recorded.

    Attributes:
        position: The index of the first token that differs from the most similar recorded prompt.
    """

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        super().__init__(message)


class ReplayBackend(Closing):
    """Plays recorded completions.

    A prompt gets the completion that was recorded for it. If a prompt was recorded several times,
    its completions are played in order, and then the last one again and again.

    Args:
        recording: A path, the name of a recording that ships with the package, or exchanges.
        chunk_size: Tokens per chunk.

    Raises:
        BackendError: The recording cannot be read, or `chunk_size` is below 1.

    Example:
        >>> import harmony_kit as hk
        >>> prompt = tuple(hk.render([hk.user("Hi")]))
        >>> answer = tuple(hk.encode_with_special("<|channel|>final<|message|>Hello!<|return|>"))
        >>> backend = ReplayBackend([Exchange(prompt, answer, "stop")])
        >>> hk.run([hk.user("Hi")], backend).text
        'Hello!'
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
        """Play the completion of a prompt; see `harmony_kit.engine.Backend`.

        `stop_tokens` and `max_tokens` truncate the completion, and it is checked against
        `constraint`; the rest of the sampling has no effect.

        Raises:
            PromptMismatchError: The prompt was not recorded; the error names the first token that
                differs from the most similar recorded prompt.
            BackendError: The prompt is refused, the recorded completion violates the constraint,
                or the backend is closed.
        """
        if self._closed:
            raise closed_error(self.name)
        room_for(self, prompt, sampling)
        exchange = self._next_exchange(tuple(prompt))
        _check_constraint(exchange, sampling)
        tokens, finish_reason, _ = Cutter(sampling).cut(exchange.completion)
        if len(tokens) == len(exchange.completion):
            finish_reason = exchange.finish_reason
        for start in range(0, max(len(tokens), 1), self._chunk_size):
            if start:
                await asyncio.sleep(0)  # concurrent replays alternate, as in an engine
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
        """Refuse further prompts."""
        self._closed = True


def _check_constraint(exchange: Exchange, sampling: SamplingParams) -> None:
    """Refuse a recorded completion that violates the constraint."""
    if sampling.constraint is None:
        return
    refusal = sampling.constraint.check(exchange.completion)
    was_cut = exchange.finish_reason == "length"
    if refusal is not None and not (refusal.token is None and was_cut):
        raise BackendError(
            f"the recorded completion violates the constraint: at token {refusal.position} it has "
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
