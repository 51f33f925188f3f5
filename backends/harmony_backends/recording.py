"""Recordings of prompts and completions, as JSON lines.

A line is an object: `prompt` and `completion` are lists of token ids, and `finish_reason` is why
the generation ended. Other keys, such as a note, are ignored.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, get_args

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import (
    Backend,
    Feature,
    FinishReason,
    TokenChunk,
    completion_of,
    supported_by,
)
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams

from .closing import Closing

_FINISH_REASONS: Final = get_args(FinishReason)


@dataclass(frozen=True)
class Exchange:
    """A prompt and its completion.

    Attributes:
        prompt: Token ids.
        completion: Token ids, including the stop token if the engine delivered it.
        finish_reason: Why the generation ended.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    finish_reason: FinishReason

    def to_json(self) -> str:
        """The exchange as a line of a recording, without the line break.

        Example:
            >>> Exchange((1, 2), (3, 200002), "stop").to_json()
            '{"prompt":[1,2],"completion":[3,200002],"finish_reason":"stop"}'
        """
        fields = {
            "prompt": self.prompt,
            "completion": self.completion,
            "finish_reason": self.finish_reason,
        }
        return json.dumps(fields, separators=(",", ":"))


def read_recording(recording: str | Path) -> list[Exchange]:
    """Read a recording.

    Args:
        recording: A path, or the name of a recording that ships with the package.

    Raises:
        BackendError: There is no such recording, or a line of it is not an exchange; the error
            names the line.

    Example:
        >>> [exchange.finish_reason for exchange in read_recording("paris-weather")]
        ['stop', 'stop']
    """
    path = Path(recording)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        shipped = files(__package__).joinpath("recordings", f"{recording}.jsonl")
        if path.suffix or not shipped.is_file():
            names = ", ".join(shipped_recordings())
            raise BackendError(
                f"no recording {str(recording)!r}: {error.strerror}; shipped: {names}"
            ) from None
        text = shipped.read_text(encoding="utf-8")
    return list(_exchanges(text.splitlines(), str(recording)))


def shipped_recordings() -> list[str]:
    """The names of the recordings that ship with the package.

    Example:
        >>> "paris-weather" in shipped_recordings()
        True
    """
    names = (entry.name for entry in files(__package__).joinpath("recordings").iterdir())
    return sorted(name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl"))


def _exchanges(lines: Iterable[str], name: str) -> Iterator[Exchange]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _exchange(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise BackendError(f"{name}, line {number}: {reason}") from None


def _exchange(fields: Any) -> Exchange:
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    finish_reason = fields.get("finish_reason", "stop")
    if finish_reason not in _FINISH_REASONS:
        raise ValueError(f"unknown finish_reason {finish_reason!r}")
    return Exchange(
        _token_ids(fields["prompt"], "prompt"),
        _token_ids(fields["completion"], "completion"),
        finish_reason,
    )


def _token_ids(values: Any, name: str) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise ValueError(f"{name} is not a list of token ids")
    return tuple(values)


class RecordingBackend(Closing):
    """Wraps a backend and appends its prompts and completions to a recording.

    An aborted generation is recorded as far as it went, with `"abort"`. A prompt that the backend
    refuses is not recorded.

    Args:
        backend: The backend to record.
        path: The recording's file; new exchanges are appended.

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> import harmony_kit as hk
        >>> import tempfile
        >>> from harmony_backends.function import FunctionBackend
        >>> answers = FunctionBackend(lambda *_: "<|channel|>final<|message|>Yes<|return|>")
        >>> with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        ...     reply = hk.run([hk.user("Hi")], RecordingBackend(answers, file.name))
        ...     (exchange,) = read_recording(file.name)
        >>> hk.decode(exchange.completion)
        '<|channel|>final<|message|>Yes<|return|>'
    """

    @checked_options
    def __init__(self, backend: Backend, path: str | Path) -> None:
        self.name = f"recording of {backend.name}"
        self._backend = backend
        self._path = Path(path)
        self._write("")

    @property
    def supports(self) -> frozenset[Feature]:
        """The features that the wrapped backend supports."""
        return self._backend.supports

    async def connect(self) -> None:
        """Let the wrapped backend determine what it supports."""
        await supported_by(self._backend)

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Generate with the wrapped backend; see `harmony_kit.engine.Backend`."""
        completion: list[int] = []
        finish_reason: FinishReason = "abort"
        refused = False
        try:
            async with aclosing(completion_of(self._backend, prompt, sampling)) as chunks:
                async for chunk in chunks:
                    completion += chunk.tokens
                    finish_reason = chunk.finish_reason or finish_reason
                    yield chunk
        except BackendError:
            refused = not completion
            raise
        finally:
            if not refused:
                exchange = Exchange(tuple(prompt), tuple(completion), finish_reason)
                self._write(exchange.to_json() + "\n")

    async def aclose(self) -> None:
        """Close the wrapped backend."""
        await self._backend.aclose()

    def _write(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)
