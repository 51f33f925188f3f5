"""Sampling parameters: how tokens are chosen, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from ._checks import NOT_NEGATIVE, NumberRange, as_index, checked_integer, checked_number
from ._options import checked_options
from .errors import OptionError
from .wire._vocabulary import CALL, RETURN, SIZE

if TYPE_CHECKING:
    from .grammar import Constraint


@dataclass(frozen=True, init=False, kw_only=True)
class SamplingParams:
    """How tokens are chosen, and when to stop.

    `None` leaves a parameter to the engine. Numbers of other types, such as numpy's, are converted
    to plain ones.

    Args:
        max_tokens: The maximum number of completion tokens, at least 1.
        temperature: The temperature; 0 for greedy decoding.
        top_p: The probability mass to sample from, 0 to 1.
        seed: A seed for repeatable sampling, if the engine supports it.
        stop_tokens: Token ids that end the generation.
        stop: One or more strings that end the generation, if the engine supports it.
        frequency_penalty: A penalty for tokens by how often they occurred, -2 to 2.
        presence_penalty: A penalty for tokens that occurred at all, -2 to 2.
        logprobs: The number of most likely tokens to report per position, in addition to the
            generated one; 0 for that one only.
        constraint: A constraint on the completion. A backend that cannot enforce it refuses.

    Raises:
        OptionError: A parameter has an invalid value.

    Example:
        >>> SamplingParams(stop="</s>").stop
        ('</s>',)
        >>> SamplingParams(max_tokens=0)
        Traceback (most recent call last):
            ...
        harmony_kit.errors.OptionError: max_tokens: expected an integer of at least 1 or None, got 0
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop_tokens: tuple[int, ...]
    stop: tuple[str, ...]
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: int | None
    constraint: Constraint | None

    @checked_options
    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop_tokens: Iterable[int] = (RETURN, CALL),
        stop: str | Iterable[str] = (),
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        logprobs: int | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "max_tokens", checked_integer("max_tokens", max_tokens, least=1))
        put(self, "temperature", checked_number("temperature", temperature, NOT_NEGATIVE))
        put(self, "top_p", checked_number("top_p", top_p, _TOP_P))
        put(self, "seed", checked_integer("seed", seed))
        put(self, "stop_tokens", _stop_tokens(stop_tokens))
        put(self, "stop", _stop_texts(stop))
        put(
            self,
            "frequency_penalty",
            checked_number("frequency_penalty", frequency_penalty, _PENALTY),
        )
        put(
            self, "presence_penalty", checked_number("presence_penalty", presence_penalty, _PENALTY)
        )
        put(self, "logprobs", checked_integer("logprobs", logprobs, least=0))
        put(self, "constraint", _constraint(constraint))


_TOP_P: Final = NumberRange("a number from 0 to 1", lambda value: 0 <= value <= 1)
_PENALTY: Final = NumberRange("a number from -2 to 2", lambda value: -2 <= value <= 2)


def _stop_tokens(value: object) -> tuple[int, ...]:
    items = _items(value)
    tokens = None if items is None else tuple(map(as_index, items))
    if tokens is None or not all(token is not None and 0 <= token < SIZE for token in tokens):
        allowed = f"an iterable of token ids, from 0 to {SIZE - 1}"
        raise _refused_items("stop_tokens", allowed, value, items)
    return cast("tuple[int, ...]", tokens)


def _stop_texts(value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else _items(value)
    if texts is None or not all(isinstance(text, str) and text for text in texts):
        allowed = "a non-empty string or an iterable of non-empty strings"
        raise _refused_items("stop", allowed, value, texts)
    return texts


def _items(value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, str | bytes | bytearray):  # iterable, but not as token ids
        return None
    try:
        return tuple(value)
    except TypeError:
        return None


def _refused_items(name: str, allowed: str, value: object, items: object) -> OptionError:
    given = items if isinstance(value, Iterator) else value  # an iterator's repr hides its items
    return OptionError(f"expected {allowed}, got {given!r}", option=name)


def _constraint(value: object) -> Constraint | None:
    if value is None:
        return None
    from .grammar import Constraint  # slow to import, and already imported if there is one

    if not isinstance(value, Constraint):
        raise OptionError(f"expected a Constraint or None, got {value!r}", option="constraint")
    return value
