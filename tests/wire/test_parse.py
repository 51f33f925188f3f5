"""Parsing: lenient and strict, whole and streaming."""

import json
import pickle
from itertools import pairwise
from pathlib import Path

import openai_harmony
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from partition import check_partition, codes, spans_of
from soups import soups, turns
from strategies import canonical_messages, texts
from timing import assert_linear, best_time

import harmony_kit as hk
from harmony_kit.wire._problems import PROBLEM_KINDS
from harmony_kit.wire._vocabulary import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    END_OF_TEXT,
    MESSAGE,
    RETURN,
    SIZE,
    START,
)

TRANSCRIPTS = json.loads(
    (Path(__file__).parents[1] / "data" / "transcripts.json").read_text("utf-8")
)

conversations = st.lists(canonical_messages(), max_size=6).map(
    lambda items: [hk.Message(**item) for item in items]
)
roles = st.sampled_from([None, "assistant"])


def outcome(function):
    """What came of parsing: the result, or the error with all that it says."""
    try:
        return function()
    except hk.HarmonyError as error:
        return type(error), str(error)


def feed_in_chunks(tokens, sizes, role, strict=False):
    """Feed tokens in chunks of the given sizes; returns the events and the parser."""
    parser = hk.Parser(role=role, strict=strict)
    events = []
    position = 0
    error = None
    try:
        for size in sizes:
            if position >= len(tokens):
                break
            chunk = tokens[position] if size == 1 else tokens[position : position + size]
            events += parser.feed(chunk)
            position += size
        events += parser.feed(tokens[position:])
        events += parser.close()
    except hk.HarmonyError as raised:
        error = type(raised), str(raised)
    return parser, events, error


# --- Law 2: nothing lost --------------------------------------------------------------------


@examples(3000)
@given(soups, roles)
def test_law_2_nothing_lost(tokens, role):
    result = hk.parse(tokens, role=role)
    check_partition(result, len(tokens))
    assert result.turn_length <= len(result.messages)
    if role is not None:
        assert all(parsed.message.role is hk.Role.ASSISTANT for parsed in result.turn)
        assert result.turn_end is not None


@examples(300)
@given(st.lists(st.integers()), roles)
def test_law_2_nothing_lost_of_any_integers(tokens, role):
    check_partition(hk.parse(tokens, role=role), len(tokens))


# --- Law 4: lenient extends strict ----------------------------------------------------------


def first_problem(result):
    """The code and the place that strict reading has to name, or `None`."""
    if not result.problems:
        return None
    codes_in_order = list(PROBLEM_KINDS)
    first = min(result.problems, key=lambda p: (p.span.start, codes_in_order.index(p.code)))
    return first.code, first.span.start


def raised_by(read):
    """What strict reading gives, and the code and place of the error that it raises."""
    try:
        return read(), None
    except hk.ParseError as error:
        return None, (error.code, error.position)


@examples(3000)
@given(soups, roles)
def test_law_4_lenient_extends_strict(tokens, role):
    lenient = hk.parse(tokens, role=role)
    strict, raised = raised_by(lambda: hk.parse(tokens, role=role, strict=True))
    assert raised == first_problem(lenient)
    assert strict == (None if raised else lenient)


@examples(1500)
@given(soups, roles, st.integers(1, 5))
def test_law_4_a_strict_stream_raises_the_same_problem(tokens, role, size):
    lenient = hk.parse(tokens, role=role)
    parser = hk.Parser(role=role, strict=True)

    def stream():
        for start in range(0, len(tokens), size):
            parser.feed(tokens[start : start + size])
        parser.close()
        return parser.result()

    strict, raised = raised_by(stream)
    assert raised == first_problem(lenient)
    assert strict == (None if raised else lenient)
    whole = [parsed.message for parsed in lenient.parsed if not parsed.problems]
    assert len(parser.messages) <= len(lenient.messages)
    assert raised is None or all(message in whole for message in parser.messages[:-1])


# --- Law 3: chunking does not matter --------------------------------------------------------


@examples(1500)
@given(soups, st.lists(st.integers(1, 5)), roles, st.booleans())
def test_law_3_chunking_does_not_matter(tokens, sizes, role, strict):
    whole = outcome(lambda: hk.parse(tokens, role=role, strict=strict))
    results = []
    for cut in (sizes, [1] * len(tokens), []):
        parser, events, error = feed_in_chunks(tokens, cut, role, strict)
        assert (error or parser.result()) == whole
        results.append(parser.result())
        check_events(events, parser)
    assert results[0] == results[1] == results[2]


def check_events(events, parser):
    """Each message starts, gives its content and ends, in order; its deltas are its content."""
    ended = [event for event in events if isinstance(event, hk.MessageEnded)]
    assert tuple(event.parsed for event in ended) == parser.result().turn
    if not parser.strict:
        found = [event.problem for event in events if isinstance(event, hk.wire.ProblemFound)]
        assert sorted(found) == sorted(parser.result().problems)
    joined = {}
    for event in events:
        if isinstance(event, hk.wire.MessageStarted):
            assert event.message_index == len(joined)
            joined[event.message_index] = ""
        elif isinstance(event, hk.ContentDelta):
            assert event.text
            joined[event.message_index] += event.text
    for event in ended:
        assert joined[event.message_index] == event.message.content


@examples(400)
@given(st.lists(st.integers(0, 199997), max_size=12), st.lists(st.integers(1, 4)))
def test_law_3_deltas_join_to_the_content_on_any_bytes(tokens, sizes):
    """Where the reference loses characters: partial UTF-8, cut anywhere."""
    completion = [*hk.encode_with_special("<|channel|>final<|message|>"), *tokens, RETURN]
    parser, events, error = feed_in_chunks(completion, sizes, "assistant")
    assert error is None
    check_events(events, parser)
    assert parser.messages[0].content == hk.decode(tokens)


@given(soups)
def test_the_content_so_far_is_the_deltas_so_far(tokens):
    parser = hk.Parser(role=None)
    content = ""
    for token in tokens:
        try:
            events = parser.feed(token)
        except hk.HarmonyError:
            return
        for event in events:
            if isinstance(event, hk.ContentDelta):
                content += event.text
        if parser.header is None:
            content = ""
        assert parser.content == content
        assert parser.position <= len(tokens)


# --- Law 5: round trip ----------------------------------------------------------------------


@examples(400)
@given(conversations, st.sampled_from(["recipient-first", "channel-first"]))
def test_law_5_round_trip(conversation, order):
    options = {"header_order": order, "drop_analysis": "never"}
    tokens = hk.render(conversation, next_role=None, **options)
    result = hk.parse(tokens, role=None)
    assert list(result.messages) == conversation
    assert hk.render(result.messages, next_role=None, **options) == tokens
    training = hk.wire.render_training(conversation, **options).tokens
    parsed = hk.parse(training, role=None).messages
    assert hk.wire.render_training(parsed, **options).tokens == training


@examples(200)
@given(turns)
def test_law_5_round_trip_of_completions(turn):
    prompt = len(hk.render([]))
    tokens = hk.render(turn, next_role=None, drop_analysis="never")[prompt:]
    result = hk.parse(tokens)
    # An unknown channel at the end of a turn is not canonical: it is read as the answer.
    assume("answer_on_unknown_channel" not in [found.code for found in result.problems])
    assert list(result.messages) == turn


# --- Spans and terminators ------------------------------------------------------------------


@examples(300)
@given(conversations)
def test_spans_partition_the_tokens(conversation):
    rendering = hk.wire.render_training(conversation, drop_analysis="never")
    result = hk.parse(rendering.tokens, role=None)
    edges = [0, *[span.end for span in spans_of(result)]]
    assert [span.start for span in spans_of(result)] == edges[:-1]
    assert edges[-1] == len(rendering.tokens)
    for part in ("header", "content", "terminator"):
        parsed = {
            i for span in spans_of(result) for i in range(*getattr(span, part).indices(10**9))
        }
        assert parsed == {i for i, p in enumerate(rendering.parts) if p == part}


@pytest.mark.parametrize("ending", ["<|end|>", "<|call|>", "<|return|>", ""])
def test_terminators_are_kept(ending):
    result = hk.parse(hk.encode_with_special(f"<|channel|>final<|message|>hi{ending}"))
    assert [parsed.terminator for parsed in result.parsed] == [
        hk.wire.Terminator(ending) if ending else None
    ]
    assert result.stop == (ending or None)
    assert result.messages[0].content == "hi"


@pytest.mark.parametrize("case", [c for c in TRANSCRIPTS["cases"] if "completion_text" in c])
def test_transcripts_of_the_model(case):
    result = hk.parse(hk.encode_with_special(case["completion_text"]))
    parsed = [hk.convert.message_to_dict(message) for message in result.messages]
    for message, expected in zip(parsed, case["expected"], strict=True):
        assert message["content"] == [{"type": "text", "text": expected["content"]}]
        for key in ("role", "channel", "recipient", "content_type"):
            assert message.get(key) == expected[key]
    assert result.stop == case["stop"]


# --- The state machine ----------------------------------------------------------------------

HEADER = [CHANNEL, 17196, MESSAGE]  # <|channel|>final<|message|>
STATES = {
    "between": ([START, 173781, *HEADER, 24912, END], None),
    "header": ([CHANNEL, 17196], "assistant"),
    "content": ([*HEADER, 24912], "assistant"),
}
# What each token is in each state, as the documentation of harmony_kit.parse has it.
TRANSITIONS = {
    "between": dict.fromkeys([MESSAGE, CHANNEL, CONSTRAIN], "missing_start")
    | dict.fromkeys([END, CALL, RETURN, END_OF_TEXT], "stray_terminator")
    | {START: None, 24912: "text_between_messages"},
    "header": dict.fromkeys([START, END, CALL, RETURN, END_OF_TEXT], "garbage_header")
    | {MESSAGE: None, 24912: None, 200013: "truncated_header"},
    "content": dict.fromkeys([START, CHANNEL], "missing_terminator")
    | dict.fromkeys([MESSAGE, CONSTRAIN], "special_token_in_body")
    | {200013: "reserved_special_token", END_OF_TEXT: "ended_by_endoftext"}
    | {END: None, RETURN: None, 24912: None, CALL: "text_ended_with_call"},
}


@pytest.mark.parametrize(
    ("state", "token", "code"),
    [(state, token, code) for state in STATES for token, code in TRANSITIONS[state].items()],
)
def test_transitions(state, token, code):
    tokens, role = STATES[state]
    lenient = hk.parse([*tokens, token], role=role)
    parser = hk.Parser(role=role, strict=True)

    def stream():
        parser.feed(tokens)
        parser.feed(token)
        parser.close()

    _, raised = raised_by(stream)
    assert raised == first_problem(lenient)
    if code is None:
        return
    assert code in codes(lenient)
    with pytest.raises(hk.ParseError) as again:
        parser.feed(token)
    with pytest.raises(hk.ParseError) as closing:
        parser.close()
    assert again.value is closing.value
    assert (again.value.code, again.value.position) == raised


def test_control_tokens_without_structure_are_spelt_out_in_content():
    """As in the reference: a reserved token or a stray <|constrain|> is text."""
    result = hk.parse([*HEADER, 24912, CONSTRAIN, 200013, 200014, 24912, RETURN])
    spelt = "hello<|constrain|><|reserved_200013|><|reserved_200014|>hello"
    assert result.messages[0].content == spelt
    assert [(found.code, *found.span) for found in result.problems] == [
        ("special_token_in_body", 4, 5),
        ("reserved_special_token", 5, 7),
    ]


@pytest.mark.parametrize("token", [SIZE, 10**12, -1, -SIZE - 5, -2 * SIZE, -3 * SIZE, 2**40])
@pytest.mark.parametrize("before", [[CHANNEL, 17196], HEADER, [*HEADER, 24912]])
def test_ids_out_of_range_are_named(token, before):
    rest = [24912, RETURN] if MESSAGE in before else [MESSAGE, 24912, RETURN]
    tokens = [*before, token, *rest]
    (found,) = [p for p in hk.parse(tokens).problems if p.code == "unknown_token"]
    assert (found.span, found.detail) == ((len(before), len(before) + 1), str(token))
    _, raised = raised_by(lambda: hk.parse(tokens, strict=True))
    assert raised == first_problem(hk.parse(tokens))
    assert raised == ("unknown_token", len(before))


@pytest.mark.parametrize("token", [SIZE, 10**12, -1, -SIZE - 5, -2 * SIZE, -3 * SIZE, 2**40])
def test_ids_out_of_range_are_kept_as_a_replacement_character(token):
    result = hk.parse([*HEADER, 24912, token, 24912, RETURN])
    assert result.messages[0].content == "hello\ufffdhello"
    assert [(p.code, *p.span, p.detail) for p in result.problems] == [
        ("unknown_token", 4, 5, str(token))
    ]
    header = hk.parse([CHANNEL, 17196, token, MESSAGE, 24912, RETURN])
    assert header.messages[0].channel == "final"
    assert [(p.code, *p.span) for p in header.problems] == [("unknown_token", 2, 3)]


@pytest.mark.parametrize("value", ["a", None, 1.5])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("before", [[CHANNEL, 17196], HEADER, [*HEADER, 24912]])
def test_what_is_no_integer_is_refused(value, strict, before):
    with pytest.raises(hk.errors.UnknownTokenError) as raised:
        hk.parse([*before, value, 24912], strict=strict)
    assert raised.value.position == len(before)
    assert raised.value.token == value


def test_what_was_complete_before_an_error_is_kept():
    tokens = [*HEADER, 24912, END, END]
    parser = hk.Parser(strict=True)
    assert isinstance(parser.feed(tokens)[-1], hk.MessageEnded)
    for call in (lambda: parser.feed([]), lambda: parser.feed(24912), parser.close):
        with pytest.raises(hk.ParseError):
            call()
    assert [message.content for message in parser.messages] == ["hello"]


def test_closing_twice_and_feeding_after():
    parser = hk.Parser()
    parser.feed([*HEADER, 24912])
    assert [type(event) for event in parser.close()] == [hk.wire.ProblemFound, hk.MessageEnded]
    assert parser.close() == []
    with pytest.raises(hk.HarmonyError, match="closed"):
        parser.feed(24912)


@pytest.mark.parametrize(
    ("tokens", "code"),
    [
        ([], "empty_output"),
        ([CHANNEL], "truncated_header"),
        ([CHANNEL, 17196], "truncated_header"),
        ([*HEADER, 24912], "missing_terminator"),
    ],
)
def test_the_end_inside_something(tokens, code):
    with pytest.raises(hk.ParseError) as raised:
        hk.parse(tokens, strict=True)
    assert raised.value.code == code
    assert code in codes(hk.parse(tokens))


@pytest.mark.parametrize("role", ["robot", "tool"])
def test_roles_that_no_prompt_ends_with(role):
    with pytest.raises(hk.HarmonyError):
        hk.Parser(role=role)


@given(soups, st.integers(0, 20), roles, st.booleans())
def test_a_parser_can_be_pickled_anywhere(tokens, cut, role, strict):
    def go_on(parser):
        try:
            events = parser.feed(tokens[cut:])
            return events + parser.close(), parser.result()
        except hk.HarmonyError as error:
            return type(error), str(error), parser.result()

    parser = hk.Parser(role=role, strict=strict)
    try:
        for token in tokens[:cut]:
            parser.feed(token)
    except hk.HarmonyError:
        return
    assert go_on(pickle.loads(pickle.dumps(parser))) == go_on(parser)


@pytest.mark.parametrize("role", ["user", "developer", "system"])
def test_another_role_can_be_given(role):
    tokens = [MESSAGE, 24912, END, *hk.encode_with_special("<|start|>assistant<|message|>a<|end|>")]
    result = hk.parse(tokens, role=role, strict=True)
    assert [message.role for message in result.messages] == [role, "assistant"]
    parser = hk.Parser(role=role)
    parser.feed(tokens)
    parser.close()
    assert parser.result() == result
    assert (result.turn_end, result.turn_length) == (None, 2)


@given(soups, soups, roles)
def test_a_reset_parser_is_a_new_one(before, tokens, role):
    parser = hk.Parser(role=role)
    parser.feed(before)
    parser.reset()
    new = hk.Parser(role=role)
    assert parser.feed(tokens) + parser.close() == new.feed(tokens) + new.close()
    assert parser.result() == new.result()


# --- Headers, beside the reference ----------------------------------------------------------

header_pieces = st.lists(
    st.sampled_from(
        [
            *("assistant", "user", "functions.f", "python", "analysis", "json"),
            *(" ", "\n", " to=", "to=f", " to=functions.f", "<|channel|>", "<|channel|>final"),
            *("<|constrain|>", "<|constrain|>json", " <|constrain|>json", "é", "="),
        ]
    ),
    max_size=6,
).map("".join)


def readings(encoding, header, role):
    """How the reference and how we read a header; None where it is refused."""
    tokens = encoding.encode(
        f"{'' if role else '<|start|>'}{header}<|message|>x<|end|>", allowed_special="all"
    )
    theirs = ours = None
    try:
        (message,) = encoding.parse_messages_from_completion_tokens(
            tokens, openai_harmony.Role(role) if role else None
        )
        theirs = message.to_dict()
    except openai_harmony.HarmonyError:
        pass
    try:
        (message,) = hk.parse(tokens, role=role, strict=True).messages
        ours = hk.convert.message_to_dict(message)
    except hk.ParseError:
        pass
    return theirs, ours


@examples(2000)
@given(header_pieces, st.sampled_from([None, "assistant"]))
def test_headers_are_read_as_the_reference_reads_them(openai_harmony_encoding, header, role):
    """Where both read a header they agree, but for the differences that are documented."""
    theirs, ours = readings(openai_harmony_encoding, header, role)
    if theirs is None or ours is None or theirs == ours:
        return
    # A word without `to=` is a content type, not a recipient (docs/differences.md).
    bare = theirs.pop("recipient", None)
    assert "content_type" not in theirs
    assert ours.pop("content_type") == bare
    assert theirs == ours


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "missing_role"),
        ("robot", "unknown_role"),
        ("robot<|channel|>final", "unknown_role"),
        ("<|channel|>final", "missing_role"),
        ("assistant<|channel|>", "empty_channel"),
        ("assistant<|channel|> final", "header_whitespace"),
        ("assistant<|channel|>final<|channel|>final", "repeated_channel"),
        ("assistant to=f to=g", "conflicting_recipient"),
        ("assistant to=f to=f", "duplicate_recipient"),
        ("assistant to=", "empty_recipient"),
        ("assistant json to=f", "unexpected_header_text"),
        ("assistant f json", "unexpected_header_text"),
        ("assistant<|constrain|>", "empty_constrain"),
        ("assistant to=f <|constrain|> json", "header_whitespace"),
    ],
)
def test_headers_that_are_refused(header, code):
    tokens = hk.encode_with_special(f"<|start|>{header}<|message|>x<|end|>")
    with pytest.raises(hk.ParseError) as raised:
        hk.parse(tokens, role=None, strict=True)
    assert raised.value.code == code


def test_a_header_that_is_not_utf8():
    with pytest.raises(hk.ParseError) as raised:
        hk.parse([START, 173781, 9552, MESSAGE, END], role=None, strict=True)
    assert (raised.value.code, raised.value.position) == ("invalid_utf8", 1)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("user:bob", hk.wire.Header(hk.Role.USER, "bob")),
        ("functions.f", hk.wire.Header(hk.Role.TOOL, "functions.f")),
        ("python<|channel|>analysis", hk.wire.Header(hk.Role.TOOL, "python", "analysis")),
        ("tool", hk.wire.Header(hk.Role.TOOL, "tool")),
        ("lookup to=assistant", hk.wire.Header(hk.Role.TOOL, "lookup", None, "assistant")),
        ("assistant json", hk.wire.Header(hk.Role.ASSISTANT, content_type="json")),
        ("assistant to=f\u3000json", hk.wire.Header(hk.Role.ASSISTANT, None, None, "f", "json")),
    ],
)
def test_headers_that_the_reference_cannot_read_back(header, expected):
    parser = hk.Parser(role=None, strict="\u3000" not in header)
    *_, event = parser.feed(hk.encode_with_special(f"<|start|>{header}<|message|>"))
    assert event == hk.wire.MessageStarted(0, expected)


# --- Law 9: linear --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "prefix"),
    [
        ([24912], HEADER),
        ([9552], HEADER),
        ([CONSTRAIN], HEADER),
        ([220], [CHANNEL, 17196]),
        ([CHANNEL], []),
        ([START, 173781, *HEADER, 24912, END], [*HEADER, END]),
    ],
)
def test_law_9_linear_in_tokens(unit, prefix):
    def whole(count):
        return best_time(lambda: outcome(lambda: hk.parse(prefix + unit * count)), 3)

    def streamed(count):
        tokens = prefix + unit * count

        def stream():
            parser = hk.Parser()
            for token in tokens:
                parser.feed(token)
                len(parser.content)

        return best_time(lambda: outcome(stream), 3)

    for measure in (whole, streamed):
        assert_linear(measure, 4_000, 40_000)


@given(texts)
def test_positions_count_every_token(text):
    parser = hk.Parser()
    tokens = [*HEADER, *hk.encode(text), RETURN]
    for before, token in enumerate(tokens):
        assert parser.position == before
        parser.feed(token)
    assert parser.position == len(tokens)
    assert all(a.end == b.start for a, b in pairwise(spans_of(parser.result())))
