"""A small recognizer of rules, independent of all engines, as an oracle for tests."""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""\s*(?:(?P<literal>"(?:\\.|[^"\\])*")|(?P<set>\[(?:\\.|[^\]\\])*\])|(?P<times>[*+?]|\{\d+(?:,\d*)?\})
    |(?P<token><\[\d+\]>|Token\(\d+\))|(?P<ordinary>ExcludeToken\([\d, ]+\))
    |(?P<rule>[a-z]+\d*)|(?P<mark>[()|]))""",
    re.VERBOSE,
)
ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)


def unescaped(text):
    short = {"n": "\n", "r": "\r", "t": "\t"}

    def character(found):
        escape = found[1]
        return short.get(escape, escape) if len(escape) == 1 else chr(int(escape[1:], 16))

    return ESCAPE.sub(character, text)


class Reader:
    """Reads the text of a grammar; texts are lists of characters and of token ids."""

    def __init__(self, grammar: str) -> None:
        self.rules = {}
        for line in grammar.splitlines():
            name, _, body = line.partition(" ::= ")
            assert name not in self.rules
            self.rules[name] = self._read(body)
        used = {it[1] for body in self.rules.values() for it in _nodes(body) if it[0] == "rule"}
        assert used | {"root"} == self.rules.keys(), used ^ self.rules.keys()

    def admits(self, text) -> bool:
        return len(text) in self._ends(self.rules["root"], [*text])

    def _ends(self, root, text):
        """All places where a match from the start can end, without recursion."""
        # A stack machine: (the rest as a linked list, place).
        seen, found = set(), set()
        open_states = [((root, None), 0)]
        while open_states:
            state = open_states.pop()
            if (key := (_identity(state[0]), state[1])) in seen:
                continue
            seen.add(key)
            rest, place = state
            if rest is None:
                found.add(place)
                continue
            (kind, *values), rest = rest
            item = text[place] if place < len(text) else None
            match kind:
                case "literal":
                    wanted = values[0]
                    if text[place : place + len(wanted)] == [*wanted]:
                        open_states.append((rest, place + len(wanted)))
                case "set":
                    if isinstance(item, str) and bool(values[0].fullmatch(item)):
                        open_states.append((rest, place + 1))
                case "token":
                    if item == values[0]:
                        open_states.append((rest, place + 1))
                case "ordinary":
                    if isinstance(item, str):
                        open_states.append((rest, place + 1))
                case "rule":
                    open_states.append(((self.rules[values[0]], rest), place))
                case "all":
                    for part in reversed(values[0]):
                        rest = (part, rest)
                    open_states.append((rest, place))
                case "any":
                    open_states += [((option, rest), place) for option in values[0]]
                case "times":
                    part, least, most = values
                    if least == 0:
                        open_states.append((rest, place))
                    if most != 0:
                        again = ("times", part, max(least - 1, 0), most - 1 if most else None)
                        open_states.append(((part, (again, rest)), place))
        return found

    def _read(self, body):
        items, place = [], 0
        while place < len(body):
            match = TOKEN.match(body, place)
            assert match, body[place : place + 40]
            items.append((match.lastgroup, match[match.lastgroup]))
            place = match.end()
        tree, rest = self._options(items)
        assert not rest
        return tree

    def _options(self, items):
        options, parts = [], []
        while items and items[0] != ("mark", ")"):
            kind, text = items[0]
            items = items[1:]
            if (kind, text) == ("mark", "|"):
                options.append(("all", tuple(parts)))
                parts = []
                continue
            if (kind, text) == ("mark", "("):
                part, items = self._options(items)
                assert items[0] == ("mark", ")")
                items = items[1:]
            elif kind == "times":
                part = ("times", parts.pop(), *_count(text))
            else:
                part = _single(kind, text)
            parts.append(part)
        return ("any", (*options, ("all", tuple(parts)))), items


def _count(text):
    if text in "*+?":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[text]
    least, comma, most = text[1:-1].partition(",")
    return int(least), (int(most) if most else None) if comma else int(least)


def _single(kind, text):
    match kind:
        case "literal":
            return ("literal", unescaped(text[1:-1]))
        case "token":
            return ("token", int(re.search(r"\d+", text)[0]))
        case "set":
            return ("set", re.compile(text))
        case _:
            return (kind, text)


def _identity(rest):
    """A key for the rest; equal lists have equal keys."""
    parts = []
    while rest is not None:
        parts.append(id(rest[0]) if rest[0][0] != "times" else rest[0])
        rest = rest[1]
    return tuple(parts)


def _nodes(tree):
    yield tree
    for value in tree[1:]:
        if isinstance(value, tuple):
            for it in value if value and isinstance(value[0], tuple) else [value]:
                if isinstance(it, tuple) and it and isinstance(it[0], str):
                    yield from _nodes(it)
