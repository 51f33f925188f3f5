"""The HTTP backend: any server of completions that takes token ids and gives token ids.

`vllm serve` does, and llama.cpp's server, and sglang's; whoever follows vLLM's shape
(`return_token_ids`) does too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import httpx
from httpx_sse import EventSource, SSEError

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import Feature, TokenChunk, check_prompt, check_support
from harmony_kit.errors import BackendError
from harmony_kit.grammar import Constraint
from harmony_kit.sampling import SamplingParams

from .closing import Closing
from .completions_constraints import SERVER_GRAMMARS, ConstraintsName
from .completions_dialects import Dialect, LlamaCppDialect, SglangDialect, VllmDialect
from .completions_following import GrammarFollower, follow_processor
from .completions_gaps import without_gaps
from .completions_retry import Retries, StatusError, describe, server_message
from .completions_tokens import TokenReader, warn_of_text
from .loop_clients import LoopClients

DialectName = Literal["vllm", "llama_cpp", "sglang", "auto"]

MODEL_VOCABULARY_SIZE: Final = 201088
"""How many tokens the gpt-oss models know: one fewer than o200k_harmony has ids."""

_DIALECTS: Final[dict[str, Dialect]] = {
    "vllm": VllmDialect(),
    "llama_cpp": LlamaCppDialect(),
    "sglang": SglangDialect(),
}

_OWNERS: Final = {"llamacpp": "llama_cpp", "sglang": "sglang"}  # of the models that servers list

_DRAIN_SECONDS: Final = 1.0  # to get a connection back into the pool after the last token


class OpenAICompletionsBackend(Closing):
    """Asks a server for completions.

    Connections are kept and used again. A request is sent anew only if no answer has
    begun: when the server cannot be reached, says that it is busy (429, whose Retry-After
    is honoured) or fails (5xx). Closing the iterator closes the connection, whereupon servers
    give the request up.

    Args:
        base_url: Such as `http://localhost:8000/v1`.
        model: The model's name; where a server has only one it need not be given.
        api_key: Sent as a bearer token.
        timeout: How many seconds the server may be silent.
        max_retries: How often a request is sent anew.
        dialect: What the server is: `"vllm"`, `"llama_cpp"`, `"sglang"`, or `"auto"` to ask it.
        stream: Whether tokens are given as they come, or all at the end. llama.cpp leaves ids
            out of its stream within characters of several tokens; they are found again from
            the text, and where that leaves a doubt the server is asked again for this
            character.
        text_fallback: Whether the text of a server that gives no ids is encoded instead.
            That is not always what the model wrote; a warning says so once.
        vocabulary_size: The lowest id that the model does not know. Prompts with such ids are
            refused, as they end vLLM.
        context: How many tokens a prompt and its completion may have together; by default what
            the server says.
        backoff: How many seconds to wait before the first retry; twice as long before each
            that follows, less a random part.
        extra_body: What else to put into every request, such as `{"priority": 1}`.
        constraints: How the server is told constraints. llama.cpp's gets its `"grammar"`; vLLM's
            gets `"structured_outputs"`, or, where it was started with
            `--logits-processors harmony_backends.constrained:Constrained`, leaves it to this
            `"processor"`. What comes is checked in any case.

    Attributes:
        name: What to call the backend in messages to a person.
        supports: What the server can do beside generating. Where the dialect is stated this is
            so from the start. With `"auto"` it is settled by `connect`, or by the first
            request, and does not change after that; until then it has all that any server may
            be able to do, and `generate` refuses what this one turns out not to.

    Raises:
        BackendError: The dialect is unknown, or knows no such constraints, or the key can be
            none.
    """

    @checked_options
    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        max_retries: int = 5,
        dialect: DialectName = "auto",
        stream: bool = True,
        text_fallback: bool = False,
        vocabulary_size: int = MODEL_VOCABULARY_SIZE,
        context: int | None = None,
        backoff: float = 0.5,
        extra_body: Mapping[str, Any] | None = None,
        constraints: ConstraintsName = "auto",
    ) -> None:
        if dialect != "auto" and dialect not in _DIALECTS:
            raise BackendError(f"unknown dialect {dialect!r}; known: auto, {', '.join(_DIALECTS)}")
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
            # What sends headers would show the key in its error.
            raise BackendError("api_key is empty, or has characters that no header can carry")
        self.name = f"openai_completions at {base_url}"
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._timeout = httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None)
        self._retries = Retries(max_retries, backoff)
        self._constraints = constraints
        self._dialect: Dialect | None = None
        self.supports: frozenset[Feature] = frozenset(get_args(Feature))
        if dialect != "auto":
            self._speak(_DIALECTS[dialect])
        self._context = context
        self._told_context: int | None = None
        self._extra_body = dict(extra_body or {})
        self._is_asked = False
        self._stream = stream
        self._text_fallback = text_fallback
        self._warned = False
        self._vocabulary_size = vocabulary_size
        self._clients = LoopClients(self._new_client)
        self._closed = False

    async def connect(self) -> None:
        """Ask the server what it is and how long its context is, unless both were stated.

        It is asked once; requests see to it by themselves. Do it first where `supports` has to
        be right before a request is made, as for `HarmonyRequest.for_backend`.

        Raises:
            BackendError: The server cannot be reached, is not ready or lets nobody in, or the
                backend is closed.
        """
        await self._meet_server(needs_context=True)

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Have the server complete a prompt; see `harmony_kit.Backend`.

        Raises:
            BackendError: The prompt cannot be completed, or the server failed. What came before
                it failed was delivered.
        """
        self._check_open()
        check_support(self, sampling)
        check_prompt(prompt, vocabulary_size=self._vocabulary_size)
        dialect = await self._meet_server(needs_context=sampling.constraint is not None)
        check_support(self, sampling)  # of a server that was not known before, this says more
        if sampling.constraint is None:
            whole = without_gaps(self._complete, list(prompt), sampling, stream=self._stream)
        else:
            whole = self._constrained(dialect, list(prompt), sampling, sampling.constraint)
        async with aclosing(whole) as deltas:
            async for delta in deltas:
                yield delta

    async def _constrained(
        self,
        dialect: Dialect,
        prompt: list[int],
        sampling: SamplingParams,
        constraint: Constraint,
    ) -> AsyncGenerator[TokenChunk, None]:
        """What the server answers under a constraint, checked token by token."""
        sampling = self._limited(prompt, sampling, is_needed=True)
        options: dict[str, Any] = {"stream": self._stream, "vocabulary_size": self._vocabulary_size}
        arguments = (self._complete, prompt, sampling, constraint)
        way = dialect.constraints[0] if self._constraints == "auto" else self._constraints
        if way == "processor":
            completion = follow_processor(*arguments, **options)
        else:
            completion = GrammarFollower(*arguments, SERVER_GRAMMARS[way], **options).deltas()
        async with aclosing(completion) as deltas:
            async for delta in deltas:
                yield delta

    async def _complete(
        self,
        prompt: list[int],
        sampling: SamplingParams,
        stream: bool,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> AsyncGenerator[TokenChunk, None]:
        """What the server answers to one request, which may have more fields."""
        reader = TokenReader(sampling, self._on_text)
        async with self._named_errors():
            response = await self._post(prompt, sampling, stream, more)
            try:
                async with aclosing(self._deltas(response, reader)) as deltas:
                    async for delta in deltas:
                        yield delta
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _named_errors(self) -> AsyncIterator[None]:
        """Errors of the connection as errors of this backend."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise BackendError(
                f"{self.name}: the server was silent for {self._timeout.read} s"
            ) from error
        except (httpx.TransportError, httpx.StreamError) as error:
            self._check_open()
            raise BackendError(f"{self.name}: {describe(error)}") from error
        except httpx.InvalidURL as error:
            raise BackendError(f"{self.name}: {error}") from error
        except RuntimeError:
            self._check_open()  # closed between two attempts
            raise

    async def aclose(self) -> None:
        """Close all connections.

        Those of an event loop that has ended were closed when it ended.
        """
        self._closed = True
        await self._clients.aclose()

    # --- The request ------------------------------------------------------------------------

    async def _post(
        self, prompt: list[int], sampling: SamplingParams, stream: bool, more: Mapping[str, Any]
    ) -> httpx.Response:
        self._check_open()  # a completion may take several requests
        dialect = self._dialect
        assert dialect is not None
        client = (await self._clients.get()).client
        sampling = self._limited(prompt, sampling, is_needed=dialect.needs_limit)
        body = dialect.body(prompt, sampling)
        body["stream"] = stream
        if dialect.needs_model:
            body["model"] = self._model
        given = {name: value for name, value in body.items() if value is not None}
        for name, value in (*self._extra_body.items(), *more.items()):
            present = given.get(name)
            if isinstance(present, dict) and isinstance(value, Mapping):
                given[name] = {**present, **value}
            else:
                given[name] = value
        request = client.build_request("POST", dialect.url(self._base_url), json=given)
        return await self._retries.send(client, request, self.name)

    def _limited(
        self, prompt: list[int], sampling: SamplingParams, *, is_needed: bool
    ) -> SamplingParams:
        """With the token limit that the context leaves, where the server tells what that is."""
        context = self._context
        if context is None and is_needed:
            context = self._told_context
        if context is None:
            if is_needed and sampling.max_tokens is None:
                # The server's own would cut the completion off after a few tokens, or anywhere.
                raise BackendError(
                    f"{self.name}: the server does not say how long its context is; say it by "
                    "context=..., or give max_tokens"
                )
            return sampling
        room = context - len(prompt)
        if room < 1:
            raise BackendError(
                f"the prompt has {len(prompt)} tokens; the context of {context} leaves "
                "no room for a completion"
            )
        limit = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
        return replace(sampling, max_tokens=limit)

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout,
            # The server sets the limit to what runs at once: it is what knows.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=not _is_on_this_machine(self._base_url),  # no proxy leads there
        )

    # --- The server -------------------------------------------------------------------------

    async def _meet_server(self, *, needs_context: bool) -> Dialect:
        """Ask the server, once, for what is needed and was not said about it."""
        self._check_open()
        if self._is_unknown(needs_context):
            here = await self._clients.get()
            async with self._named_errors(), here.asking:
                if self._is_unknown(needs_context):
                    self._note_models(await self._list_models(here.client))
        assert self._dialect is not None
        return self._dialect

    def _is_unknown(self, needs_context: bool) -> bool:
        if self._is_asked:
            return False
        dialect = self._dialect
        return dialect is None or (self._context is None and (needs_context or dialect.needs_limit))

    def _note_models(self, models: list[dict[str, Any]]) -> None:
        if self._dialect is None:
            owners = {model.get("owned_by") for model in models}
            # Whoever does not say what it is speaks as vLLM.
            name = next((_OWNERS[owner] for owner in _OWNERS if owner in owners), "vllm")
            self._speak(_DIALECTS[name])
        self._told_context = _context(models, self._model)
        self._is_asked = True

    def _speak(self, dialect: Dialect) -> None:
        """Speak a dialect from now on."""
        known = dialect.constraints
        if self._constraints not in ("auto", *known):
            raise BackendError(
                f"{self.name}: constraints is {self._constraints!r}; such a server knows "
                f"{', '.join(('auto', *known))}"
            )
        self._dialect = dialect
        self.supports = dialect.supports | {"constraint"} if known else dialect.supports

    async def _list_models(self, client: httpx.AsyncClient) -> list[dict[str, Any]]:
        """What the server says of its models; nothing if it has no such list."""
        request = client.build_request("GET", self._base_url + "/models")
        try:
            response = await self._retries.send(client, request, self.name)
        except StatusError as error:
            if error.status in (401, 403) or error.is_passing:
                raise
            return []
        try:
            models = json.loads(await response.aread())["data"]
            return [model for model in models if isinstance(model, dict)]
        except (ValueError, KeyError, TypeError):
            return []
        finally:
            await response.aclose()

    # --- The answer -------------------------------------------------------------------------

    async def _deltas(
        self, response: httpx.Response, reader: TokenReader
    ) -> AsyncGenerator[TokenChunk, None]:
        assert self._dialect is not None
        ended = False
        async with aclosing(self._events(response)) as events:
            async for event in events:
                piece = self._dialect.read(event)
                if piece is None:
                    continue
                delta = reader.read(piece)
                ended = delta.finish_reason is not None
                if ended or delta.tokens:
                    yield delta
                if ended:
                    with suppress(TimeoutError, httpx.HTTPError, BackendError):
                        async with asyncio.timeout(_DRAIN_SECONDS):
                            if piece.finish_reason is not None or await self._is_over(events):
                                await _exhaust(events)
                    return
        raise BackendError(f"{self.name}: the stream ended without a finish reason")

    async def _is_over(self, events: AsyncGenerator[Mapping[str, Any], None]) -> bool:
        """Whether the server, too, sees that the completion is over, as its next event says."""
        assert self._dialect is not None
        piece = self._dialect.read(await anext(events, {}))
        return piece is not None and piece.finish_reason is not None

    async def _events(self, response: httpx.Response) -> AsyncGenerator[Mapping[str, Any], None]:
        """The objects that a server sends."""
        if response.headers.get("content-type", "").partition(";")[0] == "application/json":
            yield self._object((await response.aread()).decode("utf-8", "replace"))
            return
        try:
            async with aclosing(EventSource(response).aiter_sse()) as sent:
                async for event in sent:
                    if event.data == "[DONE]":
                        await _exhaust(sent)
                        return
                    if event.data:
                        yield self._object(event.data)
        except SSEError as error:
            raise BackendError(f"{self.name}: {error}") from error

    def _object(self, text: str) -> Mapping[str, Any]:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise BackendError(
                f"{self.name}: the server sent what is no JSON object: {text[:200]!r}"
            )
        if "error" in value or value.get("object") == "error":
            raise BackendError(f"{self.name}: {server_message(text)}")
        return value

    def _on_text(self) -> None:
        if not self._text_fallback:
            raise BackendError(
                f"{self.name}: the server gives no token ids (vLLM does since 0.10.2, asked by "
                "return_token_ids); text_fallback=True encodes its text instead"
            )
        if not self._warned:
            self._warned = True
            warn_of_text(self.name)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError(f"{self.name} is closed")


def _is_on_this_machine(url: str) -> bool:
    host = re.match(r"\w+://(?:[^@/]*@)?(\[[^]]*\]|[^:/]*)", url)
    return host is not None and re.fullmatch(r"localhost|127\.[\d.]+|\[::1\]", host[1]) is not None


def _context(models: list[dict[str, Any]], name: str | None) -> int | None:
    for model in models:
        about = model.get("meta")  # where llama.cpp says it
        found = about.get("n_ctx") if isinstance(about, dict) else model.get("max_model_len")
        if name in (None, model.get("id")) and type(found) is int:
            return found
    return None


async def _exhaust(events: AsyncIterator[Any]) -> None:
    async for _ in events:
        pass
