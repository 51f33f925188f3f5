"""The grammars for xgrammar, in xgrammar itself over our vocabulary."""

from __future__ import annotations

import importlib.util
import json
import os
import random
from typing import Any

import pytest

for module in ("xgrammar", "jsonschema"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

import jsonschema  # noqa: E402
import numpy as np  # noqa: E402
import xgrammar  # noqa: E402
from completions import completion  # noqa: E402
from harmony_backends.openai_completions._constraints import SERVER_GRAMMARS  # noqa: E402

import harmony_kit as hk  # noqa: E402
from harmony_kit.errors import GrammarError  # noqa: E402
from harmony_kit.grammar import Choice, Constraint, Pattern, constraint  # noqa: E402
from harmony_kit.grammar._matching import MODEL_VOCABULARY_SIZE  # noqa: E402
from harmony_kit.grammar._nodes import FreeText, Token, sequence  # noqa: E402
from harmony_kit.wire._vocabulary import (  # noqa: E402
    CALL,
    END,
    END_OF_TEXT,
    FIRST_SPECIAL,
    RETURN,
    SPECIAL_TOKEN_NAMES,
    encode,
    ordinary_token_table,
)

WALKS = int(os.environ.get("WALKS", "100"))
ADMITTED = int(os.environ.get("ADMITTED", "500"))
EMITTED = ("structural_tag", "ebnf")


def token_bytes() -> list[bytes]:
    """The vocabulary as Hugging Face's tokenizers give it: special tokens as they are spelt."""
    special = range(FIRST_SPECIAL, MODEL_VOCABULARY_SIZE)
    ordinary = ordinary_token_table()[:FIRST_SPECIAL]
    return [*ordinary, *(SPECIAL_TOKEN_NAMES[it].encode() for it in special)]


@pytest.fixture(scope="module")
def compiler() -> Any:
    return make_compiler([END_OF_TEXT])


def make_compiler(stop_tokens: list[int]) -> Any:
    info = xgrammar.TokenizerInfo(
        token_bytes(),
        vocab_type=xgrammar.VocabType.RAW,
        vocab_size=MODEL_VOCABULARY_SIZE,
        stop_token_ids=stop_tokens,
    )
    return xgrammar.GrammarCompiler(info, max_threads=1)


def compiled(compiler: Any, made: Constraint, emitted: str) -> Any:
    grammar = getattr(made, emitted)
    if emitted == "ebnf":
        return compiler.compile_grammar(xgrammar.Grammar.from_ebnf(grammar))
    return compiler.compile_structural_tag(grammar)


def mask_of(matcher: Any) -> Any:
    bitmask = xgrammar.allocate_token_bitmask(1, MODEL_VOCABULARY_SIZE)
    matcher.fill_next_token_bitmask(bitmask, 0)
    return np.unpackbits(bitmask.numpy().view("uint8"), bitorder="little").astype(bool)


def admits(grammar: Any, tokens: list[int]) -> bool:
    matcher = xgrammar.GrammarMatcher(grammar)
    return all(map(matcher.accept_token, tokens)) and bool(mask_of(matcher)[END_OF_TEXT])


NASTY = encode('" \\ ", "} } ] { [ , : 0 - e . < | <| null\n to=')


def walk(grammar: Any, seed: int, most: int = 160) -> list[int] | None:
    """A completion of tokens drawn from those that are allowed; `None` where it gets too long."""
    chance = random.Random(seed)
    matcher = xgrammar.GrammarMatcher(grammar)
    tokens: list[int] = []
    while len(tokens) < most:
        mask = mask_of(matcher)
        allowed = np.flatnonzero(mask)
        assert len(allowed), hk.decode(tokens)
        if mask[END_OF_TEXT]:
            return tokens
        closing = [it for it in (END, CALL, RETURN, *encode('"'), *encode("}")) if mask[it]]
        nasty = [it for it in NASTY if mask[it]]
        token = int(chance.choice(allowed))
        if closing and chance.random() < 0.05 + len(tokens) / most:
            token = chance.choice(closing)
        elif nasty and chance.random() < 0.4:
            token = chance.choice(nasty)
        assert matcher.accept_token(token), (token, hk.decode(tokens))
        tokens.append(token)
    return None


SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
        },
        "required": ["city"],
    },
    {
        "type": "object",
        "properties": {"a": {"enum": ["x", 1, None]}, "b": {"type": "number", "minimum": 0}},
        "additionalProperties": {"type": "boolean"},
    },
    {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "items": {"type": "string", "maxLength": 4},
                "minItems": 1,
                "maxItems": 3,
            }
        },
    },
    {
        "type": "object",
        "properties": {"t": {"$ref": "#/$defs/t"}},
        "required": ["t"],
        "$defs": {
            "t": {
                "type": "object",
                "properties": {"v": {"type": ["integer", "null"]}, "t": {"$ref": "#/$defs/t"}},
            }
        },
    },
    {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date"},
            "code": {"type": "string", "pattern": "^[a-z]{2,3}-[0-9]+$"},
        },
        "required": ["when"],
    },
    {
        "type": "object",
        "allOf": [
            {"properties": {"a": {"type": "string", "minLength": 1}}, "required": ["a"]},
            {"properties": {"b": {"anyOf": [{"type": "null"}, {"const": "x"}]}}},
        ],
    },
]
TOOLS = [hk.Tool(f"tool_{i}", parameters=schema) for i, schema in enumerate(SCHEMAS)]
BY_NAME = {f"functions.{tool.name}": tool for tool in TOOLS}
TURNS: list[tuple[list[Any], dict[str, Any]]] = [
    *(([tool], {"tool_choice": "required", "reasoning": "none"}) for tool in TOOLS),
    (TOOLS, {}),
    ([hk.PYTHON, TOOLS[0]], {}),
    ([], {"response_format": SCHEMAS[0]}),
    ([], {"response_format": Choice(("yes", "no")), "reasoning": 3}),
    ([], {"response_format": Pattern(r"(yes|no), .{1,9}\."), "reasoning": "none"}),
]


def check(tokens: list[int], options: dict[str, Any]) -> None:
    result = hk.parse(tokens, strict=True)
    calls = hk.tool_calls(result.messages, [hk.ToolNamespace("functions", tuple(TOOLS)), hk.PYTHON])
    for call in calls:
        if call.full_name in BY_NAME:
            jsonschema.validate(json.loads(call.raw), BY_NAME[call.full_name].parameters)
    answer = options.get("response_format")
    if not calls and isinstance(answer, dict):
        jsonschema.validate(json.loads(result.messages[-1].text), answer)
    assert len(calls) == 1 or options.get("tool_choice") != "required"


@pytest.mark.parametrize("emitted", EMITTED)
@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_law_8_walks_are_well_formed(compiler: Any, turn: int, emitted: str) -> None:
    tools, options = TURNS[turn]
    grammar = compiled(compiler, constraint(tools, **options), emitted)
    finished = 0
    for seed in range(max(WALKS // (2 * len(TURNS)), 1)):
        tokens = walk(grammar, seed)
        if tokens is not None:
            finished += 1
            check(tokens, options)
    assert finished


@pytest.mark.parametrize("emitted", EMITTED)
@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_what_we_render_is_admitted(compiler: Any, turn: int, emitted: str) -> None:
    tools, options = TURNS[turn]
    grammar = compiled(compiler, constraint(tools, **options), emitted)
    functions = tuple(tool for tool in tools if isinstance(tool, hk.Tool))
    others = [tool for tool in tools if isinstance(tool, hk.ToolNamespace)]
    namespaces = [*([hk.ToolNamespace("functions", functions)] if functions else []), *others]
    for seed in range(max(ADMITTED // len(TURNS), 1)):
        tokens = completion(random.Random(seed), namespaces, **options, by="rules")
        check(tokens, options)
        assert admits(grammar, tokens), hk.decode(tokens)
        assert not admits(grammar, tokens[:-1])


def test_no_special_token_fits_into_json(compiler: Any) -> None:
    made = constraint([TOOLS[0]], tool_choice="required", reasoning="none")
    for emitted in EMITTED:
        grammar = compiled(compiler, made, emitted)
        matcher = xgrammar.GrammarMatcher(grammar)
        begun = hk.encode_with_special(
            '<|channel|>commentary to=functions.tool_0 json<|message|>{"city": "a <'
        )
        assert all(map(matcher.accept_token, begun))
        assert not mask_of(matcher)[FIRST_SPECIAL:].any()


def test_grammars_that_differ_in_one_token_are_kept_apart(compiler: Any) -> None:
    """xgrammar's cache takes them for one, if nothing is done about it."""
    for emitted in EMITTED:
        for token in (RETURN, CALL, END):
            made = Constraint(sequence(FreeText(), Token(token)))
            matcher = xgrammar.GrammarMatcher(compiled(compiler, made, emitted))
            special = np.flatnonzero(mask_of(matcher)[FIRST_SPECIAL:]) + FIRST_SPECIAL
            assert [*special] == [token]


def test_tokens_are_counted(compiler: Any) -> None:
    made = constraint(reasoning=3)
    for emitted in EMITTED:
        matcher = xgrammar.GrammarMatcher(compiled(compiler, made, emitted))
        for token in hk.encode_with_special("<|channel|>analysis<|message|>a b c"):
            assert matcher.accept_token(token)
        assert [*np.flatnonzero(mask_of(matcher))] == [END]


def test_stop_tokens_stand_outside_the_grammar() -> None:
    """A matcher that ends completions with our stop tokens needs the grammar without them."""
    compiler = make_compiler([RETURN, CALL])
    made = constraint(reasoning="none")
    for emitted in EMITTED:
        grammar = compiled(compiler, made.without_stop_token, emitted)
        matcher = xgrammar.GrammarMatcher(grammar)
        for token in hk.encode_with_special("<|channel|>final<|message|>Yes."):
            assert matcher.accept_token(token)
        special = np.flatnonzero(mask_of(matcher)[FIRST_SPECIAL:]) + FIRST_SPECIAL
        assert {*special} == {RETURN, CALL}


def test_the_rest_of_a_grammar_goes_on_as_the_whole() -> None:
    """From the middle of a completion on, as a server is told that is asked to go on."""
    compiler = make_compiler([RETURN, CALL])
    made = constraint([TOOLS[0], hk.Tool("now")])
    language = SERVER_GRAMMARS["structured_outputs"]
    whole = xgrammar.GrammarMatcher(compiled(compiler, made.without_stop_token, "structural_tag"))
    position = language.begin(made)
    tokens = hk.encode_with_special(
        "<|channel|>analysis<|message|>Hm 🥀.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.tool_0 json<|message|>{"city": "São 🥀","days":3}'
    )
    compared = 0
    for count, token in enumerate(tokens, 1):
        assert whole.accept_token(token)
        following = position.after(token)
        assert following is not None
        position = following
        if count % 3 == 0 and not position.begun:
            tag = language.rest(position)["structured_outputs"]["structural_tag"]
            rest = xgrammar.GrammarMatcher(compiler.compile_structural_tag(tag))
            assert (mask_of(rest) == mask_of(whole)).all(), hk.decode(tokens[:count])
            compared += 1
    assert compared > 5
    assert position.may_end


def test_fifty_tools_compile(compiler: Any) -> None:
    tools = [hk.Tool(f"t{i}", parameters=SCHEMAS[i % 2]) for i in range(50)]
    for emitted in EMITTED:
        assert compiled(compiler, constraint(tools), emitted).memory_size_bytes > 0


def test_an_unsupported_schema_is_refused_before_xgrammar_sees_it() -> None:
    made = constraint([], response_format={"not": {"type": "string"}})
    with pytest.raises(GrammarError, match=r"^response_format\.not: "):
        _ = made.structural_tag
