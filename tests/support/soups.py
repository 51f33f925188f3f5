"""Tokens that are now and then well-formed, and often nearly so; turns of the assistant."""

from hypothesis import strategies as st
from strategies import canonical_messages

import harmony_kit as hk
from harmony_kit.wire._vocabulary import SIZE

turns = st.lists(
    canonical_messages(roles=("assistant",)).filter(lambda item: item["channel"] is not None),
    min_size=1,
    max_size=5,
).map(lambda items: [hk.Message(**item) for item in items])
PIECES = [
    "<|start|>assistant<|channel|>final<|message|>",
    "<|start|>functions.f to=assistant<|channel|>commentary<|message|>",
    "<|channel|>analysis<|message|>",
    " to=functions.f",
    " <|constrain|>json",
    " json",
    "hello world",
    "😀é",
    *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>"),
    *("<|call|>", "<|endoftext|>", "<|reserved_200013|>", "assistant", "user", "\n"),
    *("analysis", "final", "finalx", '{"a": 1}', "assistantassistant", " to=", "to=assistant"),
    "<|start|>user<|message|>",
]
soups = st.lists(
    st.one_of(
        st.sampled_from(PIECES).map(hk.encode_with_special),
        st.integers(0, SIZE - 1).map(lambda token: [token]),
        st.integers(-5, SIZE + 5).map(lambda token: [token]),
        st.integers().map(lambda token: [token]),
        st.sampled_from([4103, 104, 9552, 132990]).map(lambda token: [token]),
    ),
    max_size=12,
).map(lambda lists: [token for tokens in lists for token in tokens])
