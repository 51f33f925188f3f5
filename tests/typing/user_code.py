"""A program that uses the public API as the README does; `mypy --strict` reads it, nothing runs it.

A line that ends in `# E` is one that mypy has to refuse.
"""

import asyncio
from collections.abc import Iterator
from typing import reveal_type

import harmony_kit as hk
from harmony_kit.convert import anthropic, chat_completions, responses


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The name of the city.
    """
    return f"It is sunny in {city}."


def namespaces() -> Iterator[hk.ToolNamespace]:
    yield hk.ToolNamespace("places", (hk.Tool("look"),))


tools: list[hk.ToolNamespace] = [*namespaces()]
conversation = [
    hk.system(reasoning_effort="high", valid_channels=["final"], tools=[hk.PYTHON]),
    hk.system(
        reasoning_effort=hk.wire.ReasoningEffort.LOW, tools=(hk.BROWSER, hk.builtins.PythonTool())
    ),
    hk.developer("Always respond in riddles.", tools=[get_weather]),
    hk.developer(tools=namespaces()),
    hk.developer(tools=[get_weather, *namespaces(), hk.Tool("f")], response_formats=iter(())),
    hk.user("What is the weather like in SF?"),
]
version: str = hk.__version__

# --- Rendering and parsing ------------------------------------------------------------------

prompt: list[int] = hk.render(conversation)
by_value: list[int] = hk.render(conversation, options=hk.RenderOptions(drop_analysis="never"))
completion: list[int] = hk.encode_with_special("<|channel|>final<|message|>Grey cat.<|return|>")
result: hk.Completion = hk.parse(completion)
text: str | None = result.text
reasoning: str | None = result.reasoning
channel: str | None = result.messages[0].channel
content_tokens: list[int] = completion[result.parsed[0].span.content]
history: tuple[hk.Message, ...] = result.history(finish_reason="stop")
extended: hk.Prompt = hk.extend(prompt, completion, [hk.user("And tomorrow?")])

parser = hk.Parser()
for token in completion:
    for event in parser.feed(token):
        if isinstance(event, hk.ContentDelta) and event.channel == "final":
            delta: str = event.text
        elif isinstance(event, hk.MessageEnded):
            whole: hk.Message = event.message
problems: list[str] = [problem.code for problem in hk.parse_text("assistantfinalHi").problems]

for call in hk.tool_calls(result, [get_weather]):
    arguments: str = call.arguments
    is_runnable: bool = call.runnable
    status: hk.calls.CallStatus = call.status

# --- The loop -------------------------------------------------------------------------------

options = hk.RunOptions(tools=[get_weather], rendering=hk.RenderOptions(drop_analysis="never"))
sampling = hk.SamplingParams(temperature=0.5, max_tokens=100, stop=["\n\n"])


def reply(backend: hk.engine.Backend) -> str | None:
    for event in hk.stream(conversation, backend, tools=tools, header_order="channel-first"):
        reveal_type(event)
    return hk.run(conversation, backend, options=options, sampling=sampling, max_turns=3).text


async def with_tools(backend: hk.engine.Backend) -> hk.Reply:
    policy = hk.tools.ToolPolicy(timeout=60)
    async with hk.Toolbox([get_weather, hk.builtins.PythonTool()], policy=policy) as toolbox:
        return await hk.arun(conversation, backend, tools=toolbox, max_seconds=120)


async def in_a_program() -> None:
    backend = hk.load_backend("replay", recording="paris-weather")
    outcome: hk.loop.Outcome = (await with_tools(backend)).outcome
    await asyncio.gather(backend.aclose())
    print(outcome)


# --- Constraints and APIs -------------------------------------------------------------------

constraint: hk.grammar.Constraint = hk.constraint([get_weather], tool_choice="required")
refusal: hk.grammar.Refusal | None = constraint.check(completion)

request = chat_completions.read_request({"messages": [{"role": "user", "content": "Hi"}]})
for api_prompt in (request.prompt(), request.prompt(header_order="channel-first")):
    ids: list[int] = api_prompt
body = chat_completions.write_response(result, id="r1", created=0, model="gpt-oss-20b")
for api in (anthropic, responses):
    print(api.read_request)

# --- What must be refused -------------------------------------------------------------------

hk.RunOptions(max_turn=3)  # E
hk.system(reasoning_efort="high")  # E
hk.render(conversation, drop_analysis="sometimes")  # E
hk.tool_cals(result)  # E
hk.SamplingParams(temperature="hot")  # E
