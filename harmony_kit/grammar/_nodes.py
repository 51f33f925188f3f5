"""The algebra of grammars: immutable nodes that know no engine.

There is one kind of tree for everything in this package, from the grammar of a whole completion
down to the rules of a JSON Schema:

- terminals: `Token`, `OrdinaryToken`, `Characters`, `Literal`;
- abstract leaves, `FreeText`, `JsonValue` and `MatchingText`, which llguidance reads itself and
  for which `_expansion` writes rules for the other engines;
- `Rule`, a reference to a named rule of a `RuleBook`;
- `Sequence`, `Alternatives` and `Repeat`, which are built with `sequence`, `alternatives` and
  `repeat`. These keep trees in a normal form: nested sequences and alternatives are flattened,
  duplicates dropped, and `EPSILON` and `EMPTY_LANGUAGE` simplified away.

`_derivative` computes what may follow a prefix, for all kinds of nodes. The emitters write trees
in the language of an engine: `_lark` with the abstract leaves, `_ebnf` and `_gbnf` as rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Union

from ..wire._vocabulary import FIRST_SPECIAL, STOP_TOKENS, decode

LAST_CODE_POINT: Final = 0x10FFFF


@dataclass(frozen=True)
class Token:
    """A token by its id."""

    token: int


@dataclass(frozen=True)
class OrdinaryToken:
    """Any token that is not special and encodes whole characters."""


@dataclass(frozen=True)
class Characters:
    """A character of a set.

    Attributes:
        ranges: Inclusive ranges of code points: sorted, disjoint, not adjacent.
    """

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Literal:
    """A fixed text, in any tokenization; not empty."""

    text: str


@dataclass(frozen=True)
class FreeText:
    """Any text without special tokens.

    Attributes:
        required: Whether at least one character is required.
        max_tokens: The maximum number of tokens, each of which must then be an `OrdinaryToken`;
            `None` for no limit, and any tokenization.
    """

    required: bool = False
    max_tokens: int | None = None


@dataclass(frozen=True)
class JsonValue:
    """A JSON value that meets a schema.

    Attributes:
        schema_json: The JSON Schema, as JSON text.
        path: What the schema describes, for errors, such as `functions.get_weather`.
    """

    schema_json: str
    path: str = ""


@dataclass(frozen=True)
class MatchingText:
    """A text that a regular expression matches as a whole."""

    pattern: str


@dataclass(frozen=True)
class Rule:
    """A reference to a named rule."""

    name: str


@dataclass(frozen=True)
class Sequence:
    """A concatenation; build it with `sequence`."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Alternatives:
    """A union; build it with `alternatives`."""

    options: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """A repetition, `least` to `most` times (`None` for no limit); build it with `repeat`."""

    part: Node
    least: int
    most: int | None


# `Union`, since Python 3.11 does not evaluate `|` with the forward references above.
Node = Union[  # noqa: UP007
    Token,
    OrdinaryToken,
    Characters,
    Literal,
    FreeText,
    JsonValue,
    MatchingText,
    Rule,
    Sequence,
    Alternatives,
    Repeat,
]

EPSILON: Final = Sequence(())
"""Matches the empty text only."""

EMPTY_LANGUAGE: Final = Alternatives(())
"""Matches nothing, not even the empty text."""

_FEW: Final = 16


# --- Constructors ---------------------------------------------------------------------------


def sequence(*parts: Node) -> Node:
    """A flat concatenation."""
    flat: list[Node] = []
    for part in parts:
        if isinstance(part, Sequence):
            flat += part.parts
        elif isinstance(part, Alternatives) and not part.options:
            return EMPTY_LANGUAGE
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat))


def alternatives(*options: Node) -> Node:
    """A flat union without duplicates, in the given order."""
    flat: list[Node] = []
    for option in options:
        flat += option.options if isinstance(option, Alternatives) else (option,)
    # Derivatives share large subtrees: these compare fast by identity, but hash slowly.
    if len(flat) > _FEW:
        flat = list(dict.fromkeys(flat))
    else:
        flat = [it for index, it in enumerate(flat) if it not in flat[:index]]
    return flat[0] if len(flat) == 1 else Alternatives(tuple(flat))


def repeat(part: Node, least: int = 0, most: int | None = None) -> Node:
    """A repetition; the empty language if `most < least`."""
    if most is not None and most < least:
        return EMPTY_LANGUAGE
    if part == EMPTY_LANGUAGE:
        return EMPTY_LANGUAGE if least else EPSILON
    if part == EPSILON or most == 0:
        return EPSILON
    return part if least == most == 1 else Repeat(part, least, most)


def optional(part: Node) -> Node:
    """A node or nothing."""
    return alternatives(part, EPSILON)


def literal(text: str) -> Node:
    """A text, which may be empty."""
    return Literal(text) if text else EPSILON


def tokens_node(tokens: Iterable[int]) -> Node:
    """What some token ids encode: special tokens, and texts in any tokenization."""
    parts: list[Node] = []
    ordinary: list[int] = []
    for token in tokens:
        if token < FIRST_SPECIAL:
            ordinary.append(token)
            continue
        parts += [literal(decode(ordinary)), Token(token)]
        ordinary = []
    return sequence(*parts, literal(decode(ordinary)))


def characters(*ranges: str | tuple[int, int]) -> Characters:
    """A character of a set, given as ranges of code points and as strings of characters."""
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
    """A character that is not in a set."""
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
    """A character of a set that is not in another, which is given as for `characters`."""
    return complement(characters(*complement(some).ranges, *ranges))


# --- Traversal ------------------------------------------------------------------------------


def leaves(node: Node) -> Iterator[Node]:
    """The nodes of a tree that have no parts."""
    match node:
        case Sequence(inner) | Alternatives(inner):
            for part in inner:
                yield from leaves(part)
        case Repeat(part):
            yield from leaves(part)
        case _:
            yield node


def map_leaves(node: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with every leaf replaced, in normal form."""
    match node:
        case Sequence(parts):
            return sequence(*(map_leaves(part, change) for part in parts))
        case Alternatives(options):
            return alternatives(*(map_leaves(option, change) for option in options))
        case Repeat(part, least, most):
            return repeat(map_leaves(part, change), least, most)
        case _:
            return change(node)


def without_stop_token(node: Node) -> Node:
    """The tree without the tokens that end a completion."""
    return map_leaves(
        node,
        lambda leaf: EPSILON if isinstance(leaf, Token) and leaf.token in STOP_TOKENS else leaf,
    )
