"""harmony-kit chat, as a process of its own: through pipes, and in a terminal."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import harmony_kit as hk

# It counts the processes of this machine: nothing else that starts some runs beside it.
pytestmark = pytest.mark.xdist_group("processes")

pty = pytest.importorskip("pty")

TESTS = Path(__file__).parents[1]
DATE = "2025-08-06"


def say(text):
    """A completion that is an answer."""
    return f"<|channel|>final<|message|>{text}<|return|>"


def call(name, arguments):
    """A completion that is a call."""
    return f"<|channel|>commentary to={name} <|constrain|>json<|message|>{arguments}<|call|>"


def think(text):
    """The beginning of a completion: reasoning."""
    return f"<|channel|>analysis<|message|>{text}<|end|><|start|>assistant"


@pytest.fixture
def folder(tmp_path):
    """A working folder, in which the scripted backend and some tools are found."""
    info = tmp_path / "scripted_backend-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted-backend\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[harmony_kit.backends]\nscripted = scripted_backend:scripted\n"
    )
    (tmp_path / "my_tools.py").write_text(
        '''import asyncio, time
from pathlib import Path


def add(a: int, b: int = 2) -> int:
    """Add numbers."""
    return a + b


def hang() -> None:
    """Never ends."""
    Path("begun").touch()
    time.sleep(600)


async def wait() -> None:
    """Never ends, but can be stopped."""
    Path("begun").touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path("stopped").touch()


class Search:
    async def search(self, query, topn):
        from harmony_kit.builtins.browser import SearchResult

        return [SearchResult("https://rivers.example/danube", "Danube", f"about {query}")]
'''
    )
    return tmp_path


def arguments(*more):
    command = [sys.executable, "-m", "harmony_kit", "chat", "--backend", "scripted"]
    return [*command, "--current-date", DATE, *map(str, more)]


def environment(folder, **more):
    path = os.pathsep.join((str(folder), str(TESTS / "support")))
    marked = os.pathsep.join((os.environ["PATH"], str(folder)))  # for python_processes
    ours = {"PATH": marked, "PYTHONPATH": path, "PROMPTS": str(folder / "prompts")}
    return {**os.environ, **ours, **more}


def prompts(folder):
    """The prompts that the backend was asked."""
    return [json.loads(line) for line in (folder / "prompts").read_text().splitlines()]


def chat(folder, lines, *more, timeout=120, **variables):
    """What a chat prints into pipes, and its exit code."""
    text = "\n".join(lines) + "\n" if isinstance(lines, list) else lines
    done = subprocess.run(
        arguments(*more),
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment(folder, **variables),
        timeout=timeout,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"\x1b" not in done.stdout + done.stderr
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def loaded(path):
    return hk.messages_from_json(Path(path).read_text())


# --- Through pipes --------------------------------------------------------------------------


def test_answers_go_to_standard_output_and_all_else_to_standard_error(folder):
    script = think("Let me think.") + call("functions.add", '{"a": 3}') + "||" + say("{result}!")
    output, notes, code = chat(folder, ["hello", script], "--tool", "my_tools:add")
    assert output == "You said: hello\n5!\n"
    assert notes == "thinking, 4 tokens\n→ functions.add a=3\n← 5\n"
    assert code == 0


def test_the_conversation_is_what_was_asked_and_answered(folder):
    options = ["--instructions", "Be kind.", "--system", "You are Ada.", "--reasoning", "high"]
    chat(folder, ["one", "two"], *options, "--tool", "my_tools:add", "--save", "saved.json")
    messages = loaded(folder / "saved.json")
    assert [message.role for message in messages] == [
        *("system", "developer", "user", "assistant", "user", "assistant")
    ]
    system, developer = messages[0].content, messages[1].content
    assert (system.model_identity, system.reasoning_effort) == ("You are Ada.", "high")
    assert system.current_date == DATE
    assert developer.instructions == "Be kind."
    assert [tool.name for tool in developer.tools[0].tools] == ["add"]
    # The model was asked just this, and the file can be rendered by the other commands.
    assert prompts(folder) == [hk.render(messages[:3]), hk.render(messages[:5])]
    rendered = subprocess.run(
        [sys.executable, "-m", "harmony_kit", "render", "saved.json", "--mode", "plain"],
        capture_output=True,
        check=True,
        cwd=folder,
    )
    assert json.loads(rendered.stdout) == hk.render(messages, next_role=None)


def test_reasoning_is_shown_if_asked_for(folder):
    script = f'"""{think("Deep" + chr(10) + "thoughts.")}{say("Yes.")}"""'
    output, notes, _ = chat(folder, [script], "--show-analysis")
    assert (output, notes) == ("Yes.\n", "Deep\nthoughts.\n")
    output, notes, _ = chat(folder, [script, "/analysis", script, "/analysis", script])
    assert output == "Yes.\nYes.\nYes.\n"
    assert notes == (
        "thinking, 5 tokens\nreasoning is shown\nDeep\nthoughts.\nDeep\nthoughts.\n"
        "reasoning is hidden\nthinking, 5 tokens\n"
    )
    # The reasoning before an answer is not in the prompts after it.
    last = hk.parse(prompts(folder)[-1], role=None).messages
    assert [m.channel for m in last if m.role == "assistant" and m.text] == ["final", "final"]


def test_several_lines_make_a_message_between_quotes(folder):
    output, _, _ = chat(folder, ['"""one', "two", 'three"""', '"""', "four", '"""', '"""five"""'])
    assert output == "You said: one\ntwo\nthree\nYou said: four\nYou said: five\n"
    output, _, _ = chat(folder, '"""not\nended')
    assert output == "You said: not\nended\n"


def test_an_error_is_a_line_and_the_chat_goes_on(folder):
    lines = ["!the engine is down", "/retry", "/undo", "/undo", "/nope", "/save", "fine"]
    output, notes, code = chat(folder, lines)
    assert output == "You said: fine\n"
    failed = (
        "error: scripted: RuntimeError: the engine is down\n"
        "/retry asks again, /undo removes the question\n"
    )
    assert notes == (
        failed * 2 + "removed: !the engine is down\n"
        "error: there is nothing to undo\n"
        "error: there is no command /nope; /help lists the commands "
        "(put a space before the slash to send it as a message)\n"
        "error: /save: expected a file\n"
    )
    assert code == 1
    assert hk.parse(prompts(folder)[-1], role=None).messages[1].text == "fine"


def test_bytes_that_are_no_text_are_told(folder):
    output, notes, code = chat(folder, b"caf\xe9\ncaf\xc3\xa9\r\n\n  \n/etc/hosts\n /quit\n")
    assert output == "You said: café\nYou said: /etc/hosts\nYou said:  /quit\n"
    assert notes == "error: the line is not UTF-8 at byte 3\n"
    assert code == 1


def test_what_a_model_says_moves_no_cursor(folder):
    script = call("functions.nope\x1b[2J", "\x1b]0;title\x07") + "||" + say("\x1b[31mred\x9b1m\r\b")
    output, notes, _ = chat(folder, [script], "--tool", "my_tools:add")
    assert output == "␛[31mred\ufffd1m␍␈\n"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", notes)


def test_an_output_that_cannot_show_it_is_no_error(folder):
    script = "<|channel|>analysis<|message|>日本<|end|><|start|>assistant" + say("日本 é")
    done = subprocess.run(
        arguments("--show-analysis"),
        input=script.encode(),
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment(folder, PYTHONIOENCODING="latin-1"),
    )
    assert (done.stdout, done.stderr) == (b"?? \xe9\n", b"??\n")
    assert done.returncode == 0


def test_undo_and_retry(folder):
    lines = ["one", "two", "/undo", "three", "/retry", "/save here.json", "four"]
    output, notes, _ = chat(folder, lines)
    assert output == (
        "You said: one\nYou said: two\nYou said: three\nYou said: three\nYou said: four\n"
    )
    assert notes == "removed: two\nsaved to here.json, and again after each turn\n"
    messages = loaded(folder / "here.json")
    texts = [message.text for message in messages[1:]]
    assert texts == ["one", "You said: one", "three", "You said: three", "four", "You said: four"]


def test_commands_tell_of_the_session(folder):
    lines = ["/tools", "one", "/tokens", "/help", "/quit", "never asked"]
    output, _, code = chat(folder, lines, "--tool", "my_tools:add")
    assert output.startswith("functions.add  Add numbers.\nYou said: one\n")
    assert "never asked" not in output
    assert code == 0
    counts = dict(re.findall(r"^(\w[\w ]*?) +([\d,]+)$", output, re.MULTILINE))
    (prompt,) = prompts(folder)
    completion = len(hk.encode_with_special(say("You said: one")))
    assert counts["all prompts"] == str(len(prompt))
    assert counts["all completions"] == str(completion)
    # The answer is now in the prompt, and another header to complete.
    assert int(counts["the next prompt"]) == len(prompt) + completion + 2
    parts = ("system", "developer", "questions", "answers")
    assert sum(int(counts[part]) for part in parts) + 2 == int(counts["the next prompt"])
    assert "/undo" in output


def test_calls_that_go_wrong_are_told_and_the_model_answers(folder):
    script = call("functions.add", '{"a": "x"}') + "||" + say("Sorry.")
    output, notes, code = chat(folder, [script], "--tool", "my_tools:add")
    assert (output, code) == ("Sorry.\n", 0)
    assert notes.splitlines()[1].startswith("← Error: the arguments are not what functions.add")


def test_a_turn_that_does_not_end_in_an_answer_is_named(folder):
    lines = [
        "<|channel|>analysis<|message|>Only thoughts.<|end|>",
        say("A long answer that is cut"),
        call("functions.add", '{"a": 1}'),
    ]
    options = ["--tool", "my_tools:add", "--max-turns", "2", "--max-tokens", "12"]
    output, notes, _ = chat(folder, lines, *options, "--save", "saved.json")
    assert output == "A long answer that is cut\n" or output.startswith("A long")
    assert "the model ended without an answer\n" in notes
    assert "truncated at the token limit\n" in notes
    # Whatever happened, the conversation is one: no call without its result.
    messages = loaded(folder / "saved.json")
    for message, following in zip(messages, [*messages[1:], None], strict=True):
        if message.recipient == "functions.add":
            assert following is not None
            assert following.role == "tool"


# --- Files ----------------------------------------------------------------------------------


def test_a_saved_chat_goes_on(folder):
    chat(folder, ["one"], "--save", "a.json", "--instructions", "Be kind.")
    first = loaded(folder / "a.json")
    chat(folder, ["two"], "--load", "a.json", "--save", "a.json", "--reasoning", "low")
    second = loaded(folder / "a.json")
    assert second[1:-2] == first[1:]
    assert second[0].content.reasoning_effort == "low"
    assert [message.text for message in second[-2:]] == ["two", "You said: two"]
    assert prompts(folder)[-1] == hk.render(second[:-1])
    assert sorted(path.name for path in folder.glob("*.json")) == ["a.json"]
    assert not list(folder.glob(".*.new"))


def test_a_conversation_from_elsewhere_is_gone_on_with(folder):
    conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    (folder / "other.json").write_text(json.dumps(conversation))
    chat(folder, ["/save out.json", "one"], "--load", "other.json", "--tool", "my_tools:add")
    roles = [message.role for message in loaded(folder / "out.json")]
    # The date was given, and there is a tool now.
    assert roles == ["system", "developer", "user", "assistant", "user", "assistant"]


def test_no_file_is_written_over_that_was_not_loaded(folder):
    (folder / "mine.json").write_text("mine")
    _, notes, code = chat(folder, ["one"], "--save", "mine.json")
    assert (code, notes.count("\n")) == (2, 1)
    assert "mine.json exists" in notes
    _, notes, code = chat(folder, ["one", "/save mine.json", "/save no/where.json"])
    assert "error: mine.json exists" in notes
    assert "error: no/where.json: there is no folder no" in notes
    assert (folder / "mine.json").read_text() == "mine"


def test_a_file_that_cannot_be_written_does_not_end_the_chat(folder):
    (folder / "saves").mkdir()
    script = call("functions.close", "{}") + "||" + say("Closed.")
    (folder / "closing.py").write_text(
        "import shutil\ndef close() -> None:\n    'Remove it.'\n    shutil.rmtree('saves')\n"
    )
    options = ["--tool", "closing:close", "--save", "saves/a.json"]
    output, notes, code = chat(folder, [script, "still here"], *options)
    assert output == "Closed.\nYou said: still here\n"
    assert notes.count("error: ") == notes.count("No such file or directory") > 1
    assert code == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--load", "missing.json"], "missing.json: No such file"),
        (["--load", "broken.json"], "broken.json: message 0: role: unknown role 'bot'"),
        (["--reasoning", "much"], "reasoning_effort: unknown reasoning effort 'much'"),
        (["--tool", "my_tools:nothing"], "--tool my_tools:nothing: AttributeError"),
        (["--option", "x=1"], "backend 'scripted': "),
        (["--browser", "nowhere"], "--browser nowhere: expected a folder, a URL"),
        (["--browser", "my_tools:add"], "--browser my_tools:add: TypeError"),
        (["--browser", "--browser-option", "q=1"], "--browser-option q: "),
        (["--browser", "http://x/", "--browser-option", "nope=1"], "--browser-option: "),
        (["--browser-allow", "127.0.0.1"], "--browser-option and --browser-allow are for"),
        (
            ["--mcp", "no-such-command-anywhere"],
            "MCP server no-such-command-anywhere: FileNotFoundError: ",
        ),
        (["--mcp", "'"], "--mcp ': No closing quotation"),
        (["--python", "nowhere"], "folder: "),
    ],
)
def test_what_cannot_begin_is_one_line(folder, options, error):
    (folder / "broken.json").write_text('[{"role": "bot", "content": "x"}]')
    output, notes, code = chat(folder, ["one"], *options)
    assert (output, code) == ("", 2)
    (line,) = notes.splitlines()
    assert line.startswith(f"harmony-kit: error: {error}")


# --- Tools ----------------------------------------------------------------------------------


def python_processes(folder):
    """The kernels and servers of the chats in a folder, which have it in their `PATH`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            is_ours = str(folder).encode() in (entry / "environ").read_bytes()
            is_chat = "harmony_kit chat" in line  # whose arguments name the server
            if is_ours and not is_chat and ("notebook_kernel" in line or "mcp_server.py" in line):
                found.append(line)
    return found


def test_python_browser_and_mcp_together(folder):
    pages = folder / "pages"
    pages.mkdir()
    (pages / "danube.md").write_text("# Danube\n\nThe Danube is 2850 km long.\n")
    python = "<|channel|>analysis to=python code<|message|>{}<|call|>"
    lines = [
        python.format("x = 6") + "||" + python.format("x * 7") + "||" + say("{result}"),
        call("browser.search", '{"query": "Danube"}')
        + "||"
        + call("browser.open", '{"id": 0}')
        + "||"
        + say("It is 2850 km long【1†L4】, very【1†L4-L4】【0†L1】long【9†L1】."),
        call("Test_server_1.add", '{"a": 1, "b": 2}') + "||" + say("{result}"),
    ]
    server = f"{sys.executable} {TESTS / 'data' / 'mcp_server.py'}"
    options = ["--python", "--browser", "pages", "--browser-option", "base_url=https://r.example/"]
    output, notes, code = chat(folder, lines, *options, "--mcp", server, "--save", "all.json")
    assert code == 0, notes
    assert output == (
        "42\n"
        "It is 2850 km long[1], very[1][2]long【9†L1】.\n"
        "\n"
        "[1] Danube, https://r.example/danube.md (lines 4)\n"
        "[2] Danube (lines 1)\n"
        "3\n"
    )
    assert "→ python x * 7\n← 42\n" in notes
    assert not python_processes(folder)
    # The session of the browser goes on: its cursors mean the same pages.
    lines = [say("Long【1†L4】.")]
    output, _, _ = chat(folder, lines, *options[1:], "--load", "all.json")
    assert output.splitlines()[-1] == "[1] Danube, https://r.example/danube.md (lines 4)"
    _, notes, _ = chat(folder, lines, "--load", "all.json")
    assert notes.startswith("unavailable tools of the conversation: Test_server_1.add, ")


def test_a_search_provider_of_ones_own(folder):
    lines = [call("browser.search", '{"query": "x"}') + "||" + say("{result}")]
    output, _, _ = chat(folder, lines, "--browser", "my_tools:Search")
    assert "about x" in output


def test_a_site_that_the_user_allows(folder):
    from loopback_site import LoopbackSite

    with LoopbackSite() as site:
        lines = [
            call("browser.open", json.dumps({"id": f"{site.base}/danube.html"})) + "||{result}"
        ]
        lines[0] = lines[0].replace("{result}", say("{result}"))
        output, _, _ = chat(folder, lines, "--browser")
        assert "Danube" not in output
        output, _, _ = chat(folder, lines, "--browser", "--browser-allow", f"127.0.0.1:{site.port}")
        assert "The Danube flows through ten countries." in output


# --- Ctrl-C ---------------------------------------------------------------------------------


class Piped:
    """A chat that is going on, through pipes."""

    def __init__(self, folder, *more):
        self.process = subprocess.Popen(
            arguments(*more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment(folder),
        )
        self.output = self.notes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def until(self, text, seconds=60):
        """Wait until something was printed."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            left = deadline - time.monotonic()
            assert left > 0, self.output
            if select.select([self.process.stdout], [], [], left)[0]:
                self.output += os.read(self.process.stdout.fileno(), 65536)

    def noted(self, text, seconds=2):
        """Whether something is told within some time."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.notes and (left := deadline - time.monotonic()) > 0:
            if select.select([self.process.stderr], [], [], left)[0]:
                self.notes += os.read(self.process.stderr.fileno(), 65536)
        return text.encode() in self.notes

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self):
        """What else was printed, what was told, and the exit code."""
        output, notes = self.process.communicate(timeout=60)
        notes = self.notes + notes
        assert b"Traceback" not in notes, notes.decode()
        return (self.output + output).decode(), notes.decode(), self.process.returncode


def eventually(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_stops_an_answer_and_what_was_said_stays(folder):
    slow = think("Complete.") + "<|channel|>final<|message|>Begun~" + "~more" * 200 + "<|return|>"
    with Piped(folder, "--save", "saved.json") as session:
        session.say(slow)
        session.until("Begun")
        session.interrupt()
        session.say("next")
        session.until("You said: next")
        output, notes, code = session.end()
    assert code == 0
    assert re.fullmatch(r"Begun(more)*\nYou said: next\n", output)
    assert "stopped\n" in notes
    messages = loaded(folder / "saved.json")[1:]
    assert [(m.role, m.channel) for m in messages] == [
        *(("user", None), ("assistant", "analysis"), ("assistant", "final")),
        *(("user", None), ("assistant", "final")),
    ]
    assert re.fullmatch("Begun(more)*", messages[2].text)


def test_ctrl_c_while_the_model_thinks_leaves_no_thought(folder):
    slow = "<|channel|>analysis<|message|>Hm~" + "~hm" * 200 + "<|end|>"
    with Piped(folder, "--show-analysis", "--save", "saved.json") as session:
        session.say(slow)
        eventually((folder / "prompts").exists)
        time.sleep(0.3)
        session.interrupt()
        session.say("next")
        session.until("You said: next")
        assert session.end()[2] == 0
    assert [m.role for m in loaded(folder / "saved.json")] == [
        *("system", "user", "user", "assistant")
    ]


@pytest.mark.parametrize("name", ["hang", "wait"])
def test_ctrl_c_stops_a_tool_and_the_model_is_told(folder, name):
    script = think("I call.") + call(f"functions.{name}", "{}") + "||" + say("never")
    options = ["--tool", f"my_tools:{name}", "--save", "saved.json"]
    with Piped(folder, *options) as session:
        session.say(script)
        eventually((folder / "begun").exists)
        session.interrupt()
        session.say("next")
        session.until("You said: next")
        assert session.end()[2] == 0
    assert (folder / "stopped").exists() == (name == "wait")
    messages = loaded(folder / "saved.json")[2:]
    assert [m.role for m in messages] == [
        *("user", "assistant", "assistant", "tool", "user", "assistant")
    ]
    assert messages[3].text == "Error: the user stopped the call before it had a result."
    assert prompts(folder)[-1] == hk.render(loaded(folder / "saved.json")[:-1])


def test_ctrl_c_interrupts_python_and_its_variables_stay(folder):
    python = "<|channel|>analysis to=python code<|message|>{}<|call|>"
    code = "import time\nkept = 3\nopen('begun', 'w').close()\ntime.sleep(600)"
    (folder / "files").mkdir()
    with Piped(folder, "--python", folder / "files") as session:
        session.say(f'"""{python.format(code)}"""')
        eventually((folder / "files" / "begun").exists)
        session.interrupt()
        session.say(python.format("kept") + "||" + say("{result}"))
        session.until("3\n")
        assert session.end()[2] == 0
    assert not python_processes(folder)


def test_ctrl_c_twice_leaves(folder):
    with Piped(folder) as session:
        session.say("one")
        session.until("You said: one")
        while not session.noted("Ctrl-C again, or Ctrl-D, leaves"):  # heard at the prompt alone
            session.interrupt()
        assert session.process.poll() is None
        for _ in range(5):  # the prompt may not be there yet
            time.sleep(0.3)
            session.interrupt()
            with suppress(subprocess.TimeoutExpired):
                assert session.process.wait(15) == 0
                break
        assert session.process.poll() == 0


def test_a_chat_that_is_killed_was_saved_until_its_last_turn(folder):
    script = call("functions.wait", "{}")
    with Piped(folder, "--tool", "my_tools:wait", "--save", "saved.json") as session:
        session.say("one")
        session.until("You said: one")
        session.say(script)
        eventually((folder / "begun").exists)
        session.process.kill()
    messages = loaded(folder / "saved.json")[2:]
    assert [m.role for m in messages] == ["user", "assistant", "user", "assistant", "tool"]
    assert messages[-1].text.startswith("Error: the call had no result yet")


# --- In a terminal --------------------------------------------------------------------------


class Terminal:
    """A chat in a terminal of its own, where Ctrl-C is a key."""

    def __init__(self, folder, *more):
        self._ours, theirs = pty.openpty()
        # A leader of a session gets the first terminal that it opens.
        in_terminal = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs)]
        self.process = subprocess.Popen(
            [*in_terminal, *arguments(*more)],
            cwd=folder,
            env=environment(folder, TERM="xterm-256color", COLUMNS="100", LINES="30"),
            start_new_session=True,
        )
        select.select([self._ours], [], [], 60)  # as long as nobody has it open, it is closed
        os.close(theirs)
        self.output = ""
        self._seen = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, text):
        os.write(self._ours, text.encode())

    def until(self, text, seconds=60):
        """Wait until something appears, and give what appeared until then."""
        deadline = time.monotonic() + seconds
        while (found := self.output.find(text, self._seen)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, self.output[self._seen :]
            if select.select([self._ours], [], [], left)[0]:
                try:
                    self.output += os.read(self._ours, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    raise AssertionError(self.output[self._seen :]) from None
        shown = self.output[self._seen : found]
        self._seen = found + len(text)
        return shown

    def interrupt_line(self, text, answer=None):
        """Press Ctrl-C in an unfinished line until the answer appears, or the chat ends.

        Python hears a signal only once it waits for the next key, a little after the prompt.
        """
        self.type(text)
        self.until(text)
        for _ in range(10):
            time.sleep(0.2)
            self.type("\x03")
            with suppress(AssertionError, subprocess.TimeoutExpired):
                return self.process.wait(5) if answer is None else self.until(answer, seconds=5)
        raise AssertionError(self.output)

    def left(self):
        """The exit code, and all that was shown."""
        with suppress(OSError):
            while select.select([self._ours], [], [], 60)[0]:
                self.output += os.read(self._ours, 65536).decode(errors="replace")
        code = self.process.wait(60)
        assert "Traceback" not in self.output, self.output
        return code


def test_a_terminal_shows_reasoning_as_a_line_that_is_updated(folder):
    slow = "<|channel|>analysis<|message|>" + "one two three~" * 8 + "<|end|>"
    slow += "<|start|>assistant" + say("Done.")
    with Terminal(folder) as screen:
        screen.until("/help lists commands")
        screen.until("> ")
        screen.type(slow + "\n")
        screen.until("reading ")
        counts = re.findall(r"thinking, (\d+) tokens", screen.until("Done."))
        assert len(counts) > 3
        assert sorted(map(int, counts)) == [*map(int, counts)]
        assert counts[-1] == "24"
        screen.until("> ")
        screen.type("/analysis\n")
        screen.until("one two threeone two three")
        screen.until("> ")
        screen.type("\x04")
        assert screen.left() == 0


def test_ctrl_c_in_a_terminal(folder):
    slow = "<|channel|>final<|message|>Begun~" + "~more" * 200 + "<|return|>"
    with Terminal(folder, "--save", "saved.json") as screen:
        screen.until("> ")
        screen.type(slow + "\n")
        screen.until("moremore")
        screen.type("\x03")
        screen.until("stopped")
        screen.until("> ")
        screen.type("next\n")
        screen.until("You said: next")
        screen.until("> ")
        screen.interrupt_line("half a line", "Ctrl-C again, or Ctrl-D, leaves")
        screen.until("> ")
        screen.type("again\n")
        screen.until("You said: again")
        screen.until("> ")
        screen.interrupt_line("one", "leaves")
        screen.until("> ")
        screen.interrupt_line("two")
        assert screen.left() == 0
    messages = loaded(folder / "saved.json")[1:]
    assert [m.role for m in messages] == ["user", "assistant"] * 3
    assert messages[1].text.startswith("Begunmore")


def test_ctrl_c_in_a_terminal_leaves_servers_and_kernels_running(folder):
    """They are processes of the same terminal."""
    server = f"{sys.executable} {TESTS / 'data' / 'mcp_server.py'}"
    add = call("Test_server_1.add", '{"a": 1, "b": 2}') + "||" + say("sum={result}")
    python = "<|channel|>analysis to=python code<|message|>CODE<|call|>||" + say("value={result}")
    with Terminal(folder, "--mcp", server, "--python") as screen:
        screen.until("> ")
        screen.type(python.replace("CODE", "kept = 7") + "\n")
        screen.until("value=[No output")
        screen.until("> ")
        screen.type(call("Test_server_1.hang", "{}") + "\n")
        screen.until("running Test_server_1.hang")
        assert len(python_processes(folder)) >= 2
        screen.type("\x03")
        screen.until("stopped")
        screen.until("> ")
        screen.type(add + "\n")
        screen.until("sum=3")
        screen.until("> ")
        screen.type(python.replace("CODE", "kept") + "\n")
        screen.until("value=7")
        screen.until("> ")
        screen.type("/quit\n")
        assert screen.left() == 0
    assert not python_processes(folder)


def test_ctrl_c_in_a_terminal_does_not_reach_the_processes_of_an_engine(folder):
    with Terminal(folder, "--option", "engine=true") as screen:
        screen.until("> ")
        screen.type("<|channel|>final<|message|>Begun~" + "~more" * 200 + "\n")
        screen.until("moremore")
        screen.type("\x03")
        screen.until("stopped")
        screen.until("> ")
        screen.interrupt_line("half a line", "Ctrl-C again")
        screen.until("> ")
        screen.type("still there?\n")
        screen.until("You said: still there?")
        screen.until("> ")
        screen.type("\x04")
        assert screen.left() == 0


def test_ctrl_c_twice_does_not_wait_for_what_does_not_stop(folder):
    (folder / "stubborn.py").write_text(
        "import asyncio\nfrom pathlib import Path\n"
        "async def stay() -> None:\n    'Stays.'\n    Path('begun').touch()\n"
        "    while not Path('release').exists():\n"
        "        try:\n            await asyncio.sleep(0.1)\n"
        "        except asyncio.CancelledError:\n            pass\n"
    )
    with Terminal(folder, "--tool", "stubborn:stay", "--save", "saved.json") as screen:
        screen.until("> ")
        screen.type(call("functions.stay", "{}") + "\n")
        eventually((folder / "begun").exists)
        screen.type("\x03")
        screen.until("stopping; Ctrl-C again leaves immediately")
        screen.type("\x03")
        left = "Error: the call has no result because another error occurred."
        eventually(lambda: loaded(folder / "saved.json")[-1].text == left)
        (folder / "release").touch()
        assert screen.left() == 130
    assert loaded(folder / "saved.json")[-1].role == "tool"
