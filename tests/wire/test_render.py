"""Rendering against openai-harmony itself, and what goes beyond it."""

import openai_harmony
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from strategies import SPELLINGS, conversations, messages, texts, words
from timing import assert_linear, best_time

import harmony_kit as hk
from harmony_kit.convert.harmony import message_from_dict
from harmony_kit.wire._instructions import developer_text, system_text
from harmony_kit.wire._vocabulary import CALL, END, FIRST_SPECIAL, MESSAGE, RETURN, START


def both(data):
    ours = [message_from_dict(item) for item in data]
    theirs = [openai_harmony.Message.from_dict(item) for item in data]
    return ours, openai_harmony.Conversation.from_messages(theirs)


# --- Law 1: parity --------------------------------------------------------------------------


@examples(600)
@given(conversations, st.sampled_from(hk.Role), st.booleans())
def test_law_1_parity_of_prompts(openai_harmony_encoding, data, role, drop):
    ours, theirs = both(data)
    config = openai_harmony.RenderConversationConfig(auto_drop_analysis=drop)
    expected = openai_harmony_encoding.render_conversation_for_completion(
        theirs, openai_harmony.Role(role.value), config
    )
    policy = "reference" if drop else "never"
    assert hk.render(ours, next_role=role, drop_analysis=policy) == expected


@examples(400)
@given(conversations, st.booleans())
def test_law_1_parity_of_plain_and_training(openai_harmony_encoding, data, drop):
    ours, theirs = both(data)
    config = openai_harmony.RenderConversationConfig(auto_drop_analysis=drop)
    policy = "reference" if drop else "never"
    plain = openai_harmony_encoding.render_conversation(theirs, config)
    assert hk.render(ours, next_role=None, drop_analysis=policy) == plain
    training = openai_harmony_encoding.render_conversation_for_training(theirs, config)
    assert hk.wire.render_training(ours, drop_analysis=policy).tokens == training


@examples(400)
@given(messages(), st.booleans())
def test_law_1_parity_of_single_messages(openai_harmony_encoding, data, functions):
    options = openai_harmony.RenderOptions(conversation_has_function_tools=functions)
    theirs = openai_harmony.Message.from_dict(data)
    expected = openai_harmony_encoding.render(theirs, options)
    rendered = hk.wire.render_message(message_from_dict(data), has_function_tools=functions)
    assert rendered == expected


@pytest.mark.parametrize("namespace", [hk.BROWSER, hk.PYTHON])
def test_law_1_parity_of_builtin_tools(openai_harmony_encoding, namespace):
    content = openai_harmony.SystemContent.new()
    getattr(content, f"with_{namespace.name}_tool")()
    theirs = openai_harmony.Message.from_role_and_content(openai_harmony.Role.SYSTEM, content)
    ours = hk.system(tools=[namespace])
    assert hk.wire.render_message(ours) == openai_harmony_encoding.render(theirs)


# --- Law 6: content is never control --------------------------------------------------------


@examples(300)
@given(conversations)
def test_law_6_content_is_never_control(data):
    """The special tokens follow from which fields are there, whatever they say."""
    messages_ = [message_from_dict(item) for item in data]
    expected = []
    for message in messages_:
        expected.append(START)
        if message.channel is not None:
            expected.append(200005)
        if message.constrained:
            expected.append(200003)
        is_call = message.role == "assistant" and message.recipient is not None
        expected += [MESSAGE, CALL if is_call else END]
    tokens = hk.render(messages_, next_role=None, drop_analysis="never")
    assert [token for token in tokens if token >= FIRST_SPECIAL] == expected


@pytest.mark.parametrize("schema_style", ["reference", "extended"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_law_6_content_is_never_control_in_tools(spelling, schema_style):
    schema = {
        "type": "object",
        "title": spelling,
        "description": spelling,
        "properties": {
            spelling: {
                "type": "string",
                "description": spelling,
                "default": spelling,
                "enum": [spelling],
                "examples": [spelling],
            }
        },
        "required": [spelling],
    }
    namespace = hk.ToolNamespace(spelling, (hk.Tool(spelling, spelling, schema),), spelling)
    answer = hk.wire.ResponseFormat(spelling, schema, spelling)
    conversation = [
        hk.system(tools=[namespace], model_identity=spelling, valid_channels=[spelling]),
        hk.developer(spelling, tools=[namespace], response_formats=[answer]),
        hk.user(spelling, name=spelling),
        hk.tool_result(hk.call_message(spelling, spelling), spelling),
    ]
    tokens = hk.render(conversation, schema_style=schema_style)
    controls = [token for token in tokens if token >= FIRST_SPECIAL]
    assert controls == [START, MESSAGE, END] * 3 + [START, 200005, MESSAGE, END, START]


# --- Law 9: linear --------------------------------------------------------------------------


@pytest.mark.parametrize("text", [" ", "\n", "a", "word ", "漢", ".", " \t"])
def test_law_9_linear_in_content(text):
    def render_fresh(length):
        return best_time(lambda: hk.render([hk.user((text * length)[:length])]))

    render_fresh(1000)
    assert_linear(render_fresh, 100_000, 1_000_000)


def test_law_9_linear_in_messages():
    def render_fresh(count):
        return best_time(lambda: hk.render([hk.user(f"message {i}") for i in range(count)]))

    assert_linear(render_fresh, 2_000, 20_000)


# --- Kept renderings ------------------------------------------------------------------------


@given(conversations, st.sampled_from(["recipient-first", "channel-first"]))
def test_a_kept_rendering_is_the_fresh_one(data, header_order):
    """Rendering in one style, then in another, gives what the other gives alone."""
    warm = [message_from_dict(item) for item in data]
    cold = [message_from_dict(item) for item in data]
    hk.render(warm)
    hk.render(warm[::-1])
    assert hk.render(warm, header_order=header_order) == hk.render(cold, header_order=header_order)


def test_the_result_belongs_to_the_caller():
    message = hk.user("hi")
    first = hk.wire.render_message(message)
    first.clear()
    assert hk.wire.render_message(message)
    conversation = [message]
    prompt = hk.render(conversation)
    prompt.clear()
    assert hk.render(conversation)


# --- Beyond the reference -------------------------------------------------------------------


def test_channel_first_moves_the_recipient():
    call = hk.call_message("functions.f", "{}")
    rendered = hk.decode(hk.wire.render_message(call, header_order="channel-first"))
    assert rendered == (
        "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
        "{}<|call|>"
    )
    rendered = hk.decode(hk.wire.render_message(call))
    assert rendered == (
        "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>"
        "{}<|call|>"
    )


def test_response_formats_end_the_developer_message():
    """The form of the format's section "Structured output"."""
    schema = {"properties": {"items": {"type": "array"}}, "type": "object"}
    content = hk.wire.DeveloperContent(
        instructions="You are a helpful shopping assistant",
        response_formats=(hk.wire.ResponseFormat("shopping_list", schema, "What to buy"),),
    )
    assert developer_text(content) == (
        "# Instructions\n\nYou are a helpful shopping assistant\n\n"
        "# Response Formats\n\n## shopping_list\n\n// What to buy\n"
        '{"properties":{"items":{"type":"array"}},"type":"object"}'
    )


def test_system_text_of_the_documentation():
    content = hk.wire.SystemContent(reasoning_effort="high", current_date="2025-06-28")
    assert system_text(content, has_function_tools=True) == (
        "You are ChatGPT, a large language model trained by OpenAI.\n"
        "Knowledge cutoff: 2024-06\n"
        "Current date: 2025-06-28\n\n"
        "Reasoning: high\n\n"
        "# Valid channels: analysis, commentary, final. "
        "Channel must be included for every message.\n"
        "Calls to these tools must go to the commentary channel: 'functions'."
    )


def turn(number, *, finished=True):
    messages_ = [hk.user(f"q{number}"), hk.assistant(f"thought {number}", channel="analysis")]
    return [*messages_, hk.assistant(f"a{number}")] if finished else messages_


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("reference", ["thought 1", "thought 2", "thought 3"]),
        ("finished-turns", ["thought 3"]),
        ("never", ["thought 1", "thought 2", "thought 3"]),
    ],
)
def test_drop_analysis_while_a_turn_goes_on(policy, kept):
    conversation = [
        *turn(1),
        *turn(2),
        *turn(3, finished=False),
        hk.call_message("functions.f", "{}"),
    ]
    text = hk.decode(hk.render(conversation, drop_analysis=policy))
    assert [
        thought for thought in ("thought 1", "thought 2", "thought 3") if thought in text
    ] == kept


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("reference", ["thought 2"]),
        ("finished-turns", []),
        ("never", ["thought 1", "thought 2"]),
    ],
)
def test_drop_analysis_after_finished_turns(policy, kept):
    text = hk.decode(hk.render([*turn(1), *turn(2), hk.user("q3")], drop_analysis=policy))
    assert [thought for thought in ("thought 1", "thought 2") if thought in text] == kept


# --- Training -------------------------------------------------------------------------------


@given(conversations)
def test_training_says_the_place_of_every_token(data):
    conversation = [message_from_dict(item) for item in data]
    rendering = hk.wire.render_training(conversation)
    assert len(rendering.tokens) == len(rendering.message_indices) == len(rendering.parts)
    for index in set(rendering.message_indices):
        positions = [i for i, m in enumerate(rendering.message_indices) if m == index]
        parts = [rendering.parts[i] for i in positions]
        tokens = [rendering.tokens[i] for i in positions]
        header = parts.count("header")
        assert parts == ["header"] * header + ["content"] * (len(parts) - header - 1) + [
            "terminator"
        ]
        assert tokens[0] == START
        assert tokens[header - 1] == MESSAGE
        assert tokens[-1] in {END, CALL, RETURN}


def test_loss_mask_is_what_the_assistant_writes():
    conversation = [hk.user("hi"), hk.assistant("hm", channel="analysis"), hk.assistant("hello")]
    rendering = hk.wire.render_training(conversation, drop_analysis="never")
    mask = rendering.loss_mask()
    chosen = [t for t, counts in zip(rendering.tokens, mask, strict=True) if counts]
    assert hk.decode(chosen) == (
        "<|channel|>analysis<|message|>hm<|end|>"
        "<|start|>assistant<|channel|>final<|message|>hello<|return|>"
    )
    answers = rendering.loss_mask(
        lambda message, part: message.channel == "final" and part != hk.wire.TokenPart.HEADER
    )
    chosen = [t for t, counts in zip(rendering.tokens, answers, strict=True) if counts]
    assert hk.decode(chosen) == "hello<|return|>"


# --- Bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: hk.Message("robot", "hi"), "role"),
        (lambda: hk.Message("user", 5), "content"),
        (lambda: hk.Message("user", None), "content"),
        (lambda: hk.Message("user", ["hi", 5]), r"content\[1\]"),
        (lambda: hk.Message("user", hk.wire.SystemContent()), "content"),
        (lambda: hk.Message("system", hk.wire.DeveloperContent()), "content"),
        (lambda: hk.Message("tool", "hi"), "name"),
        (lambda: hk.Message("user", "hi", name=5), "name"),
        (lambda: hk.Message("assistant", "hi", channel=5), "channel"),
        (lambda: hk.Message("assistant", "hi", recipient=b"x"), "recipient"),
        (lambda: hk.Message("assistant", "hi", content_type=5), "content_type"),
        (lambda: hk.Message("assistant", "hi", constrained=True), "content_type"),
        (lambda: hk.Message("assistant", "hi", content_type="json", constrained=1), "constrained"),
        (lambda: hk.wire.SystemContent(reasoning_effort="extreme"), "reasoning_effort"),
        (lambda: hk.wire.SystemContent(valid_channels="final"), "valid_channels"),
        (lambda: hk.wire.SystemContent(tools=[hk.BROWSER, 5]), r"tools\[1\]"),
        (lambda: hk.wire.SystemContent(tools=[hk.BROWSER, hk.BROWSER]), r"tools\[1\]"),
        (lambda: hk.Tool("f", "", {"default": float("nan")}), "parameters"),
        (lambda: hk.Tool("f", "", {"default": {1, 2}}), "parameters"),
        (lambda: hk.Tool("f", "", "string"), "parameters"),
        (lambda: hk.Tool("f", None), "description"),
        (lambda: hk.render([hk.user("a"), "b"]), "message 1: message"),
        (lambda: hk.render([hk.user("a"), hk.user("b\ud800")]), "message 1: content"),
        (lambda: hk.render([hk.user("a", name="\udfff")]), "message 0: name"),
        (
            lambda: hk.render([hk.assistant("a", channel="\udfff")], drop_analysis="never"),
            "message 0: channel",
        ),
        (lambda: hk.render([hk.call_message("\ud800", "{}")]), "message 0: recipient"),
        (lambda: hk.render([hk.developer("\ud800")]), "message 0: content"),
    ],
)
def test_bad_input_names_message_and_field(make, place):
    with pytest.raises(hk.errors.InvalidMessageError, match=f"^{place}: "):
        make()


@pytest.mark.parametrize(
    "options",
    [{"header_order": "x"}, {"schema_style": "x"}, {"drop_analysis": "x"}, {"next_role": "x"}],
)
def test_bad_options_are_named(options):
    with pytest.raises(hk.HarmonyError, match=f"{next(iter(options))}: 'x' is not one of"):
        hk.render([hk.user("a")], **options)


@given(words, texts)
def test_messages_are_values(word, text):
    import copy
    import pickle

    message = hk.Message("tool", text, name=word, channel="commentary", recipient="assistant")
    hk.wire.render_message(message)
    for twin in (copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert twin == message
        assert hash(twin) == hash(message)
        assert hk.wire.render_message(twin) == hk.wire.render_message(message)
    with pytest.raises(AttributeError):
        message.content = "other"


@pytest.mark.parametrize("role", hk.Role)
def test_the_next_header_is_the_encoded_role(role):
    start = hk.wire.SPECIAL_TOKENS["<|start|>"]
    assert hk.render([], next_role=role) == [start, *hk.encode(role.value)]
