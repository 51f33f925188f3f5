"""The command, as a person and as a program call it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import harmony_kit as hk
from harmony_kit.cli import main

CONVERSATION = {
    "messages": [
        {"role": "system", "content": [{"type": "system_content", "reasoning_effort": "High"}]},
        {"role": "user", "content": "What is 2 + 2?"},
        {
            "role": "assistant",
            "name": None,
            "content": "{}",
            "channel": "commentary",
            "recipient": "functions.f",
            "content_type": "<|constrain|>json",
        },
        {"role": "tool", "name": "functions.f", "content": "4", "recipient": "assistant"},
        {"role": "assistant", "channel": "final", "content": "4"},
    ]
}


@pytest.fixture
def conversation_file(tmp_path):
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(CONVERSATION))
    return path


def command(*arguments, text="", **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "harmony_kit", *map(str, arguments)],
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **options.pop("env", {})},
        **options,
    )


def test_demo_shows_the_conversation(capsys):
    assert main(["demo"]) == 0
    output = capsys.readouterr().out
    for shown in (
        "What's the weather in Paris right now?",
        "assistant [commentary] → functions.get_current_weather (json)",
        "tool:functions.get_current_weather [commentary] → assistant",
        "Terrestrial.",
        "assistant [final]",
        "prompt tokens",
    ):
        assert shown in output


def test_render_gives_token_ids(conversation_file, capsys):
    assert main(["render", str(conversation_file)]) == 0
    tokens = json.loads(capsys.readouterr().out)
    assert tokens == hk.render(hk.messages_from_json(json.dumps(CONVERSATION)))


@pytest.mark.parametrize(
    ("mode", "end"),
    [
        ("completion", "4<|end|><|start|>assistant\n"),
        ("plain", "4<|end|>\n"),
        ("training", "4<|return|>\n"),
    ],
)
def test_render_modes(conversation_file, capsys, mode, end):
    assert main(["render", str(conversation_file), "--mode", mode, "--text"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("<|start|>system<|message|>You are ChatGPT")
    assert "Reasoning: high" in text
    assert text.endswith(end)


def test_rendering_and_parsing_are_inverse(conversation_file, tmp_path, capsys):
    main(["render", str(conversation_file), "--mode", "plain"])
    tokens = tmp_path / "tokens.json"
    tokens.write_text(capsys.readouterr().out)
    assert main(["parse", str(tokens), "--role", "none"]) == 0
    parsed = tmp_path / "parsed.json"
    parsed.write_text(capsys.readouterr().out)
    main(["render", str(parsed), "--mode", "plain"])
    assert capsys.readouterr().out == tokens.read_text()


def test_parse_reads_text_and_standard_input():
    done = command("parse", "--text", text="<|channel|>final<|message|>hé<|return|>\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "messages": [
            {
                "role": "assistant",
                "name": None,
                "content": [{"type": "text", "text": "hé"}],
                "channel": "final",
            }
        ]
    }
    done = command("parse", text="200005, 17196 200008\n24912 200002")
    assert json.loads(done.stdout)["messages"][0]["content"][0]["text"] == "hello"


def test_explain_shows_every_token(conversation_file, capsys):
    assert main(["render", str(conversation_file), "--explain"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [int(row[1]) for row in rows] == hk.render(
        hk.messages_from_json(json.dumps(CONVERSATION))
    )
    assert rows[0] == ["0", "200006", "<|start|>", "0", "header"]
    done = command("parse", "--explain", text="[200005,17196,200008,9552,200002]")
    table = [line.split() for line in done.stdout.decode().splitlines()[1:]]
    assert table == [
        ["0", "200005", "<|channel|>", "0", "header"],
        ["1", "17196", "'final'", "0", "header"],
        ["2", "200008", "<|message|>", "0", "header"],
        ["3", "9552", r"b'", r"\xf0\x9f'", "0", "content", "invalid_utf8"],
        ["4", "200002", "<|return|>", "0", "terminator"],
    ]


def test_parse_reads_what_models_write_and_says_what_was_wrong():
    text = "analysisHm.assistantfinalHi."
    for arguments, channels in ((["--text"], ["analysis", "final"]), (["--stripped"], None)):
        done = command("parse", *arguments, text=text)
        messages = json.loads(done.stdout)["messages"]
        assert [message["channel"] for message in messages] == (channels or ["analysis", "final"])
        assert b"stripped_special_tokens" in done.stderr
        assert done.returncode == 0
    assert command("parse", "--text", "--strict", text=text).returncode == 2


MALFORMED = "<|channel|>finalx<|message|>漢\nHi<|end|>b"


def test_lint_marks_the_place():
    done = command("lint", "--text", text=MALFORMED)
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("standard input: character 11: unknown_channel_normalized: ")
    assert lines[1] == "    <|channel|>finalx<|message|>漢⏎Hi<|end|>b"
    assert lines[2] == " " * 15 + "^~~~~~"
    assert lines[-1].endswith(" problems in 1 completion")
    tokens = json.dumps(hk.encode_with_special(MALFORMED))
    assert (
        b"standard input: token 1: unknown_channel_normalized"
        in command("lint", text=tokens).stdout
    )
    done = command("lint", "--text", text="<|channel|>final<|message|>Hi<|return|>")
    assert (done.returncode, done.stdout) == (0, b"0 problems in 1 completion\n")


def test_lint_reads_many_and_writes_json_lines(tmp_path):
    good, bad = "<|channel|>final<|message|>Hi<|return|>", MALFORMED
    lines = [
        good,
        {"text": bad},
        hk.encode_with_special(good),
        {"tokens": hk.encode_with_special(bad)},
    ]
    lines.append("<|channel|>commentary to=functions.f<|message|>{'a': 1}<|call|>")
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    done = command("lint", "--jsonl", "--json", file)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    expected = hk.parse_text(bad).problems
    in_text = [item for item in found if item["source"] == f"{file}:2"]
    assert [(item["code"], item["span"]) for item in in_text] == sorted(
        [(problem.code, list(problem.span)) for problem in expected], key=lambda item: item[1]
    )
    assert len([item for item in found if item["source"] == f"{file}:4"]) == len(expected)
    assert [item["code"] for item in found if item["source"] == f"{file}:5"] == ["json_repaired"]
    assert {item["source"] for item in found} == {f"{file}:{line}" for line in (2, 4, 5)}


def test_run_calls_tools_of_modules(tmp_path):
    (tmp_path / "weather.py").write_text(
        "def get_current_weather(location: str) -> str:\n"
        '    """Returns the current weather status at a given location as a string.\n\n'
        "    Args:\n"
        "        location: The location to get the weather for.\n"
        '    """\n'
        "    return 'Terrestrial.'\n"
    )
    recording = tmp_path / "recording.jsonl"
    conversation = [
        hk.system(current_date="2025-08-06"),
        hk.developer(
            tools=[
                hk.Tool(
                    "get_current_weather",
                    "Returns the current weather status at a given location as a string.",
                    {
                        "type": "object",
                        "properties": {
                            "location": {
                                "type": "string",
                                "description": "The location to get the weather for.",
                            }
                        },
                        "required": ["location"],
                    },
                )
            ]
        ),
        hk.user("Weather?"),
    ]
    called = hk.encode_with_special(
        "<|channel|>commentary to=functions.get_current_weather <|constrain|>json<|message|>"
        '{"location": "Paris"}<|call|>'
    )
    answered = hk.encode_with_special("<|channel|>final<|message|>As ever.<|return|>")
    with recording.open("w") as file:
        for completion in (called, answered):
            exchange = {"prompt": hk.render(conversation), "completion": completion}
            file.write(json.dumps(exchange) + "\n")
            conversation += hk.parse(completion).messages
            if conversation[-1].recipient:
                conversation.append(hk.tool_result(conversation[-1], "Terrestrial."))
    arguments = [
        *("run", "Weather?", "--backend", "replay", "--option", "recording=recording.jsonl"),
        *("--tool", "weather:get_current_weather", "--current-date", "2025-08-06"),
    ]
    done = command(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hk.messages_from_json(done.stdout)[-2:] == [
        hk.tool_result(conversation[-3], "Terrestrial."),
        hk.assistant("As ever."),
    ]
    done = command(*arguments, cwd=tmp_path)
    assert "As ever." in done.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "text", "error"),
    [
        (["render", "missing.json"], "", "missing.json: No such file or directory"),
        (["render"], "{", "conversation: not JSON: "),
        (["render"], "{}", "conversation: expected a list of messages"),
        (["render"], "[" * 100_000, "conversation: nested too deeply"),
        (["render"], '[{"role": "user"}]', "message 0: content: missing"),
        (["render"], '[{"role": "user", "content": "", "x": 1}]', "message 0: x: unknown key"),
        (["render"], '[{"role": "bot", "content": "hi"}]', "message 0: role: unknown role 'bot'"),
        (["render"], '[{"role": "tool", "content": "hi"}]', "message 0: name: a tool message"),
        (["render"], '[{"role": "user", "content": [{"type": "x"}]}]', "message 0: content[0]: "),
        (["render"], '[{"role": "user", "content": "\\ud800"}]', "message 0: content: lone surr"),
        (
            ["render"],
            '[{"role": "developer", "content": [{"type": "developer_content", "tools": '
            '{"functions": {"name": "functions", "tools": [{"name": "f", "description": 5}]}}}]}]',
            "message 0: content[0].tools['functions'].tools[0].description: expected text, got int",
        ),
        (["parse"], "1 2 x", 'token 2: "x" is not a token id'),
        (
            ["parse", "--strict"],
            "201089",
            "token 0: the input ends inside a header (truncated_header)",
        ),
        (["parse", "--strict"], "200005 17196", "token 0: the input ends inside a header"),
        (
            ["parse", "--strict", "--role", "none"],
            "5",
            "token 0: text between two messages (text_between_messages)",
        ),
        (
            ["lint", "--jsonl"],
            '[1]\n{"a": 1}',
            "standard input:2: expected token ids, a string, or",
        ),
        (["lint", "--jsonl"], "[1]\nx", "standard input:2: not JSON: "),
        (["lint", "nowhere.json"], "", "nowhere.json: No such file"),
        (["parse"], b"\xff", "standard input: not UTF-8 at byte 0"),
        (["run", "hi", "--backend", "x"], "", "unknown backend 'x'"),
        (["run", "hi", "--backend", "replay"], "", "backend 'replay': "),
        (["run", "hi", "--backend", "replay", "--option", "x"], "", "--option x: expected"),
        (["run", "hi", "--backend", "replay", "--tool", "os"], "", "--tool os: expected"),
        (["run", "hi", "--backend", "replay", "--tool", "no.module:f"], "", "--tool no.module:f: "),
        (["run", "hi", "--backend", "replay", "--tool", "os:nothing"], "", "--tool os:nothing: "),
        (
            ["run", "hi", "--backend", "replay", "--option", "recording=riddle"],
            "",
            "the prompt was not recorded: at token ",
        ),
        (
            ["run", "hi", "--backend", "replay", "--reasoning-effort", "x"],
            "",
            "reasoning_effort: unknown reasoning effort 'x'",
        ),
    ],
)
def test_bad_input_gets_one_line(arguments, text, error):
    done = command(*arguments, text=text)
    assert done.returncode == 2
    assert done.stdout == b"" or arguments[0] in ("run", "lint")  # which had begun
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"harmony-kit: error: {error}")


def test_bad_arguments_exit_with_2():
    assert command("render", "--mode", "x").returncode == 2
    assert command().returncode == 2


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    big = tmp_path / "big.json"
    big.write_text(json.dumps([{"role": "user", "content": "word " * 100_000}]))
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "harmony_kit", "render", str(big)],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, errors = process.communicate()
    assert errors == b""


def test_the_installed_script_is_this_command():
    script = Path(sys.executable).with_name("harmony-kit")
    done = subprocess.run([script, "--help"], capture_output=True, check=True)
    assert b"demo" in done.stdout
