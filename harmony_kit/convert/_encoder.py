"""What the stream encoders of all APIs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from .._options import checked_options
from ..wire._events import Completion, Event, FinishReason, check_finish_reason
from ._reply import TokenCounts, count_tokens
from ._request import HarmonyRequest
from ._stops import StopCutter, cut_at_stop, stops_of
from ._store import ResponseStore, StoredResponse


class StreamEncoder(ABC):
    """An `Encoder` without the format of its chunks.

    The methods `_write_…` append chunks to `sent`.
    """

    @checked_options
    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        model: str,
        created: int = 0,
        request: HarmonyRequest | None = None,
        prompt_tokens: int = 0,
        repair: bool = False,
        store: ResponseStore | None = None,
    ) -> None:
        self._id = id
        self._model = model
        self._created = created
        self._request = request
        self._prompt_tokens = prompt_tokens
        self._repair = repair
        self._store = store
        self._is_started = False
        self._stops = StopCutter(stops_of(request))
        self._stop_text: str | None = None  # the stop text at which the stream ended
        self._prepare()

    def start(self) -> list[dict[str, Any]]:
        """The first chunks; empty if the stream has already started."""
        if self._is_started:
            return []
        self._is_started = True
        return self._opening()

    def feed(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """The chunks for events of a parser.

        Args:
            events: What `Parser.feed` or `Parser.close` returned.
        """
        sent = [] if self._is_started else self.start()
        self._write_events(self._stops.feed(events), sent)
        return sent

    @checked_options
    def close(
        self,
        result: Completion,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        finish_reason: FinishReason | None = None,
    ) -> list[dict[str, Any]]:
        """The last chunks; the response goes to the store, if there is one.

        Args:
            result: The result of the parser, whose last events were fed.
            prompt_tokens: The number of tokens of the prompt; by default that given to the
                constructor.
            completion_tokens: The number of generated tokens; by default those that were parsed.
            finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`.

        Raises:
            OptionError: `finish_reason` has an unknown value.
        """
        check_finish_reason(finish_reason)
        sent = self.start()
        prompt = self._prompt_tokens if prompt_tokens is None else prompt_tokens
        counts = count_tokens(result, prompt, completion_tokens)
        result, self._stop_text = cut_at_stop(result, stops_of(self._request))
        if self._stop_text is not None:
            finish_reason = "stop"
        self._write_end(result, counts, finish_reason, sent)
        if self._store is not None:
            self._store.put(self._id, self._stored(result, finish_reason))
        return sent

    @checked_options
    def fail(self, error: BaseException | str, *, code: str | None = None) -> list[dict[str, Any]]:
        """The last chunks of a stream that failed: the API's error. Nothing is stored.

        Args:
            error: What went wrong. Its text is sent to the client.
            code: The API's name of the error; that of an error of the server by default.
        """
        sent = self.start()
        message = error if isinstance(error, str) else str(error) or type(error).__name__
        self._write_failure(message, code, sent)
        return sent

    @abstractmethod
    def _prepare(self) -> None:
        """Set up the state of a stream."""

    @abstractmethod
    def _opening(self) -> list[dict[str, Any]]: ...

    @abstractmethod
    def _write_events(self, events: Iterable[Event], sent: list[dict[str, Any]]) -> None: ...

    @abstractmethod
    def _write_end(
        self,
        result: Completion,
        counts: TokenCounts,
        finish_reason: FinishReason | None,
        sent: list[dict[str, Any]],
    ) -> None: ...

    @abstractmethod
    def _write_failure(
        self, message: str, code: str | None, sent: list[dict[str, Any]]
    ) -> None: ...

    @abstractmethod
    def _stored(self, result: Completion, finish_reason: FinishReason | None) -> StoredResponse: ...
