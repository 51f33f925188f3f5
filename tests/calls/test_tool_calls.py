"""Reading calls: names, arguments, schemas, statuses, streams."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from timing import assert_linear

from harmony_kit.calls import (
    ArgumentsDelta,
    CallEnded,
    CallStarted,
    CallStatus,
    ToolCall,
    read_arguments,
)
from harmony_kit.calls._json import MAX_DEPTH, json_text, valid_json
from harmony_kit.calls._validation import compiled_schema
from harmony_kit.errors import ToolError
from harmony_kit.tools import Toolbox, ToolCallStream, tool_calls
from harmony_kit.wire._builtin_tools import BROWSER, PYTHON
from harmony_kit.wire._contents import Tool, ToolNamespace
from harmony_kit.wire._events import (
    Completion,
    ContentDelta,
    Event,
    MessageEnded,
    MessageSpan,
    MessageStarted,
    ParsedMessage,
    ProblemFound,
    Terminator,
)
from harmony_kit.wire._messages import Message
from harmony_kit.wire._problems import PROBLEM_KINDS, Layer, problem
from harmony_kit.wire._roles import Role

DATA = Path(__file__).parents[1] / "data" / "malformed"


def cases(*categories: str) -> list[Any]:
    names = categories or [path.stem for path in sorted(DATA.glob("*.json"))]
    found = [
        case for name in names for case in json.loads((DATA / f"{name}.json").read_text())["cases"]
    ]
    assert found
    return [pytest.param(case, id=case["id"]) for case in found]


def call_message(arguments: str, recipient: str | None = "functions.f", **fields: Any) -> Message:
    return Message(Role.ASSISTANT, arguments, recipient=recipient, channel="commentary", **fields)


def parsed(
    message: Message,
    terminator: Terminator | None = Terminator.CALL,
    *,
    index: int = 0,
    met: Iterable[str] = (),
    is_complete: bool = True,
) -> ParsedMessage:
    """A message as a parser gives it, by default one that `<|call|>` closed."""
    start = index * 10
    span = MessageSpan(start, start + 4, start + 8, start + 10)
    problems = tuple(problem(code, start + 1, start + 3) for code in met)
    return ParsedMessage(message, span, terminator, problems, is_complete)


def one(arguments: str, tools: Any = ("f",), recipient: str = "functions.f") -> ToolCall:
    (call,) = tool_calls([parsed(call_message(arguments, recipient))], tools)
    return call


def codes(call: ToolCall) -> list[str]:
    return [met.code for met in call.problems]


def function(schema: Any, name: str = "f") -> Tool:
    return Tool(name, "", schema)


def schema_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# --- The cases ------------------------------------------------------------------------------


def read(case: dict[str, Any]) -> list[ParsedMessage]:
    """The expected messages of the turn, with what a parser would have said about them."""
    expected = case["expected"]
    given = expected["messages"]
    messages = []
    for index, given_fields in enumerate(given[: expected["turn_messages"]]):
        fields = dict(given_fields)
        end = fields.pop("end", None)
        message = Message(fields.pop("role"), fields.pop("content"), **fields)
        concerns = {
            "missing_recipient": message.recipient is None and message.content_type,
            "missing_message": message.recipient and not message.content,
            "conflicting_recipient": message.recipient,
        }
        met = [code for code in expected["diagnosis"] if concerns.get(code)]
        terminator = Terminator(end) if end and end != "<|endoftext|>" else None
        is_cut = index == len(given) - 1 and "end" not in given_fields
        messages.append(parsed(message, terminator, index=index, met=met, is_complete=not is_cut))
    return messages


def tools_of(case: dict[str, Any]) -> list[Any]:
    if case["id"] == "arg-026":  # the case is about a schema, which names alone do not give
        return [function(schema_of(count={"type": "integer"}))]
    return list(case["input"].get("declared_tools") or ())


@pytest.mark.parametrize("case", cases())
def test_a_case_gives_the_calls_that_it_should(case: dict[str, Any]) -> None:
    expected = case["expected"]
    calls = tool_calls(read(case), tools_of(case))
    assert [(call.name, call.arguments, call.status) for call in calls] == [
        (call["name"], call["arguments"], call["status"]) for call in expected["tool_calls"]
    ]
    for call, wanted in zip(calls, expected["tool_calls"], strict=True):
        assert call.raw == wanted.get("raw", call.message.content)
    of_calls = {code for code in expected["diagnosis"] if PROBLEM_KINDS[code].layer is Layer.CALL}
    met = {code for call in calls for code in codes(call)}
    assert met - {"missing_arguments"} == of_calls


# --- Which messages are calls ---------------------------------------------------------------


@pytest.mark.parametrize("recipient", [None, "assistant", "user", "all"])
def test_nobody_in_particular_is_no_tool(recipient: str | None) -> None:
    assert tool_calls([call_message("{}", recipient)], ["f", "user", "all"]) == ()


@pytest.mark.parametrize("channel", ["analysis", "commentary", "final", "finale", None])
def test_the_channel_does_not_matter(channel: str | None) -> None:
    message = Message("assistant", "{}", recipient="functions.f", channel=channel)
    assert [call.status for call in tool_calls([message], ["f"])] == ["ok"]


def test_only_the_assistant_calls() -> None:
    messages = [
        Message("user", "{}", recipient="functions.f"),
        Message("tool", "{}", name="functions.f", recipient="functions.f"),
        Message("assistant", 'to=functions.f {"a": 1}'),
    ]
    assert tool_calls(messages, ["f"]) == ()


def test_calls_after_the_turn_are_ignored_and_after_text_are_not() -> None:
    said = [
        call_message('{"a": 1}'),
        Message("assistant", "one", channel="final"),
        call_message('{"a": 2}'),
        call_message('{"a": 3}'),
    ]
    messages = [parsed(message, index=index) for index, message in enumerate(said)]
    result = Completion(tuple(messages), turn_length=3)
    assert [call.value for call in tool_calls(result, ["f"])] == [{"a": 1}, {"a": 2}]
    assert tool_calls(result) == tool_calls(result.turn)
    assert [call.message_index for call in tool_calls(result)] == [0, 2]
    assert [call.span for call in tool_calls(result)] == [(0, 4, 8, 10), (20, 24, 28, 30)]


def test_plain_iterables_have_no_spans() -> None:
    (call,) = tool_calls(iter([call_message('{"a": 1,}')]), ["f"])
    assert call.span is None
    assert call.problems[0].span == (0, 9)
    assert hash(call)


# --- Names ----------------------------------------------------------------------------------

SEARCHER = ToolNamespace("library", (function(schema_of(a={}), "find"),))


@pytest.mark.parametrize(
    ("recipient", "tools", "full_name"),
    [
        ("functions.f", ["f"], "functions.f"),
        ("f", ["f"], "functions.f"),
        ("functions.f", ["functions.f"], "functions.f"),
        ("files.read", ["files.read"], "functions.files.read"),
        ("functions.files.read", ["files.read"], "functions.files.read"),
        ("python", [PYTHON], "python"),
        ("functions.python", [PYTHON], "python"),
        ("functions.python", ["python"], "python"),
        ("browser.search", [BROWSER], "browser.search"),
        ("functions.browser.search", [BROWSER], "browser.search"),
        ("browser.open", ["browser"], "browser.open"),
        ("browser.find", ["browser.find"], "browser.find"),
        ("library.find", [SEARCHER], "library.find"),
        ("functions.library.find", [SEARCHER], "library.find"),
        ("functions.f", Toolbox([function(None)]), "functions.f"),
    ],
)
def test_a_recipient_that_means_a_declared_tool(recipient: str, tools: Any, full_name: str) -> None:
    call = one('{"a": 1}', tools, recipient)
    assert call.full_name == full_name
    assert "undeclared_tool" not in codes(call)
    assert "recipient_normalized" not in codes(call)
    assert call.status is not CallStatus.UNDECLARED


@pytest.mark.parametrize(
    "recipient",
    [
        "functions.f.",
        "f,",
        "functions.f:",
        "functions.f()",
        "functions.f<|channel|>commentary",
        "functions.f<|constrain|>json",
        "<|constrain|>functions.f",
        "functions.f<|",
        '"f"'[1:],
        *('"functions.f"', "`functions.f`", "'f'", "functions. f", "function.f", "Functions.f"),
        *("FUNCTIONS.F", "F", ".f", "functions.functions.f", "functions..f", "functions/f"),
        *("functions.fjson", "functions.fcommentary", "fcode", "functions.f..commentary json"),
    ],
)
def test_a_recipient_with_remains(recipient: str) -> None:
    call = one("{}", ["f"], recipient)
    assert (call.full_name, call.status) == ("functions.f", CallStatus.REPAIRED)
    assert codes(call) == ["recipient_normalized"]
    assert call.problems[0].detail == recipient
    assert call.runnable


@pytest.mark.parametrize(
    "recipient",
    [
        "functions.g",
        "functions.f.f",
        "functions.ffinally",
        "functionsf",
        "xfunctions.f",
        "tool.f",
        "find",
        "python",
        "browser.f",
    ],
)
def test_nothing_else_means_it(recipient: str) -> None:
    call = one("{'a': 1", ["f", SEARCHER], recipient)
    assert call.status is CallStatus.UNDECLARED
    assert codes(call) == ["undeclared_tool"]
    assert call.arguments == call.raw == "{'a': 1"
    assert not call.runnable


@pytest.mark.parametrize(
    ("tools", "recipient", "full_name"),
    [
        (["shell", "shelljson"], "functions.shelljson", "functions.shelljson"),
        (["shell"], "functions.shelljson", "functions.shell"),
        (["lookup", "lookup_city"], "functions.lookup _city", "functions.lookup_city"),
        (["get-weather"], "functions.get_weather", "functions.get-weather"),
        (["get_x", "get-x"], "functions.get.x", None),
        (["code"], "functions.code", "functions.code"),
        (["f", "F"], "functions.f", "functions.f"),
    ],
)
def test_a_name_of_its_own_comes_before_a_similar_one(tools, recipient, full_name) -> None:
    call = one("{}", tools, recipient)
    assert call.status is not CallStatus.UNDECLARED if full_name else not call.runnable
    assert full_name in (None, call.full_name)


@pytest.mark.parametrize("recipient", ["", ".", "functions", "functions.", "<|call|>", "<|start|>"])
def test_a_recipient_that_names_nothing(recipient: str) -> None:
    for tools in (["f"], None):
        call = one("{'a': 1", tools, recipient)
        assert (call.name, call.status) == (None, CallStatus.MISSING_NAME)
        assert call.arguments == call.raw == "{'a': 1"
        assert not call.runnable


def test_punctuation_that_belongs_to_a_name_stays() -> None:
    assert one("{}", ["f.", "f"], "functions.f.").name == "f."


def test_a_function_may_have_the_name_of_a_built_in_tool() -> None:
    calls = tool_calls(
        [parsed(call_message("{}", "python")), call_message("{}", "functions.python")],
        [function(None, "python"), PYTHON],
    )
    assert [call.full_name for call in calls] == ["python", "functions.python"]
    assert [call.status for call in calls] == ["raw", "ok"]


@pytest.mark.parametrize(
    ("recipient", "parts"),
    [
        ("functions.f", ("functions", "f")),
        ("f", (None, "f")),
        ("a.b.c", ("a", "b.c")),
        (".f", (None, ".f")),
        ("python", (None, "python")),
    ],
)
def test_without_tools_names_are_only_split(recipient: str, parts: tuple[str | None, str]) -> None:
    call = one("{'a': 1}", None, recipient)
    assert (call.namespace, call.name) == parts
    assert call.status == ("raw" if recipient == "python" else "repaired")


def test_what_is_no_tool_cannot_be_declared() -> None:
    with pytest.raises(ToolError):
        tool_calls([], [3])  # type: ignore[list-item]


def test_functions_are_declared_with_their_schemas() -> None:
    def f(count: int) -> None:
        pass

    assert one('{"count": "3"}', [f]).arguments == '{"count": 3}'
    assert one('{"count": "3"}', Toolbox([f])).status == "coerced"
    assert one('{"count": "x"}', [f]).status == "invalid"


# --- Text instead of JSON -------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    ["print(1)\n", " {}", '{"code": 1}', '{"code": "x", "y": 1}', "{'code': 'x'}", "[1]", "3"],
)
def test_python_gets_the_text(code: str) -> None:
    call = one(code, [PYTHON], "python")
    assert (call.arguments, call.status, call.value) == (code, CallStatus.RAW, code)
    assert call.runnable
    assert call.takes_text


def test_code_in_a_json_object_is_taken_out() -> None:
    call = one('{"code": "a\\nb"}', [ToolNamespace("shell")], "shell")
    assert (call.arguments, call.status, codes(call)) == ("a\nb", "repaired", ["json_wrapped_code"])
    assert call.value == "a\nb"


# --- Arguments: repair ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ('{"a":1, // why\n"b":2}', '{"a":1,"b":2}', "json_repaired"),
        ('{"a": 1 # why\n}', '{"a": 1}', "json_repaired"),
        ('{"a": 1 /* why */}', '{"a": 1}', "json_repaired"),
        ('{"a": [1, 2,], }', '{"a": [1, 2]}', "json_repaired"),
        ('{"a": "x,}", }', '{"a": "x,}"}', "json_repaired"),
        ("{'a': 'it\\'s \"b\"'}", '{"a": "it\'s \\"b\\""}', "json_repaired"),
        ("{'a': [True, False, None]}", '{"a": [true, false, null]}', "json_repaired"),
        ('{"a": "True", "b": True}', '{"a": "True", "b": true}', "json_repaired"),
        ('{"a": [NaN, -Infinity]}', '{"a": [null, null]}', "json_repaired"),
        ('{"a": "b\nc"}', '{"a": "b\\nc"}', "json_repaired"),
        ('{"a": "C:\\path"}', '{"a": "C:\\\\path"}', "json_repaired"),
        ('{"a": "\\x41"}', '{"a": "\\u0041"}', "json_repaired"),
        ("{a: 1}", '{"a": 1}', "json_repaired"),
        ("{“a”: “b”}", '{"a": "b"}', "json_repaired"),
        ('{"a": (1, 2)}', '{"a": [1, 2]}', "json_repaired"),
        ('{"a": "say "hi" now"}', '{"a": "say \\"hi\\" now"}', "json_repaired"),
        ('```json\n{"a": 1}\n```', '{"a": 1}', "json_repaired"),
        ("```\n{'a': 1}\n```", '{"a": 1}', "json_repaired"),
        ('Here: {"a":1}. Done.', '{"a":1}', "json_repaired"),
        ('f({"a":1})', '{"a":1}', "json_repaired"),
        ('\ufeff{"a":1}', '{"a":1}', "json_repaired"),
        ('[{"a":1}]', '{"a":1}', "json_repaired"),
        ('{{"a":1}}', '{"a":1}', "json_repaired"),
        ('"a": 1}', '{"a": 1}', "json_repaired"),
        ('{\\"a\\": \\"b\\\\nc\\"}', '{"a": "b\\nc"}', "json_repaired"),
        ('"{\\"a\\":1}"', '{"a":1}', "double_encoded_json"),
        ('"\\"{\\\\\\"a\\\\\\":1}\\""', '{"a":1}', "double_encoded_json"),
        ('{"arguments": {"a": 1}}', '{"a": 1}', "enveloped_arguments"),
        ('{"arguments":"{\\"a\\":1}"}', '{"a":1}', "enveloped_arguments"),
        ('{"name": "f", "arguments": {"a": 1}}', '{"a": 1}', "enveloped_arguments"),
        ('{"name": "functions.f", "parameters": {"a": 1}}', '{"a": 1}', "enveloped_arguments"),
        ('{"parameters": {}}', "{}", "enveloped_arguments"),
        ('{"a":"b', '{"a":"b"}', "truncated_json"),
        ('{"a":{"b":[1,2', '{"a":{"b":[1,2]}}', "truncated_json"),
        ('{"a":1,', '{"a":1}', "truncated_json"),
        ('{"a":1,"b', '{"a":1}', "truncated_json"),
        ('{"a":1,"b":', '{"a":1}', "truncated_json"),
        ('{"a":1,"b":tru', '{"a":1}', "truncated_json"),
        ('{"a":"b\\', '{"a":"b"}', "truncated_json"),
        ('{"a":"b\\u12', '{"a":"b"}', "truncated_json"),
        ('{"a":"b\\ud83d', '{"a":"b"}', "truncated_json"),
        ("{", "{}", "truncated_json"),
        ("{'a': 'b", '{"a": "b"}', "truncated_json"),
    ],
)
def test_text_that_is_almost_json(text: str, arguments: str, code: str) -> None:
    call = one(text)
    assert call.status is CallStatus.REPAIRED
    assert json.loads(call.arguments) == json.loads(arguments)
    if "\\u00" not in arguments:
        assert call.arguments == arguments
    assert code in codes(call)
    assert call.raw == text


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "null",
        "true",
        "3",
        '"x"',
        "[]",
        "[1]",
        '[{"a":1},{"b":2}]',
        '[{"a":1},{"b":2',
        "print('hi')",
        'print({"a":1})',
        'import json\nx = {"a":1}',
        "{not json}",
        "{ f(); }",
        "{if (x) { return 1; }}",
        "{:}",
        '{"a"}',
        '{"a" 1}',
        '{"a": """x"""}',
        '{"a": }',
        '{"a": "one" "two"}',
        "}",
        "]",
        '"',
        "'",
        "\\",
        '{"a":1e400}',
        '{"a":' + "9" * 5000 + "}",
    ],
)
def test_text_that_no_repair_makes_an_object(text: str) -> None:
    call = one(text)
    assert (call.status, codes(call)) == (CallStatus.INVALID, ["not_json"])
    assert call.arguments == call.raw == text
    assert not isinstance(call.value, dict)
    assert not call.runnable


def test_an_envelope_that_the_schema_knows_is_none() -> None:
    text = '{"arguments": {"a": 1}}'
    definitions = {"$defs": {"x": schema_of(arguments={})}, "$ref": "#/$defs/x"}
    for schema in (schema_of(arguments={}), {"allOf": [schema_of(arguments={})]}, definitions):
        assert one(text, [function(schema)]).arguments == text
    assert one(text, [function(schema_of(a={}))]).arguments == '{"a": 1}'
    assert one('{"name": "g", "arguments": {}}').status == "ok"
    assert one('{"age": 3, "arguments": {}}').status == "ok"


def test_a_repeated_key_counts_once() -> None:
    call = one('{"a": {"b":1,"b":2}}')
    assert (call.status, codes(call)) == (CallStatus.OK, ["duplicate_keys"])
    assert call.value == {"a": {"b": 2}}


def test_blanks_around_the_arguments_are_cut() -> None:
    assert one(' \n{"a" : 1}\t').arguments == '{"a" : 1}'
    assert one(' \n{"a" : 1}\t').status == "ok"


def test_a_lone_surrogate_stays_an_escape() -> None:
    call = one('{"a":"\\ud800",}')
    assert call.arguments.encode()
    assert call.value == {"a": "\ud800"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
OBJECTS = st.dictionaries(
    st.text().filter(lambda key: key not in ("arguments", "parameters")), JSON, max_size=5
)


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans(), st.text(" \t\n\r", max_size=3))
def test_valid_json_stays_byte_for_byte(
    value: Any, indent: int | None, ascii_only: bool, blanks: str
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    call = one(f"{blanks}{text}{blanks}", None)
    assert (call.arguments, call.status, call.problems) == (text, CallStatus.OK, ())
    assert json.dumps(call.value) == json.dumps(value)


@given(OBJECTS, st.data())
def test_cut_off_json_keeps_what_was_whole(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"first": 1, **value, "last": 1})
    end = data.draw(st.integers(len('{"first": 1'), len(text) - 1))
    call = one(text[:end], None)
    assert call.status is CallStatus.REPAIRED
    assert call.value.keys() <= {"first", "last", *value}
    if "first" not in value:
        assert call.value["first"] == 1


FRAGMENTS = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        "\\",
        ",",
        ":",
        "a",
        "1",
        " ",
        "\n",
        "//",
        "/*",
        "#",
        "NaN",
        "True",
        "```",
        '{"a":',
        '"a"',
        "\\u",
        "\ud800",
        "“",
        "arguments",
        "f(",
        "\x00",
        "-",
        ".",
    ]
)
ANYTHING = st.text() | st.lists(FRAGMENTS, max_size=30).map("".join)


@examples(400)
@given(ANYTHING, ANYTHING, st.booleans())
def test_no_text_raises(content: str, recipient: str, known: bool) -> None:
    tools = [function(schema_of(a={"type": "integer"})), PYTHON] if known else None
    messages = [call_message(content, name) for name in ("functions.f", "python", recipient)]
    for call in tool_calls(messages, tools):
        assert call.raw == content
        assert call.problems == tuple(problem(p.code, *p.span, p.detail) for p in call.problems)
        if (
            call.status in (CallStatus.OK, CallStatus.REPAIRED, CallStatus.COERCED)
            and not call.takes_text
        ):
            assert isinstance(json.loads(call.arguments, parse_constant=pytest.fail), dict)
            assert isinstance(call.value, dict)
        if call.status is CallStatus.INVALID:
            assert {"not_json", "too_deep", "schema_mismatch"} & set(codes(call))


# --- Hostile input --------------------------------------------------------------------------


def seconds(text: str) -> float:
    start = time.process_time()
    read_arguments(text, json.dumps(schema_of(a={"type": "integer"})), name="f")
    return time.process_time() - start


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        "[",
        "}",
        '\\"',
        '{"a":',
        '"',
        "\\",
        ",",
        "'",
        "a",
        "{}",
        '{"a":1,',
        "/*",
        "//",
        "{a:",
        ", ,",
        '"a" ',
        "True ",
        "\\u12",
        "{ ",
    ],
)
@pytest.mark.parametrize("prefix", ["", '{"a":"', "{'a': ", '{"a": [', "{"])
def test_law_9_reading_is_linear(unit: str, prefix: str) -> None:
    def text(length: int) -> str:
        return prefix + (unit * length)[:length]

    assert_linear(lambda length: seconds(text(length)), 20_000, 200_000)
    # Short enough for the library, which is bounded and not linear.
    assert seconds(text(2_000)) < 30


@pytest.mark.parametrize("unit", ["{", '{"a":', "[", '{"a":[', "[{"])
@pytest.mark.parametrize("closed", [False, True])
def test_deep_nesting_is_a_status(unit: str, closed: bool) -> None:
    text = '{"a":' + unit * 10_000 + " " * 900_000
    if closed:
        text += (
            "1" + "".join({"{": "}", "[": "]"}.get(c, "") for c in reversed(unit * 10_000)) + "}"
        )
    call = one(text)
    assert (call.status, codes(call)) == (CallStatus.INVALID, ["too_deep"])
    assert call.arguments == text
    assert call.value is None


def test_the_depth_that_is_read() -> None:
    def nested(depth: int) -> str:
        return '{"a":' * depth + "1" + "}" * depth

    assert one(nested(MAX_DEPTH)).status == "ok"
    assert codes(one(nested(MAX_DEPTH + 1))) == ["too_deep"]
    assert one('{"a": "' + "[" * 500 + '"}').status == "ok"
    assert codes(one(json.dumps(nested(MAX_DEPTH + 1)))) == ["too_deep"]
    assert codes(one(json.dumps({"arguments": nested(MAX_DEPTH + 1)}))) == ["too_deep"]
    hidden = json.dumps({"a": nested(MAX_DEPTH)})
    assert one(hidden, [function(schema_of(a={"type": "object"}))]).status == "invalid"


def test_a_full_stack_is_a_status() -> None:
    def deeper() -> ToolCall:
        try:
            return deeper()
        except RecursionError:
            return one("{a: {b: {c: [1, (2)]}}}")

    assert deeper().status in (CallStatus.REPAIRED, CallStatus.INVALID)


def test_the_library_gets_no_more_than_it_can_read_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import json_repair

    given_to_it: list[str] = []

    def loads(text: str, **_options: Any) -> Any:
        given_to_it.append(text)
        return {}

    monkeypatch.setattr(json_repair, "loads", loads)
    one('{"a":"' + "{a:" * 5000)
    one("{a: " + "x" * 200_000 + "}")
    one("{a: x}")
    assert given_to_it == ["{a: x}"]


# --- Schemas --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "given_value", "value"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, "-3.0", -3),
        ({"type": "number"}, "3.5", 3.5),
        ({"type": "number"}, "3", 3),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "False", False),
        ({"type": "string"}, 3, "3"),
        ({"type": ["integer", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "3", 3),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        ({"type": "object"}, '{"x": 1}', {"x": 1}),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "array", "items": {"type": "integer"}}, "3", [3]),
        ({"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
        ({"type": "array", "items": {"type": "string"}}, "one", ["one"]),
        (schema_of(b={"type": "integer"}), {"b": "3"}, {"b": 3}),
        (schema_of(b={"type": "integer"}), '{"b": "3"}', {"b": 3}),
        ({"$ref": "#/$defs/x"}, "3", 3),
        ({"type": "integer", "enum": [1, 2]}, "2", 2),
    ],
)
def test_a_value_is_converted_without_loss(schema: Any, given_value: Any, value: Any) -> None:
    parameters = {**schema_of(a=schema, z={}), "$defs": {"x": {"type": "integer"}}}
    call = one(json.dumps({"a": given_value, "z": "3"}), [function(parameters)])
    assert call.status is CallStatus.COERCED
    assert json.dumps(call.value) == json.dumps({"a": value, "z": "3"})
    assert set(codes(call)) == {"schema_coercion"}
    assert all((met.detail or "").startswith("$.a") for met in call.problems)
    assert call.runnable


def test_a_whole_number_with_a_point_is_an_integer_where_the_draft_says_no() -> None:
    old = {"$schema": "http://json-schema.org/draft-04/schema#", **schema_of(a={"type": "integer"})}
    assert one('{"a": 3.0}', [function(old)]).arguments == '{"a": 3}'
    assert one('{"a": 3.0}', [function(schema_of(a={"type": "integer"}))]).status == "ok"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, "3.5"),
        ({"type": "integer"}, " 3"),
        ({"type": "integer"}, "007"),
        ({"type": "integer"}, "1_000"),
        ({"type": "integer"}, "x"),
        ({"type": "integer"}, True),
        ({"type": "number"}, "0.1000000000000000000001"),
        ({"type": "number"}, "NaN"),
        ({"type": "number"}, "1e999"),
        ({"type": "boolean"}, "yes"),
        ({"type": "boolean"}, 1),
        ({"type": "string"}, 1.10),
        ({"type": "string"}, True),
        ({"type": "object"}, "[1]"),
        ({"type": "object"}, "x"),
        ({"type": "array", "items": {"type": "string"}}, "one, two"),
        ({"type": "integer", "maximum": 2}, "3"),
        ({"type": "string", "minLength": 3}, "ab"),
        ({"enum": ["Up", "up"]}, "UP"),
        ({"enum": ["celsius", "kelvin"]}, "celsius, kelvin"),
        ({"enum": [1, 2]}, "3"),
        ({"enum": [1, 2]}, "2nd"),
        ({"const": 1}, "one"),
    ],
)
def test_what_would_lose_something_is_not_converted(schema: Any, value: Any) -> None:
    text = json.dumps({"a": value})
    call = one(text, [function(schema_of(a=schema))])
    assert (call.status, codes(call)) == (CallStatus.INVALID, ["schema_mismatch"])
    assert call.arguments == text
    assert call.value == json.loads(text)
    assert (call.problems[0].detail or "").startswith("$.a: ")
    assert not call.runnable


@pytest.mark.parametrize(
    ("schema", "value", "meant"),
    [
        ({"enum": ["celsius", "kelvin"]}, "Celsius", "celsius"),
        ({"enum": ["celsius", "kelvin"]}, " KELVIN ", "kelvin"),
        ({"enum": [1, 2]}, "2", 2),
        ({"enum": [1.5, 2]}, "1.5", 1.5),
        ({"enum": ["1", "2"]}, 2, "2"),
        ({"enum": [True, "auto"]}, "true", True),
        ({"enum": [None, "auto"]}, "null", None),
        ({"const": "Up"}, "up", "Up"),
        ({"anyOf": [{"enum": [1, 2]}, {"type": "boolean"}]}, "2", 2),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["A", "b"], ["a", "b"]),
        ({"$ref": "#/$defs/unit"}, "METER", "meter"),
    ],
)
def test_the_value_that_is_meant_is_taken(schema: Any, value: Any, meant: Any) -> None:
    parameters = {**schema_of(a=schema), "$defs": {"unit": {"enum": ["meter", "mile"]}}}
    call = one(json.dumps({"a": value}), [function(parameters)])
    assert (call.status, set(codes(call))) == (CallStatus.COERCED, {"schema_coercion"})
    assert call.value == {"a": meant}
    assert type(call.value["a"]) is type(meant)


@pytest.mark.parametrize("schema", [{"type": "integer"}, {"enum": ["a"]}, {"type": "array"}])
def test_null_is_left_out_where_that_is_allowed(schema: Any) -> None:
    parameters = schema_of(a=schema, b={"type": "string"})
    call = one('{"a": null, "b": "x"}', [function(parameters)])
    assert (call.status, call.value) == (CallStatus.COERCED, {"b": "x"})
    call = one('{"a": null, "b": "x"}', [function({**parameters, "required": ["a"]})])
    assert (call.status, call.value) == (CallStatus.INVALID, {"a": None, "b": "x"})
    allowed = schema_of(a={"type": ["integer", "null"]})
    assert one('{"a": null}', [function(allowed)]).status is CallStatus.OK


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"E:\bin\fetch\x.dll", r"E:\bin\fetch\x.dll"),
        (r"E:\temp\new\report\u.txt", r"E:\temp\new\report\u.txt"),
        (r"\\nas\share\neu\bild.png", r"\\nas\share\neu\bild.png"),
        (r"E:\\temp\new\apps", r"E:\temp\new\apps"),
        (r"dir E:\bin\tools\x \n", "dir E:\\bin\\tools\\x \n"),
        (r"^\w+\b\.f\s*$", r"^\w+\b\.f\s*$"),
        (r"\bword\B", r"\bword\B"),
        (r"line one\nline \d", "line one\nline \\d"),
        (r"tab\there \q", "tab\there \\q"),
        (r"\u00e4 \d", "\u00e4 \\d"),
        (r"a\\b \d", r"a\b \d"),
    ],
)
@pytest.mark.parametrize("form", ['{"a": "VALUE"}', "{'a': 'VALUE'}", '{"b": 1, "a": "VALUE", }'])
def test_raw_backslashes_do_not_become_control_characters(
    form: str, written: str, meant: str
) -> None:
    call = one(form.replace("VALUE", written), [function(schema_of(a={"type": "string"}))])
    assert call.value["a"] == meant
    assert call.status is CallStatus.REPAIRED


@pytest.mark.parametrize("text", [r"A:\u001f", r"Option A:\nfirst\nsecond", r"B:\tx\b"])
def test_escapes_that_json_knows_stay_in_a_repaired_object(text: str) -> None:
    call = one(f'{{"a": "{text}", }}', [function(schema_of(a={"type": "string"}))])
    assert (call.status, call.value["a"]) == (CallStatus.REPAIRED, json.loads(f'"{text}"'))


@pytest.mark.parametrize("written", [r"D:\repo\build", r"C:\\x\\y", r"a\nb", r"\u00e4"])
def test_valid_escapes_are_left_alone(written: str) -> None:
    text = f'{{"a": "{written}"}}'
    call = one(text, [function(schema_of(a={"type": "string"}))])
    assert (call.arguments, call.status) == (text, CallStatus.OK)


@pytest.mark.parametrize("between", [" ", "\n", ", ", ";", ""])
def test_two_different_objects_are_ambiguous(between: str) -> None:
    call = one(f'{{"a": 1}}{between}{{"a": 2}}', ["f"])
    assert (call.status, call.runnable) == (CallStatus.AMBIGUOUS, False)
    assert codes(call) == ["several_objects"]
    same = one(f'{{"a": 1}}{between}{{"a": 1}}', ["f"])
    assert (same.status, same.value) == (CallStatus.REPAIRED, {"a": 1})


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff", "\u00a0\u2003", "\u2060\t"])
def test_arguments_that_show_nothing_are_empty(text: str) -> None:
    call = one(text, [function(schema_of())])
    assert (call.status, call.arguments) == (CallStatus.EMPTY_ARGUMENTS, "{}")


@pytest.mark.parametrize(
    "text",
    ["*** Begin Patch\n+{x\n*** End Patch", "SELECT {1}", "{'a': 1}", '{"a": 1'],
)
def test_free_text_for_a_tool_that_takes_text_stays_as_it_is(text: str) -> None:
    patch = ToolNamespace("apply_patch")
    call = one(text, [patch], "apply_patch")
    assert (call.arguments, call.status, call.problems) == (text, CallStatus.RAW, ())


def test_either_all_is_converted_or_nothing() -> None:
    text = '{"a": "3", "b": "x"}'
    call = one(text, [function(schema_of(a={"type": "integer"}, b={"type": "integer"}))])
    assert (call.arguments, call.status) == (text, CallStatus.INVALID)


def test_many_wrong_values_take_linear_time() -> None:
    tools = [function(schema_of(a={"type": "array", "items": {"type": "integer"}}))]
    start = time.process_time()
    assert one(json.dumps({"a": ["3"] * 1000}), tools).status == "coerced"
    assert one(json.dumps({"a": ["3"] * 20_000}), tools).status == "invalid"
    assert time.process_time() - start < 30


def test_repaired_arguments_are_checked_too() -> None:
    tools = [function({**schema_of(a={"type": "integer"}), "required": ["a"]})]
    assert one("{'a': '3'}", tools).status == "coerced"
    assert codes(one("{'a': '3'}", tools)) == ["json_repaired", "schema_coercion"]
    assert one('{"b": 3', tools).status == "invalid"
    assert one("", tools).status == "empty_arguments"
    assert not one("", tools).runnable
    assert one("", ["f"]).runnable
    assert one("", ["f"]).value == {}


def test_parameters_that_are_no_object() -> None:
    call = one("[1, 2]", [function({"type": "array", "items": {"type": "integer"}})])
    assert (call.status, call.value) == (CallStatus.OK, [1, 2])
    assert one('"3"', [function({"type": "integer"})]).value == 3
    assert one("x", [function({"type": "integer"})]).status == "invalid"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"$schema": "http://127.0.0.1:9/schema.json"},
        {"type": "nonsense"},
        {"properties": 3},
        {"properties": {"a": {"pattern": "("}}},
        {"$ref": "#/nowhere"},
        {"type": 3},
        True,
        {"$ref": "#"},
    ],
)
def test_a_schema_that_cannot_be_used_checks_nothing(
    schema: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    call = one('{"a": "x"}', [function(schema)])
    assert (call.status, call.problems) == (CallStatus.OK, ())


def test_a_reference_is_never_fetched() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        reference = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        assert one("{}", [function({"$ref": reference})]).status == "ok"
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_validator_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import jsonschema_rs

    built: list[str] = []
    real = jsonschema_rs.validator_for

    def validator_for(schema: str, **options: Any) -> Any:
        built.append(schema)
        return real(schema, **options)

    compiled_schema.cache_clear()
    monkeypatch.setattr(jsonschema_rs, "validator_for", validator_for)
    for _ in range(3):
        one('{"a": 1}', [function(schema_of(a={"type": "integer"}))])
    assert len(built) == 1


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {},
            {"type": "string"},
            {"type": "integer"},
            {"type": "number"},
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["integer", "null"]},
            {"enum": ["a", 1]},
            {"type": "integer", "minimum": 0},
            {"type": "string", "minLength": 2},
        ]
    ),
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": required,
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.lists(st.sampled_from("abc"), unique=True, max_size=1),
        )
    ),
    max_leaves=6,
)
SMALL_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "a", "ab", "3", "true", "null", "[1]", '{"a": "1"}', 0.5]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


@examples(300)
@given(
    st.dictionaries(st.sampled_from("abc"), SCHEMAS, max_size=3),
    st.dictionaries(st.sampled_from("abc"), SMALL_VALUES, max_size=3),
)
def test_validity_is_that_of_jsonschema(properties: Any, value: Any) -> None:
    schema = {**schema_of(**properties), "additionalProperties": {}}
    valid = jsonschema.Draft202012Validator(schema).is_valid
    text = json.dumps(value)
    call = one(text, [function(schema)])
    if valid(value):
        assert (call.status, call.arguments) == (CallStatus.OK, text)
    elif call.status is CallStatus.COERCED:
        assert valid(call.value)
        assert call.arguments == json_text(call.value)
    else:
        assert (call.status, call.arguments) == (CallStatus.INVALID, text)


# --- Statuses -------------------------------------------------------------------------------


def wire(
    *contents: str,
    incomplete: int | None = None,
    met: tuple[str, ...] = (),
    recipient: str | None = "functions.f",
    terminator: Terminator = Terminator.CALL,
) -> list[ParsedMessage]:
    """Calls as a parser gives them; `met` are the problems of the second."""
    return [
        parsed(
            call_message(content, recipient),
            None if index == incomplete else terminator,
            index=index,
            met=met if index == 1 else (),
            is_complete=index != incomplete,
        )
        for index, content in enumerate(contents)
    ]


@pytest.mark.parametrize(
    ("content", "met", "incomplete", "status"),
    [
        ('{"a":1}', (), False, "ok"),
        ('{"a":1}', (), True, "ok"),
        ('{"a":1', (), True, "truncated"),
        ('{"a":1', (), False, "repaired"),
        ("{'a':1}", (), True, "repaired"),
        ("x", (), True, "truncated"),
        ("", (), True, "truncated"),
        ("", ("missing_message",), False, "missing_arguments"),
        ('{"a":1}', ("missing_message",), False, "ok"),
        ('{"a":1}', ("conflicting_recipient",), False, "ambiguous"),
        ("x", ("conflicting_recipient",), False, "ambiguous"),
        ('{"a":1', ("conflicting_recipient",), True, "truncated"),
        ("", ("conflicting_recipient",), False, "ambiguous"),
        ("", ("conflicting_recipient", "missing_message"), False, "missing_arguments"),
        ("", (), False, "empty_arguments"),
        (" \n", (), False, "empty_arguments"),
        ("x", (), False, "invalid"),
    ],
)
def test_the_rank_of_the_statuses(
    content: str, met: tuple[str, ...], incomplete: bool, status: str
) -> None:
    messages = wire(
        '{"first": 1}', content, '{"last": 1}', met=met, incomplete=1 if incomplete else None
    )
    first, call, last = tool_calls(messages, ["f"])
    assert call.status == status
    assert call.runnable == (status in {"ok", "repaired", "empty_arguments"})
    assert (first.status, last.status) == ("ok", "ok")  # a problem concerns its own message alone
    assert all(met.span in ((14, 18), (10, 14)) for met in call.problems)


def test_a_cut_off_call_is_offered_repaired() -> None:
    (call,) = tool_calls(wire('{"a":"b', incomplete=0), ["f"])
    assert (call.arguments, call.status, codes(call)) == (
        '{"a":"b"}',
        "truncated",
        ["truncated_json"],
    )
    (code,) = tool_calls(wire("print(", incomplete=0, recipient="python"), ["python"])
    assert (code.arguments, code.status) == ("print(", "truncated")


def test_a_call_without_a_name() -> None:
    messages = wire("text", '{"a":1}', met=("missing_recipient",), recipient=None)
    (call,) = tool_calls(messages, ["f"])
    assert (call.name, call.full_name, call.status) == (None, None, CallStatus.MISSING_NAME)
    assert (call.message_index, call.arguments) == (1, '{"a":1}')
    assert not call.runnable


def test_a_repeated_call_is_a_duplicate() -> None:
    contents = [
        '{"a":1,"b":2}',
        '{"b": 2, "a": 1}',
        '{"a":1.0,"b":2}',
        "{'a': 1, 'b': 2}",
        '{"a":1,"b":2}',
    ]
    calls = tool_calls(wire(*contents), ["f"])
    assert [call.status for call in calls] == ["ok", "duplicate", "ok", "duplicate", "duplicate"]
    assert codes(calls[3]) == ["json_repaired", "repeated_call"]
    assert not calls[1].runnable


def test_what_is_no_duplicate() -> None:
    other = tool_calls([call_message("{}"), call_message("{}", "functions.g")], ["f", "g"])
    assert [call.status for call in other] == ["ok", "ok"]
    again = [call_message("{}"), Message("tool", "1", name="functions.f"), call_message("{}")]
    assert [call.status for call in tool_calls(again, ["f"])] == ["ok", "ok"]
    ambiguous = wire('{"a":1}', '{"b":1}', '{"b":1}', met=("conflicting_recipient",))
    assert [call.status for call in tool_calls(ambiguous, ["f"])] == ["ok", "ambiguous", "ok"]
    assert [call.status for call in tool_calls(wire("x", "x"), ["f"])] == ["invalid", "invalid"]


def test_calls_without_arguments_can_be_duplicates() -> None:
    calls = tool_calls(wire("", "", "{}"), ["f"])
    assert [call.status for call in calls] == ["empty_arguments", "duplicate", "duplicate"]


def test_many_messages_take_linear_time() -> None:
    messages = [
        parsed(call_message(f'{{"a":{n}}}'), index=n, met=["conflicting_recipient"])
        for n in range(5000)
    ]

    def measure(count: int) -> float:
        start = time.process_time()
        assert {call.status for call in tool_calls(messages[:count], ["f"])} == {"ambiguous"}
        return time.process_time() - start

    assert_linear(measure, 500, 5000)


# --- Streams --------------------------------------------------------------------------------


def events_of(messages: Iterable[ParsedMessage], size: int) -> list[Event]:
    events: list[Event] = []
    for index, message in enumerate(messages):
        events += [ProblemFound(met) for met in message.problems]
        events.append(MessageStarted(index, message.header))
        text = message.text
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        events += [ContentDelta(index, message.header, piece) for piece in pieces]
        events.append(MessageEnded(index, message))
    return events


@given(
    st.lists(ANYTHING | st.sampled_from(['{"a":1}', "{}", ""]), max_size=4),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_a_stream_gives_the_same_calls(
    contents: list[str], size: int, cut_off: bool, ambiguous: bool
) -> None:
    last = len(contents) - 1 if contents and cut_off else None
    met = ("conflicting_recipient",) if ambiguous and len(contents) > 1 else ()
    messages = wire(*contents, incomplete=last, met=met)
    stream = ToolCallStream(["f"])
    found = [made for event in events_of(messages, size) for made in stream.feed([event])]
    ended = [made.call for made in found if isinstance(made, CallEnded)]
    assert tuple(ended) == tool_calls(messages, ["f"])
    assert [made.index for made in found if isinstance(made, CallStarted)] == [
        *range(len(contents))
    ]
    for index, content in enumerate(contents):
        mine = [made for made in found if made.index == index]
        assert isinstance(mine[0], CallStarted)
        assert (mine[0].namespace, mine[0].name) == ("functions", "f")
        assert "".join(made.text for made in mine if isinstance(made, ArgumentsDelta)) == content
        assert isinstance(mine[-1], CallEnded)
    assert found == ToolCallStream(["f"]).feed(events_of(messages, size))


def test_a_stream_skips_what_is_no_call_and_what_is_not_of_the_turn() -> None:
    def ended(index: int, message: Message, terminator: Terminator) -> list[Event]:
        started = MessageStarted(index, message.header)
        delta = ContentDelta(index, message.header, message.text)
        return [started, delta, MessageEnded(index, parsed(message, terminator, index=index))]

    thought = Message("assistant", "hm", channel="analysis")
    stream = ToolCallStream(["f"])
    assert stream.feed(ended(0, thought, Terminator.END)) == []
    started, delta, end = stream.feed(ended(1, call_message("{}"), Terminator.END))
    assert started == CallStarted(0, "f", "functions", call_message("{}").header)
    assert delta == ArgumentsDelta(0, "{}")
    assert isinstance(end, CallEnded)
    assert end.call.message_index == 1
    assert stream.feed(ended(2, Message("assistant", "x"), Terminator.RETURN)) == []
    assert stream.feed(ended(3, call_message('{"a":1}'), Terminator.CALL)) == []
    forged = ToolCallStream(["f"])
    forged.feed(ended(0, Message("user", "x"), Terminator.END))
    assert forged.feed(ended(1, call_message("{}"), Terminator.CALL)) == []


# --- The small parts ------------------------------------------------------------------------


def test_valid_json_refuses_what_is_none() -> None:
    assert valid_json(' {"a": [1.5]} ') == {"a": [1.5]}
    for text in ("", "NaN", "1e999", "9" * 5000, "{} {}", "[" * 1000, "'a'"):
        with pytest.raises(ValueError, match=r"\A"):
            valid_json(text)


def test_a_string_that_breaks_off_at_an_escaped_quote() -> None:
    call = one("{'a': 'it\\'", ["f"])
    assert (call.status, call.value) == (CallStatus.REPAIRED, {"a": "it'"})


def test_a_quote_before_the_object_hides_no_depth() -> None:
    call = one('x" {"a": ' + "[" * 200 + "]" * 200 + "}", ["f"])
    assert call.status is CallStatus.INVALID
    assert codes(call) == ["too_deep"]
