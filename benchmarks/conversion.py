"""What conversions cost beside rendering and parsing."""

from functools import partial

from rich.table import Table

import harmony_kit as hk
from harmony_kit.convert import anthropic, responses
from harmony_kit.convert import chat_completions as chat
from harmony_kit.wire._header.writing import header_tokens, piece_tokens

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


def convert_and_render(body):
    header_tokens.cache_clear()
    piece_tokens.cache_clear()
    return chat.read_request(body).prompt()


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
        lambda _: convert_and_render(body),
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
        stream.start()
        for token in tokens:
            stream.feed(parser.feed(token))

    return (median_time(write) - median_time(parse)) / len(tokens) * 1e6


def streams():
    """Name and microseconds a token of every stream writer."""
    tokens = long_completion(20_000)
    writers = {
        "Chat Completions": partial(chat.StreamEncoder, id="r", model="m"),
        "Responses": partial(responses.StreamEncoder, id="r", model="m"),
        "Anthropic Messages": partial(anthropic.StreamEncoder, id="r", model="m"),
    }
    for name, writer in writers.items():
        yield name, microseconds_of_streaming(writer, tokens)


def table():
    """The microseconds a streamed token costs beyond parsing; ten are allowed."""
    rows = Table("a streamed token, beyond parsing it", "us", "bar", box=None)
    missed = 0
    for name, cost in streams():
        missed += cost >= 10
        rows.add_row(name, f"{cost:.1f}", "10", style="red" if cost >= 10 else None)
    return rows, missed
