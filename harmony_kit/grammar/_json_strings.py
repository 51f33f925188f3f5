r"""JSON strings as rules.

**No special token fits into one.** xgrammar and llama.cpp compare a token's text with the
grammar, and the text of a special token is its spelling: where a string may go on with
`<|end|>`, they admit the token too, which ends the message. All spellings begin with `<|` and a
letter. Where a string is free, these three do not stand side by side; where its characters are
counted, or belong to a pattern, `|` is not written as itself. Written as `\u007c` it may stand
anywhere, so that every text can be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from ..errors import GrammarError
from ._pattern_rules import Spelling, pattern_rules
from ._rules import (
    LAST_CODE_POINT,
    NOTHING,
    Alternatives,
    Characters,
    Expression,
    Literal,
    Rule,
    RuleBook,
    alternatives,
    characters,
    sequence,
    without,
)

_QUOTE: Final = Literal('"')
_BACKSLASH: Final = Literal("\\")
_BAR: Final = Literal("\\u007c")
_PLAIN: Final = without(characters((0x20, LAST_CODE_POINT)), '"\\')
_HEX: Final = characters((0x30, 0x39), (0x41, 0x46), (0x61, 0x66))
_SHORT_ESCAPES: Final = '"\\\b\f\n\r\t'


def json_literal(text: str) -> Literal:
    """A string that is known, as JSON has it.

    Args:
        text: What the string says.
    """
    has_surrogates = any("\ud800" <= character <= "\udfff" for character in text)
    written = json.dumps(text, ensure_ascii=has_surrogates)
    return Literal(written.replace("<|", "<\\u007c"))


def free_text(book: RuleBook, *, is_required: bool) -> Expression:
    """Any text, not of JSON, in which no special token is spelt.

    Args:
        book: The rules so far.
        is_required: Whether there is at least one character.
    """
    anything = characters((0, LAST_CODE_POINT))
    text = _without_spellings(book, "text", anything, NOTHING, NOTHING)
    if not is_required:
        return text
    body = book.rules[text.name]
    assert isinstance(body, Alternatives)
    return book.add("sometext", alternatives(*(it for it in body.options if it != NOTHING)))


def any_string(book: RuleBook) -> Expression:
    """Any string.

    Args:
        book: The rules so far.
    """
    escaped = sequence(_BACKSLASH, _escape(book))
    return sequence(_QUOTE, _without_spellings(book, "string", _PLAIN, escaped, _QUOTE))


def _without_spellings(
    book: RuleBook, name: str, plain: Characters, escaped: Expression, end: Expression
) -> Rule:
    """Characters up to an end, among which no special token is spelt.

    The rules are an automaton of three states: within, after `<`, and after `<|`. Both engines
    are quickest with such rules, in which what follows stands at the end.

    Args:
        book: The rules so far.
        name: What to call them.
        plain: The characters that stand for themselves.
        escaped: What else stands for one character; the empty text for nothing.
        end: What stands behind the last.
    """
    known = book.known(name)
    if known is not None:
        return known
    within, angle, bar = book.reserve(name), book.reserve(name), book.reserve(name)
    others = () if escaped == NOTHING else (sequence(escaped, within),)
    book.define(
        within,
        alternatives(
            end, sequence(without(plain, "<"), within), *others, sequence(Literal("<"), angle)
        ),
    )
    book.define(
        angle,
        alternatives(
            end,
            sequence(without(plain, "<|"), within),
            *others,
            sequence(Literal("<"), angle),
            sequence(Literal("|"), bar),
        ),
    )
    book.define(
        bar,
        alternatives(
            end,
            sequence(without(plain, "<", (0x61, 0x7A)), within),
            *others,
            sequence(Literal("<"), angle),
        ),
    )
    return within


def counted_string(book: RuleBook, least: int, most: int | None, path: str) -> Expression:
    """A string of so many characters.

    Args:
        book: The rules so far.
        least: How many at least.
        most: How many at most; `None` for no limit.
        path: Where the schema says so, for errors.
    """
    unit = book.add(
        "character",
        alternatives(without(_PLAIN, "|"), sequence(_BACKSLASH, _escape(book))),
    )
    return sequence(_QUOTE, book.repeat(unit, least, most, path), _QUOTE)


def _escape(book: RuleBook) -> Expression:
    r"""What stands behind a backslash. Of surrogates there are pairs only."""
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


def pattern_string(pattern: str, book: RuleBook, path: str) -> Expression:
    """A string that a regular expression matches somewhere.

    Args:
        pattern: The regular expression.
        book: The rules so far.
        path: Where it stands, for errors.

    Raises:
        GrammarError: The rules cannot say it, or it is no regular expression.
    """
    return sequence(_QUOTE, pattern_rules(pattern, spelt, book, path, is_search=True), _QUOTE)


def spelt(some: Characters) -> Expression:
    """One character of a set, as it is written within a string.

    Args:
        some: The set.
    """
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
    """The one way in which a character of a counted string or a key is written by us."""
    return "\\u007c" if character == "|" else json.dumps(character, ensure_ascii=False)[1:-1]


def other_key(book: RuleBook, names: Iterable[str]) -> Expression:
    """A key that is none of some names.

    A key could be spelt in several ways; here each has one, so that no name is met in disguise.

    Args:
        book: The rules so far.
        names: The names.
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
        options: list[Expression] = [] if "" in node else [_QUOTE]
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


def _key_character(excluded: Mapping[str, object]) -> Expression:
    found = "".join(excluded)
    escapes = [it for it in (*_SHORT_ESCAPES, "|") if it not in excluded]
    return alternatives(
        without(_PLAIN, "|", found), *(Literal(_unit(character)) for character in escapes)
    )


def format_string(name: str, book: RuleBook, path: str) -> Expression:
    """A string of a known format.

    Args:
        name: The format.
        book: The rules so far.
        path: Where it stands, for errors.
    """

    def as_itself(some: Characters) -> Expression:
        return some

    body = pattern_rules(FORMAT_PATTERNS[name], as_itself, book, path, is_search=False)
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
    # Fewer parts than a name may have: with more it could be longer than it may be.
    "hostname": _HOST,
    "email": rf"{_ATOM}(\.{_ATOM}){{0,2}}@{_HOST}",
}
"""Regular expressions of strings of a format: none that is wrong, if not all that are right."""


def spelt_in_text(path: str, *, without_bar: bool) -> Spelling:
    """How one character of a set is written outside JSON: as itself.

    Args:
        path: Where the text is described, for errors.
        without_bar: Whether `|` must not stand in it, lest it spell a special token.

    Returns:
        What writes a character; it raises a `GrammarError` where there is `|` and nothing else.
    """

    def spelling(some: Characters) -> Expression:
        if not without_bar:
            return some
        rest = without(some, "|")
        if not rest.ranges:
            raise GrammarError(
                "the pattern has both '<' and '|', with which special tokens are spelt; "
                "the engine could write such a token for them",
                path=path,
            )
        return rest

    return spelling
