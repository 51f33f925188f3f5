"""Context-free rules, and their text in the dialect of xgrammar and llama.cpp.

Both languages are dialects of one (`name ::= "text" [a-z] other {2,3} | ...`). They differ in how
a token is written, which the caller of `rules_text` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..errors import GrammarError
from ._nodes import (
    EMPTY_LANGUAGE,
    EPSILON,
    LAST_CODE_POINT,
    Alternatives,
    Characters,
    Literal,
    Node,
    OrdinaryToken,
    Repeat,
    Rule,
    Sequence,
    Token,
    complement,
    leaves,
    map_leaves,
    repeat,
)

TokenText = Callable[[Token | OrdinaryToken], str]
"""Writes a token in the language of an engine."""


class RuleBook:
    """The rules of one grammar, in the order in which they were named.

    Args:
        most_repetitions: The highest count that the language allows in a repetition; `None` for
            any.
    """

    def __init__(self, most_repetitions: int | None = None) -> None:
        self.rules: dict[str, Node] = {}
        self._most_repetitions = most_repetitions
        self._names: dict[tuple[str, Node], str] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, body: Node) -> Node:
        """A reference to a rule with this body; an equal rule of the same name is reused.

        Args:
            name: Letters only; a number is appended where the name is taken.
            body: The body. A bare reference, and what needs no rule, is returned as it is.
        """
        if isinstance(body, Rule) or body in (EPSILON, EMPTY_LANGUAGE):
            return body
        known = self._names.get((name, body))
        if known is not None:
            return Rule(known)
        rule = self.reserve(name)
        self._names[name, body] = rule.name
        self.rules[rule.name] = body
        return rule

    def reserve(self, name: str) -> Rule:
        """A new rule, to be defined later: it may refer to itself."""
        number = self._counts[name] = self._counts.get(name, 0) + 1
        rule = Rule(f"{name}{number}" if number > 1 else name)
        self.rules[rule.name] = EMPTY_LANGUAGE
        return rule

    def known(self, name: str) -> Rule | None:
        """The first rule of a name, if there is one."""
        return Rule(name) if name in self.rules else None

    def define(self, rule: Rule, body: Node) -> None:
        """Set the body of a reserved rule."""
        self.rules[rule.name] = body

    def repeat(self, part: Node, least: int, most: int | None, path: str) -> Node:
        """A repetition that the schema at `path` requires.

        Raises:
            GrammarError: The language does not count that far.
        """
        limit = self._most_repetitions
        if limit is not None and max(least, most or 0) > limit:
            raise GrammarError(f"this language counts no more than {limit} repetitions", path=path)
        return repeat(part, least, most)


# --- Useless rules --------------------------------------------------------------------------


def trimmed(start: Node, rules: Mapping[str, Node]) -> tuple[Node, dict[str, Node]]:
    """The same language without useless rules: unproductive and unreachable ones.

    A schema can describe what has no end, such as an object that must contain itself. As an
    alternative that is a dead end, into which a model must not be led. Rules that only refer to
    another one are replaced by it.

    Returns:
        The start, `EMPTY_LANGUAGE` if no text matches; and the rules that it uses, in their order.
    """
    rules = _reachable(start, rules)
    users: dict[str, set[str]] = {}
    for name, body in rules.items():
        for used in _used(body):
            users.setdefault(used, set()).add(name)
    productive: set[str] = set()

    def pruned(node: Node) -> Node:
        return map_leaves(node, lambda leaf: EMPTY_LANGUAGE if is_dead_end(leaf) else leaf)

    def is_dead_end(leaf: Node) -> bool:
        is_unproductive = isinstance(leaf, Rule) and leaf.name not in productive
        return is_unproductive or leaf == Characters(())

    open_names = list(rules)
    while open_names:
        name = open_names.pop()
        if name not in productive and pruned(rules[name]) != EMPTY_LANGUAGE:
            productive.add(name)
            open_names += users.get(name, ())
    bodies = {name: pruned(body) for name, body in rules.items() if name in productive}

    def inlined(leaf: Node) -> Node:
        body = leaf
        while isinstance(body, Rule):
            leaf, body = body, bodies[body.name]
        return EPSILON if body == EPSILON else leaf

    start = map_leaves(pruned(start), inlined)
    return start, _reachable(start, {it: map_leaves(bodies[it], inlined) for it in bodies})


def _reachable(start: Node, rules: Mapping[str, Node]) -> dict[str, Node]:
    found: set[str] = set()
    open_names = _used(start)
    while open_names:
        name = open_names.pop()
        if name not in found:
            found.add(name)
            open_names += _used(rules[name])
    return {name: body for name, body in rules.items() if name in found}


def _used(node: Node) -> list[str]:
    return [leaf.name for leaf in leaves(node) if isinstance(leaf, Rule)]


# --- Text -----------------------------------------------------------------------------------


def rules_text(start: Node, rules: Mapping[str, Node], token_text: TokenText) -> str:
    """Write rules, one per line; the first, `root`, is the start."""
    lines = [f"{name} ::= {_text(body, token_text)}" for name, body in rules.items()]
    return "\n".join([f"root ::= {_text(start, token_text)}", *lines, ""])


def _text(node: Node, token_text: TokenText, *, is_part: bool = False) -> str:
    match node:
        case Literal(text):
            return f'"{"".join(map(_literal_character, text))}"'
        case Characters():
            return _characters_text(node)
        case Token() | OrdinaryToken():
            return token_text(node)
        case Rule(name):
            return name
        case Sequence(()):
            return '""'
        case Sequence(parts):
            text = " ".join(_text(part, token_text, is_part=True) for part in parts)
            return f"({text})" if is_part else text
        case Alternatives(options):
            text = " | ".join(_text(option, token_text, is_part=True) for option in options)
            return f"({text})" if is_part else text
        case Repeat():
            text = _text(node.part, token_text, is_part=True)
            # Two adjacent counts would be read as one.
            text = f"({text})" if isinstance(node.part, Repeat) else text
            return text + _times(node)
    raise TypeError(f"{type(node).__name__} has to be expanded to rules first")


def _times(node: Repeat) -> str:
    match node.least, node.most:
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
