"""A model that writes as no encoder would, in a loop of tools: law 11 on real engines."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from itertools import pairwise

import harmony_kit as hk
from harmony_kit.vocabulary import CALL

TURNS = 20
CITIES = ("Paris", "Zürich", "東京", "Rio 🥀")
HEADERS = (  # the recipient comes second in most, as gpt-oss writes it
    "<|channel|>commentary to=functions.look <|constrain|>json<|message|>",
    "<|channel|>commentary to=functions.look<|message|>",
    "<|channel|>commentary to=functions.look json<|message|>",
    " to=functions.look<|channel|>commentary json<|message|>",
)


def look(city: str) -> str:
    """Look."""
    return "Sun"


class OddModel:
    """What a model says in a run: calls of a tool in `TURNS` turns, and an answer.

    Headers are in several orders, and texts are cut where no encoder cuts them. An engine is
    made to say it by `script`.

    Args:
        seed: Which headers and cuts.

    Attributes:
        completions: Token ids, one list for each turn.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self.completions = [self._cut(self._call(number)) for number in range(TURNS)]
        self.completions.append(self._cut("<|channel|>final<|message|>Sunny.<|return|>"))
        for completion in self.completions:
            assert hk.encode_with_special(hk.decode(completion)) != completion

    def _call(self, number: int) -> str:
        thought = "<|channel|>analysis<|message|>Next.<|end|><|start|>assistant"
        arguments = json.dumps({"city": self._chance.choice(CITIES)}, ensure_ascii=False)
        header = self._chance.choice(HEADERS)
        return (thought if number % 3 == 0 else "") + header + arguments + "<|call|>"

    def _cut(self, text: str) -> list[int]:
        """The tokens of a text whose pieces are encoded alone."""
        tokens = []
        for piece in re.split(r"(<\|\w+\|>)", text):
            cuts = [at for at in range(1, len(piece)) if self._chance.random() < 0.2]
            edges = [0, *cuts, len(piece)]
            is_text = not piece.startswith("<|")
            for start, end in pairwise(edges) if is_text else [(0, len(piece))]:
                tokens += hk.encode_with_special(piece[start:end])
        return tokens

    def script(self, prompt: Sequence[int]) -> list[int]:
        """What is left to say after a prompt, which may have the beginning of a completion.

        Args:
            prompt: Token ids.
        """
        completion = self.completions[list(prompt).count(CALL)]
        lengths = range(len(completion) - 1, 0, -1)
        said = (n for n in lengths if completion[:n] == list(prompt[-n:]))
        return completion[next(said, 0) :]

    def run(self, backend: hk.Backend) -> list[list[int]]:
        """Run the loop.

        Args:
            backend: What generates: it says what `script` gives.

        Returns:
            The prompts. Each has been seen to begin with the last and its completion.
        """
        events = list(
            hk.stream(
                [hk.user("Go.")],
                backend,
                tools=[look],
                max_turns=TURNS + 1,
                sampling=hk.SamplingParams(temperature=0),
            )
        )
        assert events[-1].reply.outcome == "final"
        assert events[-1].reply.text == "Sunny."
        started = [event.prompt for event in events if isinstance(event, hk.TurnStarted)]
        prompts = [prompt.tokens for prompt in started]
        assert len(prompts) == TURNS + 1
        for (prompt, following), completion in zip(
            pairwise(prompts), self.completions, strict=False
        ):
            sent = prompt + completion
            assert following[: len(sent)] == sent
        assert [prompt.extends for prompt in started] == [False] + [True] * TURNS
        return prompts
