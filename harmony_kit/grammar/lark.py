"""A shape in the grammar language of llguidance: Lark, with special tokens and JSON Schemas.

Special tokens are written as ids, which no spelling in a text can be taken for.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from .schema import closed, load_schema, refuse_unsupported
from .shape import (
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
    rules = [f"{name}{it[0]}: {it[1]}" for it, name in writer.rules.items()]
    return "\n".join(["%llguidance {}", f"start: {start}", *rules, ""])


class _Writer:
    """Writes expressions, and rules for what cannot be a part of one."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str], str] = {}

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
        text = self._rule("TEXT", "/(?s:.+)/")
        if shape.max_tokens is not None:
            # A limit stands at a rule of its own.
            text = self._rule("limited", text, f"[max_tokens={shape.max_tokens}]")
        return text if shape.required else f"{text}?"

    def _rule(self, name: str, body: str, attributes: str = "") -> str:
        """The name of the rule that has a body; it is made if there is none."""
        definition = (attributes, body)
        return self.rules.setdefault(definition, f"{name}_{len(self.rules)}")


def _schema(value: JsonValue) -> str:
    schema: Any = load_schema(value)
    refuse_unsupported(schema, "llguidance", value.path)
    schema = closed(schema)
    if not isinstance(schema, dict):
        return json.dumps(schema)
    return json.dumps({"x-guidance": {"whitespace_pattern": _BLANKS}, **schema})


def _regex(pattern: str) -> str:
    """A pattern between slashes; one within it that is not escaped would end it."""
    escaped = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", pattern, flags=re.DOTALL)
    return f"/{escaped}/".replace("\n", r"\n")
