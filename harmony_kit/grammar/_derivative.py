"""What may follow a prefix of a completion: the derivative of its grammar by tokens.

Generation does not always begin with the whole grammar: a prompt may end in a header or in the
middle of the reasoning, and an engine that runs a grammar itself may have to resume in the middle
of a completion. The grammar of the rest is the derivative of the whole (Brzozowski, "Derivatives
of Regular Expressions", 1964), by one token or character after the other. That works for
context-free rules as well, as long as they are not left-recursive.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..errors import GrammarError
from ..wire._vocabulary import FIRST_SPECIAL, STOP_TOKENS, decode, token_bytes
from ._nodes import (
    EMPTY_LANGUAGE,
    EPSILON,
    Alternatives,
    Characters,
    FreeText,
    JsonValue,
    Literal,
    MatchingText,
    Node,
    OrdinaryToken,
    Repeat,
    Rule,
    Sequence,
    Token,
    alternatives,
    literal,
    repeat,
    sequence,
    without_stop_token,
)
from ._rules import TokenText, rules_text, trimmed
from ._whole_tokens import is_whole_token

_UTF_8: Final = ((0xE0, 2, 0x80), (0xF0, 3, 0x800), (0x100, 4, 0x10000))
"""Multi-byte characters: upper bound of the first byte, length, lowest code point."""


def derivative(node: Node, tokens: Iterable[int]) -> Node:
    """The grammar of what may follow some tokens.

    Raises:
        GrammarError: The grammar does not admit the tokens; or they end within a JSON value, a
            text that a pattern matches, or a character, and the rest of these is not a node.
    """
    position, begun_at = Position(node), 0
    for index, token in enumerate(tokens):
        begun_at = begun_at if position.begun else index
        try:
            following = position.after(token)
        except _OpaqueError as error:
            raise _begun(str(error), index) from None
        if following is None:
            raise GrammarError(
                f"token {index}, {decode([token])!r}, is not admitted there", path="after"
            )
        position = following
    if position.begun:
        raise _begun("a character of several tokens", begun_at)
    return position.rest


def _begun(what: str, index: int) -> GrammarError:
    return GrammarError(
        f"{what} has begun at token {index}; a constraint can begin before it or after it, "
        "but not within",
        path="after",
    )


class _OpaqueError(Exception):
    """A leaf whose rest is not a node has begun; the text names it."""


@dataclass(frozen=True)
class Position:
    """A position in a completion.

    Attributes:
        rest: What may follow.
        rules: The rules that `rest` refers to.
        begun: The first bytes of an unfinished character.
    """

    rest: Node
    rules: Mapping[str, Node] = field(default_factory=dict)
    begun: bytes = b""

    @property
    def may_end(self) -> bool:
        """Whether a token that ends a completion may follow."""
        return any(self.after(token) is not None for token in STOP_TOKENS)

    def is_broken_by(self, token: int) -> bool:
        """Whether a token makes the text invalid UTF-8."""
        if token >= FIRST_SPECIAL:
            return bool(self.begun)
        try:
            codecs.getincrementaldecoder("utf-8")().decode(self.begun + token_bytes(token))
        except UnicodeDecodeError:
            return True
        return False

    def after(self, token: int) -> Position | None:
        """The position after a token, or `None` where the token may not follow."""
        by_token: Node = EMPTY_LANGUAGE
        by_characters: Node = EMPTY_LANGUAGE
        begun = b""
        if not self.begun:
            by_token = _derive(self.rest, self.rules, lambda leaf: _leaf_after_token(leaf, token))
        if token < FIRST_SPECIAL:
            by_characters, begun = self._after_bytes(token_bytes(token))
        rest = alternatives(by_token, by_characters)
        return None if rest == EMPTY_LANGUAGE else Position(rest, self.rules, begun)

    def text(self, token_text: TokenText) -> str:
        """The rules of the rest as text, without the tokens that end a completion."""
        rules = {name: without_stop_token(body) for name, body in self.rules.items()}
        return rules_text(*trimmed(without_stop_token(self.rest), rules), token_text)

    def _after_bytes(self, data: bytes) -> tuple[Node, bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(self.begun + data)
        except UnicodeDecodeError:
            return EMPTY_LANGUAGE, b""
        rest = self.rest
        for character in text:
            rest = self._after_character(rest, ord(character), ord(character))
        begun, _ = decoder.getstate()
        if begun and self._after_character(rest, *_completions_of(begun)) == EMPTY_LANGUAGE:
            return EMPTY_LANGUAGE, b""
        return rest, begun

    def _after_character(self, rest: Node, first: int, last: int) -> Node:
        return _derive(rest, self.rules, lambda leaf: _leaf_after_character(leaf, first, last))


def _derive(node: Node, rules: Mapping[str, Node], after: Callable[[Node], Node]) -> Node:
    """The derivative of a tree by one symbol; `after` is that of its leaves."""
    match node:
        case Rule(name):
            return _derive(rules[name], rules, after)
        case Sequence(parts):
            found = []
            for index, part in enumerate(parts, 1):
                found.append(sequence(_derive(part, rules, after), *parts[index:]))
                if not _is_nullable(part, rules):
                    break
            return alternatives(*found)
        case Alternatives(options):
            return alternatives(*(_derive(option, rules, after) for option in options))
        case Repeat(part, least, most):
            more = repeat(part, max(least - 1, 0), None if most is None else most - 1)
            return sequence(_derive(part, rules, after), more)
        case _:
            return after(node)


def _leaf_after_token(leaf: Node, token: int) -> Node:
    match leaf:
        case Token(wanted) if token == wanted:
            return EPSILON
        case OrdinaryToken() if is_whole_token(token):
            return EPSILON
        case FreeText(max_tokens=int(limit)) if limit and is_whole_token(token):
            return FreeText(max_tokens=limit - 1) if limit > 1 else EPSILON
        case _:
            return EMPTY_LANGUAGE


def _leaf_after_character(leaf: Node, first: int, last: int) -> Node:
    """The derivative of a leaf by some character between two code points."""
    match leaf:
        case Literal(text) if first <= ord(text[0]) <= last:
            return literal(text[1:])
        case Characters(ranges) if any(low <= last and first <= high for low, high in ranges):
            return EPSILON
        case FreeText(max_tokens=None):
            return FreeText()
        case JsonValue():
            raise _OpaqueError("JSON")
        case MatchingText():
            raise _OpaqueError("a text that a pattern matches")
        case _:
            return EMPTY_LANGUAGE


def _is_nullable(node: Node, rules: Mapping[str, Node]) -> bool:
    """Whether the empty text matches."""
    match node:
        case Rule(name):
            return _is_nullable(rules[name], rules)
        case FreeText():
            return not node.required
        case Sequence(parts):
            return all(_is_nullable(part, rules) for part in parts)
        case Alternatives(options):
            return any(_is_nullable(option, rules) for option in options)
        case Repeat(part, least):
            return least == 0 or _is_nullable(part, rules)
        case _:
            return False


def _completions_of(begun: bytes) -> tuple[int, int]:
    """The lowest and highest code point whose UTF-8 has some bytes as a proper prefix."""
    length, least = next(it for it in _UTF_8 if begun[0] < it[0])[1:]
    missing = length - len(begun)
    bits = begun[0] & (0x7F >> length)
    for byte in begun[1:]:
        bits = bits << 6 | byte & 0x3F
    first = bits << 6 * missing
    return max(first, least), first + (1 << 6 * missing) - 1
