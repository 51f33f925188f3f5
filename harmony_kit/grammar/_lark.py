"""A grammar in the language of llguidance: Lark, with special tokens and JSON Schemas.

Special tokens are written as ids, so that no text is confused with one.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from typing import Any, Final

from ..errors import GrammarError
from ._nodes import (
    Alternatives,
    FreeText,
    JsonValue,
    Literal,
    MatchingText,
    Node,
    Repeat,
    Sequence,
    Token,
)
from ._schema import TOO_DEEP, closed, load_schema, refuse_depth, refuse_unsupported
from ._whole_tokens import ranges_of_whole_tokens

_WHITESPACE: Final = r"( |\n[ \t]{0,32})?"
"""Whitespace between the parts of JSON; limited, so that a model cannot repeat it forever."""


def lark_grammar(node: Node) -> str:
    """Write a grammar for llguidance.

    Raises:
        GrammarError: llguidance does not enforce a keyword of a JSON Schema, which the error names.
    """
    writer = _Writer()
    start = writer.expression(node)
    rules = [f"{name}: {body}" for body, name in writer.rules.items()]
    return "\n".join(["%llguidance {}", f"start: {start}", *rules, ""])


class _Writer:
    """Writes expressions, and rules for what cannot be part of one."""

    def __init__(self) -> None:
        self.rules: dict[str, str] = {}

    def expression(self, node: Node) -> str:
        match node:
            case Token(token):
                return f"<[{token}]>"
            case Literal(text):
                return json.dumps(text)
            case FreeText():
                return self._free_text(node)
            case JsonValue():
                return self._rule("json", f"%json {_schema(node)}")
            case MatchingText(pattern):
                return self._rule("PATTERN", _regex(pattern))
            case Sequence(parts):
                return " ".join(map(self.expression, parts)) or '""'
            case Alternatives(options):
                return f"({' | '.join(map(self.expression, options))})"
            case Repeat(part, 0, None):
                return f"({self.expression(part)})*"
        raise TypeError(f"{node} is not part of a completion's grammar")

    def _free_text(self, leaf: FreeText) -> str:
        if leaf.max_tokens is None:
            text = self._rule("TEXT", "/(?s:.+)/")
            return text if leaf.required else f"{text}?"
        return f"{self._rule('whole', _whole_token())}{{{int(leaf.required)},{leaf.max_tokens}}}"

    def _rule(self, name: str, body: str) -> str:
        """The name of the rule with this body, which is added if it is new."""
        return self.rules.setdefault(body, f"{name}_{len(self.rules)}")


@cache
def _whole_token() -> str:
    """Any ordinary token that encodes whole characters.

    llguidance's own limit, `max_tokens`, would end a text within a character.
    """
    return f"<[{','.join(f'{first}-{last}' for first, last in ranges_of_whole_tokens())}]>"


def schemas_in(grammar: str) -> list[Any]:
    """The JSON Schemas in a grammar that `lark_grammar` wrote."""
    return [json.loads(it) for it in re.findall(r"^\w+: %json (.*)$", grammar, re.MULTILINE)]


@lru_cache(maxsize=1024)
def _schema(value: JsonValue) -> str:
    """A schema as llguidance gets it; cached, since requests repeat their tools."""
    schema: Any = load_schema(value)
    refuse_unsupported(schema, "llguidance", value.path)
    refuse_depth(schema, value.path)
    try:
        schema = closed(schema)
        if not isinstance(schema, dict):
            return json.dumps(schema)
        return json.dumps({"x-guidance": {"whitespace_pattern": _WHITESPACE}, **schema})
    except RecursionError:
        raise GrammarError(TOO_DEEP, path=value.path) from None


def _regex(pattern: str) -> str:
    """A pattern between slashes; an unescaped slash within it would end it."""
    escaped = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", pattern, flags=re.DOTALL)
    return f"/{escaped}/".replace("\n", r"\n")
