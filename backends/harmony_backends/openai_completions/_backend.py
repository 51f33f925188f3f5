"""The HTTP backend: any server of completions that takes and returns token ids.

These are vLLM's, llama.cpp's and sglang's, and servers with vLLM's `return_token_ids`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import httpx

from harmony_kit._options import checked_options
from harmony_kit.engine._protocol import Feature, TokenChunk, check_support
from harmony_kit.errors import BackendError
from harmony_kit.grammar import Constraint
from harmony_kit.sampling import SamplingParams

from .._limits import closed_error, room_for, tokens_left
from .._stop_texts import until_stop_text
from ..closing import Closing
from ._answers import read_answer
from ._clients import LoopClients
from ._constraints import SERVER_GRAMMARS, ConstraintsName
from ._dialects import Dialect, LlamaCppDialect, SglangDialect, VllmDialect
from ._following import GrammarFollower, follow_processor
from ._gaps import without_gaps
from ._models import ask_server
from ._retry import Retries, describe
from ._tokens import TokenReader, warn_of_text

DialectName = Literal["vllm", "llama_cpp", "sglang", "auto"]

MODEL_VOCABULARY_SIZE: Final = 201088
"""The number of token ids of the gpt-oss models: one fewer than o200k_harmony has."""

_DIALECTS: Final[dict[str, Dialect]] = {
    "vllm": VllmDialect(),
    "llama_cpp": LlamaCppDialect(),
    "sglang": SglangDialect(),
}


class OpenAICompletionsBackend(Closing):
    """Requests completions from a server.

    Connections are kept and reused. A request is sent again only before its answer has started:
    when the server cannot be reached, is busy (429, whose Retry-After is respected) or fails (5xx).
    Closing the iterator of a completion closes its connection, and servers then abort the request.

    Args:
        base_url: The server, such as `http://localhost:8000/v1`.
        model: The model's name; may be left out if the server has only one.
        api_key: Sent as a bearer token.
        timeout: Seconds that the server may be silent.
        max_retries: The maximum number of retries of a request.
        dialect: The kind of server: `"vllm"`, `"llama_cpp"`, `"sglang"`, or `"auto"` to ask it.
        stream: Whether tokens are delivered as they are generated, or all at the end. llama.cpp
            leaves ids out of its stream within characters of several tokens; they are restored from
            the text, or requested again where the text is ambiguous.
        text_fallback: Whether to encode the text of a server that returns no ids, which is not
            always what the model generated. It warns once.
        vocabulary_size: The lowest id that the model does not know. Prompts with such ids are
            refused, because they crash vLLM.
        context: The maximum number of tokens of a prompt and its completion together; by default
            what the server reports.
        backoff: Seconds before the first retry; twice as long before each further one, less a
            random part.
        extra_body: Further fields for every request, such as `{"priority": 1}`.
        constraints: How the server gets constraints: llama.cpp's as `"grammar"`; vLLM's as
            `"structured_outputs"`, or with harmony-kit's `"processor"` if it was started with
            `--logits-processors harmony_backends.constrained:Constrained`. `"auto"` is the first
            of these for the server. Completions are checked in any case.

    Attributes:
        name: The backend's name in messages.
        supports: The features of the server, from the start if the dialect is given. With `"auto"`
            they are known after `connect` or the first request, and do not change after that;
            until then these are all features that a server may have, and `generate` refuses those
            that this server turns out not to have.

    Raises:
        BackendError: The dialect is unknown or does not have these `constraints`, or the key is
            invalid.

    Example:
        >>> backend = OpenAICompletionsBackend("http://localhost:8000/v1", dialect="sglang")
        >>> backend.supports
        frozenset({'logprobs'})
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
            # Checked here because the error of the HTTP client would show the key.
            raise BackendError("api_key is empty or has characters that a header cannot carry")
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
        self._reported_context: int | None = None
        self._extra_body = dict(extra_body or {})
        self._is_asked = False
        self._stream = stream
        self._text_fallback = text_fallback
        self._warned = False
        self._vocabulary_size = vocabulary_size
        self._clients = LoopClients(self._new_client)
        self._closed = False

    async def connect(self) -> None:
        """Ask the server for its dialect and context length, unless both were given.

        Requests do this themselves, once. Call it first if `supports` must be right before a
        request is made, as for `HarmonyRequest.for_backend`.

        Raises:
            BackendError: The server cannot be reached, is not ready or refuses access, or the
                backend is closed.
        """
        await self._meet_server(needs_context=True)

    async def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncIterator[TokenChunk]:
        """Generate a completion; see `harmony_kit.engine.Backend`.

        Raises:
            GrammarError: The server's grammar language cannot express the constraint, or no
                completion under it fits the token limit.
            BackendError: The backend refuses the request, or the server failed; tokens received
                before the failure were delivered.
        """
        self._check_open()
        room_for(
            self, prompt, sampling, context=self._context, vocabulary_size=self._vocabulary_size
        )
        dialect = await self._meet_server(needs_context=sampling.constraint is not None)
        check_support(self, sampling)  # again: `supports` may have changed with the dialect
        if sampling.constraint is None:
            completion = without_gaps(self._complete, list(prompt), sampling, stream=self._stream)
        else:
            completion = self._constrained(dialect, list(prompt), sampling, sampling.constraint)
        completion = until_stop_text(completion, sampling.stop)
        async with aclosing(completion) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _constrained(
        self,
        dialect: Dialect,
        prompt: list[int],
        sampling: SamplingParams,
        constraint: Constraint,
    ) -> AsyncGenerator[TokenChunk, None]:
        """A completion under a constraint, checked token by token."""
        sampling = self._limited(prompt, sampling, is_needed=True)
        options: dict[str, Any] = {"stream": self._stream, "vocabulary_size": self._vocabulary_size}
        arguments = (self._complete, prompt, sampling, constraint)
        kind = dialect.constraints[0] if self._constraints == "auto" else self._constraints
        if kind == "processor":
            completion = follow_processor(*arguments, **options)
        else:
            completion = GrammarFollower(*arguments, SERVER_GRAMMARS[kind], **options).chunks()
        async with aclosing(completion) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _complete(
        self,
        prompt: list[int],
        sampling: SamplingParams,
        stream: bool,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> AsyncGenerator[TokenChunk, None]:
        """The completion of one request, which may have further fields."""
        reader = TokenReader(sampling, self._on_text)
        self._check_open()  # a completion may take several requests
        dialect = self._dialect
        assert dialect is not None
        async with self._named_errors():
            response = await self._post(dialect, prompt, sampling, stream, more)
            try:
                answer = read_answer(response, dialect, reader, self.name)
                async with aclosing(answer) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _named_errors(self) -> AsyncIterator[None]:
        """Turn errors of the connection into errors of this backend."""
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

        Connections of an event loop that has ended were closed when it ended.
        """
        self._closed = True
        await self._clients.aclose()

    # --- The request ------------------------------------------------------------------------

    async def _post(
        self,
        dialect: Dialect,
        prompt: list[int],
        sampling: SamplingParams,
        stream: bool,
        more: Mapping[str, Any],
    ) -> httpx.Response:
        client = (await self._clients.get()).client
        sampling = self._limited(prompt, sampling, is_needed=dialect.needs_limit)
        body = dialect.body(prompt, sampling)
        body["stream"] = stream
        if dialect.needs_model:
            body["model"] = self._model
        fields = {name: value for name, value in body.items() if value is not None}
        _merge(fields, self._extra_body)
        _merge(fields, more)
        request = client.build_request("POST", dialect.url(self._base_url), json=fields)
        return await self._retries.send(client, request, self.name)

    def _limited(
        self, prompt: list[int], sampling: SamplingParams, *, is_needed: bool
    ) -> SamplingParams:
        """The sampling, limited to what the context leaves if its length is known."""
        context = self._context
        if context is None and is_needed:
            context = self._reported_context
        limit = tokens_left(prompt, sampling.max_tokens, context)
        if limit is None and is_needed:
            # The server's own limit would truncate the completion after a few tokens.
            raise BackendError(
                f"{self.name}: the server does not report its context length; pass context=... to "
                "the backend, or max_tokens"
            )
        return replace(sampling, max_tokens=limit)

    def _new_client(self) -> httpx.AsyncClient:
        trust_env = not _is_on_this_machine(self._base_url)  # no proxy for loopback
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout,
            verify=_tls_context(trust_env=trust_env),
            # The server limits how many requests run at once.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=trust_env,
        )

    # --- The server -------------------------------------------------------------------------

    async def _meet_server(self, *, needs_context: bool) -> Dialect:
        """Ask the server, once, for what is needed and was not given."""
        self._check_open()
        if self._is_unknown(needs_context):
            here = await self._clients.get()
            async with self._named_errors(), here.asking:
                if self._is_unknown(needs_context):
                    found = await ask_server(
                        here.client, self._retries, self._base_url, self._model, self.name
                    )
                    if self._dialect is None:
                        self._speak(_DIALECTS[found.dialect])
                    self._reported_context = found.context
                    self._is_asked = True
        assert self._dialect is not None
        return self._dialect

    def _is_unknown(self, needs_context: bool) -> bool:
        if self._is_asked:
            return False
        dialect = self._dialect
        return dialect is None or (self._context is None and (needs_context or dialect.needs_limit))

    def _speak(self, dialect: Dialect) -> None:
        """Use a dialect from now on."""
        known = dialect.constraints
        if self._constraints not in ("auto", *known):
            raise BackendError(
                f"{self.name}: constraints is {self._constraints!r}; this kind of server supports "
                f"{', '.join(('auto', *known))}"
            )
        self._dialect = dialect
        self.supports = dialect.supports | {"constraint"} if known else dialect.supports

    def _on_text(self) -> None:
        if not self._text_fallback:
            raise BackendError(
                f"{self.name}: the server returns no token ids (vLLM does since 0.10.2, with "
                "return_token_ids); text_fallback=True encodes its text instead"
            )
        if not self._warned:
            self._warned = True
            warn_of_text(self.name)

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self.name)


@cache
def _tls_context(*, trust_env: bool) -> ssl.SSLContext:
    """The TLS context of all clients; it takes longer to make than a short request."""
    return httpx.create_ssl_context(trust_env=trust_env)


def _merge(fields: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add further fields of a request; objects of the same name are merged."""
    for name, value in more.items():
        present = fields.get(name)
        if isinstance(present, dict) and isinstance(value, Mapping):
            fields[name] = {**present, **value}
        else:
            fields[name] = value


def _is_on_this_machine(url: str) -> bool:
    host = re.match(r"\w+://(?:[^@/]*@)?(\[[^]]*\]|[^:/]*)", url)
    return host is not None and re.fullmatch(r"localhost|127\.[\d.]+|\[::1\]", host[1]) is not None
