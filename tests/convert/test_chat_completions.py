"""Chat Completions to Harmony and back, whole and streamed."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from soups import soups, turns
from strategies import texts
from timing import assert_linear, best_time

import harmony_kit as hk
from harmony_kit.convert import chat_completions as chat
from harmony_kit.convert._names import tool_names
from harmony_kit.errors import RequestError

WEATHER = {
    "type": "function",
    "function": {
        "name": "get-weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}},
    },
}


def call(name, arguments, call_id):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


# --- Requests -------------------------------------------------------------------------------


def test_a_request_becomes_a_prompt():
    request = chat.read_request(
        {
            "model": "gpt-oss-20b",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Wea"}, {"type": "text", "text": "ther?"}],
                },
                {
                    "role": "assistant",
                    "reasoning_content": "Look.",
                    "content": "Let me look.",
                    "tool_calls": [
                        call("get-weather", '{"days":1}', "c1"),
                        call("get-weather", "{}", "c2"),
                    ],
                },
                {"role": "tool", "tool_call_id": "c2", "content": "sun"},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            ],
            "tools": [WEATHER],
            "reasoning_effort": "high",
            "temperature": 0.5,
            "max_completion_tokens": 100,
            "stop": "END",
            "stream": True,
            "stream_options": {"include_usage": True},
            "parallel_tool_calls": False,
            "user": "somebody",
        },
        current_date="2025-06-28",
    )
    expected = [
        hk.system(reasoning_effort="high", current_date="2025-06-28"),
        hk.developer(
            "Be brief.",
            tools=[hk.Tool("get_weather", "The weather.", WEATHER["function"]["parameters"])],
        ),
        hk.user("Weather?"),
        hk.assistant("Look.", channel="analysis"),
        hk.assistant("Let me look.", channel="commentary"),
        hk.Message(
            "assistant",
            '{"days":1}',
            channel="commentary",
            recipient="functions.get_weather",
            content_type="json",
        ),
        hk.Message(
            "assistant",
            "{}",
            channel="commentary",
            recipient="functions.get_weather",
            content_type="json",
        ),
        hk.Message(
            "tool",
            "rain",
            name="functions.get_weather",
            channel="commentary",
            recipient="assistant",
        ),
        hk.Message(
            "tool",
            "sun",
            name="functions.get_weather",
            channel="commentary",
            recipient="assistant",
        ),
    ]
    assert list(request.messages) == expected
    assert request.prompt() == hk.render(expected)
    assert request.sampling == hk.SamplingParams(max_tokens=100, temperature=0.5, stop=("END",))
    assert (request.model, request.stream, request.include_usage) == ("gpt-oss-20b", True, True)
    assert not request.parallel_tool_calls
    assert request.names.to_client("get_weather") == "get-weather"
    assert [note.path for note in request.notes] == ["user"]


def read(messages, **fields):
    return chat.read_request({"model": "m", "messages": messages, **fields})


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("choice", "mode", "names", "declared"),
    [
        (None, "auto", (), 1),
        ("auto", "auto", (), 1),
        ("none", "none", (), 0),
        ("required", "required", (), 1),
        (
            {"type": "function", "function": {"name": "get-weather"}},
            "required",
            ("functions.get_weather",),
            1,
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "get-weather"}}],
                },
            },
            "auto",
            ("functions.get_weather",),
            1,
        ),
    ],
)
def test_tool_choice(choice, mode, names, declared):
    request = read([USER], tools=[WEATHER], tool_choice=choice)
    assert request.tool_choice == hk.grammar.ToolChoice(mode, names)
    assert len(request.tools) == declared
    assert ("namespace functions" in hk.decode(request.prompt())) is bool(declared)


def test_response_formats():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    shape = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    request = read([USER], response_format=shape)
    assert request.response_format == hk.wire.ResponseFormat("answer", schema)
    assert "# Response Formats\n\n## answer" in hk.decode(request.prompt())
    assert read([USER], response_format={"type": "text"}).response_format is None
    assert (
        read([USER], response_format={"type": "json_object"}).response_format.name == "json_object"
    )


def test_instructions_before_everything_else_belong_together():
    messages = [{"role": "system", "content": "A."}, {"role": "developer", "content": "B."}, USER]
    assert read(messages).messages[1] == hk.developer("A.\n\nB.")
    assert read([*messages, messages[0]]).messages[-1] == hk.developer("A.")


def test_reasoning_is_dropped_and_kept_as_the_format_has_it():
    """That of finished turns is dropped; that of the tool loop that goes on stays."""
    loop = [
        USER,
        {"role": "assistant", "reasoning": "old", "tool_calls": [call("f", "{}", "c1")]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "assistant", "reasoning": "older", "content": "One."},
        USER,
        {"role": "assistant", "reasoning": "new", "tool_calls": [call("f", "{}", "c2")]},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
    ]
    prompt = hk.decode(read(loop).prompt())
    assert "old" not in prompt
    assert "<|channel|>analysis<|message|>new<|end|>" in prompt
    assert "old<|end|>" in hk.decode(read(loop).prompt(drop_analysis="never"))


def test_reasoning_that_a_client_did_not_send_back():
    class Store:
        def reasoning(self, call_id):
            return {"c1": "Look."}.get(call_id)

    messages = [
        USER,
        {"role": "assistant", "tool_calls": [call("f", "{}", "c1"), call("f", "[]", "c3")]},
    ]
    request = chat.read_request({"messages": messages}, store=Store())
    assert [m.text for m in request.messages if m.channel == "analysis"] == ["Look."]
    assert not [m for m in read(messages).messages if m.channel == "analysis"]


def test_texts_for_tools_that_take_text():
    custom = {"type": "custom", "custom": {"name": "run.sql", "description": "Runs SQL."}}
    made = {"id": "c1", "type": "custom", "custom": {"name": "run.sql", "input": "select 1"}}
    request = read(
        [USER, {"role": "assistant", "tool_calls": [made]}],
        tools=[custom],
        stream_options={"include_usage": True},
    )
    assert request.messages[-1].text == '{"input": "select 1"}'
    result = hk.parse(
        hk.encode_with_special(
            '<|channel|>commentary to=functions.run_sql json<|message|>{"input":"select 2"}<|call|>'
        )
    )
    response = chat.write_response(result, id="r", created=0, model="m", request=request)
    assert response["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_r_0", "type": "custom", "custom": {"name": "run.sql", "input": "select 2"}}
    ]
    assert streamed(result_tokens(result), request) == response


def result_tokens(result):
    prompt = len(hk.render([]))
    return hk.render(result.messages, next_role=None, drop_analysis="never")[prompt:]


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        ({}, "messages", "there is no message"),
        ({"messages": "hi"}, "messages", "expected a list, got text"),
        ({"messages": [5]}, "messages[0]", "expected an object, got an integer"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "missing"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role", "'robot' is none of 'system'"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "expected a list"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
                ]
            },
            "messages[0].content[0]",
            "a part of the type 'image_url' cannot be carried",
        ),
        (
            {"messages": [USER, {"role": "tool", "tool_call_id": "c9", "content": "1"}]},
            "messages[1].tool_call_id",
            "no call before has the id 'c9'",
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]},
                ]
            },
            "messages[1].tool_calls[0].function.name",
            "missing",
        ),
        ({"messages": [USER], "tools": [{"type": "function"}]}, "tools[0].function", "missing"),
        (
            {"messages": [USER], "tools": [WEATHER, WEATHER]},
            "tools[1].function.name",
            "a second tool",
        ),
        (
            {
                "messages": [USER],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}],
            },
            "tools[0].function.parameters",
            "expected a JSON Schema",
        ),
        ({"messages": [USER], "tool_choice": "maybe"}, "tool_choice", "'maybe' is none of 'auto'"),
        (
            {"messages": [USER], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
            "no tool is called 'g'",
        ),
        ({"messages": [USER], "temperature": "hot"}, "temperature", "expected a number, got text"),
        ({"messages": [USER], "n": 2}, "n", "one choice is made"),
        ({"messages": [USER], "logprobs": True}, "logprobs", "not supported"),
        ({"messages": [USER], "reasoning_effort": "huge"}, "reasoning_effort", "'huge' is none of"),
        (
            {"messages": [USER], "response_format": {"type": "xml"}},
            "response_format.type",
            "'xml' is",
        ),
    ],
)
def test_bad_requests_name_the_path(body, path, reason):
    with pytest.raises(RequestError) as raised:
        chat.read_request(body)
    assert raised.value.path == path
    assert raised.value.reason.startswith(reason)


def test_what_cannot_be_carried_is_noted_where_the_caller_asks():
    image = {"type": "image_url", "image_url": {"url": "x"}}
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, image]}],
        "logprobs": True,
        "user": "u",
        "tools": [{"type": "web_search"}],
    }
    request = chat.read_request(body, unsupported="note")
    assert request.messages[-1].text == "a"
    assert [note.path for note in request.notes] == [
        *("logprobs", "user", "tools[0].type", "messages[0].content[1]")
    ]


def test_pydantic_objects_are_accepted():
    message = openai.types.chat.ChatCompletionMessage(role="assistant", content="a")
    assert read([USER, message]).messages[-1] == hk.assistant("a")


# --- Responses and streams ------------------------------------------------------------------


def streamed(tokens, request=None, *, size=1, **how):
    parser = hk.Parser()
    writer = chat.StreamEncoder(id="r", created=0, model="m", request=request, **how)
    chunks = writer.start()
    for start in range(0, len(tokens), size):
        chunks += writer.feed(parser.feed(tokens[start : start + size]))
    chunks += writer.feed(parser.close())
    chunks += writer.close(parser.result())
    for chunk in chunks:
        ChatCompletionChunk.model_validate(json.loads(json.dumps(chunk)))
    return chat.accumulate(chunks)


def whole(tokens, request=None, **how):
    response = chat.write_response(
        hk.parse(tokens), id="r", created=0, model="m", request=request, **how
    )
    ChatCompletion.model_validate(json.loads(json.dumps(response)))
    return response


@examples(400)
@example(  # a call that breaks off in its header, before another message
    hk.encode_with_special(" to=functions.f<|start|>assistant<|channel|>final<|message|>"), 1, True
)
@given(soups, st.integers(1, 9), st.booleans())
def test_a_folded_stream_is_the_response(tokens, size, repair):
    """For whatever a model emits, in chunks of any size."""
    assert streamed(tokens, size=size, repair=repair) == whole(tokens, repair=repair)


def completion(text):
    return hk.encode_with_special(text)


def test_what_a_client_sees():
    thought = (
        "<|channel|>analysis<|message|>Hm.<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>So.<|end|>"
    )
    response = whole(
        completion(
            f"{thought}<|start|>assistant<|channel|>secret<|message|>no<|end|>"
            "<|start|>assistant<|channel|>commentary<|message|>Plan.<|end|>"
            "<|start|>assistant<|channel|>final<|message|>Four.<|return|>"
        )
    )
    choice = response["choices"][0]
    assert choice["message"]["content"] == "Plan.\nFour."
    assert choice["message"]["reasoning_content"] == choice["message"]["reasoning"] == "Hm.\nSo."
    assert choice["finish_reason"] == "stop"
    assert response["usage"]["completion_tokens_details"] == {
        "reasoning_tokens": len(completion(thought))
    }


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("<|channel|>final<|message|>a<|return|>", None, "stop"),
        ("<|channel|>final<|message|>a", None, "length"),
        ("<|channel|>final<|message|>a", "stop", "stop"),
        ("<|channel|>final<|message|>a", "length", "length"),
        ("<|channel|>commentary to=functions.f<|message|>{}<|call|>", None, "tool_calls"),
        ("<|channel|>commentary to=functions.f<|message|>{}<|call|>", "stop", "tool_calls"),
        ("<|channel|>commentary to=functions.f<|message|>{", "length", "length"),
        ("", None, "stop"),
    ],
)
def test_finish_reasons(text, finish, expected):
    response = whole(completion(text), finish_reason=finish)
    assert response["choices"][0]["finish_reason"] == expected


def test_arguments_are_as_written_or_repaired():
    tokens = completion("<|channel|>commentary to=functions.f<|message|>{'a': 1,}<|call|>")
    for how, arguments in (({}, "{'a': 1,}"), ({"repair": True}, '{"a": 1}')):
        made = whole(tokens, **how)["choices"][0]["message"]["tool_calls"][0]
        assert made["function"] == {"name": "f", "arguments": arguments}
        assert streamed(tokens, **how) == whole(tokens, **how)


def test_built_in_tools_keep_their_names():
    tokens = completion(
        "<|channel|>analysis to=browser.search<|message|>{}<|call|><|start|>assistant"
        "<|channel|>analysis to=python code<|message|>print(1)<|call|>"
    )
    made = whole(tokens)["choices"][0]["message"]["tool_calls"]
    assert made[0]["function"]["name"] == "browser.search"
    assert made[1]["custom"] == {"name": "python", "input": "print(1)"}
    assert streamed(tokens) == whole(tokens)


# --- Law 7 ----------------------------------------------------------------------------------

names = st.sampled_from(["f", "get_weather", "get-weather", "a.b", "9lives", "漢字"])
some_texts = texts.filter(bool)


@st.composite
def requests(draw):
    """Requests in the shape in which we write them."""
    declared = draw(st.lists(names, max_size=3, unique=True))
    messages = [{"role": "developer", "content": draw(texts)}] if draw(st.booleans()) else []
    ids = 0
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(texts)})
        for _ in range(draw(st.integers(0, 2)) if declared else 0):
            turn = {"role": "assistant", "content": draw(st.none() | some_texts)}
            if draw(st.booleans()):
                turn["reasoning_content"] = draw(some_texts)
            turn["tool_calls"] = []
            for name in draw(
                st.lists(st.sampled_from(declared), min_size=1, max_size=2, unique=True)
            ):
                turn["tool_calls"].append(call(name, draw(texts), f"call_{ids}"))
                ids += 1
            messages.append(turn)
            messages += [
                {"role": "tool", "tool_call_id": made["id"], "content": draw(texts)}
                for made in turn["tool_calls"]
            ]
        if draw(st.booleans()):
            turn = {"role": "assistant", "content": draw(some_texts)}
            if draw(st.booleans()):
                turn["reasoning_content"] = draw(some_texts)
            messages.append(turn)
    body = {"model": "m", "messages": messages}
    body["reasoning_effort"] = draw(st.sampled_from(["low", "medium", "high"]))
    if declared:
        body["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
            for name in declared
        ]
    if draw(st.booleans()):
        body |= {"temperature": 0.5, "max_completion_tokens": 5, "stop": ["a", "b"], "seed": 1}
    if draw(st.booleans()):
        schema = {"name": "s", "schema": {"type": "object"}}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


@examples(300)
@given(requests())
def test_law_7_requests_keep_their_meaning(body):
    request = chat.read_request(body)
    assert request.notes == ()
    again = chat.write_request(
        request.messages, model="m", sampling=request.sampling, names=request.names
    )
    assert again == body
    assert chat.read_request(again).messages == request.messages


@examples(200)
@given(turns)
def test_law_7_responses_keep_their_meaning(turn):
    prompt = len(hk.render([]))
    tokens = hk.render(turn, next_role=None, drop_analysis="never")[prompt:]
    first = whole(tokens)["choices"][0]["message"]
    messages = chat.read_response(whole(tokens))
    said = {
        kind: [m.text for m in messages if m.channel == kind and m.recipient is None]
        for kind in ("analysis", "commentary", "final")
    }
    assert "\n".join(said["analysis"]) == (first.get("reasoning_content") or "")
    assert "\n".join(said["commentary"] + said["final"]) == (first["content"] or "")
    made = [m for m in messages if m.recipient is not None]
    bodies = [c.get("function") or c["custom"] for c in first.get("tool_calls", [])]
    for message, body in zip(made, bodies, strict=True):
        assert message.text == body.get("arguments", message.text)


# --- A real client --------------------------------------------------------------------------


@contextlib.contextmanager
def server(answers):
    """A loopback server that answers every request with the next of some bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            kind, data = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}/v1"
        finally:
            httpd.shutdown()


def sse(chunks):
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
    return "text/event-stream", "".join(lines).encode()


def test_a_client_of_openai_reads_our_streams():
    tokens = completion(
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
        ' to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'
    )
    parser = hk.Parser()
    writer = chat.StreamEncoder(id="r", created=0, model="m")
    chunks = writer.start() + writer.feed(parser.feed(tokens)) + writer.feed(parser.close())
    chunks += writer.close(parser.result(), prompt_tokens=7)
    body = json.dumps(whole(tokens)).encode()
    with server([sse(chunks), ("application/json", body)]) as url:
        client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
        asked = {"model": "m", "messages": [USER]}
        seen = list(client.chat.completions.create(**asked, stream=True))
        answer = client.chat.completions.create(**asked)
    assert [json.loads(chunk.model_dump_json(exclude_unset=True)) for chunk in seen] == chunks
    assert chat.accumulate(seen) == chat.accumulate(chunks)
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"a": 1}'
    assert chat.read_response(answer) == chat.read_response(whole(tokens))


# --- Names ----------------------------------------------------------------------------------


@given(st.lists(st.text(), unique=True, max_size=8))
def test_names_come_back(given_names):
    found = tool_names(given_names)
    made = [found.to_harmony(name) for name in given_names]
    assert len(set(made)) == len(made)
    assert [found.to_client(name) for name in made] == given_names


# --- Speed ----------------------------------------------------------------------------------


def test_law_9_converting_is_linear_and_cheap():
    def history(count):
        messages = [{"role": "developer", "content": "Be brief."}]
        for index in range(count):
            messages.append({"role": "user", "content": f"Question {index}, what is it?"})
            messages.append(
                {"role": "assistant", "tool_calls": [call("f", f'{{"a": {index}}}', f"c{index}")]}
            )
            messages.append(
                {"role": "tool", "tool_call_id": f"c{index}", "content": "A result." * 5}
            )
        return {"messages": messages}

    def measure(count):
        body = history(count)
        return best_time(lambda: chat.read_request(body), 3)

    assert_linear(measure, 60, 600)
