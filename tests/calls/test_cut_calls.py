"""Law 10: a call that was cut off is never run, whatever it passed through."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from examples import examples
from harmony_backends.function import FunctionBackend
from hypothesis import given
from hypothesis import strategies as st

import harmony_kit as hk
from harmony_kit.cli._chat_said import Said
from harmony_kit.cli._chat_transcript import save_transcript, saved_transcript
from harmony_kit.convert import anthropic, chat_completions, responses
from harmony_kit.convert._store import MemoryStore, SQLiteStore

RAN = []


def delete_files(path: str, depth: int = 1, names: list[str] | None = None) -> str:
    """Delete files."""
    RAN.append((path, depth, names))
    return "deleted"


TOOLS = [delete_files]
ARGUMENTS = [
    '{"path": "/srv/data/old/tmp"}',
    '{"path":"/srv/data/\\u00e9té 渡し船","depth":12,"names":["a","b{"]}',
    "{'path': '/srv/it is/old', 'depth': 3}",
    '{ "names": [ "x" ], "path": "/srv/\\"quoted\\"/old" }',
    '{"arguments": {"path": "/srv/data/old/tmp"}}',
    '"{\\"path\\": \\"/srv/data/old\\"}"',
]
HEADERS = [
    "<|channel|>commentary to=functions.delete_files <|constrain|>json<|message|>",
    " to=functions.delete_files<|channel|>commentary json<|message|>",
    "<|channel|>analysis<|message|>I clean up.<|end|><|start|>assistant"
    "<|channel|>commentary to=functions.delete_files<|message|>",
]
CONVERSATION = [hk.system(), hk.developer(tools=TOOLS), hk.user("Clean up.")]


def cut_completions():
    """Every way to cut a call before the last brace of its arguments."""
    for header in HEADERS:
        for arguments in ARGUMENTS:
            text = arguments[: max(arguments.rfind("}"), arguments.rfind('"'))]
            head = hk.encode_with_special(header)
            body = hk.encode(text)
            for length in range(len(body) + 1):
                yield pytest.param([*head, *body[:length]], id=f"{header}{arguments}{length}")


CUT = [case.values[0] for case in cut_completions()]


def runnable(calls):
    return [call for call in calls if call.runnable]


def check_messages(messages):
    """No call of the messages may be run, by the loop least of all."""
    messages = list(messages)
    for tools in (TOOLS, None, ["delete_files"]):
        assert not runnable(hk.tool_calls(messages, tools))
    before = len(RAN)
    hk.run([*CONVERSATION, *messages], answering(), tools=TOOLS)
    assert len(RAN) == before


DONE = hk.encode_with_special("<|channel|>final<|message|>Done.<|return|>")


def answering():
    return FunctionBackend(lambda prompt, sampling: DONE)


def cutting(tokens):
    """A backend whose first completion is cut off at its limit of tokens."""
    completions = iter([tokens])

    def generate(prompt, sampling):
        return next(
            completions, hk.encode_with_special("<|channel|>final<|message|>Done.<|return|>")
        )

    return FunctionBackend(generate)


def test_the_cases_are_many():
    assert len(CUT) > 150


@pytest.mark.parametrize("end", [[], hk.encode_with_special("<|end|>")], ids=["cut", "ended"])
def test_law_10_in_what_was_parsed(end):
    for tokens in CUT:
        result = hk.parse([*tokens, *end])
        for door in (
            result,
            result.turn,
            result.parsed[:],
            list(result.parsed),
            result.messages,
            result.messages[:],
            (*result.messages, hk.assistant("x")),
            [parsed.message for parsed in result.calls],
            pickle.loads(pickle.dumps(result.messages)),
            copy.deepcopy(result.messages),
            pickle.loads(pickle.dumps(result)),
        ):
            assert not runnable(hk.tool_calls(door, TOOLS))
            assert not runnable(hk.tool_calls(door))
        assert not any(message.is_call for message in result.history())
        assert not any(message.is_call for message in result.history(finish_reason="stop"))
        assert not runnable(stream_of(tokens + end))


def stream_of(tokens):
    parser, stream = hk.Parser(), hk.tools.ToolCallStream(TOOLS)
    events = stream.feed([*parser.feed(tokens), *parser.close()])
    return [event.call for event in events if isinstance(event, hk.calls.CallEnded)]


@pytest.mark.parametrize("with_tokens", [False, True])
def test_law_10_through_json(with_tokens, tmp_path):
    for number, tokens in enumerate(CUT):
        messages = hk.parse(tokens).messages
        text = hk.messages_to_json(messages, tokens=with_tokens)
        again = hk.messages_from_json(text)
        assert not runnable(hk.tool_calls(again, TOOLS))
        state = hk.loop.RunState((*CONVERSATION, *messages))
        assert not runnable(
            hk.tool_calls(hk.loop.RunState.from_json(state.to_json()).messages, TOOLS)
        )
        if number % 20 == 0:
            check_messages(again)
            path = Path(tmp_path, f"{number}.json")
            save_transcript(path, [*CONVERSATION, *messages])
            saved, _ = saved_transcript(str(path))
            assert not runnable(hk.tool_calls(saved, TOOLS))


def test_law_10_in_runs():
    """The first run is cut off; neither its conversation nor its state has the call."""
    for tokens in CUT[::7]:
        before = len(RAN)
        backend = cutting(tokens)
        reply = hk.run(
            CONVERSATION, backend, tools=TOOLS, sampling=hk.SamplingParams(max_tokens=len(tokens))
        )
        assert reply.outcome == "length"
        for messages in (reply.messages, reply.conversation, reply.state.messages, reply.history()):
            assert not any(message.is_call for message in messages)
        saved = hk.loop.RunState.from_json(reply.state.to_json())
        for going_on in (reply.conversation, reply.state, saved):
            assert hk.run(going_on, answering(), tools=TOOLS).outcome == "final"
        assert len(RAN) == before


def test_law_10_through_messages_that_are_put_together_by_hand():
    for tokens in CUT[::9]:
        check_messages(hk.parse(tokens).messages)


# --- The APIs -------------------------------------------------------------------------------

CHAT = {
    "model": "gpt-oss",
    "messages": [{"role": "user", "content": "Clean up."}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "delete_files",
                "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
            },
        }
    ],
}
RESPONSES = {
    "model": "gpt-oss",
    "input": "Clean up.",
    "tools": [
        {
            "type": "function",
            "name": "delete_files",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        }
    ],
}
ANTHROPIC = {
    "model": "gpt-oss",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Clean up."}],
    "tools": [
        {
            "name": "delete_files",
            "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
        }
    ],
}


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def streamed(writer, tokens, **options):
    parser = hk.Parser()
    events = writer.start()
    for token in tokens:
        events += writer.feed(parser.feed(token))
    events += writer.feed(parser.close())
    return events + writer.close(parser.result(), **options)


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("finish_reason", ["length", None])
def test_law_10_in_chat_completions(repair, finish_reason):
    request = chat_completions.read_request(CHAT)
    meta = {"id": "r", "created": 0, "model": "m", "request": request, "repair": repair}
    for tokens in CUT:
        result = hk.parse(tokens)
        whole = chat_completions.write_response(result, **meta, finish_reason=finish_reason)
        writer = chat_completions.StreamEncoder(**meta)
        folded = chat_completions.accumulate(streamed(writer, tokens, finish_reason=finish_reason))
        for response in (whole, folded):
            (choice,) = response["choices"]
            for call in choice["message"].get("tool_calls", ()):
                assert not is_json(call["function"]["arguments"])
            assert choice["finish_reason"] == "length"
            read = chat_completions.read_response(response)
            assert not runnable(hk.tool_calls(read, TOOLS))
            body = {"messages": [*CHAT["messages"], choice["message"]], "tools": CHAT["tools"]}
            assert not runnable(hk.tool_calls(chat_completions.read_request(body).messages, TOOLS))


@pytest.mark.parametrize("repair", [False, True])
def test_law_10_in_responses(repair, tmp_path):
    request = responses.read_request(RESPONSES)
    meta = {"id": "resp_1", "created": 0, "model": "m", "request": request, "repair": repair}
    stores = [MemoryStore(), SQLiteStore(tmp_path / "store.db")]
    for tokens in CUT[::3]:
        result = hk.parse(tokens)
        whole = responses.write_response(result, **meta, finish_reason="length")
        writer = responses.StreamEncoder(**meta)
        folded = responses.accumulate(streamed(writer, tokens, finish_reason="length"))
        for response in (whole, folded):
            calls = [item for item in response["output"] if item["type"] == "function_call"]
            assert not any(is_json(call["arguments"]) for call in calls)
            assert all(call["status"] == "incomplete" for call in calls)
            read = responses.read_response(response)
            assert not runnable(hk.tool_calls(read, TOOLS))
        for store in stores:
            store.put("resp_1", responses.stored_response(request, result, id="resp_1"))
            body = {**RESPONSES, "previous_response_id": "resp_1"}
            following = responses.read_request(body, store=store)
            assert not any(message.is_call for message in following.messages)
    stores[1].close()


@pytest.mark.parametrize("repair", [False, True])
def test_law_10_in_anthropic_messages(repair):
    request = anthropic.read_request(ANTHROPIC)
    for tokens in CUT:
        result = hk.parse(tokens)
        meta = {"id": "msg_1", "model": "m", "request": request, "repair": repair}
        whole = anthropic.write_response(result, **meta, finish_reason="length")
        events = streamed(anthropic.StreamEncoder(**meta), tokens, finish_reason="length")
        pieces = [
            event["delta"]["partial_json"]
            for event in events
            if event.get("delta", {}).get("type") == "input_json_delta"
        ]
        assert not is_json("".join(pieces))
        for response in (whole, anthropic.accumulate(events)):
            for block in response["content"]:
                if block["type"] == "tool_use":
                    assert block["input"].keys() == {anthropic.TRUNCATED_JSON}
            assert response["stop_reason"] == "max_tokens"
            assert not runnable(hk.tool_calls(anthropic.read_response(response), TOOLS))


# --- Calls that take text -------------------------------------------------------------------


@examples(100)
@given(
    st.sampled_from(["print(1)", "import os\nos.remove('/srv/data/old')", "{1: 2}", '[1, "a"]']),
    st.integers(0, 20),
)
def test_law_10_for_code(code, length):
    """Code has no end of its own: only `<|call|>` says that it is whole."""
    head = hk.encode_with_special("<|channel|>analysis to=python code<|message|>")
    tokens = [*head, *hk.encode(code)[:length]]
    for end in ("", "<|end|>", "<|return|>"):
        result = hk.parse([*tokens, *hk.encode_with_special(end)])
        for door in (result, result.turn, result.messages):
            assert not runnable(hk.tool_calls(door, [hk.PYTHON]))
        again = hk.messages_from_json(hk.messages_to_json(result.messages, tokens=True))
        assert not runnable(hk.tool_calls(again, [hk.PYTHON]))
    whole = hk.parse([*tokens, *hk.encode_with_special("<|call|>")])
    assert runnable(hk.tool_calls(whole, [hk.PYTHON]))
    assert runnable(hk.tool_calls(whole.messages, [hk.PYTHON]))  # its tokens say so
    kept = hk.messages_from_json(hk.messages_to_json(whole.messages, tokens=True))
    assert runnable(hk.tool_calls(kept, [hk.PYTHON]))
    forgotten = hk.messages_from_json(hk.messages_to_json(whole.messages))
    assert not runnable(hk.tool_calls(forgotten, [hk.PYTHON]))


# --- Calls that are whole -------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("end", ["<|call|>", "<|end|>", "<|return|>", ""])
def test_a_closed_value_is_whole_however_it_ends(header, arguments, end):
    result = hk.parse(hk.encode_with_special(header + arguments + end))
    for door in (result, result.turn, result.messages, result.history()):
        (call,) = hk.tool_calls(door, TOOLS)
        assert call.runnable, call.status


def test_an_unclosed_value_is_whole_only_where_call_closed_it():
    text = HEADERS[0] + '{"path": "/srv'
    for end, status in (("<|call|>", "repaired"), ("<|end|>", "truncated"), ("", "truncated")):
        result = hk.parse(hk.encode_with_special(text + end))
        (call,) = hk.tool_calls(result, TOOLS)
        assert call.status == status
        if end == "<|call|>":
            assert [found.code for found in call.problems] == ["truncated_json"]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"path": "a"}{"path',
        '{"path": "a"}{"path": "b"}{',
        '{"path": "a"} "x',
        '{"path": "a"}"',
        '[{"path": "a"}',
        '```json\n[{"path": "a"}',
        "{'path': 'it's', 'names': {'c': '}'}",
        '{"path": [1, "/srv',
        "12",
        "",
        "{",
    ],
)
@pytest.mark.parametrize("end", ["", "<|end|>", "<|return|>", "<|start|>assistant"])
def test_what_may_go_on_is_not_whole(arguments, end):
    """Neither run nor kept, and the two go together."""
    before = len(RAN)
    tokens = [*hk.encode_with_special(HEADERS[0]), *hk.encode(arguments)]
    result = hk.parse([*tokens, *hk.encode_with_special(end)])
    for door in (result, result.messages):
        assert [call.status for call in hk.tool_calls(door, TOOLS)] == ["truncated"]
        assert [call.status for call in hk.tool_calls(door, [])] == ["truncated"]
    reply = hk.run(CONVERSATION, cutting([*tokens, *hk.encode_with_special(end)]), tools=TOOLS)
    assert len(RAN) == before
    assert not any(message.role == "tool" for message in reply.messages if not end)
    assert len([m for m in reply.messages if m.is_call]) == len(
        [m for m in reply.messages if m.role == "tool"]
    )


def test_a_whole_envelope_with_a_cut_value_is_not_run():
    before = len(RAN)
    text = HEADERS[0] + '{"arguments": "{\\"path\\": \\"/srv"}<|end|>'
    reply = hk.run(CONVERSATION, cutting(hk.encode_with_special(text)), tools=TOOLS)
    assert len(RAN) == before
    assert [m.role for m in reply.messages] == ["assistant", "tool", "assistant"]


def test_a_call_that_broke_off_is_made_again_a_limited_number_of_times():
    broken = [*CUT[5], *hk.encode_with_special("<|end|>")]
    prompts = []

    def generate(prompt, sampling):
        prompts.append(list(prompt))
        return broken

    reply = hk.run(CONVERSATION, FunctionBackend(generate), tools=TOOLS, max_retries=2)
    assert reply.outcome == "retry_limit"
    assert len(prompts) == 3
    assert reply.messages == ()


def test_an_engine_may_keep_the_stop_token_to_itself():
    ran = []

    class Notebook:
        is_builtin = True
        namespace = hk.PYTHON

        @property
        def tools(self):
            return {"python": hk.Tool("python", function=ran.append)}

        async def aclose(self):
            pass

    code = hk.encode_with_special("<|channel|>analysis to=python code<|message|>print(1)")
    conversation = [hk.system(tools=[hk.PYTHON]), hk.user("Print.")]
    completions = iter([code, DONE])
    backend = FunctionBackend(lambda prompt, sampling: next(completions))
    assert hk.run(conversation, backend, tools=[Notebook()]).outcome == "final"
    assert ran == ["print(1)"]
    completions = iter([code, DONE])
    sampling = hk.SamplingParams(stop=("1)",))  # which may have cut the code
    hk.run(conversation, backend, tools=[Notebook()], sampling=sampling)
    assert ran == ["print(1)"]


def test_a_call_whose_tokens_are_not_kept_is_still_known_to_be_closed():
    """Its framing was repaired, and `<|call|>` closed it: it can be answered later."""
    tokens = hk.encode_with_special(
        "<|channel|>analysis to=python<|constrain|>code<|message|>print(1)<|call|>"
    )
    result = hk.parse(tokens)
    assert result.problems
    (message,) = result.history()
    assert message.tokens is None
    for same in (
        message,
        pickle.loads(pickle.dumps(message)),
        copy.deepcopy(message),
        hk.convert.message_from_dict(hk.convert.message_to_dict(message, tokens=True)),
        hk.loop.RunState.from_json(hk.loop.RunState((message,)).to_json()).messages[0],
    ):
        assert runnable(hk.tool_calls([same], [hk.PYTHON]))
    forged = {**hk.convert.message_to_dict(hk.assistant("x")), "terminator": "<|call|>"}
    with pytest.raises(hk.errors.InvalidMessageError, match="terminator"):
        hk.convert.message_from_dict(forged)


def test_text_in_brackets_is_no_value_where_code_stands_around_it():
    code = "x = [1, 2]\nimport shutil; shutil.rmtree('/srv"
    head = "<|start|>assistant<|channel|>analysis to=python code<|message|>"
    messages = hk.parse(hk.encode_with_special(head + code), role=None).messages
    assert not runnable(hk.tool_calls(messages, [hk.PYTHON]))
    completion = hk.parse(hk.encode_with_special(head[len("<|start|>assistant") :] + code))
    assert completion.history() == ()


def test_a_chat_that_is_stopped_keeps_no_call_that_broke_off():
    broken = [*CUT[5], *hk.encode_with_special("<|end|><|start|>assistant")]
    broken += hk.encode_with_special("<|channel|>analysis<|message|>Hm.<|end|>")
    said = Said()
    for event in hk.stream(CONVERSATION, cutting(broken), tools=TOOLS):
        said.take(event)
        if isinstance(event, hk.MessageEnded):
            break
    assert not any(message.is_call for message in said.messages("stopped"))


def test_a_broken_call_is_incomplete_in_responses():
    request = responses.read_request(RESPONSES)
    tokens = [*CUT[5], *hk.encode_with_special("<|end|>")]
    meta = {"id": "resp_1", "created": 0, "model": "m", "request": request}
    whole = responses.write_response(hk.parse(tokens), **meta, finish_reason="stop")
    folded = responses.accumulate(
        streamed(responses.StreamEncoder(**meta), tokens, finish_reason="stop")
    )
    for response in (whole, folded):
        assert [item["status"] for item in response["output"]] == ["incomplete"]
