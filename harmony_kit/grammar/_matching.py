"""Following a completion token by token under a constraint, with llguidance.

A `Matcher` computes at each step which tokens may follow, as a bit mask over the vocabulary. With
a token limit it also ensures that the completion is complete when the limit is reached: it keeps a
short completion from the current position, and admits nothing else once there is no more room.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

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
    STOP_TOKENS,
    encode,
    ordinary_token_table,
)
from ._lark import schemas_in
from ._least_values import most_tokens_once_begun

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

MODEL_VOCABULARY_SIZE: Final = 201088
"""The vocabulary size of the gpt-oss models: one less than o200k_harmony has ids."""


class Matcher:
    """Computes which tokens may come next in a completion.

    Args:
        grammar: `Constraint.lark`.
        max_tokens: The maximum length of the completion, in tokens; `None` for no limit.
        vocabulary_size: The number of token ids that the model has.

    Raises:
        GrammarError: llguidance is not installed, or refuses the grammar; or no completion of at
            most `max_tokens` was found.

    Example:
        >>> from harmony_kit import constraint, encode, encode_with_special
        >>> from harmony_kit.grammar import Choice
        >>> matcher = constraint(response_format=Choice(("yes", "no")), reasoning="none").matcher()
        >>> for token in encode_with_special("<|channel|>final<|message|>"):
        ...     assert matcher.accept_token(token)
        >>> (yes,), (maybe,) = encode("yes"), encode("maybe")
        >>> matcher.would_accept(yes), matcher.would_accept(maybe)
        (True, False)
        >>> matcher.position, matcher.is_finished, len(matcher.bitmask())
        (3, False, 25136)
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
        self._shortest = compiled.shortest
        self._is_forced = False
        self._next_check = 0
        self._count = 0
        if max_tokens is not None and len(compiled.shortest) > max_tokens:
            raise GrammarError(
                f"max_tokens is {max_tokens}; the shortest completion that was found has "
                f"{len(compiled.shortest)} tokens",
                path="max_tokens",
            )

    @property
    def position(self) -> int:
        """How many tokens have been accepted."""
        return self._count

    @property
    def is_finished(self) -> bool:
        """Whether the completion is complete, so that nothing may follow."""
        return bool(self._matcher.is_stopped() and self._matcher.is_accepting())

    @property
    def is_forced(self) -> bool:
        """Whether the token limit is so near that only one completion is left."""
        return self._is_forced

    def bitmask(self) -> bytes:
        """The tokens that may come next, as a bit mask.

        Returns:
            The mask, padded to whole 32-bit words; token `n` is bit `n % 8` of byte `n // 8`. When
            the completion is finished, only `<|endoftext|>` is set, for engines that must choose
            something.
        """
        forced = self._forced_token()
        if forced is not None:
            return _mask_of(forced, self._mask_size)
        # llguidance appends an unused word if the vocabulary fills all words.
        return bytes(self._matcher.compute_bitmask()[: self._mask_size])

    def would_accept(self, token: int) -> bool:
        """Whether a token id may come next."""
        mask = self.bitmask()
        return 0 <= token < 8 * len(mask) and bool(mask[token // 8] >> token % 8 & 1)

    def accept_token(self, token: int) -> bool:
        """Advance by a token id.

        Returns:
            Whether the token may come next; if not, the matcher does not advance.
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
        if self._shortest[:1] == [token]:
            self._shortest = self._shortest[1:]
        return True

    def _forced_token(self) -> int | None:
        """The only token with which the completion can still end in time, if there is only one."""
        if self._left is None or self._matcher.is_stopped():
            return None
        if not self._is_forced and self._count >= self._next_check:
            self._check_room(self._left)
        return self._shortest[0] if self._is_forced else None

    def _check_room(self, left: int) -> None:
        """Decide whether there is room for any token, and when to check again.

        A completion that ends like the last one is found much faster than another, which may be
        shorter.
        """
        self._shortest = _shortest_completion(self._matcher, self._shortest)
        if self._spare(left) <= 0:
            self._shortest = _shortest_completion(self._matcher)
        spare = self._spare(left)
        if spare <= 0:
            self._is_forced = True
        else:
            self._next_check = self._count + 1 + spare // (self._largest_step + 1)

    def _spare(self, left: int) -> int:
        """How many tokens more than needed are left, if the next one is the most costly."""
        return left - len(self._shortest) - self._largest_step


def mask_size(vocabulary_size: int) -> int:
    """The size of a mask in bytes: whole 32-bit words."""
    return (vocabulary_size + 31) // 32 * 4


def _mask_of(token: int, size: int) -> bytes:
    mask = bytearray(size)
    mask[token // 8] = 1 << token % 8
    return bytes(mask)


class MaskWriter:
    """Writes the masks of many matchers at once, in several threads.

    Args:
        threads: The number of threads; `None` for most of the processors.

    Raises:
        GrammarError: llguidance is not installed.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._executor = _executor(threads)

    def write(self, matchers: Sequence[Matcher], masks: bytearray | memoryview) -> None:
        """Write each `Matcher.bitmask`.

        Args:
            matchers: Distinct matchers for the same vocabulary size.
            masks: Contiguous writable memory of `mask_size` bytes per matcher, in their order.

        Raises:
            ValueError: The memory has another size, or is read-only.
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


class _Compiled(NamedTuple):
    """A compiled grammar.

    Attributes:
        matcher: A matcher at the start, to be copied.
        shortest: A short completion.
        largest_step: By how many tokens, at most, one token may lengthen the shortest completion.
    """

    matcher: LLMatcher
    shortest: list[int]
    largest_step: int


@lru_cache(maxsize=256)
def _compiled(grammar: str, vocabulary_size: int) -> _Compiled:
    """Compile a grammar; cached, since requests repeat theirs."""
    tokenizer = _tokenizer(vocabulary_size)  # raises if llguidance is not installed
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        reason = matcher.get_error().splitlines()[0]
        raise GrammarError(f"llguidance refuses the grammar: {reason}", path="")
    shortest = _shortest_completion(matcher)
    begun = max(map(most_tokens_once_begun, schemas_in(grammar)), default=0)
    return _Compiled(matcher, shortest, 16 + max(2 * len(shortest), begun + begun // 4))


@lru_cache(maxsize=2)
def _tokenizer(vocabulary_size: int) -> LLTokenizer:
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError as error:
        raise _missing(error) from error
    return LLTokenizer(TokenizerWrapper(_Vocabulary(vocabulary_size)))


class _Vocabulary:
    """o200k_harmony in the form that llguidance's `TokenizerWrapper` takes."""

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


# --- The shortest completion ------------------------------------------------------------------

_LONGEST: Final = 2048
_MOST_LOOKAHEADS: Final = 64
"""How many characters are chosen by lookahead, which is slow."""
_LIKELY: Final = "01n[{t-@.:/PTZDY a"
"""What values begin with, and separators within them; those of the shortest values first."""
_MANY: Final = 8_000
"""A mask with more nonzero bytes is one within a text."""


def _shortest_completion(matcher: LLMatcher, known: Sequence[int] = ()) -> list[int]:
    """Tokens that complete the completion: few, though not always the fewest.

    A text is closed as soon as possible, and so are open brackets between the parts of JSON. Where
    nothing can be closed, as within a number or a pattern, the first possible character is taken.
    Where that choice has occurred before, the character is taken that leads to the choice that has
    occurred least, so that no pattern is repeated forever.

    Args:
        matcher: The current position; it is not advanced.
        known: The shortest completion from an earlier position, whose end may apply here too.

    Raises:
        GrammarError: No completion was found.
    """
    end = _applicable_suffix(matcher, known)
    if end:
        return end
    matcher = matcher.deep_copy()
    seen: Counter[bytes] = Counter()
    found: list[int] = []
    while not matcher.is_stopped():
        tokens = matcher.compute_ff_tokens() or [_closing_token(matcher, seen)]
        if not matcher.consume_tokens(tokens):
            reason = matcher.get_error().splitlines()[0]
            raise GrammarError(f"no completion was found: {reason}", path="")
        found += tokens
        if len(found) > _LONGEST:
            raise GrammarError(f"no completion of less than {_LONGEST} tokens was found", path="")
        end = _applicable_suffix(matcher, known)
        if end:
            return found + end
    return found


def _applicable_suffix(matcher: LLMatcher, tokens: Sequence[int]) -> list[int]:
    """The longest suffix of the tokens that completes the completion here, if any."""
    if not tokens or tokens[-1] not in STOP_TOKENS:
        return []
    suffixes = (list(tokens[start:]) for start in range(len(tokens)))
    return next((it for it in suffixes if matcher.validate_tokens(it) == len(it)), [])


def _closing_token(matcher: LLMatcher, seen: Counter[bytes]) -> int:
    """The next token of a short completion; `seen` counts the masks at earlier choices."""
    mask: bytes = matcher.compute_bitmask()
    is_text = len(mask) - mask.count(0) > _MANY
    closing = _allowed(mask, _text_closers() if is_text else _part_closers())
    if closing:
        return closing[0]
    characters = _allowed(mask, _characters())
    if not characters:
        bits = int.from_bytes(mask, "little")
        return (bits & -bits).bit_length() - 1
    seen[mask] += 1
    likely = [token for token in characters if token in _characters()[: len(_LIKELY)]]
    if seen[mask] == 1 or len(likely) < 2 or seen.total() > _MOST_LOOKAHEADS:
        return characters[(seen[mask] - 1) % len(characters)]
    # This choice is a repetition: move on to the choice that has occurred least.
    ahead = [seen[_mask_after(matcher, token)] for token in likely]
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
    # In a header: to the answer if there may be one, otherwise to a call.
    words = (encode(word)[0] for word in ("final", "commentary", " to"))
    header = (CHANNEL, *words, MESSAGE)
    parts = (token for text in ("}", "]", ",", '"') for token in encode(text))
    return (RETURN, CALL, END, *header, *parts)


@lru_cache(maxsize=1)
def _characters() -> tuple[int, ...]:
    """The characters that values are written with, the likely ones first."""
    rest = (chr(code) for code in range(0x21, 0x7F) if chr(code) not in _LIKELY)
    return tuple(encode(character)[0] for character in (*_LIKELY, *rest))
