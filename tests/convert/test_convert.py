"""The conversions together: one conversation through every API, and the command."""

import json
import subprocess
import sys

import pytest

import harmony_kit as hk
from harmony_kit.cli import main
from harmony_kit.convert import anthropic, chat_completions, responses

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "reasoning_content": "Look it up.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get-weather", "arguments": '{"city": "Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "assistant", "content": "Sun."},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get-weather",
                "description": "The weather.",
                "parameters": PARAMETERS,
            },
        }
    ],
    "reasoning_effort": "low",
}
RESPONSES = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": "Weather?"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Look it up."}],
        },
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "get-weather",
            "arguments": '{"city": "Paris"}',
        },
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"role": "assistant", "content": "Sun."},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "get-weather",
            "description": "The weather.",
            "parameters": PARAMETERS,
        }
    ],
    "reasoning": {"effort": "low"},
}
ANTHROPIC = {
    "model": "m",
    "max_tokens": 100,
    "system": "Be brief.",
    "messages": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Look it up.", "signature": ""},
                {"type": "tool_use", "id": "c1", "name": "get-weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "sun"}],
        },
        {"role": "assistant", "content": "Sun."},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [{"name": "get-weather", "description": "The weather.", "input_schema": PARAMETERS}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}
BODIES = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC}
MODULES = {"chat": chat_completions, "responses": responses, "anthropic": anthropic}


def messages_of(form):
    return MODULES[form].read_request(BODIES[form], current_date="2025-06-28").messages


@pytest.mark.parametrize("form", ["responses", "anthropic"])
def test_one_conversation_gives_the_same_tokens_through_every_api(form):
    assert messages_of(form) == messages_of("chat")
    request = MODULES[form].read_request(BODIES[form], current_date="2025-06-28")
    assert (
        request.prompt() == chat_completions.read_request(CHAT, current_date="2025-06-28").prompt()
    )


@pytest.mark.parametrize("source", BODIES)
@pytest.mark.parametrize("target", BODIES)
def test_a_request_goes_from_one_api_to_another(source, target, tmp_path, capsys):
    file = tmp_path / "body.json"
    file.write_text(json.dumps(BODIES[source]))
    arguments = ["convert", "--from", source, "--to", target, str(file), "--model", "m", "--note"]
    assert main(arguments) == 0
    written = json.loads(capsys.readouterr().out)
    again = MODULES[target].read_request(written).messages
    # What the system message says besides the effort is the renderer's business.
    assert again[1:] == messages_of(source)[1:]


def convert(*arguments, text):
    return subprocess.run(
        [sys.executable, "-m", "harmony_kit", "convert", *arguments],
        input=text.encode(),
        capture_output=True,
        check=False,
    )


def test_tokens_and_text():
    prompt = chat_completions.read_request(CHAT).prompt()
    done = convert("--from", "chat", "--to", "tokens", text=json.dumps(CHAT))
    assert json.loads(done.stdout) == prompt
    done = convert("--from", "chat", "--to", "text", text=json.dumps(CHAT))
    assert done.stdout.decode().removesuffix("\n") == hk.decode(prompt)
    done = convert("--from", "harmony", "--to", "text", text=hk.messages_to_json([hk.user("hi")]))
    assert done.stdout.decode() == "<|start|>user<|message|>hi<|end|><|start|>assistant\n"
    for source, text in (
        ("text", "<|start|>user<|message|>hi<|end|>"),
        ("tokens", json.dumps(hk.encode_with_special("<|start|>user<|message|>hi<|end|>"))),
    ):
        done = convert("--from", source, "--to", "chat", text=text)
        assert json.loads(done.stdout)["messages"] == [{"role": "user", "content": "hi"}]


def test_a_response_becomes_messages():
    result = hk.parse(hk.encode_with_special("<|channel|>final<|message|>Sun.<|return|>"))
    for source, module in MODULES.items():
        body = module.write_response(result, id="r", model="m")
        done = convert("--from", source, "--to", "harmony", text=json.dumps(body))
        (message,) = json.loads(done.stdout)["messages"]
        assert (message["role"], message["channel"]) == ("assistant", "final")
        assert message["content"] == [{"type": "text", "text": "Sun."}]


def test_many_lines(tmp_path):
    lines = [CHAT, {"messages": [{"role": "user", "content": "hi"}]}]
    done = convert(
        "--from", "chat", "--to", "harmony", "--jsonl", text="\n".join(map(json.dumps, lines))
    )
    written = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(written) == 2
    assert written[1]["messages"][-1]["content"] == [{"type": "text", "text": "hi"}]


def test_errors_name_file_line_and_path():
    bad = {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
        ]
    }
    lines = "\n".join(map(json.dumps, [CHAT, bad]))
    done = convert("--from", "chat", "--to", "harmony", "--jsonl", text=lines)
    assert done.returncode == 2
    message = (
        "standard input:2: messages[0].content[0]: a part of the type 'image_url' cannot be carried"
    )
    assert message in done.stderr.decode()
    assert len(done.stdout.splitlines()) == 1
    done = convert("--from", "chat", "--to", "harmony", "--jsonl", "--note", text=lines)
    assert done.returncode == 0
    assert message in done.stderr.decode()
    assert "not JSON" in convert("--from", "chat", "--to", "text", text="{").stderr.decode()
