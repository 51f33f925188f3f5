"""What is rendered and parsed, in our form and in the reference's."""

import openai_harmony as reference

import harmony_kit as hk

DATE = "2025-06-28"
PROSE = (
    "The harbour wakes slowly: gulls first, then the bakers, then the ferry with its two "
    "short blasts at 6:45. By noon the quay smells of diesel, rope and fried onions, and "
    "nobody remembers that it was ever quiet.\n\n"
    "* Tickets cost 12.50 € (children under 7 travel free).\n"
    '* `GET /timetable?day=monday` answers with JSON: {"first": "06:45", "last": null}.\n\n'
    "Die Überfahrt dauert vierzig Minuten; 渡し船は時間どおりに出ます。 "
)


def schema(number):
    return {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": f"The city and state of place {number}, e.g. San Francisco, CA",
            },
            "format": {
                "type": "string",
                "enum": ["celsius", "fahrenheit", f"scale_{number}"],
                "default": "celsius",
            },
            "days": {"type": "integer", "description": "How many days, counted from today"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["location"],
    }


TOOLS = [
    (f"tool_{i}", f"Looks up number {i} of the things.\nGives JSON back.", schema(i))
    for i in range(20)
]


def turns():
    """48 messages, as role, text and header: twelve rounds of a tool-calling conversation."""
    for i in range(12):
        name = f"functions.tool_{i}"
        yield "user", f"Question {i}: what is the weather like in city {i}, and tomorrow?", {}
        yield (
            "assistant",
            f"They ask about {i}. I have to look it up first. " * 4,
            {"channel": "analysis"},
        )
        yield (
            "assistant",
            f'{{"location": "City {i}", "days": {i}}}',
            {
                "channel": "commentary",
                "recipient": name,
                "content_type": "<|constrain|>json",
            },
        )
        yield (
            "tool",
            f'{{"temperature": {i}, "sky": "clear"}}',
            {
                "name": name,
                "channel": "commentary",
                "recipient": "assistant",
            },
        )


def our_conversation():
    tools = [hk.Tool(*tool) for tool in TOOLS]
    conversation = [hk.system(current_date=DATE), hk.developer("Be brief.", tools=tools)]
    for role, text, fields in turns():
        conversation.append(hk.convert.message_from_dict({"role": role, "content": text, **fields}))
    return conversation


def their_conversation():
    system = reference.SystemContent.new().with_conversation_start_date(DATE)
    tools = [reference.ToolDescription.new(*tool) for tool in TOOLS]
    developer = reference.DeveloperContent.new().with_instructions("Be brief.")
    messages = [
        reference.Message.from_role_and_content(reference.Role.SYSTEM, system),
        reference.Message.from_role_and_content(
            reference.Role.DEVELOPER, developer.with_function_tools(tools)
        ),
    ]
    for role, text, fields in turns():
        messages.append(reference.Message.from_dict({"role": role, "content": text, **fields}))
    return reference.Conversation.from_messages(messages)


def long_text(length):
    return (PROSE * (length // len(PROSE) + 1))[:length]


def long_completion(count):
    """Reasoning of many tokens, and a short answer."""
    prose = hk.encode(PROSE)
    tokens = (prose * (count // len(prose) + 1))[: count - 12]
    return [
        *hk.encode_with_special("<|channel|>analysis<|message|>"),
        *tokens,
        *hk.encode_with_special(
            "<|end|><|start|>assistant<|channel|>final<|message|>So.<|return|>"
        ),
    ]


def small_messages(count):
    return [
        token
        for i in range(count)
        for token in hk.encode_with_special(
            f"<|start|>assistant<|channel|>analysis<|message|>short message {i}<|end|>"
        )
    ]
