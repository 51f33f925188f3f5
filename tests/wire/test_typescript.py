"""Schemas as types: like openai-harmony where it is the measure, and well-formed beyond it."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from timing import assert_linear

from harmony_kit.errors import InvalidMessageError
from harmony_kit.wire._typescript.depth import MAX_DEPTH
from harmony_kit.wire._typescript.types import type_text


def reference_text(encoding: Any, schema: dict[str, Any]) -> str:
    """What openai-harmony writes for a tool's parameters."""
    from openai_harmony import DeveloperContent, Message, Role, ToolDescription

    tool = ToolDescription.new("f", "d", schema)
    content = DeveloperContent.new().with_function_tools([tool])
    message = Message.from_role_and_content(Role.DEVELOPER, content)
    text = encoding.decode(encoding.render(message))
    before, after = "type f = (_: ", ") => any;\n\n} // namespace functions<|end|>"
    start = text.index(before) + len(before)
    assert text.endswith(after)
    return text[start : -len(after)]


def extended(schema: Any) -> str:
    return type_text(schema, style="extended")


def of_property(schema: Any, **root: Any) -> str:
    """The lines that the extended style writes for a required property `p`."""
    outer = {"type": "object", "properties": {"p": schema}, "required": ["p"], **root}
    text = extended(outer)
    assert text.startswith("{\n")
    assert text.endswith("\n}")
    return text[2:-2]


# --- Strategies -----------------------------------------------------------------------------

TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "null",
            "nu",
            "ll",
            "A city",
            "two\nlines",
            "win\r\ndows\r",
            'say "hi"',
            "back\\slash",
            "é ü 漢 🙂",
            "\u2028",
            "\x00\x1f\x7f",
            "// not a comment",
            "*/",
            "<|end|>",
            "<|constrain|>json",
            ") => any;",
            "my-key",
            "$ref",
        ]
    ),
    st.text(max_size=6),
)
KEYS = st.one_of(st.sampled_from(["a", "b", "null", "my-key"]), TEXTS)
NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(-(2**70), 2**70),
    st.integers(-(10**300), 10**300),
    st.floats(-1e307, 1e307),
    st.floats(-10, 10),
    st.builds(
        lambda digits, exponent: digits * 10.0**exponent, st.integers(1, 999), st.integers(-12, 25)
    ),
    st.sampled_from(
        [-0.0, 1.0, 1e-4, 1e-5, 1.5e-5, -1e-5, 1e-7, 1e15, 1e16, 1e20, 5e-324, 0.1 + 0.2]
    ),
)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
TYPES = st.sampled_from(
    ["string", "string", "number", "integer", "boolean", "array", "object", "null", "file", ""]
)
REFERENCES = st.sampled_from(
    ["#", "#/", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/properties/my-key", "#/oneOf/0",
     "#/oneOf/9", "#anchor", "https://example.com/a.json", "#/$defs/a~1b", ""]
)  # fmt: skip


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(inner, max_size=3)
    named = st.dictionaries(KEYS, inner, max_size=3)
    junk = st.one_of(JSON_VALUES, some)

    def usually(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(strategy, strategy, strategy, strategy, junk)

    keywords = {
        "type": usually(st.one_of(TYPES, TYPES, st.lists(TYPES, max_size=3))),
        "description": usually(TEXTS),
        "title": usually(TEXTS),
        "enum": usually(st.one_of(st.lists(TEXTS, max_size=4), st.lists(JSON_VALUES, max_size=4))),
        "default": JSON_VALUES,
        "nullable": usually(st.booleans()),
        "examples": usually(st.lists(JSON_VALUES, max_size=3)),
        "properties": usually(named),
        "required": usually(st.lists(KEYS, max_size=4)),
        "items": usually(inner),
        "oneOf": usually(some),
        "anyOf": usually(some),
        "allOf": usually(some),
        "prefixItems": usually(some),
        "additionalItems": usually(inner),
        "additionalProperties": usually(inner),
        "patternProperties": usually(named),
        "$defs": usually(named),
        "$ref": usually(REFERENCES),
        "const": JSON_VALUES,
    }
    remarks = ("description", "title", "default", "nullable", "enum", "examples")
    shapes = {
        "object": {"type": st.just("object"), "properties": named},
        "string": {"type": st.just("string"), "default": st.one_of(TEXTS, JSON_VALUES)},
        "array": {"type": st.just("array"), "items": inner},
        "oneOf": {"oneOf": some},
        "anything": {},
    }

    @st.composite
    def schema(draw: st.DrawFn) -> dict[str, Any]:
        shape = shapes[draw(st.sampled_from(list(shapes)))]
        chosen = draw(st.lists(st.sampled_from(remarks), max_size=3, unique=True))
        chosen += draw(st.lists(st.sampled_from(list(keywords)), max_size=2, unique=True))
        made = {keyword: draw(keywords[keyword]) for keyword in chosen}
        return {**made, **{keyword: draw(strategy) for keyword, strategy in shape.items()}}

    return schema()


_SIMPLE = st.fixed_dictionaries(
    {"type": TYPES, "description": TEXTS},
    optional={
        "enum": st.lists(TEXTS, max_size=3),
        "default": st.one_of(TEXTS, JSON_VALUES),
        "nullable": st.booleans(),
        "title": TEXTS,
        "examples": st.lists(JSON_VALUES, max_size=2),
    },
)
LEAVES = st.one_of(_SIMPLE, _SIMPLE, _SIMPLE, JSON_VALUES)
_SHALLOW = st.one_of(LEAVES, LEAVES, _schemas(LEAVES))
_DEEP = st.one_of(LEAVES, _schemas(_SHALLOW), _schemas(_SHALLOW))
_OBJECTS = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(KEYS, _DEEP, min_size=1, max_size=4),
    },
    optional={
        "required": st.lists(KEYS, max_size=4),
        "description": TEXTS,
        "$defs": st.dictionaries(st.sampled_from(["a", "b", "a/b"]), _SHALLOW),
    },
)
ROOTS = st.one_of(_OBJECTS, _OBJECTS, _OBJECTS, _schemas(_schemas(_SHALLOW)))

# Schemas at whose hands the reference has no fault.
WORDS = st.text("abz AÉ漢.,'/|{}<>", min_size=1, max_size=12)
_REMARKS: dict[str, st.SearchStrategy[Any]] = {
    "description": WORDS,
    "title": WORDS,
    "examples": st.lists(WORDS, min_size=1, max_size=3),
    "nullable": st.booleans(),
}


def _plain(kind: str, default: st.SearchStrategy[Any], **more: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"type": st.just(kind), **more}, optional={"default": default, **_REMARKS}
    )


_DECIMALS = st.builds(lambda n: n / 100, st.integers(-(10**6), 10**6))
_SCALARS = st.one_of(
    _plain("string", WORDS),
    _plain("string", WORDS, enum=st.lists(WORDS, min_size=1, max_size=4, unique=True)),
    _plain("number", st.one_of(_DECIMALS, st.sampled_from([1e-5, 1e-9, 1e16, 1e20]))),
    _plain("integer", st.integers(-(2**63), 2**63)),
    _plain("boolean", st.booleans()),
    _plain("array", st.lists(WORDS, max_size=3), items=st.just({"type": "string"})),
    _plain("array", st.lists(_DECIMALS, max_size=3), items=st.just({"type": "number"})),
    _plain("array", st.none()),
)
ORDINARY = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(
            st.from_regex(r"[a-z_$][a-zA-Z0-9_$]{0,8}", fullmatch=True), _SCALARS, max_size=5
        ),
    },
    optional={
        "description": WORDS,
        "required": st.lists(st.sampled_from("abc"), max_size=2),
        "additionalProperties": st.just(False),
    },
)


# --- The reference style --------------------------------------------------------------------


@examples(250)
@given(schema=ROOTS)
def test_law_1_parity_of_schemas(openai_harmony_encoding: Any, schema: dict[str, Any]) -> None:
    assert type_text(schema) == reference_text(openai_harmony_encoding, schema)


@examples(100)
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=30))
def test_law_1_parity_of_numbers(openai_harmony_encoding: Any, numbers: list[float]) -> None:
    schema = {"oneOf": [{"default": numbers}]}
    assert type_text(schema) == reference_text(openai_harmony_encoding, schema)


WEATHER = {
    "type": "object",
    "properties": {
        "location": {"type": "string", "description": "The city and state"},
        "format": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "default": 3},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "hourly": {"type": "boolean", "default": False},
    },
    "required": ["location"],
}
WEATHER_TEXT = """{
// The city and state
location: string,
format?: "celsius" | "fahrenheit", // default: celsius
days?: number, // default: 3
tags?: string[], // default: []
hourly?: boolean, // default: false
}"""

QUIRKS = {
    "not a schema": ({"type": "object", "properties": {"a": 1, "b": None, "c": True}},
        "{\na?: any,\nb?: any,\nc?: any,\n}"),
    "what is ignored": ({"anyOf": [{"type": "string"}], "const": 1, "enum": ["a"]}, "any"),
    "a type list says it all": ({"type": ["integer", "object", "integer", 1], "enum": ["a"]},
        "number | object | number"),
    "a type list without a type": ({"type": [1]}, "any"),
    "an empty type name": ({"type": [""]}, ""),
    "null": ({"type": "null"}, "any"),
    "only strings of an enum": ({"type": "string", "enum": [1, "a", None, "a"]}, '"a" | "a"'),
    "an enum without strings": ({"type": "string", "enum": [1]}, "string"),
    "no escaping": ({"type": "string", "enum": ['"\n']}, '""\n"'),
    "no parentheses": ({"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        '"a" | "b"[]'),
    "array of anything": ({"type": "array"}, "Array<any>"),
    "array of null items": ({"type": "array", "items": None}, "any[]"),
    "root description": ({"type": "object", "description": "d"}, "// d\n{\n}"),
    "root nullable": ({"type": "string", "nullable": True}, "string"),
    "description twice, brace indented": (
        {"type": "object", "properties": {"o": {"type": "object", "description": "d"}}},
        "{\n// d\no?:     // d\n{\n    },\n}"),
    "only the first line is a comment": (
        {"type": "object", "properties": {"s": {"type": "string", "description": "a\nb"}}},
        "{\n// a\nb\ns?: string,\n}"),
    "examples that are strings": (
        {"type": "object", "properties": {"s": {"title": "T", "examples": ['"', 1]}}},
        '{\n// T\n//\n// Examples:\n// - """\ns?: any,\n}'),
    "a key as it is": ({"type": "object", "properties": {"my key\n": {}}}, "{\nmy key\n?: any,\n}"),
    "nullable": ({"type": "object", "properties": {"s": {"type": "string", "nullable": True}}},
        "{\ns?: string | null,\n}"),
    "null in an enum value": (
        {"type": "object",
         "properties": {"s": {"type": "string", "enum": ["annulled"], "nullable": True}}},
        '{\ns?: "annulled",\n}'),
    "nullable must be true": ({"type": "object", "properties": {"s": {"nullable": 1}}},
        "{\ns?: any,\n}"),
    "string default": ({"type": "object", "properties": {"s": {"default": 'a"b'}}},
        '{\ns?: any, // default: "a"b"\n}'),
    "enum default": ({"type": "object", "properties": {"s": {"default": "a", "enum": [1]}}},
        "{\ns?: any, // default: a\n}"),
    "default of an empty enum": (
        {"type": "object", "properties": {"s": {"default": "a", "enum": []}}},
        '{\ns?: any, // default: "a"\n}'),
    "compact default": (
        {"type": "object", "properties": {"s": {"default": {"b": 1, "a": ["é\n", 1.0, None]}}}},
        '{\ns?: any, // default: {"b":1,"a":["é\\n",1.0,null]}\n}'),
    "oneOf at the root": (
        {"oneOf": [
            {"type": "string", "description": "d", "default": "x"},
            {"type": "string", "enum": ["a"], "default": "a"},
            {"type": "number", "nullable": True},
        ]},
        '\n | string // d default: "x"\n | "a" // default: "a"\n | number | null'),
    "no variants": ({"oneOf": [], "type": "string"}, ""),
    "oneOf that is no list": ({"oneOf": {}, "type": "string"}, "string"),
    "oneOf of a property": (
        {"type": "object", "properties": {"p": {
            "description": "d", "default": 1,
            "oneOf": [
                {"type": "string", "description": "lost"},
                {"type": "string", "enum": ["a"], "default": "a", "description": "kept"},
                {"description": "d"},
            ]}}},
        "{\n// d\n// default: 1\np?:\n | string\n | \"a\" // kept default: a\n | any\n,\n}"),
    "description of the first variant": (
        {"type": "object", "properties": {"p": {
            "description": "d", "oneOf": [{"description": "d"}, {"description": "e"}]}}},
        "{\np?:\n | any\n | any // e\n,\n}"),
    "oneOf of a property that is no list": (
        {"type": "object", "properties": {"p": {
            "oneOf": 1, "type": "string", "description": "lost", "default": "lost"}}},
        "{\np?: string,\n}"),
    "empty comments": (
        {"type": "object", "properties": {"p": {"title": "", "description": "", "examples": [1]}}},
        "{\n// \n//\n// \n// Examples:\np?: any,\n}"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIRKS)
def test_quirks_of_the_reference(openai_harmony_encoding: Any, name: str) -> None:
    schema, text = QUIRKS[name]
    assert type_text(schema) == text
    assert reference_text(openai_harmony_encoding, schema) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e-4, "0.0001"),
        (1e-5, "0.00001"),
        (-1.25e-5, "-0.0000125"),
        (1e-6, "1e-6"),
        (1.5e-7, "1.5e-7"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1e20, "1e20"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "1.8446744073709552e19"),
        (-(2**63), "-9223372036854775808"),
        (-(2**63) - 1, "-9.223372036854776e18"),
        (5e-324, "5e-324"),
        # The reference's JSON parser is off by a unit in the last place.
        (0.6046602879796196, "0.6046602879796196"),
        (8.41e21, "8.41e21"),
        (1.7887046691880043e308, "1.7887046691880045e308"),
    ],
)
def test_numbers_of_the_reference(openai_harmony_encoding: Any, number: float, text: str) -> None:
    schema = {"type": "object", "properties": {"n": {"default": number}}}
    assert type_text(schema) == f"{{\nn?: any, // default: {text}\n}}"
    assert reference_text(openai_harmony_encoding, schema) == type_text(schema)


@pytest.mark.parametrize("number", [math.nan, math.inf, 10**400, -(10**5000)], ids="abcd")
def test_numbers_that_json_or_the_reference_cannot_hold(number: float) -> None:
    with pytest.raises(InvalidMessageError, match="number"):
        type_text({"type": "object", "properties": {"n": {"default": [number]}}})


def test_an_ordinary_tool() -> None:
    assert type_text(WEATHER) == WEATHER_TEXT
    assert extended(WEATHER) == WEATHER_TEXT


def test_an_unknown_style() -> None:
    with pytest.raises(InvalidMessageError, match="style"):
        type_text({}, style="fancy")  # type: ignore[arg-type]


@pytest.mark.parametrize("schema", [None, True, False, 1, "string", [], {}])
def test_what_is_no_schema(schema: Any) -> None:
    assert type_text(schema) == "any"
    assert extended(schema) == ("never" if schema is False else "any")


# --- The extended style ---------------------------------------------------------------------


@examples(200)
@given(schema=ORDINARY)
def test_extended_is_reference_where_that_has_no_fault(schema: dict[str, Any]) -> None:
    assert extended(schema) == type_text(schema)


S, N, NULL = {"type": "string"}, {"type": "number"}, {"type": "null"}
A_OBJECT = {"type": "object", "properties": {"a": S}, "required": ["a"]}
B_OBJECT = {"type": "object", "properties": {"b": N}}

TYPE_CASES: list[tuple[Any, str]] = [
    # Boolean schemas
    ({"type": "array", "items": True}, "any[]"),
    ({"type": "array", "items": False}, "never[]"),
    # Constants and enums
    ({"const": "a"}, '"a"'),
    ({"const": None}, "null"),
    ({"const": 1.5}, "1.5"),
    ({"const": 10**30}, "1" + "0" * 30),
    ({"const": 0.1 + 0.2}, "0.30000000000000004"),
    ({"const": {"k": [1, "é"]}}, '{"k":[1,"é"]}'),
    ({"enum": ["a", 1, None, True, "a", 'q"\n\u2028']}, '"a" | 1 | null | true | "q\\"\\n\\u2028"'),
    ({"type": "integer", "enum": [1, 2]}, "1 | 2"),
    ({"type": "string", "enum": ["a", None]}, '"a"'),
    ({"type": "string", "enum": ["a", None], "nullable": True}, '"a" | null'),
    ({"type": ["string", "null"], "enum": ["a", None]}, '"a" | null'),
    ({"type": "string", "enum": [1, 2]}, "1 | 2"),
    ({"type": "string", "enum": []}, "string"),
    ({"type": "string", "enum": ["annulled"], "nullable": True}, '"annulled" | null'),
    # Types
    (NULL, "null"),
    ({"type": ["integer", "null"]}, "number | null"),
    ({"type": ["number", "integer"]}, "number"),
    ({"type": ["array", "null"], "items": S}, "string[] | null"),
    ({"type": ["array", "string"]}, "Array<any> | string"),
    ({"type": ["object", "null"], "properties": {"a": S}}, "{\na?: string,\n} | null"),
    ({"type": ["string", "file"]}, "any"),
    ({"type": []}, "any"),
    ({"type": "string", "nullable": True}, "string | null"),
    ({"nullable": True}, "any"),
    ({"properties": {"a": S}}, "{\na?: string,\n}"),
    ({"items": S}, "string[]"),
    # Unions and intersections
    ({"anyOf": [S, N, S]}, "string | number"),
    ({"oneOf": [S, NULL]}, "string | null"),
    ({"anyOf": [S, {}]}, "any"),
    ({"anyOf": [S, False]}, "string"),
    ({"anyOf": [False]}, "never"),
    ({"anyOf": []}, "any"),
    ({"anyOf": [{"anyOf": [S, NULL]}, {"type": ["number", "null"]}]}, "string | null | number"),
    ({"type": "string", "anyOf": [{"format": "date"}, {"format": "time"}]}, "string"),
    ({"type": "string", "oneOf": [{"const": "a"}, {"const": "b"}]}, '"a" | "b"'),
    ({"allOf": [S]}, "string"),
    ({"allOf": [S, {"minLength": 1}]}, "string"),
    ({"allOf": [S, False]}, "never"),
    ({"allOf": [A_OBJECT, B_OBJECT]}, "{\na: string,\n} & {\nb?: number,\n}"),
    ({**A_OBJECT, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "{\na: string,\n}"),
    ({**A_OBJECT, "oneOf": [B_OBJECT, NULL]}, "{\na: string,\n} & ({\nb?: number,\n} | null)"),
    ({"anyOf": [{"allOf": [A_OBJECT, B_OBJECT]}, S]},
        "({\na: string,\n} & {\nb?: number,\n}) | string"),
    # Arrays
    ({"type": "array"}, "Array<any>"),
    ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a" | "b")[]'),
    ({"type": "array", "items": {"type": "array", "items": {"anyOf": [S, N]}}},
        "(string | number)[][]"),
    ({"type": "array", "items": {"allOf": [A_OBJECT, B_OBJECT]}},
        "({\na: string,\n} & {\nb?: number,\n})[]"),
    ({"type": "array", "prefixItems": [S, {"anyOf": [N, NULL]}]}, "[string, number | null]"),
    ({"type": "array", "prefixItems": [S], "items": False}, "[string]"),
    ({"type": "array", "prefixItems": [S], "items": {"enum": [1, 2]}}, "[string, ...(1 | 2)[]]"),
    ({"prefixItems": [S], "items": True}, "[string, ...any[]]"),
    ({"type": "array", "items": [S, N]}, "[string, number]"),
    ({"type": "array", "items": [S], "additionalItems": N}, "[string, ...number[]]"),
    # Objects
    ({"type": "object"}, "{\n}"),
    ({"type": "array", "items": {"type": "object", "properties": {"o": {"type": "object"}}}},
        "{\no?: object,\n}[]"),
    ({"type": "object", "additionalProperties": S}, "{\n[key: string]: string,\n}"),
    ({"type": "object", "additionalProperties": True}, "{\n[key: string]: any,\n}"),
    ({"type": "object", "additionalProperties": False}, "{\n}"),
    ({"additionalProperties": {"anyOf": [S, N]}}, "{\n[key: string]: string | number,\n}"),
    ({"type": "object", "patternProperties": {"^x": S, "^y": N}},
        "{\n[key: string]: string | number,\n}"),
    ({"type": "object", "properties": {"my-key": S, "$a_1": S, "größe": S, "1": S, "": S, '"': S}},
        '{\n"my-key"?: string,\n$a_1?: string,\ngröße?: string,\n'
        '"1"?: string,\n""?: string,\n"\\""?: string,\n}'),
    # References
    ({"$ref": "#/$defs/S", "$defs": {"S": S}}, "string"),
    ({"$ref": "#/definitions/S", "definitions": {"S": S}}, "string"),
    ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": S}}, "string"),
    ({"type": "array", "items": {"$ref": "#/$defs/l/1"}, "$defs": {"l": [N, S]}}, "string[]"),
    ({"$ref": "#/$defs/missing"}, "any"),
    ({"$ref": "#anchor"}, "any"),
    ({"$ref": "https://example.com/schema.json"}, "any"),
    ({"$ref": 1}, "any"),
    ({"$ref": "#/$defs/N", "$defs": {"N": False}}, "never"),
    ({"$ref": "#/$defs/S", "nullable": True, "$defs": {"S": S}}, "string | null"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "text"), TYPE_CASES)
def test_extended_types(schema: Any, text: str) -> None:
    assert extended(schema) == text


PROPERTY_CASES: list[tuple[Any, str]] = [
    (True, "p: any,"),
    (False, "p: never,"),
    ({"type": "object"}, "p: object,"),
    ({"type": "object", "additionalProperties": False}, "p: {\n},"),
    # Comments
    ({**S, "description": "one\ntwo\r\n\nfour\n"}, "// one\n// two\n// \n// four\np: string,"),
    ({**S, "title": "a\nb"}, "// a\n// b\n//\np: string,"),
    ({**S, "description": ""}, "p: string,"),
    ({**S, "examples": ["a", 'q"\n', 1, None, {"k": []}]},
        '// Examples:\n// - "a"\n// - "q\\"\\n"\n// - 1\n// - null\n// - {"k":[]}\np: string,'),
    ({"type": "object", "description": "d", "properties": {"a": {**S, "description": "x\ny"}}},
        "// d\np: {\n    // x\n    // y\n    a?: string,\n},"),
    ({"type": "array", "description": "d", "items": {**A_OBJECT, "description": "i"}},
        "// d\n// Items: i\np: {\n    a: string,\n}[],"),
    # Defaults
    ({**S, "default": 'a"\n'}, 'p: string, // default: "a\\"\\n"'),
    ({"enum": ["a", "b"], "default": "a"}, 'p: "a" | "b", // default: a'),
    ({"enum": ["a\n"], "default": "a\n"}, 'p: "a\\n", // default: "a\\n"'),
    ({**NULL, "default": None}, "p: null, // default: null"),
    ({"type": "object", "properties": {"a": S}, "default": {"a": "\u2028"}},
        'p: {\n    a?: string,\n}, // default: {"a":"\\u2028"}'),
    # Unions
    ({"anyOf": [S, NULL], "default": None, "description": "d"},
        "// d\np: string | null, // default: null"),
    ({"anyOf": [{**A_OBJECT, "description": "d"}, NULL]},
        "// d\np: {\n    a: string,\n} | null,"),
    ({"description": "d", "default": 1, "oneOf": [
        {**S, "description": "first", "default": "x"}, {**N, "description": "d"}, B_OBJECT]},
        '// d\n// default: 1\np:\n | string // first default: "x"\n | number\n'
        " | {\n       b?: number,\n   }\n,"),
    ({"oneOf": [{**A_OBJECT, "description": "obj"}, {**S, "description": "two\nlines"}]},
        "p:\n // obj\n | {\n       a: string,\n   }\n // two\n // lines\n | string\n,"),
    ({"oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]},
        'p:\n | "r" // Red\n | "g" // Green\n,'),
    ({"type": "array", "items": {"oneOf": [{**S, "description": "s"}, N]}},
        "p: (\n | string // s\n | number\n)[],"),
    ({"anyOf": [{**S, "description": "s"}, N], "nullable": True},
        "p: (\n | string // s\n | number\n) | null,"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "text"), PROPERTY_CASES)
def test_extended_properties(schema: Any, text: str) -> None:
    assert of_property(schema) == text


def test_extended_describes_the_root() -> None:
    assert extended({**A_OBJECT, "description": "a\nb"}) == "// a\n// b\n{\na: string,\n}"
    described = {"description": "d", "oneOf": [{**S, "description": "s"}, N]}
    assert extended(described) == "// d\n | string // s\n | number\n"


def test_a_reference_brings_its_remarks() -> None:
    color = {"enum": ["red", "green"], "description": "A color", "default": "red"}
    definitions = {"Color": color}
    text = '// A color\np: "red" | "green", // default: red'
    reference = {"$ref": "#/$defs/Color"}
    assert of_property(reference, **{"$defs": definitions}) == text
    assert of_property({"allOf": [reference]}, **{"$defs": definitions}) == text
    own = {**reference, "description": "Mine", "default": "green"}
    text = '// Mine\np: "red" | "green", // default: green'
    assert of_property(own, **{"$defs": definitions}) == text


def test_a_recursive_definition_is_written_once_and_named() -> None:
    node = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    }
    text = of_property({"$ref": "#/$defs/Node"}, **{"$defs": {"Node": node}})
    assert text == "p: /* Node */ {\n    children?: Node[],\n},"


def test_a_recursive_root_is_named() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}, "s": S}}
    assert extended(schema) == "/* Root */ {\nnext?: Root,\ns?: string,\n}"
    looped = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    }
    assert extended(looped) == "/* a */ a"


def test_names_of_definitions_are_names_and_differ() -> None:
    def node(name: str) -> dict[str, Any]:
        reference = {"$ref": f"#/$defs/{name}"}
        return {"type": "object", "properties": {"next": reference}, "required": ["next"]}

    names = {"u": "any", "v": "a-b", "w": "a*~1b", "x": "a b", "y": "3D", "z": "*~1"}
    properties = {key: {"$ref": f"#/$defs/{name}"} for key, name in names.items()}
    definitions = {name.replace("~1", "/"): node(name) for name in names.values()}
    text = extended({"type": "object", "properties": properties, "$defs": definitions})
    assert re.findall(r"/\* (.*?) \*/", text) == ["any2", "a_b", "a_1b", "a_b2", "_3D", "_1"]


def test_a_definition_that_is_used_often_is_named_in_the_end() -> None:
    big = {"type": "object", "properties": {"a": S}}
    uses = {f"p{i}": {"$ref": "#/$defs/Big"} for i in range(20)}
    text = extended({"type": "object", "properties": uses, "$defs": {"Big": big}})
    assert text.count("/* Big */ {") == 4
    assert text.count(": Big,") == 16


def test_a_short_definition_is_always_written_out() -> None:
    uses = {f"p{i}": {"$ref": "#/$defs/E"} for i in range(100)}
    text = extended({"type": "object", "properties": uses, "$defs": {"E": {"enum": [1, 2]}}})
    assert text.count("1 | 2") == 100


TOKEN = re.compile(
    r"""//[^\n\r\u2028\u2029]*\n | /\*.*?\*/ | "(?:[^"\\\x00-\x1f\u2028\u2029]|\\.)*"
    | -?\d[\d.]*(?:e-?\d+)? | \.\.\. | [^\W\d][\w$]* | \$[\w$]* | [{}()\[\]<>|&:,?] | [ \n]+""",
    re.VERBOSE,
)


def check_form(text: str) -> None:
    """Assert that a type consists of TypeScript's tokens, and that brackets match."""
    position, awaited = 0, []
    pairs = {"{": "}", "(": ")", "[": "]", "<": ">"}
    while position < len(text):
        token = TOKEN.match(text, position)
        assert token is not None, text[position:]
        position = token.end()
        if token[0] in pairs:
            awaited.append(pairs[token[0]])
        elif token[0] in pairs.values():
            assert awaited.pop() == token[0]
    assert not awaited


@examples(120)
@given(schema=ROOTS)
def test_extended_is_well_formed(schema: dict[str, Any]) -> None:
    check_form(extended(schema))


# --- Size and depth -------------------------------------------------------------------------


def nested(depth: int, wrap: Any) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = wrap(schema)
    return schema


WRAPS = {
    "array": lambda s: {"type": "array", "items": s},
    "object": lambda s: {"type": "object", "properties": {"p": s}},
    "oneOf": lambda s: {"oneOf": [s, {"type": "null"}]},
    "anyOf": lambda s: {"anyOf": [s, {"type": "null"}]},
    "allOf": lambda s: {"allOf": [s]},
}


@pytest.mark.parametrize("style", ["reference", "extended"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_depth(style: Any, wrap: str) -> None:
    levels = 1 if wrap == "array" else 2
    deepest = (MAX_DEPTH - 1) // levels
    type_text(nested(deepest, WRAPS[wrap]), style=style)
    for depth in (deepest + 1, 1000, 20_000):
        with pytest.raises(InvalidMessageError, match="nested too deeply") as caught:
            type_text(nested(depth, WRAPS[wrap]), style=style)
        assert caught.value.field == "parameters"


@pytest.mark.parametrize("style", ["reference", "extended"])
def test_depth_of_a_default(style: Any) -> None:
    default: Any = 1
    for _ in range(1000):
        default = [default]
    with pytest.raises(InvalidMessageError, match="nested too deeply"):
        type_text({"type": "object", "properties": {"p": {"default": default}}}, style=style)


def test_all_that_the_reference_can_read_is_deep_enough(openai_harmony_encoding: Any) -> None:
    depth = 0
    while True:
        schema = nested(depth + 1, WRAPS["array"])
        try:
            text = reference_text(openai_harmony_encoding, schema)
        except ValueError:
            break
        depth += 1
        assert type_text(schema) == text
    assert 100 < depth < MAX_DEPTH


@pytest.mark.parametrize("used", [1, 2, 5])
@pytest.mark.parametrize("count", [30, 2000])
def test_definitions_that_use_each_other_do_not_explode(used: int, count: int) -> None:
    definitions = {
        f"D{i}": {
            "type": "object",
            "properties": {
                f"p{k}": {"$ref": f"#/$defs/D{(i + k + 1) % count}"} for k in range(used)
            },
        }
        for i in range(count)
    }
    schema = {"type": "object", "properties": {"d": {"$ref": "#/$defs/D0"}}, "$defs": definitions}
    text = extended(schema)
    check_form(text)
    assert len(text) < 100 * len(json.dumps(schema))


def seconds(schema: Any, style: Any) -> float:
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        type_text(schema, style=style)
        best = min(best, time.perf_counter() - start)
    return best


def with_properties(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


def linked_definitions(count: int) -> dict[str, Any]:
    definitions = {
        f"D{i}": {**A_OBJECT, "anyOf": [{"$ref": f"#/$defs/D{i // 2}"}, NULL]} for i in range(count)
    }
    properties = {f"p{i}": {"$ref": f"#/$defs/D{i}"} for i in range(count)}
    return with_properties(properties, **{"$defs": definitions})


BIG = {
    "properties": lambda n: with_properties({f"p{i}": {**S, "description": "d"} for i in range(n)}),
    "enum": lambda n: {"type": "string", "enum": [f"v{i}" for i in range(n)]},
    "oneOf": lambda n: {"oneOf": [{**S, "description": f"d{i}"} for i in range(n)]},
    "description": lambda n: nested(
        40, lambda s: with_properties({"p": s}, description="x\n" * (n // 40))
    ),
    "types": lambda n: {"type": ["string", "number"] * n},
    "default": lambda n: {"oneOf": [{"default": [{"a": 0.1}] * n}]},
    "references": lambda n: linked_definitions(n // 5),
}


@pytest.mark.parametrize("style", ["reference", "extended"])
@pytest.mark.parametrize("kind", BIG)
def test_law_9_time_is_linear_in_the_schema(style: Any, kind: str) -> None:
    assert_linear(lambda n: seconds(BIG[kind](n), style), 400, 4000)
