"""Grammars of completions: law 8, what is admitted, positions, and what is refused."""

from __future__ import annotations

import json
import os
import random
import string
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, get_args

import jsonschema
import pytest
from completions import completion
from examples import scaled
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from walks import schema_of, tokens_of, walk

import harmony_kit as hk
from harmony_kit.grammar import Choice, Constraint, Pattern, Refusal, ToolChoice, constraint
from harmony_kit.grammar._nodes import (
    EPSILON,
    Alternatives,
    Literal,
    Repeat,
    Token,
    sequence,
)
from harmony_kit.grammar._nodes import Sequence as Concatenation
from harmony_kit.grammar._turn import Turn, turn_grammar
from harmony_kit.wire._header.writing import HeaderOrder, header_tokens
from harmony_kit.wire._messages import Header
from harmony_kit.wire._vocabulary import END, FIRST_SPECIAL, MESSAGE

pytest.importorskip("llguidance")

WALKS = int(os.environ.get("WALKS", scaled(200)))
ADMITTED = int(os.environ.get("ADMITTED", scaled(200)))

# Failures are not shrunk, which would take thousands of grammars.
slow = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


# --- Schemas, tools, turns ------------------------------------------------------------------

names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
exact_integers = st.integers(-(2**53), 2**53)  # others are refused for llguidance
scalars: st.SearchStrategy[Any] = (
    st.just({"type": "string"})
    | st.just({"type": "boolean"})
    | st.just({"type": "null"})
    | st.just({"type": "integer"})
    | st.just({"type": "number"})
    | st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(0, 300),
    )
    | st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 4),
        st.integers(0, 20),
    )
    | st.lists(st.text(max_size=6) | exact_integers | st.booleans(), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    )
    | st.text(max_size=6).map(lambda value: {"const": value})
    | st.sampled_from(["date", "time", "date-time", "uuid", "ipv4", "email"]).map(
        lambda form: {"type": "string", "format": form}
    )
    | st.sampled_from(["[a-c]+x?", "^\\d{2,4}$", '[^/"\\\\]{1,5}']).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    )
    | st.just({"type": ["string", "null"]})
    | st.just({"type": "object"})
    | st.just({})
)


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    properties = draw(st.dictionaries(names, values, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    schema = {"type": "object", "properties": properties, "required": required}
    more = draw(st.sampled_from([None, None, False, True, {"type": "integer"}]))
    return schema if more is None else {**schema, "additionalProperties": more}


schemas = st.recursive(
    scalars,
    lambda inner: (
        objects(inner)
        | st.builds(
            lambda items, low, more: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + more,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 3),
        )
        | st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})
    ),
    max_leaves=6,
)

tools = st.builds(
    lambda name, parameters: hk.Tool(name, parameters=parameters),
    names,
    st.none() | objects(schemas),
)


@st.composite
def turns(draw: st.DrawFn) -> tuple[tuple[hk.ToolNamespace, ...], dict[str, Any]]:
    """Namespaces, and the other arguments of `constraint`."""
    functions = draw(st.lists(tools, max_size=4, unique_by=lambda tool: tool.name))
    namespaces = [hk.ToolNamespace("functions", tuple(functions))] if functions else []
    namespaces += draw(st.lists(st.sampled_from([hk.PYTHON, hk.BROWSER]), unique=True, max_size=2))
    every = [f"functions.{tool.name}" for tool in functions] + [n.name for n in namespaces]
    choices = ["auto", "none", *(["required"] if namespaces else [])]
    choice: Any = draw(st.sampled_from(choices))
    if every and draw(st.booleans()):
        some = draw(st.lists(st.sampled_from(every), min_size=1, max_size=2))
        choice = ToolChoice(draw(st.sampled_from(["auto", "required"])), tuple(some))
    answer = draw(
        st.none()
        | st.none()
        | schemas
        | st.just(Pattern(r"(yes|no), because [a-z ]{3,20}\."))
        | st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3).map(
            lambda texts: Choice(tuple(texts))
        )
    )
    reasoning = draw(st.sampled_from(["free", "none", 1, 20]))
    options = {"tool_choice": choice, "response_format": answer, "reasoning": reasoning}
    return tuple(namespaces), options


def check_completion(
    tokens: list[int], namespaces: tuple[hk.ToolNamespace, ...], options: dict[str, Any]
) -> None:
    """Law 8 for a completion."""
    result = hk.parse(tokens, strict=True)
    *before, last = result.messages
    declared = {
        f"{space.name}.{tool.name}": tool for space in namespaces for tool in space.tools
    } | {space.name: None for space in namespaces if not space.tools}
    calls = hk.tool_calls(result.messages, namespaces)
    for call in calls:
        assert call.full_name in declared
        tool = declared[call.full_name]
        if tool is not None:
            jsonschema.validate(json.loads(call.raw), schema_of(tool))
    choice = options["tool_choice"]
    choice = choice if isinstance(choice, ToolChoice) else ToolChoice(choice)
    assert len(calls) <= 1
    if choice.mode != "auto":
        assert len(calls) == (choice.mode == "required")
    if calls and choice.names:
        assert {calls[0].full_name, (calls[0].namespace or calls[0].name)} & {*choice.names}
    if not calls:
        check_answer(last, options["response_format"])
    check_reasoning(before, options["reasoning"])


def check_answer(last: hk.Message, answer: Any) -> None:
    assert last.channel == "final"
    if isinstance(answer, Choice):
        assert last.text in answer.texts
    elif isinstance(answer, Pattern):
        assert last.text.startswith(("yes, because ", "no, because "))
    elif answer is not None:
        jsonschema.validate(json.loads(last.text), answer)


def check_reasoning(before: Any, reasoning: Any) -> None:
    thoughts = [message for message in before if message.channel == "analysis"]
    if reasoning == "none":
        assert not thoughts
    if isinstance(reasoning, int):
        assert len(thoughts) <= 1


# --- Law 8, both ways -----------------------------------------------------------------------


@settings(slow, max_examples=WALKS)
@given(turns(), st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.9]))
def test_law_8_what_a_constraint_admits_is_well_formed(turn, seed, malice):
    namespaces, options = turn
    made = constraint(namespaces, **options)
    try:
        tokens = walk(made, 200 + seed % 200, seed, malice=malice)
    except hk.errors.GrammarError as error:
        # A schema that nothing meets, or one whose shortest value exceeds the limit.
        is_expected = "nsatisfiable" in str(error) or error.path == "max_tokens"
        assert is_expected, error  # noqa: PT017
        return
    check_completion(tokens, namespaces, options)
    assert made.check(tokens) is None


@settings(slow, max_examples=ADMITTED)
@given(turns(), st.integers(0, 2**32))
def test_law_8_what_we_render_is_admitted(turn, seed):
    namespaces, options = turn
    tokens = completion(random.Random(seed), namespaces, **options)
    check_completion(tokens, namespaces, options)
    made = constraint(namespaces, **options)
    assert made.check(tokens) is None
    assert made.check(tokens[:-1]) == Refusal(len(tokens) - 1, None)
    assert made.check([*tokens, END]) == Refusal(len(tokens), END)


def test_a_limited_text_ends_with_a_whole_character():
    """llguidance's own limit ends it anywhere."""
    made = constraint(reasoning=1)
    begun = hk.encode_with_special("<|channel|>analysis<|message|>")
    for token in broken_tokens():
        assert made.check([*begun, token]) == Refusal(len(begun), token)
    answer = hk.encode_with_special(
        "<|end|><|start|>assistant<|channel|>final<|message|>é<|return|>"
    )
    assert made.check([*begun, *hk.encode("漢"), *answer]) is None


def broken_tokens() -> list[int]:
    broken = [token for token in hk.encode("🙂 漢 𠮷") if "\ufffd" in hk.decode([token])]
    assert len(broken) > 3
    return broken


# --- Resuming after a prefix -----------------------------------------------------------------


def is_within_a_value(head: list[int], namespaces: Any, options: dict[str, Any]) -> bool:
    """Whether a prefix ends within JSON, or a text that a pattern matches."""
    special = [token for token in head if token >= FIRST_SPECIAL]
    if special[-1:] != [MESSAGE] or head[-1] == MESSAGE:
        return False
    message = hk.parse(head).messages[-1]
    if message.recipient is not None:
        return message.recipient != "python"
    form = options["response_format"]
    return message.channel == "final" and not isinstance(form, Choice | None)


def is_within_a_character(head: list[int]) -> bool:
    return hk.decode(head, errors="replace").endswith("\ufffd")


@settings(slow, max_examples=max(ADMITTED // 10, 1))
@given(turns(), st.integers(0, 2**32))
def test_a_constraint_resumes_after_any_prefix(turn, seed):
    namespaces, options = turn
    tokens = completion(random.Random(seed), namespaces, **options)
    followed = constraint(namespaces, **options).matcher()
    for cut in range(len(tokens)):
        head, tail = tokens[:cut], tokens[cut:]
        wrong = wrong_token(followed.bitmask(), random.Random(seed + cut))
        with pytest.raises(hk.errors.GrammarError, match=r"^after: "):
            constraint(namespaces, **options, after=[*head, wrong])
        if is_within_a_value(head, namespaces, options) or is_within_a_character(head):
            with pytest.raises(hk.errors.GrammarError, match=r"^after: .* but not within$"):
                constraint(namespaces, **options, after=head)
        else:
            rest = constraint(namespaces, **options, after=head)
            assert rest.check(tail) is None, hk.decode(head)
        assert followed.accept_token(tokens[cut])


def wrong_token(mask: bytes, chance: random.Random) -> int:
    """A token that may not come next, preferably a meaningful one."""
    likely = [*range(FIRST_SPECIAL, FIRST_SPECIAL + 21), *hk.encode("assistant final json to=")]
    chance.shuffle(likely)
    return next(token for token in likely if not mask[token // 8] >> token % 8 & 1)


@pytest.mark.parametrize(
    ("after", "admitted", "refused"),
    [
        ("", "<|channel|>final<|message|>x<|return|>", "x<|return|>"),
        ("<|channel|>", "final<|message|>x<|return|>", "<|channel|>final<|message|>x<|return|>"),
        ("<|channel|>final<|message|>", "x<|return|>", "<|return|>"),
        ("<|channel|>final<|message|>x", "<|return|>", "<|end|>"),
        (
            "<|channel|>analysis<|message|>Hm 🙂",
            "<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>",
            "<|return|>",
        ),
        (
            "<|channel|>commentary to=functions.",
            'f json<|message|>{"a": 1}<|call|>',
            'g json<|message|>{"a": 1}<|call|>',
        ),
        (
            "<|channel|>commentary to=functions.f <|constrain|>json<|message|>",
            '{"a": 1}<|call|>',
            '{"a": ""}<|call|>',
        ),
    ],
)
def test_positions(after, admitted, refused):
    made = constraint([F], after=hk.encode_with_special(after))
    assert made.check(hk.encode_with_special(admitted)) is None
    assert made.check(hk.encode_with_special(refused)) is not None
    # Every language can express the rest.
    assert len({made.lark, made.ebnf, made.gbnf}) == 3


def test_reasoning_in_the_prefix_counts():
    made = constraint(
        reasoning=4, after=hk.encode_with_special("<|channel|>analysis<|message|>a b")
    )
    end = hk.encode_with_special("<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>")
    assert made.check([*hk.encode(" c d"), *end]) is None
    assert made.check([*hk.encode(" c d e"), *end]) == Refusal(2, hk.encode(" e")[0])


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("<|start|>", "token 0, '<|start|>', is not admitted there"),
        ("<|channel|>final<|message|>a<|end|>", "token 4, '<|end|>', is not admitted there"),
        ("<|channel|>thought", "token 1, 'thought', is not admitted there"),
        (
            '<|channel|>commentary to=functions.f json<|message|>{"a": 1',
            "JSON has begun at token 9; a constraint can begin before it or after it, "
            "but not within",
        ),
    ],
)
def test_invalid_prefixes(after, reason):
    with pytest.raises(hk.errors.GrammarError) as raised:
        constraint([F], after=hk.encode_with_special(after))
    assert (raised.value.path, raised.value.reason) == ("after", reason)


def test_characters_of_several_tokens():
    letter = hk.encode("𠮷")
    assert len(letter) > 1
    begun = hk.encode_with_special("<|channel|>final<|message|>")
    (stop,) = hk.encode_with_special("<|return|>")
    assert constraint(after=[*begun, *letter]).check([stop]) is None
    for cut in range(1, len(letter)):
        with pytest.raises(hk.errors.GrammarError, match="a character of several tokens has begun"):
            constraint(after=[*begun, *letter[:cut]])
        with pytest.raises(hk.errors.GrammarError, match="is not admitted there"):
            constraint(after=[*begun, *letter[:cut], stop])
    thought = hk.encode_with_special("<|channel|>analysis<|message|>")
    with pytest.raises(hk.errors.GrammarError, match="is not admitted there"):
        constraint(reasoning=9, after=[*thought, *letter])


# --- Arguments -------------------------------------------------------------------------------

F = hk.Tool("f", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})
G = hk.Tool("g")
ANSWER = "<|channel|>final<|message|>x<|return|>"
CALL_F = '<|channel|>commentary to=functions.f json<|message|>{"a": 1}<|call|>'
CALL_G = "<|channel|>commentary to=functions.g json<|message|>{}<|call|>"
SEARCH = '<|channel|>analysis to=browser.search json<|message|>{"query": "x"}<|call|>'
CODE = "<|channel|>analysis to=python code<|message|>1<|call|>"
EVERYTHING = [ANSWER, CALL_F, CALL_G, SEARCH, CODE]
TOOLS = [F, G, hk.BROWSER, hk.PYTHON]


def admits(made: Constraint, text: str) -> bool:
    return made.check(hk.encode_with_special(text)) is None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", EVERYTHING),
        ("none", [ANSWER]),
        ("required", EVERYTHING[1:]),
        ("functions.f", [CALL_F]),
        ("functions", [CALL_F, CALL_G]),
        ("browser", [SEARCH]),
        ("browser.search", [SEARCH]),
        ("browser.open", []),
        ("python", [CODE]),
        (ToolChoice("auto", ("functions.g", "python")), [ANSWER, CALL_G, CODE]),
        (ToolChoice("required", ("functions.g", "python")), [CALL_G, CODE]),
        (ToolChoice("none", ("functions.g",)), [ANSWER]),
    ],
)
def test_tool_choices(choice, expected):
    made = constraint(TOOLS, tool_choice=choice)
    assert [text for text in EVERYTHING if admits(made, text)] == expected


@pytest.mark.parametrize(
    ("reasoning", "counts"),
    [("free", [0, 1, 2, 3, 50]), ("none", []), (0, []), (2, [0, 1, 2]), (10**6, [0, 1, 2, 3, 50])],
)
def test_reasoning_limits(reasoning, counts):
    made = constraint(reasoning=reasoning)
    thoughts = {n: f"<|channel|>analysis<|message|>{' a' * n}<|end|>" for n in (0, 1, 2, 3, 50)}
    admitted = [n for n, it in thoughts.items() if admits(made, f"{it}<|start|>assistant{ANSWER}")]
    assert admitted == counts
    assert admits(made, ANSWER)
    # With a limit there is one message of reasoning.
    twice = f"{thoughts[1]}<|start|>assistant" * 2 + ANSWER
    assert admits(made, twice) is (reasoning == "free")


def test_preambles_are_admitted_where_a_call_is_possible():
    preamble = "<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant"
    assert admits(constraint([F], reasoning="none"), preamble + CALL_F)
    assert admits(constraint([F]), preamble + ANSWER)
    assert not admits(constraint([F], tool_choice="none"), preamble + ANSWER)
    assert not admits(constraint(), preamble + ANSWER)


@pytest.mark.parametrize(
    ("strict", "wrong_f", "wrong_g"),
    [
        (True, False, False),
        (False, True, True),
        (["functions.f"], False, True),
        (["functions.g"], True, False),
    ],
)
def test_arguments_of_tools_that_are_not_strict_are_any_object(strict, wrong_f, wrong_g):
    made = constraint([F, G], strict=strict)
    assert admits(made, CALL_F)
    assert admits(made, CALL_G)
    assert admits(made, CALL_F.replace("1", '"x"')) is wrong_f
    assert admits(made, CALL_G.replace("{}", '{"x": [{}]}')) is wrong_g
    assert not admits(made, CALL_F.replace('{"a": 1}', "[1]"))
    assert not admits(made, CALL_F.replace('{"a": 1}', ""))


def test_tools_with_any_arguments():
    made = constraint([hk.Tool("f", parameters=True), hk.Tool("g", parameters={"title": "G"})])
    for name in "fg":
        for arguments, is_admitted in (("{}", True), ('{"a": {"b": 1}}', True), ("1", False)):
            text = f"<|channel|>commentary to=functions.{name} json<|message|>{arguments}<|call|>"
            assert admits(made, text) is is_admitted


def test_a_conversation_has_the_formats_that_it_declares():
    formats = [
        hk.wire.ResponseFormat("n", {"type": "integer"}),
        hk.wire.ResponseFormat("b", {"const": "b"}),
    ]
    conversation = [hk.developer("Hi", tools=[F], response_formats=formats), hk.user("Hi")]
    made = hk.grammar.conversation_constraint(conversation)
    for answer, is_admitted in (("12", True), ('"b"', True), ('"c"', False), ("x", False)):
        for kind in ("", " json", " <|constrain|>json"):
            text = f"<|channel|>final{kind}<|message|>{answer}<|return|>"
            assert admits(made, text) is is_admitted
    assert admits(made, CALL_F)
    assert not admits(made, CALL_G)
    only = hk.grammar.conversation_constraint(conversation, tool_choice="none", reasoning="none")
    assert not admits(only, CALL_F)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def deep_tool() -> hk.Tool:
    """A tool created with a higher recursion limit."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(30_000)
    try:
        return hk.Tool("f", parameters=nested(1_500))
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("arguments", "path", "reason"),
    [
        ({"tool_choice": "required"}, "tool_choice", "a call is required, but there is no tool"),
        ({"tool_choice": "functions.f"}, "tool_choice", "no tool 'functions.f' was declared"),
        ({"tool_choice": ToolChoice("none", ("f",))}, "tool_choice", "no tool 'f' was declared"),
        ({"reasoning": -1}, "reasoning", "-1 is neither 'free' nor 'none' nor a number of tokens"),
        ({"reasoning": True}, "reasoning", "True is neither"),
        ({"reasoning": "some"}, "reasoning", "'some' is neither"),
        (
            {"response_format": Choice(())},
            "response_format",
            "a Choice needs texts, none of them empty",
        ),
        (
            {"response_format": Choice(("",))},
            "response_format",
            "a Choice needs texts, none of them empty",
        ),
        ({"response_format": 5}, "response_format", "int is not a ResponseFormat"),
        ({"response_format": {"enum": {1}}}, "response_format", "the schema cannot be read: "),
        (
            {"response_format": nested(10_000)},
            "response_format",
            "the schema is nested too deeply",
        ),
        ({"tools": [deep_tool()]}, "functions.f", "the schema is nested too deeply"),
    ],
)
def test_invalid_arguments(arguments, path, reason):
    with pytest.raises(hk.errors.GrammarError) as raised:
        constraint(**arguments)
    assert raised.value.path == path
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("schema", "path", "reason"),
    [
        ({"not": {}}, ".not", "llguidance does not enforce the keyword 'not'"),
        (
            {"items": {"format": "idn-email"}},
            ".items.format",
            "llguidance does not enforce the for",
        ),
        ({"enum": [2**53 + 1]}, ".enum", "llguidance does not read 9007199254740993 exactly"),
        ({"const": {"a": [1e300]}}, ".const", "llguidance does not read 1e+300 exactly"),
        ({"maximum": -(2**60)}, ".maximum", "llguidance does not read -1152921504606846976 exact"),
        ({"enum": [123456789.12345679]}, ".enum", "llguidance does not read 123456789.12345679"),
        ({"pattern": "a(?=b)"}, None, "llguidance refuses the grammar: "),
        ({"allOf": [{"type": "null"}, {"type": "string"}]}, None, "llguidance refuses the grammar"),
    ],
)
def test_schemas_that_llguidance_does_not_enforce(schema, path, reason):
    made = constraint(response_format=schema)
    with pytest.raises(hk.errors.GrammarError) as raised:
        made.verify()
    assert raised.value.path == ("" if path is None else f"response_format{path}")
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize("value", [2**53, -(2**53), 0.1, 1e-7, 123456789012345.0, 5e-22, 0])
def test_numbers_that_llguidance_reads_exactly(value):
    made = constraint(response_format={"const": value}, reasoning="none")
    written = hk.parse(walk(made, 100, 1)).messages[-1].text
    assert json.loads(written) == value


# --- Headers: one grammar, both ways ----------------------------------------------------------


ARGUMENTS = {
    "functions.f": '{"a": 1}',
    "python": "1",
    "browser.search": '{"query": "x"}',
    "browser.find": '{"pattern": "x"}',
}


def content_after(header: Sequence[int]) -> list[int]:
    """The content and end of a message with this header."""
    message = hk.parse([*header, *hk.encode("x")]).messages[0]
    if message.recipient is None:
        text = (
            "x<|return|>" if message.channel == "final" else f"x<|end|><|start|>assistant{ANSWER}"
        )
        return hk.encode_with_special(text)
    return hk.encode_with_special(f"{ARGUMENTS.get(message.recipient, '{}')}<|call|>")


def headers_of(node: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The headers with which a grammar may begin: their parts, up to `<|message|>`."""
    match node:
        case Token(token) if token == MESSAGE:
            yield (node,), None
        case Token() | Literal():
            yield (node,), EPSILON
        case Concatenation(()):
            yield (), EPSILON
        case Concatenation(parts):
            for head, rest in headers_of(parts[0]):
                if rest is None:
                    yield head, None
                else:
                    following = sequence(rest, *parts[1:])
                    yield from ((head + more, left) for more, left in headers_of(following))
        case Alternatives(options):
            for option in options:
                yield from headers_of(option)
        case Repeat(part, 0, None):
            yield (), EPSILON
            yield from headers_of(part)


def tokens_of_header(parts: Sequence[Any], chance: random.Random | None = None) -> list[int]:
    """The tokens of a header; with `chance`, in a tokenization that no encoder produces."""
    tokens: list[int] = []
    for part in parts:
        if isinstance(part, Token):
            tokens.append(part.token)
        elif chance is None:
            tokens += hk.encode(part.text)
        else:
            cut = chance.randrange(len(part.text) + 1)
            tokens += [*hk.encode(part.text[:cut]), *hk.encode(part.text[cut:])]
    return tokens


HEADER_TOOLS = (hk.ToolNamespace("functions", (F,)), hk.BROWSER, hk.PYTHON)


def test_every_header_that_is_admitted_is_read_strictly():
    headers = {head for head, rest in headers_of(turn_grammar(Turn(HEADER_TOOLS))) if rest is None}
    assert len(headers) > 50
    made = constraint(HEADER_TOOLS)
    chance = random.Random(3)
    for parts in headers:
        canonical = hk.parse(
            [*tokens_of_header(parts), *content_after(tokens_of_header(parts))], strict=True
        )
        for tokens in (
            tokens_of_header(parts),
            *(tokens_of_header(parts, chance) for _ in range(5)),
        ):
            whole = [*tokens, *content_after(tokens)]
            assert made.check(whole) is None, hk.decode(whole)
            assert hk.parse(whole, strict=True).messages == canonical.messages
        for call in hk.tool_calls(canonical.messages, HEADER_TOOLS):
            assert call.runnable


@pytest.mark.parametrize("order", get_args(HeaderOrder))
def test_every_header_that_the_model_may_write_is_admitted(order):
    """Of all combinations, those that strict parsing accepts and that are declared."""
    made = constraint(HEADER_TOOLS)
    recipients = [None, "functions.f", "functions.g", "python", "browser.find", "browser", "all"]
    types = [(None, False), ("json", False), ("json", True), ("code", False), ("code", True)]
    admitted = 0
    for channel, recipient, (kind, is_constrained) in product(
        ("analysis", "commentary", "final", None), recipients, types
    ):
        header = Header(hk.Role.ASSISTANT, None, channel, recipient, kind, is_constrained)
        tokens = header_tokens(header, order)[2:]
        whole = [*tokens, *content_after(tokens)]
        is_admitted = made.check(whole) is None
        admitted += is_admitted
        assert is_admitted is may_be_written(header), header
        if is_admitted:
            hk.parse(whole, strict=True)
    assert admitted > 20


def may_be_written(header: Header) -> bool:
    """Headers in the format's documentation and the model's own output."""
    kind = (header.content_type, header.constrained)
    match header.recipient:
        case None | "all":
            return header.channel is not None and kind == (None, False)
        case "functions.f":
            return header.channel == "commentary" and kind in JSON_KINDS
        case "python":
            return header.channel in ("analysis", "commentary") and kind in CODE_KINDS
        case "browser.find":
            channels = ("analysis", "commentary")
            return header.channel in channels and kind in JSON_KINDS + CODE_KINDS
        case _:
            return False


JSON_KINDS = [("json", True), ("json", False), (None, False)]
CODE_KINDS = [("code", False), (None, False)]


# --- The token limit --------------------------------------------------------------------------

EMAIL = {"type": "string", "format": "email"}
LONG = {
    "type": "object",
    "properties": {
        "sender": EMAIL,
        "receivers": {"type": "array", "items": EMAIL, "minItems": 3},
        "kind": {"enum": ["a", "a kind of which the name is long, since names may be"]},
        "day": {"type": "string", "format": "date-time"},
        "code": {"type": "string", "pattern": "^[a-z]{2,3}-[0-9]+$"},
        "text": {"type": "string", "minLength": 20},
        "link": {"$ref": "#/$defs/link"},
    },
    "required": ["sender", "receivers", "kind", "day", "code", "text", "link"],
    "$defs": {
        "link": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "next": {"$ref": "#/$defs/link"},
            },
            "required": ["id"],
        }
    },
}


def chain_of_references(length: int) -> dict[str, Any]:
    links: dict[str, Any] = {
        f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}
        for i in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{length}": {"type": "null"}}}


def test_long_chains_of_references():
    """A schema that is shallow, but has a long chain of references."""
    chain = chain_of_references(120)
    backwards = {**chain, "$defs": dict(reversed(chain["$defs"].items()))}
    for schema in (chain, backwards, nested(100)):
        made = constraint(response_format=schema, reasoning="none")
        assert hk.parse(walk(made, 300, 1), strict=True).messages
    made = constraint(response_format=chain_of_references(1_000))
    with pytest.raises(
        hk.errors.GrammarError, match=r"^response_format: the schema is nested too deeply$"
    ):
        made.verify()


@pytest.mark.parametrize("seed", range(40))
def test_the_limit_is_kept_where_much_can_be_begun(seed):
    """Optional parts that, once begun, need many tokens."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": LONG}, "b": LONG}}
    tool = hk.Tool("f", parameters={**schema, "$defs": LONG["$defs"]})
    made = constraint([tool], reasoning="none")
    for more in range(0, 400, 40):
        walk(made, 20 + more + seed, seed, malice=0.5)


@pytest.mark.parametrize(("choice", "calls"), [("auto", 0), ("required", 1)])
def test_a_model_that_thinks_up_to_the_limit_answers(choice, calls):
    """It makes no call, unless one is required."""
    matcher = constraint([hk.Tool("z", parameters=LONG), F], tool_choice=choice).matcher(600)
    tokens = hk.encode_with_special("<|channel|>analysis<|message|>")
    assert all(map(matcher.accept_token, tokens))
    (word,) = hk.encode(" a")
    while not matcher.is_finished:
        allowed = [word] if matcher.would_accept(word) and not matcher.is_forced else []
        tokens += allowed or tokens_of(matcher.bitmask())
        assert matcher.accept_token(tokens[-1])
    assert 100 < len(tokens) <= 600
    result = hk.parse(tokens, strict=True)
    assert [message.channel for message in result.messages][:1] == ["analysis"]
    assert len(hk.tool_calls(result.messages)) == calls
