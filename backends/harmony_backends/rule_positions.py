"""Where a completion stands within the rules of a grammar, and what rules are left.

Engines that run a grammar themselves begin at its beginning. One that shall go on in the middle of
a completion needs the grammar of the rest: the derivative of the whole (Brzozowski, "Derivatives
of Regular Expressions", 1964), one character after the other. For rules that do not begin with
themselves that is as good as for regular expressions.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from harmony_kit.grammar._rules import (
    IMPOSSIBLE,
    NOTHING,
    Alternatives,
    Characters,
    Expression,
    Literal,
    OrdinaryToken,
    Repeat,
    Rule,
    Sequence,
    Token,
    alternatives,
    possible,
    rules_text,
    sequence,
)
from harmony_kit.wire._vocabulary import CALL, FIRST_SPECIAL, RETURN, token_bytes

Rules = Mapping[str, Expression]
_FEW: Final = 16

_UTF_8: Final = ((0xE0, 2, 0x80), (0xF0, 3, 0x800), (0x100, 4, 0x10000))
"""Of characters of several bytes: what the first is below, how many there are, the least one."""

TokenText = Callable[[Token | OrdinaryToken], str]


@dataclass(frozen=True)
class RulePosition:
    """A place within what rules describe.

    Attributes:
        rest: What may follow.
        rules: The rules that it names.
        begun: The bytes of a character that has begun.
    """

    rest: Expression
    rules: Rules
    begun: bytes = b""

    @property
    def may_end(self) -> bool:
        """Whether one of the tokens that end a completion may come."""
        return any(self.after(token) is not None for token in (RETURN, CALL))

    def is_broken_by(self, token: int) -> bool:
        """Whether a token ends or begins a character as none is written in UTF-8.

        Args:
            token: A token id.
        """
        if token >= FIRST_SPECIAL:
            return bool(self.begun)
        try:
            codecs.getincrementaldecoder("utf-8")().decode(self.begun + token_bytes(token))
        except UnicodeDecodeError:
            return True
        return False

    def after(self, token: int) -> RulePosition | None:
        """The place after a token.

        Args:
            token: A token id.

        Returns:
            The place, or `None` where the token may not come.
        """
        rest: Expression = IMPOSSIBLE
        begun = b""
        if not self.begun:
            rest = _derivative(self.rest, self.rules, lambda part: _after_token(part, token))
        if token < FIRST_SPECIAL:
            by_characters, begun = self._after_characters(token_bytes(token))
            rest = _one_of([rest, by_characters])
        return None if rest == IMPOSSIBLE else replace(self, rest=rest, begun=begun)

    def text(self, token_text: TokenText) -> str:
        """The grammar of the rest, without the tokens that end a completion.

        Args:
            token_text: How the language writes a token.
        """
        rules = {name: _without_end(body) for name, body in self.rules.items()}
        return rules_text(*possible(_without_end(self.rest), rules), token_text)

    def _after_characters(self, data: bytes) -> tuple[Expression, bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            characters = decoder.decode(self.begun + data)
        except UnicodeDecodeError:
            return IMPOSSIBLE, b""
        rest = self.rest
        for character in characters:
            rest = _after_character(rest, self.rules, ord(character), ord(character))
        begun, _ = decoder.getstate()
        if begun and _after_character(rest, self.rules, *_begun_by(begun)) == IMPOSSIBLE:
            return IMPOSSIBLE, b""
        return rest, begun


def _after_token(part: Expression, token: int) -> Expression:
    match part:
        case Token(wanted):
            return NOTHING if token == wanted else IMPOSSIBLE
        case OrdinaryToken() if token < FIRST_SPECIAL and _is_whole(token):
            return NOTHING
        case _:
            return IMPOSSIBLE


def _is_whole(token: int) -> bool:
    try:
        token_bytes(token).decode()
    except UnicodeDecodeError:
        return False
    return True


def _after_character(rest: Expression, rules: Rules, first: int, last: int) -> Expression:
    """What follows a character between two code points."""

    def after(part: Expression) -> Expression:
        match part:
            case Literal(text) if text and first <= ord(text[0]) <= last:
                return Literal(text[1:])
            case Characters(ranges) if any(low <= last and first <= high for low, high in ranges):
                return NOTHING
            case _:
                return IMPOSSIBLE

    return _derivative(rest, rules, after)


def _begun_by(data: bytes) -> tuple[int, int]:
    """The first and the last of the characters whose UTF-8 begins with some bytes, but not ends."""
    length, least = next(it for it in _UTF_8 if data[0] < it[0])[1:]
    missing = length - len(data)
    bits = data[0] & (0x7F >> length)
    for byte in data[1:]:
        bits = bits << 6 | byte & 0x3F
    first = bits << 6 * missing
    return max(first, least), first + (1 << 6 * missing) - 1


def _derivative(
    expression: Expression, rules: Rules, after: Callable[[Expression], Expression]
) -> Expression:
    """What follows one element of an expression; `after` says it for those without parts."""
    match expression:
        case Rule(name):
            return _derivative(rules[name], rules, after)
        case Sequence(parts):
            found = []
            for index, part in enumerate(parts, 1):
                found.append(sequence(_derivative(part, rules, after), *parts[index:]))
                if not _may_be_empty(part, rules):
                    break
            return _one_of(found)
        case Alternatives(options):
            return _one_of([_derivative(option, rules, after) for option in options])
        case Repeat(part, least, most):
            more = NOTHING if most == 1 else Repeat(part, max(least - 1, 0), most and most - 1)
            return sequence(_derivative(part, rules, after), more)
        case _:
            return after(expression)


def _one_of(options: list[Expression]) -> Expression:
    """One of several expressions, mostly of one.

    What follows is shared by all of them and can be large; to compare it is quick, to hash it
    is not.
    """
    found: list[Expression] = []
    for option in options:  # one that is impossible has no options of its own
        found += option.options if isinstance(option, Alternatives) else (option,)
    if len(found) > _FEW:
        return alternatives(*found)
    different: list[Expression] = []
    for option in found:
        if option not in different:
            different.append(option)
    return different[0] if len(different) == 1 else Alternatives(tuple(different))


def _may_be_empty(expression: Expression, rules: Rules) -> bool:
    match expression:
        case Literal(text):
            return not text
        case Rule(name):
            return _may_be_empty(rules[name], rules)
        case Sequence(parts):
            return all(_may_be_empty(part, rules) for part in parts)
        case Alternatives(options):
            return any(_may_be_empty(option, rules) for option in options)
        case Repeat(part, least):
            return least == 0 or _may_be_empty(part, rules)
        case _:
            return False


def _without_end(expression: Expression) -> Expression:
    """The same without the tokens that end a completion; nothing follows them."""
    match expression:
        case Token(token) if token in (RETURN, CALL):
            return NOTHING
        case Sequence(parts):
            return sequence(*map(_without_end, parts))
        case Alternatives(options):
            return alternatives(*map(_without_end, options))
        case Repeat(part, least, most):
            return Repeat(_without_end(part), least, most)
        case _:
            return expression
