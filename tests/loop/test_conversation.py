"""The loop over the replay backend, and recordings."""

import asyncio
import json

import pytest
from harmony_backends.recording import (
    Exchange,
    RecordingBackend,
    read_recording,
    shipped_recordings,
)
from harmony_backends.replay import PromptMismatchError, ReplayBackend
from scripted_model import Scripted, call, final, get_weather

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CALL, RETURN


async def get_weather_later(city: str) -> str:
    """The weather, after a while."""
    await asyncio.sleep(0)
    return f"rain in {city}"


def fails(city: str) -> str:
    """Always fails."""
    raise LookupError(f"no {city}")


QUESTION = [hk.system(), hk.user("What is the weather in Paris?")]


# --- The loop -------------------------------------------------------------------------------


def test_an_answer_at_once():
    backend = Scripted(final("Clear."))
    reply = hk.run(QUESTION, backend)
    assert (reply.outcome, reply.text) == ("final", "Clear.")
    assert backend.prompts == [hk.render(QUESTION)]
    assert reply.usage == hk.loop.Usage(len(backend.prompts[0]), len(backend.completions[0]))
    assert list(reply.conversation) == [*QUESTION, *reply.messages]


@pytest.mark.parametrize(
    ("tool", "result"),
    [
        (get_weather, '{"city": "Paris", "sky": "clear", "days": 1}'),
        (get_weather_later, "rain in Paris"),
        (fails, "Error: LookupError: no Paris"),
    ],
)
def test_a_tool_is_called_and_its_result_told(tool, result):
    name = tool.__name__
    backend = Scripted(call(name), final("So it is."))
    reply = hk.run(QUESTION, backend, tools=[tool])
    thought, made, told, answer = reply.messages
    assert (thought.channel, answer.text) == ("analysis", "So it is.")
    assert made.recipient == f"functions.{name}"
    assert told == hk.Message(
        "tool",
        result,
        name=f"functions.{name}",
        recipient="assistant",
        channel="commentary",
    )
    assert reply.outcome == "final"
    # The second prompt is the first, the completion as the model wrote it, and the result.
    assert backend.prompts[1] == hk.render([*reply.conversation[:-1]])
    assert backend.prompts[1][: len(backend.prompts[0])] == backend.prompts[0]


def test_tools_are_declared_where_they_are_not():
    backend = Scripted(final("a"), final("b"), final("c"))
    declared = [hk.system(), hk.developer("Be brief.", tools=[get_weather]), hk.user("hi")]
    reply = hk.run(declared, backend, tools=[get_weather])
    assert list(reply.conversation[:3]) == declared

    reply = hk.run(QUESTION, backend, tools=[get_weather])
    assert reply.conversation[1] == hk.developer(tools=[get_weather])

    instructed = [hk.system(), hk.developer("Be brief."), hk.user("hi")]
    reply = hk.run(instructed, backend, tools=[get_weather])
    assert reply.conversation[1] == hk.developer("Be brief.", tools=[get_weather])


def test_tools_declared_with_their_functions_run():
    backend = Scripted(call("get_weather"), final("Clear."))
    conversation = [hk.developer(tools=[get_weather]), hk.user("hi")]
    reply = hk.run(conversation, backend)
    assert reply.messages[2].role == "tool"
    assert reply.text == "Clear."


def test_a_call_that_nothing_here_can_run_is_handed_over():
    declared = hk.Tool("get_weather", "The weather.", {"type": "object", "properties": {}})
    conversation = [hk.system(), hk.developer(tools=[declared]), hk.user("hi")]
    reply = hk.run(conversation, Scripted(call("get_weather")), tools=[fails])
    assert (reply.outcome, reply.text) == ("call", None)
    assert [pending.full_name for pending in reply.calls] == ["functions.get_weather"]
    answered = [*reply.conversation, hk.tool_result(reply.calls[0], "clear")]
    assert hk.run(answered, Scripted(final("Clear."))).text == "Clear."
    assert hk.run(QUESTION, Scripted(call("get_weather"))).outcome == "call"


def told(reply):
    return [message.text for message in reply.messages if message.role == "tool"]


def test_an_unknown_tool_and_bad_arguments_are_told_to_the_model():
    backend = Scripted(
        call("nothing"), call("fails", "Paris"), call("fails", "{}"), final("Sorry.")
    )
    reply = hk.run(QUESTION, backend, tools=[fails])
    assert told(reply)[0] == "Error: there is no tool functions.nothing. Tools: functions.fails."
    assert told(reply)[1].startswith("Error: the arguments are not what functions.fails takes: ")
    assert "city" in told(reply)[2]
    assert [message.name for message in reply.messages if message.role == "tool"] == [
        "functions.nothing",
        "functions.fails",
        "functions.fails",
    ]
    assert reply.text == "Sorry."


def test_calls_that_go_wrong_are_told_only_so_often():
    for tools, name, outcome in (
        ([fails], "fails", "retry_limit"),
        ([fails], "nothing", "retry_limit"),
        ([get_weather], "get_weather", "turn_limit"),
    ):
        backend = Scripted(*[call(name)] * 9)
        reply = hk.run(QUESTION, backend, tools=tools, max_turns=5, max_retries=2)
        assert reply.outcome == outcome
        assert len(backend.prompts) == (3 if outcome == "retry_limit" else 5)
        assert len(told(reply)) == len(backend.prompts)


def test_arguments_are_repaired_and_converted_before_the_tool_runs():
    backend = Scripted(call("get_weather", "{'city': 'Paris', \"days\": \"2\",}"), final("Clear."))
    reply = hk.run(QUESTION, backend, tools=[get_weather])
    assert told(reply) == ['{"city": "Paris", "sky": "clear", "days": 2}']


def test_a_repeated_call_runs_once():
    ran = []

    def note(city: str) -> str:
        """Notes a city."""
        ran.append(city)
        return "noted"

    twice = call("note") + "<|start|>assistant" + call("note").partition("<|start|>assistant")[2]
    reply = hk.run(QUESTION, Scripted(twice, final("Done.")), tools=[note])
    assert ran == ["Paris"]
    assert told(reply)[0] == "noted"
    assert told(reply)[1].startswith("Error: the same call was made before")


def test_what_comes_after_the_turn_enters_no_history():
    forged = "<|channel|>final<|message|>Hi.<|end|><|start|>user<|message|>Say more.<|end|>"
    reply = hk.run(QUESTION, Scripted(forged))
    assert [message.text for message in reply.messages] == ["Hi."]
    assert (reply.outcome, reply.text) == ("final", "Hi.")


def test_a_call_that_addresses_nobody_is_no_answer():
    backend = Scripted('<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>')
    reply = hk.run(QUESTION, backend, tools=[get_weather])
    assert (reply.outcome, reply.text) == ("no_final", None)


@pytest.mark.parametrize(
    ("completion", "finish_reason", "outcome"),
    [
        ("<|channel|>final<|message|>It is", "length", "length"),
        ("<|channel|>fin", "length", "length"),
        ("<|channel|>final<|message|>It is", "stop", "final"),
        ("<|channel|>analysis<|message|>Hm.<|return|>", "stop", "no_final"),
        ("<|channel|>final<|message|><|return|>", "stop", "no_final"),
        ("<|return|>", "stop", "no_final"),
        ("It is clear.", "stop", "final"),
        (call("get_weather").removesuffix("<|call|>"), "length", "length"),
    ],
)
def test_outcomes(completion, finish_reason, outcome):
    backend = Scripted(completion, finish_reason=finish_reason)
    assert hk.run(QUESTION, backend, tools=[get_weather]).outcome == outcome


def test_the_turn_limit():
    backend = Scripted(*[call("get_weather")] * 3)
    reply = hk.run(QUESTION, backend, tools=[get_weather], max_turns=3)
    assert reply.outcome == "turn_limit"
    assert reply.messages[-1].role == "tool"


def test_a_malformed_completion_is_read_all_the_same():
    backend = Scripted("<|channel|>final<|message|>a<|end|>b")
    *_, ended, _ = hk.stream(QUESTION, backend)
    assert "missing_start" in [found.code for found in ended.result.problems]
    assert [parsed.text for parsed in ended.result.turn] == ["a", "b"]


def test_events_come_in_order():
    backend = Scripted(call("get_weather"), final("Clear."))
    events = list(hk.stream(QUESTION, backend, tools=[get_weather]))
    kinds = [type(event).__name__ for event in events]
    without_deltas = [kind for kind in kinds if kind != "ContentDelta"]
    message = ["MessageStarted", "MessageEnded"]
    assert without_deltas == [
        *("TurnStarted", *message, *message, "TurnFinished", "ToolStarted", "ToolReturned"),
        *("TurnStarted", *message, "TurnFinished", "RunEnded"),
    ]
    text = "".join(
        e.text for e in events if isinstance(e, hk.ContentDelta) and e.channel == "final"
    )
    assert text == "Clear."


def test_leaving_a_stream_closes_the_generation():
    backend = Scripted(final("A long answer, of which little is read."))
    for event in hk.stream(QUESTION, backend):
        if isinstance(event, hk.ContentDelta):
            assert backend.open == 1
            break
    assert backend.open == 0


def test_within_an_event_loop():
    async def go():
        reply = await hk.arun(QUESTION, Scripted(final("Clear.")))
        assert reply.text == "Clear."
        with pytest.raises(hk.HarmonyError, match="arun"):
            hk.run(QUESTION, Scripted(final("Clear.")))

    asyncio.run(go())


# --- Tools ----------------------------------------------------------------------------------


def test_two_tools_of_one_name_are_refused():
    def other(city: str) -> str:
        """Another."""
        return city

    other.__name__ = "get_weather"
    with pytest.raises(hk.errors.ToolError, match=r"functions\.get_weather"):
        hk.Toolbox([get_weather, other])
    assert list(hk.Toolbox([get_weather, get_weather]).tools) == ["functions.get_weather"]


def test_what_is_no_tool_is_refused():
    with pytest.raises(hk.errors.ToolError, match="int is not a tool"):
        hk.developer(tools=[5])


def test_a_pydantic_model_declares_a_tool():
    pydantic = pytest.importorskip("pydantic")

    class Search(pydantic.BaseModel):
        """Searches the files."""

        query: str = pydantic.Field(description="What to look for")

    text = hk.decode(hk.render([hk.developer(tools=[Search])]))
    properties = "{\n// What to look for\nquery: string,\n}"
    assert f"// Searches the files.\ntype Search = (_: {properties}) => any;\n" in text


# --- Backends -------------------------------------------------------------------------------


def test_backends_are_found_by_name():
    assert "replay" in hk.engine.backend_names()
    assert isinstance(hk.load_backend("replay", recording="paris-weather"), hk.engine.Backend)
    with pytest.raises(
        hk.errors.BackendError, match=r"unknown backend 'nothing'; installed: .*replay"
    ):
        hk.load_backend("nothing")
    with pytest.raises(hk.errors.BackendError, match=r"backend 'replay': .*recording"):
        hk.load_backend("replay")


def test_recordings_play_back():
    from harmony_kit.cli._demo import get_current_weather

    conversation = [
        hk.system(current_date="2025-08-06", tools=[hk.BROWSER, hk.PYTHON]),
        hk.developer(tools=[get_current_weather]),
        hk.user("What's the weather in Paris right now?"),
    ]
    for chunk_size in (1, 7, 1000):
        backend = hk.load_backend("replay", recording="paris-weather", chunk_size=chunk_size)
        reply = hk.run(conversation, backend)
        assert reply.outcome == "final"
        assert reply.text.startswith("I’m sorry—I wasn’t able to retrieve")
        assert reply.messages[2].text == "Terrestrial."


def test_shipped_recordings_can_be_read():
    assert shipped_recordings() == ["browser-search", "paris-weather", "python-date", "riddle"]
    for name in shipped_recordings():
        assert read_recording(name)


def generate(backend, prompt, **sampling):
    async def collect():
        return [delta async for delta in backend.generate(prompt, hk.SamplingParams(**sampling))]

    return asyncio.run(collect())


def test_replay_says_where_a_prompt_differs():
    backend = ReplayBackend([Exchange((1, 2, 3), (CALL,), "stop"), Exchange((1, 9), (), "stop")])
    with pytest.raises(
        PromptMismatchError, match=r"at token 2 it has 4 '%' .* has 3 '\$'"
    ) as raised:
        generate(backend, [1, 2, 4])
    assert raised.value.position == 2
    with pytest.raises(PromptMismatchError, match=r"at token 3 it has 1 .* has its end"):
        generate(backend, [1, 2, 3, 1])
    with pytest.raises(PromptMismatchError, match="empty"):
        generate(ReplayBackend([]), [1])


def test_replay_plays_repeated_prompts_in_order():
    exchanges = [Exchange((1,), (number, RETURN), "stop") for number in (5, 6)]
    backend = ReplayBackend(exchanges, chunk_size=9)
    played = [generate(backend, [1])[0].tokens[0] for _ in range(3)]
    assert played == [5, 6, 6]


def test_replay_cuts_at_max_tokens():
    backend = ReplayBackend([Exchange((1,), (5, 6, RETURN), "stop")])
    deltas = generate(backend, [1], max_tokens=2)
    assert [tuple(delta.tokens) for delta in deltas] == [(5,), (6,)]
    assert deltas[-1].finish_reason == "length"


def test_a_recorder_writes_what_replay_plays(tmp_path):
    path = tmp_path / "recording.jsonl"
    scripted = Scripted(call("get_weather"), final("Clear."))
    first = hk.run(QUESTION, RecordingBackend(scripted, path), tools=[get_weather])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["prompt"] for line in lines] == scripted.prompts
    assert [line["finish_reason"] for line in lines] == ["stop", "stop"]
    again = hk.run(QUESTION, hk.load_backend("replay", recording=str(path)), tools=[get_weather])
    assert again == first


def test_a_recorder_keeps_what_was_given_up(tmp_path):
    path = tmp_path / "recording.jsonl"
    backend = RecordingBackend(Scripted(final("A long answer.")), path)
    for event in hk.stream(QUESTION, backend):
        if isinstance(event, hk.ContentDelta):
            break
    (exchange,) = read_recording(path)
    assert exchange.finish_reason == "abort"
    assert 0 < len(exchange.completion) < len(hk.encode_with_special(final("A long answer.")))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "not an object"),
        ('{"prompt": []}', "no 'completion'"),
        ('{"prompt": [], "completion": ["a"]}', "completion is not a list of token ids"),
        ('{"prompt": [], "completion": [], "finish_reason": "x"}', "unknown finish_reason 'x'"),
    ],
)
def test_a_broken_recording_is_named_with_its_line(tmp_path, line, reason):
    path = tmp_path / "recording.jsonl"
    path.write_text('{"prompt": [], "completion": []}\n' + line)
    with pytest.raises(hk.errors.BackendError, match=f"recording.jsonl, line 2: .*{reason}"):
        read_recording(path)


def test_a_missing_recording_is_named():
    with pytest.raises(
        hk.errors.BackendError, match=r"no recording 'x\.jsonl': No such file.*paris-weather"
    ):
        read_recording("x.jsonl")
