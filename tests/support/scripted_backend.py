"""A backend that says what the user tells it to, for chats with the real command.

The last message of the user has the completions, special tokens spelt out, one for each turn,
with `||` between them. `~` waits for a tenth of a second; `{result}` is the last result of a tool;
`!` at the beginning fails. A message without special tokens is repeated in the answer.

With the option `engine` it starts a process that ends at Ctrl-C, as engines do, and answers only
while that runs.

Every prompt is added to the file that the variable PROMPTS names, as a line of JSON.
"""

import asyncio
import json
import os
import subprocess
import sys

from harmony_backends.function import FunctionBackend

import harmony_kit as hk


async def answer(prompt, sampling):
    with open(os.environ["PROMPTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps(prompt) + "\n")
    messages = hk.parse(prompt, role=None).messages
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    roles = [message.role for message in messages[last:]]
    turn = sum(a == "tool" != b for a, b in zip(roles, [*roles[1:], "assistant"], strict=True))
    turns = messages[last].text.split("||")
    script = turns[min(turn, len(turns) - 1)]
    if script.startswith("!"):
        raise RuntimeError(script[1:])
    if "<|" not in script:
        script = f"<|channel|>final<|message|>You said: {script}<|return|>"
    results = [message.text for message in messages if message.role == "tool"]
    script = script.replace("{result}", results[-1] if results else "")
    first, *more = script.split("~")
    for piece in (first, *more):
        for token in hk.encode_with_special(piece):
            yield token
        await asyncio.sleep(0.1 if more else 0)


def scripted(engine=False):
    if not engine:
        return FunctionBackend(answer, "scripted")
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)

    async def answer_if_it_runs(prompt, sampling):
        if process.poll() is not None:
            raise RuntimeError("the engine has died")
        async for token in answer(prompt, sampling):
            yield token

    return FunctionBackend(answer_if_it_runs, "scripted")
