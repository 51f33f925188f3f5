"""Context-free rules, as values: what the grammars of xgrammar and llama.cpp are written from.

Both languages are dialects of one (`name ::= "text" [a-z] other {2,3} | ...`). What differs is
how a token is written, which the writer is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Union

from ..errors import GrammarError

LAST_CODE_POINT: Final = 0x10FFFF


@dataclass(frozen=True)
class Literal:
    """A text.

    Attributes:
        text: The text; it may be empty.
    """

    text: str


@dataclass(frozen=True)
class Characters:
    """One character of a set.

    Attributes:
        ranges: The first and last code points of ranges, in order, apart from each other.
    """

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Token:
    """One token by its id.

    Attributes:
        token: The id.
    """

    token: int


@dataclass(frozen=True)
class OrdinaryToken:
    """One token that is not special, and spells whole characters."""


@dataclass(frozen=True)
class Rule:
    """What a rule says.

    Attributes:
        name: The rule's name.
    """

    name: str


@dataclass(frozen=True)
class Sequence:
    """Expressions that follow one another.

    Attributes:
        parts: The expressions.
    """

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Alternatives:
    """One of several expressions.

    Attributes:
        options: The expressions; none is what nothing can be.
    """

    options: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat:
    """An expression several times.

    Attributes:
        part: The expression.
        least: How often at least.
        most: How often at most; `None` for no limit.
    """

    part: Expression
    least: int
    most: int | None


# As a Union: in Python 3.11 a name cannot stand on both sides of its own alias otherwise.
Expression = Union[  # noqa: UP007
    Literal, Characters, Token, OrdinaryToken, Rule, Sequence, Alternatives, Repeat
]
"""What a rule may say."""

NOTHING: Final = Literal("")
"""The empty text."""

IMPOSSIBLE: Final = Alternatives(())
"""What nothing can be."""


def sequence(*parts: Expression) -> Expression:
    """Expressions that follow one another, without layers that say nothing.

    Args:
        *parts: The expressions.
    """
    flat: list[Expression] = []
    for part in parts:
        flat += part.parts if isinstance(part, Sequence) else (part,)
    flat = [part for part in flat if part != NOTHING]
    if IMPOSSIBLE in flat:
        return IMPOSSIBLE
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat)) if flat else NOTHING


def alternatives(*options: Expression) -> Expression:
    """One of several expressions, without doubles and without layers that say nothing.

    Args:
        *options: The expressions.
    """
    flat: dict[Expression, None] = {}
    for option in options:
        inner = option.options if isinstance(option, Alternatives) else (option,)
        flat.update(dict.fromkeys(inner))
    return next(iter(flat)) if len(flat) == 1 else Alternatives(tuple(flat))


def optional(part: Expression) -> Expression:
    """An expression, or nothing.

    Args:
        part: The expression.
    """
    return alternatives(part, NOTHING)


def characters(*ranges: str | tuple[int, int]) -> Characters:
    """One character of a set.

    Args:
        *ranges: Code points from and to, or the characters themselves.
    """
    pairs: list[tuple[int, int]] = []
    for item in ranges:
        pairs += [(ord(it), ord(it)) for it in item] if isinstance(item, str) else [item]
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return Characters(tuple(merged))


def complement(some: Characters) -> Characters:
    """One character that is not in a set.

    Args:
        some: The set.
    """
    found = []
    start = 0
    for first, last in some.ranges:
        if first > start:
            found.append((start, first - 1))
        start = last + 1
    if start <= LAST_CODE_POINT:
        found.append((start, LAST_CODE_POINT))
    return Characters(tuple(found))


def without(some: Characters, *ranges: str | tuple[int, int]) -> Characters:
    """The characters of a set that are not in another.

    Args:
        some: The set.
        *ranges: What to leave out, as for `characters`.
    """
    return complement(characters(*complement(some).ranges, *ranges))


class RuleBook:
    """The rules of one grammar, in the order in which they were named.

    Args:
        most_repetitions: The most repetitions that the language can count; `None` for any.
    """

    def __init__(self, most_repetitions: int | None = None) -> None:
        self.rules: dict[str, Expression] = {}
        self._most_repetitions = most_repetitions
        self._names: dict[tuple[str, Expression], str] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, body: Expression) -> Expression:
        """A rule that says something; the one that there is if it says the same.

        Args:
            name: What it describes: letters only. A number makes it unique.
            body: What it says.
        """
        if isinstance(body, Rule) or body in (NOTHING, IMPOSSIBLE):
            return body
        known = self._names.get((name, body))
        if known is not None:
            return Rule(known)
        rule = self.reserve(name)
        self._names[name, body] = rule.name
        self.rules[rule.name] = body
        return rule

    def reserve(self, name: str) -> Rule:
        """A rule that says nothing yet, for what contains itself.

        Args:
            name: As for `add`.
        """
        number = self._counts[name] = self._counts.get(name, 0) + 1
        rule = Rule(f"{name}{number}" if number > 1 else name)
        self.rules[rule.name] = IMPOSSIBLE
        return rule

    def known(self, name: str) -> Rule | None:
        """The first rule of a name, if there is one.

        Args:
            name: The name.
        """
        return Rule(name) if name in self.rules else None

    def define(self, rule: Rule, body: Expression) -> None:
        """Say what a reserved rule says.

        Args:
            rule: The rule.
            body: What it says.
        """
        self.rules[rule.name] = body

    def repeat(self, part: Expression, least: int, most: int | None, path: str) -> Expression:
        """An expression several times.

        Args:
            part: The expression.
            least: How often at least.
            most: How often at most; `None` for no limit.
            path: Where the schema says so, for the error.

        Raises:
            GrammarError: The language cannot count so far.
        """
        limit = self._most_repetitions
        if limit is not None and max(least, most or 0) > limit:
            raise GrammarError(f"this language counts no more than {limit} repetitions", path=path)
        if most is not None and most < least:
            return IMPOSSIBLE
        if most == 0:
            return NOTHING
        return part if least == most == 1 else Repeat(part, least, most)


# --- Rules that lead nowhere ----------------------------------------------------------------


def possible(
    start: Expression, rules: Mapping[str, Expression]
) -> tuple[Expression, dict[str, Expression]]:
    """The same language without what can never be finished, and without rules of no use.

    A schema can describe what has no end, such as an object that must contain itself. Within an
    alternative that is a dead end, into which a model must not be led.

    Args:
        start: Where a text begins.
        rules: The rules.

    Returns:
        Where it begins, `IMPOSSIBLE` if there is no such text; and the rules that are used.
    """
    rules = _reachable(start, rules)
    users: dict[str, set[str]] = {}
    for name, body in rules.items():
        for used in _used(body):
            users.setdefault(used, set()).add(name)
    finite: set[str] = set()
    open_names = list(rules)
    while open_names:
        name = open_names.pop()
        if name not in finite and _pruned(rules[name], finite) != IMPOSSIBLE:
            finite.add(name)
            open_names += users.get(name, ())
    pruned = {name: _pruned(rules[name], finite) for name in finite}
    start = _inlined(_pruned(start, finite), pruned)
    inlined = {name: _inlined(body, pruned) for name, body in pruned.items()}
    return start, _reachable(start, {name: inlined[name] for name in rules if name in inlined})


def _reachable(start: Expression, rules: Mapping[str, Expression]) -> dict[str, Expression]:
    """The rules that are used from a beginning on, in their order."""
    found: set[str] = set()
    open_names = [*_used(start)]
    while open_names:
        name = open_names.pop()
        if name not in found:
            found.add(name)
            open_names += _used(rules[name])
    return {name: body for name, body in rules.items() if name in found}


def _inlined(expression: Expression, rules: Mapping[str, Expression]) -> Expression:
    """The same without rules that only name another, or say nothing."""
    match expression:
        case Rule():
            body: Expression = expression
            while isinstance(body, Rule):
                expression, body = body, rules[body.name]
            return NOTHING if body == NOTHING else expression
        case Sequence():
            return sequence(*(_inlined(part, rules) for part in expression.parts))
        case Alternatives():
            return alternatives(*(_inlined(option, rules) for option in expression.options))
        case Repeat():
            part = _inlined(expression.part, rules)
            return part if part == NOTHING else Repeat(part, expression.least, expression.most)
        case _:
            return expression


def _used(expression: Expression) -> Iterator[str]:
    match expression:
        case Rule():
            yield expression.name
        case Sequence():
            for part in expression.parts:
                yield from _used(part)
        case Alternatives():
            for option in expression.options:
                yield from _used(option)
        case Repeat():
            yield from _used(expression.part)


def _pruned(expression: Expression, finite: set[str]) -> Expression:
    match expression:
        case Rule():
            return expression if expression.name in finite else IMPOSSIBLE
        case Sequence():
            return sequence(*(_pruned(part, finite) for part in expression.parts))
        case Alternatives():
            return alternatives(*(_pruned(option, finite) for option in expression.options))
        case Repeat():
            part = _pruned(expression.part, finite)
            if part == IMPOSSIBLE:
                return IMPOSSIBLE if expression.least else NOTHING
            return Repeat(part, expression.least, expression.most)
        case Characters(()):
            return IMPOSSIBLE
        case _:
            return expression


# --- Writing --------------------------------------------------------------------------------


def rules_text(
    start: Expression,
    rules: Mapping[str, Expression],
    token_text: Callable[[Token | OrdinaryToken], str],
) -> str:
    """Write rules, one a line; the first is `root`.

    Args:
        start: What `root` says.
        rules: The other rules.
        token_text: How a token is written.
    """
    lines = [f"root ::= {_text(start, token_text)}"]
    lines += [f"{name} ::= {_text(body, token_text)}" for name, body in rules.items()]
    return "\n".join([*lines, ""])


def _text(
    expression: Expression,
    token_text: Callable[[Token | OrdinaryToken], str],
    *,
    is_part: bool = False,
) -> str:
    match expression:
        case Literal():
            return f'"{"".join(map(_literal_character, expression.text))}"'
        case Characters():
            return _characters_text(expression)
        case Token() | OrdinaryToken():
            return token_text(expression)
        case Rule():
            return expression.name
        case Sequence():
            text = " ".join(_text(part, token_text, is_part=True) for part in expression.parts)
            return f"({text})" if is_part else text
        case Alternatives():
            options = (_text(option, token_text, is_part=True) for option in expression.options)
            return f"({' | '.join(options)})" if is_part else " | ".join(options)
        case Repeat():
            part = _text(expression.part, token_text, is_part=True)
            # Two counts side by side would be read as one thing.
            part = f"({part})" if isinstance(expression.part, Repeat) else part
            return part + _times(expression)


def _times(repeat: Repeat) -> str:
    match repeat.least, repeat.most:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case least, None:
            return f"{{{least},}}"
        case least, most:
            return f"{{{least}}}" if least == most else f"{{{least},{most}}}"


def _characters_text(some: Characters) -> str:
    is_negated = some.ranges[-1][1] == LAST_CODE_POINT
    ranges = complement(some).ranges if is_negated else some.ranges
    parts = (
        _class_character(first) + (f"-{_class_character(last)}" if last > first else "")
        for first, last in ranges
    )
    return f"[{'^' if is_negated else ''}{''.join(parts)}]"


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


_CLASS_ESCAPES: Final = {**_ESCAPES, "[": "\\[", "]": "\\]"}


def _literal_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else _code_point(ord(character))


def _class_character(code_point: int) -> str:
    character = chr(code_point)
    if character in _CLASS_ESCAPES:
        return _CLASS_ESCAPES[character]
    is_plain = character.isascii() and (character.isalnum() or character in " !#%,:;=_/.<>@{}()|")
    return character if is_plain else _code_point(code_point)


def _code_point(code_point: int) -> str:
    # Not `\x`: xgrammar takes all hexadecimal digits that follow it.
    return f"\\u{code_point:04x}" if code_point < 0x10000 else f"\\U{code_point:08x}"
