"""Nothing that a reader would miss is hidden: headers without markers, answers on odd channels."""

import random

import pytest
from partition import check_partition, codes

import harmony_kit as hk
from harmony_kit.wire import TurnEnd

THOUGHT = "<|channel|>analysis<|message|>They want a table.<|end|>"
STORE = hk.Tool("store", "", {"type": "object"})
SHELL = hk.Tool("shell", "", {"type": "object"})
TOOLS = [STORE, SHELL]
BODY = '<|message|>{"row": 7}<|call|>'


def parsed(text):
    tokens = hk.encode_with_special(text)
    result = hk.parse(tokens)
    check_partition(result, len(tokens))
    parser = hk.Parser()
    events = [event for token in tokens for event in parser.feed(token)]
    events += parser.close()
    assert parser.result() == result
    texts = {}
    for event in events:
        if isinstance(event, hk.ContentDelta):
            texts[event.message_index] = texts.get(event.message_index, "") + event.text
    for index, item in enumerate(result.turn):
        assert texts.get(index, "") == item.text
    return result


# Where a header can begin: at the start, after <|start|>, and directly after a terminator.
PLACES = {
    "first": "<|channel|>",
    "after <|start|>assistant": f"{THOUGHT}<|start|>assistant<|channel|>",
    "after <|start|>": f"{THOUGHT}<|start|>",
    "after a terminator": THOUGHT,
}
HEADERS = [
    "commentary to=functions.store",
    "commentary to=functions.store json",
    "commentary to=functions.store <|constrain|>json",
    "commentary functions.store",
    "commentary to = functions.store json",
    "commentary to= functions.store",
    'commentary to="functions.store"',
    "commentary to=`functions.store` json",
    "commentary to=functions. store json",
    "commentary to=function.store",
    "commentary to=Functions.store",
    "commentary to=functions.storejson",
    "commentary 2? to=functions.store",
    "commentary to=functions.store \u6570\u5b57 json",
    "commentary ... to=functions.store json",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_call_is_found_wherever_its_header_is(place, header):
    result = parsed(PLACES[place] + header + BODY)
    (call,) = hk.tool_calls(result, TOOLS)
    assert call.full_name == "functions.store"
    assert call.runnable
    assert call.value == {"row": 7}
    assert call.message.channel == "commentary"
    assert result.turn_end is TurnEnd.CALL


@pytest.mark.parametrize(
    "header",
    [
        "assistantcommentary to=functions.store json",
        "assistant commentary to=functions.store",
        " to=functions.store",
        "assistant to=functions.store<|channel|>commentary json",
        "The table comes next. commentary to=functions.store json",
    ],
)
def test_a_call_is_found_after_a_terminator(header):
    result = parsed(THOUGHT + header + BODY)
    (call,) = hk.tool_calls(result, TOOLS)
    assert (call.full_name, call.runnable, call.value) == ("functions.store", True, {"row": 7})


def test_text_before_such_a_header_is_a_problem_with_its_text():
    result = parsed(f"{THOUGHT}The table comes next. commentary to=functions.store{BODY}")
    (between,) = [found for found in result.problems if found.code == "text_between_messages"]
    tokens = hk.encode_with_special(f"{THOUGHT}The table comes next. commentary")
    start, end = between.span
    assert hk.decode(tokens[start:end]) == "The table comes next."


def test_a_preamble_after_a_terminator_is_shown():
    result = parsed(
        f"{THOUGHT}commentary<|message|>One moment.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Done.<|return|>"
    )
    assert [m.channel for m in result.messages] == ["analysis", "commentary", "final"]
    assert result.text == "Done."


@pytest.mark.parametrize(
    "text",
    [
        f"<|channel|>functions.store{BODY}",
        f"<|channel|>store{BODY}",
        f"<|channel|>store<|channel|>commentary json{BODY}",
        f"<|channel|>functions.store..commentary json{BODY}",
        f"<|channel|>commentary store{BODY}",
    ],
)
def test_a_tool_is_found_where_the_channel_or_the_content_type_belongs(text):
    result = parsed(text)
    (call,) = hk.tool_calls(result, TOOLS)
    assert (call.full_name, call.runnable) == ("functions.store", True)
    assert call.message.recipient == "functions.store"
    assert call.message.channel == "commentary"
    stream = hk.tools.ToolCallStream(TOOLS)
    parser = hk.Parser()
    tokens = hk.encode_with_special(text)
    events = [e for token in tokens for e in stream.feed(parser.feed(token))]
    events += stream.feed(parser.close())
    ended = [e.call for e in events if isinstance(e, hk.calls.CallEnded)]
    assert ended == [call]
    deltas = [e.text for e in events if isinstance(e, hk.calls.ArgumentsDelta)]
    assert "".join(deltas) == call.raw


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<|channel|>assistant<|message|>Seven.<|return|>", "Seven."),
        ("<|channel|>assistant final<|message|>Seven.<|return|>", "Seven."),
        ("<|channel|>assistantfinal<|message|>Seven.<|return|>", "Seven."),
        ("<|channel|>user<|message|>Seven.<|return|>", "Seven."),
        ("<|channel|>response<|message|>Seven.<|return|>", "Seven."),
        ("<|channel|>Answer<|message|>Seven.<|return|>", "Seven."),
        ("<|channel|>output<|message|>Seven.", "Seven."),
        (f"{THOUGHT}<|start|>assistant<|channel|>message<|message|>Seven.<|end|>", "Seven."),
        ("<|channel|>final==SEVEN==<|return|>", "==SEVEN=="),
        ('<|channel|>final The row is {"n": 7} now<|return|>', 'The row is {"n": 7} now'),
    ],
)
def test_an_answer_is_not_hidden(text, answer):
    result = parsed(text)
    assert result.text == answer
    assert result.problems


@pytest.mark.parametrize(
    "word", ["thought", "thoughts", "Thinking", "reasoning", "reflection", "scratchpad", "analysis"]
)
def test_reasoning_stays_hidden(word):
    result = parsed(f"<|channel|>{word}<|message|>Perhaps seven.<|return|>")
    assert result.text is None


def test_a_word_is_no_answer_where_there_is_one():
    result = parsed(
        "<|channel|>final<|message|>Seven.<|end|>"
        "<|start|>assistant<|channel|>notes<|message|>It was easy.<|return|>"
    )
    assert result.text == "Seven."
    assert result.messages[1].channel == "notes"
    assert "answer_on_unknown_channel" not in codes(result)


def test_a_call_that_is_closed_twice_ends_the_turn_as_a_call():
    result = parsed('<|channel|>commentary to=functions.store<|message|>{"row": 7}<|end|><|call|>')
    assert result.turn_end is TurnEnd.CALL


@pytest.mark.parametrize("recipient", ["functions", "functions.", "functions Pick", "functions._"])
def test_a_run_survives_a_call_of_nothing(recipient):
    from scripted_model import Scripted, final

    call = f"<|channel|>commentary to={recipient}{BODY}"
    reply = hk.run([hk.user("Go")], Scripted(call, final("Done.")), tools=TOOLS, max_turns=2)
    assert reply.outcome in ("final", "no_final", "retry_limit")


def test_the_history_has_the_recipient_that_was_meant():
    from scripted_model import Scripted, final

    def store(row: int) -> str:
        """Stores a row."""
        return f"stored {row}"

    model = Scripted(f"<|channel|>store{BODY}", final("Done."))
    reply = hk.run([hk.user("Go")], model, tools=[store])
    called, told, answer = reply.messages
    assert (called.recipient, told.name, told.text) == (
        "functions.store",
        "functions.store",
        "stored 7",
    )
    assert (reply.outcome, answer.text) == ("final", "Done.")


# --- No false alarms ------------------------------------------------------------------------

SENTENCES = [
    "The commentary to=functions.x header is part of the format.",
    "In final, analysis comes first.",
    "commentary",
    "analysis of the final results",
    "Set `to=42` in the query: https://example.org/?to=functions.f&json=1",
    "| channel | meaning |\n|---|---|\n| final | answer |",
    '{"channel": "final", "to": "functions.f"}',
    "```python\nto = functions.f\nassistant = commentary\n```",
    "\u5206\u6790\uff1a\u7b54\u6848\u662f 7\u3002",
    "\u0418\u0442\u043e\u0433: \u043e\u0442\u0432\u0435\u0442 7 \u2014 \u0432\u0441\u0451.",
    "\u0627\u0644\u062c\u0648\u0627\u0628 7",
    "She said: assistant final json code",
    "C:\\temp\\new \\d+ \U0001f600",
]


def completion(chance):
    text = lambda: " ".join(chance.choices(SENTENCES, k=chance.randint(1, 4)))  # noqa: E731
    messages = []
    if chance.random() < 0.8:
        messages.append(f"<|channel|>analysis<|message|>{text()}<|end|>")
    if chance.random() < 0.3:
        messages.append(f"<|channel|>commentary<|message|>{text()}<|end|>")
    if chance.random() < 0.5:
        kind = chance.choice(["", " json", " <|constrain|>json"])
        messages.append(
            f"<|channel|>commentary to=functions.store{kind}<|message|>"
            f'{{"row": {chance.randint(0, 9)}}}<|call|>'
        )
    else:
        messages.append(f"<|channel|>final<|message|>{text()}<|return|>")
    return "<|start|>assistant".join(messages)


def test_well_formed_completions_have_no_problem():
    chance = random.Random(17)
    for _ in range(2000):
        text = completion(chance)
        result = hk.parse(hk.encode_with_special(text))
        assert result.problems == (), text
        assert hk.parse(hk.encode_with_special(text), strict=True).messages == result.messages


@pytest.mark.parametrize("sentence", SENTENCES)
def test_prose_is_left_alone(sentence):
    result = hk.parse_text(sentence)
    assert result.text == sentence
