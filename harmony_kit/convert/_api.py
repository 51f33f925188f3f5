"""The protocol of the API packages: `chat_completions`, `responses` and `anthropic` satisfy it.

What the arguments mean is documented here once; the packages document what is special about them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ..sampling import SamplingParams
from ..wire._events import Completion, Event, FinishReason
from ..wire._messages import Message
from ._names import OWN_NAMES, ToolNames
from ._notes import Unsupported
from ._request import HarmonyRequest
from ._store import ResponseStore, StoredResponse


class Encoder(Protocol):
    """Encodes the events of a parser as the stream of an API, for one completion.

    Every method returns the chunks to send next: plain JSON data. Together they accumulate to the
    response that `write_response` makes of the same completion. The first chunks are returned by
    `start`, or by the first call of another method.
    """

    def start(self) -> list[dict[str, Any]]:
        """The first chunks; empty if the stream has already started."""
        ...

    def feed(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """The chunks for some events.

        Args:
            events: What `Parser.feed` or `Parser.close` returned.
        """
        ...

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
            finish_reason: Why the engine stopped, as for `Api.write_response`.

        Raises:
            OptionError: `finish_reason` has an unknown value.
        """
        ...

    def fail(self, error: BaseException | str, *, code: str | None = None) -> list[dict[str, Any]]:
        """The last chunks of a stream that failed: the API's error. Nothing is stored.

        Args:
            error: What went wrong. Its text is sent to the client.
            code: The API's name of the error: `"server_error"` by default, `"api_error"` in
                Anthropic's API.
        """
        ...


class Api(Protocol):
    """The functions of an API package.

    All take and return plain JSON data; reading takes pydantic objects as well. No function reads
    a clock or uses random numbers: ids and times are arguments, and the ids of calls and items are
    derived from the id of the response and their positions.

    Errors: reading and writing raise a `RequestError`, with the JSON path, for data that the API or
    Harmony cannot represent.

    Example:
        >>> from harmony_kit import encode_with_special, parse
        >>> from harmony_kit.convert import anthropic, chat_completions, responses
        >>> apis: list[Api] = [chat_completions, responses, anthropic]
        >>> result = parse(encode_with_special("<|channel|>final<|message|>Hi!<|return|>"))
        >>> for api in apis:
        ...     response = api.write_response(result, id="r1", model="gpt-oss")
        ...     print(api.read_response(response)[0].text)
        Hi!
        Hi!
        Hi!
    """

    def read_request(
        self,
        body: Any,
        *,
        current_date: str | None = None,
        unsupported: Unsupported = "error",
        store: ResponseStore | None = None,
    ) -> HarmonyRequest:
        """Read a request.

        Args:
            body: The request.
            current_date: Today's date for the system message, such as `"2025-06-28"`.
            unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves
                it out and adds a note to the result.
            store: Has the responses to which the request refers, and the reasoning before calls
                for clients that do not send it back.
        """
        ...

    def write_request(
        self,
        messages: Iterable[Message],
        *,
        model: str,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        names: ToolNames = OWN_NAMES,
    ) -> dict[str, Any]:
        """Write a conversation as a request.

        Args:
            messages: The conversation. Of the system message, the reasoning effort and (where the
                API has them) the built-in tools are written: the rest is up to the server.
            model: The model to request.
            max_tokens: The limit on generated tokens; by default that of `sampling`.
            sampling: How to generate.
            names: The client's names of the functions, if they differ from those in `messages`.
        """
        ...

    def write_response(
        self,
        result: Completion,
        *,
        id: str,  # noqa: A002
        model: str,
        created: int = 0,
        request: HarmonyRequest | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int | None = None,
        finish_reason: FinishReason | None = None,
        repair: bool = False,
        store: ResponseStore | None = None,
    ) -> dict[str, Any]:
        """Write a completion as a response.

        Args:
            result: The completion, parsed from token ids.
            id: The id of the response.
            model: The name of the model.
            created: When the response was created, in seconds since 1970. Accepted but not
                written by Anthropic's API, whose messages have no time.
            request: The request, for the declared tools, the client's names of the functions, and
                what a response repeats.
            prompt_tokens: The number of tokens of the prompt.
            completion_tokens: The number of generated tokens; by default those that were parsed.
            finish_reason: Why the engine stopped: `"stop"`, `"length"` or `"abort"`. If it is not
                known, a turn that did not end counts as truncated.
            repair: Whether to repair the arguments of calls, as `tool_calls` does, instead of
                writing them as the model did. Truncated calls are never repaired.
            store: Where to keep the response for later requests, as `stored_response` makes it.

        Raises:
            OptionError: `finish_reason` has an unknown value.
        """
        ...

    def stored_response(
        self,
        request: HarmonyRequest | None,
        result: Completion,
        *,
        id: str,  # noqa: A002
        finish_reason: FinishReason | None = None,
    ) -> StoredResponse:
        """What `write_response` stores, for a store of your own.

        Args:
            request: The request; without it, only the response itself is stored.
            result: The completion.
            id: The id of the response.
            finish_reason: Why the engine stopped. Truncated messages are not stored.
        """
        ...

    def read_response(
        self, response: Any, *, unsupported: Unsupported = "error"
    ) -> tuple[Message, ...]:
        """Read the messages of the model from a response.

        Args:
            response: The response.
            unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves
                it out.
        """
        ...

    def read_messages(
        self,
        messages: Iterable[Any],
        *,
        unsupported: Unsupported = "error",
        store: ResponseStore | None = None,
    ) -> tuple[Message, ...]:
        """Read the messages of a request alone; instructions at the start become one message.

        Args:
            messages: The messages; in the Responses API, the items.
            unsupported: As for `read_response`.
            store: As for `read_request`.
        """
        ...

    def write_messages(
        self, messages: Iterable[Message], *, names: ToolNames = OWN_NAMES
    ) -> list[dict[str, Any]]:
        """Write the messages of a request alone, without its tools and settings.

        Args:
            messages: The messages.
            names: As for `write_request`.
        """
        ...

    def StreamEncoder(  # noqa: N802 (a class in the packages)
        self,
        *,
        id: str,  # noqa: A002
        model: str,
        created: int = 0,
        request: HarmonyRequest | None = None,
        prompt_tokens: int = 0,
        repair: bool = False,
        store: ResponseStore | None = None,
    ) -> Encoder:
        """Make an encoder for one completion.

        The arguments are those of `write_response`. With `repair`, a call is sent whole when it has
        ended, instead of as it is generated.
        """
        ...

    def accumulate(self, chunks: Iterable[Any]) -> dict[str, Any]:
        """The response of a stream; of an incomplete stream, as much as there is.

        Args:
            chunks: The chunks or events.

        Raises:
            RequestError: A chunk is invalid, or there is none.
            HarmonyError: The stream reports an error for which a response of the API has no place.
        """
        ...
