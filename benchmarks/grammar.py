"""What constraints cost: to start, and for every token."""

import json
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

from rich.table import Table

import harmony_kit as hk
from harmony_kit.grammar import _matching as matching

from .measure import median_time
from .samples import PROSE, TOOLS

MOST_SECONDS_OF_FIFTY_TOOLS = 1.0

FIRST_MASK = """
import time
import harmony_kit as hk
from harmony_kit.grammar import _matching as matching
def f(city: str, days: int = 1) -> str:
    "The weather."
tool = hk.tools.tool_from_function(f)
start = time.perf_counter()
{}
print(time.perf_counter() - start)
"""
TOKENIZER = "matching._tokenizer(matching.MODEL_VOCABULARY_SIZE)"
CONSTRAINT = "hk.constraint([tool]).matcher().bitmask()"


def tools(count):
    """So many tools, each with a schema of its own."""
    return [
        hk.Tool(f"{name}_{index}", description, {**parameters, "title": str(index)})
        for index in range(count)
        for name, description, parameters in [TOOLS[index % len(TOOLS)]]
    ]


def seconds_in_a_process(code, rounds=5):
    """The median of what a fresh process says that something took."""
    command = [sys.executable, "-c", FIRST_MASK.format(code)]
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return statistics.median(times)


def seconds_of_first(count):
    """The first grammar of so many tools, in a process that has compiled others."""
    declared = tools(count)

    def compile_anew():
        matching._compiled.cache_clear()
        hk.constraint(declared).matcher()

    return median_time(compile_anew)


def seconds_of_known(count):
    """A grammar that was compiled before."""
    declared = tools(count)
    hk.constraint(declared).matcher()
    return median_time(lambda: hk.constraint(declared).matcher(), 15)


def starts():
    """What is started, its seconds, and how many are allowed."""
    yield "the tokenizer, once in a process", seconds_in_a_process(TOKENIZER), None
    yield "the first mask of a process, one tool", seconds_in_a_process(CONSTRAINT), None
    yield "a grammar of 1 tool", seconds_of_first(1), None
    yield "a grammar of 50 tools", seconds_of_first(50), MOST_SECONDS_OF_FIFTY_TOOLS
    yield "1 tool again", seconds_of_known(1), None
    yield "50 tools again", seconds_of_known(50), None


def completions():
    """Name, constraint and tokens of what is followed."""
    declared = tools(50)
    thought = f"<|channel|>analysis<|message|>{PROSE * 4}<|end|><|start|>assistant"
    call = f"<|channel|>commentary to=functions.{declared[0].name} json<|message|>"
    arguments = as_json({"location": PROSE})
    yield (
        "reasoning, then a call of one of 50 tools",
        hk.constraint(declared),
        f"{thought}{call}{arguments}<|call|>",
    )
    text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    long, many = (
        as_json({"text": PROSE * 4}),
        as_json({str(i): [i, None, i % 2] for i in range(300)}),
    )
    for name, schema, answer in (
        ("a long text in JSON", text, long),
        ("many small values in JSON", {"type": "object"}, many),
    ):
        made = hk.constraint(response_format=schema)
        yield name, made, f"<|channel|>final<|message|>{answer}<|return|>"


def as_json(value):
    return json.dumps(value, ensure_ascii=False)


def masks():
    """Name, tokens, and the microseconds of the median and the 99th percentile of each token.

    A token costs its mask, and taking it.
    """
    for name, made, text in completions():
        tokens = hk.encode_with_special(text)
        for limit in (None, 2 * len(tokens)):
            matcher = made.matcher(limit)
            times = []
            for token in tokens:
                start = time.perf_counter()
                matcher.bitmask()
                taken = matcher.accept_token(token)
                times.append((time.perf_counter() - start) * 1e6)
                assert taken, hk.decode(tokens[: matcher.position])[-200:]
            assert matcher.is_finished
            percentile = statistics.quantiles(times, n=100)[98]
            limited = "" if limit is None else ", within a limit"
            yield name + limited, len(tokens), statistics.median(times), percentile


def tables():
    """The tables, and how many bars are missed."""
    if find_spec("llguidance") is None:
        return [Table("constraints: llguidance is not installed", box=None)], 0
    started = Table("a constraint is started", "ms", "bar", box=None)
    missed = 0
    for name, seconds, bar in starts():
        is_missed = bar is not None and seconds > bar
        missed += is_missed
        allowed = "" if bar is None else f"{bar * 1e3:.0f}"
        started.add_row(name, f"{seconds * 1e3:.2f}", allowed, style="red" if is_missed else None)
    followed = Table(
        "a mask, and taking a token", "tokens", "median, us", "99 of 100, us", box=None
    )
    for name, count, median, percentile in masks():
        followed.add_row(name, f"{count:,}", f"{median:.0f}", f"{percentile:.0f}")
    return [started, followed], missed
