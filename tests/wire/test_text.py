"""Text instead of tokens: special tokens spelt out, and dropped."""

from functools import partial

import pytest
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st
from partition import check_partition, codes
from timing import assert_linear, best_time

import harmony_kit as hk

SPELT = [
    *("<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|call|>", "<|return|>"),
    *("<|constrain|>", "<|endoftext|>", "<|reserved_200013|>", "<|other|>", "<|", "<", "<|ret"),
]
WORDS = [
    *("analysis", "final", "commentary", "assistant", "assistantfinal", "assistantanalysis"),
    'assistantcommentary to=functions.f json{"a":1}',
    "assistant to=functions.fcommentary json{",
    *(" to=functions.f", " json", "code", "{", "é", "😀", "\ud800", " ", "\n", "hello", "The"),
    "<|start|>assistant<|channel|>final<|message|>",
]
soups = st.lists(st.sampled_from(SPELT + WORDS) | st.text(max_size=3), max_size=10).map("".join)
cuts = st.lists(st.integers(1, 9))


def in_pieces(text, sizes, **options):
    parser = hk.TextParser(**options)
    events = []
    for size in sizes:
        events += parser.feed(text[:size])
        text = text[size:]
    events += parser.feed(text) + parser.close()
    return parser.result(), events


@examples(1500)
@given(soups, cuts, st.booleans())
@example("<|channel|>final<|message|>é<|re", [20, 10], False)
@example("analysisa.assistantfinalb", [12, 3, 3], True)
def test_law_2_and_3_of_texts(text, sizes, stripped):
    """Nothing is lost, and it does not matter how the text is cut."""
    result, events = in_pieces(text, sizes, stripped=stripped)
    check_partition(result, len(text))
    for whole in (
        in_pieces(text, [], stripped=stripped),
        in_pieces(text, [1] * 200, stripped=stripped),
    ):
        assert whole[0] == result
    deltas = {}
    for event in events:
        if isinstance(event, hk.ContentDelta):
            deltas[event.message_index] = deltas.get(event.message_index, "") + event.text
        elif isinstance(event, hk.MessageEnded):
            assert deltas.get(event.message_index, "") == event.message.content
            assert event.parsed == result.parsed[event.message_index]
    found = [event.problem for event in events if isinstance(event, hk.wire.ProblemFound)]
    assert sorted(found) == sorted(result.problems)


@examples(300)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["final", "analysis"]))
def test_a_text_reads_as_its_tokens_do(content, channel):
    text = f"<|channel|>{channel}<|message|>{content}<|end|>"
    by_text = hk.parse_text(text, stripped=False)
    by_tokens = hk.parse(hk.encode_with_special(text))
    assert by_text.messages == by_tokens.messages
    span = by_text.parsed[0].span
    if "<|" not in content:
        assert text[span.content] == content
        assert text[span.header] == f"<|channel|>{channel}<|message|>"
        assert text[span.terminator] == "<|end|>"


def test_spans_count_characters():
    text = "<|channel|>final<|message|>é漢😀<|constrain|>x<|return|>"
    result = hk.parse_text(text)
    (problem,) = result.problems
    assert text[slice(*problem.span)] == "<|constrain|>"
    with pytest.raises(hk.ParseError, match=r"^character 30: ") as raised:
        hk.parse_text(text, strict=True)
    assert raised.value.position == text.index("<|constrain|>")


def test_a_conversation_as_text():
    text = "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Ho<|end|>"
    result = hk.parse_text(text, role=None)
    assert [(m.role, m.content) for m in result.messages] == [("user", "Hi"), ("assistant", "Ho")]
    assert result.problems == ()


@pytest.mark.parametrize(
    ("held", "shown"),
    [("<", 1), ("<|", 2), ("<|r", 0), ("<|ret", 0), ("<|return|", 0), ("<|x", 3), ("<|foo|>", 7)],
)
def test_a_special_token_that_breaks_off(held, shown):
    text = f"<|channel|>final<|message|>a{held}"
    parser = hk.TextParser()
    parser.feed(text)
    parser.close()
    result = parser.result()
    assert result.messages[0].content == "a" + held[:shown]
    assert codes(result) == (["missing_terminator"] if shown else ["partial_special_token"])
    assert result.incomplete is result.parsed[0]


# --- Special tokens dropped -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "analysisHm.assistantfinalHi.",
            [("analysis", None, None, "Hm."), ("final", None, None, "Hi.")],
        ),
        (
            "analysisHm.\nassistantfinal\nHi.",
            [("analysis", None, None, "Hm.\n"), ("final", None, None, "\nHi.")],
        ),
        (
            'analysisHm.assistantcommentary to=functions.x json{"a":1}',
            [("analysis", None, None, "Hm."), ("commentary", "functions.x", "json", '{"a":1}')],
        ),
        (
            'analysisHm.assistant to=functions.xcommentary json{"a":1}',
            [("analysis", None, None, "Hm."), ("commentary", "functions.x", "json", '{"a":1}')],
        ),
        (
            'commentary to=functions.x{"a":1}assistantfinalDone',
            [("commentary", "functions.x", None, '{"a":1}'), ("final", None, None, "Done")],
        ),
        (
            'analysisHm.assistant to=functions.x json{"a":1}',
            [("analysis", None, None, "Hm."), ("commentary", "functions.x", "json", '{"a":1}')],
        ),
        (
            "analysis to=python codeprint(1)assistantfinal1",
            [("analysis", "python", None, " codeprint(1)"), ("final", None, None, "1")],
        ),
        ("Hm.assistantfinalHi.", [("analysis", None, None, "Hm."), ("final", None, None, "Hi.")]),
        ("analysis<|message|>Hm.<|end|>assistantfinal<|message|>Hi.<|return|>", None),
    ],
)
def test_stripped_texts(text, messages):
    result = hk.parse_text(text, stripped=True)
    if messages is None:
        assert [m.content for m in result.messages] == ["Hm.", "Hi."]
        assert [parsed.terminator for parsed in result.parsed] == ["<|end|>", "<|return|>"]
        assert codes(result) == ["partially_stripped_special_tokens"]
        return
    found = [(m.channel, m.recipient, m.content_type, m.content) for m in result.messages]
    assert found == messages
    assert "stripped_special_tokens" in codes(result)


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("analysisWe need.assistantfinalfour", True),
        ("assistantanalysis to=functions.f code\n{}assistantfinal1", True),
        ("analysis of the market: the assistant finally agreed", False),
        ("analysisWe need to think.", False),
        ("final answer: 4", False),
        ("The word assistantfinal is no word.", False),
        ("<|channel|>analysis<|message|>assistantfinal<|end|>", False),
    ],
)
def test_the_choice_of_the_mode(text, stripped):
    result = hk.parse_text(text)
    assert ("stripped_special_tokens" in codes(result)) is stripped
    if not stripped and "<|" not in text:
        assert [(m.channel, m.content) for m in result.messages] == [("final", text)]
        assert codes(result) == ["no_harmony_markup"]


def test_nothing_is_shown_of_a_header_that_may_still_come():
    parser = hk.TextParser(stripped=True)
    shown = ""
    for character in "analysisHm.assistantfinalHi, the assistant finally said.":
        for event in parser.feed(character):
            if isinstance(event, hk.ContentDelta):
                shown += f"[{event.channel}]{event.text}"
    parser.close()
    assert "assistantfinal" not in shown
    assert [m.content for m in parser.result().messages] == [
        "Hm.",
        "Hi, the assistant finally said.",
    ]


def test_strict_reading_of_a_stripped_text_raises():
    for text in ("analysisHm.assistantfinalHi.", "Hello."):
        with pytest.raises(hk.ParseError):
            hk.parse_text(text, strict=True)


def test_a_stripped_text_is_the_assistants():
    with pytest.raises(hk.HarmonyError):
        hk.TextParser(stripped=True, role=None)
    parser = hk.TextParser(stripped=True)
    parser.close()
    with pytest.raises(hk.HarmonyError, match="closed"):
        parser.feed("a")


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize(
    "unit", ["a", "é", "<", "<|", "<|end|>", "assistant", "assistantfinal", " to=", "{", "analysis"]
)
def test_law_9_texts_take_linear_time(unit, stripped):
    def read(count, size):
        text = unit * (count // len(unit))

        def run():
            parser = hk.TextParser(stripped=stripped)
            for start in range(0, len(text), size):
                parser.feed(text[start : start + size])
            parser.close()

        return best_time(run, 3)

    for size in (7, 10**9):
        assert_linear(partial(read, size=size), 10_000, 100_000)


# --- Calls without their markers ------------------------------------------------------------

STORE = hk.Tool("store", "", {"type": "object"})


def stored(text, **options):
    return [
        (call.full_name, call.value)
        for call in hk.tool_calls(hk.parse_text(text, **options), [STORE])
        if call.runnable
    ]


@pytest.mark.parametrize(
    "text",
    [
        'commentary to=functions.store json{"n": 3}',
        'commentary to=functions.store{"n": 3}',
        'assistantcommentary to=functions.store code {"n": 3}',
        ' commentaryto=functions.store\n{"n": 3}',
    ],
)
@pytest.mark.parametrize("stripped", [None, True])
def test_a_channel_a_recipient_and_an_object_are_a_call(text, stripped):
    assert stored(text, stripped=stripped) == [("functions.store", {"n": 3})]


@pytest.mark.parametrize(
    "text",
    [
        'to=functions.store {"n": 3}',
        'to=functions.store json{"n": 3}',
        'Now I store it. to=functions.store {"n": 3}',
        ' to=functions.store commentary json{"n": 3}',
        'to=functions.storejson{"n": 3}',
    ],
)
def test_a_recipient_and_an_object_are_a_call_where_markers_were_dropped(text):
    assert stored(text, stripped=True) == [("functions.store", {"n": 3})]
    plain = hk.parse_text(text)
    assert plain.text == text
    (found,) = [p for p in plain.problems if p.code == "text_looks_like_call"]
    assert text[found.span.start : found.span.end].startswith("to=functions.store")


@pytest.mark.parametrize(
    "text",
    [
        "analysis of variance compares means",
        "final exams begin in May",
        "commentary on the match was good",
        "Analysis: see table 2",
    ],
)
@pytest.mark.parametrize("stripped", [None, True])
def test_prose_that_begins_like_a_channel_is_prose(text, stripped):
    result = hk.parse_text(text, stripped=stripped)
    assert (result.text, [p.code for p in result.problems]) == (text, ["no_harmony_markup"])
