"""One request of the transformers backend: its tokens, and how the next one is chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from harmony_kit.engine._protocol import FinishReason, TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import END_OF_TEXT

from .._event_loops import Inbox
from .._masks import masked

Warper = Callable[[Any, Any], Any]


class Row:
    """A row of a batch: a request with its own sampling and its own end.

    It is created in the consumer's event loop. After that, only the thread that generates may use
    it, except for `aborted`, which any thread may set.

    Args:
        prompt: Token ids.
        sampling: The request's sampling.
        limit: The maximum number of tokens to generate.
        vocabulary_size: The number of token ids that the model has.
        defaults: The model's generation config.
        device: The model's device.

    Attributes:
        tokens: The prompt and the tokens generated so far.
        inbox: The queue to the consumer.
        aborted: Set when the consumer has left.
        left: Done when nothing more is generated for this row.

    Raises:
        BackendError: transformers refuses the sampling.
        GrammarError: No completion under the constraint fits the limit.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        limit: int,
        vocabulary_size: int,
        defaults: Any,
        device: Any,
    ) -> None:
        self.tokens = list(prompt)
        self.inbox: Inbox[TokenChunk] = Inbox()
        self.aborted = threading.Event()
        self.left: Future[None] = Future()
        self.left.set_running_or_notify_cancel()  # the consumer that awaits it cannot cancel it
        self._start = len(prompt)
        self._end = len(prompt) + limit
        self._stop_tokens = frozenset((*sampling.stop_tokens, END_OF_TEXT))
        self._logprobs = sampling.logprobs
        self._matcher = None
        if sampling.constraint is not None:
            self._matcher = sampling.constraint.matcher(limit, vocabulary_size=vocabulary_size)
        self._frequency = sampling.frequency_penalty or 0.0
        self._presence = sampling.presence_penalty or 0.0
        self._warpers = _warpers(sampling, defaults)
        self._generator = None if self._warpers is None else _generator(sampling.seed, device)

    @property
    def is_finished(self) -> bool:
        """Whether the row has ended."""
        return self.left.done()

    @property
    def room(self) -> int:
        """The number of tokens that may still be generated."""
        return self._end - len(self.tokens)

    def choose(self, scores: Any) -> int:
        """Choose the next token from the model's logits, and send it to the consumer."""
        if self._matcher is None:
            token = self._choose(scores)
        else:
            token = self._choose(masked(scores, self._matcher.bitmask()))
            self._matcher.accept_token(token)
        self.tokens.append(token)
        reason: FinishReason | None = None
        if token in self._stop_tokens:
            reason = "stop"
        elif self.room == 0:
            reason = "length"
        logprobs = None if self._logprobs is None else [_likeliest(scores, token, self._logprobs)]
        self.inbox.put(TokenChunk((token,), reason, logprobs))
        if reason is not None:
            self._leave()
        return token

    def abort(self) -> None:
        """End the row with the finish reason `"abort"`."""
        if not self.is_finished:
            self.inbox.put(TokenChunk((), "abort"))
            self._leave()

    def fail(self, error: BackendError) -> None:
        """End the row with an error for the consumer."""
        if not self.is_finished:
            self._leave(error)

    def _leave(self, error: BackendError | None = None) -> None:
        self.inbox.close(error)
        self.left.set_result(None)

    def _choose(self, scores: Any) -> int:
        import torch

        penalized = scores
        if self._frequency or self._presence:
            generated = torch.tensor(
                self.tokens[self._start :], dtype=torch.long, device=scores.device
            )
            counts = torch.bincount(generated, minlength=scores.shape[-1])
            penalized = scores - self._frequency * counts - self._presence * (counts > 0)
        if self._warpers is None:
            return int(penalized.argmax())
        warped = penalized[None]
        for warper in self._warpers:
            warped = warper(None, warped)
        (chosen,) = torch.multinomial(warped.softmax(-1)[0], 1, generator=self._generator)
        return int(chosen)


def _warpers(sampling: SamplingParams, defaults: Any) -> list[Warper] | None:
    """The processors of the scores before a token is sampled; `None` for greedy decoding."""
    from transformers import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    is_requested = sampling.temperature is not None or sampling.top_p is not None
    if sampling.temperature == 0 or not (is_requested or defaults.do_sample):
        return None
    temperature = defaults.temperature if sampling.temperature is None else sampling.temperature
    top_p = defaults.top_p if sampling.top_p is None else sampling.top_p
    warpers: list[Warper] = []
    try:
        if temperature not in (None, 1):
            warpers.append(TemperatureLogitsWarper(float(temperature)))
        if defaults.top_k:
            warpers.append(TopKLogitsWarper(defaults.top_k))
        if top_p is not None and top_p != 1:
            warpers.append(TopPLogitsWarper(float(top_p)))
        if defaults.min_p:
            warpers.append(MinPLogitsWarper(defaults.min_p))
    except ValueError as error:
        raise BackendError(f"transformers: {error}") from error
    return warpers


def _generator(seed: int | None, device: Any) -> Any:
    """A row's own random numbers, so that a seed repeats in any batch."""
    import torch

    generator = torch.Generator(device=device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _likeliest(scores: Any, token: int, count: int) -> dict[int, float]:
    """The log-probabilities of a token and of the likeliest, before penalties and warpers."""
    logprobs = scores.log_softmax(-1)
    values, ids = logprobs.topk(count)
    return {token: float(logprobs[token])} | dict(zip(ids.tolist(), values.tolist(), strict=True))
