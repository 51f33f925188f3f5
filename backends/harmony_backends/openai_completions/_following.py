"""Completions under a constraint, from a server that enforces a grammar itself.

A server's grammar expresses less than a constraint: it has no token limit, does not know which
token ends which message, and its language may be a little wider. The generated tokens are therefore
followed here, with two automata: the matcher of the constraint, and the position in the grammar
that the server was given.

- What the constraint admits is passed on.
- Where only one token may follow, as near the token limit, it is added without the server.
- What the server's grammar admits and the constraint does not is discarded, and one token is
  requested among those that may follow. The distribution is the same as if the server had enforced
  the constraint: this is rejection sampling, with the second draw from the narrower set.
- What the server's grammar does not admit is an error: the server violates the grammar.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from harmony_kit.engine._protocol import TokenChunk
from harmony_kit.errors import BackendError
from harmony_kit.grammar import Constraint, Matcher
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import CALL, END_OF_TEXT, RETURN, SIZE, decode

from .._cutting import Cutter
from ._constraints import (
    PROCESSOR_ADVICE,
    ServerGrammar,
    processor_fields,
    tokens_of,
)
from ._tokens import LeftOutIdsError

Ask = Callable[
    [list[int], SamplingParams, bool, Mapping[str, Any]], AsyncGenerator[TokenChunk, None]
]
"""Requests a completion: prompt, sampling parameters, whether to stream, further request fields."""

_ENDS: Final = (RETURN, CALL, END_OF_TEXT)
_SEEDS: Final = 2**32 - 1


class GrammarFollower:
    """One completion under a constraint, from a server with a grammar.

    Args:
        ask: Sends a request.
        prompt: Token ids.
        sampling: The sampling parameters, with a token limit.
        constraint: The constraint.
        grammar: The server's grammar language.
        vocabulary_size: The number of token ids that the model has.
        stream: Whether to stream.

    Raises:
        GrammarError: The language cannot express the constraint, or no completion fits the limit.
        BackendError: Log-probabilities are requested, which tokens added here do not have.
    """

    def __init__(
        self,
        ask: Ask,
        prompt: list[int],
        sampling: SamplingParams,
        constraint: Constraint,
        grammar: ServerGrammar,
        *,
        vocabulary_size: int,
        stream: bool,
    ) -> None:
        if sampling.logprobs is not None:
            raise BackendError(
                "tokens that a constraint forces have no log-probabilities; "
                "with this server request either logprobs or a constraint"
            )
        self._ask = ask
        self._prompt = prompt
        self._sampling = sampling
        self._grammar = grammar
        self._stream = stream
        self._matcher = constraint.matcher(sampling.max_tokens, vocabulary_size=vocabulary_size)
        self._position = grammar.begin(constraint)
        self._is_within_grammar = True
        self._generated: list[int] = []
        self._is_refused = False
        self._is_aborted = False

    async def chunks(self) -> AsyncGenerator[TokenChunk, None]:
        """The completion.

        Raises:
            BackendError: The server failed, or violates the grammar.
        """
        cutter = Cutter(self._sampling)
        async with aclosing(self._tokens()) as parts:
            async for tokens in parts:
                cut = cutter.cut(tokens)
                if cut.finish_reason == "stop" or self._matcher.is_finished:
                    yield TokenChunk(cut.tokens, "stop")
                    return
                yield TokenChunk(cut.tokens)
        yield TokenChunk((), "abort")

    async def _tokens(self) -> AsyncGenerator[Sequence[int], None]:
        while not self._matcher.is_finished and not self._is_aborted:
            forced = self._accept_forced()
            if forced:
                yield forced
                continue
            is_one_token = self._is_refused or not self._is_within_grammar or self._position.begun
            part = self._one_token() if is_one_token else self._from_grammar()
            async with aclosing(part) as chunks:
                async for tokens in chunks:
                    yield tokens

    def _accept_forced(self) -> list[int]:
        """The next tokens, as long as only one may follow."""
        taken: list[int] = []
        while not self._matcher.is_finished:
            mask = self._matcher.bitmask()
            if int.from_bytes(mask, "little").bit_count() != 1:
                break
            (token,) = tokens_of(mask)
            self._accept(token)
            taken.append(token)
        return taken

    def _accept(self, token: int) -> bool:
        """Advance by a token, if it may follow."""
        if not self._matcher.accept_token(token):
            return False
        self._generated.append(token)
        self._is_refused = False
        position = self._position.after(token) if self._is_within_grammar else None
        # The server's language may be narrower here and there; beyond that it is of no use.
        self._is_within_grammar = position is not None
        self._position = position or self._position
        return True

    async def _from_grammar(self) -> AsyncGenerator[Sequence[int], None]:
        """The server's output under its grammar, up to the first token that may not follow."""
        before = len(self._generated)
        reason = None
        fields = self._grammar.rest(self._position)
        try:
            async with aclosing(self._answer(fields, self._stream)) as deltas:
                async for delta in deltas:
                    taken = self._follow(delta.tokens)
                    if taken:
                        yield taken
                    if self._is_refused or self._matcher.is_finished:
                        return
                    reason = delta.finish_reason
        except LeftOutIdsError:
            self._is_refused = True  # the omitted token is requested again
            return
        self._is_aborted = reason == "abort"
        self._is_refused = reason == "stop" and self._position.may_end
        if reason == "stop" and not self._is_refused:
            raise self._violation("its end")
        if reason == "length" and len(self._generated) == before:
            raise BackendError("the server ended the completion before it was complete")

    def _follow(self, tokens: Sequence[int]) -> list[int]:
        """Accept the tokens up to the first that may not follow."""
        taken: list[int] = []
        for token in tokens:
            if self._matcher.is_finished:
                break
            if not self._is_in_grammar(token):
                raise self._violation(_shown(token))
            if not self._accept(token):
                self._is_refused = True
                break
            taken.append(token)
        return taken

    def _is_in_grammar(self, token: int) -> bool:
        """Whether a server that enforces the grammar may generate a token."""
        position = self._position
        if token in _ENDS and position.may_end:
            return True
        # llama.cpp admits some bytes that are not UTF-8.
        return position.after(token) is not None or position.is_broken_by(token)

    async def _one_token(self) -> AsyncGenerator[Sequence[int], None]:
        """One token among those that may follow."""
        fields = self._grammar.one_of(self._matcher.bitmask())
        async with aclosing(self._answer(fields, stream=False, most=1)) as deltas:
            async for delta in deltas:
                for token in delta.tokens:
                    if not self._accept(token):
                        raise self._violation(_shown(token))
                    yield [token]
                    return
                self._is_aborted = delta.finish_reason == "abort"
        if not self._is_aborted:
            raise BackendError("the server returned no token where one was requested")

    def _answer(
        self, fields: Mapping[str, Any], stream: bool, most: int | None = None
    ) -> AsyncGenerator[TokenChunk, None]:
        count, asked = len(self._generated), self._sampling
        limit = asked.max_tokens
        left = most if limit is None else min(limit - count, most or limit)
        part = replace(
            asked,
            max_tokens=left,
            seed=asked.seed if asked.seed is None or not count else (asked.seed + count) % _SEEDS,
            stop_tokens=(RETURN, CALL),
            stop=(),
            constraint=None,
        )
        return self._ask([*self._prompt, *self._generated], part, stream, fields)

    def _violation(self, what: str) -> BackendError:
        return _violated(len(self._generated), what, self._grammar.advice)


async def follow_processor(
    ask: Ask,
    prompt: list[int],
    sampling: SamplingParams,
    constraint: Constraint,
    *,
    vocabulary_size: int,
    stream: bool,
) -> AsyncGenerator[TokenChunk, None]:
    """A completion under a constraint, from vLLM with harmony-kit's own logits processor.

    The processor enforces the whole constraint and the token limit. The tokens are checked all the
    same, since a server that was started without the processor ignores the constraint silently.

    Raises:
        GrammarError: No completion under the constraint fits the limit.
        BackendError: The server failed, or violates the constraint.
    """
    constraint.matcher(sampling.max_tokens, vocabulary_size=vocabulary_size)
    # Without the limit: another version of llguidance may enforce it in another way.
    matcher = constraint.matcher(vocabulary_size=vocabulary_size)
    asked = replace(sampling, constraint=None)
    async with aclosing(ask(prompt, asked, stream, processor_fields(constraint))) as chunks:
        async for chunk in chunks:
            end = _follow_whole(matcher, chunk.tokens)
            if matcher.is_finished:
                yield TokenChunk(
                    chunk.tokens[:end], "stop", chunk.logprobs and chunk.logprobs[:end]
                )
                return
            if chunk.finish_reason == "length":
                raise _violated(matcher.position, "its end", PROCESSOR_ADVICE)
            yield chunk


def _follow_whole(matcher: Matcher, tokens: Sequence[int]) -> int:
    """Accept tokens; how many there are up to the end of the completion."""
    for count, token in enumerate(tokens):
        if matcher.is_finished:
            return count
        if not matcher.accept_token(token):
            raise _violated(matcher.position, _shown(token), PROCESSOR_ADVICE)
    return len(tokens)


def _violated(position: int, what: str, advice: str) -> BackendError:
    return BackendError(
        f"the server violates the constraint: at token {position} of the completion it "
        f"generated {what} ({advice})"
    )


def _shown(token: int) -> str:
    return f"{token} {decode([token])!r}" if token < SIZE else str(token)
