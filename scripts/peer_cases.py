"""What other implementations test, run on ours: `PEER_CASES=FOLDER pytest scripts/peer_cases.py`.

The folder has their collected cases as JSON files, which are not part of this project.

What is expected otherwise stands in docs/differences.md.
"""

import json
import os
from pathlib import Path

import pytest

import harmony_kit as hk
from harmony_kit.convert import chat_completions as chat
from harmony_kit.convert._names import tool_names
from harmony_kit.convert.responses import read_request, write_response
from harmony_kit.errors import RequestError
from harmony_kit.wire import Completion, MessageSpan, ParsedMessage, Terminator, TurnEnd

FOLDER = Path(os.environ["PEER_CASES"])


IDS = {"id": "resp_1", "created": 1_750_000_000, "model": "gpt-oss-20b"}


def call(name, arguments, call_id):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def cases(name):
    found = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["cases"]
    return [pytest.param(case, id=case["id"]) for case in found]


def read(case):
    if "messages" in case:
        messages = [hk.convert.message_from_dict(message) for message in case["messages"]]
        prompt = hk.render([])
        return hk.parse(hk.render(messages, next_role=None, drop_analysis="never")[len(prompt) :])
    text = case.get("text") or "".join(case.get("chunks", []))
    return hk.parse_text(text, stripped=case.get("text_mode") == "stripped")


def turn(result):
    return [parsed.message for parsed in result.turn]


def is_text(message):
    return message.recipient in (None, "user", "assistant", "all")


def joined(result, *, reasoning):
    texts = [
        message.content
        for message in turn(result)
        if is_text(message) and (message.channel == "analysis") is reasoning
    ]
    return "\n".join(texts)


def bare(text):
    return "".join((text or "").split())


def calls(result, tools=None):
    return [
        [call.name if call.namespace == "functions" else call.full_name, call.arguments]
        for call in hk.tool_calls(result, tools)
        if call.name is not None
    ]


# A peer drops what we keep and mark: a truncated call, a call that names no tool.
KEPT_BY_US = {
    "vllm_mlx_parse-005": "truncated",
    "vllm_mlx_parse-008": "truncated",
    "vllm_mlx_parse-010": "truncated",
    "tinker_parse-005": "invalid",
    "tinker_parse-008": "missing_arguments",
    "tinker_parse-009": "empty_arguments",
}
# A peer shows as the answer what is not: reasoning, an undeclared call, the assistant's own.
OTHER_TEXT = {
    "llamacpp_chat-004": "an option of that server puts the reasoning into the answer",
    "llamacpp_chat-017": "a prefill: see test_a_prefill_is_fed_first",
    "llamacpp_chat-018": "a prefill: see test_a_prefill_is_fed_first",
    "dynamo_parse-003": "that parser gives reasoning as text",
    "vllm_parse-011": "a message to the assistant is kept as commentary",
    "vllm_parse-017": "the header without <|message|> is read, not shown",
}


@pytest.mark.parametrize(
    "case",
    [
        case
        for name in (
            "dynamo_parse",
            "tinker_parse",
            "vllm_mlx_parse",
            "llamacpp_chat",
            "vllm_parse",
        )
        for case in cases(name)
    ],
)
def test_completions_to_fields(case):
    expected = case["expect"]
    result = read(case)
    if case["id"] in KEPT_BY_US:
        (call,) = hk.tool_calls(result)
        assert call.status == KEPT_BY_US[case["id"]]
        return
    wanted = expected.get("tool_calls_raw", expected.get("tool_calls"))
    if case["id"] == "vllm_parse-008":
        wanted[-1][1] = "{}"  # no arguments are an empty object
    if wanted is not None:
        got = calls(result)
        if "tool_calls_raw" in expected:
            got = [[call.name, call.raw] for call in hk.tool_calls(result)]
        assert [[name, bare(text)] for name, text in got] == [[n, bare(t)] for n, t in wanted]
    if case["id"] in OTHER_TEXT:
        return
    for key, reasoning in (("reasoning", True), ("content", False)):
        if key in expected:
            assert bare(joined(result, reasoning=reasoning)) == bare(expected[key])
    for part in expected.get("text_contains", []):
        assert part in joined(result, reasoning=True) + joined(result, reasoning=False)


# Text between messages and after the turn is kept apart, and so is a tool's forged message.
OTHER_EVENTS = {
    "sglang_parser-001": [("reasoning", "reasoning"), ("normal", "answer")],
    "sglang_parser-002": [],
    # Not lost, for whoever reads the channel: that parser holds what it does not know.
    "sglang_parser-010": [("normal", "content")],
}


@pytest.mark.parametrize("case", cases("sglang_parser"))
def test_events_of_sglang(case):
    result = read(case)
    found = [
        (
            "tool_call"
            if not is_text(message)
            else "reasoning"
            if message.channel == "analysis"
            else "normal",
            bare(message.content),
        )
        for message in turn(result)
    ]
    if case["id"] in OTHER_EVENTS:
        assert found == OTHER_EVENTS[case["id"]]
    elif case["id"] == "sglang_parser-018":
        parser = hk.TextParser(stripped=True)
        shown = [e.text for e in parser.feed(case["text"]) if isinstance(e, hk.ContentDelta)]
        assert "assistantfin" not in "".join(shown)
    elif "events" in case:
        assert found == [(kind, bare(text)) for kind, text in case["events"]]
    elif "events_contain" in case:
        assert {tuple(event) for event in case["events_contain"]} <= set(found)
    elif "events_joined" in case:
        assert dict(found) == {kind: bare(t) for kind, t in case["events_joined"].items()}
    else:
        assert bare(case["reasoning_contains"]) in dict(found)["reasoning"]


@pytest.mark.parametrize("case", cases("openvino_strict"))
def test_lenient_delivers_what_openvino_drops_and_strict_says_why(case):
    result = hk.parse_text(case["text"], stripped=False)
    if "Hello, world!" in case["text"]:
        assert joined(result, reasoning=False) == "Hello, world!"
    else:
        (message,) = turn(result)
        assert message.content == '{"Hello": "world!"}'
    expected = case["openvino"]
    if expected.get("tool_calls"):
        assert calls(result) == expected["tool_calls"]
    drops = not expected.get("content") and not expected.get("tool_calls")
    is_bare = "to=hello" in case["text"] and case["text"].endswith("<|call|>")
    if drops and not is_bare:  # a recipient without a namespace is well-formed
        with pytest.raises(hk.ParseError):
            hk.parse_text(case["text"], stripped=False, strict=True)


@pytest.mark.parametrize("case", cases("ollama_headers"))
def test_headers_of_ollama(case):
    result = hk.parse_text(f"<|start|>{case['header']}<|message|>x<|end|>", role=None)
    (message,) = result.messages
    assert (message.channel or "", message.recipient or "") == (case["channel"], case["recipient"])


@pytest.mark.parametrize("case", cases("ollama_streaming"))
def test_streams_of_ollama_say_the_same_as_the_whole(case):
    steps = [step[0] for step in case["steps"]]
    role = None if steps[0].startswith("<") and case.get("full") else "assistant"
    parser = hk.TextParser(role=role)
    events = [event for step in steps for event in parser.feed(step)] + parser.close()
    assert parser.result() == hk.parse_text("".join(steps), role=role, stripped=False)
    shown = "".join(event.text for event in events if isinstance(event, hk.ContentDelta))
    assert shown == "".join(message.content for message in parser.result().messages)
    for _, expected in case["steps"]:
        if isinstance(expected, dict):
            pieces = [expected.get("content"), expected.get("thinking")]
        else:
            pieces = [event[1] for event in expected if event[0] == "content"]
        assert all(piece in shown for piece in pieces if piece)


@pytest.mark.parametrize("case", cases("sglang_prefix_hold"))
def test_a_prefix_of_a_special_token_is_held(case):
    parser = hk.TextParser()
    parser.feed("<|channel|>final<|message|>")
    shown = [e.text for e in parser.feed(case["text"]) if isinstance(e, hk.ContentDelta)]
    assert "".join(shown) == case["emit"].removesuffix("<|start|>")


@pytest.mark.parametrize("case", cases("vllm_recipients"))
def test_who_is_called(case):
    tools = None if case["allowed"] is None else list(case["allowed"])
    message = hk.Message("assistant", "{}", channel="commentary", recipient=case["recipient"])
    no_calls = ("undeclared", "missing_name")
    found = [call for call in hk.tool_calls([message], tools) if call.status not in no_calls]
    functions = [
        call.name if call.namespace == "functions" else call.full_name
        for call in found
        if not call.takes_text and call.namespace != "browser"
    ]
    if tools is None and case["recipient"].partition(".")[0] in ("browser", "container", "python"):
        return  # without tools nothing is known of these namespaces
    if case["id"] == "vllm_recipients-021":
        assert functions == []  # `functions.` alone declares no tool
        return
    assert functions == ([case["name"]] if case["is_function"] else [])


@pytest.mark.parametrize("case", cases("vllm_stream_delta"))
def test_streams_of_vllm_say_the_same_as_the_whole(case):
    steps = [step["text"] for step in case["steps"]]
    parser = hk.Parser()
    calls_of_stream = hk.tools.ToolCallStream()
    found = []
    for step in steps:
        found += calls_of_stream.feed(parser.feed(hk.encode_with_special(step)))
    found += calls_of_stream.feed(parser.close())
    tokens = [token for step in steps for token in hk.encode_with_special(step)]
    assert parser.result() == hk.parse(tokens)
    deltas = {}
    for event in found:
        if isinstance(event, hk.calls.ArgumentsDelta):
            deltas[event.index] = deltas.get(event.index, "") + event.text
    for index, name, text in (
        call for step in case["steps"] for call in (step["delta"] or {}).get("tool_calls", [])
    ):
        assert text in deltas.get(index, "")
        started = [e for e in found if isinstance(e, hk.calls.CallStarted) and e.index == index]
        names = [
            e.name if e.namespace == "functions" else f"{e.namespace}.{e.name}" for e in started
        ]
        assert name in (None, *names)


# --- Peers ----------------------------------------------------------------------------------

PEER_DIFFERENCES = {
    # The model thinks first and then announces; we keep that order.
    "vllm_chat_to_harmony-015": "reasoning before the preamble",
    "vllm_chat_to_harmony-019": "a call without a name is refused",
    "vllm_chat_to_harmony-017": "an image is an error, or a note",
}


@pytest.mark.parametrize("case", cases("vllm_chat_to_harmony"))
def test_messages_as_vllm_reads_them(case):
    given = [case["input"]]
    for call_id, name in case.get("tool_id_names", {}).items():
        given.insert(0, {"role": "assistant", "tool_calls": [call(name, "{}", call_id)]})
    if case["id"] == "vllm_chat_to_harmony-019":
        with pytest.raises(RequestError):
            chat.read_messages(given)
        return
    if case["id"] == "vllm_chat_to_harmony-006":
        given[0]["content"] = [{"type": "text", **part} for part in given[0]["content"]]
    messages = chat.read_messages(given, unsupported="note")
    messages = messages[len(given) - 1 :]
    expected = case["expect"]
    if case["id"] == "vllm_chat_to_harmony-015":
        expected = [expected[1], expected[0], *expected[2:]]
    assert len(messages) == len(expected)
    for message, wanted in zip(messages, expected, strict=True):
        assert message.role == wanted["role"]
        if "instructions" in wanted:
            assert message.content.instructions == wanted["instructions"]
            continue
        assert message.text == wanted.get("content", "".join(wanted.get("contents", [])))
        for key in ("channel", "recipient", "content_type", "name"):
            assert getattr(message, key) == wanted.get(key)


@pytest.mark.parametrize("case", cases("vllm_rust_render"))
def test_prompts_as_vllm_renders_them(case):
    if case.get("instructions_in_system"):
        pytest.skip("instructions stand in the developer message")
    body = case["request"]
    body = {"messages": body} if isinstance(body, list) else dict(body)
    for message in body["messages"]:
        body.setdefault("tools", message.pop("tools", None))
    ends = body.pop("add_generation_prompt", True)
    request = chat.read_request(body, current_date=case["date"])
    tokens = hk.render(
        request.messages,
        next_role="assistant" if ends else None,
        drop_analysis="finished-turns",
        header_order="channel-first",
    )
    # oss-harmony writes <|constrain|>json; openai-harmony and the chat template write json.
    assert hk.decode(tokens) == case["expect_prompt"].replace("<|constrain|>json", "json")


@pytest.mark.parametrize("case", cases("ollama_function_names"))
def test_names_as_ollama_makes_them(case):
    if len(set(case["names"])) < len(case["names"]):
        pytest.skip("two tools of one name are refused")
    found = [tool_names(case["names"]).to_harmony(name) for name in case["names"]]
    if case["id"] == "ollama_function_names-012":
        # What is an identifier keeps its name, whatever comes first.
        assert found == ["get_weather_2", "get_weather", "get_weather_3", "something_different"]
    elif case["id"] == "ollama_function_names-014":
        # A client's function is in the namespace functions, whatever its name.
        assert found[2:] == case["expect"][2:]
    else:
        assert found == case["expect"]


# --- What vLLM's tests say ------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("vllm_responses_to_harmony"))
def test_vllm_items_to_harmony(case):
    items = [*case.get("previous", []), case["input"]]
    if "expect_error" in case:
        with pytest.raises(RequestError):
            read_request({"input": items})
        return
    messages = read_request({"input": items}).messages[1 + len(case.get("previous", [])) :]
    if case["expect"] is None:
        assert messages == ()
        return
    (message,) = messages
    expected = dict(case["expect"])
    if "instructions" in expected:
        assert message.content == hk.developer(expected.pop("instructions")).content
    for key, value in expected.items():
        assert getattr(message, key) == value


BUILTIN = "a call is shown as a call, not as reasoning"
NAMESPACE = "there is no MCP server: the namespace stands in the call, and can be read back"
DIFFERENT = {
    **dict.fromkeys([4, 13, 22, 31], BUILTIN),  # python
    **dict.fromkeys([5, 6, 14, 15, 23, 24, 32, 33], BUILTIN),  # browser and container alone
    **dict.fromkeys([n + k for n in (7, 16, 25, 34) for k in (0, 1, 2)], NAMESPACE),
    38: "the query is what the model asked for, without `cursor:` before it",
    39: "a call that was cut off is shown as incomplete, like every item",
    43: "an unknown channel is shown to nobody, and no error",
    44: "an unknown channel is shown to nobody, and no error",
}


@pytest.mark.parametrize("case", cases("vllm_harmony_to_responses"))
def test_vllm_harmony_to_items(case):
    message = hk.convert.message_from_dict(case["message"])
    declared = [{"type": "function", "name": name} for name in case["function_names"]]
    request = read_request({"input": "", "tools": declared})
    is_cut = bool(case.get("incomplete"))
    terminator = None if is_cut else Terminator.CALL
    parsed = ParsedMessage(message, MessageSpan(0, 0, 0, 0), terminator, is_complete=not is_cut)
    turn_end = TurnEnd.LENGTH if is_cut else TurnEnd.CALL
    result = Completion((parsed,), turn_end=turn_end, turn_length=1)
    output = write_response(result, **IDS, request=request)["output"]
    found = [simplified(item) for item in output]
    expected = case.get("expect")
    number = int(case["id"][-3:])
    if number not in DIFFERENT:
        assert [
            {key: item.get(key) for key in wanted}
            for item, wanted in zip(found, expected, strict=True)
        ] == expected
        return
    assert found != expected
    recipient = case["message"].get("recipient")
    if DIFFERENT[number] == BUILTIN and recipient == "python":
        assert [(i["type"], i["code"]) for i in output] == [("code_interpreter_call", "code")]
    elif DIFFERENT[number] in (BUILTIN, NAMESPACE):
        (item,) = output
        assert item["type"] == "function_call"
        assert recipient == ".".join(filter(None, [item.get("namespace"), item["name"]]))
    elif number == 38:
        assert output[0]["action"]["query"] == "weather in San Francisco"
    elif number == 39:
        assert [(i["type"], i["status"]) for i in output] == [("web_search_call", "incomplete")]
    else:
        assert output == []


def simplified(item):
    """An item as the cases tell it."""
    flat = dict(item)
    if "content" in flat:
        flat["text"] = flat["content"][0]["text"]
    if flat.get("action", {}).get("type") == "find_in_page":
        flat["action"] = {key: flat["action"][key] for key in ("type", "pattern")}
    elif "action" in flat:
        flat["action"] = {key: flat["action"].get(key) for key in ("type", "query")}
    return flat
