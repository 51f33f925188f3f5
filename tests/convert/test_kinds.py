"""What all three APIs owe a client: results in order, stop texts cut, truncation reported."""

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from soups import soups

import harmony_kit as hk
from harmony_kit.convert import anthropic, chat_completions, responses

APIS = {"chat": chat_completions, "responses": responses, "anthropic": anthropic}
HELLO = {
    "chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"input": "Hi"},
    "anthropic": {"max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]},
}


def asking(api, stops):
    """A request with stop texts, whatever the API calls them."""
    request = APIS[api].read_request(HELLO[api])
    return hk.convert.HarmonyRequest(**{**vars(request), "sampling": hk.SamplingParams(stop=stops)})


def text_of(api, response):
    if api == "chat":
        return response["choices"][0]["message"]["content"]
    if api == "anthropic":
        texts = [block["text"] for block in response["content"] if block["type"] == "text"]
    else:
        texts = [
            part["text"]
            for item in response["output"]
            if item["type"] == "message"
            for part in item["content"]
        ]
    return "".join(texts)


def whole_and_streamed(api, text, request, **options):
    """The response written whole, and folded from a stream of single tokens."""
    tokens = hk.encode_with_special(text)
    result = hk.parse(tokens)
    whole = APIS[api].write_response(result, id="r1", model="m", request=request, **options)
    encoder = APIS[api].StreamEncoder(id="r1", model="m", request=request)
    parser = hk.Parser()
    chunks = encoder.start()
    for token in tokens:
        chunks += encoder.feed(parser.feed(token))
    chunks += encoder.feed(parser.close())
    chunks += encoder.close(parser.result(), **options)
    return whole, APIS[api].accumulate(chunks)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("one two END", ["END"], "one two "),
        ("one ENDtwo", ["END"], "one "),
        ("one two EN", ["END"], "one two EN"),
        ("one\n\ntwo", ["\n\n", "two"], "one"),
        ("aaab", ["aab"], "a"),
        ("12 <end> 34", ["<end>", "<"], "12 "),
    ],
)
def test_stop_texts_are_cut_from_the_answer(api, text, stops, shown):
    request = asking(api, stops)
    for end in ("", "<|return|>"):
        for reason in (None, "stop"):
            thought = "<|channel|>analysis<|message|>END\n\ntwo aab <<|end|><|start|>assistant"
            completion = f"{thought}<|channel|>final<|message|>{text}{end}"
            whole, folded = whole_and_streamed(api, completion, request, finish_reason=reason)
            assert text_of(api, whole) == text_of(api, folded) == shown


def test_anthropic_names_the_stop_sequence():
    request = asking("anthropic", ["END", "FIN"])
    whole, folded = whole_and_streamed(
        "anthropic", "<|channel|>final<|message|>So it is FIN and END", request
    )
    for message in (whole, folded):
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "FIN")


@pytest.mark.parametrize("api", APIS)
def test_stop_texts_are_not_looked_for_in_arguments_and_reasoning(api):
    request = asking(api, ["END"])
    completion = (
        "<|channel|>analysis<|message|>END<|end|><|start|>assistant<|channel|>commentary"
        ' to=functions.f <|constrain|>json<|message|>{"a": "END"}<|call|>'
    )
    whole, folded = whole_and_streamed(api, completion, request)
    assert "END" in str(whole)
    assert str(whole).count("END") == str(folded).count("END")


@examples(200)
@given(soups, st.lists(st.sampled_from(["hello", "lo wo", "{", "world", "é"]), max_size=2))
def test_a_stream_with_stop_texts_accumulates_to_the_response(tokens, stops):
    result = hk.parse(tokens)
    request = asking("chat", stops)
    whole = chat_completions.write_response(result, id="r1", model="m", request=request)
    encoder = chat_completions.StreamEncoder(id="r1", model="m", request=request)
    parser = hk.Parser()
    chunks = encoder.start()
    for token in tokens:
        chunks += encoder.feed(parser.feed(token))
    chunks += encoder.feed(parser.close())
    chunks += encoder.close(parser.result())
    folded = chat_completions.accumulate(chunks)
    assert folded["choices"][0]["message"] == whole["choices"][0]["message"]


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>commentary to=functions.look_u",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>fi",
        "<|channel|>analysis<|message|>Hm.<|end|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>",
        "<|channel|>final<|message|>It was",
        '<|channel|>commentary to=functions.f<|message|>{"a": ',
    ],
)
def test_a_truncated_turn_is_reported_by_every_api(text):
    for api in APIS:
        for response in whole_and_streamed(api, text, None):
            if api == "chat":
                assert response["choices"][0]["finish_reason"] == "length"
            elif api == "anthropic":
                assert response["stop_reason"] == "max_tokens"
            else:
                assert response["status"] == "incomplete"


def chat_history(order, results):
    calls = [
        {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": "measure", "arguments": f'{{"n": {number}}}'},
        }
        for number in order
    ]
    told = [
        {"role": "tool", "tool_call_id": f"c{number}", "content": f"r{number}"}
        for number in results
    ]
    return [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *told,
        {"role": "user", "content": "And now?"},
    ]


def responses_history(order, results):
    return [
        {"role": "user", "content": "Go"},
        *(
            {"type": "function_call", "call_id": f"c{n}", "name": "measure", "arguments": "{}"}
            for n in order
        ),
        *({"type": "function_call_output", "call_id": f"c{n}", "output": f"r{n}"} for n in results),
        {"role": "user", "content": "And now?"},
    ]


def read(api, order, results):
    if api == "chat":
        return chat_completions.read_request({"messages": chat_history(order, results)})
    return responses.read_request({"input": responses_history(order, results)})


@pytest.mark.parametrize("api", ["chat", "responses"])
@given(st.permutations([1, 2, 3, 4]), st.permutations([1, 2, 3, 4]))
def test_results_are_in_the_order_of_their_calls(api, order, results):
    request = read(api, order, results)
    told = [message.text for message in request.messages if message.role is hk.Role.TOOL]
    assert told == [f"r{number}" for number in order]
    assert request.notes == ()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_missing_and_a_doubled_result_are_noted(api):
    (missing,) = read(api, [1, 2], [2]).notes
    assert "'c1' has no result" in missing.reason
    (doubled,) = read(api, [1], [1, 1]).notes
    assert "one more result of the call 'c1'" in doubled.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"thinking": "Hm."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
        {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "So."}]},
        {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "So."}]},
    ],
)
def test_reasoning_is_read_in_every_shape(fields):
    message = {"role": "assistant", "content": "So.", **fields}
    thought, answer = chat_completions.read_messages([message])
    assert (thought.channel, thought.text) == ("analysis", "Hm.")
    assert (answer.channel, answer.text) == ("final", "So.")
