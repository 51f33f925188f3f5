"""A backend that says what it is told to, and the texts of calls and answers."""

import asyncio

import harmony_kit as hk

CALL_TEXT = (
    "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant to=functions.{name}"
    "<|channel|>commentary <|constrain|>json<|message|>{arguments}<|call|>"
)
FINAL_TEXT = "<|channel|>final<|message|>{text}<|return|>"


class Scripted:
    """A backend that says what it is told to, whatever the prompt."""

    name = "scripted"
    supports: frozenset[str] = frozenset()

    def __init__(self, *completions, finish_reason="stop", chunk_size=3):
        self.completions = [hk.encode_with_special(text) for text in completions]
        self.finish_reason = finish_reason
        self.chunk_size = chunk_size
        self.prompts = []
        self.open = 0

    async def generate(self, prompt, sampling):
        self.prompts.append(list(prompt))
        tokens = self.completions[len(self.prompts) - 1]
        self.open += 1
        try:
            for start in range(0, len(tokens), self.chunk_size):
                await asyncio.sleep(0)
                yield hk.engine.TokenChunk(tokens[start : start + self.chunk_size])
            yield hk.engine.TokenChunk([], self.finish_reason)
        finally:
            self.open -= 1

    async def aclose(self):
        pass


def get_weather(city: str, days: int = 1) -> dict:
    """The weather.

    Args:
        city: Where.
        days: How many days.
    """
    return {"city": city, "sky": "clear", "days": days}


def call(name, arguments='{"city": "Paris"}'):
    return CALL_TEXT.format(name=name, arguments=arguments)


def final(text):
    return FINAL_TEXT.format(text=text)
