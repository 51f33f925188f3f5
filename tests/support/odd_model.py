"""A model that writes as no encoder would, in a loop of tools: law 11 on real engines."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from itertools import pairwise

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CALL

TURNS = 20
CITIES = ("Paris", "Zürich", "東京", "Rio 🥀")
HEADERS = (  # in most, the recipient comes second
    "<|channel|>commentary to=functions.look <|constrain|>json<|message|>",
    "<|channel|>commentary to=functions.look<|message|>",
    "<|channel|>commentary to=functions.look json<|message|>",
    " to=functions.look<|channel|>commentary json<|message|>",
)
# So long that the first turn is longer than the model's sliding window (128). Before that,
# llama.cpp goes back to where the last prompt ended.
QUESTION = "What is the weather like? " * 10


def look(city: str) -> str:
    """Look."""
    return "Sun"


class OddModel:
    """What a model says in a run: calls of a tool in `TURNS` turns, and an answer.

    Headers are of several orders, and texts are cut where no encoder cuts them. A test makes an
    engine say it, by `script`. A run fits into a context of 1024.

    Attributes:
        completions: Token ids, a list for each turn.
    """

    def __init__(self) -> None:
        self._chance = random.Random(0)
        self.completions = [self._cut(self._call(number)) for number in range(TURNS)]
        self.completions.append(self._cut("<|channel|>final<|message|>Sunny.<|return|>"))
        for completion in self.completions:
            assert hk.encode_with_special(hk.decode(completion)) != completion

    def _call(self, number: int) -> str:
        thought = "<|channel|>analysis<|message|>Next.<|end|><|start|>assistant"
        header = self._chance.choice(HEADERS)
        arguments = json.dumps({"city": self._chance.choice(CITIES)}, ensure_ascii=False)
        return (thought if number % 3 == 0 else "") + header + arguments + "<|call|>"

    def _cut(self, text: str) -> list[int]:
        """The tokens of pieces of a text, each encoded alone."""
        pieces = [""]
        for unit in re.findall(r"<\|\w+\|>|.", text):
            if self._chance.random() < 0.2:
                pieces.append("")
            pieces[-1] += unit
        return [token for piece in pieces for token in hk.encode_with_special(piece)]

    def script(self, prompt: Sequence[int]) -> list[int]:
        """What is to be said next, after a prompt that may end within a completion.

        Args:
            prompt: Token ids.
        """
        completion = self.completions[list(prompt).count(CALL)]
        lengths = range(len(completion) - 1, 0, -1)
        said = (n for n in lengths if completion[:n] == list(prompt[-n:]))
        return completion[next(said, 0) :]

    def run(self, backend: hk.engine.Backend) -> list[tuple[tuple[int, ...], int]]:
        """Run the loop, and see that each prompt begins with the last and its completion.

        Args:
            backend: What generates.

        Returns:
            All prompts but the first, and how many ids of each are of the last and its completion.
        """
        events = list(
            hk.stream(
                [hk.user(QUESTION)],
                backend,
                tools=[look],
                max_turns=TURNS + 1,
                sampling=hk.SamplingParams(temperature=0),
            )
        )
        ended = events[-1]
        assert isinstance(ended, hk.loop.RunEnded)
        assert (ended.reply.outcome, ended.reply.text) == ("final", "Sunny.")
        started = [event.prompt for event in events if isinstance(event, hk.loop.TurnStarted)]
        assert [prompt.extends for prompt in started] == [False] + [True] * TURNS
        prompts = []
        calls = self.completions[:TURNS]
        for (last, prompt), completion in zip(pairwise(started), calls, strict=True):
            before = [*last, *completion]
            assert prompt.tokens[: len(before)] == before
            prompts.append((tuple(prompt), len(before)))
        return prompts
