"""Regular expressions as rules, character by character.

Python's own parser reads them. Look-around, back-references and flags are refused. JSON Schema
means the regular expressions of JavaScript, which differ from Python's in a few things; where they
do, only what both match is admitted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from ..errors import GrammarError
from ._nodes import (
    LAST_CODE_POINT,
    Characters,
    Node,
    alternatives,
    characters,
    complement,
    repeat,
    sequence,
    without,
)
from ._rules import RuleBook

_ALL: Final = characters((0, LAST_CODE_POINT))
_ASCII: Final = (0, 0x7F)
_LINE_ENDS: Final = characters("\n\r\u2028\u2029")
_DIGITS: Final = characters((0x30, 0x39))
_WORD: Final = characters((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), "_")
_WHITESPACE: Final = characters(" \t\n\r\f\v")
# That of Python and that of JavaScript.
_ALL_WHITESPACE: Final = characters(
    *((9, 13), (28, 32), "\x85\xa0\u1680", (0x2000, 0x200A), "\u2028\u2029\u202f\u205f\u3000\ufeff")
)
_CATEGORIES: Final = {
    _constants.CATEGORY_DIGIT: _DIGITS,
    _constants.CATEGORY_WORD: _WORD,
    _constants.CATEGORY_SPACE: _WHITESPACE,
    # Beyond ASCII they disagree on what is a digit or a letter.
    _constants.CATEGORY_NOT_DIGIT: without(characters(_ASCII), *_DIGITS.ranges),
    _constants.CATEGORY_NOT_WORD: without(characters(_ASCII), *_WORD.ranges),
    _constants.CATEGORY_NOT_SPACE: without(_ALL, *_ALL_WHITESPACE.ranges),
}
_OPPOSITES: Final = {
    _constants.CATEGORY_DIGIT: _constants.CATEGORY_NOT_DIGIT,
    _constants.CATEGORY_WORD: _constants.CATEGORY_NOT_WORD,
    _constants.CATEGORY_SPACE: _constants.CATEGORY_NOT_SPACE,
    _constants.CATEGORY_NOT_DIGIT: _constants.CATEGORY_DIGIT,
    _constants.CATEGORY_NOT_WORD: _constants.CATEGORY_WORD,
    _constants.CATEGORY_NOT_SPACE: _constants.CATEGORY_SPACE,
}
_START_ANCHORS: Final = (
    (_constants.AT, _constants.AT_BEGINNING),
    (_constants.AT, _constants.AT_BEGINNING_STRING),
)
_END_ANCHORS: Final = (
    (_constants.AT, _constants.AT_END),
    (_constants.AT, _constants.AT_END_STRING),
)

Written = Callable[[Characters], Node]
"""Writes one character of a set, escaped where necessary."""


def pattern_rules(
    pattern: str, written: Written, book: RuleBook, path: str, *, is_search: bool
) -> Node:
    """The texts that a regular expression matches.

    Args:
        pattern: The regular expression.
        written: Writes one character of a set.
        book: The rules so far.
        path: Where the pattern is in the schema, for errors.
        is_search: Whether a match within the text is enough, as in JSON Schema.

    Raises:
        GrammarError: The rules cannot express the pattern, or it is not a regular expression.
    """
    return _Reader(written, book, path).whole(_parsed(pattern, path), is_search=is_search)


def alphabet(pattern: str, path: str, *, is_search: bool) -> Characters:
    """All characters that may occur in a text that a regular expression matches.

    Raises:
        GrammarError: As for `pattern_rules`.
    """
    found: list[tuple[int, int]] = []

    def note(some: Characters) -> Node:
        found.extend(some.ranges)
        return some

    pattern_rules(pattern, note, RuleBook(), path, is_search=is_search)
    return characters(*found)


def _parsed(pattern: str, path: str) -> Any:
    if "{," in pattern:
        # Python reads a count from zero, JavaScript the literal characters.
        raise GrammarError("a repetition needs a minimum count, such as {0,3}", path=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise GrammarError(f"the pattern cannot be read: {error}", path=path) from None
    if parsed.state.flags & ~re.UNICODE:
        raise GrammarError("flags in patterns are not supported", path=path)
    return parsed


class _Reader:
    """Writes the tree of Python's parser as nodes."""

    def __init__(self, written: Written, book: RuleBook, path: str) -> None:
        self._written = written
        self._book = book
        self._path = path

    def whole(
        self,
        items: Iterable[Any],
        *,
        is_search: bool,
        at_start: bool = False,
        at_end: bool = False,
    ) -> Node:
        """The whole pattern, or one of its branches.

        Args:
            items: The parsed items.
            is_search: Whether a match within the text is enough.
            at_start: Whether an enclosing pattern anchors the match at the start.
            at_end: Whether an enclosing pattern anchors the match at the end.
        """
        parts = list(items)
        while parts and parts[0] in _START_ANCHORS:
            parts, at_start = parts[1:], True
        while parts and parts[-1] in _END_ANCHORS:
            parts, at_end = parts[:-1], True
        branches: tuple[Any, ...] = ()
        if len(parts) == 1 and parts[0][0] is _constants.BRANCH:
            branches = parts[0][1][1]
        elif len(parts) == 1 and parts[0][0] is _constants.SUBPATTERN:
            branches = (self._inner(parts[0][1]),)
        if branches:
            return alternatives(
                *(
                    self.whole(it, is_search=is_search, at_start=at_start, at_end=at_end)
                    for it in branches
                )
            )
        anything = (repeat(self._written(_ALL)),) if is_search else ()
        return sequence(
            *(() if at_start else anything), self._all(parts), *(() if at_end else anything)
        )

    def _all(self, items: Iterable[Any]) -> Node:
        return sequence(*(self._one(code, value) for code, value in items))

    def _one(self, code: Any, value: Any) -> Node:
        match code:
            case _constants.LITERAL:
                return self._written(characters((value, value)))
            case _constants.NOT_LITERAL:
                return self._written(without(_ALL, (value, value)))
            case _constants.ANY:
                return self._written(without(_ALL, *_LINE_ENDS.ranges))
            case _constants.IN:
                return self._written(self._set(value))
            case _constants.BRANCH:
                return alternatives(*map(self._all, value[1]))
            case _constants.SUBPATTERN:
                return self._all(self._inner(value))
            case _constants.MAX_REPEAT | _constants.MIN_REPEAT:
                least, most, items = value
                unlimited = most == _constants.MAXREPEAT
                part = self._book.add("part", self._all(items))
                return self._book.repeat(part, least, None if unlimited else most, self._path)
        raise GrammarError(f"{str(code).lower()} in patterns is not supported", path=self._path)

    def _inner(self, subpattern: Any) -> Any:
        _, added, removed, items = subpattern
        if added or removed:
            raise GrammarError("flags in patterns are not supported", path=self._path)
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
        # A negated set excludes what either language counts among the category.
        return complement(_CATEGORIES[_OPPOSITES[name]]) if is_negated else _CATEGORIES[name]
