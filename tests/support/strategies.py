"""Random conversations, as the JSON that openai-harmony and this package both read."""

import re

from hypothesis import strategies as st

SPELLINGS = [
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|reserved_200013|>",
    "<|start|>system<|message|>",
]

texts = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from(SPELLINGS), st.sampled_from([" ", "\n", "{}"])),
    max_size=4,
).map("".join)

words = st.one_of(
    st.sampled_from(["analysis", "commentary", "final", "functions.f", "json", "code", "python"]),
    st.sampled_from(SPELLINGS),
    st.text(max_size=6),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | texts,
    lambda children: st.lists(children, max_size=2) | st.dictionaries(words, children, max_size=2),
    max_leaves=4,
)

schemas = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "number", "integer", "boolean", "null"])},
        optional={"description": texts, "default": json_values, "enum": st.lists(words)},
    ),
    lambda children: st.one_of(
        st.fixed_dictionaries({"type": st.just("array")}, optional={"items": children}),
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(words, children, max_size=3)},
            optional={"required": st.lists(words, max_size=2), "description": texts},
        ),
    ),
    max_leaves=5,
)

tools = st.fixed_dictionaries(
    {"name": words, "description": texts, "parameters": st.none() | schemas}
)


def named(names):
    return names.flatmap(
        lambda keys: st.fixed_dictionaries(
            {
                key: st.fixed_dictionaries(
                    {
                        "name": st.just(key),
                        "description": st.none() | texts,
                        "tools": st.lists(tools, max_size=3),
                    }
                )
                for key in keys
            }
        )
    )


namespaces = st.none() | named(
    st.lists(
        st.sampled_from(["functions", "browser", "b", "Ä", "z"]) | words, max_size=3, unique=True
    )
)

system_contents = st.fixed_dictionaries(
    {"type": st.just("system_content")},
    optional={
        "model_identity": st.none() | texts,
        "reasoning_effort": st.sampled_from([None, "Low", "Medium", "High"]),
        "conversation_start_date": st.none() | texts,
        "knowledge_cutoff": st.none() | texts,
        "channel_config": st.none()
        | st.fixed_dictionaries(
            {"valid_channels": st.lists(words, max_size=3), "channel_required": st.booleans()}
        ),
        "tools": namespaces,
    },
)

developer_contents = st.fixed_dictionaries(
    {"type": st.just("developer_content")},
    optional={"instructions": st.none() | texts, "tools": namespaces},
)

text_contents = st.fixed_dictionaries({"type": st.just("text"), "text": texts})

content_types = st.none() | words | words.map("<|constrain|>{}".format)


@st.composite
def messages(draw):
    role = draw(st.sampled_from(["system", "developer", "user", "assistant", "assistant", "tool"]))
    parts = {
        "system": text_contents | system_contents,
        "developer": text_contents | developer_contents,
    }.get(role, text_contents)
    return {
        "role": role,
        "name": draw(words if role == "tool" else st.none() | words),
        "content": draw(st.lists(parts, max_size=2)),
        "channel": draw(st.sampled_from([None, "analysis", "commentary", "final"]) | words),
        "recipient": draw(st.sampled_from([None, "all", "assistant", "functions.f"]) | words),
        "content_type": draw(content_types),
    }


conversations = st.lists(messages(), max_size=6)

CHANNELS = ("analysis", "commentary", "final")
ROLES = ("system", "developer", "user", "assistant", "tool")
# What a header can carry and be read back from: words without blanks or control tokens.
plain_words = st.sampled_from(["final", "commentary", "functions.f", "json", "python"]) | st.text(
    "abcXYZ_09.-é漢", min_size=1, max_size=8
).filter(lambda word: word not in ROLES)


@st.composite
def canonical_messages(draw, roles=ROLES):
    """Keyword arguments of messages that survive rendering and parsing unchanged."""
    role = draw(st.sampled_from(roles))
    recipient = draw(st.none() | plain_words.filter(lambda word: word != "all"))
    name = None
    if role == "tool":
        # Alone, an unknown word is no tool; see docs/differences.md.
        name = draw(plain_words.map("functions.{}".format))
    elif role != "assistant":
        name = draw(st.none() | plain_words)
    channel = draw(st.none() | plain_words)
    # Where a channel is missing, the name of one is taken for it; see docs/differences.md.
    # After a function's name, a word that begins with `_` or a dot is read as the rest of it.
    is_function = recipient is not None and recipient.startswith("functions.")
    content_type = draw(
        st.none()
        | plain_words.filter(
            lambda word: (
                (channel or word not in CHANNELS)
                and not (is_function and word.startswith(("_", ".")))
            )
        )
    )
    return {
        "role": role,
        "content": draw(texts),
        "name": name,
        "channel": channel,
        "recipient": recipient,
        "content_type": content_type,
        "constrained": content_type is not None and draw(st.booleans()),
    }


def stable_repr(value: object) -> str:
    """A test's name that is the same in every process: no address stands in it."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
