"""Completions under a constraint, from a server that runs the grammar itself.

A server's grammar says less than a constraint: it knows no limit of tokens, not which token ends
which message, and its language may be a little wider. So the tokens are followed here while they
come, with two readers: one of the constraint itself, and one of the grammar that the server was
told.

- What the constraint admits is passed on.
- Where only one token may come, as near the limit of tokens, it is written here, without the
  server.
- What the server's grammar admits and the constraint does not is thrown away, and the server asked
  for one token among those that may come. That is the same draw as if the server had known: a
  token is drawn from the wider set, and, where it is outside, anew from the narrower.
- What the server's grammar does not admit is an error: the server does not keep to it.
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

from ._cutting import Cutter
from ._stop_texts import StopTexts
from .openai_completions._constraints import (
    PROCESSOR_ADVICE,
    ServerGrammar,
    processor_fields,
    tokens_of,
)
from .openai_completions._tokens import LeftOutIdsError

Ask = Callable[
    [list[int], SamplingParams, bool, Mapping[str, Any]], AsyncGenerator[TokenChunk, None]
]
"""Asks for a completion: the prompt, how, whether to stream, and more fields of the request."""

_ENDS: Final = (RETURN, CALL, END_OF_TEXT)
_SEEDS: Final = 2**32 - 1


class GrammarFollower:
    """One completion under a constraint, from a server with a grammar.

    Args:
        ask: What asks the server.
        prompt: Token ids.
        sampling: How to choose tokens, and when to stop; with a constraint and a limit.
        constraint: The constraint.
        grammar: The server's language.
        vocabulary_size: The lowest id that the model does not know.
        stream: Whether to stream.

    Raises:
        GrammarError: The constraint cannot be said, or nothing under it fits the limit.
        BackendError: Log-probabilities are asked for, which tokens that are written here have not.
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
                "there are no log-probabilities of tokens that a constraint leaves no choice of; "
                "with this server ask for logprobs or for a constraint"
            )
        self._ask = ask
        self._prompt = prompt
        self._sampling = sampling
        self._grammar = grammar
        self._stream = stream
        self._matcher = constraint.matcher(sampling.max_tokens, vocabulary_size=vocabulary_size)
        self._position = grammar.begin(constraint)
        self._is_within_grammar = True
        self._said: list[int] = []
        self._is_refused = False
        self._is_aborted = False

    async def deltas(self) -> AsyncGenerator[TokenChunk, None]:
        """The completion.

        Raises:
            BackendError: The server failed, or does not keep to the grammar.
        """
        cutter, stop_texts = Cutter(self._sampling), StopTexts(self._sampling.stop)
        async with aclosing(self._tokens()) as parts:
            async for tokens in parts:
                cut = cutter.cut(tokens)
                end = stop_texts.find(cut.tokens)
                if end is not None:
                    yield TokenChunk(cut.tokens[:end], "stop")
                    return
                if cut.finish_reason == "stop" or self._matcher.is_finished:
                    yield TokenChunk(cut.tokens, "stop")
                    return
                yield TokenChunk(cut.tokens)
        yield TokenChunk((), "abort")

    async def _tokens(self) -> AsyncGenerator[Sequence[int], None]:
        while not self._matcher.is_finished and not self._is_aborted:
            only_way = self._take_only_way()
            if only_way:
                yield only_way
                continue
            is_one_token = self._is_refused or not self._is_within_grammar or self._position.begun
            part = self._one_token() if is_one_token else self._from_grammar()
            async with aclosing(part) as chunks:
                async for tokens in chunks:
                    yield tokens

    def _take_only_way(self) -> list[int]:
        """The next tokens, as long as there is only one that may come."""
        taken: list[int] = []
        while not self._matcher.is_finished:
            mask = self._matcher.bitmask()
            if int.from_bytes(mask, "little").bit_count() != 1:
                break
            (token,) = tokens_of(mask)
            self._take(token)
            taken.append(token)
        return taken

    def _take(self, token: int) -> bool:
        """Go on by a token, if it may come."""
        if not self._matcher.accept_token(token):
            return False
        self._said.append(token)
        self._is_refused = False
        position = self._position.after(token) if self._is_within_grammar else None
        # The server's language may be narrower somewhere; from there on it is of no use.
        self._is_within_grammar = position is not None
        self._position = position or self._position
        return True

    async def _from_grammar(self) -> AsyncGenerator[Sequence[int], None]:
        """What the server writes under its grammar, up to the first token that may not come."""
        before = len(self._said)
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
            self._is_refused = True  # what was left out is asked for anew
            return
        self._is_aborted = reason == "abort"
        self._is_refused = reason == "stop" and self._position.may_end
        if reason == "stop" and not self._is_refused:
            raise self._left("its end")
        if reason == "length" and len(self._said) == before:
            raise BackendError("the server ended the completion before it was whole")

    def _follow(self, tokens: Sequence[int]) -> list[int]:
        """The tokens up to the first that may not come."""
        taken: list[int] = []
        for token in tokens:
            if self._matcher.is_finished:
                break
            if not self._is_told_of(token):
                raise self._left(_spelt(token))
            if not self._take(token):
                self._is_refused = True
                break
            taken.append(token)
        return taken

    def _is_told_of(self, token: int) -> bool:
        """Whether a server that keeps to the grammar may write a token."""
        position = self._position
        if token in _ENDS and position.may_end:
            return True
        # llama.cpp takes some bytes for characters that are none.
        return position.after(token) is not None or position.is_broken_by(token)

    async def _one_token(self) -> AsyncGenerator[Sequence[int], None]:
        """A token among those that may come."""
        fields = self._grammar.one_of(self._matcher.bitmask())
        async with aclosing(self._answer(fields, stream=False, most=1)) as deltas:
            async for delta in deltas:
                for token in delta.tokens:
                    if not self._take(token):
                        raise self._left(_spelt(token))
                    yield [token]
                    return
                self._is_aborted = delta.finish_reason == "abort"
        if not self._is_aborted:
            raise BackendError("the server gave no token where one was asked for")

    def _answer(
        self, fields: Mapping[str, Any], stream: bool, most: int | None = None
    ) -> AsyncGenerator[TokenChunk, None]:
        said, asked = len(self._said), self._sampling
        limit = asked.max_tokens
        left = most if limit is None else min(limit - said, most or limit)
        part = replace(
            asked,
            max_tokens=left,
            seed=asked.seed if asked.seed is None or not said else (asked.seed + said) % _SEEDS,
            stop_tokens=(RETURN, CALL),
            stop=(),
            constraint=None,
        )
        return self._ask([*self._prompt, *self._said], part, stream, fields)

    def _left(self, what: str) -> BackendError:
        return _ignored(len(self._said), what, self._grammar.advice)


async def follow_processor(
    ask: Ask,
    prompt: list[int],
    sampling: SamplingParams,
    constraint: Constraint,
    *,
    vocabulary_size: int,
    stream: bool,
) -> AsyncGenerator[TokenChunk, None]:
    """A completion under a constraint, from vLLM with harmony-kit's own processor of logits.

    The processor knows the whole constraint, and the limit of tokens. What it lets through is
    checked all the same, since a server that was started without it says nothing of it.

    Args:
        ask: What asks the server.
        prompt: Token ids.
        sampling: How to choose tokens, and when to stop; with a limit.
        constraint: The constraint.
        vocabulary_size: The lowest id that the model does not know.
        stream: Whether to stream.

    Yields:
        The tokens.

    Raises:
        GrammarError: Nothing under the constraint fits the limit.
        BackendError: The server failed, or does not keep to the constraint.
    """
    constraint.matcher(sampling.max_tokens, vocabulary_size=vocabulary_size)
    # Not of the limit: another version of llguidance may know another way to keep it.
    matcher = constraint.matcher(vocabulary_size=vocabulary_size)
    asked = replace(sampling, constraint=None)
    async with aclosing(ask(prompt, asked, stream, processor_fields(constraint))) as deltas:
        async for delta in deltas:
            end = _follow_whole(matcher, delta.tokens)
            if matcher.is_finished:
                yield TokenChunk(
                    delta.tokens[:end], "stop", delta.logprobs and delta.logprobs[:end]
                )
                return
            if delta.finish_reason == "length":
                raise _ignored(matcher.position, "its end", PROCESSOR_ADVICE)
            yield delta


def _follow_whole(matcher: Matcher, tokens: Sequence[int]) -> int:
    """How many tokens there are up to the end of the completion."""
    for count, token in enumerate(tokens):
        if matcher.is_finished:
            return count
        if not matcher.accept_token(token):
            raise _ignored(matcher.position, _spelt(token), PROCESSOR_ADVICE)
    return len(tokens)


def _ignored(position: int, what: str, advice: str) -> BackendError:
    return BackendError(
        f"the server does not keep to the constraint: at token {position} of the completion it "
        f"wrote {what} ({advice})"
    )


def _spelt(token: int) -> str:
    return f"{token} {decode([token])!r}" if token < SIZE else str(token)
