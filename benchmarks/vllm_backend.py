"""Our vLLM backend, parsing on, beside vLLM's own loop on the same engine and prompts.

    python -m benchmarks.vllm_backend --model FOLDER [--engine '{"max_model_len": 4096}']

Where vLLM is installed. Both sides use one engine, round by round in every order in turn. The
figure is the completion tokens a second of all requests together, the median of the rounds;
the ratio is that of the medians. Beside it is that of vLLM's loop and itself: how far ratios
scatter. Beside those is what each side costs this process, in microseconds of CPU time a token: the
engine's own processes do not count, so that it scatters less. Last come the rates of the rounds.

The prompts end within an answer, which the model goes on with: a model without trained weights
writes no header, and the tokens of an answer are what a parser sees most.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time

import harmony_kit as hk
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import FIRST_SPECIAL

HEADER = hk.encode_with_special("<|channel|>final<|message|>")


def prompts(count, length=200):
    chance = random.Random(1)
    head = hk.encode_with_special("<|start|>user<|message|>")
    tail = [*hk.encode_with_special("<|end|><|start|>assistant"), *HEADER]
    return [
        [*head, *(chance.randrange(1000, FIRST_SPECIAL) for _ in range(length)), *tail]
        for _ in range(count)
    ]


async def ours(backend, asked, tokens):
    """All requests through our backend, each parsed while it streams."""
    sampling = SamplingParams(max_tokens=tokens, temperature=1.0, seed=1, stop_tokens=())

    async def one(prompt):
        parser = hk.Parser()
        parser.feed(HEADER)
        async for delta in backend.generate(prompt, sampling):
            parser.feed(delta.tokens)
        parser.close()
        return parser.position - len(HEADER)

    return sum(await asyncio.gather(*map(one, asked)))


async def theirs(backend, asked, tokens):
    """All requests through vLLM's own engine, as its documentation has it."""
    from vllm import SamplingParams as EngineParams
    from vllm.sampling_params import RequestOutputKind

    parameters = EngineParams(
        max_tokens=tokens,
        temperature=1.0,
        seed=1,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    engine = backend._engine

    async def one(number, prompt):
        count = 0
        given = {"prompt_token_ids": prompt}
        async for output in engine.generate(given, parameters, f"theirs-{time.time()}-{number}"):
            count += len(output.outputs[0].token_ids)
        return count

    return sum(await asyncio.gather(*(one(n, p) for n, p in enumerate(asked))))


async def again(backend, asked, tokens):
    """vLLM's loop once more, to see what chance does."""
    return await theirs(backend, asked, tokens)


async def measure(options):
    from harmony_backends.vllm import VLLMBackend

    backend = VLLMBackend(options.model, **json.loads(options.engine))
    sides = (ours, theirs, again)
    orders = [*itertools.permutations(sides)]
    try:
        for concurrent in options.concurrent:
            asked = prompts(concurrent)
            rates = {side: [] for side in sides}
            costs = {side: [] for side in sides}
            for turn in range(options.rounds + 1):
                for side in orders[turn % len(orders)]:
                    begun, cost = time.perf_counter(), time.process_time()
                    count = await side(backend, asked, options.tokens)
                    if turn:  # the first warms up
                        rates[side].append(round(count / (time.perf_counter() - begun)))
                        costs[side].append((time.process_time() - cost) / count)
            left, right, control = (statistics.median(rates[side]) for side in sides)
            line = {
                "concurrent": concurrent,
                "ours, tokens/s": round(left),
                "vLLM's loop, tokens/s": round(right),
                "ratio": round(left / right, 3),
                "vLLM's loop beside itself": round(control / right, 3),
                "CPU here, us/token": [
                    round(1e6 * statistics.median(costs[side]), 1) for side in sides
                ],
                "rounds": [*zip(*rates.values(), strict=True)],
            }
            print(json.dumps(line), flush=True)
    finally:
        await backend.aclose()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", default="{}", help="vLLM's engine arguments as JSON")
    parser.add_argument("--concurrent", type=int, nargs="*", default=[1, 64, 256])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
