"""Anthropic's Messages API to and from Harmony; the `anthropic` package is the oracle."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st
from malformed_cases import CASES
from soups import soups
from strategies import json_values, texts

import harmony_kit as hk
from harmony_kit.convert.anthropic import (
    INVALID_JSON,
    TRUNCATED_JSON,
    StreamEncoder,
    accumulate,
    read_request,
    read_response,
    write_request,
    write_response,
)
from harmony_kit.convert.anthropic._arguments import (
    ArgumentsWriter,
    call_input,
    call_text,
    code_text,
)
from harmony_kit.convert.anthropic._settings import RESPONSE_FORMAT
from harmony_kit.errors import HarmonyError, RequestError
from harmony_kit.wire._messages import Message
from harmony_kit.wire._render import render_text
from harmony_kit.wire._roles import Role

anthropic = pytest.importorskip("anthropic")
pydantic = pytest.importorskip("pydantic")
jiter = pytest.importorskip("jiter")

from anthropic.lib.streaming._messages import accumulate_event  # noqa: E402
from anthropic.types import RawMessageStreamEvent  # noqa: E402
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming  # noqa: E402

EVENTS = pydantic.TypeAdapter(RawMessageStreamEvent)
REQUESTS = pydantic.TypeAdapter(MessageCreateParamsNonStreaming)
HEADER = {"id": "msg_1", "model": "gpt-oss-20b"}


# --- The oracle -----------------------------------------------------------------------------


def check_no_extra(value: Any) -> None:
    """No object has a field that the types do not know."""
    if isinstance(value, pydantic.BaseModel):
        assert not value.model_extra, value.model_extra
        for name in type(value).model_fields:
            check_no_extra(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            check_no_extra(item)


def check_message(message: dict[str, Any]) -> None:
    check_no_extra(anthropic.types.Message.model_validate(message, strict=True))


def check_event(event: dict[str, Any]) -> None:
    check_no_extra(EVENTS.validate_python(event, strict=True))


def exhaust(value: Any) -> Any:
    """Validated data; pydantic validates iterables only when they are read."""
    if isinstance(value, dict):
        return {key: exhaust(item) for key, item in value.items()}
    if isinstance(value, str | int | float | None):
        return value
    return [exhaust(item) for item in value]


def check_request(body: dict[str, Any]) -> None:
    # Newer versions of the client do not name these any more; requests still have them.
    typed = {key: value for key, value in body.items() if key not in ("temperature", "top_p")}
    assert exhaust(REQUESTS.validate_python(typed)) == typed


def accumulated(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the real client makes of events."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        built = EVENTS.validate_python(event)
        snapshot = accumulate_event(event=built, current_snapshot=snapshot, json_bufs=buffers)
    found: dict[str, Any] = snapshot.to_dict()
    return found


# --- Completions ----------------------------------------------------------------------------

objects = st.dictionaries(st.text(max_size=4) | st.just(INVALID_JSON), json_values, max_size=3)
PIECES = [
    *('{"a": 1}', "{", "}", "[", "]", ",", ":", '"', "\\", "\\u00e9", "\\ud83d", "\\ude00", " "),
    *('"a":', '"INVALID_JSON"', "1", "-", "1e999", "0.5", "true", "nul", "NaN", "\n", "é😀", "'a'"),
    *("<|x|>", "\x00", "```json\n", "9" * 310),
]
pieces = st.lists(st.sampled_from(PIECES), max_size=10)
argument_texts = st.one_of(
    objects.map(json.dumps),
    objects.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False)),
    st.tuples(objects.map(json.dumps), st.integers(0, 30)).map(lambda pair: pair[0][: pair[1]]),
    st.tuples(objects.map(json.dumps), pieces.map("".join)).map("".join),
    pieces.map("".join),
)
RECIPIENTS = ["functions.f", "functions.get_weather", "python", "f", "a.b.c"] + [
    f"browser.{name}" for name in ("search", "open", "find")
]


@st.composite
def turns(draw: Any) -> list[int]:
    """The tokens of a turn: reasoning, preambles, calls, an answer; cut off now and then."""
    tokens: list[int] = []
    kinds = draw(st.lists(st.sampled_from(["analysis", "commentary", "call", "other"]), max_size=5))
    for kind in [*kinds, *draw(st.sampled_from([[], ["final"]]))]:
        if tokens:
            tokens += hk.encode_with_special("<|start|>assistant")
        recipient = draw(st.sampled_from(RECIPIENTS)) if kind == "call" else None
        channel = "commentary" if kind == "call" else kind
        to = f" to={recipient}" if recipient else ""
        constrain = draw(st.sampled_from([" <|constrain|>json", " code", ""])) if to else ""
        content = draw(argument_texts if to else texts)
        tokens += hk.encode_with_special(f"<|channel|>{channel}{to}{constrain}<|message|>")
        tokens += hk.encode(content)
        tokens += hk.encode_with_special("<|return|>" if kind == "final" else "<|end|>")
    if tokens and tokens[-1] != hk.encode_with_special("<|return|>")[0]:
        tokens[-1:] = hk.encode_with_special(draw(st.sampled_from(["<|call|>", "<|end|>", ""])))
    return tokens[: draw(st.integers(0, len(tokens)))] if draw(st.booleans()) else tokens


completions = st.one_of(turns(), turns(), soups)
chunk_sizes = st.lists(st.integers(1, 5), max_size=60)


def weather_request() -> Any:
    return read_request(
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"name": "get-weather", "input_schema": {"type": "object"}}],
            "stop_sequences": ["STOP", "HALT"],
        }
    )


def streamed(
    tokens: list[int], sizes: list[int], request: Any = None, repair: bool = False, **options: Any
) -> list[dict[str, Any]]:
    parser = hk.Parser()
    writer = StreamEncoder(**HEADER, request=request, prompt_tokens=7, repair=repair)
    events = writer.start()
    position = 0
    for size in [*sizes, max(len(tokens), 1)]:
        events += writer.feed(parser.feed(tokens[position : position + size]))
        position += size
    events += writer.feed(parser.close())
    return events + writer.close(parser.result(), **options)


finish_reasons = st.sampled_from([None, "stop", "length", "abort"])


@examples(600)
@given(completions, chunk_sizes, finish_reasons, st.booleans(), st.booleans())
@example(
    hk.encode_with_special("<|channel|>commentary to=functions.f<|message|>{}x"),
    [],
    None,
    True,
    False,
)
@example(
    hk.encode_with_special(
        "<|channel|>commentary to=get-weather<|message|>{'a': '\\ud83d'}<|call|>"
    ),
    [],
    None,
    True,
    True,
)
def test_law_3_a_stream_folds_to_the_response(
    tokens: list[int], sizes: list[int], finish_reason: str | None, with_request: bool, repair: bool
) -> None:
    request = weather_request() if with_request else None
    options = {"finish_reason": finish_reason, "completion_tokens": None}
    made = {**HEADER, "request": request, "repair": repair}
    whole = write_response(hk.parse(tokens), **made, prompt_tokens=7, **options)
    check_message(whole)
    events = streamed(tokens, sizes, request, repair, **options)
    for event in events:
        check_event(event)
    assert accumulate(events) == whole
    assert without_cut_calls(accumulated(events), whole) == without_cut_calls(whole, whole)


def without_cut_calls(message: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """A message without the inputs of calls that are not whole in another form of it.

    The real client makes what it can of a stream that leaves them open.
    """
    content = [
        {**block, "input": None} if other.get("input", {}).keys() == {TRUNCATED_JSON} else block
        for block, other in zip(message["content"], whole["content"], strict=True)
    ]
    return {**message, "content": content}


@pytest.mark.parametrize("name", CASES)
def test_collected_outputs_stream_to_real_clients(name: str) -> None:
    given = CASES[name]["input"]
    if given["form"] == "token_ids":
        tokens = [token for token in given["token_ids"] if isinstance(token, int)]
    else:
        tokens = hk.encode_with_special(given["text"])
    whole = write_response(hk.parse(tokens), **HEADER, prompt_tokens=7)
    check_message(whole)
    seen = accumulated(streamed(tokens, [1] * len(tokens)))
    assert without_cut_calls(seen, whole) == without_cut_calls(whole, whole)
    check_message(write_response(hk.parse(tokens), **HEADER, repair=True))


def test_arguments_are_streamed_as_they_are_written() -> None:
    tokens = hk.encode_with_special(CALL + '{"city":  "Paris"}<|call|>')
    events = streamed(tokens, [1] * len(tokens))
    pieces = [e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta"]
    assert len(pieces) > 4
    assert "".join(pieces) == '{"city":  "Paris"}'


# --- Arguments ------------------------------------------------------------------------------


def strictly(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@examples(1500)
@given(argument_texts, st.lists(st.integers(1, 4), max_size=20))
def test_what_is_sent_of_arguments_is_always_the_beginning_of_an_object(
    text: str, sizes: list[int]
) -> None:
    writer = ArgumentsWriter()
    sent, position = "", 0
    for size in [*sizes, len(text) + 1]:
        sent += writer.feed(text[position : position + size])
        position += size
        if sent:
            jiter.from_json(sent.encode(), partial_mode=True)  # as the real client does
    sent += writer.end()
    value = strictly(sent)
    assert isinstance(value, dict)
    assert value == call_input(text)
    assert jiter.from_json(sent.encode()) == value
    if text.strip():
        # Nothing is lost: either the object is what was written, or all that was written is in it.
        assert sent == text or value[INVALID_JSON] == text


@examples(500)
@given(objects)
def test_objects_are_sent_unchanged(value: dict[str, Any]) -> None:
    for text in (json.dumps(value, ensure_ascii=False), json.dumps(value, indent=2)):
        assert call_input(text) == value
        writer = ArgumentsWriter()
        assert writer.feed(text) + writer.end() == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        (" \n", {}),
        ("{'a': 1}", {INVALID_JSON: "{'a': 1}"}),
        ('{"a": 1', {INVALID_JSON: '{"a": 1'}),
        ('{"a": "b', {"a": "b", INVALID_JSON: '{"a": "b'}),
        ('{"a": [1, 2', {"a": [1], INVALID_JSON: '{"a": [1, 2'}),
        ('{"a": {"b": null},}', {"a": {"b": None}, INVALID_JSON: '{"a": {"b": null},}'}),
        ('{"a": 1} {"b": 2}', {"a": 1, INVALID_JSON: '{"a": 1} {"b": 2}'}),
        ("[1]", {INVALID_JSON: "[1]"}),
        ('{"a": NaN}', {"a": None, INVALID_JSON: '{"a": NaN}'}),
        ('{"a": 1e999}', {"a": None, INVALID_JSON: '{"a": 1e999}'}),
        ('{"a": "\\ud83d"}', {"a": "", INVALID_JSON: '{"a": "\\ud83d"}'}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
    ],
)
def test_inputs(text: str, value: Any) -> None:
    found = call_input(text)
    if INVALID_JSON in value and "a" not in value:
        assert found.pop("a", None) is None
    assert found == value


@examples(500)
@given(argument_texts)
def test_law_7_inputs_keep_what_was_written(text: str) -> None:
    value = call_input(text)
    again = call_text(value)
    assert call_input(again) == value
    if INVALID_JSON in value and text != again:
        assert strictly(text) == value  # an argument of this name


def test_nested_deeply_and_long() -> None:
    deep = '{"a":' * 200 + "1" + "}" * 200
    assert call_input(deep)[INVALID_JSON] == deep
    writer = ArgumentsWriter()
    sent = [writer.feed('{"a": x')] + [writer.feed("yyyyyyyyy") for _ in range(100_000)]
    assert "".join(sent) == '{"a": '
    assert len(strictly("".join(sent) + writer.end())[INVALID_JSON]) == 900_007


# --- Law 7: responses -----------------------------------------------------------------------


def without_ids(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in b.items() if key != "id"} for b in content]


def rewritten(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    body = write_request(messages, model="m", max_tokens=1)
    check_request(body)
    assert all(message["role"] == "assistant" for message in body["messages"])
    return [block for message in body["messages"] for block in message["content"]]


@examples(600)
@given(completions)
def test_law_7_responses_come_back(tokens: list[int]) -> None:
    response = write_response(hk.parse(tokens), **HEADER)
    messages = read_response(response)
    for block in response["content"]:
        # What a client sends to a server is a history, and runs nowhere.
        if TRUNCATED_JSON in block.get("input", {}):
            code = code_text(block["input"]) if block["name"] == "code_execution" else None
            written = call_text(block["input"])
            block["input"] = call_input(written) if code is None else {"code": code}
    assert without_ids(rewritten(messages)) == without_ids(response["content"])
    assert len(messages) == len(response["content"])


@examples(300)
@given(turns())
def test_law_7_responses_say_what_the_model_said(tokens: list[int]) -> None:
    """The other way round: of every text and call of the turn, Harmony has the same again."""
    turn = [
        parsed
        for parsed in hk.parse(tokens).turn
        if parsed.message.recipient or (parsed.text and parsed.message.channel != "other")
    ]
    messages = read_response(write_response(hk.parse(tokens), **HEADER))
    assert len(messages) == len(turn)
    for parsed, after in zip(turn, messages, strict=True):
        before = parsed.message
        assert (after.channel == "analysis") == (
            before.channel == "analysis" or before.recipient in RECIPIENTS_OF_ANALYSIS
        )
        if before.recipient is None:
            assert after.text == before.text
        elif before.recipient == "python":
            assert after.recipient == "python"
            assert after.text == before.text
        else:
            if parsed.is_whole:
                assert call_input(after.text) == call_input(before.text)
            else:  # of a call that was cut off, what can be the beginning of an object
                assert after.text == "{" or before.text.startswith(after.text)
            assert after.recipient in (before.recipient, f"functions.{before.recipient}")


RECIPIENTS_OF_ANALYSIS = {"python", "browser.search", "browser.open", "browser.find"}


# --- Law 7: requests ------------------------------------------------------------------------

NAMES = ["get_weather", "get-weather", "get weather", "web_search", "browser.open", "x.y"]
EFFORTS = ["low", "medium", "high"]
some_text = st.text(max_size=8)
text_blocks = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": some_text}), min_size=1, max_size=2
)
contents = some_text | text_blocks
tool_schemas = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(
            st.sampled_from("ab"), st.just({"type": "string"}), max_size=2
        ),
    }
)


@st.composite
def request_bodies(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    body: dict[str, Any] = {"model": "m", "max_tokens": draw(st.integers(1, 999))}
    optional = {
        "system": contents,
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "stop_sequences": st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3),
        "output_config": st.fixed_dictionaries(
            {},
            optional={
                "effort": st.sampled_from(EFFORTS),
                "format": st.fixed_dictionaries(
                    {"type": st.just("json_schema"), "schema": tool_schemas}
                ),
            },
        ),
    }
    for key, values in optional.items():
        if draw(st.booleans()):
            body[key] = draw(values)
    tools = [
        {"name": name, "description": draw(some_text), "input_schema": draw(tool_schemas)}
        for name in names
    ]
    server = draw(st.lists(st.sampled_from(["web_search", "code_execution"]), unique=True))
    dates = {"web_search": "20250305", "code_execution": "20250522"}
    tools += [
        {"type": f"{name}_{dates[name]}", "name": name} for name in server if name not in names
    ]
    if tools:
        body["tools"] = tools
    body["messages"] = draw(histories(names))
    return body


@st.composite
def histories(draw: Any, names: list[str]) -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": draw(contents)}]
    calls = 0
    for _ in range(draw(st.integers(0, 3))):
        content: list[dict[str, Any]] = []
        results = []
        for kind in draw(
            st.lists(st.sampled_from(["thinking", "text", "call", "code"]), max_size=4)
        ):
            if kind == "thinking":
                content.append({"type": "thinking", "thinking": draw(some_text), "signature": "s"})
            elif kind == "text":
                content.append({"type": "text", "text": draw(some_text)})
            elif kind == "code":
                calls += 1
                content += code_blocks(f"srvtoolu_x{calls}", draw(some_text), draw(some_text))
            elif names:
                calls += 1
                name = draw(st.sampled_from(names))
                block = {"type": "tool_use", "id": f"c{calls}", "name": name}
                content.append({**block, "input": draw(objects)})
                results.append(
                    {"type": "tool_result", "tool_use_id": f"c{calls}", "content": draw(contents)}
                )
        after = [*draw(st.permutations(results)), *draw(st.just([]) | text_blocks)]
        if content:
            messages.append({"role": "assistant", "content": content})
        messages.append({"role": "user", "content": after or draw(contents)})
    return messages


def code_blocks(call_id: str, code: str, output: str) -> list[dict[str, Any]]:
    use = {"type": "server_tool_use", "id": call_id, "name": "code_execution"}
    result = {"type": "code_execution_tool_result", "tool_use_id": call_id}
    printed = {"stdout": output, "stderr": "", "return_code": 0, "content": []}
    return [
        {**use, "input": {"code": code}},
        {**result, "content": {"type": "code_execution_result", **printed}},
    ]


def joined(content: Any) -> str:
    return content if isinstance(content, str) else "\n\n".join(b["text"] for b in content)


def said(body: dict[str, Any], rename: Any) -> list[Any]:
    """What a conversation says, whatever its ids and blocks are."""
    found: list[Any] = []
    calls: dict[str, int] = {}
    for message in body["messages"]:
        content = message["content"]
        if message["role"] == "user":
            text = [] if isinstance(content, str) else [b for b in content if b["type"] == "text"]
            results = [b for b in content if isinstance(b, dict) and b["type"] == "tool_result"]
            answers = [(calls[b["tool_use_id"]], joined(b["content"])) for b in results]
            found += [("result", *answer) for answer in sorted(answers)]
            if text or isinstance(content, str):
                found.append(("user", joined(text or content)))
            continue
        for block in content:
            if block["type"] in ("tool_use", "server_tool_use"):
                calls[block["id"]] = len(calls)
                name = block["name"]
                name = rename(name) if block["type"] == "tool_use" else name
                found.append((block["type"], name, block["input"]))
            elif block["type"] == "code_execution_tool_result":
                found.append(("printed", calls[block["tool_use_id"]], block["content"]["stdout"]))
            else:
                found.append((block["type"], block[block["type"]]))
    return found


def asked(body: dict[str, Any], rename: Any) -> dict[str, Any]:
    """What a request asks for beside its conversation."""
    config = body.get("output_config", {})
    return {
        "system": joined(body.get("system", "")),
        "tools": sorted(
            (
                {"description": "", **tool, "name": rename(tool["name"])}
                if "type" not in tool
                else tool
                for tool in body.get("tools", [])
            ),
            key=str,
        ),
        "effort": config.get("effort", "medium"),
        "format": config.get("format"),
        **{key: body.get(key) for key in ("max_tokens", "temperature", "top_p", "stop_sequences")},
    }


@examples(400)
@given(request_bodies())
def test_law_7_requests_come_back(body: dict[str, Any]) -> None:
    check_request(body)
    request = read_request(body, current_date="2025-06-28")
    written = write_request(
        request.messages, model="m", max_tokens=body["max_tokens"], sampling=request.sampling
    )
    check_request(written)
    rename = request.names.to_harmony
    assert said(written, str) == said(body, rename)
    assert asked(written, str) == asked(body, rename)
    # And once more nothing changes.
    again = read_request(written, current_date="2025-06-28")
    assert again.messages == request.messages
    assert again.sampling == request.sampling
    # The conversation is what the model was trained on, and says what the request says.
    conversation = [m for m in request.messages if m.role in ("user", "assistant", "tool")]
    tokens = hk.render(conversation, next_role=None, drop_analysis="never")
    parsed = hk.parse(tokens, role=None, strict=True)
    assert list(parsed.messages) == conversation


def read(messages: list[Any], **fields: Any) -> Any:
    options = {key: fields.pop(key) for key in ("unsupported", "current_date") if key in fields}
    return read_request({"messages": messages, **fields}, **options)


HI = {"role": "user", "content": "Hi"}
WEATHER = {
    "name": "get_weather",
    "description": "Weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def use(call_id: str, name: str = "get_weather", **value: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": value}


def answer(call_id: str, content: Any = "ok", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def test_a_request_becomes_a_prompt() -> None:
    request = read(
        [
            HI,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "text", "text": "Let me see."},
                    use("a", city="Zürich"),
                    use("b", city="Bern"),
                ],
            },
            {"role": "user", "content": [answer("b", "rain"), answer("a", "sun", is_error=True)]},
        ],
        system="Be kind.",
        tools=[WEATHER, {"name": "now", "input_schema": {"type": "object"}}],
        current_date="2025-06-28",
    )
    text = render_text(request.prompt())
    assert "# Instructions\n\nBe kind." in text
    assert "type get_weather = (_: {" in text
    assert "type now = () => any;" in text
    assert text.endswith(
        "<|start|>user<|message|>Hi<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Let me see.<|end|>"
        "<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>"
        '{"city": "Zürich"}<|call|>'
        "<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>"
        '{"city": "Bern"}<|call|>'
        "<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>"
        "Error: sun<|end|>"
        "<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>rain<|end|>"
        "<|start|>assistant"
    )


def test_text_is_an_answer_where_no_call_follows() -> None:
    content = [use("a"), {"type": "text", "text": "Done."}]
    request = read([HI, {"role": "assistant", "content": content}, HI])
    assert [m.channel for m in request.messages[-3:-1]] == ["commentary", "final"]
    request = read([HI, {"role": "assistant", "content": "Done."}, HI])
    assert request.messages[-2] == Message(Role.ASSISTANT, "Done.", channel="final")


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, "high"),
        ({"thinking": {"type": "disabled"}}, "low"),
        ({"thinking": {"type": "adaptive"}}, "medium"),
        ({"output_config": {"effort": "max"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
    ],
)
def test_effort(fields: Any, effort: str) -> None:
    request = read([HI], **fields)
    assert request.messages[0].content.reasoning_effort == effort
    paths = {note.path for note in request.notes}
    assert ("thinking.budget_tokens" in paths) == ("budget_tokens" in fields.get("thinking", {}))


@pytest.mark.parametrize(
    ("choice", "mode", "names", "parallel"),
    [
        ({"type": "auto"}, "auto", (), True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", (), False),
        ({"type": "tool", "name": "get-x"}, "required", ("functions.get_x",), True),
        (
            {"type": "tool", "name": "web_search"},
            "required",
            ("browser.search", "browser.open", "browser.find"),
            True,
        ),
        ({"type": "none"}, "none", (), True),
    ],
)
def test_tool_choice(choice: Any, mode: str, names: tuple[str, ...], parallel: bool) -> None:
    tools = [
        {"name": "get-x", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
    ]
    request = read([HI], tools=tools, tool_choice=choice)
    assert request.tool_choice == hk.grammar.ToolChoice(mode, names)
    assert request.parallel_tool_calls is parallel
    assert bool(request.tools) == (mode != "none")
    assert ("get_x" in render_text(request.prompt())) == (mode != "none")


def test_fields_of_no_consequence_are_noted() -> None:
    cached = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    request = read([{"role": "user", "content": [cached]}], metadata={"user_id": "u"}, top_k=0)
    assert {n.path for n in request.notes} == {"metadata", "messages[0].content[0].cache_control"}


def test_results_of_searches() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    messages = [
        HI,
        {"role": "assistant", "content": [search]},
        {"role": "user", "content": [answer("s", "found")]},
    ]
    request = read(messages)
    call, result = request.messages[-2:]
    assert (call.recipient, call.channel, call.text) == (
        "browser.search",
        "analysis",
        '{"query": "x"}',
    )
    assert (result.name, result.channel, result.text) == ("browser.search", "analysis", "found")
    written = write_request(request.messages, model="m", max_tokens=1)
    assert said(written, str) == said({"messages": messages}, str)


def test_results_of_calls_at_once_stand_in_one_message() -> None:
    calls = {"role": "assistant", "content": [use("a"), use("b")]}
    results = {"role": "user", "content": [answer("a", "1"), answer("b", "2")]}
    written = write_request(read([HI, calls, results]).messages, model="m", max_tokens=1)
    assert [message["role"] for message in written["messages"]] == ["user", "assistant", "user"]
    blocks = written["messages"][-1]["content"]
    assert [block["content"] for block in blocks] == ["1", "2"]


def test_instructions_in_between_stay_there() -> None:
    messages = [HI, {"role": "system", "content": [{"type": "text", "text": "New rules."}]}, HI]
    written = write_request(read(messages, system="Rules.").messages, model="m", max_tokens=1)
    check_request(written)
    assert written["system"] == "Rules."
    assert written["messages"][1] == messages[1]


def test_functions_and_built_in_tools_of_one_name() -> None:
    assistant = {"role": "assistant", "content": [use("a", "browser.open"), use("b", "python")]}
    declared = {"name": "browser.open", "input_schema": {"type": "object"}}
    built_in = read([HI, assistant, HI]).messages[-3:-1]
    assert [m.recipient for m in built_in] == ["browser.open", "functions.python"]
    own = read([HI, assistant, HI], tools=[declared]).messages[-3:-1]
    assert [m.recipient for m in own] == ["functions.browser_open", "functions.python"]


def test_names_called_before_do_not_take_those_declared() -> None:
    assistant = {"role": "assistant", "content": [use("a", "get-weather"), use("b")]}
    messages = read([HI, assistant, HI], tools=[WEATHER]).messages
    recipients = [message.recipient for message in messages[-3:-1]]
    assert recipients == ["functions.get_weather_2", "functions.get_weather"]


def test_settings_of_tools_are_noted() -> None:
    tool = {**WEATHER, "defer_loading": True, "eager_input_streaming": True}
    notes = read([HI], tools=[tool]).notes
    assert {note.path for note in notes} == {
        "tools[0].defer_loading",
        "tools[0].eager_input_streaming",
    }


def test_the_other_settings() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    request = read(
        [HI], model="m", stream=True, output_format={"type": "json_schema", "schema": schema}
    )
    assert request.response_format == hk.wire.ResponseFormat(RESPONSE_FORMAT, schema)
    assert (request.model, request.stream, request.include_usage) == ("m", True, True)
    developer = read([HI, {"role": "system", "content": "New rules."}, HI]).messages[-2]
    assert developer.content.instructions == "New rules."


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
LOST = [
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
    ({"messages": [HI], "container": "c"}, "container"),
    ({"messages": [HI], "top_k": 5}, "top_k"),
    ({"messages": [HI], "mcp_servers": []}, "mcp_servers"),
    ({"messages": [HI], "tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
    (
        {"messages": [HI], "tools": [{**WEATHER, "input_examples": [{}]}]},
        "tools[0].input_examples",
    ),
    (
        {"messages": [HI], "tools": [{**WEATHER, "allowed_callers": ["code_execution_20250825"]}]},
        "tools[0].allowed_callers",
    ),
    (
        {"messages": [HI], "thinking": {"type": "adaptive", "display": "omitted"}},
        "thinking.display",
    ),
    ({"messages": [HI, {"role": "assistant", "content": "The answer is"}]}, "messages[1]"),
    (
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
                HI,
            ]
        },
        "messages[1].content[0]",
    ),
    (
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [use("a")]},
                {"role": "user", "content": [answer("a", [IMAGE])]},
            ]
        },
        "messages[2].content[0].content[0]",
    ),
]


@pytest.mark.parametrize(("body", "path"), LOST)
def test_what_cannot_be_carried_is_refused_or_noted(body: Any, path: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(body)
    assert caught.value.path == path
    assert path in {note.path for note in read_request(body, unsupported="note").notes}


BAD = [
    (None, ""),
    ({}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [answer("nope")]}]},
        "messages[0].content[0].tool_use_id",
    ),
    (
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [use("a")]},
                {"role": "user", "content": [answer("a"), answer("a")]},
            ]
        },
        "messages[2].content[1].tool_use_id",
    ),
    (
        {"messages": [HI, {"role": "assistant", "content": [{**use("a"), "input": "x"}]}]},
        "messages[1].content[0].input",
    ),
    ({"messages": [HI], "system": 1}, "system"),
    ({"messages": [HI], "max_tokens": 0}, "max_tokens"),
    ({"messages": [HI], "max_tokens": "9"}, "max_tokens"),
    ({"messages": [HI], "stop_sequences": [1]}, "stop_sequences[0]"),
    ({"messages": [HI], "tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"messages": [HI], "tools": [WEATHER, WEATHER]}, "tools[1].name"),
    ({"messages": [HI], "tool_choice": {}}, "tool_choice.type"),
    ({"messages": [HI], "tool_choice": {"type": "tool", "name": "f"}}, "tool_choice.name"),
    ({"messages": [HI], "thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"messages": [HI], "output_config": {"effort": "much"}}, "output_config.effort"),
    ({"messages": [HI], "output_config": {"format": {"type": "x"}}}, "output_config.format.type"),
]


@pytest.mark.parametrize("unsupported", ["error", "note"])
@pytest.mark.parametrize(("body", "path"), BAD)
def test_bad_requests(body: Any, path: str, unsupported: Any) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(body, unsupported=unsupported)
    assert caught.value.path == path


def test_an_unknown_call_is_named() -> None:
    with pytest.raises(RequestError, match="'nope'"):
        read([{"role": "user", "content": [answer("nope")]}])


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ([hk.user("Hi", name="Ann")], "messages[0].name"),
        ([hk.assistant("Hi", channel="other")], "messages[0].channel"),
        ([Message(Role.TOOL, "x", name="functions.f")], "messages[0].name"),
        ([hk.system(model_identity="You are Bob.")], "messages[0].content.model_identity"),
        ([hk.developer(tools=[hk.ToolNamespace("my")])], "messages[0].content.tools"),
    ],
)
def test_what_the_api_cannot_carry_is_refused(messages: list[Message], path: str) -> None:
    with pytest.raises(RequestError) as caught:
        write_request(messages, model="m", max_tokens=1)
    assert caught.value.path == path


def test_sampling_that_the_api_has_not_is_refused() -> None:
    for field in ("seed", "frequency_penalty", "presence_penalty"):
        with pytest.raises(RequestError) as caught:
            write_request([], model="m", max_tokens=1, sampling=hk.SamplingParams(**{field: 1}))
        assert caught.value.path == f"sampling.{field}"


# --- Responses ------------------------------------------------------------------------------


def response(text: str, **options: Any) -> dict[str, Any]:
    found = write_response(hk.parse(hk.encode_with_special(text)), **HEADER, **options)
    check_message(found)
    return found


CALL = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"


def test_a_response() -> None:
    found = response(
        "<|channel|>analysis<|message|>Hm.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Let me see.<|end|>"
        f'<|start|>assistant{CALL}{{"city": "SF"}}<|call|>',
        request=weather_request(),
        prompt_tokens=3,
    )
    assert found["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_1_0", "name": "get-weather", "input": {"city": "SF"}},
    ]
    assert (found["stop_reason"], found["stop_sequence"]) == ("tool_use", None)
    assert found["usage"]["input_tokens"] == 3
    assert 0 < found["usage"]["output_tokens_details"]["thinking_tokens"] < 10
    assert found["usage"]["output_tokens"] > 20


@pytest.mark.parametrize(
    ("text", "finish_reason", "stop_reason", "stop_sequence"),
    [
        ("<|channel|>final<|message|>Hi<|return|>", None, "end_turn", None),
        ("<|channel|>final<|message|>Hi<|return|>", "stop", "end_turn", None),
        ("<|channel|>final<|message|>Hi<|return|>", "length", "end_turn", None),
        ("<|channel|>final<|message|>Hi", None, "max_tokens", None),
        ("<|channel|>final<|message|>Hi", "length", "max_tokens", None),
        ("<|channel|>final<|message|>Hi", "stop", "stop_sequence", None),
        ("<|channel|>final<|message|>Hi HALT", "stop", "stop_sequence", "HALT"),
        (CALL + '{"city', None, "max_tokens", None),
        (CALL + "{}<|call|>", "stop", "tool_use", None),
        ("<|channel|>analysis to=python code<|message|>1<|call|>", None, "pause_turn", None),
        ("", None, "max_tokens", None),
    ],
)
def test_why_it_stopped(
    text: str, finish_reason: str | None, stop_reason: str, stop_sequence: str | None
) -> None:
    found = response(text, request=weather_request(), finish_reason=finish_reason)
    assert (found["stop_reason"], found["stop_sequence"]) == (stop_reason, stop_sequence)


def test_built_in_tools() -> None:
    found = response(
        "<|channel|>analysis to=python code<|message|>print('é')<|call|><|start|>assistant"
        '<|channel|>analysis to=browser.search code<|message|>{"query": "x"}<|end|>'
        '<|start|>assistant<|channel|>analysis to=browser.open code<|message|>{"id": 1}<|call|>'
    )
    assert [(b["type"], b["id"], b["name"], b["input"]) for b in found["content"]] == [
        ("server_tool_use", "srvtoolu_1_0", "code_execution", {"code": "print('é')"}),
        ("server_tool_use", "srvtoolu_1_1", "web_search", {"query": "x"}),
        ("tool_use", "toolu_1_2", "browser.open", {"id": 1}),
    ]


def test_repairs() -> None:
    text = CALL + "{'city': 'SF',}<|call|>"
    written = "{'city': 'SF',}"
    assert response(text)["content"][0]["input"] == {INVALID_JSON: written}
    repaired = response(text, request=weather_request(), repair=True)["content"][0]
    assert (repaired["name"], repaired["input"]) == ("get-weather", {"city": "SF"})
    events = streamed(hk.encode_with_special(text), [], weather_request(), repair=True)
    sent = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert sent == [{"type": "input_json_delta", "partial_json": '{"city": "SF"}'}]
    cut_off = response(CALL + '{"city": "S', repair=True)["content"][0]["input"]
    assert cut_off == {TRUNCATED_JSON: '{"city": "S'}


def test_hidden_and_empty_messages_are_not_shown() -> None:
    found = response(
        "<|channel|>secret<|message|>x<|end|><|start|>assistant<|channel|>analysis<|message|>"
        "<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>"
    )
    assert found["content"] == [{"type": "text", "text": "Hi"}]


def test_responses_that_cannot_be_read() -> None:
    for content, path in (
        ([{"type": "redacted_thinking", "data": "x"}], "content[0]"),
        ([{"type": "web_search_tool_result", "tool_use_id": "x", "content": []}], "content[0]"),
        ([{"type": "text"}], "content[0].text"),
        (None, "content"),
    ):
        with pytest.raises(RequestError) as caught:
            read_response({"role": "assistant", "content": content})
        assert caught.value.path == path


# --- Streams --------------------------------------------------------------------------------


def test_failures() -> None:
    writer = StreamEncoder(**HEADER)
    events = writer.start() + writer.fail("too many", code="overloaded_error")
    with pytest.raises(HarmonyError, match="overloaded_error: too many"):
        accumulate(events)


def test_a_stream_that_breaks_off_keeps_what_came() -> None:
    events = streamed(COMPLETION, [1] * len(COMPLETION))
    cut = max(i for i, e in enumerate(events) if e["type"] == "content_block_stop")
    found = accumulate(events[:cut])
    assert found["content"] == write_response(hk.parse(COMPLETION), **HEADER)["content"]
    assert found["stop_reason"] is None


def test_pings_and_citations_of_others_are_read() -> None:
    start = StreamEncoder(**HEADER).start()
    text = {"type": "text", "text": "a", "citations": None}
    deltas = [{"type": "text_delta", "text": "b"}, {"type": "citations_delta", "citation": {}}]
    events = [
        {"type": "ping"},
        *start,
        {"type": "content_block_start", "index": 0, "content_block": text},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    assert accumulate(events)["content"] == [{"type": "text", "text": "ab", "citations": [{}]}]


def test_streams_that_are_none() -> None:
    start = StreamEncoder(**HEADER).start()
    for events, path in (
        ([], "chunks"),
        ([{"type": "message_stop"}], "chunks[0].type"),
        ([*start, {"type": "content_block_stop", "index": 0}], "chunks[1].index"),
        ([*start, {"type": "content_block_stop"}], "chunks[1].index"),
    ):
        with pytest.raises(RequestError) as caught:
            accumulate(events)
        assert caught.value.path == path


# --- The real client ------------------------------------------------------------------------

COMPLETION = hk.encode_with_special(
    "<|channel|>analysis<|message|>They ask about Zürich.<|end|>"
    "<|start|>assistant<|channel|>commentary<|message|>Let me see. 😀<|end|>"
    f'<|start|>assistant{CALL}{{"city": "Zürich", "days": [1, 2]}}<|end|>'
    f"<|start|>assistant{CALL}{{'city': 'Bern'}}<|call|>"
)


class Handler(BaseHTTPRequestHandler):
    """Answers every request with `COMPLETION`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        request = read_request(body)
        tokens = len(request.prompt())
        options = {"request": request, "prompt_tokens": tokens}
        self.send_response(200)
        if not request.stream:
            message = write_response(hk.parse(COMPLETION), **HEADER, **options)
            data = json.dumps(message).encode()
            self.send_header("content-type", "application/json")
        else:
            parser, writer = hk.Parser(), StreamEncoder(**HEADER, **options)
            events = writer.start()
            for token in COMPLETION:
                events += writer.feed(parser.feed(token))
            events += writer.feed(parser.close()) + writer.close(parser.result())
            lines = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events]
            data = "".join(lines).encode()
            self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_real_client_reads_our_stream(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asking: dict[str, Any] = {
        "model": "gpt-oss-20b",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "What is the weather in Zürich?"}],
        "tools": [{**WEATHER, "name": "get-weather"}],
    }
    url = f"http://127.0.0.1:{server.server_port}"
    with anthropic.Anthropic(api_key="x", base_url=url, max_retries=0, timeout=10) as client:
        with client.messages.stream(**asking) as stream:
            text = "".join(stream.text_stream)
            streamed_message = stream.get_final_message()
        whole = client.messages.create(**asking)
        # What the client says next: its message as it is, and the results.
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
            for block in whole.content
            if block.type == "tool_use"
        ]
        asking["messages"] += [
            {"role": "assistant", "content": whole.content},
            {"role": "user", "content": results},
        ]
        client.messages.create(**asking)
    request = read_request({**asking, "messages": asking["messages"][:1]})
    options = {"request": request, "prompt_tokens": len(request.prompt())}
    ours = write_response(hk.parse(COMPLETION), **HEADER, **options)
    assert text == "Let me see. 😀"
    assert whole.to_dict() == ours
    assert streamed_message.to_dict() == ours
    messages = read_request(server.bodies[-1]).messages[-6:]
    names = [message.name for message in messages if message.role is Role.TOOL]
    assert names == ["functions.get_weather"] * 2
    # The model sees its own words again, faults included.
    assert messages[-3].text == "{'city': 'Bern'}"
