"""Runs of the loop: parallel tools, budgets, cancellation, states, contexts, constraints."""

import asyncio
import dataclasses
import json
import re
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from harmony_backends.function import FunctionBackend
from hypothesis import given
from hypothesis import strategies as st

import harmony_kit as hk
from harmony_kit.grammar import ToolChoice
from harmony_kit.loop._context import prompt_within

QUESTION = [hk.system(), hk.user("What is the weather in Paris?")]


def call(name="look", **arguments):
    return (
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
        f"{json.dumps(arguments)}<|call|>"
    )


def calls(*arguments):
    """Several calls in one completion, as models sometimes make them."""
    return "<|start|>assistant".join(call(**one) for one in arguments)


def final(text="Done."):
    return f"<|channel|>final<|message|>{text}<|return|>"


class Model:
    """Says one text after another; remembers what it was asked."""

    name = "model"
    supports: frozenset[str] = frozenset()

    def __init__(self, *texts, pauses=(), finish_reason="stop"):
        self.completions = [hk.encode_with_special(text) for text in texts]
        self.pauses = pauses  # seconds before single tokens, by their index
        self.finish_reason = finish_reason
        self.prompts = []
        self.samplings = []
        self.open = 0

    async def generate(self, prompt, sampling):
        self.prompts.append(list(prompt))
        self.samplings.append(sampling)
        tokens = self.completions[len(self.prompts) - 1]
        cut = tokens if sampling.max_tokens is None else tokens[: sampling.max_tokens]
        self.open += 1
        try:
            for index, token in enumerate(cut):
                await asyncio.sleep(dict(self.pauses).get(index, 0))
                yield hk.engine.TokenChunk([token])
            yield hk.engine.TokenChunk(
                [], "length" if len(cut) < len(tokens) else self.finish_reason
            )
        finally:
            self.open -= 1

    async def aclose(self):
        pass


def results(reply):
    return [message.text for message in reply.messages if message.role == "tool"]


def look(place: str = "here") -> str:
    """Looks somewhere."""
    return f"looked at {place}"


# --- Calls at the same time -----------------------------------------------------------------


def test_the_calls_of_a_turn_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=30)

    def meet(who: str) -> str:
        meeting.wait()
        return who

    turn = calls(*({"name": "meet", "who": who} for who in "abc"))
    reply = hk.run(QUESTION, Model(turn, final()), tools=[meet])
    assert results(reply) == ["a", "b", "c"]


def test_results_keep_the_order_of_the_calls_and_events_that_of_their_ends():
    gates = {gate: asyncio.Event() for gate in "abc"}

    async def wait(gate: str) -> str:
        await gates[gate].wait()
        return gate

    turn = calls(*({"name": "wait", "gate": gate} for gate in "cab"))
    model = Model(turn, final())
    events = []
    gates["a"].set()
    for event in hk.stream(QUESTION, model, tools=[wait]):
        events.append(event)
        if isinstance(event, hk.loop.ToolReturned):  # the next may end
            gates[{"a": "b", "b": "c", "c": "a"}[event.result.text]].set()
    told = [
        event for event in events if isinstance(event, hk.loop.ToolReturned | hk.loop.ToolStarted)
    ]
    assert [type(event).__name__ for event in told] == ["ToolStarted"] * 3 + ["ToolReturned"] * 3
    assert [event.result.text for event in told[3:]] == ["a", "b", "c"]
    assert results(events[-1].reply) == ["c", "a", "b"]
    assert model.prompts[1] == hk.render(events[-1].reply.conversation[:-1])


def test_a_tool_that_raises_to_the_program_stops_the_others():
    stopped = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append("hang")

    def fail() -> None:
        raise LookupError("no")

    toolbox = hk.Toolbox([hang, fail], policy=hk.tools.ToolPolicy(on_error="raise"))
    with pytest.raises(LookupError, match="no"):
        hk.run(QUESTION, Model(calls({"name": "hang"}, {"name": "fail"})), tools=toolbox)
    assert stopped == ["hang"]


# --- Cancellation ---------------------------------------------------------------------------


def test_cancelling_a_run_stops_the_generation():
    async def go():
        model = Model(final("a " * 500), pauses=[(10, 600)])
        task = asyncio.create_task(hk.arun(QUESTION, model))
        while not model.open:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert model.open == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(go())


def test_cancelling_a_run_stops_its_tools():
    started, stopped = [], []

    async def hang(who: str) -> None:
        started.append(who)
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(who)

    async def go():
        model = Model(calls({"name": "hang", "who": "a"}, {"name": "hang", "who": "b"}))
        task = asyncio.create_task(hk.arun(QUESTION, model, tools=[hang]))
        while len(started) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(stopped) == ["a", "b"]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(go())


def test_leaving_a_stream_stops_its_tools():
    stopped = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append("hang")

    for event in hk.stream(
        QUESTION, Model(calls({"name": "hang"}, {"name": "look"})), tools=[hang, look]
    ):
        if isinstance(event, hk.loop.ToolReturned):
            break
    assert stopped == ["hang"]


# --- Budgets --------------------------------------------------------------------------------


def test_calls_beyond_the_limit_are_told_once():
    model = Model(calls({"place": "a"}, {"place": "b"}, {"place": "c"}), final())
    reply = hk.run(QUESTION, model, tools=[look], max_tool_calls=2)
    assert reply.outcome == "final"
    assert results(reply)[:2] == ["looked at a", "looked at b"]
    assert results(reply)[2].startswith("Error: no more tools can be called now")
    assert reply.state.tool_calls == 2


def test_a_model_that_goes_on_calling_ends_the_run():
    model = Model(call(place="a"), call(place="b"), call(place="c"), final())
    reply = hk.run(QUESTION, model, tools=[look], max_tool_calls=1)
    assert (reply.outcome, len(model.prompts)) == ("call_limit", 3)
    assert [one.arguments for one in reply.calls] == ['{"place": "c"}']
    # A larger budget answers it, and goes on.
    more = hk.run(reply.state, Model(final()), tools=[look], max_tool_calls=2)
    assert results(more)[-1] == "looked at c"
    assert more.outcome == "final"


def test_the_tokens_of_all_completions():
    turn = call(place="a")
    length = len(hk.encode_with_special(turn))
    model = Model(turn, final("word " * 100))
    reply = hk.run(QUESTION, model, tools=[look], max_completion_tokens=length + 10)
    assert reply.outcome == "token_limit"
    assert reply.usage.completion_tokens == length + 10
    assert reply.text.startswith("word word")
    assert [sampling.max_tokens for sampling in model.samplings] == [length + 10, 10]
    # The turn that was cut off is made again.
    assert reply.state.messages[-1].role == "tool"
    again = Model(final("All of it."))
    more = hk.run(reply.state, again, tools=[look], max_completion_tokens=1000)
    assert again.prompts == [model.prompts[1]]
    assert (more.text, more.usage.completion_tokens > length + 10) == ("All of it.", True)
    assert hk.run(reply.state, Model(), max_completion_tokens=5).outcome == "token_limit"


def test_the_least_of_two_token_limits_counts():
    model = Model(final("word " * 100))
    sampling = hk.SamplingParams(max_tokens=7)
    reply = hk.run(QUESTION, model, sampling=sampling, max_completion_tokens=50)
    assert (reply.outcome, reply.usage.completion_tokens) == ("length", 7)


def test_time_stops_a_generation():
    model = Model(final("word " * 1000), pauses=[(10, 600)])
    *_, ended, over = hk.stream(QUESTION, model, max_seconds=1)
    assert (over.reply.outcome, ended.finish_reason, model.open) == ("time_limit", "abort", 0)
    assert over.reply.text.startswith("word")
    assert over.reply.state.messages == tuple(QUESTION)
    assert over.reply.state.seconds >= 1
    assert hk.run(over.reply.state, Model(), max_seconds=0.1).outcome == "time_limit"


def test_time_stops_tools_and_keeps_what_others_answered():
    stopped = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append("hang")

    model = Model(calls({"name": "look"}, {"name": "hang"}))
    reply = hk.run(QUESTION, model, tools=[look, hang], max_seconds=2)
    assert reply.outcome == "time_limit"
    assert results(reply) == [
        "looked at here",
        "Error: functions.hang was stopped: the time limit of this run is reached.",
    ]
    assert stopped == ["hang"]


def test_a_timeout_of_the_backend_is_its_own():
    async def generate(prompt, sampling):
        raise TimeoutError("the engine is slow")

    with pytest.raises(hk.HarmonyError, match="the engine is slow"):
        hk.run(QUESTION, FunctionBackend(generate), max_seconds=60)


# --- States ---------------------------------------------------------------------------------


def states(events):
    return [event.state for event in events if isinstance(event, hk.loop.TurnStarted)]


def test_a_saved_run_goes_on_where_it_stood():
    texts = [call(place="a"), call(place="b"), final("There.")]
    whole = list(hk.stream(QUESTION, Model(*texts), tools=[look]))
    for number, state in enumerate(states(whole)):
        saved = hk.loop.RunState.from_json(state.to_json())
        assert saved == state
        model = Model(*texts[number:])
        reply = hk.run(saved, model, tools=[look])
        assert reply == whole[-1].reply
        assert reply.state.turns == 3


def test_a_run_that_was_stopped_within_its_tools_runs_them_again():
    declared = [hk.system(), hk.developer(tools=[look]), hk.user("hi")]
    unanswered = [*declared, *hk.parse(hk.encode_with_special(call(place="a"))).messages]
    model = Model(final())
    events = list(hk.stream(unanswered, model, tools=[look]))
    assert isinstance(events[0], hk.loop.ToolStarted)
    assert results(events[-1].reply) == ["looked at a"]
    assert model.prompts == [hk.render(events[-1].reply.conversation[:-1])]


def test_a_conversation_that_ends_in_a_call_of_others_is_handed_over_at_once():
    theirs = hk.Tool("theirs", "What others run.")
    conversation = [hk.developer(tools=[theirs]), hk.call_message("functions.theirs", "{}")]
    model = Model()
    reply = hk.run(conversation, model, tools=[look])
    assert (reply.outcome, model.prompts, reply.messages) == ("call", [], ())
    assert reply.calls[0].full_name == "functions.theirs"


def test_budgets_go_on_too():
    texts = [call(place="a"), call(place="b"), final()]
    first = hk.run(QUESTION, Model(*texts), tools=[look], max_turns=2)
    assert (first.outcome, first.state.turns) == ("turn_limit", 2)
    assert hk.run(first.state, Model(), tools=[look], max_turns=2).outcome == "turn_limit"
    assert hk.run(first.state, Model(final()), tools=[look], max_turns=3).outcome == "final"


plain = st.integers(0, 5)
spoken = st.lists(
    st.builds(hk.user, st.text())
    | st.builds(hk.assistant, st.text(), channel=st.sampled_from(["analysis", "final"]))
    | st.builds(hk.call_message, st.just("functions.look"), st.text())
)


@given(
    st.builds(
        hk.loop.RunState,
        spoken.map(tuple),
        plain,
        st.builds(hk.loop.Usage, plain, plain),
        plain,
        plain,
        plain,
        st.booleans(),
        st.floats(0, 1e6),
    )
)
def test_states_survive_json(state):
    again = hk.loop.RunState.from_json(state.to_json())
    assert (again, again.seconds) == (state, state.seconds)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"turns": -1}, "turns"),
        ({"turns": "1"}, "turns"),
        ({"is_warned": 1}, "is_warned"),
        ({"usage": {}}, "usage"),
        ({"messages": [{"role": "nobody", "content": ""}]}, "message 0: role"),
        ({"messages": {}}, "messages"),
        ({"more": 1}, "state"),
    ],
)
def test_what_is_no_state_is_refused_with_its_place(change, place):
    data = json.loads(hk.loop.RunState(tuple(QUESTION)).to_json())
    with pytest.raises(hk.errors.InvalidMessageError) as raised:
        hk.loop.RunState.from_json(json.dumps(data | change))
    assert str(raised.value).startswith(place)
    with pytest.raises(hk.errors.InvalidMessageError, match="not JSON"):
        hk.loop.RunState.from_json("{")


# --- Long conversations ---------------------------------------------------------------------


def cycle(number, words=30):
    return [
        hk.assistant("thinking " * words, channel="analysis"),
        hk.call_message("functions.look", json.dumps({"place": number})),
        hk.Message(
            "tool",
            f"result {number} " + "word " * words,
            name="functions.look",
            recipient="assistant",
            channel="commentary",
        ),
    ]


def test_token_counts_sum_to_the_prompt():
    conversation = [
        *QUESTION,
        *cycle(1),
        hk.assistant("Sunny.", channel="final"),
        hk.user("And tomorrow?"),
        hk.assistant("Rain.", channel="final"),
    ]
    counts = hk.wire.token_counts(conversation)
    assert sum(counts) == len(hk.render(conversation, next_role=None))
    assert counts[2] == 0  # reasoning of a finished turn
    assert min(count for index, count in enumerate(counts) if index != 2) > 0


def test_the_oldest_tool_cycles_go_first_and_the_newest_stays():
    conversation = [*QUESTION, *cycle(1), *cycle(2), *cycle(3)]
    lengths = [len(hk.render([*QUESTION, *cycle(n), *cycle(3)])) for n in (1, 2)]
    model = Model(final())
    events = list(hk.stream(conversation, model, max_prompt_tokens=max(lengths)))
    reduced = events[0]
    assert reduced.left_out == tuple(cycle(1))
    assert reduced.prompt_tokens == len(hk.render(conversation))
    assert model.prompts == [hk.render([*QUESTION, *cycle(2), *cycle(3)])]
    assert events[-1].reply.conversation[: len(conversation)] == tuple(conversation)

    nothing = hk.run(conversation, Model(), max_prompt_tokens=20)
    assert (nothing.outcome, nothing.messages) == ("context_limit", ())
    assert nothing.state.messages == tuple(conversation)


def test_then_finished_exchanges_go():
    conversation = [
        hk.system(),
        hk.developer("Be brief."),
        hk.user("one " * 50),
        *cycle(1),
        hk.assistant("first", channel="final"),
        hk.user("two"),
    ]
    model = Model(final())
    least = hk.render([*conversation[:2], hk.user("two")])
    hk.run(conversation, model, max_prompt_tokens=len(least))
    assert model.prompts == [least]


turns_of_tools = st.lists(st.integers(1, 4), max_size=6)


@given(st.lists(turns_of_tools, min_size=1, max_size=4), st.integers(30, 400), st.booleans())
def test_a_call_is_never_parted_from_its_result(exchanges, limit, is_open):
    conversation = [hk.system()]
    for number, widths in enumerate(exchanges):
        conversation.append(hk.user(f"question {number}"))
        for index, words in enumerate(widths):
            conversation += cycle(f"{number}.{index}", words)
        if number < len(exchanges) - 1 or not is_open:
            conversation.append(hk.assistant(f"answer {number}", channel="final"))
    if not is_open:
        conversation.append(hk.user("last"))
    fitted = prompt_within(conversation, limit, hk.loop.drop_tool_cycles)
    if fitted is None:
        left_out = hk.loop.drop_tool_cycles(conversation, [1] * len(conversation), 10**9)
        least = [m for index, m in enumerate(conversation) if index not in left_out]
        assert len(hk.render(least)) > limit
        return
    assert len(fitted.prompt.tokens) <= limit
    kept = hk.parse(fitted.prompt.tokens[:-2], role=None).messages
    made = [m.text.split('"')[3] for m in kept if m.recipient == "functions.look"]
    told = [m.text.split()[1] for m in kept if m.role == "tool"]
    assert made == told
    # The newest cycle is what the model goes on from.
    if is_open and exchanges[-1]:
        assert made[-1] == f"{len(exchanges) - 1}.{len(exchanges[-1]) - 1}"


def test_what_was_left_out_stays_out():
    """So that the prompts of a long run begin alike, as the caches of engines want."""
    texts = [call(place="x" * 40) for _ in range(12)]
    model = Model(*texts, final())
    events = list(hk.stream(QUESTION, model, tools=[look], max_prompt_tokens=400, max_turns=20))
    left_out = [event.left_out for event in events if isinstance(event, hk.loop.ContextReduced)]
    assert len(left_out) > 3
    for before, after in pairwise(left_out):
        assert after[: len(before)] == before
    assert all(len(prompt) <= 400 for prompt in model.prompts)
    assert events[-1].reply.outcome == "final"


# --- Constraints ----------------------------------------------------------------------------


class Obedient(Model):
    """A model that can be constrained, and says what it is given if it is allowed to."""

    supports = frozenset({"constraint"})

    async def generate(self, prompt, sampling):
        async for delta in super().generate(prompt, sampling):
            yield delta
        if sampling.constraint is not None:
            assert sampling.constraint.check(self.completions[len(self.prompts) - 1]) is None


def test_a_constrained_run():
    pytest.importorskip("llguidance")
    model = Obedient(call(place="a"), final())
    hk.run(QUESTION, model, tools=[look], constrained=True)
    refused = hk.encode_with_special(call(name="other"))
    for sampling in model.samplings:
        assert sampling.constraint.check(refused).position > 3
    # The same grammar in both turns, made once.
    assert model.samplings[0].constraint is model.samplings[1].constraint


@pytest.mark.parametrize(
    "choice", ["required", "functions.look", ToolChoice("required", ("functions.look",))]
)
def test_a_call_that_is_required_is_required_once(choice):
    pytest.importorskip("llguidance")
    model = Obedient(call(place="a"), final())
    reply = hk.run(QUESTION, model, tools=[look], tool_choice=choice)
    assert reply.outcome == "final"
    first, second = (sampling.constraint for sampling in model.samplings)
    assert first.check(model.completions[1]) is not None
    assert second is None or second.check(model.completions[1]) is None


def test_no_tool_may_be_called():
    pytest.importorskip("llguidance")
    model = Obedient(final())
    hk.run(QUESTION, model, tools=[look], tool_choice="none")
    assert model.samplings[0].constraint.check(hk.encode_with_special(call())) is not None


def test_a_backend_that_cannot_be_constrained_refuses():
    async def complete(prompt, sampling):
        return hk.encode_with_special(final())

    with pytest.raises(hk.errors.BackendError, match="constraint"):
        hk.run(QUESTION, FunctionBackend(complete), tools=[look], tool_choice="required")


def test_a_run_has_one_constraint():
    sampling = hk.SamplingParams(constraint=hk.constraint())
    with pytest.raises(hk.HarmonyError, match="already has a constraint"):
        hk.run(QUESTION, Model(), sampling=sampling, constrained=True)
    pytest.importorskip("llguidance")
    model = Obedient(final())
    hk.run(QUESTION, model, sampling=sampling)
    assert model.samplings == [dataclasses.replace(sampling)]


# --- Cost -----------------------------------------------------------------------------------


def test_a_turn_renders_only_what_is_new(monkeypatch):
    """In the last of 100 turns as in the second."""
    encoded = []

    def spy(text, encode=hk.render.__globals__["encode"]):
        encoded.append(text)
        return encode(text)

    monkeypatch.setitem(hk.render.__globals__, "encode", spy)
    said = [(f"thought {n}", json.dumps({"place": f"place {n}"})) for n in range(100)]
    texts = [
        f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>commentary"
        f" to=functions.look<|message|>{arguments}<|call|>"
        for thought, arguments in said
    ]
    started = []
    for event in hk.stream(QUESTION, Model(*texts, final()), tools=[look], max_turns=101):
        if isinstance(event, hk.loop.TurnStarted):
            started.append([text for text in encoded if text != "assistant"])
            encoded.clear()
    assert len(started) == 101
    for number in range(len(said)):
        result = f"looked at place {number}"
        assert started[number + 1] == [result]  # what the model wrote is not tokenised again


# --- The document ---------------------------------------------------------------------------


def test_the_examples_of_the_document_run(capsys):
    text = (Path(__file__).parents[2] / "docs" / "loop.md").read_text("utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    texts = [call("get_weather", city="Paris"), final("Sunny.")]
    reply = names["ask"](Model(*texts))
    assert capsys.readouterr().out == "[functions.get_weather]\nSunny."
    first = hk.run(names["conversation"], Model(*texts), tools=[names["get_weather"]], max_turns=1)
    assert names["go_on"](first.state.to_json(), Model(*texts[1:])) == reply
