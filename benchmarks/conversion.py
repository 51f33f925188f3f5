"""What conversions cost beside rendering and parsing."""

from functools import partial

import harmony_kit as hk
from harmony_kit.convert import chat_completions as chat
from harmony_kit.header import header_tokens, piece_tokens

from .measure import compare, median_time
from .samples import PROSE, TOOLS, long_completion


def chat_history():
    """200 messages, 60 calls among them, as a request of Chat Completions."""
    messages = [{"role": "developer", "content": "Be brief."}]
    for index in range(60):
        function = {"name": f"tool_{index % 20}", "arguments": f'{{"location": "City {index}"}}'}
        call = {"id": f"call_{index}", "type": "function", "function": function}
        messages += [
            {"role": "user", "content": f"Question {index}: what is it like in city {index}?"},
            {"role": "assistant", "reasoning_content": PROSE[:120], "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{index}", "content": '{"sky": "clear"}'},
        ]
    messages += [
        {"role": "user", "content": f"And {index}?"} for index in range(200 - len(messages))
    ]
    tools = [
        {"type": "function", "function": {"name": n, "description": d, "parameters": p}}
        for n, d, p in TOOLS
    ]
    return {"messages": messages, "tools": tools}


def requests():
    """Converting and rendering a request beside rendering alone; it may take twice as long."""
    body = chat_history()
    messages = chat.read_request(body).messages

    def nothing_kept(argument):
        header_tokens.cache_clear()
        piece_tokens.cache_clear()
        return argument()

    fresh = partial(nothing_kept, lambda: hk.messages_from_json(hk.messages_to_json(messages)))
    yield compare(
        "convert and render 200 messages with 60 calls, beside rendering them",
        lambda _: (
            header_tokens.cache_clear(),
            piece_tokens.cache_clear(),
            chat.read_request(body).prompt(),
        ),
        lambda given: hk.render(given, drop_analysis="finished-turns"),
        fresh=fresh,
        bar=1 / 2,
    )


def microseconds_of_streaming(writer, tokens):
    """What a token costs in a stream beyond parsing it, in microseconds."""

    def parse():
        parser = hk.Parser()
        for token in tokens:
            parser.feed(token)

    def write():
        parser = hk.Parser()
        stream = writer()
        for token in tokens:
            stream.feed(parser.feed(token))

    return (median_time(write) - median_time(parse)) / len(tokens) * 1e6


def streams():
    """Name and microseconds a token of every stream writer."""
    tokens = long_completion(20_000)
    chat_writer = partial(chat.StreamWriter, id="r", created=0, model="m")
    yield "Chat Completions", microseconds_of_streaming(chat_writer, tokens)
