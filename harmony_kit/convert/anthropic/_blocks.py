"""Content blocks: what a message of the model is to a client of the Messages API, and back."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ...calls import CallStatus, ToolCall
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._events import ParsedMessage
from ...wire._messages import Header, Message
from ...wire._roles import FUNCTIONS, Channel, Role
from .. import _request as request
from .._names import OWN_NAMES, ToolNames
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
"""The API's names of built-in tools; those without a name are ordinary tools there."""
SERVER_RECIPIENTS: Final = {name: recipient for recipient, name in SERVER_TOOLS.items()}
BROWSER_TOOLS: Final = frozenset(f"{BROWSER.name}.{tool.name}" for tool in BROWSER.tools)
"""The full names of the tools of the browser."""
ERROR: Final = "Error: "
"""The prefix of the result of a call that failed."""


# What was read of these calls is not what the model meant.
_UNREADABLE: Final = frozenset(
    {
        CallStatus.TRUNCATED,
        CallStatus.INVALID,
        CallStatus.UNDECLARED,
        CallStatus.MISSING_NAME,
    }
)


class Tool(NamedTuple):
    """A tool as a client knows it.

    Attributes:
        type: `"tool_use"` if the client runs it, `"server_tool_use"` if the server does.
        name: The client's name of it.
    """

    type: str
    name: str


def client_tool(recipient: str, names: ToolNames) -> Tool:
    """The tool that a message with this recipient calls."""
    if recipient in SERVER_TOOLS:
        return Tool("server_tool_use", SERVER_TOOLS[recipient])
    return Tool("tool_use", names.to_client(recipient.removeprefix(f"{FUNCTIONS}.")))


def call_id(message_id: str, number: int, kind: str) -> str:
    """The id of a call, from its position among the calls of the response."""
    prefix = "srvtoolu" if kind == "server_tool_use" else "toolu"
    return f"{prefix}_{message_id.removeprefix('msg_')}_{number}"


class Blocks:
    """Makes the content blocks of one response, in the order of the turn."""

    def __init__(self, message_id: str, names: ToolNames = OWN_NAMES) -> None:
        self.names = names
        self._message_id = message_id
        self._calls = 0

    def begin(self, header: Header) -> dict[str, Any] | None:
        """The block of the next message, without content; `None` if clients do not see it."""
        kind = kind_of(header)
        if kind is Kind.HIDDEN:
            return None
        if kind is Kind.REASONING:
            return {"type": "thinking", "thinking": "", "signature": ""}
        if kind is not Kind.CALL:
            return {"type": "text", "text": ""}
        tool = client_tool(header.recipient or "", self.names)
        made = call_id(self._message_id, self._calls, tool.type)
        self._calls += 1
        return {"type": tool.type, "id": made, "name": tool.name, "input": {}}

    def end_call(
        self, block: dict[str, Any], parsed: ParsedMessage, call: ToolCall | None = None
    ) -> None:
        """Fill in the input of a call, and its name: repaired if `call` is given and readable."""
        block["input"] = input_of(parsed.header.recipient, parsed.text, is_whole=parsed.is_whole)
        if call is None or not parsed.is_whole or call.status in _UNREADABLE:
            return
        tool = client_tool(call.full_name or "", self.names)
        if tool.type != block["type"]:  # such a name would need another type of block
            return
        if call.takes_text:
            block |= {"name": tool.name, "input": {"code": call.arguments}}
        elif isinstance(call.value, dict):
            block |= {"name": tool.name, "input": call_input(call.arguments)}


def is_call(block: dict[str, Any]) -> bool:
    """Whether a block is a call."""
    return block["type"] in ("tool_use", "server_tool_use")


def arguments_writer(recipient: str | None) -> ArgumentsWriter | CodeWriter:
    """A writer of the JSON text of the input of a call."""
    return CodeWriter() if recipient == PYTHON.name else ArgumentsWriter()


def input_of(recipient: str | None, content: str, *, is_whole: bool = True) -> dict[str, Any]:
    """The input of a call. That of a truncated call has only `TRUNCATED_JSON`.

    No tool can be run with a prefix of its arguments.
    """
    if not is_whole:
        writer = arguments_writer(recipient)
        return {TRUNCATED_JSON: writer.feed(content) + writer.cut()}
    return {"code": content} if recipient == PYTHON.name else call_input(content)


def call_message(recipient: str, value: dict[str, Any]) -> Message:
    """The message of a call, as the model's chat template writes it."""
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
    """The message of the result of a call."""
    is_function = recipient not in BROWSER_TOOLS and recipient != PYTHON.name
    channel = Channel.COMMENTARY if is_function else Channel.ANALYSIS
    return request.result_message(recipient, content, channel=channel)


def recipient_of(name: str, functions: ToolNames | None) -> str:
    """The full name of the tool in a `tool_use` block; with `None` for names it is kept."""
    if name in BROWSER_TOOLS and (functions is None or name not in functions.harmony_names):
        return name
    return f"{FUNCTIONS}.{name if functions is None else functions.to_harmony(name)}"
