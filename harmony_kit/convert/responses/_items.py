"""Input items, and output items that come back as such, to messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..._options import checked_options
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import DeveloperContent
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Channel, Role
from .._names import ToolNames
from .._notes import Notes
from .._reading import JsonObject
from .._request import CallIds, call_message, result_message
from .._store import ResponseStore
from ._web import read_action

_CALLS: Final = (
    "function_call",
    "custom_tool_call",
    "web_search_call",
    "code_interpreter_call",
)
_ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = ("input_text", "output_text", "text", "refusal")
_PHASES: Final = {"commentary": Channel.COMMENTARY, "final_answer": Channel.FINAL}


@checked_options
def read_items(items: Any, *, path: str = "items") -> tuple[Message, ...]:
    """The messages that items stand for: the output of a response, or the input of a request.

    Args:
        items: A list of items: dicts, or objects of the package `openai`.
        path: Where it stands, for errors.

    Raises:
        RequestError: An item is nothing that Harmony can carry; the error names the JSON path.
    """
    reader = ItemReader(ToolNames(), Notes("error"))
    reader.read(JsonObject({path: items}), path)
    return tuple(reader.messages)


class ItemReader:
    """Reads items, one list after the other.

    Attributes:
        messages: The messages so far.
        calls: The full name of the tool, by the id of each call so far.

    Args:
        names: The names of the client's functions.
        notes: Told of what is not carried over.
        store: Where references to items are looked up, and the reasoning that led to calls.
    """

    def __init__(
        self, names: ToolNames, notes: Notes, *, store: ResponseStore | None = None
    ) -> None:
        self.messages: list[Message] = []
        self.calls: dict[str, str] = {}
        self._names = names
        self._notes = notes
        self._store = store
        self._ids = CallIds()

    def resume(self, messages: tuple[Message, ...], calls: Mapping[str, str]) -> None:
        """Go on from a conversation that is known.

        Args:
            messages: Its messages.
            calls: The full name of the tool, by the id of each call.
        """
        self.messages += messages
        for call_id, full_name in calls.items():
            self._know(call_id, full_name)

    def read(self, parent: JsonObject, key: str) -> None:
        """Read a list of items.

        Args:
            parent: The object that has it.
            key: The name of its field.

        Raises:
            RequestError: An item is wrong, or nothing that Harmony can carry.
        """
        nodes = list(parent.nodes(key))
        for index, node in enumerate(nodes):
            kind = _kind(node)
            reader = _READERS.get(kind)
            if kind == "message":
                following = nodes[index + 1] if index + 1 < len(nodes) else None
                self._read_message(node, following is not None and _kind(following) in _CALLS)
            elif reader is None:
                self._notes.lost(node.path, f"items of the type {kind!r} are not supported")
            else:
                reader(self, node)

    # --- Messages ---

    def _read_message(self, node: JsonObject, precedes_call: bool) -> None:
        role = node.choice("role", _ROLES)
        if role is None:
            raise node.error("role", "missing")
        if not node.has("content"):
            raise node.error("content", "missing")
        text = self._text(node, "content")
        phase = node.choice("phase", tuple(_PHASES))
        self._check_fields(node, ("role", "content", "phase"))
        if role in ("system", "developer"):
            self._add(Message(Role.DEVELOPER, DeveloperContent(instructions=text)))
        elif role == "user":
            self._add(Message(Role.USER, text))
        else:
            channel = Channel.COMMENTARY if precedes_call else Channel.FINAL
            channel = channel if phase is None else _PHASES[phase]
            self._add(Message(Role.ASSISTANT, text, channel=channel.value))

    def _text(self, node: JsonObject, key: str) -> str:
        """A text, or the texts of parts, which follow one another without a separator."""
        value = node.get(key)
        if isinstance(value, str):
            return value
        texts: list[str] = []
        for part in node.nodes(key):
            kind = part.required_text("type")
            if kind not in _TEXTS:
                self._notes.lost(part.path, f"parts of the type {kind!r} are not supported")
                continue
            field = "text"
            if kind == "refusal":
                field = kind
                self._notes.changed(part.path, "kept as the text of an answer")
            texts.append(part.required_text(field))
            self._notes.unknown_fields(
                part,
                ("type", field),
                idle=("annotations", "logprobs", "parsed", "prompt_cache_breakpoint"),
            )
        return "".join(texts)

    def _read_reasoning(self, node: JsonObject) -> None:
        texts = [part.required_text("text") for part in node.nodes("content")]
        self._check_fields(node, ("content", "summary", "encrypted_content"))
        if texts:
            text = "\n".join(texts)
            self._add(Message(Role.ASSISTANT, text, channel=Channel.ANALYSIS.value))
        else:
            # Clients send back what they were given: nobody's fault, and no error.
            self._notes.changed(node.path, "left out: reasoning without its text")

    # --- Calls ---

    def _read_function_call(self, node: JsonObject) -> None:
        name = node.required_text("name")
        namespace = node.text("namespace")
        full_name = f"{namespace}.{name}"
        if namespace in (None, FUNCTIONS):
            full_name = f"{FUNCTIONS}.{self._names.to_harmony(name)}"
        self._check_fields(
            node, ("name", "namespace", "arguments", "call_id"), idle=("parsed_arguments",)
        )
        self._add_call(node, full_name, node.text("arguments") or "")

    def _read_custom_tool_call(self, node: JsonObject) -> None:
        full_name = f"{FUNCTIONS}.{self._names.to_harmony(node.required_text('name'))}"
        self._check_fields(node, ("name", "input", "call_id"))
        arguments = json.dumps({"input": node.required_text("input")}, ensure_ascii=False)
        self._add_call(node, full_name, arguments)

    def _add_call(self, node: JsonObject, full_name: str, arguments: str) -> None:
        call_id = node.text("call_id")
        if call_id is not None:
            self._restore_reasoning(node, call_id)
            self._know(call_id, full_name)
        self._add(call_message(full_name, arguments))

    def _know(self, call_id: str, full_name: str) -> None:
        self.calls[call_id] = full_name
        self._ids.add(call_id, full_name)

    def _restore_reasoning(self, node: JsonObject, call_id: str) -> None:
        """The reasoning that led to a call, for clients that do not send it back."""
        last = self.messages[-1] if self.messages else None
        if self._store is None or (last is not None and last.channel == Channel.ANALYSIS):
            return
        reasoning = self._store.reasoning(call_id)
        if reasoning is not None:
            self._notes.changed(node.path, "the reasoning before it was taken from the store")
            self._add(Message(Role.ASSISTANT, reasoning, channel=Channel.ANALYSIS.value))

    def _read_result(self, node: JsonObject) -> None:
        call_id = node.required_text("call_id")
        full_name = self._ids.recipient(call_id, node, "call_id")
        if not node.has("output"):
            raise node.error("output", "missing")
        self._check_fields(node, ("call_id", "output"), idle=("name", "namespace"))
        self._add(result_message(full_name, self._text(node, "output")))

    def _read_web_search_call(self, node: JsonObject) -> None:
        action = node.required_node("action")
        call = read_action(action)
        self._check_fields(node, ("action",))
        if call is None:
            self._notes.lost(action.path, "no call of the browser says this")
            return
        self._notes.unknown_fields(
            action, ("type", "query", "queries", "url", "pattern"), idle=("sources",)
        )
        self._add_builtin_call(f"{BROWSER.name}.{call[0]}", call[1])

    def _read_code_interpreter_call(self, node: JsonObject) -> None:
        code = node.text("code") or ""
        self._check_fields(node, ("code", "outputs"), idle=("container_id",))
        self._add_builtin_call(PYTHON.name, code)
        logs: list[str] = []
        for output in node.nodes("outputs"):
            if output.get("type") == "logs":
                logs.append(output.required_text("logs"))
            else:
                self._notes.lost(output.path, "only outputs of the type 'logs' are supported")
        if logs:
            self._add(result_message(PYTHON.name, "\n".join(logs), channel=Channel.ANALYSIS))

    def _add_builtin_call(self, recipient: str, content: str) -> None:
        self._add(
            Message(
                Role.ASSISTANT,
                content,
                channel=Channel.ANALYSIS.value,
                recipient=recipient,
                content_type="code",
            )
        )

    # --- The rest ---

    def _read_reference(self, node: JsonObject) -> None:
        item_id = node.required_text("id")
        item = None if self._store is None else self._store.item(item_id)
        if item is None:
            raise node.error("id", f"there is no item {item_id!r}")
        if item.call_id is not None and item.full_name is not None:
            self._know(item.call_id, item.full_name)
        self._add(item.message)

    def _add(self, message: Message) -> None:
        self.messages.append(message)

    def _check_fields(
        self, node: JsonObject, known: tuple[str, ...], idle: tuple[str, ...] = ()
    ) -> None:
        # Ids and states are the server's own; there is nothing to say about them.
        self._notes.unknown_fields(node, ("type", "id", "status", *known), idle=idle)


def _kind(node: JsonObject) -> str:
    """The type of an item; messages and references need not say it."""
    kind = node.text("type")
    if kind is None:
        return "item_reference" if node.value.keys() == {"id"} else "message"
    return kind


_READERS: Final[dict[str, Callable[[ItemReader, JsonObject], None]]] = {
    "reasoning": ItemReader._read_reasoning,
    "function_call": ItemReader._read_function_call,
    "custom_tool_call": ItemReader._read_custom_tool_call,
    "function_call_output": ItemReader._read_result,
    "custom_tool_call_output": ItemReader._read_result,
    "web_search_call": ItemReader._read_web_search_call,
    "code_interpreter_call": ItemReader._read_code_interpreter_call,
    "item_reference": ItemReader._read_reference,
}
