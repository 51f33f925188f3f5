"""What a turn of the loop costs beyond rendering, parsing and the backend.

A run of 100 turns over the replay backend, each a completion of about 130 tokens with a call,
beside the same work done by hand: the prompts rendered, the completions taken from the backend,
parsed, and their calls read and answered.
"""

import asyncio
import time

from harmony_backends.recording import Exchange
from harmony_backends.replay import ReplayBackend
from rich.table import Table

import harmony_kit as hk

TURNS = 100
ROUNDS = 7
BAR = 1e-3
"""Seconds a turn."""

THOUGHT = "I have to look at many places, and think about each. " * 9
CALL = (
    "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.look <|constrain|>json<|message|>{{"place": "{place}"}}<|call|>'
)


def look(place: str) -> str:
    """Looks somewhere."""
    return f"looked at {place}"


async def look_async(place: str) -> str:
    """Looks somewhere."""
    return look(place)


look_async.__name__ = "look"


def beginning(tool):
    return [hk.system(), hk.developer(tools=[tool]), hk.user("Look everywhere.")]


def exchanges(tool):
    """What is said in each turn."""
    conversation = beginning(tool)
    for place in range(TURNS):
        text = CALL.format(thought=THOUGHT, place=place)
        if place == TURNS - 1:
            text = "<|channel|>final<|message|>I looked.<|return|>"
        completion = hk.encode_with_special(text)
        yield Exchange(tuple(hk.render(conversation)), tuple(completion), "stop")
        result = hk.parse(completion)
        conversation += result.history()
        conversation += [hk.tool_result(c, look(str(place))) for c in hk.tool_calls(result)]


async def by_hand(tool, backend):
    conversation = beginning(tool)
    toolbox = hk.Toolbox([tool])
    for _ in range(TURNS):
        prompt = hk.render(conversation)
        parser = hk.Parser()
        async for delta in backend.generate(prompt, hk.SamplingParams()):
            parser.feed(delta.tokens)
        parser.close()
        result = parser.result()
        conversation += result.history()
        for call in hk.tool_calls(result, toolbox):
            conversation.append(hk.tool_result(call, look(call.value["place"])))
    return conversation


async def by_loop(tool, backend):
    reply = await hk.arun(beginning(tool), backend, max_turns=TURNS)
    return list(reply.conversation)


def seconds_a_turn(work, tool, recording, chunk_size):
    backend = ReplayBackend(recording, chunk_size=chunk_size)
    start = time.perf_counter()
    conversation = asyncio.run(work(tool, backend))
    passed = time.perf_counter() - start
    assert conversation[-1].text == "I looked."
    return passed / TURNS


def table():
    """The table, and how many bars are missed."""
    rows = Table("a turn of 130 tokens", "loop, ms", "by hand, ms", "more, ms", "bar", box=None)
    missed = 0
    for tool, kind in ((look_async, "an async tool"), (look, "a plain tool, in a thread")):
        recording = list(exchanges(tool))
        for chunk_size, how in ((1, "token by token"), (1000, "whole")):
            times = [
                [seconds_a_turn(work, tool, recording, chunk_size) for work in (by_loop, by_hand)]
                for _ in range(ROUNDS)
            ]
            # The best of each: what else the machine does only adds.
            loop, hand = map(min, zip(*times, strict=True))
            more = loop - hand
            cells = [f"{1e3 * value:.2f}" for value in (loop, hand, more)]
            style = "red" if more > BAR else None
            rows.add_row(f"{kind}, completions {how}", *cells, f"{1e3 * BAR:.0f}", style=style)
            missed += more > BAR
    return rows, missed
