"""The request and response formats of servers of completions.

vLLM's `/v1/completions` has token ids in both directions; llama.cpp returns ids only from its own
`/completion`, and sglang from its own `/generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from harmony_kit.engine._protocol import Feature, FinishReason
from harmony_kit.errors import BackendError
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import END_OF_TEXT

from ._constraints import ConstraintsName


class ServerChunk(NamedTuple):
    """The content of one event of a server's stream.

    Attributes:
        tokens: The ids of new tokens; `None` if the server returns none.
        text: Their text.
        finish_reason: On the last chunk, why the generation ended.
        generated: The number of tokens so far, if the server counts them.
        stop_token: The token that ended the generation, if the server names it.
        logprobs: The log-probabilities of the last tokens of `tokens`, if requested.
        is_from_start: Whether `tokens` are all tokens so far rather than the new ones.
    """

    tokens: Sequence[int] | None
    text: str = ""
    finish_reason: FinishReason | None = None
    generated: int | None = None
    stop_token: int | None = None
    logprobs: Sequence[Mapping[int, float]] | None = None
    is_from_start: bool = False


class Dialect(Protocol):
    """The HTTP interface of a kind of server.

    Attributes:
        supports: The features of such a server, apart from constraints.
        needs_limit: Whether the server limits requests that have no token limit.
        needs_model: Whether a request names the model.
        constraints: The ways to send such a server a constraint, the usual one first.
    """

    supports: ClassVar[frozenset[Feature]]
    needs_limit: ClassVar[bool]
    needs_model: ClassVar[bool]
    constraints: ClassVar[tuple[ConstraintsName, ...]]

    def url(self, base_url: str) -> str:
        """The URL for requests, from a base URL without a slash at its end."""
        ...

    def body(self, prompt: list[int], sampling: SamplingParams) -> dict[str, Any]:
        """The fields of a request, except for the model and `stream`; `None` is left out."""
        ...

    def read(self, event: Mapping[str, Any]) -> ServerChunk | None:
        """Read the data of an event; `None` if it is not about tokens.

        Raises:
            BackendError: The event is malformed.
        """
        ...


class VllmDialect:
    """vLLM's `/v1/completions`."""

    supports: ClassVar[frozenset[Feature]] = frozenset({"logprobs"})
    needs_limit: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True
    constraints: ClassVar[tuple[ConstraintsName, ...]] = ("structured_outputs", "processor")

    def url(self, base_url: str) -> str:
        """See `Dialect`."""
        return base_url + "/completions"

    def body(self, prompt: list[int], sampling: SamplingParams) -> dict[str, Any]:
        """See `Dialect`."""
        logprobs = sampling.logprobs
        return {
            "prompt": prompt,
            "max_tokens": sampling.max_tokens,
            "return_token_ids": True,
            # Only the requested stop tokens, not those of the model's files.
            "ignore_eos": True,
            "stop_token_ids": [*sampling.stop_tokens, END_OF_TEXT],
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **_common(sampling),
            "seed": sampling.seed,
            "logprobs": logprobs,
            "return_tokens_as_token_ids": None if logprobs is None else True,
        }

    def read(self, event: Mapping[str, Any]) -> ServerChunk | None:
        """See `Dialect`."""
        choices = event.get("choices")
        if choices == []:
            return None  # the usage, at the end
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise BackendError(f"the server sent an event without choices: {_short(event)}")
        choice: dict[str, Any] = choices[0]
        reason = choice.get("finish_reason")
        stop = choice.get("stop_reason")
        return ServerChunk(
            _token_ids(choice.get("token_ids")),
            choice.get("text") or "",
            None if reason is None else _FINISH_REASONS.get(reason, "abort"),
            stop_token=stop if type(stop) is int else None,
            logprobs=self._logprobs(choice.get("logprobs")),
        )

    @staticmethod
    def _logprobs(value: Any) -> list[dict[int, float]] | None:
        """From names such as `token_id:123`, as `return_tokens_as_token_ids` makes them."""
        if value is None:
            return None
        try:
            return [
                {int(name.removeprefix("token_id:")): found for name, found in tokens.items()}
                for tokens in value["top_logprobs"]
            ]
        except (TypeError, KeyError, AttributeError, ValueError):
            raise _invalid_logprobs(value) from None


class LlamaCppDialect:
    """llama.cpp's own `/completion`.

    It has no stop tokens other than the model's: at any other requested stop token, the backend
    ends the completion and aborts the request.
    """

    supports: ClassVar[frozenset[Feature]] = frozenset({"logprobs"})
    needs_limit: ClassVar[bool] = False
    needs_model: ClassVar[bool] = True
    constraints: ClassVar[tuple[ConstraintsName, ...]] = ("grammar",)

    def url(self, base_url: str) -> str:
        """See `Dialect`."""
        return base_url.removesuffix("/v1") + "/completion"

    def body(self, prompt: list[int], sampling: SamplingParams) -> dict[str, Any]:
        """See `Dialect`."""
        limit = sampling.max_tokens
        return {
            "prompt": prompt,
            "n_predict": -1 if limit is None else limit,
            "return_tokens": True,
            "cache_prompt": True,
            **_common(sampling),
            "seed": sampling.seed,
            # 0 would return no log-probabilities at all.
            "n_probs": None if sampling.logprobs is None else max(sampling.logprobs, 1),
        }

    def read(self, event: Mapping[str, Any]) -> ServerChunk | None:
        """See `Dialect`."""
        if "content" not in event:
            raise BackendError(f"the server sent an event without content: {_short(event)}")
        reason: FinishReason | None = None
        if event.get("stop") is True:
            limited = event.get("stop_type") == "limit" or event.get("stopped_limit") is True
            reason = "length" if limited else "stop"
        generated = event.get("tokens_predicted")
        return ServerChunk(
            _token_ids(event.get("tokens")),
            event.get("content") or "",
            reason,
            generated if type(generated) is int else None,
            logprobs=self._logprobs(event.get("completion_probabilities")),
        )

    @staticmethod
    def _logprobs(value: Any) -> list[dict[int, float]] | None:
        if value is None:
            return None
        try:
            return [
                {found["id"]: found["logprob"] for found in (token, *token["top_logprobs"])}
                for token in value
            ]
        except (TypeError, KeyError):
            raise _invalid_logprobs(value) from None


class SglangDialect:
    """sglang's own `/generate`, written after its documentation.

    Depending on how the server was started, its events have all ids so far or only the new ones;
    their number of tokens so far shows which.
    """

    supports: ClassVar[frozenset[Feature]] = frozenset({"logprobs"})
    needs_limit: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False
    constraints: ClassVar[tuple[ConstraintsName, ...]] = ()

    def url(self, base_url: str) -> str:
        """See `Dialect`."""
        return base_url.removesuffix("/v1") + "/generate"

    def body(self, prompt: list[int], sampling: SamplingParams) -> dict[str, Any]:
        """See `Dialect`."""
        return {
            "input_ids": prompt,
            "sampling_params": {
                # If it is left out, the limit is 128; null is no limit.
                "max_new_tokens": sampling.max_tokens,
                "ignore_eos": True,
                "stop_token_ids": [*sampling.stop_tokens, END_OF_TEXT],
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
                "no_stop_trim": True,
                **_given(_common(sampling) | {"sampling_seed": sampling.seed}),
            },
            "return_logprob": None if sampling.logprobs is None else True,
            "top_logprobs_num": sampling.logprobs,
        }

    def read(self, event: Mapping[str, Any]) -> ServerChunk | None:
        """See `Dialect`."""
        tokens, about = _token_ids(event.get("output_ids")), event.get("meta_info")
        if tokens is None or not isinstance(about, dict):
            raise BackendError(f"the server sent an event without output_ids: {_short(event)}")
        finish = about.get("finish_reason") or {}
        if finish.get("type") == "abort" and finish.get("message"):
            raise BackendError(f"the server aborted the request: {finish['message']}")
        reason = finish.get("type")
        return ServerChunk(
            tokens,
            finish_reason=None if reason is None else _FINISH_REASONS.get(reason, "abort"),
            logprobs=self._logprobs(about),
            is_from_start=len(tokens) == about.get("completion_tokens"),
        )

    @staticmethod
    def _logprobs(about: Mapping[str, Any]) -> list[dict[int, float]] | None:
        own = about.get("output_token_logprobs")
        if own is None:
            return None
        likeliest = about.get("output_top_logprobs") or [None] * len(own)
        try:
            return [
                {token: logprob for logprob, token, *_ in (chosen, *(others or ()))}
                for chosen, others in zip(own, likeliest, strict=True)
            ]
        except (TypeError, ValueError):
            raise _invalid_logprobs(own) from None


_FINISH_REASONS: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}


def _common(sampling: SamplingParams) -> dict[str, Any]:
    """The fields that have the same names for all servers."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not `None`; the server has defaults for the others."""
    return {name: value for name, value in fields.items() if value is not None}


def _invalid_logprobs(value: Any) -> BackendError:
    return BackendError(f"the server sent invalid log-probabilities: {_short(value)}")


def _token_ids(value: Any) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise BackendError(f"the server sent invalid token ids: {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"
