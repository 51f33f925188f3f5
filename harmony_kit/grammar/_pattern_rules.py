"""Regular expressions as rules, character by character.

Python's own reader of regular expressions reads them. What it calls a set of characters becomes
one, and repetitions stay; what looks around, refers back or changes how the rest is read is
refused. JSON Schema means the expressions of JavaScript, which read a few things otherwise; where
the two differ, only what both admit is admitted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from ..errors import GrammarError
from ._rules import (
    LAST_CODE_POINT,
    Characters,
    Expression,
    Repeat,
    RuleBook,
    alternatives,
    characters,
    complement,
    sequence,
    without,
)

_ALL: Final = characters((0, LAST_CODE_POINT))
_ASCII: Final = (0, 0x7F)
_LINE_ENDS: Final = characters("\n\r\u2028\u2029")
_DIGITS: Final = characters((0x30, 0x39))
_WORD: Final = characters((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), "_")
_BLANKS: Final = characters(" \t\n\r\f\v")
# The blanks of Python and those of JavaScript.
_ALL_BLANKS: Final = characters(
    *((9, 13), (28, 32), "\x85\xa0\u1680", (0x2000, 0x200A), "\u2028\u2029\u202f\u205f\u3000\ufeff")
)
_CATEGORIES: Final = {
    _constants.CATEGORY_DIGIT: _DIGITS,
    _constants.CATEGORY_WORD: _WORD,
    _constants.CATEGORY_SPACE: _BLANKS,
    # Beyond ASCII the two disagree on what is a digit or a letter.
    _constants.CATEGORY_NOT_DIGIT: without(characters(_ASCII), *_DIGITS.ranges),
    _constants.CATEGORY_NOT_WORD: without(characters(_ASCII), *_WORD.ranges),
    _constants.CATEGORY_NOT_SPACE: without(_ALL, *_ALL_BLANKS.ranges),
}
_OPPOSITES: Final = {
    _constants.CATEGORY_DIGIT: _constants.CATEGORY_NOT_DIGIT,
    _constants.CATEGORY_WORD: _constants.CATEGORY_NOT_WORD,
    _constants.CATEGORY_SPACE: _constants.CATEGORY_NOT_SPACE,
    _constants.CATEGORY_NOT_DIGIT: _constants.CATEGORY_DIGIT,
    _constants.CATEGORY_NOT_WORD: _constants.CATEGORY_WORD,
    _constants.CATEGORY_NOT_SPACE: _constants.CATEGORY_SPACE,
}
_BEGINNINGS: Final = (
    (_constants.AT, _constants.AT_BEGINNING),
    (_constants.AT, _constants.AT_BEGINNING_STRING),
)
_ENDS: Final = ((_constants.AT, _constants.AT_END), (_constants.AT, _constants.AT_END_STRING))

Spelling = Callable[[Characters], Expression]
"""How one character of a set is written."""


def pattern_rules(
    pattern: str, spelling: Spelling, book: RuleBook, path: str, *, is_search: bool
) -> Expression:
    """The texts that a regular expression matches.

    Args:
        pattern: The regular expression.
        spelling: How one character of a set is written.
        book: The rules so far.
        path: Where it stands, for errors.
        is_search: Whether a match within a text is enough, as JSON Schema has it.

    Raises:
        GrammarError: The rules cannot say it, or it is no regular expression.
    """
    return _Reader(spelling, book, path).whole(_parsed(pattern, path), is_search=is_search)


def alphabet(pattern: str, path: str, *, is_search: bool) -> Characters:
    """All characters that may stand in a text that a regular expression matches.

    Args:
        pattern: The regular expression.
        path: Where it stands, for errors.
        is_search: As for `pattern_rules`.

    Raises:
        GrammarError: As for `pattern_rules`.
    """
    found: list[tuple[int, int]] = []

    def note(some: Characters) -> Expression:
        found.extend(some.ranges)
        return some

    pattern_rules(pattern, note, RuleBook(), path, is_search=is_search)
    return characters(*found)


def _parsed(pattern: str, path: str) -> Any:
    if "{," in pattern:
        # Python reads a count from zero on, JavaScript the characters.
        raise GrammarError("the rules have no repetition without a least count", path=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise GrammarError(f"the pattern cannot be read: {error}", path=path) from None
    if parsed.state.flags & ~re.UNICODE:
        raise GrammarError("the rules have no flags in patterns", path=path)
    return parsed


class _Reader:
    """Writes the tree that Python reads as an expression."""

    def __init__(self, spelling: Spelling, book: RuleBook, path: str) -> None:
        self._spelling = spelling
        self._book = book
        self._path = path

    def whole(
        self,
        items: Iterable[Any],
        *,
        is_search: bool,
        is_begun: bool = False,
        is_over: bool = False,
    ) -> Expression:
        """What the whole pattern, or one of its branches, matches.

        Args:
            items: What the pattern is made of.
            is_search: Whether a match within a text is enough.
            is_begun: Whether the match stands at the beginning, as said outside.
            is_over: Whether the match stands at the end, as said outside.
        """
        parts = list(items)
        while parts and parts[0] in _BEGINNINGS:
            parts, is_begun = parts[1:], True
        while parts and parts[-1] in _ENDS:
            parts, is_over = parts[:-1], True
        branches: tuple[Any, ...] = ()
        if len(parts) == 1 and parts[0][0] is _constants.BRANCH:
            branches = parts[0][1][1]
        elif len(parts) == 1 and parts[0][0] is _constants.SUBPATTERN:
            branches = (self._inner(parts[0][1]),)
        if branches:
            return alternatives(
                *(
                    self.whole(it, is_search=is_search, is_begun=is_begun, is_over=is_over)
                    for it in branches
                )
            )
        anything = (Repeat(self._spelling(_ALL), 0, None),) if is_search else ()
        return sequence(
            *(() if is_begun else anything), self._all(parts), *(() if is_over else anything)
        )

    def _all(self, items: Iterable[Any]) -> Expression:
        return sequence(*(self._one(code, value) for code, value in items))

    def _one(self, code: Any, value: Any) -> Expression:
        match code:
            case _constants.LITERAL:
                return self._spelling(characters((value, value)))
            case _constants.NOT_LITERAL:
                return self._spelling(without(_ALL, (value, value)))
            case _constants.ANY:
                return self._spelling(without(_ALL, *_LINE_ENDS.ranges))
            case _constants.IN:
                return self._spelling(self._set(value))
            case _constants.BRANCH:
                return alternatives(*map(self._all, value[1]))
            case _constants.SUBPATTERN:
                return self._all(self._inner(value))
            case _constants.MAX_REPEAT | _constants.MIN_REPEAT:
                least, most, items = value
                unlimited = most == _constants.MAXREPEAT
                part = self._book.add("part", self._all(items))
                return self._book.repeat(part, least, None if unlimited else most, self._path)
        raise GrammarError(f"the rules have no {str(code).lower()} in patterns", path=self._path)

    def _inner(self, subpattern: Any) -> Any:
        _, added, removed, items = subpattern
        if added or removed:
            raise GrammarError("the rules have no flags in patterns", path=self._path)
        return items

    def _set(self, items: list[Any]) -> Characters:
        is_negated = items[0][0] is _constants.NEGATE
        ranges: list[tuple[int, int]] = []
        for code, value in items[1:] if is_negated else items:
            match code:
                case _constants.LITERAL:
                    ranges.append((value, value))
                case _constants.RANGE:
                    ranges.append(value)
                case _constants.CATEGORY:
                    ranges += self._category(value, is_negated=is_negated).ranges
        some = characters(*ranges)
        return without(_ALL, *some.ranges) if is_negated else some

    @staticmethod
    def _category(name: Any, *, is_negated: bool) -> Characters:
        # Of what a negated set leaves out, all that either language takes for it.
        return complement(_CATEGORIES[_OPPOSITES[name]]) if is_negated else _CATEGORIES[name]
