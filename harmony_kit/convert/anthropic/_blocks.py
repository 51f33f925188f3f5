"""Content blocks: what a message of the model is to a client, and back."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._messages import Header, Message
from ...wire._roles import FUNCTIONS, Channel, Role
from .. import _request as request
from .._names import ToolNames
from .._reply import Kind, kind_of
from ._arguments import (
    TRUNCATED_JSON,
    ArgumentsWriter,
    CodeWriter,
    call_input,
    call_text,
    code_text,
)

SEARCH: Final = f"{BROWSER.name}.search"
SERVER_TOOLS: Final = {PYTHON.name: "code_execution", SEARCH: "web_search"}
"""The API's names of built-in tools; what it has no name for is an ordinary tool there."""
SERVER_RECIPIENTS: Final = {name: recipient for recipient, name in SERVER_TOOLS.items()}
BROWSER_TOOLS: Final = frozenset(f"{BROWSER.name}.{tool.name}" for tool in BROWSER.tools)
"""The full names of the tools of the browser."""
NO_NAMES: Final = ToolNames()
"""Where a client calls its functions as the model does."""
ERROR: Final = "Error: "
"""How the model is told that a call failed."""


class Tool(NamedTuple):
    """A tool as a client knows it.

    Attributes:
        type: `"tool_use"`: the client runs it. `"server_tool_use"`: the server does.
        name: Its name.
    """

    type: str
    name: str


def client_tool(recipient: str, names: ToolNames) -> Tool:
    """The tool that a message calls.

    Args:
        recipient: The recipient of the message.
        names: The client's names of the functions.
    """
    if recipient in SERVER_TOOLS:
        return Tool("server_tool_use", SERVER_TOOLS[recipient])
    return Tool("tool_use", names.to_client(recipient.removeprefix(f"{FUNCTIONS}.")))


def call_id(message_id: str, number: int, kind: str) -> str:
    """The id of a call.

    Args:
        message_id: The id of the response.
        number: The position of the call among those of the response.
        kind: The type of its block.
    """
    prefix = "srvtoolu" if kind == "server_tool_use" else "toolu"
    return f"{prefix}_{message_id.removeprefix('msg_')}_{number}"


def opening_block(
    header: Header, *, message_id: str, calls: int, names: ToolNames
) -> dict[str, Any] | None:
    """The block of a message, without content; `None` for what no client sees.

    Args:
        header: The header of a message of the assistant.
        message_id: The id of the response.
        calls: How many calls stand before it.
        names: The client's names of the functions.
    """
    kind = kind_of(header)
    if kind is Kind.HIDDEN:
        return None
    if kind is Kind.REASONING:
        # Signatures are for those who cannot tell their own thoughts from others'.
        return {"type": "thinking", "thinking": "", "signature": ""}
    if kind is not Kind.CALL:
        return {"type": "text", "text": ""}
    tool = client_tool(header.recipient or "", names)
    return {
        "type": tool.type,
        "id": call_id(message_id, calls, tool.type),
        "name": tool.name,
        "input": {},
    }


def is_call(block: dict[str, Any]) -> bool:
    """Whether a block is a call.

    Args:
        block: The block.
    """
    return block["type"] in ("tool_use", "server_tool_use")


def arguments_writer(recipient: str | None) -> ArgumentsWriter | CodeWriter:
    """What turns the content of a call into the JSON text of its input.

    Args:
        recipient: The recipient of the message.
    """
    return CodeWriter() if recipient == PYTHON.name else ArgumentsWriter()


def input_of(recipient: str | None, content: str, *, is_whole: bool = True) -> dict[str, Any]:
    """The input of a call.

    Args:
        recipient: The recipient of the message.
        content: Its content.
        is_whole: Whether it is the whole call. Else the input has only `TRUNCATED_JSON`, with what
            a stream would have sent: no tool can be run with the beginning of its arguments.
    """
    if not is_whole:
        writer = arguments_writer(recipient)
        return {TRUNCATED_JSON: writer.feed(content) + writer.cut()}
    return {"code": content} if recipient == PYTHON.name else call_input(content)


def call_message(recipient: str, value: dict[str, Any]) -> Message:
    """The message that makes a call, as the model's chat template writes it.

    Args:
        recipient: The full name of the tool.
        value: The input of the call.
    """
    if recipient not in BROWSER_TOOLS and recipient != PYTHON.name:
        return request.call_message(recipient, call_text(value))
    text = code_text(value) if recipient == PYTHON.name else None
    return Message(
        Role.ASSISTANT,
        call_text(value) if text is None else text,
        channel=Channel.ANALYSIS,
        recipient=recipient,
        content_type="code",
    )


def result_message(recipient: str, content: str) -> Message:
    """The message that tells the result of a call.

    Args:
        recipient: The full name of the tool that was called.
        content: The result.
    """
    is_function = recipient not in BROWSER_TOOLS and recipient != PYTHON.name
    channel = Channel.COMMENTARY if is_function else Channel.ANALYSIS
    return request.result_message(recipient, content, channel=channel)


def recipient_of(name: str, functions: ToolNames | None) -> str:
    """The full name of the tool that a client's call names.

    Args:
        name: The name in a `tool_use` block.
        functions: The names of the client's functions; `None` where they are not known, and
            are kept as they are.
    """
    if name in BROWSER_TOOLS and (functions is None or name not in functions.harmony_names):
        return name
    return f"{FUNCTIONS}.{name if functions is None else functions.to_harmony(name)}"
