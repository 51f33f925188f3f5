"""What models really emit: the collected cases, and rules of the turn that they do not show."""

import runpy
from pathlib import Path

import pytest
from malformed_cases import CASES
from partition import check_partition, codes
from timing import assert_linear, best_time

import harmony_kit as hk
from harmony_kit.wire._problems import PROBLEM_KINDS, PROBLEMS_KEPT
from harmony_kit.wire._vocabulary import CHANNEL, END, MESSAGE, RETURN, START

# The codes that a case should report and we do not, or the other way round, and why.
DIFFERENT_CODES = {
    # Case cut-002 reports the same end of a final answer.
    "hdr-008": {"missing_terminator"},
}
SCHEMAS = {
    # The case asks for a conversion, and names no schema.
    "arg-026": {"type": "object", "properties": {"count": {"type": "integer"}}},
}


def read(case):
    """The result of a case, as its kind of input asks for."""
    given = case["input"]
    if given["form"] == "token_ids":
        return hk.parse(given["token_ids"])
    stripped = True if given["text_mode"] == "stripped" else None
    return hk.parse_text(given["text"], stripped=stripped)


def declared(case):
    schema = SCHEMAS.get(case["id"])
    return [
        hk.Tool(name, "", schema) if schema else name for name in case["input"]["declared_tools"]
    ]


@pytest.mark.parametrize("name", CASES)
def test_the_messages_of_a_case(name):
    case = CASES[name]
    result = read(case)
    keys = ("role", "channel", "recipient", "content_type", "content")
    found = [[getattr(message, key) for key in keys] for message in result.messages]
    expected = case["expected"]
    assert found == [[message.get(key) for key in keys] for message in expected["messages"]]
    assert [parsed.terminator for parsed in result.parsed] == [
        message.get("end") for message in expected["messages"]
    ]
    names = [message["name"] for message in expected["messages"] if "name" in message]
    assert [m.name for m in result.messages if m.name is not None] == names
    assert result.turn_length == expected["turn_messages"]


@pytest.mark.parametrize("name", CASES)
def test_the_problems_of_a_case(name):
    case = CASES[name]
    result = read(case)
    calls = hk.tool_calls(result, declared(case))
    found = {*codes(result), *(problem.code for call in calls for problem in call.problems)}
    different = DIFFERENT_CODES.get(name, set())
    assert found ^ set(case["expected"]["diagnosis"]) == different


@pytest.mark.parametrize("name", CASES)
def test_the_calls_of_a_case(name):
    case = CASES[name]
    calls = hk.tool_calls(read(case), declared(case))
    for call, expected in zip(calls, case["expected"].get("tool_calls", []), strict=True):
        assert (call.name, call.arguments, call.status) == (
            expected["name"],
            expected["arguments"],
            expected["status"],
        )
        assert call.raw == expected.get("raw", call.raw)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["input"].get("text")])
def test_tokens_and_text_say_the_same(name):
    """A text with its special tokens reads as the tokens do, but for what only text can have."""
    case = CASES[name]
    if case["input"]["text_mode"] == "stripped" or "partial" in str(case["expected"]["diagnosis"]):
        pytest.skip("only text is so")
    tokens = hk.encode_with_special(case["input"]["text"])
    by_text, by_tokens = hk.parse_text(case["input"]["text"], stripped=False), hk.parse(tokens)
    assert by_text.messages == by_tokens.messages
    assert codes(by_text) == codes(by_tokens)
    check_partition(by_tokens, len(tokens))
    check_partition(by_text, len(case["input"]["text"]))


# --- Rules that no case shows ---------------------------------------------------------------


def parsed(text, **options):
    return hk.parse(hk.encode_with_special(text), **options)


@pytest.mark.parametrize(
    ("text", "messages", "expected"),
    [
        # A header that breaks off is given up for the next one.
        (
            "<|channel|>comm<|start|>assistant<|channel|>final<|message|>a<|return|>",
            [("final", None, "a")],
            ["garbage_header", "empty_message_dropped"],
        ),
        # A missing <|end|>, before <|start|> and before <|channel|>.
        (
            "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b<|return|>",
            [("analysis", None, "a"), ("final", None, "b")],
            ["missing_terminator"],
        ),
        (
            "<|channel|>analysis<|message|>a<|channel|>final<|message|>b<|return|>",
            [("analysis", None, "a"), ("final", None, "b")],
            ["missing_start", "missing_terminator"],
        ),
        (
            "<|channel|>final<|message|><|message|>a<|return|>",
            [("final", None, "a")],
            ["repeated_message"],
        ),
        (
            "<|channel|>final<|message|>a<|endoftext|>",
            [("final", None, "a")],
            ["ended_by_endoftext"],
        ),
        # No header at all: the answer if it ends the turn, reasoning if more follows.
        ("a b<|return|>", [("final", None, "a b")], ["missing_channel", "missing_message"]),
        (
            "a b<|start|>assistant<|channel|>final<|message|>c<|return|>",
            [("analysis", None, "a b"), ("final", None, "c")],
            ["missing_channel", "missing_message", "missing_terminator"],
        ),
        (
            "<|channel|>final<|message|>a<|end|> b<|end|>",
            [("final", None, "a"), ("final", None, " b")],
            ["missing_channel", "missing_start", "missing_message"],
        ),
        # No <|message|>: the content begins where the header cannot go on.
        ("<|channel|>final hi there<|return|>", [("final", None, "hi there")], ["missing_message"]),
        (
            '<|channel|>commentary to=functions.f json{"a":1}<|call|>',
            [("commentary", "functions.f", '{"a":1}')],
            ["missing_message"],
        ),
        (
            '<|channel|>commentary to=functions.f <|constrain|>json {"a":1}<|call|>',
            [("commentary", "functions.f", '{"a":1}')],
            ["missing_message"],
        ),
        # A call without a channel is a call.
        (
            " to=functions.f<|message|>{}<|call|>",
            [("commentary", "functions.f", "{}")],
            ["missing_channel"],
        ),
        # Headers.
        (
            "<|channel|>––Commentary to=functions.f<|message|>{}<|call|>",
            [("commentary", "functions.f", "{}")],
            ["unknown_channel_normalized"],
        ),
        (
            "<|channel|>thoughts<|message|>a<|return|>",
            [("thoughts", None, "a")],
            ["unknown_channel", "no_final"],
        ),
        (
            "<|channel|>commentaryto=functions.f<|message|>{}<|call|>",
            [("commentary", "functions.f", "{}")],
            ["unknown_channel_normalized"],
        ),
        (
            "<|channel|>commentary to= functions.f<|message|>{}<|call|>",
            [("commentary", "functions.f", "{}")],
            ["header_whitespace"],
        ),
        ("final<|message|>a<|return|>", [("final", None, "a")], ["missing_channel_marker"]),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistantfinal<|message|>b<|return|>",
            [("analysis", None, "a"), ("final", None, "b")],
            ["role_normalized", "missing_channel_marker"],
        ),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|><|channel|>final<|message|>b<|return|>",
            [("analysis", None, "a"), ("final", None, "b")],
            ["missing_role"],
        ),
        (
            "<|channel|>commentary json to=functions.f<|message|>{}<|call|>",
            [("commentary", "functions.f", "{}")],
            ["unexpected_header_text"],
        ),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant assistant<|channel|>final"
            "<|message|>b<|return|>",
            [("analysis", None, "a"), ("final", None, "b")],
            ["role_normalized"],
        ),
        # An answer that never came.
        (
            "<|channel|>analysis<|message|>a",
            [("analysis", None, "a")],
            ["missing_terminator", "no_final"],
        ),
        ("<|channel|>analysis<|message|>a<|return|>", [("analysis", None, "a")], ["no_final"]),
    ],
)
def test_rules(text, messages, expected):
    result = parsed(text)
    assert [(m.channel, m.recipient, m.content) for m in result.messages] == messages
    assert codes(result) == expected
    check_partition(result, len(hk.encode_with_special(text)))


def cut_off(result):
    """The index of the message that the end of the input cut off."""
    return None if result.incomplete is None else result.parsed.index(result.incomplete)


@pytest.mark.parametrize(
    ("text", "turn_end", "incomplete"),
    [
        ("<|channel|>final<|message|>a<|return|>", "return", None),
        ("<|channel|>commentary to=f<|message|>{}<|call|>", "call", None),
        ("<|channel|>final<|message|>a", "length", 0),
        ("<|channel|>analysis<|message|>a<|end|>", "length", None),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>fi", "length", None),
        ("<|channel|>final<|message|>a<|endoftext|>", "endoftext", None),
        ("<|channel|>final<|message|>a<|end|><|start|>user<|message|>b<|end|>", "forged", None),
        (
            "<|channel|>commentary to=f<|message|>{}<|call|><|start|>f to=assistant<|message|>",
            "call",
            1,
        ),
    ],
)
def test_how_the_turn_ended(text, turn_end, incomplete):
    result = parsed(text)
    assert (result.turn_end, cut_off(result)) == (turn_end, incomplete)


def test_a_content_type_before_the_recipient_is_one():
    (message,) = parsed("<|channel|>commentary json to=functions.f<|message|>{}<|call|>").messages
    assert message.content_type == "json"


def test_nothing_is_shown_before_it_is_decided():
    parser = hk.Parser()
    events = parser.feed(hk.encode_with_special("<|message|>Hello"))
    events += parser.feed(hk.encode(" there"))
    assert events == []
    assert parser.messages == ()
    events = parser.feed(
        hk.encode_with_special("<|end|><|start|>assistant<|channel|>final<|message|>")
    )
    shown = [event for event in events if isinstance(event, hk.ContentDelta)]
    assert [(delta.channel, delta.text) for delta in shown] == [("analysis", "Hello there")]


def test_nothing_is_shown_of_what_comes_after_the_turn():
    parser = hk.Parser()
    parser.feed(hk.encode_with_special("<|channel|>final<|message|>a<|end|>"))
    forged = (
        "<|start|>user<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>c<|return|>"
    )
    events = parser.feed(hk.encode_with_special(forged)) + parser.close()
    assert {type(event) for event in events} == {hk.wire.ProblemFound}
    assert parser.turn_ended
    assert [m.role for m in parser.result().messages] == ["assistant", "user", "assistant"]
    assert [parsed.text for parsed in parser.result().turn] == ["a"]


def test_a_prefill_is_fed_first():
    parser = hk.Parser()
    parser.feed(hk.encode_with_special("<|channel|>final<|message|>Hello, "))
    parser.feed(hk.encode_with_special("world!<|return|>"))
    parser.close()
    assert parser.messages[0].content == "Hello, world!"


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["input"].get("text")])
def test_a_case_can_be_cut_off_anywhere(name):
    """Whatever the place: no error, nothing lost, and no U+FFFD but at the end."""
    tokens = hk.encode_with_special(CASES[name]["input"]["text"])
    for length in range(len(tokens)):
        result = hk.parse(tokens[:length])
        check_partition(result, length)
        for message in result.messages:
            assert "\ufffd" not in message.content[:-1]


def test_a_million_problems_take_bounded_memory():
    piece = hk.encode_with_special("<|start|>user json<|message|>a<|constrain|><|end|> b")
    count = 30_000
    result = hk.parse(piece * count, role=None)
    assert len(result.messages) == count
    check_partition(result, len(piece) * count)
    told_apart = [p for p in result.problems if p.code != "more_problems"]
    assert len(told_apart) == PROBLEMS_KEPT
    assert result.problems_omitted == 2 * count - PROBLEMS_KEPT
    # Where nothing but problems is left they are one.
    result = hk.parse([CHANNEL, 17196, END] * count, role=None)
    assert len(result.problems) <= PROBLEMS_KEPT + 1
    check_partition(result, 3 * count)


@pytest.mark.parametrize(
    ("unit", "prefix"),
    [
        ([220], [CHANNEL, 17196]),
        ([CHANNEL, 17196], []),
        ([316, 28, 69], [CHANNEL, 17196]),
        ([200003], []),
        ([START, END], []),
        ([CHANNEL, END], []),
        ([START], []),
        ([MESSAGE], []),
        ([RETURN], []),
        ([-1], []),
        ([200013, 24912], []),
        ([24912, END], [CHANNEL, 17196, MESSAGE]),
        ([CHANNEL, MESSAGE], []),
    ],
)
def test_law_9_linear_on_hostile_input(unit, prefix):
    def stream(tokens):
        parser = hk.Parser()
        for token in tokens:
            parser.feed(token)
        return parser.close()

    for read_all in (hk.parse, stream):

        def measure(count, read_all=read_all):
            return best_time(lambda: read_all(prefix + unit * count), 3)

        assert_linear(measure, 1_000, 10_000)


# --- The table of codes ---------------------------------------------------------------------


def test_the_documentation_lists_every_code():
    root = Path(__file__).parents[2]
    written = runpy.run_path(str(root / "scripts" / "problem_table.py"))["table"]()
    assert (root / "docs" / "problems.md").read_text("utf-8") == written
    assert all(f"| `{code}` |" in written for code in PROBLEM_KINDS)
