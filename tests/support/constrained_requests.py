"""Requests under constraints, whose answers are well-formed with any model."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

import jsonschema

import harmony_kit as hk
from harmony_kit.grammar import Constraint, ToolChoice

COUNT = int(os.environ.get("REQUESTS", "12"))
LIMIT = int(os.environ.get("LIMIT", "80"))

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
ANSWER = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "certain": {"type": "boolean"}},
    "required": ["answer", "certain"],
    "additionalProperties": False,
}
TOOLS = (
    hk.ToolNamespace("functions", (hk.Tool("get_weather", "", WEATHER), hk.Tool("now"))),
    hk.PYTHON,
)


def constraint_of(number: int) -> Constraint:
    """One of the constraints, in turn."""
    choices: list[dict[str, Any]] = [
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "required", "reasoning": "none"},
        {"tools": TOOLS, "tool_choice": "functions.get_weather", "reasoning": 20},
        {"tools": TOOLS, "tool_choice": ToolChoice("none"), "response_format": ANSWER},
        {"response_format": ANSWER, "reasoning": "none"},
    ]
    return hk.constraint(**choices[number % len(choices)])


async def answer_all(backend: hk.engine.Backend, *, temperature: float = 1.0) -> list[list[int]]:
    """The completions of many requests at once, each under a constraint."""

    async def complete(number: int) -> list[int]:
        prompt = hk.render([hk.user(f"What is the weather in town number {number}?")])
        sampling = hk.SamplingParams(
            max_tokens=LIMIT + number % 100,
            temperature=temperature,
            seed=number,
            constraint=constraint_of(number),
        )
        tokens: list[int] = []
        async for delta in backend.generate(prompt, sampling):
            tokens += delta.tokens
        return tokens

    return await asyncio.gather(*map(complete, range(COUNT)))


def check_all(completions: Sequence[Sequence[int]]) -> None:
    """Each is well-formed, and within its limit."""
    for number, tokens in enumerate(completions):
        result = hk.parse(tokens, strict=True)
        assert len(tokens) <= LIMIT + number % 100
        assert constraint_of(number).check(tokens) is None
        last = result.messages[-1]
        if last.recipient == "functions.get_weather":
            jsonschema.validate(json.loads(last.text), WEATHER)
        elif last.channel == "final" and number % 5 in (3, 4):
            jsonschema.validate(json.loads(last.text), ANSWER)
        assert last.channel == "final" or hk.tool_calls(result, TOOLS)[0].runnable
    assert len({tuple(tokens) for tokens in completions}) > len(completions) // 2
