"""The backend protocol: token ids in, token ids out.

A backend has one method and knows nothing of messages. Backends are found by name through the
entry-point group `harmony_kit.backends`, in which any package can register its own; the engine's
package is imported only when its backend is loaded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from .._options import checked_options
from ..errors import BackendError
from ..sampling import SamplingParams
from ..wire._events import FinishReason as FinishReason  # noqa: PLC0414 -- re-exported
from ..wire._vocabulary import SIZE

ENTRY_POINTS: Final = "harmony_kit.backends"


class TokenChunk(NamedTuple):
    """The tokens that an engine generated since the previous chunk.

    Attributes:
        tokens: Token ids, including the stop token if the engine returns it.
        finish_reason: Why the generation ended; set on the last chunk only.
        logprobs: If requested, one mapping per token: from token ids (the generated one and the
            most likely ones) to natural log-probabilities.
    """

    tokens: Sequence[int]
    finish_reason: FinishReason | None = None
    logprobs: Sequence[Mapping[int, float]] | None = None


Feature = Literal["logprobs", "constraint"]
"""A field of `SamplingParams` that not every engine supports."""


@runtime_checkable
class Backend(Protocol):
    """An engine that generates tokens.

    Attributes:
        name: The name in messages to the user.
    """

    name: str

    @property
    def supports(self) -> frozenset[Feature]:
        """The optional features of the engine; `generate` refuses a sampling that needs others.

        The set is fixed, unless the backend has a method `connect`, which asks a remote engine.
        Until then the set contains all features that the engine may have; `supported_by` calls
        `connect`.
        """
        ...

    def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Generate a completion.

        Closing the iterator aborts the generation.

        Args:
            prompt: Token ids.
            sampling: How tokens are chosen, and when to stop.

        Raises:
            BackendError: The engine does not support the request, or failed.
        """
        ...

    async def aclose(self) -> None:
        """Release the backend's resources. May be called more than once."""
        ...


async def completion_of(
    backend: Backend, prompt: Sequence[int], sampling: SamplingParams
) -> AsyncGenerator[TokenChunk, None]:
    """The chunks that a backend generates; closing this iterator aborts the generation.

    Raises:
        BackendError: The engine does not support the request, or failed.
    """
    deltas = backend.generate(prompt, sampling)
    try:
        async for delta in deltas:
            yield delta
    finally:
        # Closing a generator aborts its request; other iterators have no aclose.
        close = getattr(deltas, "aclose", None)
        if close is not None:
            await close()


@checked_options
async def supported_by(backend: Backend) -> frozenset[Feature]:
    """Return the optional features of a backend, asking its engine if necessary.

    Raises:
        BackendError: The engine cannot be asked.

    Example:
        >>> import asyncio
        >>> backend = load_backend("replay", recording="paris-weather")
        >>> asyncio.run(supported_by(backend))
        frozenset({'constraint'})
    """
    connect = getattr(backend, "connect", None)
    if connect is not None:
        await connect()
    return backend.supports


@checked_options
def check_support(backend: Backend, sampling: SamplingParams) -> None:
    """Refuse a sampling that needs features that a backend lacks.

    Backends call this before they generate, so that no request is silently ignored.

    Raises:
        BackendError: A feature is not supported.

    Example:
        >>> backend = load_backend("replay", recording="paris-weather")
        >>> check_support(backend, SamplingParams(temperature=0))
        >>> check_support(backend, SamplingParams(logprobs=1))
        Traceback (most recent call last):
            ...
        harmony_kit.errors.BackendError: replay does not support SamplingParams(logprobs=...)
    """
    for feature in get_args(Feature):
        if getattr(sampling, feature, None) is not None and feature not in backend.supports:
            raise BackendError(f"{backend.name} does not support SamplingParams({feature}=...)")


@checked_options
def check_prompt(prompt: Sequence[int], *, vocabulary_size: int = SIZE) -> None:
    """Refuse a prompt that could crash an engine.

    Many engines use token ids as unchecked indices, so an invalid id crashes them. Backends call
    this before they pass on a prompt.

    Args:
        prompt: Token ids.
        vocabulary_size: The lowest id that the engine does not know.

    Raises:
        BackendError: The prompt is empty, or contains an invalid id; the error names the position
            of the first.

    Example:
        >>> check_prompt([200006, 1428])
        >>> check_prompt([200006, -1])
        Traceback (most recent call last):
            ...
        harmony_kit.errors.BackendError: the prompt has at position 1 -1, ...
    """
    if not prompt:
        raise BackendError("the prompt is empty")
    # A fast check of the whole prompt, then a slow search for the position.
    if set(map(type, prompt)) == {int} and min(prompt) >= 0 and max(prompt) < vocabulary_size:
        return
    for position, token in enumerate(prompt):
        if type(token) is not int or not 0 <= token < vocabulary_size:
            raise BackendError(
                f"the prompt has at position {position} {token!r}, which is no token id of the "
                f"model; ids go from 0 to {vocabulary_size - 1}"
            )


@checked_options
def backend_names() -> list[str]:
    """List the names that `load_backend` knows, from this and other packages.

    Example:
        >>> "replay" in backend_names()
        True
    """
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def load_backend(name: str, **options: Any) -> Backend:
    """Load a backend by name.

    Args:
        name: The name, such as `"replay"`; `backend_names` lists them.
        **options: The arguments of the backend's constructor.

    Raises:
        BackendError: The name is unknown, the engine's package is missing, the options are invalid,
            or the result is not a backend.

    Example:
        >>> backend = load_backend("replay", recording="paris-weather")
        >>> backend.name
        'replay'
    """
    points: tuple[EntryPoint, ...] = tuple(entry_points(group=ENTRY_POINTS, name=name))
    if not points:
        known = ", ".join(backend_names()) or "none"
        raise BackendError(f"unknown backend {name!r}; installed: {known}")
    (point, *_) = points
    try:
        backend = point.load()(**options)
    except ImportError as error:
        package = "harmony-kit" if point.dist is None else point.dist.name
        raise BackendError(
            f"backend {name!r} needs the package {error.name!r}: pip install '{package}[{name}]'"
        ) from error
    except TypeError as error:
        raise BackendError(f"backend {name!r}: {error}") from error
    if lacking := _lacking(backend):
        raise BackendError(
            f"backend {name!r}: {type(backend).__name__} is not a backend: it lacks {lacking}; "
            "see harmony_kit.Backend"
        )
    made: Backend = backend
    return made


def check_backend(backend: object) -> None:
    """Refuse a value that is not a backend.

    Raises:
        BackendError: It lacks members of the protocol; the error names them.
    """
    if lacking := _lacking(backend):
        raise BackendError(
            f"expected a backend, got {backend!r}, which has no {lacking}; "
            "load one with load_backend(name, ...)"
        )


def _lacking(backend: object) -> str:
    """The members of the protocol that an object lacks, as an enumeration."""
    attributes = [name for name in ("name", "supports") if not hasattr(backend, name)]
    methods = [
        f"{name}()" for name in ("generate", "aclose") if not callable(getattr(backend, name, None))
    ]
    *names, last = [*attributes, *methods] or [""]
    return f"{', '.join(names)} and {last}" if names else last
