"""Output items: what each message of a turn is to a client of the Responses API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from ...calls import CallStarted, CallStatus, ToolCall, read_arguments
from ...tools import ToolCallStream
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import ToolNamespace
from ...wire._events import MessageStarted, ParsedMessage
from ...wire._messages import Header
from ...wire._roles import FUNCTIONS, Role
from .._names import OWN_NAMES, ToolNames
from .._reply import Kind, kind_of
from .._request import HarmonyRequest
from ._web import ACTIONS, proper_text, write_action

ItemType = Literal[
    "reasoning",
    "message",
    "function_call",
    "custom_tool_call",
    "web_search_call",
    "code_interpreter_call",
]
Status = Literal["in_progress", "completed", "incomplete"]

_PHASES: Final = {Kind.COMMENTARY: "commentary", Kind.FINAL: "final_answer"}
_PREFIXES: Final[dict[ItemType, str]] = {
    "reasoning": "rs",
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "code_interpreter_call": "ci",
}


class Callee(NamedTuple):
    """The tool that a call addresses.

    Attributes:
        item_type: The type of the item.
        name: The client's name of a function; the name of the browser's tool.
        full_name: The name of the tool in a prompt, for its results.
        namespace: The namespace of a tool that is not a function of the client.
    """

    item_type: ItemType
    name: str
    full_name: str
    namespace: str | None = None


class Callees:
    """Finds the tools that calls address."""

    def __init__(self, request: HarmonyRequest | None, names: ToolNames) -> None:
        self.tools: tuple[ToolNamespace, ...] | None = None if request is None else request.tools
        self._names = names if request is None else request.names
        self._text_tools: frozenset[str] = frozenset() if request is None else request.text_tools
        self._calls = ToolCallStream(self.tools)

    def find(self, header: Header) -> Callee:
        """The tool that the call with this header addresses."""
        recipient = header.recipient or ""
        name, namespace = recipient, None
        for event in self._calls.feed((MessageStarted(0, header),)):
            if isinstance(event, CallStarted) and event.name is not None:
                name, namespace = event.name, event.namespace
        # A model may write the client's name instead of the one in the prompt.
        written = recipient.removeprefix(f"{FUNCTIONS}.")
        if written in self._names.harmony_names:
            return self._function(written)
        if namespace == FUNCTIONS:
            return self._function(self._names.to_client(name))
        full_name = name if namespace is None else f"{namespace}.{name}"
        if namespace == BROWSER.name and name in ACTIONS:
            return Callee("web_search_call", name, full_name)
        if full_name == PYTHON.name:
            return Callee("code_interpreter_call", name, full_name)
        return Callee("function_call", name, full_name, namespace)

    def _function(self, name: str) -> Callee:
        takes_text = name in self._text_tools
        item_type: ItemType = "custom_tool_call" if takes_text else "function_call"
        return Callee(item_type, name, f"{FUNCTIONS}.{self._names.to_harmony(name)}")


@dataclass(frozen=True, slots=True)
class Item:
    """An output item without its content.

    Attributes:
        type: The type of the item.
        id: Its id.
        base: The part that the ids of the response have in common.
        position: Its position in the output.
        phase: The phase of a message.
        callee: The tool that a call addresses.
    """

    type: ItemType
    id: str
    base: str
    position: int
    phase: str | None = None
    callee: Callee | None = None

    @property
    def call_id(self) -> str:
        """The id of the call."""
        return f"call_{self.base}_{self.position}"

    def data(self, content: str, status: Status) -> dict[str, Any]:
        """The item as JSON data; the content is as written, or has repaired arguments."""
        data: dict[str, Any] = {"type": self.type, "id": self.id, "status": status}
        if self.type == "reasoning":
            return data | {"summary": [], "content": [text_part(self.type, content)]}
        if self.type == "message":
            content_parts = [text_part(self.type, content)]
            return data | {"role": "assistant", "content": content_parts, "phase": self.phase}
        assert self.callee is not None
        if self.type == "web_search_call":
            return data | {"action": write_action(self.callee.name, content)}
        if self.type == "code_interpreter_call":
            return data | {"code": content, "container_id": f"cntr_{self.base}", "outputs": None}
        data |= {"call_id": self.call_id, "name": self.callee.name}
        if self.type == "custom_tool_call":
            return data | {"input": custom_input(content)}
        data["arguments"] = content
        if self.callee.namespace is not None:
            data["namespace"] = self.callee.namespace
        return data


def text_part(item_type: ItemType, text: str) -> dict[str, Any]:
    """The content part of a reasoning item or a message."""
    if item_type == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def custom_input(content: str) -> str:
    """The argument `input` of a call of a tool that takes text; all of the call without one."""
    read = read_arguments(content)
    found = read.value.get("input") if read.is_closed and isinstance(read.value, dict) else None
    return proper_text(found) if isinstance(found, str) else content


class Items:
    """Makes the output items of one response, in the order of the turn."""

    def __init__(
        self, response_id: str, request: HarmonyRequest | None, names: ToolNames = OWN_NAMES
    ) -> None:
        self.callees = Callees(request, names)
        self._base = response_id.removeprefix("resp_")
        self._position = 0

    def begin(self, header: Header) -> Item | None:
        """The item of the next message; `None` if clients do not see it."""
        kind = kind_of(header)
        if header.role is not Role.ASSISTANT or kind is Kind.HIDDEN:
            return None
        callee = self.callees.find(header) if kind is Kind.CALL else None
        item_type: ItemType = "reasoning" if kind is Kind.REASONING else "message"
        if callee is not None:
            item_type = callee.item_type
        item_id = f"{_PREFIXES[item_type]}_{self._base}_{self._position}"
        item = Item(item_type, item_id, self._base, self._position, _PHASES.get(kind), callee)
        self._position += 1
        return item

    def of_messages(
        self, messages: Iterable[ParsedMessage]
    ) -> list[tuple[int, ParsedMessage, Item]]:
        """The items of messages, each with the position of the message and the message."""
        begun = [(i, m, self.begin(m.header)) for i, m in enumerate(messages)]
        return [(index, message, item) for index, message, item in begun if item is not None]


def repaired(item: Item, content: str, call: ToolCall | None) -> str:
    """The content of an item with the arguments of a call repaired."""
    if item.callee is None or call is None or call.name is None:
        return content
    if call.status is CallStatus.TRUNCATED:  # if repaired, it would look whole
        return content
    # A call that ends before its arguments has none, like one with empty arguments.
    return call.arguments or ("" if call.takes_text else "{}")
