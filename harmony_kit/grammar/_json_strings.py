r"""JSON strings as rules.

**A JSON string must not contain a special token.** xgrammar and llama.cpp compare a token's text
with the grammar, and the text of a special token is its spelling: where a string may continue
with `<|end|>`, they also admit the token, which ends the message. All spellings begin with `<|`
and a letter. Free strings exclude this sequence; strings of counted characters, and those of a
pattern, exclude a literal `|`. The escape `\u007c` is allowed everywhere, so that every text can
be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
    Rule,
    alternatives,
    characters,
    sequence,
    without,
)
from ._pattern_rules import Written, pattern_rules
from ._rules import RuleBook

_QUOTE: Final = Literal('"')
_BACKSLASH: Final = Literal("\\")
_PLAIN: Final = without(characters((0x20, LAST_CODE_POINT)), '"\\')
_HEX: Final = characters((0x30, 0x39), (0x41, 0x46), (0x61, 0x66))
_SHORT_ESCAPES: Final = '"\\\b\f\n\r\t'


def json_literal(text: str) -> Literal:
    """A constant string, as JSON."""
    has_surrogates = any("\ud800" <= character <= "\udfff" for character in text)
    written = json.dumps(text, ensure_ascii=has_surrogates)
    return Literal(written.replace("<|", "<\\u007c"))


def free_text(book: RuleBook, *, is_required: bool) -> Node:
    """Any text outside JSON that does not contain the spelling of a special token."""
    anything = characters((0, LAST_CODE_POINT))
    text = _without_spellings(book, "text", anything, EMPTY_LANGUAGE, EPSILON)
    if not is_required:
        return text
    body = book.rules[text.name]
    assert isinstance(body, Alternatives)
    return book.add("sometext", alternatives(*(it for it in body.options if it != EPSILON)))


def any_string(book: RuleBook) -> Node:
    """Any string."""
    escaped = sequence(_BACKSLASH, _escape(book))
    return sequence(_QUOTE, _without_spellings(book, "string", _PLAIN, escaped, _QUOTE))


def _without_spellings(
    book: RuleBook, name: str, plain: Characters, escaped: Node, end: Node
) -> Rule:
    """Characters up to an end, without the spellings of special tokens.

    The rules are an automaton of three states: within, after `<`, and after `<|`. Both engines
    are fastest with such right-recursive rules.

    Args:
        book: The rules so far.
        name: The name of the rules.
        plain: The characters that need no escape.
        escaped: The escapes; `EMPTY_LANGUAGE` for none.
        end: What follows the last character.
    """
    known = book.known(name)
    if known is not None:
        return known
    within, angle, bar = book.reserve(name), book.reserve(name), book.reserve(name)
    states: tuple[tuple[Rule, Characters, Node], ...] = (
        (within, without(plain, "<"), EMPTY_LANGUAGE),
        (angle, without(plain, "<|"), sequence(Literal("|"), bar)),
        (bar, without(plain, "<", (0x61, 0x7A)), EMPTY_LANGUAGE),
    )
    for rule, others, more in states:
        steps = (sequence(others, within), sequence(escaped, within), sequence(Literal("<"), angle))
        book.define(rule, alternatives(end, *steps, more))
    return within


def counted_string(book: RuleBook, least: int, most: int | None, path: str) -> Node:
    """A string of `least` to `most` characters (`None` for no limit)."""
    unit = book.add(
        "character",
        alternatives(without(_PLAIN, "|"), sequence(_BACKSLASH, _escape(book))),
    )
    return sequence(_QUOTE, book.repeat(unit, least, most, path), _QUOTE)


def _escape(book: RuleBook) -> Node:
    """What follows a backslash. Surrogates appear only in pairs."""
    lone = sequence(without(_HEX, "dD"), _HEX, _HEX, _HEX)
    low_d = sequence(characters("dD"), characters((0x30, 0x37)), _HEX, _HEX)
    pair = sequence(
        *(characters("dD"), characters("89abAB"), _HEX, _HEX),
        *(Literal("\\u"), characters("dD"), characters("cdefCDEF"), _HEX, _HEX),
    )
    return book.add(
        "escape",
        alternatives(
            characters('"\\/bfnrt'), sequence(Literal("u"), alternatives(lone, low_d, pair))
        ),
    )


def pattern_string(pattern: str, book: RuleBook, path: str) -> Node:
    """A string in which a regular expression matches somewhere; raises as `pattern_rules`."""
    body = pattern_rules(pattern, _written_in_json, book, path, is_search=True)
    return sequence(_QUOTE, body, _QUOTE)


def _written_in_json(some: Characters) -> Node:
    """One character of a set, as it is written within a string."""
    wanted = [range(first, last + 1) for first, last in some.ranges]
    special = [
        code_point
        for code_point in (*range(0x20), ord('"'), ord("\\"), ord("|"))
        if any(code_point in part for part in wanted)
    ]
    plain = without(some, (0, 0x1F), '"\\|')
    return alternatives(
        *((plain,) if plain.ranges else ()), *(Literal(_unit(chr(it))) for it in special)
    )


def _unit(character: str) -> str:
    """The only spelling of a character in patterns and additional keys."""
    return "\\u007c" if character == "|" else json.dumps(character, ensure_ascii=False)[1:-1]


def other_key(book: RuleBook, names: Iterable[str]) -> Node:
    """A key other than some names.

    Each character has only one spelling here, so that no name is admitted in an escaped form.
    """
    tail = _key_tail(book)
    tree: dict[str, dict] = {}  # type: ignore[type-arg]
    for name in names:
        node = tree
        for character in name:
            node = node.setdefault(character, {})
        node[""] = {}
    root = book.reserve("key")
    open_nodes = [(root, tree)]
    while open_nodes:
        rule, node = open_nodes.pop()
        options: list[Node] = [] if "" in node else [_QUOTE]
        options.append(sequence(_key_character(node), tail))
        for character, child in node.items():
            if character and not "\ud800" <= character <= "\udfff":
                following = book.reserve("key")
                options.append(sequence(Literal(_unit(character)), following))
                open_nodes.append((following, child))
        book.define(rule, alternatives(*options))
    return sequence(_QUOTE, root)


def _key_tail(book: RuleBook) -> Rule:
    known = book.known("keytail")
    if known is not None:
        return known
    rule = book.reserve("keytail")
    book.define(rule, alternatives(_QUOTE, sequence(_key_character({}), rule)))
    return rule


def _key_character(excluded: Mapping[str, object]) -> Node:
    found = "".join(excluded)
    escapes = [it for it in (*_SHORT_ESCAPES, "|") if it not in excluded]
    return alternatives(
        without(_PLAIN, "|", found), *(Literal(_unit(character)) for character in escapes)
    )


def format_string(name: str, book: RuleBook, path: str) -> Node:
    """A string of a format of `FORMAT_PATTERNS`."""
    body = pattern_rules(FORMAT_PATTERNS[name], lambda some: some, book, path, is_search=False)
    return sequence(_QUOTE, book.add("format", body), _QUOTE)


def _dates() -> str:
    year = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
    short_leap = "(0[48]|[2468][048]|[13579][26])"
    leap = f"([0-9]{{2}}{short_leap}|{short_leap}00)"
    return (
        f"({year}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
        "|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
        f"|{leap}-02-29)"
    )


_DATE: Final = _dates()
_TIME: Final = (
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+\-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_HOST: Final = rf"{_LABEL}(\.{_LABEL}){{0,2}}"
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{}~\-]{1,16}"

FORMAT_PATTERNS: Final[Mapping[str, str]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "ipv4": rf"{_OCTET}(\.{_OCTET}){{3}}",
    # Fewer labels than a name may have: with more it could exceed the maximum length.
    "hostname": _HOST,
    "email": rf"{_ATOM}(\.{_ATOM}){{0,2}}@{_HOST}",
}
"""Regular expressions of formats. All that they match is valid, though not all that is valid."""


def written_in_text(path: str, *, without_bar: bool) -> Written:
    """Writes characters outside JSON, if necessary without `|`, which could spell a special token.

    The result raises a `GrammarError` where `|` is the only character of a set.
    """

    def written(some: Characters) -> Node:
        if not without_bar:
            return some
        rest = without(some, "|")
        if not rest.ranges:
            raise GrammarError(
                "the pattern has both '<' and '|', which special tokens are spelled with; "
                "the engine could write such a token for them",
                path=path,
            )
        return rest

    return written
