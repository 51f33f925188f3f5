"""What requests ask to be kept to: constraints that hold, errors and notes where none can."""

import json

import pytest

import harmony_kit as hk
from harmony_kit.convert import anthropic, chat_completions, responses
from harmony_kit.errors import GrammarError, RequestError

pytest.importorskip("llguidance")

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
ANSWER = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
UNENFORCEABLE = {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}
HAS_NO_GRAMMAR = {"type": "object", "properties": {"a": {"type": "string", "pattern": "a(?=b)"}}}

FINAL = "<|channel|>final<|message|>{}<|return|>"
THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"


def called(name, arguments="{}"):
    return f"<|channel|>commentary to=functions.{name} json<|message|>{arguments}<|call|>"


WEATHER_CALL = called("get_weather", '{"city": "Rome"}')


class Chat:
    read = staticmethod(chat_completions.read_request)
    body = {"messages": [{"role": "user", "content": "Hi"}]}  # noqa: RUF012
    strict_path = "tools[0].function.parameters"
    answer_path = "response_format.json_schema.schema"

    @staticmethod
    def tools(*declared):
        return {
            "tools": [
                {"type": "function", "function": {"name": name, "parameters": schema, **more}}
                for name, schema, more in declared
            ]
        }

    @staticmethod
    def choose(kind, *names):
        functions = [{"type": "function", "function": {"name": name}} for name in names]
        if kind == "one":
            return {"tool_choice": functions[0]}
        if kind == "some":
            allowed = {"mode": "auto", "tools": functions}
            return {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}
        return {"tool_choice": kind}

    @staticmethod
    def answer(schema, **more):
        form = {"name": "answer", "schema": schema, **more}
        return {"response_format": {"type": "json_schema", "json_schema": form}}

    no_reasoning = {"reasoning_effort": "none"}  # noqa: RUF012


class Responses(Chat):
    read = staticmethod(responses.read_request)
    body = {"input": "Hi"}  # noqa: RUF012
    strict_path = "tools[0].parameters"
    answer_path = "text.format.schema"

    @staticmethod
    def tools(*declared):
        return {
            "tools": [
                {"type": "function", "name": name, "parameters": schema, **more}
                for name, schema, more in declared
            ]
        }

    @staticmethod
    def choose(kind, *names):
        functions = [{"type": "function", "name": name} for name in names]
        if kind == "one":
            return {"tool_choice": functions[0]}
        if kind == "some":
            return {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": functions}}
        return {"tool_choice": kind}

    @staticmethod
    def answer(schema, **more):
        return {
            "text": {"format": {"type": "json_schema", "name": "answer", "schema": schema, **more}}
        }

    no_reasoning = {"reasoning": {"effort": "none"}}  # noqa: RUF012


class Anthropic(Chat):
    read = staticmethod(anthropic.read_request)
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}  # noqa: RUF012
    strict_path = "tools[0].input_schema"
    answer_path = "output_config.format.schema"

    @staticmethod
    def tools(*declared):
        return {
            "tools": [
                {"name": name, "input_schema": schema, **more} for name, schema, more in declared
            ]
        }

    @staticmethod
    def choose(kind, *names):
        if kind == "one":
            return {"tool_choice": {"type": "tool", "name": names[0]}}
        return {"tool_choice": {"type": {"required": "any"}.get(kind, kind)}}

    @staticmethod
    def answer(schema):
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}

    no_reasoning = {"thinking": {"type": "disabled"}}  # noqa: RUF012


APIS = [Chat, Responses, Anthropic]
every_api = pytest.mark.parametrize("api", APIS)
PLAIN = ("get_weather", WEATHER, {})
STRICT = ("get_weather", WEATHER, {"strict": True})
OTHER = ("other", {"type": "object", "properties": {}}, {})


def read(api, *fields):
    body = dict(api.body)
    for field in fields:
        body |= field
    return api.read(body)


def admitted(request, *completions):
    """Whether the constraint of a request admits each of some completions."""
    made = request.constraint()
    adapted = request.for_backend({"constraint"})
    assert adapted.sampling.constraint == made
    return [made.check(hk.encode_with_special(text)) is None for text in completions]


def assert_only_notes_without_constraints(request, *paths):
    """What is enforced is noted where it cannot be, and only there."""
    with_it, without = request.for_backend({"constraint"}), request.for_backend(set())
    assert without.sampling == request.sampling
    assert with_it.notes == request.notes
    left = without.notes[len(request.notes) :]
    assert [note.path for note in left] == [*paths]
    assert {note.reason for note in left} == {"not enforced: the backend takes no constraints"}


@every_api
def test_a_request_that_asks_for_nothing_has_none(api):
    for fields in ({}, api.tools(PLAIN), api.tools(PLAIN) | api.choose("auto")):
        request = read(api, fields)
        assert request.constraint() is None
        assert request.for_backend({"constraint"}) == (request.sampling, request.notes)
        assert request.for_backend(set()) == (request.sampling, request.notes)


@every_api
def test_a_call_can_be_required(api):
    request = read(api, api.tools(PLAIN, OTHER), api.choose("required"))
    answer, other = FINAL.format("No."), called("other")
    assert admitted(request, WEATHER_CALL, other, answer) == [True, True, False]
    assert_only_notes_without_constraints(request, "tool_choice")


@every_api
def test_one_tool_can_be_named(api):
    request = read(api, api.tools(PLAIN, OTHER), api.choose("one", "get_weather"))
    answer, other = FINAL.format("No."), called("other")
    assert admitted(request, THOUGHT + WEATHER_CALL, other, answer) == [True, False, False]
    assert_only_notes_without_constraints(request, "tool_choice")


@pytest.mark.parametrize("api", [Chat, Responses])
def test_some_tools_can_be_allowed(api):
    request = read(api, api.tools(PLAIN, OTHER), api.choose("some", "get_weather"))
    answer, other = FINAL.format("No."), called("other")
    assert admitted(request, WEATHER_CALL, other, answer) == [True, False, True]
    assert_only_notes_without_constraints(request, "tool_choice")


@every_api
def test_calls_can_be_forbidden(api):
    request = read(api, api.tools(STRICT), api.choose("none"))
    assert admitted(request, WEATHER_CALL, FINAL.format("No.")) == [False, True]
    assert_only_notes_without_constraints(request, "tool_choice")


@every_api
def test_arguments_of_strict_functions_meet_their_schema(api):
    request = read(api, api.tools(STRICT))
    wrong = called("get_weather", '{"city": "Rome", "days": 10}')
    assert admitted(request, WEATHER_CALL, wrong, FINAL.format("No.")) == [True, False, True]
    assert_only_notes_without_constraints(request, api.strict_path)
    assert all("strict" not in note.path for note in request.notes)


@every_api
def test_answers_have_their_form(api):
    request = read(api, api.answer(ANSWER))
    right, wrong = FINAL.format('{"yes": true}'), FINAL.format('{"yes": 1}')
    assert admitted(request, THOUGHT + right, wrong, FINAL.format("Yes.")) == [True, False, False]
    assert_only_notes_without_constraints(request, api.answer_path)


@pytest.mark.parametrize(
    ("api", "fields", "path"),
    [
        (Chat, {"response_format": {"type": "json_object"}}, "response_format"),
        (Responses, {"text": {"format": {"type": "json_object"}}}, "text.format"),
    ],
)
def test_answers_can_be_any_object(api, fields, path):
    request = read(api, fields)
    objects = FINAL.format('{"a": [1, {"b": null}]}'), FINAL.format("{}")
    assert admitted(request, *objects, FINAL.format("[]")) == [True, True, False]
    assert_only_notes_without_constraints(request, path)


@every_api
def test_reasoning_can_be_forbidden(api):
    request = read(api, api.no_reasoning)
    assert admitted(request, FINAL.format("Hi."), THOUGHT + FINAL.format("Hi.")) == [True, False]
    path = next(note.path for note in request.notes)  # of the effort in the prompt
    assert_only_notes_without_constraints(request, path)


@every_api
def test_an_answer_or_a_call(api):
    """A form of the answer does not forbid calls."""
    request = read(api, api.tools(PLAIN), api.answer(ANSWER))
    answer = FINAL.format('{"yes": false}')
    assert admitted(request, WEATHER_CALL, answer, FINAL.format("No")) == [True, True, False]


@every_api
def test_names_are_those_of_the_prompt(api):
    dashed = ("get-weather", WEATHER, {"strict": True})
    request = read(api, api.tools(dashed), api.choose("one", "get-weather"))
    assert admitted(request, WEATHER_CALL, called("get-weather")) == [True, False]


# --- What cannot be enforced ----------------------------------------------------------------


@every_api
@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        (UNENFORCEABLE, ".properties.a.not", "llguidance does not enforce the keyword 'not'"),
        (HAS_NO_GRAMMAR, "", "llguidance refuses the grammar: "),
    ],
)
def test_what_is_strict_and_cannot_be_enforced_is_an_error(api, schema, place, reason):
    request = read(api, api.tools(("get_weather", schema, {"strict": True}), OTHER))
    for ask in (request.constraint, lambda: request.for_backend({"constraint"})):
        with pytest.raises(RequestError) as raised:
            ask()
        assert raised.value.path == f"{api.strict_path}{place}"
        assert raised.value.reason.startswith(reason)
    # Where nothing is enforced, it is noted as everything else.
    assert request.for_backend(set()).notes[-1].path == api.strict_path
    strict_answer = api.answer(schema) if api is Anthropic else api.answer(schema, strict=True)
    with pytest.raises(RequestError) as raised:
        read(api, strict_answer).constraint()
    assert raised.value.path == f"{api.answer_path}{place}"


@pytest.mark.parametrize("api", [Chat, Responses])
@pytest.mark.parametrize(
    ("schema", "place"), [(UNENFORCEABLE, ".properties.a.not"), (HAS_NO_GRAMMAR, "")]
)
def test_what_is_not_strict_is_enforced_as_far_as_it_can_be(api, schema, place):
    request = read(api, api.answer(schema))
    adapted = request.for_backend({"constraint"})
    (note,) = adapted.notes
    assert note.path == f"{api.answer_path}{place}"
    assert note.reason.startswith("not enforced: llguidance ")
    assert admitted(request, FINAL.format('{"a": 1}'), FINAL.format("text")) == [True, False]


@every_api
def test_functions_of_which_nothing_is_asked_do_not_fail_a_request(api):
    """One whose schema cannot be enforced takes any object; the others are still enforced."""
    tools = api.tools(("loose", UNENFORCEABLE, {}), PLAIN)
    request = read(api, tools, api.choose("required"))
    assert request.for_backend({"constraint"}).notes == request.notes
    wrong = called("get_weather", '{"days": 1}')
    assert admitted(request, called("loose", '{"b": 1}'), WEATHER_CALL, wrong) == [
        *(True, True, False)
    ]


@every_api
def test_a_call_of_nothing_cannot_be_required(api):
    request = read(api, api.choose("required"))
    with pytest.raises(RequestError) as raised:
        request.constraint()
    assert raised.value.path == "tool_choice"
    assert_error_is_a_note = request.for_backend(set()).notes
    assert [note.path for note in assert_error_is_a_note] == ["tool_choice"]


@pytest.mark.parametrize(
    ("api", "fields", "path"),
    [
        (Chat, Chat.tools(("f", WEATHER, {"strict": "yes"})), "tools[0].function.strict"),
        (Responses, Responses.tools(("f", WEATHER, {"strict": "yes"})), "tools[0].strict"),
        (Anthropic, Anthropic.tools(("f", WEATHER, {"strict": "yes"})), "tools[0].strict"),
        (Chat, Chat.answer(ANSWER, strict=1), "response_format.json_schema.strict"),
        (Responses, Responses.answer(ANSWER, strict=1), "text.format.strict"),
    ],
)
def test_strict_is_a_boolean(api, fields, path):
    with pytest.raises(RequestError) as raised:
        read(api, fields)
    assert raised.value.path == path


def test_what_stands_at_the_end_of_the_prompt():
    request = read(Chat, Chat.tools(STRICT), Chat.choose("required"))
    begun = hk.encode_with_special("<|channel|>analysis<|message|>So")
    rest = hk.encode_with_special(" be it.<|end|><|start|>assistant" + WEATHER_CALL)
    for made in (
        request.constraint(after=begun),
        request.for_backend({"constraint"}, after=begun).sampling.constraint,
    ):
        assert made.check(rest) is None
        assert made.check(hk.encode_with_special(WEATHER_CALL)) is not None
    with pytest.raises(GrammarError) as raised:
        request.constraint(after=hk.encode_with_special("<|channel|>final"))
    assert raised.value.path == "after"


def test_custom_tools_take_any_text():
    tool = {"type": "custom", "custom": {"name": "sql"}}
    request = read(Chat, {"tools": [tool], "tool_choice": "required"})
    text = json.dumps({"input": 'SELECT "x" <|end|>'})
    # The text spells a special token: it must be written as ordinary tokens.
    head = hk.encode_with_special("<|channel|>commentary to=functions.sql json<|message|>")
    (call,) = hk.encode_with_special("<|call|>")
    assert request.constraint().check([*head, *hk.encode(text), call]) is None
    assert admitted(request, called("sql", "{}")) == [False]
