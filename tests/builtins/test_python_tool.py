"""The built-in python tool, on real kernels."""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import harmony_kit as hk
from harmony_kit.builtins.python import Isolation, PythonTool
from harmony_kit.errors import ToolError

# It counts the processes of this machine: nothing else that starts some runs beside it.
pytestmark = pytest.mark.xdist_group("processes")

pytest.importorskip("ipykernel")
pytest.importorskip("jupyter_client")

DATA = Path(__file__).parents[1] / "data"
MEBIBYTE = 1 << 20


def processes() -> dict[int, str]:
    """The command lines of all processes by id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            )
    return found


def running(mark: str) -> list[int]:
    """The processes whose command line has a text."""
    return [pid for pid, line in processes().items() if mark in line]


def eventually(condition: Callable[[], Any], seconds: float = 30) -> bool:
    """Whether something becomes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Notebook:
    """A tool whose cells are run from a new event loop each."""

    def __init__(self, **options: Any) -> None:
        self.tool = PythonTool(**options)

    def __call__(self, code: str) -> str:
        return asyncio.run(self.tool.execute(textwrap.dedent(code)))

    def patiently(self, code: str) -> str:
        """A cell that is not to run into the timeout, however busy the machine is."""
        notebook = self.tool._notebook
        timeout, notebook._timeout = notebook._timeout, 60.0
        try:
            return self(code)
        finally:
            notebook._timeout = timeout


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    """For cells that leave the kernel as it was."""
    shared = Notebook(timeout=30.0)
    yield shared
    shared.tool.close()


@pytest.fixture(scope="module")
def hasty() -> Iterator[Notebook]:
    """For cells that run into limits."""
    shared = Notebook(timeout=2.0, memory_limit=400 * MEBIBYTE)
    yield shared
    shared.tool.close()


# --- Cells ----------------------------------------------------------------------------------


def test_the_shape_of_a_source(notebook: Notebook) -> None:
    tool = notebook.tool
    assert tool.namespace is hk.PYTHON
    assert tool.is_builtin
    assert list(tool.tools) == ["python"]
    assert tool.tools["python"].function == tool.execute


def test_cells_are_stateful(notebook: Notebook) -> None:
    notebook("numbers = [1, 2]")
    notebook("numbers.append(3)")
    assert notebook("numbers") == "[1, 2, 3]"


def test_everything_is_put_out_in_order(notebook: Notebook) -> None:
    output = notebook("""
        import sys
        print("one")
        print("two", file=sys.stderr)
        print("three")
        display("four")
        print("five", end="")
        "six"
    """)
    assert output == "one\ntwo\nthree\n'four'\nfive\n'six'"


def test_what_programs_write_is_put_out(notebook: Notebook) -> None:
    assert notebook("!echo from a program") == "from a program"
    assert notebook("import subprocess\n_ = subprocess.run(['echo', 'another'])") == "another"


def test_without_output_the_model_is_told(notebook: Notebook) -> None:
    assert notebook("x = 1").startswith("[No output")
    assert notebook("").startswith("[No output")


def test_a_traceback_shows_the_code(notebook: Notebook) -> None:
    output = notebook("def half(x):\n    return x / 0\nprint('before')\nhalf(1)")
    assert output.startswith("before\n---")
    assert "----> 4 half(1)" in output
    assert output.endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in output


def test_a_long_traceback_is_shortened(notebook: Notebook) -> None:
    output = notebook("""
        import sys
        def down(n):
            return 1 / 0 if n == 0 else down(n - 1)
        down(60)
    """)
    assert "left out ...]" in output or "skipping similar frames" in output  # IPython 8
    assert "down(60)" in output
    assert output.endswith("ZeroDivisionError: division by zero")
    assert len(output) < 3000


def test_a_syntax_error_is_told(notebook: Notebook) -> None:
    output = notebook("x = = 1")
    assert output.endswith("SyntaxError: invalid syntax")
    assert "x = = 1" in output


def test_colors_and_what_progress_bars_wrote_over_are_left_out(notebook: Notebook) -> None:
    output = notebook(r"""
        import sys
        for done in range(0, 101, 10):
            sys.stdout.write(f"\r{done} %")
            sys.stdout.flush()
        print("\n\x1b[31mred\x1b[0m")
    """)
    assert output == "100 %\nred"


def test_an_image_is_saved_and_named(notebook: Notebook) -> None:
    output = notebook("""
        import base64
        from IPython.display import Image
        png = base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
            "AABJRU5ErkJggg=="
        )
        display(Image(png))
        len(png)
    """)
    line, size = output.split("\n")
    about, _, path = line.rpartition(" saved as ")
    assert about == f"[image/png, {size} bytes,"
    saved = notebook.tool.folder / Path(path.rstrip("]")).name
    assert saved.read_bytes().startswith(b"\x89PNG")
    assert notebook(f"open({path.rstrip(']')!r}, 'rb').read() == png") == "True"


def test_an_image_takes_no_name_that_is_taken(notebook: Notebook) -> None:
    victim = notebook.tool.folder.parent / "victim"
    victim.write_text("mine")
    number = 50
    for n in range(1, number):
        with contextlib.suppress(FileExistsError):
            (notebook.tool.folder / f"output-{n}.svg").symlink_to(victim)
    output = notebook("from IPython.display import SVG\ndisplay(SVG('<svg/>'))")
    assert f"output-{number}.svg" in output
    assert victim.read_text() == "mine"


def test_rich_objects_are_shown_as_text(notebook: Notebook) -> None:
    output = notebook(
        "from IPython.display import Markdown, HTML\ndisplay(Markdown('*a*'), HTML('<b>'))"
    )
    assert output == "*a*\n<b>"
    assert "Return the number of items" in notebook("?len")


def test_half_a_surrogate_is_survived(notebook: Notebook) -> None:
    assert notebook("print('\\ud800')") == "\\ud800"
    assert "half of a surrogate pair" in notebook("print('\ud800')")
    assert notebook("print('\x00')")  # whatever Python says of it


def test_awaiting_works_in_a_cell(notebook: Notebook) -> None:
    assert notebook("import asyncio\nawait asyncio.sleep(0.01)\n'slept'") == "'slept'"


def test_input_fails_instead_of_waiting(notebook: Notebook) -> None:
    for code in ("input('? ')", "import getpass; getpass.getpass()", "import sys; input()"):
        assert "EOFError: input() is not available" in notebook(code)
    assert notebook("import sys; sys.__stdin__.read()") == "''"


def test_exit_does_not_end_the_notebook(notebook: Notebook) -> None:
    notebook("kept = 1")
    assert "SystemExit: 3" in notebook("import sys; sys.exit(3)")
    notebook("exit()")
    time.sleep(0.3)
    assert notebook("kept") == "1"


# --- Calls ----------------------------------------------------------------------------------


def transcript(name: str) -> dict[str, Any]:
    cases = json.loads((DATA / "transcripts.json").read_text("utf-8"))["cases"]
    return next(case for case in cases if case["id"] == name)


def run_calls(text: str, notebook: Notebook) -> list[str]:
    """The outputs of the calls that a completion makes, as they are resolved and read."""
    completion = hk.parse_text(text, role="assistant")
    outputs = []
    for call in hk.tool_calls(completion, [notebook.tool.namespace]):
        assert call.runnable
        function = notebook.tool.tools[call.full_name or ""].function
        assert function is not None
        outputs.append(asyncio.run(function(call.value)))
    return outputs


def test_the_day_of_the_week_is_really_computed(notebook: Notebook) -> None:
    case = transcript("builtin-python")
    assert run_calls(case["completion_text"], notebook) == ["1"]
    assert date(3050, 1, 1).weekday() == 1
    assert case["answer"] == "1 (Tuesday)"


@pytest.mark.parametrize("channel", ["analysis", "commentary"])
@pytest.mark.parametrize("recipient", ["python", "functions.python"])
@pytest.mark.parametrize("content", ["6 * 7", '{"code": "6 * 7"}'])
def test_calls_as_models_write_them(
    notebook: Notebook, channel: str, recipient: str, content: str
) -> None:
    text = f"<|channel|>{channel} to={recipient} code<|message|>{content}<|call|>"
    assert run_calls(text, notebook) == ["42"]


# --- Limits ---------------------------------------------------------------------------------


def test_a_loop_is_interrupted_and_the_state_kept(hasty: Notebook) -> None:
    hasty.patiently("kept = 7")
    output = hasty("print('begun')\nwhile True: pass")
    assert output.startswith("begun\n")
    assert "KeyboardInterrupt" in output
    assert "timed out after 2.0 seconds" in output
    assert hasty.patiently("kept") == "7"


@pytest.mark.parametrize(
    "code", ["import asyncio\nawait asyncio.sleep(60)", "import time\ntime.sleep(60)", "!sleep 60"]
)
def test_waiting_is_interrupted(hasty: Notebook, code: str) -> None:
    hasty.patiently("import asyncio, time")
    started = time.monotonic()
    assert "timed out after 2.0 seconds and was interrupted" in hasty(code)
    assert time.monotonic() - started < 30


def test_a_cell_that_does_not_stop_is_killed(hasty: Notebook) -> None:
    hasty.patiently("lost = 1")
    output = hasty("""
        import time
        while True:
            try:
                time.sleep(60)
            except BaseException:
                print("no")
    """)
    assert output.startswith("no\n")
    assert "the kernel was killed. All variables are lost" in output
    assert "NameError" in hasty.patiently("lost")


def test_endless_output_is_cut_and_memory_stays_flat(hasty: Notebook) -> None:
    hasty.patiently("1")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output = hasty("n = 0\nwhile True:\n    n += 1\n    print(n, 'x' * 100)")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 60 * MEBIBYTE
    assert output.startswith("1 x")
    assert "characters left out ...]" in output
    assert "timed out" in output[-300:]
    assert len(output) < 21_000


@pytest.mark.parametrize(
    "code", ["'x' * 10_000_000", "print('x' * 10_000_000)", "raise ValueError('x' * 10_000_000)"]
)
def test_10_mb_are_cut_and_counted(notebook: Notebook, code: str) -> None:
    output = notebook(code)
    assert len(output) < 21_000
    note = output[output.index("[...") : output.index("...]")]
    left_out = int(note.split()[1].replace(",", ""))
    assert output.count("x") + left_out == pytest.approx(10_000_000, abs=500)
    if code.startswith("print"):
        assert output.count("x") + left_out == 10_000_000


def test_filled_memory_is_told(hasty: Notebook) -> None:
    assert hasty.tool.isolation is not None
    if hasty.tool.isolation.memory_limit is None:
        pytest.skip("no memory limit here")
    output = hasty.patiently("held = []\nwhile True: held.append(bytearray(10_000_000))")
    assert "MemoryError" in output or "died" in output
    hasty.patiently("held = None")
    assert hasty.patiently("1 + 1") == "2"


@pytest.mark.parametrize(
    ("code", "death"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "signal 11, SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9, SIGKILL"),
    ],
)
def test_a_kernel_that_dies_is_told_and_replaced(hasty: Notebook, code: str, death: str) -> None:
    hasty.patiently("lost = 1")
    output = hasty.patiently(f"print('before', flush=True)\nimport time; time.sleep(0.2)\n{code}")
    assert (
        f"The kernel died while it ran the cell ({'killed by ' * ('signal' in death)}{death}"
        in output
    )
    assert output.startswith("before")
    assert "NameError" in hasty.patiently("lost")


def test_a_kernel_that_dies_between_cells_is_told(hasty: Notebook) -> None:
    hasty.patiently("import os, threading\nthreading.Timer(1, os._exit, [5]).start()")
    kernel = hasty.tool._notebook._kernel
    assert kernel is not None
    assert eventually(lambda: kernel.has_ended)
    output = hasty.patiently("1 + 1")
    assert output.startswith("[The kernel ended after the last cell (exit code 5)")
    assert output.endswith("\n2")


def test_a_fork_does_not_become_a_second_kernel(notebook: Notebook) -> None:
    output = notebook("""
        import os
        pid = os.fork()
        if pid == 0:
            print("child")
        else:
            os.waitpid(pid, 0)
            print("parent")
    """)
    assert output.split() == ["child", "parent"]
    assert notebook("'still ' + 'there'") == "'still there'"


# --- Calls at the same time, cancelled, and from several event loops --------------------------


def test_cells_run_one_after_the_other(notebook: Notebook) -> None:
    async def both() -> list[str]:
        return await asyncio.gather(
            *(
                notebook.tool.execute(f"import time\nprint({n}); time.sleep(0.1); print({n})")
                for n in range(3)
            )
        )

    assert asyncio.run(both()) == [f"{n}\n{n}" for n in range(3)]


def test_cancelling_interrupts_the_cell(notebook: Notebook) -> None:
    notebook("kept = 8; reached = False")

    async def cancelled() -> float:
        task = asyncio.create_task(
            notebook.tool.execute(
                "import time\nreached = True\nopen('reached', 'w').close()\n"
                "time.sleep(60)\nreached = 'end'"
            )
        )
        waiting = asyncio.create_task(notebook.tool.execute("kept = 'must not run'"))
        while not (notebook.tool.folder / "reached").exists():
            await asyncio.sleep(0.01)
        started = time.monotonic()
        waiting.cancel()
        task.cancel()
        for one in (task, waiting):
            with pytest.raises(asyncio.CancelledError):
                await one
        return time.monotonic() - started

    assert asyncio.run(cancelled()) < 30
    assert notebook("kept, reached") == "(8, True)"


def test_restarting_loses_variables_and_keeps_files() -> None:
    async def main() -> None:
        async with PythonTool() as tool:
            await tool.execute("lost = 1\nopen('kept.txt', 'w').write('kept')")
            running_cell = asyncio.create_task(tool.execute("import time\ntime.sleep(60)"))
            await asyncio.sleep(0.3)
            await tool.restart()
            assert "cancelled" in await running_cell
            assert "NameError" in await tool.execute("lost")
            assert await tool.execute("open('kept.txt').read()") == "'kept'"

    asyncio.run(main())


# --- Apart from the system --------------------------------------------------------------------


def test_the_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with PythonTool(environment={"GIVEN": "yes"}) as tool:
        output = asyncio.run(tool.execute("import os; print(os.environ)"))
        assert "secret" not in output
        assert "'GIVEN': 'yes'" in output
        seen = asyncio.run(
            tool.execute("""
import pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
        print("secret" in path.read_text())
    except OSError:
        pass
""")
        )
        assert tool.isolation is not None
        if tool.isolation.own_processes:
            assert set(seen.split()) == {"False"}


def test_no_network(notebook: Notebook) -> None:
    isolation = notebook.tool.isolation
    assert isinstance(isolation, Isolation)
    if not isolation.network_blocked:
        pytest.skip("the network cannot be blocked here")
    reached = notebook("""
        import socket
        def reaches(address):
            try:
                socket.create_connection(address, timeout=2).close()
            except OSError as error:
                return error.strerror
        server = socket.create_server(("127.0.0.1", 0))
        print(reaches(("1.1.1.1", 80)))
        print(reaches(server.getsockname()))
    """)
    assert reached == "Network is unreachable\nNone"


def test_a_server_of_ours_is_reached_only_if_allowed() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            f"import socket\nsocket.create_connection({server.getsockname()!r}, 2).close()\n'yes'"
        )
        with PythonTool(network=True) as tool:
            assert asyncio.run(tool.execute(code)) == "'yes'"
            assert tool.isolation is not None
            assert not tool.isolation.network_blocked


def test_the_working_folder_is_at_the_path_that_the_model_knows(notebook: Notebook) -> None:
    notebook("open('here.txt', 'w').write('x')")
    assert (notebook.tool.folder / "here.txt").read_text() == "x"
    isolation = notebook.tool.isolation
    assert isolation is not None
    if isolation.own_processes and Path("/mnt").is_dir():
        assert notebook("open('/mnt/data/here.txt').read()") == "'x'"
        assert not Path("/mnt/data/here.txt").exists()


def test_other_folders_cannot_be_written(notebook: Notebook, tmp_path: Path) -> None:
    isolation = notebook.tool.isolation
    assert isolation is not None
    if not isolation.files_read_only:
        pytest.skip("the system does not allow it")
    target = Path(__file__).parents[1] / "written-by-a-cell"
    if str(target).startswith(("/tmp/", "/var/tmp/")):
        pytest.skip("the tests are in a folder for temporary files")
    assert "Read-only file system" in notebook(f"open({str(target)!r}, 'w')")
    assert not target.exists()
    assert notebook("import tempfile\nwith tempfile.TemporaryFile() as f: print('fine')") == "fine"


def test_a_given_folder_stays(tmp_path: Path) -> None:
    with PythonTool(tmp_path, write_anywhere=True) as tool:
        assert tool.folder == tmp_path
        asyncio.run(tool.execute("open('result.txt', 'w').write('done')"))
    assert (tmp_path / "result.txt").read_text() == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]


LEAVE_PROCESSES = """
import os, subprocess, sys
mark = {mark!r}
program = [sys.executable, "-c", "import time; time.sleep(600)", mark]
subprocess.Popen(program)
subprocess.Popen(program, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(program[0], program)
    os._exit(0)
print("left")
"""


def test_nothing_is_left_running() -> None:
    mark = f"left-by-{os.getpid()}"
    with PythonTool() as tool:
        base = tool.folder.parent
        assert "left" in asyncio.run(tool.execute(LEAVE_PROCESSES.format(mark=mark)))
        assert eventually(lambda: len(running(mark)) == 3)
        own = running(str(base))
        assert own
    assert running(mark) == []
    assert not {*own} & {*processes()}
    assert not base.exists()


def script(code: str, mark: str, *before: str) -> "subprocess.Popen[str]":
    """A program that uses the tool, in a process of its own."""
    program = f"""
import asyncio, os, sys, time
from harmony_kit.builtins.python import PythonTool
tool = PythonTool()
print(tool.folder.parent, flush=True)
print(asyncio.run(tool.execute({LEAVE_PROCESSES.format(mark=mark)!r})).strip(), flush=True)
{textwrap.dedent(code)}
"""
    return subprocess.Popen(
        [*before, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "exit", "exception"])
def test_nothing_is_left_when_our_process_ends(end: str) -> None:
    mark = f"left-{end}-{os.getpid()}"
    code = {"exit": "", "exception": "raise ValueError"}.get(end, "time.sleep(600)")
    with script(code, mark) as process:
        assert process.stdout is not None
        base = Path(process.stdout.readline().strip())
        assert process.stdout.readline() == "left\n"
        if end.startswith("SIG"):
            process.send_signal(getattr(signal, end))
        process.wait(30)
    assert eventually(lambda: not running(mark))
    assert eventually(lambda: not base.exists())
    assert not running(str(base))


def test_without_namespaces_nothing_is_left_either() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Ur", "true"], check=False).returncode != 0:
        pytest.skip("this test itself needs a namespace")
    # A namespace in which none can be made.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    mark = f"left-without-{os.getpid()}"
    code = "print(tool.isolation, flush=True); tool.close(); print('closed', flush=True)"
    with script(code, mark, unshare, "-Ur", "sh", "-c", forbid, "sh") as process:
        assert process.stdout is not None
        base = Path(process.stdout.readline().strip())
        assert process.stdout.readline() == "left\n"
        assert "network_blocked=False, own_processes=False" in process.stdout.readline()
        assert process.stdout.readline() == "closed\n"
        assert running(mark) == [process.pid]  # whose command line has the whole program
        assert not base.exists()
        process.wait(30)


def test_ctrl_c_interrupts_the_cell_and_the_kernel_goes_on() -> None:
    mark = f"left-ctrl-c-{os.getpid()}"
    code = """
        try:
            asyncio.run(tool.execute("kept = 3\\nopen('begun', 'w')\\n!sleep 60"))
        except KeyboardInterrupt:
            print("interrupted", asyncio.run(tool.execute("kept")), flush=True)
    """
    with script(code, mark) as process:
        assert process.stdout is not None
        begun = Path(process.stdout.readline().strip()) / "files" / "begun"
        assert process.stdout.readline() == "left\n"
        assert eventually(begun.exists, 60)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted 3\n"
        process.wait(30)
    assert eventually(lambda: not running(mark))


# --- What goes wrong outside of cells ---------------------------------------------------------


def test_a_closed_tool_says_so() -> None:
    tool = PythonTool()
    tool.close()
    asyncio.run(tool.aclose())
    with pytest.raises(ToolError, match="closed"):
        asyncio.run(tool.execute("1"))


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"folder: .*missing is not a folder"):
        PythonTool(tmp_path / "missing")
    with pytest.raises(ToolError, match="timeout: expected a positive number"):
        PythonTool(timeout=0)


def test_an_interpreter_without_ipykernel_is_named() -> None:
    # A real interpreter that sees none of the installed packages.
    with PythonTool(environment={"PYTHONPATH": ""}, interpreter=sys._base_executable) as tool:
        known = subprocess.run(
            [sys._base_executable, "-c", "import ipykernel"], capture_output=True, check=False
        )
        if known.returncode == 0:
            pytest.skip("it has ipykernel")
        with pytest.raises(ToolError, match=r"pip install 'harmony-kit\[python\]'"):
            asyncio.run(tool.execute("1"))


def test_missing_packages_are_named() -> None:
    program = """
import sys
sys.modules["jupyter_client"] = None
import asyncio
from harmony_kit.builtins.python import PythonTool
try:
    asyncio.run(PythonTool().execute("1"))
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("ToolError the python tool needs jupyter_client")
    assert "pip install 'harmony-kit[python]'" in done.stdout
