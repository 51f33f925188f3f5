"""Token soups and mutated outputs by chance, many a second: `python -m fuzz.soups 100000 [seed]`.

Without instrumentation it runs ten times as many as the coverage-guided fuzzer.
"""

import json
import random
import sys
import time
from pathlib import Path

import harmony_kit as hk
from harmony_kit.wire._vocabulary import SIZE

from .check import check
from .soup import PIECES, seeds, tokens_of

TRANSCRIPTS = Path(__file__).parent.parent / "tests" / "data" / "transcripts.json"
SIZES = [1, 1, 2, 3, 5, 8, 1000]


def real_outputs():
    """The tokens of the collected cases and of recorded completions."""
    yield from (tokens_of(seed[1:]) for seed in seeds())
    for case in json.loads(TRANSCRIPTS.read_text("utf-8"))["cases"]:
        if "completion_text" in case:
            yield hk.encode_with_special(case["completion_text"])[:60]


def soup(chance):
    """Pieces one after the other."""
    tokens = []
    for _ in range(chance.randint(0, 10)):
        if chance.random() < 0.95:
            tokens += chance.choice(PIECES)
        else:
            tokens.append(chance.randint(-10, SIZE + 10))
    return tokens


def mutation(outputs, chance):
    """A real output, cut, doubled, shuffled or sprinkled here and there."""
    tokens = list(chance.choice(outputs))
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(tokens))
        what = chance.random()
        if what < 0.35:
            del tokens[place : place + chance.randint(1, 4)]
        elif what < 0.75:
            tokens[place:place] = chance.choice(PIECES)
        elif what < 0.85:
            tokens[place:place] = tokens[max(0, place - 5) : place]
        else:
            del tokens[place:]
    return tokens


def main(runs, seed=0):
    """Check so many; the seed of one that fails is printed."""
    outputs = list(real_outputs())
    begun = time.monotonic()
    for number in range(seed, seed + runs):
        chance = random.Random(number)
        tokens = soup(chance) if number % 2 else mutation(outputs, chance)
        try:
            check(tokens, chance.choice(SIZES), chance.choice([None, "assistant", "assistant"]))
        except Exception:
            print(f"seed {number}: {tokens}", file=sys.stderr)
            raise
    print(f"{runs} checked from seed {seed} in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
