"""Following a completion token by token under a constraint, with llguidance.

A `Matcher` says at each step which tokens may come, as a bit mask over the vocabulary. Given a
limit of tokens it also sees to it that the completion is whole when the limit is reached: it
knows a way to the end from where it stands, and leaves no other once there is no more room.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .._options import checked_options
from ..errors import GrammarError
from ..wire._vocabulary import (
    CALL,
    CHANNEL,
    END,
    END_OF_TEXT,
    FIRST_SPECIAL,
    MESSAGE,
    RETURN,
    SPECIAL_TOKEN_NAMES,
    encode,
    ordinary_token_table,
)
from ._lark import schemas_in
from ._least_values import most_tokens_once_begun

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

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

    @checked_options
    def __init__(
        self,
        grammar: str,
        max_tokens: int | None = None,
        *,
        vocabulary_size: int = MODEL_VOCABULARY_SIZE,
    ) -> None:
        compiled = _compiled(grammar, vocabulary_size)
        self._matcher = compiled.matcher.deep_copy()
        self._mask_size = mask_size(vocabulary_size)
        self._left = max_tokens
        self._largest_step = compiled.largest_step
        self._way_out = compiled.way_out
        self._is_forced = False
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
        return self._is_forced

    def mask(self) -> bytes:
        """The tokens that may come next, as a bit mask.

        Returns:
            As many bytes as make whole 32-bit words; the token `n` is bit `n % 8` of byte
            `n // 8`. Where the completion is whole only `<|endoftext|>` is set, for engines that
            must choose something.
        """
        forced = self._forced_token()
        if forced is not None:
            return _mask_of(forced, self._mask_size)
        # llguidance adds a word without a token where the vocabulary fills its words.
        return bytes(self._matcher.compute_bitmask()[: self._mask_size])

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
        is_id = 0 <= token < 8 * self._mask_size
        if not is_id or self._matcher.is_stopped():
            return False
        if not self._matcher.try_consume_tokens([token]):
            return False
        self._count += 1
        if self._left is not None:
            self._left -= 1
        if self._way_out[:1] == [token]:
            self._way_out = self._way_out[1:]
        return True

    def _forced_token(self) -> int | None:
        """The only token with which the completion still gets whole in time."""
        if self._left is None or self._matcher.is_stopped():
            return None
        if not self._is_forced and self._count >= self._next_look:
            self._look(self._left)
        return self._way_out[0] if self._is_forced else None

    def _look(self, left: int) -> None:
        """See whether there is room for any token, and for how many more.

        A way that leads into the last one is much sooner found than another, which may be
        shorter.
        """
        self._way_out = _way_out(self._matcher, self._way_out)
        if self._spare(left) <= 0:
            self._way_out = _way_out(self._matcher)
        spare = self._spare(left)
        if spare <= 0:
            self._is_forced = True
        else:
            self._next_look = self._count + 1 + spare // (self._largest_step + 1)

    def _spare(self, left: int) -> int:
        """How many tokens are left over; each uses up one, and may lengthen the way out."""
        return left - len(self._way_out) - self._largest_step


def mask_size(vocabulary_size: int) -> int:
    """How many bytes a mask has: as many as make whole 32-bit words.

    Args:
        vocabulary_size: The lowest id that the model does not know.
    """
    return (vocabulary_size + 31) // 32 * 4


def _mask_of(token: int, size: int) -> bytes:
    mask = bytearray(size)
    mask[token // 8] = 1 << token % 8
    return bytes(mask)


class MaskWriter:
    """Writes the masks of many matchers at once, on several processors.

    Args:
        threads: How many; `None` for most of the processors that there are.

    Raises:
        GrammarError: llguidance is not installed.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._executor = _executor(threads)

    def write(self, matchers: Sequence[Matcher], masks: bytearray | memoryview) -> None:
        """Write the mask of each, as `Matcher.mask` gives it.

        Args:
            matchers: Some for one vocabulary, no one of them twice.
            masks: Contiguous memory of `mask_size` bytes for each of them: the first mask, the
                second, and so on.

        Raises:
            ValueError: The memory has another size, or cannot be written to.
        """
        with memoryview(masks).cast("B") as memory:
            size = matchers[0]._mask_size if matchers else 0
            if memory.readonly or len(memory) != size * len(matchers):
                raise ValueError(f"{len(matchers)} masks of {size} bytes do not fit the memory")
            free = []
            for row, matcher in enumerate(matchers):
                forced = matcher._forced_token()
                if forced is None:
                    free.append((matcher._matcher, row))
                else:
                    memory[row * size : (row + 1) * size] = _mask_of(forced, size)
            if free:
                start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
                self._executor.unsafe_compute_mask_ptr(free, start, size, len(matchers))


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
    tokenizer = _tokenizer(vocabulary_size)  # which says it where llguidance is missing
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        reason = matcher.get_error().splitlines()[0]
        raise GrammarError(f"llguidance refuses the grammar: {reason}", path="")
    way_out = _way_out(matcher)
    begun = max(map(most_tokens_once_begun, schemas_in(grammar)), default=0)
    return _Compiled(matcher, way_out, 16 + max(2 * len(way_out), begun + begun // 4))


@lru_cache(maxsize=2)
def _tokenizer(vocabulary_size: int) -> LLTokenizer:
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError as error:
        raise _missing(error) from error
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


def _executor(threads: int | None) -> LLExecutor:
    try:
        from llguidance import LLExecutor
    except ImportError as error:
        raise _missing(error) from error
    return LLExecutor(threads)


def _missing(error: ImportError) -> GrammarError:
    return GrammarError(
        f"constraints need the package {error.name!r}: pip install 'harmony-kit[grammar]'", path=""
    )


# --- The way out ----------------------------------------------------------------------------

_LONGEST_WAY: Final = 2048
_MOST_LOOKS: Final = 64
"""After so many characters a way is not looked ahead on: it takes too long."""
_LIKELY: Final = "01n[{t-@.:/PTZDY a"
"""What values begin with, and what stands between their parts; the shortest values first."""
_MANY: Final = 8_000
"""With so many bytes of the mask that are not zero, the place is within a text."""


def _way_out(matcher: LLMatcher, known: Sequence[int] = ()) -> list[int]:
    """Tokens that make a completion whole; a short way, not always the shortest.

    Within a text the text is closed as soon as it may be, and between the parts of JSON what
    is open is closed. Where neither can be, as within a number or what a pattern wants, single
    characters are taken: the first, and where the choice is one that was met before, the one
    that leads to what was met least, so that no pattern is gone round in for ever.

    Args:
        matcher: Where the completion is; it stays there.
        known: A way out from another place of the completion, whose end may do here too.

    Raises:
        GrammarError: None was found.
    """
    end = _end_that_leads_out(matcher, known)
    if end:
        return end
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
        end = _end_that_leads_out(matcher, known)
        if end:
            return way + end
    return way


def _end_that_leads_out(matcher: LLMatcher, way: Sequence[int]) -> list[int]:
    """The whole of a way, or its longest end, that may follow here."""
    if not way or way[-1] not in (RETURN, CALL):  # after them nothing may come
        return []
    ends = (list(way[start:]) for start in range(len(way)))
    return next((end for end in ends if matcher.validate_tokens(end) == len(end)), [])


def _onward(matcher: LLMatcher, met: Counter[bytes]) -> int:
    mask: bytes = matcher.compute_bitmask()
    is_text = len(mask) - mask.count(0) > _MANY
    closing = _allowed(mask, _text_closers() if is_text else _part_closers())
    if closing:
        return closing[0]
    characters = _allowed(mask, _characters())
    if not characters:
        bits = int.from_bytes(mask, "little")
        return (bits & -bits).bit_length() - 1
    met[mask] += 1
    likely = [token for token in characters if token in _characters()[: len(_LIKELY)]]
    if met[mask] == 1 or len(likely) < 2 or met.total() > _MOST_LOOKS:
        return characters[(met[mask] - 1) % len(characters)]
    # Here the way has been before: on to where it was least often.
    ahead = [met[_mask_after(matcher, token)] for token in likely]
    return likely[ahead.index(min(ahead))]


def _mask_after(matcher: LLMatcher, token: int) -> bytes:
    matcher = matcher.deep_copy()
    matcher.consume_tokens([token])
    mask: bytes = matcher.compute_bitmask()
    return mask


def _allowed(mask: bytes, tokens: Sequence[int]) -> list[int]:
    return [token for token in tokens if mask[token // 8] >> token % 8 & 1]


@lru_cache(maxsize=1)
def _text_closers() -> tuple[int, ...]:
    return (RETURN, CALL, END, *encode('"'))


@lru_cache(maxsize=1)
def _part_closers() -> tuple[int, ...]:
    # In a header: to the answer where there may be one, to a call where there must be.
    words = (encode(word)[0] for word in ("final", "commentary", " to"))
    header = (CHANNEL, *words, MESSAGE)
    parts = (token for text in ("}", "]", ",", '"') for token in encode(text))
    return (RETURN, CALL, END, *header, *parts)


@lru_cache(maxsize=1)
def _characters() -> tuple[int, ...]:
    """What a value may be written with."""
    rest = (chr(code) for code in range(0x21, 0x7F) if chr(code) not in _LIKELY)
    return tuple(encode(character)[0] for character in (*_LIKELY, *rest))
