"""Our vLLM backend, rendering and parsing on, beside the chat endpoint of vLLM's server.

    python -m vllm.entrypoints.openai.api_server --model FOLDER --port 8000 \\
        --reasoning-parser openai_gptoss --tool-call-parser openai --enable-auto-tool-choice \\
        --logits-processors harmony_backends.scripted:Scripted ...
    python -m benchmarks.vllm_server --model FOLDER --url http://localhost:8000/v1

The server needs a tokenizer beside the weights, and another GPU or a part of this one. Both
models are made to say the same text: some reasoning, then an answer. Rounds alternate; the
figure is the completion tokens a second of all requests together, the median of the rounds,
whose own rates come last. Of the server's stream only the end is looked at, lest the client
be what is measured.
"""

import argparse
import asyncio
import json
import random
import statistics
import time

import aiohttp

import harmony_kit as hk

WORDS = (
    *("river", "stone", "cloud", "lantern", "harbour"),
    *("meadow", "copper", "thread", "window", "orchard"),
)


def texts(count):
    chance = random.Random(1)
    return [" ".join(chance.choices(WORDS, k=150)) for _ in range(count)]


def answer(tokens):
    """A completion of about so many tokens, as ids."""
    chance = random.Random(2)
    thought, said = (" ".join(chance.choices(WORDS, k=tokens // 2 - 6)) for _ in range(2))
    return hk.encode_with_special(
        f"<|channel|>analysis<|message|>{thought}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{said}<|return|>"
    )


async def ours(backend, asked, expected):
    async def one(text):
        prompt = hk.render([hk.system(current_date="2025-06-28"), hk.user(text)])
        parser = hk.Parser()
        async for delta in backend.generate(prompt, hk.SamplingParams(temperature=1.0)):
            parser.feed(delta.tokens)
        parser.close()
        assert parser.result().messages == expected
        return parser.position

    return sum(await asyncio.gather(*map(one, asked)))


async def theirs(client, url, model, asked, script):
    async def one(text):
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 1.0,
            "max_tokens": 1024,
            "vllm_xargs": {"script": script},
        }
        end = b""
        async with client.post(f"{url}/chat/completions", json=body) as response:
            async for data in response.content.iter_any():
                end = (end + data)[-4000:]
        *_, usage, done = end.split(b"data: ")
        assert done.strip() == b"[DONE]"
        return json.loads(usage)["usage"]["completion_tokens"]

    return sum(await asyncio.gather(*map(one, asked)))


async def measure(options):
    from harmony_backends.vllm import VLLMBackend

    script = answer(options.tokens)
    expected = hk.parse(script).messages
    backend = VLLMBackend(options.model, script=lambda _: script, **json.loads(options.engine))
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as client:
        async with client.get(f"{options.url}/models") as response:
            model = (await response.json())["data"][0]["id"]
        for concurrent in options.concurrent:
            asked = texts(concurrent)
            rates = {"ours": [], "theirs": []}
            for turn in range(options.rounds + 1):
                for name in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                    begun = time.perf_counter()
                    if name == "ours":
                        count = await ours(backend, asked, expected)
                    else:
                        count = await theirs(client, options.url, model, asked, script)
                    if turn:  # the first warms up
                        rates[name].append(round(count / (time.perf_counter() - begun)))
            left, right = (statistics.median(rates[name]) for name in ("ours", "theirs"))
            line = {
                "concurrent": concurrent,
                "ours, tokens/s": round(left),
                "chat endpoint, tokens/s": round(right),
                "ratio": round(left / right, 2),
                "rounds": [*zip(*rates.values(), strict=True)],
            }
            print(json.dumps(line), flush=True)
    await backend.aclose()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--engine", default="{}", help="vLLM's engine arguments as JSON")
    parser.add_argument("--concurrent", type=int, nargs="*", default=[1, 64, 256])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
