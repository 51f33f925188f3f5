"""What every backend checks before it generates: features, prompt and token limit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import overload

from harmony_kit.engine._protocol import (
    Backend,
    Feature,
    TokenChunk,
    check_prompt,
    check_support,
)
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import SIZE

from .closing import Closing


def closed_error(name: str) -> BackendError:
    """The error of a request to a closed backend."""
    return BackendError(f"{name} is closed; make a new backend")


@overload
def room_for(
    backend: Backend,
    prompt: Sequence[int],
    sampling: SamplingParams,
    *,
    context: int,
    vocabulary_size: int = SIZE,
) -> int: ...


@overload
def room_for(
    backend: Backend,
    prompt: Sequence[int],
    sampling: SamplingParams,
    *,
    context: int | None = None,
    vocabulary_size: int = SIZE,
) -> int | None: ...


def room_for(
    backend: Backend,
    prompt: Sequence[int],
    sampling: SamplingParams,
    *,
    context: int | None = None,
    vocabulary_size: int = SIZE,
) -> int | None:
    """Check a request, and return how many tokens may be generated for it.

    Args:
        backend: The backend that will generate.
        prompt: Token ids.
        sampling: The request's sampling.
        context: The maximum length of prompt and completion together; `None` is no limit.
        vocabulary_size: The number of token ids that the model has.

    Returns:
        The token limit; `None` if neither the request nor the context has one.

    Raises:
        BackendError: The backend does not support a requested feature, the prompt is empty, has an
            id outside the vocabulary, or fills the context.
    """
    check_support(backend, sampling)
    check_prompt(prompt, vocabulary_size=vocabulary_size)
    return tokens_left(prompt, sampling.max_tokens, context)


@overload
def tokens_left(prompt: Sequence[int], max_tokens: int | None, context: int) -> int: ...


@overload
def tokens_left(
    prompt: Sequence[int], max_tokens: int | None, context: int | None
) -> int | None: ...


def tokens_left(prompt: Sequence[int], max_tokens: int | None, context: int | None) -> int | None:
    """The smaller of `max_tokens` and what the context leaves after a prompt."""
    if context is None:
        return max_tokens
    room = context - len(prompt)
    if room < 1:
        raise BackendError(
            f"the prompt has {len(prompt)} tokens; the context of {context} leaves no room for a "
            "completion; shorten the prompt or choose a longer context"
        )
    return room if max_tokens is None else min(room, max_tokens)


class EngineBackend(Closing):
    """Base class of the backends that run an engine on this machine.

    A subclass sets `_vocabulary_size` and `_context` once its engine has started, and `_closed`
    when it is closed.
    """

    name: str
    supports: frozenset[Feature]
    _vocabulary_size: int
    _context: int
    _closed = False

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids that the model has."""
        return self._vocabulary_size

    @property
    def context(self) -> int:
        """The maximum number of tokens of a prompt and its completion together."""
        return self._context

    @property
    @abstractmethod
    def unfinished_requests(self) -> int:
        """The number of requests that are running or waiting."""

    @abstractmethod
    def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """Generate a completion; see `harmony_kit.engine.Backend`."""

    def _room_for(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
        """Check a request, and return how many tokens may be generated for it."""
        if self._closed:
            raise closed_error(self.name)
        return room_for(
            self, prompt, sampling, context=self._context, vocabulary_size=self._vocabulary_size
        )
