"""Law 11: what a model generated is never tokenised again."""

import copy
import json
import pickle
import tracemalloc
from itertools import pairwise

import pytest
from examples import examples
from harmony_backends.function import FunctionBackend
from hypothesis import given
from hypothesis import strategies as st
from soups import soups
from strategies import texts

import harmony_kit as hk
from harmony_kit.convert import responses
from harmony_kit.convert._store import SQLiteStore
from harmony_kit.wire._vocabulary import CALL, END, RETURN

PROMPT_END = hk.encode_with_special("<|start|>assistant")


@st.composite
def odd_tokens(draw, text):
    """Token ids that spell a text, cut as no encoder would cut it."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    return [token for piece in pieces for token in hk.encode(piece)]


@st.composite
def headers(draw, channel, recipient=None):
    """The tokens of a well-formed header after `assistant`, in any order of its parts."""
    parts = [f"<|channel|>{channel}"]
    if recipient is not None:
        parts.insert(draw(st.integers(0, 1)), f" to={recipient}")
    kind = draw(st.sampled_from(["", " json", " <|constrain|>json"])) if recipient else ""
    return hk.encode_with_special("".join(parts) + kind + "<|message|>")


@st.composite
def tool_turns(draw):
    """A completion that thinks, or does not, and calls a tool."""
    tokens = []
    if draw(st.booleans()):
        tokens += draw(headers("analysis")) + draw(odd_tokens(draw(texts))) + [END, *PROMPT_END]
    if draw(st.booleans()):
        tokens += draw(headers("commentary")) + draw(odd_tokens(draw(texts))) + [END, *PROMPT_END]
    arguments = json.dumps({"city": draw(texts)}, ensure_ascii=draw(st.booleans()))
    channel = draw(st.sampled_from(["commentary", "analysis"]))
    recipient = "functions.look" if channel == "commentary" else "python"
    content = arguments if channel == "commentary" else draw(texts)
    return [*tokens, *draw(headers(channel, recipient)), *draw(odd_tokens(content)), CALL]


def is_clean(tokens):
    """Whether every message has nothing that had to be repaired."""
    return not hk.parse(tokens).problems


async def look(city: str) -> str:
    """Look at a city."""
    return f"It is sunny in {city}."


CONVERSATION = [
    hk.system(tools=[hk.PYTHON]),
    hk.developer("Be brief.", tools=[look]),
    hk.user("What is it like?"),
]
FINAL = hk.encode_with_special("<|channel|>final<|message|>Sunny.<|return|>")


# --- The loop -------------------------------------------------------------------------------


@examples(60)
@given(
    st.lists(tool_turns().filter(is_clean), min_size=1, max_size=6),
    st.sampled_from(["recipient-first", "channel-first"]),
)
def test_law_11_every_prompt_begins_with_the_last_and_its_completion(turns, order):
    conversation, prompt = [*CONVERSATION], None
    for completion in turns:
        rendered = hk.wire.render_prompt(conversation, header_order=order)
        if prompt is not None:
            assert rendered.tokens[: len(prompt)] == prompt
        conversation += hk.parse(completion).history()
        conversation.append(hk.tool_result(conversation[-1], "done"))
        prompt = rendered.tokens + completion
    assert hk.render(conversation, header_order=order)[: len(prompt)] == prompt


@examples(15)
@given(st.data(), st.sampled_from(["recipient-first", "channel-first"]))
def test_law_11_in_a_loop_of_twenty_turns(data, order):
    """On an engine that writes any header order and any cut of the text."""
    prompts, completions = [], []

    def generate(prompt, sampling):
        prompts.append(list(prompt))
        number = len(prompts)
        text = json.dumps({"city": f"city {number}, {data.draw(texts)}"})
        head = data.draw(headers("commentary", "functions.look"))
        completion = [*head, *data.draw(odd_tokens(text)), CALL] if number <= 20 else FINAL
        completions.append(completion)
        return completion

    events = list(
        hk.stream(
            CONVERSATION,
            FunctionBackend(generate),
            tools=[look],
            max_turns=21,
            header_order=order,
        )
    )
    assert events[-1].reply.outcome == "final"
    assert len(prompts) == 21
    for number, following in enumerate(prompts[1:]):
        sent = prompts[number] + completions[number]
        assert following[: len(sent)] == sent
    started = [event.prompt for event in events if isinstance(event, hk.loop.TurnStarted)]
    assert [prompt.extends for prompt in started] == [False] + [True] * 20
    sampled = [token for start, end in started[-1].sampled for token in started[-1][start:end]]
    assert sampled == [token for completion in completions[:20] for token in completion]


def test_law_11_a_saved_run_goes_on_with_the_same_ids():
    odd = hk.encode_with_special(
        "<|channel|>commentary to=functions.look <|constrain|>json<|message|>"
    )
    odd += [token for letter in '{"city": "Paris"}' for token in hk.encode(letter)] + [CALL]
    prompts = []

    def generate(prompt, sampling):
        prompts.append(list(prompt))
        return odd if len(prompts) == 1 else FINAL

    backend = FunctionBackend(generate)
    first = hk.run(CONVERSATION, backend, tools=[look], max_turns=1)
    assert first.outcome == "turn_limit"
    saved = hk.loop.RunState.from_json(first.state.to_json())
    assert saved == first.state
    hk.run(saved, backend, tools=[look])
    assert prompts[1][: len(prompts[0]) + len(odd)] == prompts[0] + odd


def test_a_turn_whose_framing_was_repaired_begins_a_new_segment():
    broken = hk.encode_with_special(
        '<|channel|>comment to=functions.look<|message|>{"city": "Paris"}<|call|>'
    )
    completions = iter([broken, FINAL])
    backend = FunctionBackend(lambda prompt, sampling: next(completions))
    events = list(hk.stream(CONVERSATION, backend, tools=[look]))
    started = [event.prompt for event in events if isinstance(event, hk.loop.TurnStarted)]
    assert [prompt.extends for prompt in started] == [False, False]
    assert started[1].sampled == ()
    assert "<|channel|>commentary" in hk.decode(started[1].tokens)


# --- extend ---------------------------------------------------------------------------------


@examples(150)
@given(tool_turns().filter(is_clean), st.sampled_from(["recipient-first", "channel-first"]))
def test_law_11_extend_gives_what_render_gives(completion, order):
    prompt = hk.render(CONVERSATION)
    said = hk.parse(completion).history()
    new = [hk.tool_result(said[-1], "done")]
    following = hk.extend(prompt, completion, new, header_order=order)
    assert following == hk.Prompt(
        hk.render([*CONVERSATION, *said, *new], header_order=order),
        ((len(prompt), len(prompt) + len(completion)),),
        extends=True,
    )
    assert following.mask == [False] * len(prompt) + [True] * len(completion) + [False] * (
        len(following) - len(prompt) - len(completion)
    )
    again = hk.extend(following, completion, new, header_order=order)
    assert again.extends
    assert sum(again.mask) == 2 * len(completion)


def extended(completion, *new, **options):
    prompt = hk.render(CONVERSATION)
    completion = hk.encode_with_special(completion)
    return len(prompt), hk.extend(prompt, completion, new, **options), prompt + completion


def test_a_return_becomes_an_end():
    length, following, sent = extended(
        "<|channel|>final<|message|>Sunny.<|return|>", hk.user("And now?")
    )
    assert following.tokens[: len(sent)] == [*sent[:-1], END]
    assert following.sampled == ((length, len(sent) - 1),)
    assert following.extends


def test_a_text_that_was_cut_off_is_closed_by_an_id_that_was_not_sampled():
    length, following, sent = extended("<|channel|>analysis<|message|>They ask", hk.user("Well?"))
    assert following.tokens[: len(sent) + 1] == [*sent, END]
    assert following.sampled == ((length, len(sent)),)
    assert following.extends


def test_a_call_that_was_cut_off_is_left_out():
    length, following, sent = extended(
        "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
        '<|channel|>commentary to=functions.look<|message|>{"city": "Par',
        hk.user("Well?"),
    )
    assert "functions.look<" not in hk.decode(following.tokens)
    assert "Look.<|end|>" in hk.decode(following.tokens)
    assert not following.extends
    assert following.tokens[: len(sent)] != sent
    assert following.sampled[0].start == length


def test_the_beginning_of_a_message_in_the_prompt_was_not_sampled():
    prompt = hk.render(CONVERSATION) + hk.encode_with_special("<|channel|>final<|message|>Sun")
    following = hk.extend(prompt, [*hk.encode("ny."), RETURN], [hk.user("And now?")])
    assert hk.decode(following.tokens).count("<|channel|>final<|message|>Sunny.<|end|>") == 1
    assert following.sampled == ((len(prompt), len(prompt) + len(hk.encode("ny."))),)


def test_reasoning_of_a_finished_turn_goes_unless_it_is_kept():
    turn = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant" + hk.decode(FINAL)
    _, following, sent = extended(turn, hk.user("And now?"))
    said = hk.parse(hk.encode_with_special(turn)).history()
    conversation = [*CONVERSATION, *said, hk.user("And now?")]
    assert following.tokens == hk.render(conversation)
    assert "Hm." not in hk.decode(following.tokens)
    assert not following.extends
    _, kept, _ = extended(turn, hk.user("And now?"), drop_analysis="never")
    assert kept.tokens == hk.render(conversation, drop_analysis="never")
    assert kept.tokens[: len(sent)] == [*sent[:-1], END]
    assert kept.extends


def test_reasoning_of_the_prompt_goes_as_well():
    first = hk.encode_with_special(
        "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
        "<|channel|>commentary to=functions.look<|message|>{}<|call|>"
    )
    conversation = [*CONVERSATION, *hk.parse(first).history()]
    conversation.append(hk.tool_result(conversation[-1], "done"))
    prompt = hk.wire.render_prompt(conversation)
    following = hk.extend(prompt, FINAL, [hk.user("And now?")])
    said = hk.parse(FINAL).history()
    expected = hk.wire.render_prompt([*conversation, *said, hk.user("And now?")])
    assert (following.tokens, following.sampled) == (expected.tokens, expected.sampled)
    assert "Look." not in hk.decode(following.tokens)
    assert not following.extends


@pytest.mark.parametrize("prompt", [[], hk.encode("x"), hk.render(CONVERSATION, next_role="user")])
def test_a_prompt_that_awaits_nobody_is_refused(prompt):
    with pytest.raises(hk.errors.OptionError, match=r"^prompt: "):
        hk.extend(prompt, FINAL)


# --- Rendering ------------------------------------------------------------------------------


@examples(200)
@given(st.lists(tool_turns().filter(is_clean), min_size=1, max_size=3))
def test_law_5_tokens_that_are_not_canonical_come_back(turns):
    tokens = [token for turn in turns for token in [*PROMPT_END, *turn]]
    messages = hk.parse(tokens, role=None).messages
    assert hk.render(messages, next_role=None, drop_analysis="never") == tokens
    canonical = hk.render(messages, next_role=None, drop_analysis="never", verbatim=False)
    bare = [message.replace() for message in messages]
    assert canonical == hk.render(bare, next_role=None, drop_analysis="never")
    assert hk.parse(canonical, role=None).messages == messages


def odd_message():
    completion = hk.encode_with_special("<|channel|>final<|message|>")
    completion += [token for letter in "Sunny." for token in hk.encode(letter)] + [RETURN]
    (message,) = hk.parse(completion).messages
    return message, [*PROMPT_END, *completion[:-1], END]


def test_tokens_are_kept_in_copies_and_are_no_part_of_the_value():
    message, tokens = odd_message()
    plain = hk.assistant("Sunny.")
    assert message == plain
    assert hash(message) == hash(plain)
    assert plain.tokens is None
    for same in (
        pickle.loads(pickle.dumps(message)),
        copy.copy(message),
        copy.deepcopy(message),
        copy.deepcopy([message])[0],
    ):
        assert same.tokens == message.tokens
        assert hk.render([same], next_role=None) == tokens
    assert message.tokens == hk.wire.MessageTokens(tuple(tokens), 2, len(tokens) - 1)


def test_another_content_or_header_has_no_tokens():
    message, _ = odd_message()
    for other in (message.replace(content="Rainy."), message.replace(channel="analysis")):
        assert other.tokens is None
    assert hk.render([message], verbatim=False) == hk.render([hk.assistant("Sunny.")])
    assert hk.render([message], options=hk.RenderOptions.REFERENCE) == hk.render(
        [hk.assistant("Sunny.")]
    )


def test_training_renderings_have_the_same_tokens():
    message, tokens = odd_message()
    rendering = hk.wire.render_training([message])
    assert rendering.tokens == [*tokens[:-1], RETURN]
    assert [rendering.parts.count(part) for part in hk.wire.TokenPart] == [5, 6, 1]


def test_remembered_tokens_take_few_bytes():
    completion = hk.encode_with_special("<|channel|>analysis<|message|>")
    completion += hk.encode("The harbour wakes slowly: gulls first. ") * 400
    completion += [END, *PROMPT_END, *FINAL]

    def held(make):
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = [make() for _ in range(20)]
        size = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert len(kept) == 20
        return size

    with_tokens = held(lambda: hk.parse(completion).messages)
    without = held(lambda: [m.replace() for m in hk.parse(completion).messages])
    hk.render(hk.parse(completion).messages)
    assert 0 < with_tokens - without <= 16 * 20 * len(completion)
    rendered = [hk.parse(completion).messages for _ in range(20)]
    assert held(lambda: [hk.render(messages) for messages in rendered][:0]) < 16 * len(completion)


# --- JSON -----------------------------------------------------------------------------------


def test_tokens_in_json():
    message, tokens = odd_message()
    data = hk.convert.message_to_dict(message, tokens=True)
    assert data["tokens"] == {"ids": tokens, "sampled": [2, len(tokens) - 1]}
    assert hk.convert.message_from_dict(data).tokens == message.tokens
    assert "tokens" not in hk.convert.message_to_dict(message)
    assert "tokens" not in hk.convert.message_to_dict(hk.assistant("Sunny."), tokens=True)


def tampered(change):
    message, _ = odd_message()
    data = hk.convert.message_to_dict(message, tokens=True)
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.update(content="Rainy."), "tokens.ids"),
        (lambda d: d.update(channel="analysis"), "tokens.ids"),
        (lambda d: d.update(role="user"), "tokens.ids"),
        (lambda d: d["tokens"]["ids"].pop(), "tokens.ids"),
        (lambda d: d["tokens"]["ids"].append(END), "tokens.ids"),
        (lambda d: d["tokens"]["ids"].insert(6, 17), "tokens.ids"),
        (lambda d: d["tokens"]["ids"].insert(6, 200005), "tokens.ids"),
        (lambda d: d["tokens"].update(ids=[]), "tokens.ids"),
        (lambda d: d["tokens"].update(ids=[-1]), "tokens.ids"),
        (lambda d: d["tokens"].update(ids=[True]), "tokens.ids"),
        (lambda d: d["tokens"].update(ids="x"), "tokens.ids"),
        (lambda d: d["tokens"].update(ids=d["tokens"]["ids"] * 2), "tokens.ids"),
        (lambda d: d["tokens"]["ids"].__setitem__(-1, RETURN), "tokens.ids"),
        (lambda d: d["tokens"].update(sampled=[5, 2]), "tokens.sampled"),
        (lambda d: d["tokens"].update(sampled=[2]), "tokens.sampled"),
        (lambda d: d["tokens"].update(sampled=[2, 99]), "tokens.sampled"),
        (lambda d: d["tokens"].pop("sampled"), "sampled"),
        (lambda d: d["tokens"].update(more=1), "more"),
        (lambda d: d.update(tokens=[]), "tokens"),
    ],
)
def test_tokens_that_do_not_spell_the_message_are_refused(change, place):
    data = tampered(change)
    with pytest.raises(hk.errors.InvalidMessageError) as raised:
        hk.convert.message_from_dict(data)
    assert raised.value.field == place
    message, _ = odd_message()
    state = json.loads(hk.loop.RunState((hk.user("x"), message)).to_json())
    change(state["messages"][1])
    with pytest.raises(hk.errors.InvalidMessageError, match=r"^message 1: "):
        hk.loop.RunState.from_json(json.dumps(state))


def test_tokens_that_no_model_generated_are_kept_as_well():
    """Of a conversation nobody knows who wrote its ids; long ones, too, can be copied."""
    text = "<|start|>user<|message|>" + "word " * 300 + "<|end|>"
    (message,) = hk.parse(hk.encode_with_special(text), role=None).messages
    assert message.tokens.sampled_start == message.tokens.sampled_end == 0
    again = hk.convert.message_from_dict(hk.convert.message_to_dict(message, tokens=True))
    for same in (copy.deepcopy(message), pickle.loads(pickle.dumps(message)), again):
        assert same.tokens == message.tokens
    data = hk.convert.message_to_dict(message, tokens=True)
    data["tokens"]["sampled"] = [0, 5]
    with pytest.raises(hk.errors.InvalidMessageError, match="sampled"):
        hk.convert.message_from_dict(data)


# --- What must not be remembered ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("assistant<|channel|>final<|message|>hi<|return|>", "assistant"),
        ("x<|message|>hi<|end|>", "user"),
        ("user<|message|>hi<|end|>", "user"),
    ],
)
def test_a_header_that_does_not_go_on_from_the_prompt_is_written_anew(text, role):
    result = hk.parse(hk.encode_with_special(text), role=role)
    history = result.history()
    assert hk.parse(hk.render(history, next_role=None), role=None).messages == history
    state = hk.loop.RunState(history)
    assert hk.loop.RunState.from_json(state.to_json()) == state


def test_messages_after_too_many_problems_remember_nothing():
    bad = hk.encode_with_special(
        "<|start|>assistant<|channel|>analysis<|message|>a<|constrain|>b<|end|>"
    )
    tail = hk.encode_with_special(
        "<|start|>assistant<|channel|>commentary to=functions.f to=functions.g<|message|>{}<|call|>"
    )
    result = hk.parse([*bad * 10_002, *tail], role=None)
    assert all(message.tokens is None for message in result.messages[-3:])
    assert [call.status for call in hk.tool_calls(result)] == ["ambiguous"]


@examples(600)
@given(soups, st.sampled_from(["assistant", "user", None]))
def test_law_11_what_is_remembered_spells_the_message(tokens, role):
    history = hk.parse(tokens, role=role).history()
    for message in history:
        if message.tokens is None:
            continue
        ids = list(message.tokens.ids)
        read = hk.parse(ids, role=None, strict=True)
        assert read.messages == (message,)
        assert hk.render([message], next_role=None, drop_analysis="never") == ids
    state = hk.loop.RunState(history)
    assert hk.loop.RunState.from_json(state.to_json()) == state


def test_a_problem_that_is_not_of_the_framing_leaves_the_tokens():
    completion = hk.encode_with_special(
        "<|channel|>analysis to=functions.look <|constrain|>json<|message|>{}<|call|>"
    )
    (message,) = hk.parse(completion).messages
    assert [found.code for found in hk.parse(completion).problems] == ["tool_call_on_analysis"]
    assert list(message.tokens.ids) == [*PROMPT_END, *completion]


# --- extend beside render -------------------------------------------------------------------


def test_extend_takes_all_options_and_all_that_is_new():
    prompt = hk.render(CONVERSATION)
    for text, new in (
        ("<|channel|>analysis to=python<|constrain|>code<|message|>1<|call|>", ()),
        ("<|channel|>commentary to=functions.look json<|message|>{}<|call|>", ()),
        (
            "<|channel|>analysis<|message|>t<|end|><|start|>assistant"
            "<|channel|>commentary to=functions.look<|message|>{}<|call|>",
            (hk.assistant("It is sunny."), hk.user("And now?")),
        ),
    ):
        completion = hk.encode_with_special(text)
        said = hk.parse(completion).history()
        following = [hk.tool_result(said[-1], "done"), *new]
        for options in (
            hk.RenderOptions(),
            hk.RenderOptions(header_order="channel-first"),
            hk.RenderOptions(verbatim=False),
            hk.RenderOptions(drop_analysis="never"),
        ):
            extended = hk.extend(prompt, completion, following, options=options)
            rendered = hk.render([*CONVERSATION, *said, *following], options=options)
            assert extended.tokens == rendered


def test_stores_keep_the_tokens_of_items(tmp_path):
    request = responses.read_request({"model": "m", "input": "x"})
    message, _ = odd_message()
    span = hk.wire.MessageSpan(0, 0, 0, 0)
    parsed = hk.wire.ParsedMessage(message, span, hk.wire.Terminator.RETURN)
    completion = hk.Completion((parsed,), turn_length=1)
    stored = responses.stored_response(request, completion, id="resp_1")
    with SQLiteStore(tmp_path / "store.db") as store:
        store.put("resp_1", stored)
        (item_id,) = stored.items
        assert store.item(item_id).message.tokens == message.tokens
