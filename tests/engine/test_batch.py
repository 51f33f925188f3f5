"""Batches: every line exactly once, whatever happens in between."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time

import pytest
from anthropic.types import Message as AnthropicMessage
from examples import IS_THOROUGH
from harmony_backends.recording import Exchange
from harmony_backends.replay import ReplayBackend
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

import harmony_kit as hk
from harmony_kit.cli import main
from harmony_kit.convert import anthropic, chat_completions, responses
from harmony_kit.engine._batch import (
    CHAT_COMPLETIONS,
    MESSAGES,
    RESPONSES,
    BatchFile,
    read_batch,
    run_batch,
)


def chat_line(number, **fields):
    body = {"model": "m", "messages": [{"role": "user", "content": f"Question {number}"}]}
    return {
        "custom_id": f"r{number}",
        "method": "POST",
        "url": CHAT_COMPLETIONS,
        "body": body,
    } | fields


def responses_line(number):
    body = {"model": "m", "input": f"Question {number}"}
    return {"custom_id": f"r{number}", "method": "POST", "url": RESPONSES, "body": body}


def messages_line(number):
    messages = [{"role": "user", "content": f"Question {number}"}]
    body = {"model": "m", "max_tokens": 50, "messages": messages}
    return {"custom_id": f"r{number}", "method": "POST", "url": MESSAGES, "body": body}


def exchange(line, answer):
    module = {CHAT_COMPLETIONS: chat_completions, RESPONSES: responses, MESSAGES: anthropic}[
        line["url"]
    ]
    prompt = module.read_request(line["body"]).prompt()
    text = f"<|channel|>final<|message|>{answer}<|return|>"
    return Exchange(tuple(prompt), tuple(hk.encode_with_special(text)), "stop")


def run(lines, backend, **options):
    results = []
    given = read_batch(map(json.dumps, lines))
    asyncio.run(run_batch(given, backend, results.append, now=lambda: 7, **options))
    return {result.custom_id: result for result in results}


def test_every_api():
    lines = [chat_line(1), responses_line(2), messages_line(3)]
    backend = ReplayBackend([exchange(line, f"Answer {i}") for i, line in enumerate(lines)])
    results = run(lines, backend)
    chat = results["r1"].fields["response"]["body"]
    assert ChatCompletion.model_validate(chat).choices[0].message.content == "Answer 0"
    other = results["r2"].fields["response"]["body"]
    assert Response.model_validate(other).output_text == "Answer 1"
    message = AnthropicMessage.model_validate(results["r3"].fields["response"]["body"])
    assert (message.id, message.content[0].text) == ("msg_r3", "Answer 2")
    assert (chat["created"], other["created_at"]) == (7, 7)
    for result in results.values():
        assert (result.failed, result.fields["error"]) == (False, None)
        assert result.fields["response"]["status_code"] == 200
    assert results["r1"].tokens == chat["usage"]["completion_tokens"]


def test_failures_are_told_by_custom_id():
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    lines = [
        chat_line(1, url="/v1/embeddings"),
        chat_line(2, body={"messages": image}),
        chat_line(3),  # which was not recorded
        chat_line(4),
    ]
    results = run(lines, ReplayBackend([exchange(lines[3], "yes")]))
    failed = {key: result.fields for key, result in results.items() if result.failed}
    assert {key: line["error"]["code"] for key, line in failed.items()} == {
        "r1": "invalid_url",
        "r2": "invalid_request_error",
        "r3": "server_error",
    }
    assert failed["r2"]["error"]["message"].startswith("messages[0].content[0]: ")
    assert not results["r4"].failed


def test_the_engine_is_kept_full():
    class Counting:
        name = "counting"
        supports = frozenset()
        open = most = 0

        async def generate(self, prompt, sampling):
            self.open += 1
            self.most = max(self.most, self.open)
            await asyncio.sleep(0.001)
            self.open -= 1
            yield hk.engine.TokenChunk(
                hk.encode_with_special("<|channel|>final<|message|>a<|return|>"), "stop"
            )

        async def aclose(self):
            pass

    backend = Counting()
    assert len(run([chat_line(i) for i in range(50)], backend, concurrency=8)) == 50
    assert backend.most == 8


CALL = '<|channel|>commentary to=functions.f json<|message|>{"a": 1}<|call|>'
ANSWER = "<|channel|>final<|message|>No.<|return|>"


def line_that_requires_a_call(**schema):
    parameters = {"type": "object", "properties": {"a": {"type": "integer", **schema}}}
    function = {"name": "f", "parameters": parameters, "strict": True}
    line = chat_line(1)
    line["body"] |= {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
    }
    return line


def answered(line, text, **options):
    prompt = chat_completions.read_request(line["body"]).prompt()
    recorded = Exchange(tuple(prompt), tuple(hk.encode_with_special(text)), "stop")
    return run([line], ReplayBackend([recorded]), **options)["r1"].fields


def test_what_a_request_asks_for_becomes_a_constraint():
    """The backend checks what it plays against the constraint, which is there only if asked."""
    line = line_that_requires_a_call()
    fields = answered(line, CALL)
    assert "notes" not in fields
    message = fields["response"]["body"]["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    refused = answered(line, ANSWER)
    assert refused["error"]["code"] == "server_error"
    assert "violates the constraint: at token 1 it has" in refused["error"]["message"]
    del line["body"]["tool_choice"], line["body"]["tools"][0]["function"]["strict"]
    assert answered(line, ANSWER)["error"] is None


def test_what_cannot_be_enforced_fails_the_request():
    fields = answered(line_that_requires_a_call(**{"not": {"const": 1}}), CALL)
    assert fields["error"]["code"] == "invalid_request_error"
    path = "tools[0].function.parameters.properties.a.not"
    assert fields["error"]["message"].startswith(f"{path}: ")


def test_a_limit_that_no_completion_fits_fails_the_request():
    class Following(ReplayBackend):
        """Follows the constraint, as real engines do."""

        async def generate(self, prompt, sampling):
            sampling.constraint.matcher(sampling.max_tokens)
            async for delta in super().generate(prompt, sampling):
                yield delta

    line = line_that_requires_a_call()
    line["body"] |= {"tool_choice": "none", "max_tokens": 2}
    fields = run([line], Following([exchange(line, "No.")]))["r1"].fields
    assert fields["error"]["code"] == "invalid_request_error"
    assert fields["error"]["message"].startswith("max_tokens: ")


def test_a_backend_without_constraints_leaves_notes():
    class Plain(ReplayBackend):
        supports = frozenset()

    line = line_that_requires_a_call()
    fields = run([line], Plain([exchange(line, "No.")]))["r1"].fields
    assert [note["path"] for note in fields["notes"]] == [
        "tool_choice",
        "tools[0].function.parameters",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x", "line 2: Expecting value"),
        ('{"url": "a", "body": {}}', "line 2: 'custom_id' is missing"),
        ('{"custom_id": 5, "url": "a", "body": {}}', "line 2: custom_id is not a string"),
        (json.dumps(chat_line(1)), "line 2: a second 'r1'"),
    ],
)
def test_bad_lines_are_named(line, reason):
    with pytest.raises(hk.HarmonyError) as raised:
        read_batch([json.dumps(chat_line(1)), line])
    assert str(raised.value).startswith(reason)


def test_what_a_kill_left_of_a_line_is_cut_off(tmp_path):
    file = tmp_path / "out.jsonl"
    file.write_text('{"custom_id": "a"}\n{"custom_id": "b"}\n{"custom_')
    with BatchFile(file) as results:
        assert results.done == {"a", "b"}
    assert file.read_text() == '{"custom_id": "a"}\n{"custom_id": "b"}\n'
    file.write_text("nonsense\n")
    with pytest.raises(hk.HarmonyError, match="line 1 is not a result"):
        BatchFile(file)


def write_batch(folder, count):
    lines = [chat_line(number) for number in range(count)]
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recording = [exchange(line, f"Answer {i}").to_json() for i, line in enumerate(lines)]
    (folder / "recording.jsonl").write_text("\n".join(recording))
    return [
        *("batch", str(folder / "in.jsonl"), str(folder / "out.jsonl"), "--backend", "replay"),
        *("--option", f"recording={folder / 'recording.jsonl'}", "--option", "chunk_size=1"),
    ]


def test_the_command(tmp_path, capsys):
    arguments = write_batch(tmp_path, 5)
    assert main(arguments) == 0
    assert "5 done, 0 failed" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "5 of 5 requests were already done" in capsys.readouterr().err
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write("\n" + json.dumps(chat_line(9, url="/v1/embeddings")))
    assert main(arguments) == 1
    (failure,) = (tmp_path / "out.errors.jsonl").read_text().splitlines()
    assert json.loads(failure)["custom_id"] == "r9"


def test_killed_many_times_every_line_is_there_once(tmp_path):
    count = 3000
    kills = 20 if IS_THOROUGH else 6
    arguments = write_batch(tmp_path, count)
    command = [sys.executable, "-m", "harmony_kit", *arguments, "--concurrency", "4"]
    chance = random.Random(6)
    out = tmp_path / "out.jsonl"
    killed = 0
    while killed < kills:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = out.stat().st_size if out.exists() else 0
        # Once it writes, at a random moment.
        while process.poll() is None and (not out.exists() or out.stat().st_size == before):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed == kills
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    ids = [json.loads(line)["custom_id"] for line in out.read_text().splitlines()]
    assert sorted(ids) == sorted(f"r{number}" for number in range(count))
