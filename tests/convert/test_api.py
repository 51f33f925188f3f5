"""The protocol of the API packages: one program works with all three."""

import contextlib
import inspect
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic as anthropic_client
import openai
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from soups import soups

import harmony_kit as hk
from harmony_kit.convert import (
    Api,
    Encoder,
    MemoryStore,
    SQLiteStore,
    ToolNames,
    anthropic,
    chat_completions,
    responses,
)
from harmony_kit.errors import HarmonyError, OptionError, RequestError

APIS = {"chat": chat_completions, "responses": responses, "anthropic": anthropic}
FUNCTIONS = [name for name in vars(Api) if not name.startswith("_")]
METHODS = [name for name in vars(Encoder) if not name.startswith("_")]
every_api = pytest.mark.parametrize("api", APIS.values(), ids=APIS)

TOOL = hk.Tool("get_weather", "The weather.", {"type": "object", "properties": {"city": {}}})
NAMES = ToolNames({"get-weather": "get_weather"})
CONVERSATION = [
    hk.system(reasoning_effort="low"),
    hk.developer("Be brief.", tools=[TOOL]),
    hk.user("Weather?"),
]
CALL = (
    "<|channel|>analysis<|message|>Look it up.<|end|>"
    "<|start|>assistant<|channel|>commentary<|message|>One moment.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather json<|message|>"
    "{'city': 'Rome'}<|call|>"
)
ANSWER = "<|channel|>final<|message|>Sunny.<|return|>"


# --- Signatures -----------------------------------------------------------------------------


def test_the_protocol_is_what_the_packages_have():
    for api in APIS.values():
        constants = {name for name in api.__all__ if name.isupper()}
        assert set(api.__all__) - constants == set(FUNCTIONS)
    assert METHODS == ["start", "feed", "close", "fail"]


def check_signature(actual, expected):
    """A function takes what the protocol says; what it takes in addition is optional."""
    found = inspect.signature(actual).parameters
    asked = {n: p for n, p in inspect.signature(expected).parameters.items() if n != "self"}
    for name, parameter in asked.items():
        assert found[name].kind == parameter.kind, name
        assert found[name].default == parameter.default, name
        assert found[name].annotation == parameter.annotation, name
    for name in found.keys() - asked.keys() - {"self"}:
        assert found[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert found[name].default is not inspect.Parameter.empty


@every_api
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_signature_of_the_protocol(api, name):
    check_signature(getattr(api, name), vars(Api)[name])


@every_api
@pytest.mark.parametrize("name", METHODS)
def test_encoders_have_the_signature_of_the_protocol(api, name):
    check_signature(getattr(api.StreamEncoder, name), vars(Encoder)[name])


# --- One program ----------------------------------------------------------------------------


def streamed(encoder, tokens, *, starts=True, **options):
    parser = hk.Parser()
    chunks = encoder.start() if starts else []
    for token in tokens:
        chunks += encoder.feed(parser.feed(token))
    chunks += encoder.feed(parser.close())
    return chunks + encoder.close(parser.result(), **options)


def said(messages):
    return [
        (str(m.role), m.name or m.recipient, m.text)
        for m in messages
        if m.role not in ("system", "developer")
    ]


@every_api
def test_one_program_for_all(api):
    store = MemoryStore()
    body = api.write_request(CONVERSATION, model="m", max_tokens=50, names=NAMES)
    assert "get-weather" in json.dumps(body)
    request = api.read_request(body, current_date="2025-06-28", store=store)
    assert request.sampling.max_tokens == 50
    assert hk.decode(request.prompt()).endswith(
        "<|start|>user<|message|>Weather?<|end|><|start|>assistant"
    )
    tokens = hk.encode_with_special(CALL)
    made = {"id": "r1", "model": "m", "created": 1_750_000_000, "request": request}
    for repair in (False, True):
        how = {**made, "repair": repair, "prompt_tokens": 7, "store": store}
        whole = api.write_response(hk.parse(tokens), **how, finish_reason="stop")
        chunks = streamed(api.StreamEncoder(**how), tokens, finish_reason="stop")
        assert 7 in whole["usage"].values()
        folded = api.accumulate(chunks)
        if api is chat_completions:  # whose request did not ask for it
            del whole["usage"]
        assert folded == whole
        read = api.read_response(folded)
        assert [m.channel for m in read] == ["analysis", "commentary", "commentary"]
        (call,) = hk.tool_calls(read)
        assert call.name in ("get-weather", "get_weather")
        assert json.loads(call.arguments) == {"city": "Rome"}
        assert ("'" in call.raw) is not repair
    assert store.get("r1").messages[0] == hk.user("Weather?")


@every_api
def test_messages_alone(api):
    result = hk.Message("tool", "sun", name="functions.get_weather", recipient="assistant")
    call = hk.Message("assistant", "{}", channel="commentary", recipient="functions.get_weather")
    conversation = [hk.developer("Be brief."), hk.user("Weather?"), call, result]
    written = api.write_messages(conversation, names=NAMES)
    assert "get-weather" in json.dumps(written)
    read = api.read_messages(written)
    assert read[0] == hk.developer("Be brief.")
    assert said(read) == said(conversation)
    # What belongs to the request is left out.
    assert api.write_messages(CONVERSATION) == api.write_messages(
        [hk.developer("Be brief."), hk.user("Weather?")]
    )
    instructions = [hk.developer("Be brief."), hk.developer("Be kind."), hk.user("Weather?")]
    assert api.read_messages(api.write_messages(instructions))[0].content.instructions == (
        "Be brief.\n\nBe kind."
    )


@every_api
def test_results_without_a_call_cannot_be_written(api):
    with pytest.raises(RequestError) as caught:
        api.write_messages([hk.user("Hi"), hk.Message("tool", "x", name="functions.f")])
    assert caught.value.path.startswith("messages[1]")


@every_api
def test_the_limit_of_a_request(api):
    (field,) = (
        key
        for key, value in api.write_request(CONVERSATION, model="m", max_tokens=77).items()
        if value == 77
    )
    sampling = hk.SamplingParams(max_tokens=5)
    assert api.write_request([], model="m", sampling=sampling)[field] == 5
    assert api.write_request([], model="m", sampling=sampling, max_tokens=6)[field] == 6
    default = 4096 if api is anthropic else None
    assert api.write_request([], model="m").get(field) == default
    with pytest.raises(OptionError, match="max_tokens"):
        api.write_request([], model="m", max_tokens=0)


@every_api
@examples(60)
@given(tokens=soups, repair=st.booleans())
def test_a_stream_accumulates_to_the_response(api, tokens, repair):
    """Whether or not `start` is called, and with the counts given early or late."""
    made = {"id": "r1", "model": "m", "repair": repair}
    whole = api.write_response(hk.parse(tokens), **made, prompt_tokens=7)
    early = streamed(api.StreamEncoder(**made, prompt_tokens=7), tokens)
    assert api.accumulate(early) == whole
    late = streamed(api.StreamEncoder(**made), tokens, starts=False, prompt_tokens=7)
    assert api.accumulate(late) == whole


@every_api
def test_a_stream_starts_once(api):
    encoder = api.StreamEncoder(id="r1", model="m")
    assert encoder.start() != []
    assert encoder.start() == []


@every_api
def test_what_a_response_has_that_harmony_has_not(api):
    strange = {
        chat_completions: {"choices": [{"message": {"role": "assistant", "mood": "good"}}]},
        responses: {"output": [{"type": "mcp_call"}]},
        anthropic: {"content": [{"type": "redacted_thinking", "data": "x"}]},
    }[api]
    with pytest.raises(RequestError):
        api.read_response(strange)
    assert api.read_response(strange, unsupported="note") == ()


# --- Stores ---------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    with SQLiteStore(tmp_path / "responses.db") as found:
        yield found


def without_reasoning(body):
    """A request as a client sends it that does not send reasoning back."""

    def cleaned(message):
        if isinstance(message.get("content"), list):
            content = [b for b in message["content"] if b.get("type") != "thinking"]
            return {**message, "content": content}
        return {k: v for k, v in message.items() if not k.startswith("reasoning")}

    key = "input" if "input" in body else "messages"
    kept = [cleaned(m) for m in body[key] if m.get("type") != "reasoning"]
    return {**body, key: kept}


@every_api
@pytest.mark.parametrize("way", ["write_response", "StreamEncoder", "stored_response"])
def test_reasoning_comes_back_from_the_store(api, way, store):
    asked = api.write_request(CONVERSATION, model="m", max_tokens=50, names=NAMES)
    request = api.read_request(asked)
    tokens = hk.encode_with_special(CALL)
    made = {"id": "r1", "model": "m", "request": request}
    response = api.write_response(hk.parse(tokens), **made)
    if way == "write_response":
        api.write_response(hk.parse(tokens), **made, store=store)
    elif way == "StreamEncoder":
        streamed(api.StreamEncoder(**made, store=store), tokens)
    else:
        store.put("r1", api.stored_response(request, hk.parse(tokens), id="r1"))
    if api is responses:
        result = {"type": "function_call_output", "call_id": "call_r1_2", "output": "sun"}
        body = {**asked, "input": [*asked["input"], *response["output"], result]}
    elif api is anthropic:
        answer = {k: response[k] for k in ("role", "content")}
        block = {"type": "tool_result", "tool_use_id": "toolu_r1_0", "content": "sun"}
        result = {"role": "user", "content": [block]}
        body = {**asked, "messages": [*asked["messages"], answer, result]}
    else:
        answer = response["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": "call_r1_0", "content": "sun"}
        body = {**asked, "messages": [*asked["messages"], answer, result]}
    whole = api.read_request(body)
    bare = without_reasoning(body)
    forgotten = api.read_request(bare, unsupported="note")
    assert len(forgotten.messages) == len(whole.messages) - 1
    restored = api.read_request(bare, store=store)
    assert sorted(said(restored.messages), key=str) == sorted(said(whole.messages), key=str)
    if api is not responses:  # where it comes right before the call
        assert restored.messages == whole.messages


@every_api
def test_a_conversation_continues_in_the_responses_api(api, store):
    """Whatever API stored the response."""
    asked = api.write_request(CONVERSATION, model="m", max_tokens=50, names=NAMES)
    request = api.read_request(asked)
    made = {"id": "r1", "model": "m", "request": request, "store": store}
    api.write_response(hk.parse(hk.encode_with_special(CALL)), **made)
    (call_id,) = store.get("r1").calls
    assert store.get("r1").calls == {call_id: "functions.get_weather"}
    result = {"type": "function_call_output", "call_id": call_id, "output": "sun"}
    body = {"previous_response_id": "r1", "input": [result]}
    following = responses.read_request(body, store=store)
    assert said(following.messages) == [
        ("user", None, "Weather?"),
        ("assistant", None, "Look it up."),
        ("assistant", None, "One moment."),
        ("assistant", "functions.get_weather", "{'city': 'Rome'}"),
        ("tool", "functions.get_weather", "sun"),
    ]


@every_api
def test_truncated_messages_are_not_stored(api, store):
    tokens = hk.encode_with_special(CALL)[:-1]
    made = {"id": "r1", "model": "m", "store": store}
    for cut in (tokens[:-1], tokens[:-3]):
        api.write_response(hk.parse(cut), **made, finish_reason="length")
        assert [m.text for m in store.get("r1").messages] == ["Look it up.", "One moment."]
        assert store.get("r1").calls == {}
        streamed(api.StreamEncoder(**made), cut, finish_reason="length")
        assert not any(m.is_call for m in store.get("r1").messages)


# --- Failures, as real clients see them -----------------------------------------------------

FAILED_AT = hk.encode_with_special("<|channel|>final<|message|>Let me")


def failed(api, **how):
    encoder = api.StreamEncoder(id="r1", model="m", store=MemoryStore())
    chunks = encoder.start() + encoder.feed(hk.Parser().feed(FAILED_AT))
    return chunks + encoder.fail("The engine is gone.", **how)


@contextlib.contextmanager
def serving(text):
    """A loopback server that streams a text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


def sse(chunks):
    named = [(f"event: {c['type']}\n" if "type" in c else "", json.dumps(c)) for c in chunks]
    return "".join(f"{event}data: {data}\n\n" for event, data in named).encode()


def openai_at(url):
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, http_client=http)


def test_a_failing_stream_of_chat_completions():
    chunks = failed(chat_completions)
    assert chunks[-1] == {
        "error": {
            "message": "The engine is gone.",
            "type": "server_error",
            "param": None,
            "code": "server_error",
        }
    }
    with serving(sse(chunks)) as url, openai_at(url) as client:
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        seen = [next(stream).choices[0].delta.content for _ in chunks[:-1]]
        with pytest.raises(openai.APIError, match=r"The engine is gone\.") as caught:
            next(stream)
    assert "".join(seen) == "Let me"
    assert (caught.value.code, caught.value.type) == ("server_error", "server_error")


def test_a_failing_stream_of_responses():
    with serving(sse(failed(responses))) as url, openai_at(url) as client:
        events = list(client.responses.create(model="m", input="Hi", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    assert events[-1].response.error.message == "The engine is gone."
    with (
        serving(sse(failed(responses))) as url,
        openai_at(url) as client,
        client.responses.stream(model="m", input="Hi") as stream,
    ):
        assert [event.type for event in stream][-1] == "response.failed"
    folded = responses.accumulate(failed(responses, code="rate_limit_exceeded"))
    assert folded["status"] == "failed"
    assert folded["error"]["code"] == "rate_limit_exceeded"


def test_a_failing_stream_of_anthropic():
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    for code in ("api_error", "overloaded_error"):
        http = anthropic_client.DefaultHttpxClient(trust_env=False)
        options = {"api_key": "x", "max_retries": 0, "http_client": http}
        with (
            serving(sse(failed(anthropic, code=code))) as url,
            anthropic_client.Anthropic(base_url=url, **options) as client,
            client.messages.stream(**asked) as stream,
        ):
            text = stream.text_stream
            assert next(text) == "Let me"
            with pytest.raises(anthropic_client.APIStatusError) as caught:
                next(text)
        error = {"type": code, "message": "The engine is gone."}
        assert caught.value.body == {"type": "error", "error": error}


@every_api
@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("no luck", "no luck"),
        (ValueError("no luck"), "no luck"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_errors_and_texts(api, error, text):
    encoder = api.StreamEncoder(id="r1", model="m")
    chunks = encoder.fail(error)
    assert json.dumps(text) in json.dumps(chunks[-1])
    assert len(chunks) > 1  # a stream that fails before it starts is a stream
    if api is responses:
        assert api.accumulate(chunks)["error"]["message"] == text
    else:
        with pytest.raises(HarmonyError, match=text):
            api.accumulate(chunks)


@every_api
def test_a_failed_response_is_not_stored(api):
    store = MemoryStore()
    encoder = api.StreamEncoder(id="r1", model="m", store=store)
    encoder.feed(hk.Parser().feed(FAILED_AT))
    encoder.fail("x")
    assert store.get("r1") is None
