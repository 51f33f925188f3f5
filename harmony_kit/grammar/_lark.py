"""A shape in the grammar language of llguidance: Lark, with special tokens and JSON Schemas.

Special tokens are written as ids, which no spelling in a text can be taken for.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from typing import Any, Final

from ..errors import GrammarError
from ._schema import TOO_DEEP, closed, load_schema, refuse_depth, refuse_unsupported
from ._shape import (
    FixedText,
    FreeText,
    InOrder,
    JsonValue,
    MatchingText,
    OneOf,
    Shape,
    SpecialToken,
    ZeroOrMore,
)
from ._whole_tokens import ranges_of_whole_tokens

_BLANKS: Final = r"( |\n[ \t]{0,32})?"
"""What may stand between the parts of JSON: nothing that a model could go on with for ever."""


def lark_grammar(shape: Shape) -> str:
    """Write a shape for llguidance.

    Args:
        shape: The shape.

    Raises:
        GrammarError: A JSON Schema says what llguidance does not enforce; the error names the
            keyword.
    """
    writer = _Writer()
    start = writer.expression(shape)
    rules = [f"{name}: {body}" for body, name in writer.rules.items()]
    return "\n".join(["%llguidance {}", f"start: {start}", *rules, ""])


class _Writer:
    """Writes expressions, and rules for what cannot be a part of one."""

    def __init__(self) -> None:
        self.rules: dict[str, str] = {}

    def expression(self, shape: Shape) -> str:
        match shape:
            case SpecialToken():
                return f"<[{shape.token}]>"
            case FixedText():
                return json.dumps(shape.text)
            case FreeText():
                return self._free_text(shape)
            case JsonValue():
                return self._rule("json", f"%json {_schema(shape)}")
            case MatchingText():
                return self._rule("PATTERN", _regex(shape.pattern))
            case InOrder():
                return " ".join(map(self.expression, shape.parts)) or '""'
            case OneOf():
                return f"({' | '.join(map(self.expression, shape.options))})"
            case ZeroOrMore():
                return f"({self.expression(shape.part)})*"

    def _free_text(self, shape: FreeText) -> str:
        if shape.max_tokens == 0:
            return '""'
        if shape.max_tokens is None:
            text = self._rule("TEXT", "/(?s:.+)/")
            return text if shape.required else f"{text}?"
        return f"{self._rule('whole', _whole_token())}{{{int(shape.required)},{shape.max_tokens}}}"

    def _rule(self, name: str, body: str) -> str:
        """The name of the rule that has a body; it is made if there is none."""
        return self.rules.setdefault(body, f"{name}_{len(self.rules)}")


@cache
def _whole_token() -> str:
    """Any ordinary token that spells whole characters.

    llguidance's own limit, `max_tokens`, would end a text within a character.
    """
    return f"<[{','.join(f'{first}-{last}' for first, last in ranges_of_whole_tokens())}]>"


def schemas_in(grammar: str) -> list[Any]:
    """The JSON Schemas in a grammar.

    Args:
        grammar: A grammar as `lark_grammar` writes it.
    """
    return [json.loads(it) for it in re.findall(r"^\w+: %json (.*)$", grammar, re.MULTILINE)]


@lru_cache(maxsize=1024)
def _schema(value: JsonValue) -> str:
    """A schema as llguidance gets it; it is kept, since requests repeat their tools."""
    schema: Any = load_schema(value)
    refuse_unsupported(schema, "llguidance", value.path)
    refuse_depth(schema, value.path)
    try:
        schema = closed(schema)
        if not isinstance(schema, dict):
            return json.dumps(schema)
        return json.dumps({"x-guidance": {"whitespace_pattern": _BLANKS}, **schema})
    except RecursionError:
        raise GrammarError(TOO_DEEP, path=value.path) from None


def _regex(pattern: str) -> str:
    """A pattern between slashes; one within it that is not escaped would end it."""
    escaped = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", pattern, flags=re.DOTALL)
    return f"/{escaped}/".replace("\n", r"\n")
