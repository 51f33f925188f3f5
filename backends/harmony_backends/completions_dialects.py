"""What servers of completions are asked, and how they answer: the shapes that differ.

vLLM speaks `/v1/completions` with token ids in both directions; llama.cpp gives ids only
from its own `/completion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from harmony_kit.errors import BackendError
from harmony_kit.generation import FinishReason
from harmony_kit.sampling import Sampling


class Piece(NamedTuple):
    """What one event of a server's stream says.

    Attributes:
        tokens: The ids of new tokens; `None` where the server gives none.
        text: Their text.
        finish_reason: Why the generation ended, on the last piece.
        generated: How many tokens there are so far, where the server counts them.
        stop_token: The token that ended the generation, where the server names it.
    """

    tokens: Sequence[int] | None
    text: str = ""
    finish_reason: FinishReason | None = None
    generated: int | None = None
    stop_token: int | None = None


class Dialect(Protocol):
    """How a kind of server is spoken to."""

    def url(self, base_url: str) -> str:
        """Where to post requests.

        Args:
            base_url: As the user gave it, without a slash at its end.
        """
        ...

    def body(self, prompt: list[int], sampling: Sampling) -> dict[str, Any]:
        """What to post, but for the model and whether to stream.

        Args:
            prompt: Token ids.
            sampling: How to choose tokens, and when to stop.
        """
        ...

    def read(self, event: Mapping[str, Any]) -> Piece | None:
        """What an event says; `None` if nothing about tokens.

        Args:
            event: The event's data.

        Raises:
            BackendError: It is not of the shape that it should have.
        """
        ...


class VllmDialect:
    """`/v1/completions` as vLLM has it, and who follows it."""

    _FINISH_REASONS: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}

    def url(self, base_url: str) -> str:
        """See `Dialect`."""
        return base_url + "/completions"

    def body(self, prompt: list[int], sampling: Sampling) -> dict[str, Any]:
        """See `Dialect`."""
        return {
            "prompt": prompt,
            # Without it the limit is 16; null is no limit.
            "max_tokens": sampling.max_tokens,
            "return_token_ids": True,
            "stop_token_ids": list(sampling.stop_tokens),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **_common(sampling),
        }

    def read(self, event: Mapping[str, Any]) -> Piece | None:
        """See `Dialect`."""
        choices = event.get("choices")
        if choices == []:
            return None  # the usage, at the end
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise BackendError(f"the server sent an event without choices: {_short(event)}")
        choice: dict[str, Any] = choices[0]
        reason = choice.get("finish_reason")
        stop = choice.get("stop_reason")
        return Piece(
            _token_ids(choice.get("token_ids")),
            choice.get("text") or "",
            None if reason is None else self._FINISH_REASONS.get(reason, "abort"),
            stop_token=stop if type(stop) is int else None,
        )


class LlamaCppDialect:
    """llama.cpp's own `/completion`.

    It knows no stop tokens beside the model's own. Others end the generation all the same:
    the backend watches for them and gives the request up.
    """

    def url(self, base_url: str) -> str:
        """See `Dialect`."""
        return base_url.removesuffix("/v1") + "/completion"

    def body(self, prompt: list[int], sampling: Sampling) -> dict[str, Any]:
        """See `Dialect`."""
        limit = sampling.max_tokens
        return {
            "prompt": prompt,
            "n_predict": -1 if limit is None else limit,
            "return_tokens": True,
            "cache_prompt": True,
            **_common(sampling),
        }

    def read(self, event: Mapping[str, Any]) -> Piece | None:
        """See `Dialect`."""
        if "content" not in event:
            raise BackendError(f"the server sent an event without content: {_short(event)}")
        reason: FinishReason | None = None
        if event.get("stop") is True:
            limited = event.get("stop_type") == "limit" or event.get("stopped_limit") is True
            reason = "length" if limited else "stop"
        generated = event.get("tokens_predicted")
        return Piece(
            _token_ids(event.get("tokens")),
            event.get("content") or "",
            reason,
            generated if type(generated) is int else None,
        )


def _common(sampling: Sampling) -> dict[str, Any]:
    """What all servers call the same; what is not said is left to the server."""
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _token_ids(value: Any) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise BackendError(f"the server sent what are no token ids: {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"
