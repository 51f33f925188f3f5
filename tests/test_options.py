"""Options as values: their checks, unknown names, one prompt through every door."""

import asyncio
import contextlib
import enum
import inspect
import io
import json
import math
from argparse import ArgumentParser
from dataclasses import FrozenInstanceError, fields
from itertools import chain
from typing import get_args

import pytest
from examples import examples
from harmony_backends.function import FunctionBackend
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts

import harmony_kit as hk
from harmony_kit import cli
from harmony_kit.cli import _chat as chat_command
from harmony_kit.cli._chat_interrupts import Interrupts
from harmony_kit.cli._chat_said import Said
from harmony_kit.cli._chat_session import ChatSession
from harmony_kit.convert import _store as store
from harmony_kit.convert import anthropic, chat_completions, responses
from harmony_kit.convert._request import HarmonyRequest
from harmony_kit.engine import _batch as batch
from harmony_kit.grammar import ToolChoice
from harmony_kit.loop._options import RunKeywords
from harmony_kit.wire._events import ParsedMessage
from harmony_kit.wire._render_options import RenderKeywords

QUESTION = [hk.user("What is the weather in Paris?")]


def look(place: str = "here") -> str:
    """Looks somewhere."""
    return f"looked at {place}"


class Recorder:
    """Backends that answer at once, and the prompts that they were given."""

    def __init__(self):
        self.prompts = []

    def backend(self):
        answer = hk.encode_with_special("<|channel|>final<|message|>Done.<|return|>")

        async def generate(prompt, sampling):
            self.prompts.append(list(prompt))
            for token in answer:
                yield token

        return FunctionBackend(generate, "recorder")


# --- RunOptions -----------------------------------------------------------------------------


def test_run_options_are_a_frozen_value():
    options = hk.RunOptions(max_turns=3)
    assert options == hk.RunOptions(max_turns=3)
    with pytest.raises(FrozenInstanceError):
        options.max_turns = 4
    with pytest.raises(TypeError):
        hk.RunOptions((), hk.SamplingParams())


def test_run_options_have_one_set_of_defaults():
    options = hk.RunOptions()
    assert (options.max_turns, options.max_retries) == (10, 3)
    assert options.context_policy is hk.loop.drop_tool_cycles
    assert options.sampling == hk.SamplingParams()
    assert options.rendering == hk.RenderOptions()


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *[("max_turns", value, "an integer of at least 1") for value in (0, -1, "3", 2.0, None)],
        ("max_turns", True, "an integer of at least 1"),
        *[("max_retries", value, "an integer of at least 0") for value in (-1, False, None)],
        ("max_tool_calls", -1, "an integer of at least 0 or None"),
        *[("max_completion_tokens", n, "an integer of at least 1 or None") for n in (0, 1.5)],
        *[("max_prompt_tokens", n, "an integer of at least 1 or None") for n in (0, "9")],
        *[
            ("max_seconds", value, "a finite number above 0 or None")
            for value in (0, -1.0, math.inf, math.nan, "9", True)
        ],
        *[("tools", value, "an iterable of tools") for value in (look, "look", {"a": look}, 5)],
        ("tools", hk.PYTHON, "an iterable of tools"),
        ("sampling", {"temperature": 1}, "SamplingParams"),
        ("constrained", 1, "bool"),
        *[("tool_choice", choice, "'auto', 'none', 'required'") for choice in (None, 5, ["auto"])],
        ("context_policy", None, "a function"),
        ("rendering", {"drop_analysis": "never"}, "RenderOptions"),
    ],
)
def test_a_wrong_value_is_refused_when_the_options_are_made(name, value, allowed):
    with pytest.raises(hk.errors.OptionError) as caught:
        hk.RunOptions(**{name: value})
    assert caught.value.option == name
    assert allowed in caught.value.reason
    assert repr(value) in caught.value.reason


@pytest.mark.parametrize(
    ("name", "values"), [("mode", ("any",)), ("names", ("required", "python"))]
)
def test_a_wrong_tool_choice_cannot_be_made(name, values):
    with pytest.raises(hk.errors.OptionError) as caught:
        ToolChoice(*values)
    assert caught.value.option == name
    assert repr(values[-1]) in caught.value.reason


def test_tools_of_a_generator_serve_more_than_one_run():
    options = hk.RunOptions(tools=(tool for tool in [look]))
    assert options.tools == (look,)
    toolbox = hk.Toolbox([look])
    assert hk.RunOptions(tools=toolbox).tools is toolbox


def test_keywords_change_options():
    recorder = Recorder()
    options = hk.RunOptions(max_turns=3, rendering=hk.RenderOptions(drop_analysis="never"))
    reply = hk.run(QUESTION, recorder.backend(), options=options, header_order="channel-first")
    assert reply.outcome == "final"
    conversation = [*QUESTION, hk.assistant("hm", channel="analysis"), hk.assistant("a"), *QUESTION]
    hk.run(conversation, recorder.backend(), options=options, header_order="channel-first")
    wanted = hk.render(conversation, drop_analysis="never", header_order="channel-first")
    assert recorder.prompts[-1] == wanted
    rendering = hk.RenderOptions(header_order="channel-first")
    hk.run(conversation, recorder.backend(), rendering=rendering, drop_analysis="never")
    assert recorder.prompts[-1] == wanted


def test_the_keywords_are_the_fields_of_the_options():
    rendering = {field.name for field in fields(hk.RenderOptions)}
    assert set(RenderKeywords.__annotations__) == rendering
    assert set(RunKeywords.__annotations__) == rendering | {
        field.name for field in fields(hk.RunOptions)
    }
    # Two fields of one name could not both be keywords.
    assert rendering.isdisjoint(field.name for field in fields(hk.RunOptions))


def test_options_of_another_kind_are_refused():
    with pytest.raises(hk.errors.OptionError, match="options: expected RunOptions"):
        hk.run(QUESTION, Recorder().backend(), options={"max_turns": 1})


# --- Unknown names --------------------------------------------------------------------------

DOORS = [hk.run, hk.arun, hk.stream, hk.astream]


def refused_at_the_call(door, **changes):
    """What a call raises before anything is asked of what it returns."""
    with pytest.raises((TypeError, hk.errors.OptionError)) as caught:
        started(door(QUESTION, Recorder().backend(), **changes))
    return caught.value


def started(made):
    """What was made; a coroutine does nothing before it is awaited."""
    return made.send(None) if inspect.iscoroutine(made) else made


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("max_turn", 1, "did you mean 'max_turns'?"),
        ("tool", [look], "did you mean 'tools'?"),
        ("drop_analisis", "never", "did you mean 'drop_analysis'?"),
        ("option", None, "did you mean 'options'?"),
        (
            "temperature",
            0.5,
            "it is a sampling parameter: sampling=SamplingParams(temperature=...)",
        ),
    ],
)
def test_runs_refuse_unknown_options_when_they_are_called(door, name, value, hint):
    error = refused_at_the_call(door, **{name: value})
    assert str(error) == f"{door.__name__}: unexpected option {name!r}; {hint}"


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_runs_refuse_wrong_values_when_they_are_called(door):
    assert str(refused_at_the_call(door, max_turns=0)).startswith("max_turns: ")
    assert str(refused_at_the_call(door, drop_analysis="all")).startswith("drop_analysis: ")


# What only the library makes, and programs read.
READ = {
    *get_args(hk.wire.Event),
    *get_args(hk.loop.RunEvent),
    *get_args(hk.calls.CallEvent),
    *(
        hk.Completion,
        ParsedMessage,
        hk.wire.Header,
        hk.wire.MessageSpan,
        hk.wire.Span,
        hk.Problem,
        hk.engine.TokenChunk,
        hk.engine.BatchLine,
        hk.engine.BatchResult,
        hk.calls.Arguments,
        hk.grammar.Refusal,
        hk.convert.AdaptedRequest,
        hk.convert.Note,
        hk.convert.StoredItem,
    ),
    *(
        hk.Reply,
        hk.tools.ToolAnswer,
        hk.ToolCall,
        hk.wire.TrainingRendering,
        hk.Prompt,
        hk.wire.MessageTokens,
    ),
}


def takes_options(value):
    if inspect.isfunction(value):
        return value is not hk.load_backend  # its options are those of the backend
    if not inspect.isclass(value) or value in READ or getattr(value, "_is_protocol", False):
        return False
    return not issubclass(value, enum.Enum | BaseException)


PUBLIC = {
    **{f"hk.{name}": getattr(hk, name) for name in hk.__all__},
    **{
        f"hk.{room.__name__.rpartition('.')[2]}.{name}": getattr(room, name)
        for room in (
            hk.wire,
            hk.calls,
            hk.tools,
            hk.builtins,
            hk.sampling,
            hk.grammar,
            hk.convert,
            hk.engine,
            hk.loop,
        )
        for name in getattr(room, "__all__", ())
        if name not in hk.__all__
    },
    **{
        f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
        for module in (anthropic, chat_completions, responses)
        for name in module.__all__
    },
    "HarmonyRequest": HarmonyRequest,
    **{
        f"HarmonyRequest.{name}": getattr(HarmonyRequest, name)
        for name in ("prompt", "constraint", "for_backend")
    },
    **{
        f"{module.__name__.rpartition('.')[2]}.StreamEncoder.close": module.StreamEncoder.close
        for module in (anthropic, chat_completions, responses)
    },
    "MemoryStore": store.MemoryStore,
    "SQLiteStore": store.SQLiteStore,
}
CHECKED = {name: value for name, value in PUBLIC.items() if takes_options(value)}


OPTION_FIELDS = {"Unpack[RenderKeywords]": RenderKeywords, "Unpack[RunKeywords]": RunKeywords}


def keywords_of(function):
    """The names that a function takes as keyword arguments, and would suggest."""
    parameters = list(inspect.signature(function).parameters.values())
    changes = next((one for one in parameters if one.kind is one.VAR_KEYWORD), None)
    if changes is None:
        return [one.name for one in parameters if one.name != "self"]
    own = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    return [*own, *OPTION_FIELDS[changes.annotation].__annotations__]


def call_with(function, unknown):
    """Call a function with an unknown keyword, and with nothing in the places of the others."""
    required = [
        None
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is inspect._empty
    ]
    started(function(*required, **{unknown: None}))


@pytest.mark.parametrize("name", CHECKED)
def test_law_7_a_misspelt_option_is_an_error_that_says_what_was_meant(name):
    function = CHECKED[name]
    known = keywords_of(function)
    with pytest.raises(TypeError, match="unexpected option 'xyzzy'"):
        call_with(function, "xyzzy")
    for option in known:
        misspelt = option + option[-1]
        with pytest.raises(TypeError) as caught:
            call_with(function, misspelt)
        assert f"unexpected option {misspelt!r}; did you mean {option!r}?" in str(caught.value)


def test_law_7_is_asked_of_most_public_names():
    assert len(CHECKED) > 65
    assert {"hk.run", "hk.tools.ToolPolicy", "hk.Toolbox", "chat_completions.StreamEncoder"} <= {
        *CHECKED
    }


# --- Law 12: one conversation, one prompt ---------------------------------------------------

said = texts.filter(bool)
DECLARED = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}


@st.composite
def cycles(draw):
    """Reasoning, a call and its result."""
    call_id = f"call_{draw(st.integers(0, 999))}"
    call = {
        "id": call_id,
        "type": "function",
        "function": {"name": "look", "arguments": json.dumps({"place": draw(texts)})},
    }
    made = {"role": "assistant", "reasoning_content": draw(said), "tool_calls": [call]}
    if draw(st.booleans()):
        made["content"] = draw(said)
    return [made, {"role": "tool", "tool_call_id": call_id, "content": draw(texts)}]


@st.composite
def turns(draw):
    question = {"role": "user", "content": draw(said)}
    answer = {"role": "assistant", "reasoning_content": draw(said), "content": draw(said)}
    return [question, *chain(*draw(st.lists(cycles(), max_size=2))), answer]


@st.composite
def bodies(draw):
    """Requests with several finished turns; the last turn may be within a tool loop."""
    messages = [*chain(*draw(st.lists(turns(), min_size=2, max_size=3)))]
    messages.append({"role": "user", "content": draw(said)})
    messages += chain(*draw(st.lists(cycles(), max_size=2)))
    instructions = [{"role": "system", "content": draw(said)}] if draw(st.booleans()) else []
    return {"model": "gpt-oss", "messages": [*instructions, *messages], "tools": [DECLARED]}


rendering_options = st.builds(
    hk.RenderOptions,
    drop_analysis=st.sampled_from(["reference", "finished-turns", "never"]),
    header_order=st.sampled_from(["recipient-first", "channel-first"]),
    schema_style=st.sampled_from(["reference", "extended"]),
)


def prompt_of_run(conversation, **options):
    recorder = Recorder()
    hk.run(conversation, recorder.backend(), **options)
    return recorder.prompts[0]


def prompt_of_batch(body, **options):
    recorder = Recorder()
    line = batch.BatchLine("a", batch.CHAT_COMPLETIONS, body)
    results = []
    asyncio.run(
        batch.run_batch([line], recorder.backend(), results.append, now=lambda: 7, **options)
    )
    assert not results[0].failed, results[0]
    return recorder.prompts[0]


def prompt_of_chat(conversation):
    recorder = Recorder()
    parser = ArgumentParser()
    chat_command.add_arguments(parser)
    with contextlib.redirect_stdout(io.StringIO()), asyncio.Runner() as runner:
        options = parser.parse_args(["--backend", "x"])
        session = ChatSession(options, conversation, Interrupts(runner))
        session._backend = recorder.backend()
        runner.run(session._run(Said()))
    return recorder.prompts[0]


def prompt_of_command(path, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main([*arguments, str(path)]) == 0
    return json.loads(printed.getvalue())


@examples(60)
@given(bodies())
def test_law_12_one_conversation_one_prompt(tmp_path_factory, body):
    request = chat_completions.read_request(body)
    conversation = request.messages
    prompt = hk.render(conversation)
    finished = hk.render(conversation, options=hk.RenderOptions(drop_analysis="finished-turns"))
    assert prompt == finished
    assert hk.render(conversation, drop_analysis="never") != prompt
    assert hk.render(conversation, options=hk.RenderOptions.REFERENCE) != prompt
    path = tmp_path_factory.mktemp("law_12") / "conversation.json"
    path.write_text(hk.messages_to_json(conversation), "utf-8")
    prompts = {
        "run": prompt_of_run(conversation),
        "request": request.prompt(),
        "batch": prompt_of_batch(body),
        "chat": prompt_of_chat(conversation),
        "render": prompt_of_command(path, "render"),
        "convert": prompt_of_command(path, "convert", "--from", "harmony", "--to", "tokens"),
    }
    assert prompts == dict.fromkeys(prompts, prompt)


@examples(60)
@given(bodies(), rendering_options)
def test_law_12_one_conversation_one_prompt_with_options(body, options):
    request = chat_completions.read_request(body)
    prompt = hk.render(request.messages, options=options)
    changes = {field.name: getattr(options, field.name) for field in fields(options)}
    assert prompt_of_run(request.messages, rendering=options) == prompt
    assert prompt_of_run(request.messages, **changes) == prompt
    assert request.prompt(options=options) == prompt
    assert request.prompt(**changes) == prompt
    assert prompt_of_batch(body, rendering=options) == prompt


# --- Parts that fit together ----------------------------------------------------------------


def test_a_constraint_takes_what_other_functions_take():
    source = hk.constraint([hk.builtins.PythonTool(), look])
    assert source == hk.constraint([hk.PYTHON, look])
    assert source == hk.constraint(hk.Toolbox([hk.PYTHON, look]))
    calls = hk.encode_with_special("<|channel|>analysis to=python code<|message|>1 + 1<|call|>")
    assert source.check(calls) is None


@pytest.mark.parametrize("choice", [None, 5, ["auto"]])
def test_a_constraint_refuses_a_choice_of_another_kind(choice):
    with pytest.raises(hk.errors.OptionError, match="tool_choice: "):
        hk.constraint([look], tool_choice=choice)
    with pytest.raises(hk.errors.OptionError, match="tool_choice: "):
        hk.grammar.conversation_constraint([hk.developer(tools=[look])], tool_choice=choice)


class Search:
    async def search(self, query, topn):
        return []


@pytest.mark.parametrize(
    "make",
    [
        lambda: hk.PYTHON,
        lambda: hk.BROWSER,
        hk.builtins.PythonTool,
        lambda: hk.builtins.BrowserTool(Search()),
    ],
    ids=["PYTHON", "BROWSER", "PythonTool", "BrowserTool"],
)
def test_built_in_tools_are_not_declared_by_the_developer(make):
    tool = make()
    with pytest.raises(hk.errors.ToolError, match=r"system message.*system\(tools=\[\.\.\.\]\)"):
        hk.developer(tools=[look, tool])
    assert hk.system(tools=[tool]).content.tools[0].name in ("python", "browser")


@pytest.mark.parametrize("reason", ["lenght", "", "eos", 5, ["stop"]])
@pytest.mark.parametrize("api", [anthropic, chat_completions, responses])
def test_an_unknown_finish_reason_is_refused(api, reason):
    """Written or streamed: a client would be told that a truncated answer is whole."""
    tokens = hk.encode_with_special("<|channel|>final<|message|>Done.<|return|>")
    result = hk.parse(tokens)
    writer = api.StreamEncoder(model="m", id="x")
    with pytest.raises(hk.errors.OptionError, match="finish_reason"):
        api.write_response(result, model="m", id="x", finish_reason=reason)
    parser = hk.Parser()
    for event in [*parser.feed(tokens), *parser.close()]:
        writer.feed(event)
    with pytest.raises(hk.errors.OptionError, match="finish_reason"):
        writer.close(parser.result(), finish_reason=reason)
    with pytest.raises(hk.errors.OptionError, match="finish_reason"):
        result.history(finish_reason=reason)


@pytest.mark.parametrize("tool", [5, "look", None, [look], {"name": "look"}, hk.user("look")])
def test_what_cannot_stand_for_a_tool_is_refused_where_the_options_are_made(tool):
    with pytest.raises(hk.errors.OptionError, match=r"tools\[1\]: expected a function, a Tool"):
        hk.RunOptions(tools=[look, tool])


@pytest.mark.parametrize("text", ["hello", b"hello"])
def test_text_is_not_parsed_as_token_ids(text):
    with pytest.raises(hk.errors.OptionError, match="use parse_text"):
        hk.parse(text)


@pytest.mark.parametrize("backend", [None, "replay", lambda prompt, sampling: []])
def test_what_is_not_a_backend_is_refused_before_the_run(backend):
    with pytest.raises(hk.errors.BackendError, match=r"expected a backend, got .*load_backend"):
        hk.run([hk.user("Hi")], backend)


def test_a_tool_is_chosen_by_its_plain_name():
    by_plain_name = hk.constraint([look], tool_choice="look")
    assert by_plain_name == hk.constraint([look], tool_choice="functions.look")
    with pytest.raises(hk.errors.GrammarError, match=r"no tool 'lok' .*there are .*functions.look"):
        hk.constraint([look], tool_choice="lok").check([])


def test_dir_lists_what_is_public():
    assert {"run", "wire", "convert", "__version__"} <= {*dir(hk)}
    assert not {"lazily", "annotations", "TYPE_CHECKING", "_find"} & {*dir(hk)}
