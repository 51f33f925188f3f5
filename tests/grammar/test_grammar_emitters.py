"""The grammars for xgrammar and llama.cpp: what they admit, without these engines."""

from __future__ import annotations

import json
import re
import runpy
import string
from pathlib import Path

import hypothesis.strategies as st
import jsonschema
import pytest
from examples import scaled
from hypothesis import HealthCheck, given, settings
from llguidance.gbnf_to_lark import gbnf_to_lark
from rule_reader import Reader

import harmony_kit as hk
from harmony_kit.errors import GrammarError
from harmony_kit.grammar import Choice, Constraint, Pattern, constraint
from harmony_kit.grammar._matching import Matcher
from harmony_kit.grammar._nodes import (
    FreeText,
    JsonValue,
    Literal,
    MatchingText,
    Token,
    alternatives,
    repeat,
    sequence,
)
from harmony_kit.wire._contents import Tool
from harmony_kit.wire._vocabulary import CALL, END, RETURN, encode

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
many = settings(slow, max_examples=scaled(300))


def rules_of(schema) -> Reader:
    return Reader(Constraint(JsonValue(json.dumps(schema), "f")).gbnf)


def is_valid(schema, value) -> bool:
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return validator.is_valid(value)


def assert_admits_valid(schema, values):
    """The rules admit a value exactly if it is valid."""
    rules = rules_of(schema)
    for value in values:
        assert rules.admits(json.dumps(value, ensure_ascii=False)) == is_valid(schema, value), value


# --- Schemas, valid and invalid values ------------------------------------------------------------

names = st.sampled_from(["a", "b", "ab", "long name", 'q"t', "ä", "x<|y", "a\\b", ""])
letters = st.text('ab<|>é漢"\\\n', max_size=6)
counts = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted)


@st.composite
def string_schemas(draw):
    least, most = draw(counts)
    return draw(
        st.sampled_from(
            [
                {"type": "string"},
                {"type": "string", "minLength": least},
                {"type": "string", "maxLength": most},
                {"type": "string", "minLength": least, "maxLength": most},
                {"type": "string", "pattern": "^a+b*$"},
                {"type": "string", "pattern": "[^a]"},
                {"enum": ["a", "ab", "<|end|>", 1, None]},
                {"const": "a"},
            ]
        )
    )


@st.composite
def number_schemas(draw):
    kind = draw(st.sampled_from(["integer", "number"]))
    low, high = sorted(draw(st.tuples(st.integers(-1200, 1200), st.integers(-1200, 1200))))
    bounds = {
        draw(st.sampled_from(["minimum", "exclusiveMinimum"])): low,
        draw(st.sampled_from(["maximum", "exclusiveMaximum"])): high,
    }
    kept = draw(st.sets(st.sampled_from(sorted(bounds))))
    return {"type": kind, **{key: bounds[key] for key in kept if high - low > 1}}


def array_schemas(inner):
    return st.builds(
        lambda items, prefix, bounds, keep: {
            "type": "array",
            "items": items,
            **({"prefixItems": prefix} if prefix else {}),
            **({"minItems": bounds[0]} if keep & 1 else {}),
            **({"maxItems": bounds[1]} if keep & 2 else {}),
        },
        inner,
        st.lists(inner, max_size=2),
        counts,
        st.integers(0, 3),
    )


def object_schemas(inner):
    return st.builds(
        lambda properties, required, others: {
            "type": "object",
            "properties": properties,
            "required": sorted(set(required) & set(properties)),
            "additionalProperties": others,
        },
        st.dictionaries(names, inner, max_size=4),
        st.lists(names, max_size=4),
        st.just(False) | inner,
    )


schemas = st.recursive(
    string_schemas() | number_schemas() | st.sampled_from([True, {"type": ["null", "boolean"]}]),
    lambda inner: (
        array_schemas(inner)
        | object_schemas(inner)
        | st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=5,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-1300, 1300)
    | st.decimals(-1300, 1300, places=2).map(float)
    | letters
    | st.sampled_from(["a", "ab", "<|end|>", "aab"])
)
any_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=4,
)


def instances(schema):
    """Values similar to a schema; many are valid."""
    if not isinstance(schema, dict):
        return any_values
    if "anyOf" in schema:
        return st.one_of(*map(instances, schema["anyOf"]))
    match schema.get("type"):
        case "integer":
            low, high = schema.get("minimum", -1300), schema.get("maximum", 1300)
            return st.integers(low - 1, high + 1) | st.sampled_from([low, high])
        case "array":
            prefix = st.tuples(*map(instances, schema.get("prefixItems", ())))
            rest = st.lists(instances(schema["items"]), max_size=4)
            return st.builds(
                lambda first, more, cut: [*first, *more][: cut or None],
                prefix,
                rest,
                st.integers(0, 3),
            )
        case "object":
            properties = {k: instances(v) for k, v in schema["properties"].items()}
            own = st.fixed_dictionaries({}, optional=properties)
            other = st.dictionaries(names, instances(schema["additionalProperties"]), max_size=2)
            both = st.builds(lambda a, b: {**a, **b}, own, other)
            # fixed_dictionaries does not keep an order.
            return both.map(
                lambda it: {k: it[k] for k in [*(p for p in properties if p in it), *it]}
            )
    return any_values


@many
@given(st.data())
def test_values_are_admitted_exactly_where_they_are_valid(data):
    schema = data.draw(schemas)
    try:
        rules = rules_of(schema)
    except GrammarError as error:
        assert error.reason == "nothing meets the schema"  # noqa: PT017
        assert not is_valid(schema, data.draw(instances(schema)))
        return
    for _ in range(8):
        value = data.draw(instances(schema) | any_values)
        indent = data.draw(st.sampled_from([None, 2]))
        text = json.dumps(value, ensure_ascii=data.draw(st.booleans()), indent=indent)
        if rules.admits(text):
            assert is_valid(schema, json.loads(text)), text
        elif is_valid(schema, value) and is_in_order(schema, value):
            assert is_unusual(text), text


def is_in_order(schema, value) -> bool:
    """Whether all properties are in the order of the rules; unknown under anyOf."""
    if "anyOf" in str(schema):
        return False
    if isinstance(value, dict) and isinstance(schema, dict) and "properties" in schema:
        own = [*schema["properties"]]
        wanted = [*(it for it in own if it in value), *(it for it in value if it not in own)]
        others = schema["additionalProperties"]
        return [*value] == wanted and all(
            is_in_order(schema["properties"].get(k, others), v) for k, v in value.items()
        )
    if isinstance(value, list) and isinstance(schema, dict) and "items" in schema:
        prefix = schema.get("prefixItems", [])
        return all(
            is_in_order(prefix[i] if i < len(prefix) else schema["items"], v)
            for i, v in enumerate(value)
        )
    return True


def is_unusual(text) -> bool:
    """Whether the rules may admit another spelling only."""
    if (
        '\\n"' in text
    ):  # of a pattern's $ the oracle says, as Python does, that a newline may follow
        return True
    return "|" in text or "\\u" in text or "-0" in text or bool(re.search(r"\d[eE]|\.0", text))


@slow
@given(st.data())
def test_llguidance_reads_the_rules_alike(data):
    schema = data.draw(schemas)
    try:
        gbnf = Constraint(JsonValue(json.dumps(schema), "f")).gbnf
    except GrammarError:
        return
    # The converter drops zeros after \\u, but not after \\x.
    short = re.sub(r"(?<!\\)\\u00", r"\\x", gbnf)
    converted = gbnf_to_lark(short).partition("start: ")[2]
    grammar = f"%llguidance {{}}\nstart: whole_value <[{END}]>\nwhole_value: {converted}"
    rules = Reader(gbnf)
    for _ in range(3):
        text = json.dumps(data.draw(instances(schema)), ensure_ascii=data.draw(st.booleans()))
        matcher = Matcher(grammar)
        taken = all(map(matcher.accept_token, [*encode(text), END]))
        # llguidance takes the longest text at once: what begins as a declared key is that key
        # alone, where another of two forms or an additional key would have it differently.
        is_eager = "anyOf" in str(schema) or "additionalProperties" in str(schema)
        assert taken == rules.admits(text) or (not taken and is_eager), text


# --- Keywords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 0),
        (0, 9),
        (5, 120),
        (-5, 5),
        (-120, -7),
        (99, 1001),
        (10, 10),
        (-1, 0),
        (None, 7),
        (7, None),
        (-7, None),
        (None, -7),
        (0, None),
        (100, None),
    ],
)
@pytest.mark.parametrize("is_exclusive", [False, True])
def test_bounds_of_integers(low, high, is_exclusive):
    words = ("exclusiveMinimum", "exclusiveMaximum") if is_exclusive else ("minimum", "maximum")
    bounds = {word: it for word, it in zip(words, (low, high), strict=True) if it is not None}
    schema = {"type": "integer", **bounds}
    values = [*range(-130, 131), *range(990, 1010), 12345, -12345]
    if any(is_valid(schema, it) for it in values):
        assert_admits_valid(schema, values)
    else:
        with pytest.raises(GrammarError, match="nothing meets"):
            rules_of(schema)


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": 0},
        {"minimum": 0, "maximum": 1},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"minimum": -3, "maximum": 12},
        {"maximum": -2},
        {"exclusiveMaximum": 0},
        {"minimum": -90, "exclusiveMaximum": -9},
    ],
)
def test_bounds_of_numbers(bounds):
    values = [
        0,
        1,
        0.5,
        0.25,
        -0.5,
        2,
        2.5,
        12,
        12.5,
        -3,
        -3.5,
        -2,
        -2.5,
        -9,
        -9.5,
        -90,
        -90.5,
        1.0,
    ]
    assert_admits_valid({"type": "number", **bounds}, values)


def test_numbers_within_bounds_do_not_round_out_of_them():
    rules = rules_of({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})
    assert rules.admits("0.1")
    assert not rules.admits("0." + "9" * 20)
    assert not rules.admits("0.0")


def test_a_fractional_bound_is_refused_for_numbers_only():
    assert_admits_valid({"type": "integer", "minimum": 0.5, "maximum": 3.5}, range(-1, 6))
    with pytest.raises(GrammarError, match=r"^f\.minimum: "):
        rules_of({"type": "number", "minimum": 0.5})


def test_other_properties_never_repeat_a_name():
    schema = {
        "type": "object",
        "properties": {"ab": {"type": "integer"}},
        "additionalProperties": True,
    }
    rules = rules_of(schema)
    assert rules.admits('{"ab": 1, "a": "x", "abc": "x", "": 1}')
    for disguise in ('"ab"', r'"a\u0062"', r'"\u0061b"'):
        assert not rules.admits(f'{{"ab": 1, {disguise}: "x"}}')
        assert not rules.admits(f'{{{disguise}: "x"}}')


def test_objects_are_closed_by_default():
    schema = {"type": "object", "properties": {"a": True}}
    assert not rules_of(schema).admits('{"b": 1}')
    assert rules_of({**schema, "additionalProperties": True}).admits('{"b": 1}')
    assert rules_of({"type": "object"}).admits('{"b": {"c": [1, "x", null]}}')


def test_many_optional_properties_make_few_rules():
    properties = {f"p{i}": {"type": "integer"} for i in range(200)}
    grammar = Constraint(JsonValue(json.dumps({"properties": properties, "type": "object"}))).gbnf
    assert len(grammar) < 60_000
    assert Reader(grammar).admits('{"p3": 1, "p77": 2}')
    assert not Reader(grammar).admits('{"p77": 1, "p3": 2}')


REFERENCE = {
    "$defs": {
        "n": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/n"}},
            "required": ["v"],
        }
    },
    "$ref": "#/$defs/n",
}


def test_references_may_be_recursive():
    rules = rules_of(REFERENCE)
    assert rules.admits('{"v": 1, "next": {"v": 2, "next": {"v": 3}}}')
    assert not rules.admits('{"v": 1, "next": {"next": {"v": 3}}}')


def test_endless_alternatives_are_dropped():
    endless = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/n"}},
        "required": ["next"],
    }
    with pytest.raises(GrammarError, match="nothing meets"):
        rules_of({"$defs": {"n": endless}, "$ref": "#/$defs/n"})
    rules = rules_of(
        {"$defs": {"n": endless}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}
    )
    assert rules.admits("{}")


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            {"allOf": [{"type": "string", "minLength": 2}, {"maxLength": 3}]},
            ["ab", "abc"],
            ["a", "abcd", 1],
        ),
        (
            {
                "allOf": [
                    {"$ref": "#/$defs/a"},
                    {"properties": {"b": {"type": "null"}}, "required": ["b"]},
                ],
                "$defs": {"a": {"type": "object", "properties": {"a": {"type": "integer"}}}},
            },
            [{"a": 1, "b": None}, {"b": None}],
            [{"a": 1}, {"a": "x", "b": None}],
        ),
        ({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": -5}]}, [5, -5], [0, "x"]),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], [None, 1.5]),
        (
            {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {"k": {"const": k}, k: {"type": "integer"}},
                        "required": ["k"],
                    }
                    for k in "xy"
                ]
            },
            [{"k": "x", "x": 1}, {"k": "y"}],
            [{"k": "z"}, {}],
        ),
        (
            {
                "$ref": "#/$defs/s",
                "maxLength": 2,
                "$defs": {"s": {"type": "string", "minLength": 1}},
            },
            ["a", "ab"],
            ["", "abc"],
        ),
        (
            {"enum": [1, "a", {"k": [1, 2]}, None], "type": ["integer", "object"]},
            [1, {"k": [1, 2]}],
            ["a", None],
        ),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        (
            {"prefixItems": [{"type": "integer"}], "items": False, "type": "array"},
            [[1], []],
            [["a"], [1, 1]],
        ),
        (
            {"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "null"}},
            [[1, None]],
            [[1, 1], ["a"]],
        ),
        (
            {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "minProperties": 1,
                "maxProperties": 2,
            },
            [{"a": 1}, {"a": 1, "b": 2}],
            [{}, {"a": "x"}, {"a": 1, "b": 2, "c": 3}],
        ),
        ({"type": "array", "uniqueItems": True, "maxItems": 1}, [[], [1]], [[1, 2]]),
        ({"properties": {"a": {"type": "integer"}}}, [{"a": 1}, 5, "x", None, [1]], [{"a": "x"}]),
    ],
)
def test_keywords_together(schema, good, bad):
    rules = rules_of(schema)
    assert all(rules.admits(json.dumps(it)) for it in good)
    assert not any(rules.admits(json.dumps(it)) for it in bad)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"not": {"type": "string"}}, "f.not"),
        (
            {"properties": {"a": {"type": "array", "uniqueItems": True}}},
            "f.properties.a.uniqueItems",
        ),
        ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, "f.oneOf"),
        ({"type": "integer", "multipleOf": 3}, "f.multipleOf"),
        ({"type": "string", "format": "uri"}, "f.format"),
        ({"type": "string", "format": "date", "maxLength": 3}, "f.format"),
        ({"type": "string", "pattern": "(?=a)b"}, "f.pattern"),
        ({"type": "string", "pattern": r"(a)\1"}, "f.pattern"),
        ({"type": "string", "pattern": "("}, "f.pattern"),
        ({"type": "string", "pattern": "(?i)a"}, "f.pattern"),
        ({"$ref": "#/$defs/none"}, "f.$ref"),
        ({"$ref": "https://example.org/schema"}, "f.$ref"),
        ({"type": "text"}, "f.type"),
        ({"type": "string", "maxLength": 5000}, "f.maxLength"),
        ({"properties": {"a": True}, "minProperties": 1}, "f.minProperties"),
        ({"if": {"type": "string"}}, "f.if"),
    ],
)
def test_unsupported_keywords_are_refused_by_name(schema, path):
    with pytest.raises(GrammarError) as caught:
        rules_of(schema)
    assert caught.value.path == path


def test_a_long_string_is_counted_where_the_language_can():
    ebnf = Constraint(JsonValue('{"type": "string", "maxLength": 5000}')).ebnf
    assert "{0,5000}" in ebnf


def test_schemas_may_be_deep():
    schema = {"type": "integer"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    assert rules_of(schema).admits("[" * 200 + "1" + "]" * 200)
    text = '{"items":' * 5000 + "true" + "}" * 5000
    with pytest.raises(GrammarError, match="nested too deeply"):
        _ = Constraint(JsonValue(text, "f")).ebnf


# --- Strings ------------------------------------------------------------------------------------


@slow
@given(st.text(max_size=12) | letters)
def test_strings_have_no_control_characters_and_spell_no_special_token(text):
    rules = rules_of({"type": "string"})
    spells = re.search(r"<\|[a-z]", text)
    assert rules.admits(json.dumps(text, ensure_ascii=False)) == (not spells)
    assert rules.admits(json.dumps(text).replace("|", "\\u007c"))
    assert rules.admits(f'"{text}"') <= (json_or_none(f'"{text}"') is not None)


def json_or_none(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


@slow
@given(st.text(max_size=5), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_lengths_are_counted_in_characters(text, least, more, is_ascii):
    schema = {"type": "string", "minLength": least, "maxLength": least + more}
    written = json.dumps(text, ensure_ascii=is_ascii).replace("|", "\\u007c")
    assert rules_of(schema).admits(written) == is_valid(schema, text)


PATTERNS = [
    "^abc$",
    "abc",
    "^[a-c]{2,3}$",
    "a|b",
    "^(a|b)+$",
    "^a|b$",
    r"^\d{3}-\d{4}$",
    r"^\w+\s\w*$",
    "[^a-z]",
    "^.$",
    "^$",
    "",
    r"^\S+$",
    "^(?:ab)?c*?$",
    r'^["\\]$',
    r"^[^\d]$",
    r"^\D$",
    r"^a\.b$",
]


@many
@given(st.sampled_from(PATTERNS), st.text('abc15-_ ."\\\né漢٣\u2028A', max_size=8))
def test_patterns_match_what_python_matches(pattern, text):
    admits = rules_of({"type": "string", "pattern": pattern}).admits(
        json.dumps(text, ensure_ascii=False)
    )
    matches = re.search(pattern.replace("$", r"\Z"), text) is not None
    if text.isascii():
        assert admits == matches
    assert admits <= matches
    whole = Constraint(MatchingText(pattern)).gbnf
    if text.isascii() and "|" not in pattern:
        plain = pattern.strip("^$")
        assert Reader(whole).admits(text) == (re.fullmatch(plain, text) is not None)


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (
            "date",
            ["2024-02-29", "1999-12-31", "2000-02-29"],
            ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "0000-01-01"],
        ),
        ("time", ["10:20:30Z", "23:59:59.5+02:00"], ["24:00:00Z", "10:20:30"]),
        ("date-time", ["2024-02-29T10:20:30Z"], ["2024-02-29 10:20", "2024-02-29"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ("ipv4", ["1.2.3.4", "255.255.255.255", "0.0.0.0"], ["256.1.1.1", "1.2.3", "01.2.3.4"]),
        ("hostname", ["example.org", "a-b.c"], ["-a.b", "a..b"]),
        ("email", ["a.b+c@example.org"], ["a", "@b", "a@b@c"]),
    ],
)
def test_formats(form, good, bad):
    rules = rules_of({"type": "string", "format": form})
    assert all(rules.admits(json.dumps(it)) for it in good)
    assert not any(rules.admits(json.dumps(it)) for it in bad)


# --- Nodes --------------------------------------------------------------------------------------

texts = st.text(string.ascii_letters + ' <{"\\\né漢', min_size=1, max_size=5)
parts = st.one_of(
    texts.map(Literal),
    st.builds(FreeText, required=st.booleans(), max_tokens=st.none()),
    st.sampled_from([Token(END), Token(CALL), Token(RETURN)]),
    st.sampled_from([True, REFERENCE, {"type": "string"}]).map(
        lambda it: JsonValue(json.dumps(it))
    ),
    st.sampled_from(["a+", "[a-c]*"]).map(MatchingText),
)
nodes = st.recursive(
    parts,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda it: sequence(*it)),
        st.lists(inner, min_size=1, max_size=3).map(lambda it: alternatives(*it)),
        inner.map(repeat),
    ),
    max_leaves=8,
)


@slow
@given(nodes)
def test_emitted_texts_are_complete_and_deterministic(node):
    for emitted in ("gbnf", "ebnf"):
        text = getattr(Constraint(node), emitted)
        assert text == getattr(Constraint(node), emitted)
        Reader(text)  # every rule that is used is there, and no other
    tag = Constraint(node).structural_tag
    assert json.loads(json.dumps(tag)) == tag == Constraint(node).structural_tag


WEATHER = Tool(
    "get_weather",
    "",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def items_of(tokens):
    """A completion as characters and special tokens."""
    text = hk.decode(tokens)
    parts = re.split(r"(<\|[a-z_0-9]+\|>)", text)
    return [
        it
        for part in parts
        for it in (hk.encode_with_special(part) if part.startswith("<|") else part)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>Hm. 1 < 2 |<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "Rome"}<|call|>',
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city":"<b>"}<|call|>',
        "<|channel|>final<|message|>Yes.<|return|>",
    ],
)
def test_completions_are_admitted(text):
    made = constraint([WEATHER])
    items = items_of(hk.encode_with_special(text))
    assert Reader(made.ebnf).admits(items)
    assert Reader(made.gbnf).admits(items[:-1])
    assert Reader(made.without_stop_token.ebnf).admits(items[:-1])
    assert not Reader(made.ebnf).admits(items[:-1])
    assert not Reader(made.ebnf).admits([*items[:-1], END])


def test_limits_of_tokens_are_kept_or_refused():
    made = constraint(reasoning=5)
    assert "whole{0,5}" in made.ebnf
    assert "whole{0,5}" in json.dumps(made.structural_tag)
    with pytest.raises(GrammarError, match=r"^reasoning: "):
        _ = made.gbnf


@pytest.mark.parametrize("form", [Choice(("<|end|>", "a")), Pattern("<|a"), Pattern(r"<\|a")])
def test_answers_that_spell_special_tokens_are_refused_or_narrowed(form):
    made = constraint(response_format=form, reasoning="none")
    if form == Pattern("<|a"):  # no spelling: one or the other
        assert Reader(made.gbnf).admits(
            items_of(hk.encode_with_special("<|channel|>final<|message|>a"))
        )
        return
    for emitted in ("ebnf", "gbnf", "structural_tag"):
        with pytest.raises(GrammarError, match=r"^response_format: "):
            getattr(made, emitted)


def test_the_table_of_keywords_is_up_to_date():
    root = Path(__file__).parents[2]
    written = runpy.run_path(str(root / "scripts" / "keyword_table.py"))["table"]()
    assert (root / "docs" / "schema-keywords.md").read_text("utf-8") == written
