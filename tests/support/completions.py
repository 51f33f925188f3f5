"""Random well-formed completions as we render them, for tools and an answer format.

This describes completions independently of the grammars: by messages, and by values that meet a
JSON Schema.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

import harmony_kit as hk
from harmony_kit.grammar import Choice, Pattern, ToolChoice
from harmony_kit.wire._vocabulary import CALL, RETURN

GrammarOf = Literal["llguidance", "rules"]
"""What enforces the JSON Schemas of a grammar."""

# Texts that a pattern matches, by the patterns that are used in tests.
MATCHES = {
    "[a-c]+x?": ["a", "bcx", "acab"],
    "^\\d{2,4}$": ["12", "0000"],
    '[^/"\\\\]{1,5}': ["é漢🙂", "x", "<|a"],
    "^[a-z]{2,3}-[0-9]+$": ["ab-0", "xyz-12345"],
    r"(yes|no), because [a-z ]{3,20}\.": ["yes, because it is.", "no, because    ."],
    r"(yes|no), .{1,9}\.": ["yes, a.", "no, ü漢. ."],
}
PIECES = ["Hm. ", "1 < 2", "<|end|>", "<|", "é漢🙂", "\n", '"', "x | y ", "\\", "\x7f", "\u2028"]
HEADER = len(hk.encode_with_special("<|start|>assistant"))


def completion(
    chance: Random,
    namespaces: Sequence[hk.ToolNamespace] = (),
    *,
    tool_choice: ToolChoice | str = "auto",
    response_format: Any = None,
    reasoning: str | int = "free",
    by: GrammarOf = "llguidance",
) -> list[int]:
    """A completion of a turn; the arguments are those of `hk.constraint`.

    JSON texts have several spellings, of which each language admits some.
    """
    choice = tool_choice if isinstance(tool_choice, ToolChoice) else ToolChoice(tool_choice)
    callable_ = [] if choice.mode == "none" else _callable(namespaces, choice.names)
    is_call = choice.mode == "required" or (bool(callable_) and chance.random() < 0.7)
    messages = [
        *_thoughts(chance, reasoning),
        *(_preambles(chance) if callable_ else []),
    ]
    if reasoning == "free":
        chance.shuffle(messages)
    if is_call:
        messages.append(_call(chance, *chance.choice(callable_), by))
    else:
        messages.append(_answer(chance, response_format, by))
    tokens = [
        token
        for message in messages
        for token in hk.wire.render_message(
            message, header_order=chance.choice(["channel-first", "recipient-first"])
        )
    ]
    tokens[-1] = CALL if is_call else RETURN
    return tokens[HEADER:]


def _callable(
    namespaces: Sequence[hk.ToolNamespace], names: Sequence[str]
) -> list[tuple[str, hk.Tool | None]]:
    found: list[tuple[str, hk.Tool | None]] = []
    for space in namespaces:
        found += [(f"{space.name}.{tool.name}", tool) for tool in space.tools]
        found += [] if space.tools else [(space.name, None)]
    return [it for it in found if not names or {it[0], it[0].split(".")[0]} & {*names}]


# --- Messages -------------------------------------------------------------------------------


def text(chance: Random) -> str:
    """Any text; not empty."""
    return "".join(chance.choices(PIECES, k=chance.randrange(1, 6)))


def _thoughts(chance: Random, reasoning: str | int) -> list[hk.Message]:
    if reasoning == "none":
        return []
    if reasoning == "free":
        return [_thought(text(chance)) for _ in range(chance.randrange(3))]
    # With a limit: one at most, of tokens that spell whole characters.
    words = " ".join(chance.choices(["so", "1 < 2", "\n", "ü", "<|end|>"], k=9))
    limited = hk.decode(hk.encode(words)[: chance.randrange(int(reasoning) + 1)])
    return [_thought(limited)] if chance.random() < 0.7 else []


def _thought(text: str) -> hk.Message:
    return hk.Message("assistant", text, channel="analysis")


def _preambles(chance: Random) -> list[hk.Message]:
    count = chance.choice([0, 0, 1, 2])
    return [hk.Message("assistant", text(chance), channel="commentary") for _ in range(count)]


def _call(chance: Random, recipient: str, tool: hk.Tool | None, by: GrammarOf) -> hk.Message:
    is_function = recipient.startswith("functions.")
    types: list[tuple[str | None, bool]] = [("code", False), (None, False)]
    if tool is not None:
        types = [("json", True), ("json", False), *(types[is_function:])]
    content_type, is_constrained = chance.choice(types)
    return hk.Message(
        "assistant",
        text(chance) if tool is None else json_text(chance, _arguments(tool), by),
        channel="commentary" if is_function else chance.choice(["analysis", "commentary"]),
        recipient=recipient,
        content_type=content_type,
        constrained=is_constrained,
    )


def _arguments(tool: hk.Tool) -> Any:
    schema = tool.parameters
    if schema is None:
        return {"type": "object", "properties": {}}
    says_type = isinstance(schema, dict) and schema.keys() & {"type", "$ref", "anyOf", "allOf"}
    return schema if says_type else {"type": "object", **schema}


def _answer(chance: Random, form: Any, by: GrammarOf) -> hk.Message:
    kind: dict[str, Any] = {}
    if form is None:
        content = text(chance)
    elif isinstance(form, Pattern):
        content = chance.choice(MATCHES[form.pattern])
    elif isinstance(form, Choice):
        content = chance.choice(form.texts)
    else:
        content = json_text(chance, form, by)
        kind = chance.choice(
            [{}, {"content_type": "json"}, {"content_type": "json", "constrained": True}]
        )
    return hk.Message("assistant", content, channel="final", **kind)


# --- JSON -----------------------------------------------------------------------------------


def json_text(chance: Random, schema: Any, by: GrammarOf) -> str:
    """A value that meets a schema, written in one of the usual ways."""
    indent = chance.choice([None, None, 2])
    in_line = chance.choice([(",", ":"), (", ", ": ")])
    is_ascii = by == "rules" and _has_any_texts_only(schema) and chance.random() < 0.5
    written = json.dumps(
        value_of(chance, schema, schema),
        ensure_ascii=is_ascii,
        indent=indent,
        separators=in_line if indent is None else None,
    )
    if by == "rules":
        return written.replace("|", "\\u007c")  # so that nothing spells a special token
    return written.replace("\x7f", "\\u007f")


def _has_any_texts_only(schema: Any) -> bool:
    """Whether its texts have more than one spelling each."""
    written = json.dumps(schema)
    words = ("const", "enum", "pattern", "format", "Length", "additionalProperties")
    return not any(word in written for word in words)


def value_of(chance: Random, schema: Any, root: Any, depth: int = 0) -> Any:
    """A value that meets a schema, with properties in the order of the schema.

    Args:
        chance: The source of randomness.
        schema: The JSON Schema: the keywords that the tests use.
        root: The whole schema, into which references point.
        depth: How deep the value lies; deep ones are small.
    """
    if schema is True or schema == {}:
        return _anything(chance, depth)
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return value_of(chance, root["$defs"][name], root, depth)
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return value_of(chance, chance.choice(schema["anyOf"]), root, depth)
    if "allOf" in schema:
        parts = [value_of(chance, {"type": "object", **it}, root, depth) for it in schema["allOf"]]
        return {name: value for part in parts for name, value in part.items()}
    kinds = schema.get("type", ["null", "integer", "string"])
    kind = chance.choice(kinds) if isinstance(kinds, list) else kinds
    match kind:
        case "null":
            return None
        case "boolean":
            return chance.random() < 0.5
        case "integer" | "number":
            return _number(chance, kind, schema)
        case "string":
            return _string(chance, schema)
        case "array":
            least = schema.get("minItems", 0)
            count = chance.randint(least, min(schema.get("maxItems", 4), least + 3))
            items = schema.get("items", True)
            return [value_of(chance, items, root, depth + 1) for _ in range(count)]
        case _:
            return _object(chance, schema, root, depth)


def _anything(chance: Random, depth: int) -> Any:
    if depth < 3 and chance.random() < 0.4:
        count = chance.randrange(3)
        if chance.random() < 0.5:
            return [_anything(chance, depth + 1) for _ in range(count)]
        return {f"{index}é": _anything(chance, depth + 1) for index in range(count)}
    return chance.choice([None, True, -1, 2.5, 1e-9, 10**30, "", "é<|end|>🙂\n", "\x00"])


def _number(chance: Random, kind: str, schema: Any) -> int | float:
    if schema.keys() & {"minimum", "maximum"}:
        low = schema.get("minimum", schema.get("maximum", 0) - 9)
        return chance.randint(low, schema.get("maximum", low + 9))
    if kind == "integer":
        return chance.choice([0, -7, chance.randrange(10**20)])
    return chance.choice([0, -7, 0.25, -1e-7, 1e300, chance.uniform(-9, 9)])


def _string(chance: Random, schema: Any) -> str:
    if "pattern" in schema:
        return chance.choice(MATCHES[schema["pattern"]])
    if "format" in schema:
        return _formatted(chance, schema["format"])
    least = schema.get("minLength", 0)
    count = chance.randint(least, schema.get("maxLength", least + 9))
    return "".join(chance.choices('aB z"\\\n/é漢🙂<|>\x00', k=count))


def _formatted(chance: Random, form: str) -> str:
    day = (
        f"{chance.randrange(1000, 3000)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
    )
    hour = f"{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}"
    hour += chance.choice(["Z", "+01:00", ".125Z"])
    return {
        "date": day,
        "time": hour,
        "date-time": f"{day}T{hour}",
        "uuid": str(uuid.UUID(int=chance.getrandbits(128))),
        "ipv4": ".".join(str(chance.randrange(256)) for _ in range(4)),
        "email": chance.choice(["a@b.de", "first.last@example.com"]),
    }[form]


def _object(chance: Random, schema: Any, root: Any, depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    found = {
        name: value_of(chance, it, root, depth + 1)
        for name, it in schema.get("properties", {}).items()
        if name in required or chance.random() < max(0.7 - depth / 5, 0)
    }
    # A schema that names properties is closed by default.
    others = schema.get("additionalProperties", "properties" not in schema)
    if others is not False and depth < 4:
        names = chance.sample(["Z 1", "é", "Ä<|end|>"], k=chance.randrange(3))
        found |= {name: value_of(chance, others, root, depth + 1) for name in names}
    return found
