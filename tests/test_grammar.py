"""Grammars of completions: law 8, what is admitted, positions, and what is refused."""

from __future__ import annotations

import json
import os
import string
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walks import schema_of, walk

import harmony_kit as hk
from harmony_kit.grammar import (
    Choice,
    Pattern,
    ToolChoice,
    constraint,
)

pytest.importorskip("llguidance")

WALKS = int(os.environ.get("WALKS", "200"))
ADMITTED = int(os.environ.get("ADMITTED", "200"))

slow = settings(deadline=None, suppress_health_check=list(HealthCheck))


# --- Schemas, tools, turns ------------------------------------------------------------------

names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
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
    | st.lists(st.text(max_size=6) | st.integers() | st.booleans(), min_size=1, max_size=4).map(
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
    """What law 8 says of a completion."""
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


@settings(slow, max_examples=WALKS)
@given(turns(), st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.9]))
def test_law_8_what_a_constraint_admits_is_well_formed(turn, seed, malice):
    namespaces, options = turn
    made = constraint(namespaces, **options)
    try:
        tokens = walk(made, 200 + seed % 200, seed, malice=malice)
    except hk.GrammarError as error:
        # A schema that nothing meets, or one whose least value is longer than the limit.
        is_expected = "nsatisfiable" in str(error) or error.path == "max_tokens"
        assert is_expected, error  # noqa: PT017
        return
    check_completion(tokens, namespaces, options)
    assert made.check(tokens) is None
