"""The grammar of the rest of a completion, at every position."""

import json

import pytest
from examples import examples
from harmony_backends.openai_completions._constraints import SERVER_GRAMMARS
from hypothesis import given
from hypothesis import strategies as st
from walks import tokens_of

import harmony_kit as hk
from harmony_kit.grammar import Choice, Pattern
from harmony_kit.wire._vocabulary import CALL, END, END_OF_TEXT, RETURN, token_bytes

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = (hk.ToolNamespace("functions", (hk.Tool("weather", "", CITY), hk.Tool("now"))), hk.PYTHON)
CASES = [
    (
        hk.constraint(TOOLS),
        "<|channel|>analysis<|message|>Hm 🥀 é<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.weather json<|message|>{ "city": "São \\n🥀", "days":12,"tags": ["a","b"]}'
        "<|call|>",
    ),
    (
        hk.constraint(TOOLS),
        "<|channel|>analysis to=python code<|message|>print('🥀')\n<|call|>",
    ),
    (hk.constraint(TOOLS), "<|channel|>final<|message|>Yes, 漢 🥀.<|return|>"),
    (
        hk.constraint(response_format=Choice(("yes", "no")), reasoning="none"),
        "<|channel|>final<|message|>no<|return|>",
    ),
    (
        hk.constraint(response_format=Pattern(r"(yes|no), .{1,9}\."), reasoning="none"),
        "<|channel|>final<|message|>no, 漢 🥀.<|return|>",
    ),
]


@pytest.mark.parametrize("name", SERVER_GRAMMARS)
@pytest.mark.parametrize(("made", "text"), CASES)
def test_at_the_start_it_is_the_whole_grammar(name, made, text):
    language = SERVER_GRAMMARS[name]
    (rest,) = language.rest(language.begin(made)).values()
    if name == "grammar":
        assert rest == made.gbnf
    else:
        assert json.loads(rest["structural_tag"]) == made.without_stop_token.structural_tag


@pytest.mark.parametrize("name", SERVER_GRAMMARS)
@pytest.mark.parametrize(("made", "text"), CASES)
def test_it_follows_a_completion_to_its_end(name, made, text):
    tokens = hk.encode_with_special(text)
    position = SERVER_GRAMMARS[name].begin(made)
    for token in tokens:
        assert position.after(END_OF_TEXT) is None
        assert position.may_end or token != tokens[-1]
        following = position.after(token)
        assert following is not None, hk.decode([token])
        if token != tokens[-1]:
            position = following
    # Nothing may follow.
    assert all(following.after(token) is None for token in (RETURN, CALL, END, 0, 11, 220))


@pytest.mark.parametrize("name", SERVER_GRAMMARS)
@given(st.data())
@examples(150)
def test_it_admits_another_token_where_the_constraint_does(name, data):
    """llguidance is the oracle; the samples avoid what the languages narrow."""
    made, text = data.draw(st.sampled_from(CASES))
    tokens = hk.encode_with_special(text)
    count = data.draw(st.integers(0, len(tokens) - 1))
    position, matcher = SERVER_GRAMMARS[name].begin(made), made.matcher()
    for token in tokens[:count]:
        position = position.after(token)
        assert matcher.accept_token(token)
    plain = hk.encode_with_special(
        'a b "}{[]:,1 3 to=functions.weather json python code commentary final analysis yes no.'
        "🥀漢é ¡<|end|><|call|><|return|><|message|><|channel|><|start|><|constrain|>"
    )
    partial = [0xC3, 0xE6, 0xF0, 172, 7908, 222, 4103, 98, 112808]
    token = data.draw(st.sampled_from(sorted({*plain, *tokens, *partial})))
    if len(tokens_of(matcher.bitmask())) == 1:
        # Where the text is fixed, llguidance admits the canonical token alone.
        token = tokens[count]
    assert (position.after(token) is not None) == matcher.would_accept(token), hk.decode([token])


def test_a_token_limit_is_counted_down():
    language = SERVER_GRAMMARS["structured_outputs"]
    position = language.begin(hk.constraint(reasoning=3))
    for token in hk.encode_with_special("<|channel|>analysis<|message|> a b c"):
        position = position.after(token)
    assert position.after(11) is None
    assert position.after(END) is not None


def test_within_a_character_only_its_rest_may_follow():
    position = SERVER_GRAMMARS["grammar"].begin(hk.constraint())
    for token in hk.encode_with_special("<|channel|>final<|message|>"):
        position = position.after(token)
    first, second, third = 172, 7908, 222
    within = position.after(first)
    assert within.begun == token_bytes(first)
    for token in (RETURN, 11):
        assert within.after(token) is None
        assert within.is_broken_by(token)
    assert not within.is_broken_by(second)
    assert within.after(second).after(third).begun == b""
