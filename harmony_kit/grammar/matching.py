"""Following a completion token by token under a constraint, with llguidance.

A `Matcher` says at each step which tokens may come, as a bit mask over the vocabulary. Given a
limit of tokens it also sees to it that the completion is whole when the limit is reached: it
knows a way to the end from where it stands, and leaves no other once there is no more room.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ..errors import GrammarError
from ..vocabulary import (
    CALL,
    END,
    END_OF_TEXT,
    FIRST_SPECIAL,
    RETURN,
    SPECIAL_TOKEN_NAMES,
    encode,
    ordinary_token_table,
)

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MODEL_VOCABULARY_SIZE: Final = 201088
"""How many tokens the gpt-oss models know: one fewer than o200k_harmony has ids."""


class Matcher:
    """Says which tokens may come next.

    Args:
        grammar: A grammar as `lark_grammar` writes it.
        max_tokens: The most tokens that the completion may have; `None` for no limit.
        vocabulary_size: The lowest id that the model does not know.

    Raises:
        GrammarError: llguidance is not installed, or refuses the grammar; or the completion
            cannot be whole within `max_tokens`.
    """

    def __init__(
        self,
        grammar: str,
        max_tokens: int | None = None,
        *,
        vocabulary_size: int = MODEL_VOCABULARY_SIZE,
    ) -> None:
        compiled = _compiled(grammar, vocabulary_size)
        self._matcher = compiled.matcher.deep_copy()
        self._left = max_tokens
        self._largest_step = compiled.largest_step
        self._way_out: list[int] | None = None
        self._next_look = 0
        self._count = 0
        if max_tokens is not None and len(compiled.way_out) > max_tokens:
            raise GrammarError(
                f"max_tokens is {max_tokens}; the shortest completion that was found has "
                f"{len(compiled.way_out)} tokens",
                path="max_tokens",
            )

    @property
    def position(self) -> int:
        """How many tokens were taken."""
        return self._count

    @property
    def is_finished(self) -> bool:
        """Whether the completion is whole, and nothing may follow."""
        return bool(self._matcher.is_stopped() and self._matcher.is_accepting())

    @property
    def is_forced(self) -> bool:
        """Whether only one token may come, since the limit is near."""
        return self._way_out is not None

    def mask(self) -> bytes:
        """The tokens that may come next, as a bit mask.

        Returns:
            As many bytes as make whole 32-bit words; the token `n` is bit `n % 8` of byte
            `n // 8`. Where the completion is whole only `<|endoftext|>` is set, for engines that
            must choose something.
        """
        forced = self._forced_token()
        if forced is not None:
            return _mask_of(forced, self._matcher)
        return bytes(self._matcher.compute_bitmask())

    def allows(self, token: int) -> bool:
        """Whether a token may come next.

        Args:
            token: A token id.
        """
        mask = self.mask()
        return 0 <= token < 8 * len(mask) and bool(mask[token // 8] >> token % 8 & 1)

    def take(self, token: int) -> bool:
        """Go on by a token.

        Args:
            token: A token id.

        Returns:
            Whether it may stand there; if not, the matcher stays where it is.
        """
        forced = self._forced_token()
        if forced is not None and token != forced:
            return False
        if self._matcher.is_stopped() or not self._matcher.try_consume_tokens([token]):
            return False
        self._count += 1
        if self._left is not None:
            self._left -= 1
        if self._way_out is not None:
            self._way_out.pop(0)
        return True

    def _forced_token(self) -> int | None:
        """The only token with which the completion still gets whole in time."""
        if self._left is None or self._matcher.is_stopped():
            return None
        if self._way_out is None and self._count >= self._next_look:
            way_out = _way_out(self._matcher)
            # Each token uses up one, and may lengthen the way out by the largest step.
            spare = self._left - len(way_out) - self._largest_step
            if spare <= 0:
                self._way_out = way_out
            else:
                self._next_look = self._count + 1 + spare // (self._largest_step + 1)
        return self._way_out[0] if self._way_out else None


def _mask_of(token: int, matcher: LLMatcher) -> bytes:
    mask = bytearray(len(matcher.compute_bitmask()))
    mask[token // 8] = 1 << token % 8
    return bytes(mask)


# --- Grammars and the vocabulary ------------------------------------------------------------


class _Compiled:
    """A grammar that is ready, and how its completions can be ended."""

    def __init__(self, matcher: LLMatcher, way_out: list[int], largest_step: int) -> None:
        self.matcher = matcher
        self.way_out = way_out
        self.largest_step = largest_step


@lru_cache(maxsize=256)
def _compiled(grammar: str, vocabulary_size: int) -> _Compiled:
    """Compile a grammar; it is kept, since requests repeat theirs."""
    from llguidance import LLMatcher

    matcher = LLMatcher(_tokenizer(vocabulary_size), grammar, log_level=0)
    if matcher.is_error():
        reason = matcher.get_error().splitlines()[0]
        raise GrammarError(f"llguidance refuses the grammar: {reason}", path="")
    way_out = _way_out(matcher)
    return _Compiled(matcher, way_out, 2 * len(way_out) + 16)


@lru_cache(maxsize=2)
def _tokenizer(vocabulary_size: int) -> LLTokenizer:
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError as error:
        raise GrammarError(
            f"constraints need the package {error.name!r}: pip install 'harmony-kit[grammar]'",
            path="",
        ) from error
    return LLTokenizer(TokenizerWrapper(_Vocabulary(vocabulary_size)))


class _Vocabulary:
    """o200k_harmony, as llguidance asks for one."""

    eos_token_id = END_OF_TEXT  # not <|return|>, which is a part of the grammar
    bos_token_id = None

    def __init__(self, size: int) -> None:
        special = range(FIRST_SPECIAL, size)
        names = (SPECIAL_TOKEN_NAMES.get(token, f"<|reserved_{token}|>") for token in special)
        ordinary = ordinary_token_table()[:FIRST_SPECIAL]
        self.tokens = [*ordinary, *(name.encode() for name in names)]
        self.special_token_ids = [*special]

    def __call__(self, text: bytes) -> list[int]:
        return encode(text.decode())


# --- The way out ----------------------------------------------------------------------------

_LONGEST_WAY: Final = 2048
_MANY: Final = 10_000
"""With so many tokens to choose from, the place is within a text."""


def _way_out(matcher: LLMatcher) -> list[int]:
    """Tokens that make a completion whole; a short way, not always the shortest.

    Within a text the text is closed as soon as it may be, and between the parts of JSON what
    is open is closed. Where neither can be, as within a number or what a pattern wants, the
    single characters are tried in turn: another one each time that the choice is the same,
    so that no pattern is gone round in for ever.
    """
    matcher = matcher.deep_copy()
    met: Counter[bytes] = Counter()
    way: list[int] = []
    while not matcher.is_stopped():
        tokens = matcher.compute_ff_tokens() or [_onward(matcher, met)]
        if not matcher.consume_tokens(tokens):
            raise GrammarError(f"no way out: {matcher.get_error().splitlines()[0]}", path="")
        way += tokens
        if len(way) > _LONGEST_WAY:
            raise GrammarError(
                f"no completion of less than {_LONGEST_WAY} tokens was found", path=""
            )
    return way


def _onward(matcher: LLMatcher, met: Counter[bytes]) -> int:
    mask: bytes = matcher.compute_bitmask()
    bits = int.from_bytes(mask, "little")
    for token in _text_closers() if bits.bit_count() > _MANY else _part_closers():
        if bits >> token & 1:
            return token
    characters = [token for token in _characters() if bits >> token & 1]
    if not characters:
        return (bits & -bits).bit_length() - 1
    met[mask] += 1
    return characters[(met[mask] - 1) % len(characters)]


@lru_cache(maxsize=1)
def _text_closers() -> tuple[int, ...]:
    return (RETURN, CALL, END, *encode('"'))


@lru_cache(maxsize=1)
def _part_closers() -> tuple[int, ...]:
    # After <|channel|>, and after the name of one: the ways that lead to the last message.
    header = (*encode("final")[:1], *encode("commentary")[:1], *encode(" to")[:1])
    parts = (token for text in ("}", "]", ",", '"') for token in encode(text))
    return (RETURN, CALL, END, *header, *parts)


@lru_cache(maxsize=1)
def _characters() -> tuple[int, ...]:
    """What a value may be written with, the shortest values first."""
    first = "01n[{t-@.:/PTZDY a"
    rest = (chr(code) for code in range(0x21, 0x7F) if chr(code) not in first)
    return tuple(encode(character)[0] for character in (*first, *rest))
