"""What a constraint costs in vLLM: tokens a second under it, and without one.

    python -m benchmarks.vllm_constraint --model FOLDER [--engine '{"max_model_len": 2048}']

Where vLLM and llguidance are installed. So many requests at a time, four times as many in all;
the next begins when one ends. Under a constraint a model without trained weights ends where
chance has it, so the side without a constraint is given the lengths that came out before, request
by request: both sides read the same prompts and write as many tokens. Rounds alternate. The
figure is the completion tokens a second of all requests together, the median of the rounds.

First comes an engine that was not made for constraints, then one that was: what the second side
loses there it loses without using them.
"""

import argparse
import asyncio
import json
import statistics
import time

import harmony_kit as hk
from harmony_kit.grammar import constraint

from .vllm_backend import prompts

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
REPORT = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "findings": {"type": "array", "items": {"type": "string"}, "minItems": 3},
        "certain": {"type": "boolean"},
    },
    "required": ["title", "findings", "certain"],
    "additionalProperties": False,
}
TOOLS = (
    hk.ToolNamespace("functions", (hk.Tool("get_weather", "", WEATHER), hk.Tool("now"))),
    hk.PYTHON,
)
CONSTRAINTS = {
    "free reasoning, free answer": constraint(),
    "free reasoning, tools or a JSON answer": constraint(tools=TOOLS, response_format=REPORT),
    "a JSON answer alone": constraint(response_format=REPORT, reasoning="none"),
}
HEADER_LENGTH = 3
"""Of the answer's header, with which the prompts of the other benchmark end."""


async def complete_all(generate, asked, concurrent, limits):
    """Complete prompts, so many at a time; the lengths of the completions, and the seconds."""
    free = asyncio.Semaphore(concurrent)

    async def one(prompt, limit):
        async with free:
            return sum([count async for count in generate(prompt, limit)])

    begun = time.perf_counter()
    lengths = await asyncio.gather(*map(one, asked, limits))
    return lengths, time.perf_counter() - begun


def generator(backend, wanted):
    async def generate(prompt, limit):
        stops = {} if wanted else {"stop_tokens": ()}
        sampling = hk.SamplingParams(max_tokens=limit, temperature=1.0, constraint=wanted, **stops)
        async for delta in backend.generate(prompt, sampling):
            yield len(delta.tokens)

    return generate


async def compare(backend, wanted, options):
    """The rates under a constraint and without one, round by round, and the mean length."""
    asked = [prompt[:-HEADER_LENGTH] for prompt in prompts(4 * options.concurrent)]
    limits = [options.tokens] * len(asked)
    rates = {"constrained": [], "free": []}

    async def run(name, constraint, given):
        said, seconds = await complete_all(
            generator(backend, constraint), asked, options.concurrent, given
        )
        rates[name].append(round(sum(said) / seconds))
        return said

    lengths = await run("constrained", wanted, limits)
    await run("free", None, lengths)
    for found in rates.values():
        found.clear()  # that was to warm up
    for turn in range(options.rounds):
        if turn % 2:
            await run("free", None, lengths)
            lengths = await run("constrained", wanted, limits)
        else:
            lengths = await run("constrained", wanted, limits)
            await run("free", None, lengths)
    return rates, statistics.mean(lengths)


async def measure_engine(kind, options, sides, **arguments):
    """Start an engine, and print a line for each constraint."""
    from harmony_backends.vllm import VLLMBackend

    backend = VLLMBackend(options.model, **json.loads(options.engine), **arguments)
    try:
        for name, wanted in sides.items():
            rates, length = await compare(backend, wanted, options)
            constrained, free = (statistics.median(rates[name]) for name in rates)
            line = {
                "engine": kind,
                "constraint": name,
                "constrained, tokens/s": round(constrained),
                "without, tokens/s": round(free),
                "ratio": round(constrained / free, 3),
                "mean length": round(length),
                "rounds": [*zip(*rates.values(), strict=True)],
            }
            print(json.dumps(line), flush=True)
    finally:
        await backend.aclose()


async def measure(options):
    await measure_engine("not made for constraints", options, {"none": None})
    await measure_engine("made for constraints", options, CONSTRAINTS, constraints=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", default="{}", help="vLLM's engine arguments as JSON")
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
