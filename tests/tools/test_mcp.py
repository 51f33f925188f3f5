"""A real MCP server: over standard input and output, over HTTP, and in this process."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import harmony_kit as hk

mcp = pytest.importorskip("mcp")
pytest.importorskip("mcp.server.mcpserver")

PROGRAM = Path(__file__).parents[1] / "data" / "mcp_server.py"
COMMAND = [sys.executable, str(PROGRAM)]
NAMESPACE = "Test_server_1"


def children():
    """The processes that this one has started and not yet waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(status.parent.name))
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left():
    """Processes and threads are counted before and after."""
    before = threading.active_count(), children()
    yield
    assert (threading.active_count(), children()) == before


def call_of(toolbox, name, arguments="{}"):
    (call,) = hk.tool_calls([hk.call_message(f"{NAMESPACE}.{name}", arguments)], toolbox)
    return call


def ask(toolbox, name, arguments="{}"):
    """What comes of a call, in an event loop of its own."""
    return asyncio.run(toolbox.run(call_of(toolbox, name, arguments)))


# --- Standard input and output --------------------------------------------------------------


def test_a_server_is_listed_called_and_closed():
    with hk.tools.McpTools(COMMAND) as server:
        assert len(children()) >= 1
        assert server.namespace.name == NAMESPACE
        assert server.namespace.description == "Adds and fails."
        assert [tool.name for tool in server.namespace.tools] == [
            *("add", "get_weather", "get_weather_2", "picture", "documents"),
            *("fail", "hang", "die"),
        ]
        text = hk.decode(hk.render([hk.developer(tools=[server.namespace])]))
        assert "// Add two numbers.\ntype add = (_: {\na: number,\nb: number,\n}) => any;" in text

        toolbox = hk.Toolbox([server])
        assert ask(toolbox, "add", '{"a": 1, "b": "2"}').message.text == "3"
        assert ask(toolbox, "add", '{"a": 1}').ending == "invalid"  # by the server's schema
        # Names that TypeScript cannot carry, and that collide.
        assert ask(toolbox, "get_weather", "{}").message.text == "dot: Paris"
        assert ask(toolbox, "get_weather_2", '{"city": "Rome"}').message.text == "hyphen: Rome"

        answer = ask(toolbox, "picture")
        assert answer.message.text == "[image/png, 100 bytes: not shown]"
        assert answer.value.content[0].mime_type == "image/png"
        answer = ask(toolbox, "documents")
        assert answer.message.text == "a <|end|> b\n[two: note:2] Another."
        answer = ask(toolbox, "fail", '{"reason": "no Paris"}')
        assert answer.ending == "raised"
        assert answer.message.text.startswith("Error: Error executing tool fail")


def test_a_call_that_hangs_and_a_server_that_dies():
    with hk.tools.McpTools(COMMAND) as server:
        hasty = hk.Toolbox([server], policy=hk.tools.ToolPolicy(timeout=0.2))
        assert ask(hasty, "hang").ending == "timed_out"
        toolbox = hk.Toolbox([server])
        assert ask(toolbox, "add", '{"a": 1, "b": 2}').message.text == "3"
        for name in ("die", "hang"):
            answer = ask(toolbox, name)
            assert answer.ending == "raised"
            assert "Connection closed" in answer.message.text


def test_a_run_over_a_server():
    from scripted_model import FINAL_TEXT, Scripted

    calls = (
        f'<|channel|>commentary to={NAMESPACE}.add<|message|>{{"a": {n}, "b": 1}}<|call|>'
        for n in (1, 2)
    )
    backend = Scripted(*calls, FINAL_TEXT.format(text="5"))
    with hk.tools.McpTools(COMMAND, only=["add"]) as server:
        reply = hk.run([hk.user("hi")], backend, tools=[server])
        # Each run has an event loop of its own, and what it leaves can be continued.
        twin = Scripted(FINAL_TEXT.format(text="Yes."))
        again = hk.run([*reply.conversation, hk.user("Sure?")], twin, tools=[server])
    assert [m.text for m in reply.messages if m.role == "tool"] == ["2", "3"]
    assert (reply.text, again.text) == ("5", "Yes.")
    assert [n.name for n in again.conversation[0].content.tools] == [NAMESPACE]
    with hk.tools.McpTools(COMMAND, only=["add"]) as server:
        twin = Scripted(FINAL_TEXT.format(text="Yes."))
        assert hk.run(again.conversation, twin, tools=[server]).text == "Yes."


@pytest.fixture
def marking(tmp_path):
    """A server that makes a file once the tool `hang` runs, and that file."""
    file = tmp_path / "hanging"
    program = f"""
import asyncio, pathlib, runpy
sleep = asyncio.sleep
def marked(seconds, *more):
    if seconds == 3600:
        pathlib.Path({str(file)!r}).touch()
    return sleep(seconds, *more)
asyncio.sleep = marked
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    return [sys.executable, "-c", program], file


async def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_several_tasks_share_a_server_and_any_closes_it(marking):
    command, file = marking

    async def go():
        server = hk.tools.McpTools(command)
        await asyncio.create_task(server.aopen())
        toolbox = hk.Toolbox([server])
        calls = [call_of(toolbox, "add", f'{{"a": {n}, "b": 1}}') for n in range(9)]
        answers = await asyncio.gather(*map(toolbox.run, calls))
        assert [answer.message.text for answer in answers] == [str(n + 1) for n in range(9)]

        hanging = asyncio.create_task(toolbox.run(call_of(toolbox, "hang")))
        await until(file.exists)
        await asyncio.create_task(toolbox.aclose())
        answer = await hanging
        assert answer.message.text == "Error: the MCP server was closed during the call"
        answer = await toolbox.run(call_of(toolbox, "add", '{"a": 1, "b": 1}'))
        assert answer.message.text.endswith("is closed")
        await server.aclose()  # again, which does nothing

    asyncio.run(go())


def test_a_cancelled_call_leaves_the_server_usable(marking):
    command, file = marking

    async def go():
        async with hk.tools.McpTools(command) as server:
            toolbox = hk.Toolbox([server])
            hanging = asyncio.create_task(toolbox.run(call_of(toolbox, "hang")))
            await until(file.exists)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            answer = await toolbox.run(call_of(toolbox, "add", '{"a": 1, "b": 1}'))
            assert answer.message.text == "2"

    asyncio.run(go())


def test_namespace_and_selection():
    with hk.tools.McpTools(COMMAND, namespace="functions", only=["get-weather", "add"]) as server:
        assert [*server.tools] == ["functions.get_weather", "functions.add"]

        def other():
            """Another function."""

        toolbox = hk.Toolbox([other, server])
        assert len([*toolbox]) == 1
        (call,) = hk.tool_calls(
            [hk.call_message("functions.get_weather", '{"city": "x"}')], toolbox
        )
        assert asyncio.run(toolbox.run(call)).message.text == "hyphen: x"
    with pytest.raises(hk.errors.ToolError, match="has no tool get_weather"):
        hk.tools.McpTools(COMMAND, only=["get_weather"]).open()


def test_environment_and_folder(tmp_path):
    program = f"""
import os, runpy, sys
assert os.environ["GREETING"] == "hello" and os.getcwd() == {str(tmp_path.resolve())!r}
sys.argv = [{str(PROGRAM)!r}]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", program]
    with hk.tools.McpTools(command, environment={"GREETING": "hello"}, folder=tmp_path) as server:
        assert "Test_server_1.add" in server.tools
    with pytest.raises(hk.errors.ToolError, match=r"(?s)it wrote: .*KeyError: 'GREETING'"):
        hk.tools.McpTools(command, folder=tmp_path).open()


@pytest.mark.parametrize(
    ("command", "timeout", "reason"),
    [
        (["nothing-of-this-name"], 30, "nothing-of-this-name: FileNotFoundError"),
        ([sys.executable, "-c", "import sys; sys.exit('out of paper')"], 30, "wrote: out of paper"),
        ([sys.executable, "-c", "input(); print('{')\nwhile True: input()"], 1, "no answer within"),
    ],
)
def test_a_server_that_does_not_start_is_named(command, timeout, reason):
    server = hk.tools.McpTools(command, timeout=timeout)
    with pytest.raises(hk.errors.ToolError, match=reason) as caught:
        server.open()
    assert str(caught.value).startswith(f"MCP server {' '.join(command)}: ")

    async def go():
        with pytest.raises(hk.errors.ToolError, match=reason):
            await server.aopen()

    asyncio.run(go())


def test_opening_can_be_cancelled():
    async def go():
        server = hk.tools.McpTools([sys.executable, "-c", "import time; time.sleep(600)"])
        opening = asyncio.create_task(server.aopen())
        while not children():
            await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(go())


def test_what_is_not_open_says_so():
    server = hk.tools.McpTools(COMMAND)
    with pytest.raises(hk.errors.ToolError, match="is not open: use `with`"):
        hk.Toolbox([server])
    with server, pytest.raises(hk.errors.ToolError, match="is open already"):
        server.open()


def test_options_for_another_kind_of_server_are_refused():
    with pytest.raises(hk.errors.ToolError, match="headers are for the URL"):
        hk.tools.McpTools(COMMAND, headers={"a": "b"})
    with pytest.raises(hk.errors.ToolError, match="environment and folder are for a command"):
        hk.tools.McpTools("http://127.0.0.1/mcp", environment={})


# --- Streamable HTTP ------------------------------------------------------------------------


@pytest.fixture
def url():
    """The address of a server on the loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen([*COMMAND, str(port)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("headers", [None, {"Authorization": "Bearer x"}])
def test_a_server_over_http(url, headers):
    with hk.tools.McpTools(url, headers=headers) as server:
        hasty = hk.Toolbox([server], policy=hk.tools.ToolPolicy(timeout=0.5))
        toolbox = hk.Toolbox([server])
        assert ask(toolbox, "add", '{"a": 1, "b": 2}').message.text == "3"
        assert ask(hasty, "hang").ending == "timed_out"
        assert ask(toolbox, "get_weather_2", '{"city": "x"}').message.text == "hyphen: x"


def test_a_server_that_is_not_there():
    with pytest.raises(
        hk.errors.ToolError, match=r"MCP server http://127\.0\.0\.1:9/mcp: ConnectError"
    ):
        hk.tools.McpTools("http://127.0.0.1:9/mcp").open()


# --- In this process ------------------------------------------------------------------------


def test_lists_of_several_pages():
    from mcp.server import Server
    from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool

    def tool(number):
        return Tool(name=f"tool{number}", input_schema={"type": "object"})

    async def list_tools(_, request):
        page = int((request and request.cursor) or 0)
        following = str(page + 1) if page < 4 else None
        return ListToolsResult(tools=[tool(2 * page), tool(2 * page + 1)], next_cursor=following)

    async def call_tool(_, request):
        text = TextContent(type="text", text=f"{request.name} \ud83d")
        only_structured = request.name == "tool9"
        return CallToolResult(
            content=[] if only_structured else [text],
            structured_content={"a": 1} if only_structured else None,
            is_error=request.name == "tool8",
        )

    served = Server("pages", on_list_tools=list_tools, on_call_tool=call_tool)
    with hk.tools.McpTools(served, namespace=NAMESPACE) as server:
        assert [*server.tools] == [f"{NAMESPACE}.tool{number}" for number in range(10)]
        toolbox = hk.Toolbox([server])
        assert ask(toolbox, "tool7").message.text == "tool7 \ufffd"
        assert ask(toolbox, "tool8").message.text == "Error: tool8 \ufffd"
        assert ask(toolbox, "tool9").message.text == '{"a": 1}'
