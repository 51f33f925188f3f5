"""The Responses API: requests in, responses and streams out, and back; `openai` is the oracle."""

import json
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts

import harmony_kit as hk
from harmony_kit.convert import chat_completions
from harmony_kit.convert._names import tool_names
from harmony_kit.convert._request import HarmonyRequest
from harmony_kit.convert._store import MemoryStore
from harmony_kit.convert.responses import (
    StreamEncoder,
    accumulate,
    read_messages,
    read_request,
    read_response,
    stored_response,
    write_request,
    write_response,
)
from harmony_kit.errors import RequestError
from harmony_kit.sampling import SamplingParams
from harmony_kit.tools._choice import ToolChoice
from harmony_kit.wire._builtin_tools import BROWSER, PYTHON
from harmony_kit.wire._events import Completion, MessageSpan, ParsedMessage, Terminator, TurnEnd

openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")
responses = pytest.importorskip("openai.types.responses")

MALFORMED = [
    case["input"]
    for file in sorted((Path(__file__).parents[1] / "data" / "malformed").glob("*.json"))
    for case in json.loads(file.read_text("utf-8"))["cases"]
]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "name": "get-weather", "description": "Weather.", "parameters": WEATHER},
    {"type": "function", "name": "ping"},
    {"type": "custom", "name": "sql", "description": "Runs SQL."},
    {"type": "web_search"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
]
BODY = {"model": "gpt-oss-20b", "input": "Hello", "tools": TOOLS}
REQUEST = read_request(BODY)
IDS = {"id": "resp_1", "created": 1_750_000_000, "model": "gpt-oss-20b"}


# --- The oracle -----------------------------------------------------------------------------


@cache
def event_types():
    union = get_args(responses.ResponseStreamEvent)[0]
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(union)}


def check_event(event):
    event_types()[event["type"]].model_validate(event, strict=True)


def check_response(response):
    checked = responses.Response.model_validate(response, strict=True)
    assert checked.model_dump(mode="json", exclude_unset=True, by_alias=True) == response
    return checked


def completion(text):
    return hk.encode_with_special(text)


def parsed(text):
    return hk.parse(completion(text))


def stream(tokens, *, size=1, finish_reason=None, repair=False, request=REQUEST, **usage):
    """The events of a completion that comes in chunks, and what was parsed."""
    parser = hk.Parser()
    writer = StreamEncoder(**IDS, request=request, repair=repair)
    events = writer.start()
    for index in range(0, len(tokens), size):
        events += writer.feed(parser.feed(tokens[index : index + size]))
    events += writer.feed(parser.close())
    result = parser.result()
    events += writer.close(result, finish_reason=finish_reason, **usage)
    return events, result


FULL = (
    "<|channel|>analysis<|message|>They ask.<|end|>"
    "<|start|>assistant<|channel|>commentary<|message|>I will look.<|end|>"
    '<|start|>assistant to=browser.search<|channel|>analysis code<|message|>{"query": "é"}<|call|>'
    "<|start|>assistant to=python<|channel|>analysis code<|message|>print(1)<|call|>"
    '<|start|>assistant to=functions.sql<|channel|>commentary json<|message|>{"input": "SELECT"}'
    "<|call|><|start|>assistant<|channel|>secret<|message|>hidden<|end|>"
    "<|start|>assistant to=functions.get_weather<|channel|>commentary "
    '<|constrain|>json<|message|>{"city": "Rome"}<|call|>'
    "<|start|>assistant<|channel|>final<|message|>Done.<|return|>"
)


# --- Responses and streams ------------------------------------------------------------------


def test_a_response_has_every_kind_of_item_in_the_order_of_the_turn():
    response = write_response(parsed(FULL), **IDS, request=REQUEST, prompt_tokens=7)
    check_response(response)
    common = {"status": "completed"}
    text = {"type": "output_text", "annotations": [], "logprobs": []}
    message = {"type": "message", "role": "assistant", **common}
    assert response["output"] == [
        {
            "type": "reasoning",
            "id": "rs_1_0",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "They ask."}],
            **common,
        },
        {
            **message,
            "id": "msg_1_1",
            "phase": "commentary",
            "content": [{**text, "text": "I will look."}],
        },
        {
            "type": "web_search_call",
            "id": "ws_1_2",
            "action": {"type": "search", "query": "é", "queries": ["é"]},
            **common,
        },
        {
            "type": "code_interpreter_call",
            "id": "ci_1_3",
            "code": "print(1)",
            "container_id": "cntr_1",
            "outputs": None,
            **common,
        },
        {
            "type": "custom_tool_call",
            "id": "ctc_1_4",
            "call_id": "call_1_4",
            "name": "sql",
            "input": "SELECT",
            **common,
        },
        {
            "type": "function_call",
            "id": "fc_1_5",
            "call_id": "call_1_5",
            "name": "get-weather",
            "arguments": '{"city": "Rome"}',
            **common,
        },
        {
            **message,
            "id": "msg_1_6",
            "phase": "final_answer",
            "content": [{**text, "text": "Done."}],
        },
    ]
    assert response["status"] == "completed"
    assert response["tools"] == TOOLS
    total = len(completion(FULL))
    assert response["usage"]["output_tokens"] == total
    assert response["usage"]["total_tokens"] == total + 7
    thought = len(completion("<|channel|>analysis<|message|>They ask.<|end|>"))
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": thought}


def test_a_stream_tells_everything_in_order():
    events, _ = stream(completion(FULL))
    for event in events:
        check_event(event)
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert list(dict.fromkeys(kinds)) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_text.delta",
        "output_text.done",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "completed",
    ]
    assert "hidden" not in json.dumps(events)


def test_the_union_of_the_package_takes_every_event():
    adapter = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    for event in stream(completion(FULL), size=100)[0]:
        assert adapter.validate_python(event).type == event["type"]


fragments = st.sampled_from(
    [
        "<|channel|>analysis<|message|>",
        "<|channel|>commentary<|message|>",
        "<|channel|>final<|message|>",
        "<|channel|>unheard<|message|>",
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>",
        " to=functions.sql<|channel|>commentary json<|message|>",
        " to=browser.search<|channel|>analysis code<|message|>",
        " to=browser.open<|channel|>analysis<|message|>",
        " to=browser.find<|channel|>analysis<|message|>",
        " to=python<|channel|>analysis code<|message|>",
        " to=get-weather<|channel|>commentary<|message|>",
        " to=other.tool<|channel|>commentary<|message|>",
        " to=functions<|channel|>commentary<|message|>",
        "<|message|>",
        "<|start|>assistant",
        "<|start|>user<|message|>",
        "<|start|>functions.ping to=assistant<|channel|>commentary<|message|>",
        "<|end|>",
        "<|end|><|start|>assistant",
        "<|call|>",
        "<|call|><|start|>assistant",
        "<|return|>",
        "<|endoftext|>",
        '{"city": "Rome", "days": "3"}',
        "{'city': 'Rome',",
        '{"input": "SELECT \\ud83d"}',
        '{"query": "é"}',
        '{"id": 5, "cursor": 3, "pattern": "x"}',
        "Hello 漢字 👩‍👩‍👧 ",
        "é",
    ]
)
completions = st.lists(fragments | texts, max_size=12).map("".join).map(completion)
finish_reasons = st.sampled_from([None, "stop", "length", "abort"])


@examples(300)
@given(completions, st.integers(1, 9), finish_reasons, st.booleans(), st.booleans())
def test_a_stream_folds_to_the_response(tokens, size, finish_reason, repair, is_known):
    request = REQUEST if is_known else None
    rest = {"finish_reason": finish_reason, "prompt_tokens": 3}
    events, result = stream(tokens, size=size, repair=repair, request=request, **rest)
    response = write_response(result, **IDS, request=request, repair=repair, **rest)
    assert accumulate(events) == response
    assert events[-1]["response"] == response
    check_deltas(events)


def check_deltas(events):
    """The deltas of an item join to what its last events say."""
    pieces = {}
    for event in events:
        kind, _, stage = event["type"].rpartition(".")
        key = (event.get("item_id"), kind)
        if stage == "delta":
            assert event["delta"]
            pieces[key] = pieces.get(key, "") + event["delta"]
        elif stage == "done" and kind.endswith(("text", "arguments", "input", "code")):
            said = [event[name] for name in ("text", "arguments", "input", "code") if name in event]
            assert said == [pieces.pop(key, "")]
    assert not pieces


@examples(60)
@given(completions, st.integers(1, 9), finish_reasons, st.booleans())
def test_every_event_and_response_is_what_the_package_takes(tokens, size, finish_reason, repair):
    events, _ = stream(tokens, size=size, finish_reason=finish_reason, repair=repair)
    for event in events:
        check_event(event)
    check_response(events[-1]["response"])


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_completions_stream_as_they_are_written(case):
    tokens = case.get("token_ids")
    if tokens is None:
        tokens = completion(case["text"])
    for repair in (False, True):
        events, result = stream(tokens, repair=repair)
        assert accumulate(events) == write_response(result, **IDS, request=REQUEST, repair=repair)
        check_deltas(events)
        check_response(events[-1]["response"])


CUT_OFF = ("incomplete", "max_output_tokens")


@pytest.mark.parametrize(
    ("text", "finish_reason", "status", "reason", "last"),
    [
        ("<|channel|>final<|message|>Hi", None, "incomplete", "max_output_tokens", "incomplete"),
        (
            "<|channel|>final<|message|>Hi",
            "length",
            "incomplete",
            "max_output_tokens",
            "incomplete",
        ),
        ("<|channel|>final<|message|>Hi", "stop", "completed", None, "completed"),
        ("<|channel|>final<|message|>Hi", "abort", "incomplete", None, "incomplete"),
        ("<|channel|>final<|message|>Hi<|return|>", None, "completed", None, "completed"),
        ("<|channel|>analysis<|message|>Hm<|end|>", None, *CUT_OFF, "completed"),
        (
            "<|channel|>commentary to=functions.ping json<|message|>{}<|end|>",
            None,
            "completed",
            None,
            "completed",
        ),
        ("<|channel|>final<|message|>Hi<|endoftext|>", None, "completed", None, "completed"),
        (
            "<|channel|>analysis<|message|>Hm<|end|>",
            "length",
            "incomplete",
            "max_output_tokens",
            "completed",
        ),
    ],
)
def test_what_was_cut_off_is_incomplete(text, finish_reason, status, reason, last):
    events, result = stream(completion(text), finish_reason=finish_reason)
    response = write_response(result, **IDS, request=REQUEST, finish_reason=finish_reason)
    assert response["status"] == status
    details = response["incomplete_details"]
    assert (details and details["reason"]) == reason
    assert response["output"][-1]["status"] == last
    assert events[-1]["type"] == f"response.{status}"
    assert events[-1]["response"] == response


def test_a_message_that_the_next_one_ends_is_complete():
    events, _ = stream(
        completion(
            "<|channel|>analysis<|message|>Hm<|start|>assistant<|channel|>final<|message|>A<|return|>"
        )
    )
    assert [item["status"] for item in accumulate(events)["output"]] == ["completed"] * 2


def test_arguments_are_raw_unless_repair_is_asked_for():
    text = (
        "<|channel|>commentary to=functions.get_weather json<|message|>"
        "{'city': 'SF', 'days': '3'}<|call|>"
    )
    raw = write_response(parsed(text), **IDS, request=REQUEST)
    assert raw["output"][0]["arguments"] == "{'city': 'SF', 'days': '3'}"
    repaired = write_response(parsed(text), **IDS, request=REQUEST, repair=True)
    assert json.loads(repaired["output"][0]["arguments"]) == {"city": "SF", "days": 3}
    events, _ = stream(completion(text), repair=True)
    deltas = [e["delta"] for e in events if e["type"].endswith("arguments.delta")]
    assert deltas == [repaired["output"][0]["arguments"]]


@pytest.mark.parametrize(
    ("tool", "arguments", "action"),
    [
        ("search", '{"query": "q", "topn": 3}', {"type": "search", "query": "q", "queries": ["q"]}),
        ("search", "no JSON", {"type": "search", "query": "no JSON", "queries": ["no JSON"]}),
        ("open", '{"id": "https://a.b"}', {"type": "open_page", "url": "https://a.b"}),
        ("open", '{"id": 5, "cursor": 3}', {"type": "open_page", "url": "cursor:3#5"}),
        ("open", "{}", {"type": "open_page", "url": "cursor:"}),
        (
            "find",
            '{"pattern": "p", "cursor": 3}',
            {"type": "find_in_page", "pattern": "p", "url": "cursor:3"},
        ),
    ],
)
def test_actions_of_the_browser(tool, arguments, action):
    text = f" to=browser.{tool}<|channel|>analysis code<|message|>{arguments}<|call|>"
    (item,) = write_response(parsed(text), **IDS, request=REQUEST)["output"]
    assert item["action"] == action


def test_a_call_of_an_undeclared_namespace_keeps_it():
    text = "<|channel|>commentary to=repo.list json<|message|>{}<|call|>"
    (item,) = write_response(parsed(text), **IDS, request=REQUEST)["output"]
    assert (item["namespace"], item["name"]) == ("repo", "list")
    assert read_messages([item])[0].recipient == "repo.list"


def test_a_stream_that_fails():
    tokens = completion(
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>A"
    )
    parser, writer = hk.Parser(), StreamEncoder(**IDS, request=REQUEST)
    events = writer.start() + writer.feed(parser.feed(tokens))
    events += writer.fail("The engine is gone.")
    for event in events:
        check_event(event)
    response = accumulate(events)
    assert response == events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "The engine is gone."}
    assert [item["type"] for item in response["output"]] == ["reasoning"]


def test_a_stream_that_breaks_off_folds_to_what_there_is():
    events, _ = stream(completion("<|channel|>final<|message|>Hello there"))
    response = accumulate(events[:6])
    assert response["status"] == "in_progress"
    assert response["output"][0]["content"][0]["text"] == "Hello there"
    with pytest.raises(RequestError, match=r"chunks\[0\].output_index: no item"):
        accumulate(events[4:])
    with pytest.raises(RequestError, match="no event has a response"):
        accumulate([])


def test_folding_a_stream_without_deltas_takes_the_last_event():
    events, _ = stream(completion(FULL))
    assert (
        accumulate(e for e in events if not e["type"].endswith(".delta")) == events[-1]["response"]
    )


# --- Requests -------------------------------------------------------------------------------


def said(items, **rest):
    """The messages of some items, without the system message."""
    return read_request({"input": items, **rest}, unsupported="note").messages[1:]


def test_a_text_is_a_message_of_the_user():
    request = read_request(
        {
            "model": "m",
            "input": "Hi",
            "reasoning": {"effort": "high"},
            "temperature": 0.5,
            "top_p": 1,
            "max_output_tokens": 100,
            "stream": True,
            "parallel_tool_calls": False,
            "user": "u",
            "truncation": "disabled",
        },
        current_date="2025-06-28",
    )
    assert request.messages == (
        hk.system(reasoning_effort="high", current_date="2025-06-28"),
        hk.user("Hi"),
    )
    assert request.sampling == SamplingParams(max_tokens=100, temperature=0.5, top_p=1)
    assert (request.model, request.stream, request.parallel_tool_calls) == ("m", True, False)
    assert [note.path for note in request.notes] == ["user"]
    assert isinstance(request, HarmonyRequest)
    assert hk.decode(request.prompt()).endswith(
        "<|start|>user<|message|>Hi<|end|><|start|>assistant"
    )


def test_instructions_and_leading_messages():
    system = {"role": "system", "content": "Be kind."}
    developer = {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}
    user = {"role": "user", "content": "Hi"}
    assert said([system, developer, user, system]) == (
        hk.developer("Be kind.\n\nBe brief."),
        hk.user("Hi"),
        hk.developer("Be kind."),
    )
    assert said([system, user], instructions="First.") == (
        hk.developer("First."),
        hk.developer("Be kind."),
        hk.user("Hi"),
    )


def test_tools_and_their_names():
    developer = REQUEST.messages[1].content
    assert [tool.name for tool in developer.tools[0].tools] == ["get_weather", "ping", "sql"]
    assert developer.tools[0].tools[2].parameters["required"] == ["input"]
    assert REQUEST.messages[0].content.tools == (BROWSER, PYTHON)
    assert REQUEST.tools == (BROWSER, PYTHON, *developer.tools)
    assert REQUEST.text_tools == {"sql"}
    assert REQUEST.names == tool_names(["get-weather", "ping", "sql"])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("required", ToolChoice("required")),
        ("none", ToolChoice("none")),
        (
            {"type": "function", "name": "get-weather"},
            ToolChoice("required", ("functions.get_weather",)),
        ),
        ({"type": "custom", "name": "sql"}, ToolChoice("required", ("functions.sql",))),
        ({"type": "code_interpreter"}, ToolChoice("required", ("python",))),
        (
            {"type": "web_search_preview"},
            ToolChoice("required", ("browser.search", "browser.open", "browser.find")),
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "ping"}, {"type": "code_interpreter"}],
            },
            ToolChoice("auto", ("functions.ping", "python")),
        ),
    ],
)
def test_tool_choice(choice, expected):
    request = read_request({**BODY, "tool_choice": choice})
    assert request.tool_choice == expected
    assert bool(request.tools) is (choice != "none")
    check_response(write_response(parsed(FULL), **IDS, request=request))


def test_formats():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    json_schema = {"type": "json_schema", "name": "f", "schema": schema, "strict": True}
    request = read_request({"input": "", "text": {"format": json_schema}})
    assert request.response_format == hk.wire.ResponseFormat("f", schema)
    assert request.messages[1].content.response_formats == (request.response_format,)
    request = read_request({"input": "", "text": {"format": {"type": "json_object"}}})
    assert request.response_format == hk.wire.ResponseFormat("json_object", {"type": "object"})
    assert read_request({"input": "", "text": {"format": {"type": "text"}}}).response_format is None


def test_a_tool_loop_of_the_history():
    items = [
        {"role": "user", "content": "Weather?"},
        {
            "type": "reasoning",
            "id": "rs",
            "content": [
                {"type": "reasoning_text", "text": "Hm."},
                {"type": "reasoning_text", "text": "So."},
            ],
        },
        {"role": "assistant", "content": "I will look."},
        {"type": "function_call", "call_id": "a", "name": "get-weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "sql", "input": 'SELECT "x"'},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [{"type": "input_text", "text": "su"}, {"type": "input_text", "text": "nny"}],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "Sunny."}]},
    ]
    call = {"channel": "commentary", "content_type": "json"}
    result = {"channel": "commentary", "recipient": "assistant"}
    assert read_request({**BODY, "input": items}).messages[2:] == (
        hk.user("Weather?"),
        hk.assistant("Hm.\nSo.", channel="analysis"),
        hk.assistant("I will look.", channel="commentary"),
        hk.Message("assistant", "{}", recipient="functions.get_weather", **call),
        hk.Message("assistant", '{"input": "SELECT \\"x\\""}', recipient="functions.sql", **call),
        hk.Message("tool", "sunny", name="functions.get_weather", **result),
        hk.Message("tool", "1", name="functions.sql", **result),
        hk.assistant("Sunny."),
    )


def test_a_conversation_is_the_same_prompt_through_chat_completions():
    call = {"name": "get-weather", "arguments": '{"city": "Rome"}'}
    function = {key: TOOLS[0][key] for key in ("name", "description", "parameters")}
    chat = chat_completions.read_request(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": "I will look.",
                    "reasoning": "Hm.",
                    "tool_calls": [{"id": "a", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            ],
            "tools": [{"type": "function", "function": function}],
            "reasoning_effort": "low",
        }
    )
    items = [
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": "I will look."},
        {"type": "function_call", "call_id": "a", **call},
        {"type": "function_call_output", "call_id": "a", "output": "sunny"},
    ]
    rest = {"tools": [TOOLS[0]], "reasoning": {"effort": "low"}}
    request = read_request({"input": items, "instructions": "Be brief.", **rest})
    assert request.prompt() == chat.prompt()


def test_builtin_calls_of_the_history():
    actions = [
        ({"type": "search", "query": "q"}, "browser.search", {"query": "q"}),
        ({"type": "open_page", "url": "https://a.b"}, "browser.open", {"id": "https://a.b"}),
        ({"type": "open_page", "url": "cursor:3#5"}, "browser.open", {"cursor": 3, "id": 5}),
        (
            {"type": "find_in_page", "pattern": "p", "url": "cursor:"},
            "browser.find",
            {"pattern": "p"},
        ),
    ]
    for action, recipient, arguments in actions:
        (message,) = read_messages([{"type": "web_search_call", "id": "ws", "action": action}])
        assert (message.recipient, message.channel) == (recipient, "analysis")
        assert json.loads(message.text) == arguments
    lost = {"type": "find_in_page", "pattern": "p", "url": "https://a.b"}
    with pytest.raises(RequestError, match=r"messages\[0\].action: no call"):
        read_messages([{"type": "web_search_call", "action": lost}])
    code = {
        "type": "code_interpreter_call",
        "id": "ci",
        "code": "print(1)",
        "container_id": "c",
        "outputs": [{"type": "logs", "logs": "1\n"}],
    }
    call, result = read_messages([code])
    assert (call.recipient, call.text, call.content_type) == ("python", "print(1)", "code")
    assert (result.role, result.name, result.text) == ("tool", "python", "1\n")


def test_objects_of_the_package_are_taken_as_data():
    tool = responses.FunctionTool(type="function", name="f", parameters=WEATHER, strict=True)
    form = responses.ResponseFormatTextJSONSchemaConfig(
        type="json_schema", name="n", schema=WEATHER
    )
    request = read_request({"input": "x", "tools": [tool], "text": {"format": form}})
    assert request.response_format == hk.wire.ResponseFormat("n", WEATHER)
    response = write_response(parsed(FULL), **IDS, request=request)
    check_response(response)
    assert json.loads(json.dumps(response)) == response


def test_phases():
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    message = {"role": "assistant", "content": "x"}
    cases = [
        ([message], "final"),
        ([message, call], "commentary"),
        ([{**message, "phase": "final_answer"}, call], "final"),
        ([{**message, "phase": "commentary"}], "commentary"),
    ]
    for items, channel in cases:
        assert read_messages(items)[0].channel == channel


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "input"),
        ({"input": 3}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"role": "user", "content": "x", "mood": 1}]}, "input[0].mood"),
        ({"input": [{"type": "mcp_call"}]}, "input[0]"),
        ({"input": [{"type": "function_call"}]}, "input[0].name"),
        (
            {"input": [{"type": "function_call_output", "call_id": "zz", "output": ""}]},
            "input[0].call_id",
        ),
        ({"input": [{"type": "item_reference", "id": "msg_zz"}]}, "input[0].id"),
        ({"input": "", "previous_response_id": "resp_zz"}, "previous_response_id"),
        ({"input": "", "tools": [{"type": "file_search"}]}, "tools[0]"),
        ({"input": "", "tools": [{"type": "function"}]}, "tools[0].name"),
        (
            {"input": "", "tools": [{"type": "function", "name": "f", "parameters": 3}]},
            "tools[0].parameters",
        ),
        ({"input": "", "tools": [TOOLS[1], TOOLS[1]]}, "tools[1].name"),
        (
            {"input": "", "tools": [{**TOOLS[2], "format": {"type": "grammar"}}]},
            "tools[0].format",
        ),
        ({"input": "", "tool_choice": "perhaps"}, "tool_choice"),
        ({"input": "", "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
        ({"input": "", "tool_choice": {"type": "code_interpreter"}}, "tool_choice.type"),
        ({"input": "", "reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"input": "", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "", "text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"input": "", "text": {"verbosity": "low"}}, "text.verbosity"),
        ({"input": "", "temperature": 3}, "temperature"),
        ({"input": "", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "", "stream": "yes"}, "stream"),
        ({"input": "", "background": True}, "background"),
        ({"input": "", "truncation": "auto"}, "truncation"),
        ({"input": "", "logit_bias": {}}, "logit_bias"),
    ],
)
def test_bad_requests_name_the_place(body, path):
    with pytest.raises(RequestError) as caught:
        read_request(body, store=MemoryStore())
    assert caught.value.path == path
    if "zz" in str(body):
        assert "zz" in caught.value.reason


def test_what_cannot_be_carried_is_noted_on_demand():
    body = {
        "input": [
            {"role": "user", "content": [{"type": "input_image"}, {"type": "text", "text": "x"}]},
            {"type": "mcp_call"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
        ],
        "background": True,
    }
    request = read_request(body, unsupported="note")
    assert request.messages[1:] == (hk.user("x"),)
    paths = {note.path for note in request.notes}
    assert paths == {"background", "input[0].content[0]", "input[1]", "input[2]"}


# --- The store ------------------------------------------------------------------------------


def test_going_on_from_a_response_is_sending_everything_again():
    store = MemoryStore()
    first = {
        **BODY,
        "input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }
    request = read_request(first, store=store)
    result = parsed(
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
        "to=get-weather json<|message|>{}<|call|>"
    )
    response = write_response(result, **IDS, request=request)
    store.put("resp_1", stored_response(request, result, id="resp_1"))
    call_id = response["output"][-1]["call_id"]
    output = {"type": "function_call_output", "call_id": call_id, "output": "sunny"}
    again = read_request({**BODY, "input": [output], "previous_response_id": "resp_1"}, store=store)
    whole = read_request({**BODY, "input": [*first["input"], *response["output"], output]})
    plain = [(m.role, m.content, m.channel, m.name) for m in whole.messages]
    assert [(m.role, m.content, m.channel, m.name) for m in again.messages] == plain
    assert again.messages[-1].name == "functions.get_weather"
    # References, and clients that keep reasoning to themselves.
    references = [{"type": "item_reference", "id": item["id"]} for item in response["output"]]
    referring = read_request({**BODY, "input": [*first["input"], *references, output]}, store=store)
    assert referring.messages == again.messages
    bare = read_request(
        {**BODY, "input": [*first["input"], response["output"][1], output]}, store=store
    )
    assert [(m.role, m.content, m.channel, m.name) for m in bare.messages] == plain
    assert [note.path for note in bare.notes if "store" in note.reason] == ["input[2]"]


# --- Law 7: conversions keep meaning --------------------------------------------------------

names = st.sampled_from(["f", "get_weather", "lookup"])
schemas = st.sampled_from([None, WEATHER, {"type": "object", "properties": {}}])
message_items = st.builds(
    lambda role, text: {"type": "message", "role": role, "content": text},
    st.sampled_from(["user", "developer"]),
    texts,
) | st.builds(
    lambda text, phase: {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
        "phase": phase,
    },
    texts,
    st.sampled_from(["commentary", "final_answer"]),
)
reasoning_items = texts.map(
    lambda text: {"type": "reasoning", "content": [{"type": "reasoning_text", "text": text}]}
)
python_items = st.builds(
    lambda code, logs: {
        "type": "code_interpreter_call",
        "code": code,
        "outputs": [{"type": "logs", "logs": log} for log in logs],
    },
    texts,
    st.lists(texts, max_size=1),
)
search_items = texts.map(
    lambda query: {"type": "web_search_call", "action": {"type": "search", "query": query}}
)


@st.composite
def rounds(draw):
    """Some calls, then their results in the same order."""
    count = draw(st.integers(1, 3))
    ids = [f"call_{draw(st.integers(0, 10**9))}_{i}" for i in range(count)]
    calls = [
        {"type": "function_call", "call_id": i, "name": draw(names), "arguments": draw(texts)}
        for i in ids
    ]
    outputs = [{"type": "function_call_output", "call_id": i, "output": draw(texts)} for i in ids]
    return calls + outputs


input_items = st.lists(
    st.one_of(message_items, reasoning_items, python_items, search_items).map(lambda item: [item])
    | rounds(),
    max_size=6,
).map(lambda lists: [item for items in lists for item in items])


@st.composite
def bodies(draw):
    body = {"model": "m", "input": draw(input_items), "instructions": draw(texts)}
    tools = [
        {
            "type": "function",
            "name": name,
            "description": draw(texts),
            "parameters": draw(schemas),
        }
        for name in draw(st.lists(names, unique=True, max_size=3))
    ]
    builtin = draw(st.lists(st.sampled_from(["web_search", "code_interpreter"]), unique=True))
    body["tools"] = [*({"type": kind} for kind in builtin), *tools]
    body["reasoning"] = {"effort": draw(st.sampled_from(["low", "medium", "high"]))}
    optional = {
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "max_output_tokens": st.integers(1, 10**6),
        "text": st.sampled_from(
            [
                {"format": {"type": "json_object"}},
                {"format": {"type": "json_schema", "name": "n", "schema": WEATHER}},
                {
                    "format": {
                        "type": "json_schema",
                        "name": "n",
                        "schema": WEATHER,
                        "description": "d",
                    }
                },
            ]
        ),
    }
    for key, values in optional.items():
        if draw(st.booleans()):
            body[key] = draw(values)
    return body


def meaning(body):
    """What a request says, without what the API leaves open: ids, and how to write a text."""
    calls = {}

    def of_item(index, item):
        kind = item.get("type", "message")
        if kind == "message":
            content = item["content"]
            text = content if isinstance(content, str) else "".join(p["text"] for p in content)
            return (kind, item["role"], text, item.get("phase"))
        if kind == "reasoning":
            return (kind, "\n".join(part["text"] for part in item["content"]))
        if kind == "function_call":
            calls[item["call_id"]] = index
            return (kind, item["name"], item["arguments"])
        if kind == "function_call_output":
            # Of two calls of one function, the first result belongs to the first.
            return (kind, calls[item["call_id"]], item["output"])
        if kind == "code_interpreter_call":
            return (kind, item["code"], [o["logs"] for o in item["outputs"] or []])
        return (kind, item["action"]["type"], item["action"]["query"])

    ignored = ("strict", "container")
    tools = [{k: v for k, v in tool.items() if k not in ignored} for tool in body.get("tools", [])]
    rest = {k: v for k, v in body.items() if k not in ("input", "tools")}
    return [of_item(*numbered) for numbered in enumerate(body["input"])], tools, rest


@examples(150)
@given(bodies())
def test_law_7_requests_keep_their_meaning(body):
    request = read_request(body)
    written = write_request(request.messages, model="m", sampling=request.sampling)
    assert meaning(written) == meaning(body)
    again = read_request(written)
    assert again.messages == request.messages
    assert again.sampling == request.sampling
    assert again.response_format == request.response_format
    assert again.tools == request.tools


@st.composite
def turns(draw):
    """A turn of the model, with anything that a response can carry."""
    found = []
    for _ in range(draw(st.integers(0, 5))):
        recipient = draw(
            st.sampled_from(
                [
                    None,
                    "functions.get_weather",
                    "functions.sql",
                    "python",
                    "x.y",
                    "browser.search",
                    "browser.open",
                    "browser.find",
                ]
            )
        )
        content = draw(texts)
        channel = draw(st.sampled_from(["analysis", "commentary", "final"]))
        if recipient is not None and recipient.startswith("browser"):
            pages = {"cursor": draw(st.integers(-1, 9)), "id": draw(st.integers(0, 9) | texts)}
            content = json.dumps({"query": content, "pattern": content, **pages})
        found.append(hk.Message("assistant", content, channel=channel, recipient=recipient))
    return tuple(found)


def whole_turn(messages):
    span = MessageSpan(0, 0, 0, 0)
    parsed = tuple(
        ParsedMessage(m, span, Terminator.CALL if m.is_call else Terminator.END) for m in messages
    )
    return Completion(parsed, turn_end=TurnEnd.RETURN, turn_length=len(parsed))


@examples(150)
@given(turns())
def test_law_7_responses_keep_their_meaning(messages):
    response = write_response(whole_turn(messages), **IDS, request=REQUEST)
    check_response(response)
    read = read_response(response)
    again = write_response(whole_turn(read), **IDS, request=REQUEST_AS_READ)
    client_names = REQUEST.names.harmony_names
    for item in response["output"]:
        if item.get("namespace") is None and "name" in item:
            item["name"] = client_names.get(item["name"], item["name"])
    assert again["output"] == response["output"]
    for before, after in zip(messages, read, strict=True):
        if before.recipient is None:
            assert (after.text, after.channel) == (before.text, before.channel)
        elif before.recipient in ("functions.get_weather", "python", "x.y"):
            assert (after.text, after.recipient) == (before.text, before.recipient)


# Names that the client chose come back as those of the prompt.
REQUEST_AS_READ = read_request({**BODY, "tools": [{**TOOLS[0], "name": "get_weather"}, *TOOLS[1:]]})


def test_responses_of_the_package_can_be_read():
    response = write_response(parsed(FULL), **IDS, request=REQUEST)
    assert read_response(check_response(response)) == read_response(response)


BROWSER_OF_THE_DEVELOPER = hk.Message("developer", hk.wire.DeveloperContent(tools=(BROWSER,)))


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ([hk.user("x", name="bob")], "messages[0].name"),
        ([hk.assistant("x", channel="other")], "messages[0].channel"),
        ([hk.Message("tool", "x", name="functions.f")], "messages[0]"),
        ([hk.user("x"), BROWSER_OF_THE_DEVELOPER], "messages[1].content"),
        ([BROWSER_OF_THE_DEVELOPER], "messages[0].content.tools"),
        (
            [
                hk.call_message("browser.search", '{"query": "q"}'),
                hk.Message("tool", "x", name="browser.search"),
            ],
            "messages[1]",
        ),
    ],
)
def test_what_the_api_cannot_say_is_refused_by_name(messages, path):
    with pytest.raises(RequestError) as caught:
        write_request(messages, model="m")
    assert caught.value.path == path


def test_sampling_that_the_api_cannot_say_is_refused():
    with pytest.raises(RequestError, match=r"sampling.seed"):
        write_request([hk.user("x")], model="m", sampling=SamplingParams(seed=1))


# --- A real client --------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """A server of one completion."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = read_request(body)
        if request.stream:
            events, _ = stream(completion(FULL), request=request)
            lines = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events]
            self.answer("text/event-stream", "".join(lines))
        else:
            response = write_response(parsed(FULL), **IDS, request=request)
            self.answer("application/json", json.dumps(response))

    def answer(self, kind, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def client():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with openai.OpenAI(
        api_key="x",
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        max_retries=0,
        timeout=10,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as found:
        yield found
    server.shutdown()
    server.server_close()
    thread.join()


ASKED = {
    "model": "gpt-oss-20b",
    "input": "Hello",
    "tools": TOOLS,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": WEATHER}},
}


def as_written(response):
    data = response.model_dump(mode="json", exclude_unset=True, by_alias=True)
    for item in data["output"]:
        item.pop("parsed_arguments", None)
        for part in item.get("content") or []:
            part.pop("parsed", None)
    return data


def test_a_client_gets_the_response(client):
    response = client.responses.create(**ASKED)
    assert as_written(response) == write_response(parsed(FULL), **IDS, request=read_request(ASKED))
    assert response.output_text == "I will look.Done."


def test_a_client_reads_the_stream(client):
    events = list(client.responses.create(**ASKED, stream=True))
    expected = write_response(parsed(FULL), **IDS, request=read_request({**ASKED, "stream": True}))
    assert as_written(events[-1].response) == expected
    assert accumulate(events) == expected


def test_a_client_accumulates_the_stream(client):
    with client.responses.stream(**ASKED) as found:
        events = list(found)
        final = found.get_final_response()
    expected = write_response(parsed(FULL), **IDS, request=read_request({**ASKED, "stream": True}))
    assert as_written(final) == expected
    assert read_response(final) == read_response(expected)
    snapshots = [e.snapshot for e in events if e.type == "response.output_text.delta"]
    assert snapshots[-1] == "Done."
    arguments = [e.snapshot for e in events if e.type == "response.function_call_arguments.delta"]
    assert arguments[-1] == '{"city": "Rome"}'
