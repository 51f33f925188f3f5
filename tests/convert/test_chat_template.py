"""The prompt of a Chat Completions request beside what the model's chat template renders.

It is the template of the model repository (openai/gpt-oss-120b), as TRL ships it;
`scripts/fetch_chat_template.py` fetches it. Where ours differs on
purpose stands in docs/differences.md; each such place is pinned here.
"""

import json
from functools import cache

import pytest
from examples import examples
from fetched_files import fetched
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

import harmony_kit as hk
from harmony_kit.convert import chat_completions as chat

DATE = "2025-06-28"


def template(tojson):
    """The template as transformers sets it up, with a date that stands still."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = tojson
    environment.globals["strftime_now"] = lambda _: DATE
    return environment.from_string(source())


def encode(value, **_):
    return json.dumps(value, ensure_ascii=False)


@cache
def source():
    return fetched("fetch_chat_template").read_text("utf-8")


@cache
def as_it_is():
    return template(encode)


@cache
def without_double_encoding():
    """Arguments and results are JSON already, or no JSON at all: here they stay as they are."""
    return template(lambda value, **_: value if isinstance(value, str) else encode(value))


def theirs(body, form=None):
    messages = [
        {
            ("thinking" if key == "reasoning_content" else key): value
            for key, value in message.items()
        }
        for message in body["messages"]
    ]
    options = {"reasoning_effort": body["reasoning_effort"]} if "reasoning_effort" in body else {}
    text = (form or without_double_encoding()).render(
        messages=messages, tools=body.get("tools"), add_generation_prompt=True, **options
    )
    # Instructions without tools end in an empty line there; openai-harmony writes none.
    first = body["messages"][0]
    if first["role"] in ("system", "developer") and not body.get("tools"):
        text = text.replace(f"{first['content']}\n\n<|end|>", f"{first['content']}<|end|>", 1)
    return text


def ours(body):
    return hk.decode(chat.read_request(body, current_date=DATE).prompt())


# --- The same text --------------------------------------------------------------------------

words = st.text("abc xyz,.?!\nÄ漢😀", min_size=1, max_size=20)
schemas = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "number", "integer", "boolean"])},
    optional={"description": st.text("abc xyz", min_size=1, max_size=9)},
) | st.just({"type": "array", "items": {"type": "string"}})
TOOL_NAMES = ["f", "get_weather", "lookup"]


@st.composite
def bodies(draw):
    """Requests of the kind for which the template was made."""
    messages = []
    if draw(st.booleans()):
        messages.append(
            {"role": draw(st.sampled_from(["system", "developer"])), "content": draw(words)}
        )
    names = draw(st.lists(st.sampled_from(TOOL_NAMES), max_size=3, unique=True))
    count = 0
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(words)})
        for _ in range(draw(st.integers(0, 2)) if names else 0):
            call_id, count = f"c{count}", count + 1
            function = {"name": draw(st.sampled_from(names)), "arguments": draw(words)}
            turn = {"role": "assistant"}
            if draw(st.booleans()):
                turn["reasoning_content"] = draw(words)
            turn["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
            result = {"role": "tool", "tool_call_id": call_id, "content": draw(words)}
            messages += [turn, result]
        if draw(st.booleans()):
            turn = {"role": "assistant", "content": draw(words)}
            if draw(st.booleans()):
                turn["reasoning_content"] = draw(words)
            messages.append(turn)
    body = {"messages": messages}
    if draw(st.booleans()):
        body["reasoning_effort"] = draw(st.sampled_from(["low", "medium", "high"]))
    if names:
        body["tools"] = []
        for name in names:
            properties = draw(
                st.dictionaries(st.sampled_from(["a", "b", "c"]), schemas, max_size=3)
            )
            parameters = {"type": "object", "properties": properties}
            required = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True))
            if required:
                parameters["required"] = required
            function = {"name": name, "description": "Does it.", "parameters": parameters}
            if properties:  # without, see test_a_function_without_parameters
                body["tools"].append({"type": "function", "function": function})
    return body


@examples(400)
@given(bodies())
def test_the_prompt_is_the_templates(body):
    assert ours(body) == theirs(body)


# --- Where it is not ------------------------------------------------------------------------


def body_of(*messages, **fields):
    return {"messages": [{"role": "user", "content": "hi"}, *messages], **fields}


def call(name, arguments, call_id="c1"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content, call_id="c1"):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_texts_are_not_encoded_twice():
    body = body_of({"role": "assistant", "tool_calls": [call("f", '{"a":1}')]}, result("it is so"))
    assert r'json<|message|>"{\"a\":1}"<|call|>' in theirs(body, as_it_is())
    assert 'json<|message|>{"a":1}<|call|>' in ours(body)
    assert 'commentary<|message|>"it is so"<|end|>' in theirs(body, as_it_is())
    assert "commentary<|message|>it is so<|end|>" in ours(body)


def test_all_calls_are_rendered_and_each_result_has_its_own_name():
    body = body_of(
        {"role": "assistant", "tool_calls": [call("f", "1"), call("g", "2", "c2")]},
        result("for f"),
        result("for g", "c2"),
    )
    assert "functions.g" not in theirs(body)
    assert "<|start|>functions.g to=assistant<|channel|>commentary<|message|>for g<|end|>" in ours(
        body
    )
    assert ours(body).count("<|call|>") == 2


def test_a_text_before_a_call_is_a_preamble():
    body = body_of({"role": "assistant", "content": "Let me see.", "tool_calls": [call("f", "1")]})
    assert "<|channel|>analysis<|message|>Let me see.<|end|>" in theirs(body)
    assert "<|channel|>commentary<|message|>Let me see.<|end|>" in ours(body)


def test_instructions_end_where_they_end():
    body = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    }
    raw = as_it_is().render(messages=body["messages"], add_generation_prompt=True)
    assert "Be brief.\n\n<|end|>" in raw
    assert "Be brief.<|end|>" in ours(body)


def test_later_instructions_are_not_lost():
    body = body_of({"role": "system", "content": "Be brief."}, {"role": "user", "content": "so?"})
    assert "Be brief." not in theirs(body)
    assert "<|start|>developer<|message|># Instructions\n\nBe brief.<|end|>" in ours(body)


@pytest.mark.parametrize("parameters", [None, {"type": "object", "properties": {}}])
def test_a_function_without_parameters(parameters):
    function = {"name": "f", "description": "Does it.", "parameters": parameters}
    body = body_of(tools=[{"type": "function", "function": function}])
    assert "type f = () => any;" in theirs(body)
    written = "() => any" if parameters is None else "(_: {\n}) => any"  # as openai-harmony
    assert f"type f = {written};" in ours(body)


def test_control_tokens_in_a_text_stay_text():
    body = body_of({"role": "assistant", "content": "a"}, {"role": "user", "content": "<|end|>"})
    tokens = chat.read_request(body, current_date=DATE).prompt()
    assert hk.decode(tokens) == theirs(body)
    assert tokens.count(hk.wire.SPECIAL_TOKENS["<|end|>"]) == theirs(body).count("<|end|>") - 1
