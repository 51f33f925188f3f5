"""Refusing unknown options with a suggestion of the intended name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")

_SAMPLING: Final = frozenset(
    {
        "constraint",
        "frequency_penalty",
        "logprobs",
        "max_tokens",
        "presence_penalty",
        "seed",
        "stop",
        "stop_tokens",
        "temperature",
        "top_p",
    }
)
"""The sampling parameters, which are often passed by mistake as other options."""


def checked_options(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function refuse unknown keyword arguments with a suggestion.

    Unlike Python's own `TypeError`, the error suggests the name that was probably intended, and
    states where sampling parameters belong.

    Example:
        >>> @checked_options
        ... def render(*, drop_analysis="never"): ...
        >>> render(drop_analisis="never")
        Traceback (most recent call last):
            ...
        TypeError: render: unexpected option 'drop_analisis'; did you mean 'drop_analysis'?
    """
    code = function.__code__  # far cheaper than a signature, and this runs at every import
    known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    name = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if kwargs and not kwargs.keys() <= known:
            refuse_options(name, kwargs, known)
        return function(*args, **kwargs)

    return checked


def checked_fields(kind: type[_T]) -> type[_T]:
    """Make a class refuse unknown keyword arguments with a suggestion, as `checked_options` does.

    Example:
        >>> from dataclasses import dataclass
        >>> @checked_fields
        ... @dataclass
        ... class Policy:
        ...     timeout: float = 300.0
        >>> Policy(timout=5)
        Traceback (most recent call last):
            ...
        TypeError: Policy: unexpected option 'timout'; did you mean 'timeout'?
    """
    made: Any = kind
    made.__init__ = checked_options(made.__init__)
    return kind


def refuse_options(where: str, given: Mapping[str, Any], known: Iterable[str]) -> NoReturn:
    """Raise the error for keyword arguments of which at least one is unknown.

    Raises:
        TypeError: Always; it names the first unknown argument and the closest known one.
    """
    from difflib import get_close_matches  # imported late: only errors need it

    names = sorted(set(known) - {"self", "cls"})
    unknown = next(name for name in given if name not in names)
    hint = ""
    if unknown in _SAMPLING and "sampling" in names:
        hint = f"; it is a sampling parameter: sampling=SamplingParams({unknown}=...)"
    elif close := get_close_matches(unknown, names, n=1):
        hint = f"; did you mean {close[0]!r}?"
    elif "sampling" in names and (close := get_close_matches(unknown, _SAMPLING, n=1)):
        hint = f"; did you mean the sampling parameter {close[0]!r}: sampling=SamplingParams(...)?"
    elif names:
        hint = f"; known options: {', '.join(names)}"
    raise TypeError(f"{where}: unexpected option {unknown!r}{hint}")
