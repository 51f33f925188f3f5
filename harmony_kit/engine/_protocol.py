"""Backends: what generates tokens. Token ids go in, token ids come out.

A backend has one method and knows nothing of messages. Engines are found by name through
the entry-point group `harmony_kit.backends`, where any package can register its own; the
engine's package is imported only when its backend is loaded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from .._options import checked_options
from ..errors import BackendError
from ..sampling import SamplingParams
from ..wire._events import FinishReason as FinishReason  # noqa: PLC0414 -- it is found here, too
from ..wire._vocabulary import SIZE

ENTRY_POINTS: Final = "harmony_kit.backends"


class TokenChunk(NamedTuple):
    """What an engine has generated since the last delta.

    Attributes:
        tokens: Token ids, the stop token included where the engine gives it.
        finish_reason: On the last delta, why the generation ended.
        logprobs: Where they were asked for, one mapping for each of the tokens: from token ids
            (it and the likeliest) to their natural log-probabilities.
    """

    tokens: Sequence[int]
    finish_reason: FinishReason | None = None
    logprobs: Sequence[Mapping[int, float]] | None = None


Feature = Literal["logprobs", "constraint"]
"""A field of `SamplingParams` that asks for what not every engine can do."""


@runtime_checkable
class Backend(Protocol):
    """Anything that generates tokens.

    Attributes:
        name: What to call it in messages to a person.
    """

    name: str

    @property
    def supports(self) -> frozenset[Feature]:
        """What it can do beside generating; `generate` refuses a sampling that asks for more.

        It does not change, unless the backend has a method `connect`, which finds out what an
        engine elsewhere can do. Until then these are all the features that the engine may have.
        `supported_by` sees to that.
        """
        ...

    def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Generate a completion.

        Closing the iterator aborts the generation.

        Args:
            prompt: Token ids.
            sampling: How to choose tokens, and when to stop.

        Raises:
            BackendError: The engine cannot do it, or failed.
        """
        ...

    async def aclose(self) -> None:
        """Free what the backend holds. May be called more than once."""
        ...


async def completion_of(
    backend: Backend, prompt: Sequence[int], sampling: SamplingParams
) -> AsyncGenerator[TokenChunk, None]:
    """What a backend generates; closing this aborts the generation.

    Args:
        backend: What generates.
        prompt: Token ids.
        sampling: How to choose tokens, and when to stop.

    Yields:
        The deltas.

    Raises:
        BackendError: The engine cannot do it, or failed.
    """
    deltas = backend.generate(prompt, sampling)
    try:
        async for delta in deltas:
            yield delta
    finally:
        # An iterator need not be a generator; one that is aborts its request this way.
        close = getattr(deltas, "aclose", None)
        if close is not None:
            await close()


@checked_options
async def supported_by(backend: Backend) -> frozenset[Feature]:
    """What a backend can do beside generating; one that has to ask its engine does so now.

    Args:
        backend: The backend.

    Raises:
        BackendError: The engine cannot be asked.
    """
    connect = getattr(backend, "connect", None)
    if connect is not None:
        await connect()
    return backend.supports


@checked_options
def check_support(backend: Backend, sampling: SamplingParams) -> None:
    """Refuse a sampling that asks for what a backend cannot do.

    Backends call this before they generate: what was asked for is never left out in silence.

    Args:
        backend: What shall generate.
        sampling: What is asked for.

    Raises:
        BackendError: The backend cannot do it.
    """
    for feature in get_args(Feature):
        if getattr(sampling, feature, None) is not None and feature not in backend.supports:
            raise BackendError(f"{backend.name} does not support SamplingParams({feature}=...)")


@checked_options
def check_prompt(prompt: Sequence[int], *, vocabulary_size: int = SIZE) -> None:
    """Refuse a prompt that would harm an engine.

    Many engines look an id up without looking at it, and one that is none ends them. Backends
    call this before a prompt reaches theirs.

    Args:
        prompt: Token ids.
        vocabulary_size: The lowest id that the engine does not know.

    Raises:
        BackendError: The prompt is empty, or something in it is no id; the error names the
            position of the first.
    """
    if not prompt:
        raise BackendError("the prompt is empty")
    # The whole first, which is fast; then the place.
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
    """The names that `load_backend` knows, of this and of other packages."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def load_backend(name: str, **options: Any) -> Backend:
    """Load a backend by name.

    Args:
        name: The name, such as `"replay"`; `backend_names` lists them.
        **options: What the backend's constructor takes.

    Raises:
        BackendError: The name is unknown, the engine's package is missing, the options do not
            fit, or what was made is no backend.
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
            f"backend {name!r}: {type(backend).__name__} is no backend: it lacks {lacking}; "
            "see harmony_kit.Backend"
        )
    made: Backend = backend
    return made


def _lacking(backend: object) -> str:
    """The members of the protocol that an object does not have, in words."""
    attributes = [name for name in ("name", "supports") if not hasattr(backend, name)]
    methods = [
        f"{name}()" for name in ("generate", "aclose") if not callable(getattr(backend, name, None))
    ]
    *names, last = [*attributes, *methods] or [""]
    return f"{', '.join(names)} and {last}" if names else last
