"""Reads input items, and output items that come back as input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ..._options import checked_options
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import DeveloperContent
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Channel, Role
from .._names import OWN_NAMES, ToolNames
from .._notes import Notes, Unsupported
from .._reading import JsonObject
from .._request import CallIds, call_message, joined_instructions, result_message
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
def read_messages(
    messages: Iterable[Any],
    *,
    unsupported: Unsupported = "error",
    store: ResponseStore | None = None,
) -> tuple[Message, ...]:
    """Read items of the Responses API: the input of a request, or the output of a response.

    Args:
        messages: The items: JSON data, or pydantic objects.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out.
        store: Has the items that are referred to, and the reasoning before calls, for clients that
            do not send it back.

    Raises:
        RequestError: An item is invalid, or has what Harmony cannot carry; the error names the JSON
            path.

    Example:
        >>> items = [
        ...     {"role": "user", "content": "Weather?"},
        ...     {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        ... ]
        >>> [message.recipient for message in read_messages(items)]
        [None, 'functions.look']
    """
    return joined_instructions(read_items(messages, "messages", unsupported, store))


def read_items(
    items: Any, path: str, unsupported: Unsupported, store: ResponseStore | None = None
) -> tuple[Message, ...]:
    """The messages of items; `path` is that of the list, for errors."""
    reader = ItemReader(OWN_NAMES, Notes(unsupported), store=store)
    reader.read(JsonObject({path: items}), path)
    return tuple(reader.messages)


class ItemReader:
    """Reads lists of items.

    Attributes:
        messages: The messages so far.
        calls: The full name of the tool, by the id of each call so far.
    """

    def __init__(
        self, names: ToolNames, notes: Notes, *, store: ResponseStore | None = None
    ) -> None:
        self.messages: list[Message] = []
        self._names = names
        self._notes = notes
        self._store = store
        self._ids = CallIds(notes)
        self.calls = self._ids.recipients

    def resume(self, messages: tuple[Message, ...], calls: Mapping[str, str]) -> None:
        """Continue a stored conversation; `calls` has the full names of the tools by call id."""
        self.messages += messages
        for call_id, full_name in calls.items():
            self._ids.add(call_id, full_name)

    def read(self, parent: JsonObject, key: str) -> None:
        """Read the items in the field `key`."""
        nodes = list(parent.nodes(key))
        for index, node in enumerate(nodes):
            kind = _kind(node)
            reader = _READERS.get(kind)
            if kind == "message":
                self._ids.close()
                following = nodes[index + 1] if index + 1 < len(nodes) else None
                self._read_message(node, following is not None and _kind(following) in _CALLS)
            elif reader is None:
                self._notes.lost(node.path, f"items of the type {kind!r} are not supported")
            else:
                reader(self, node)
        self.messages[:] = self._ids.in_order(self.messages)

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
        """A text, or the concatenated texts of parts."""
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
            # Clients send back what other servers gave them, so this is not an error.
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
            self._ids.add(call_id, full_name, node.path)
        self._add(call_message(full_name, arguments))

    def _restore_reasoning(self, node: JsonObject, call_id: str) -> None:
        """Add the reasoning that led to a call, if the client did not send it back."""
        last = self.messages[-1] if self.messages else None
        if self._store is None or (last is not None and last.channel == Channel.ANALYSIS):
            return
        reasoning = self._store.reasoning(call_id)
        if reasoning is not None:
            self._notes.changed(node.path, "the reasoning before it was taken from the store")
            self._add(Message(Role.ASSISTANT, reasoning, channel=Channel.ANALYSIS.value))

    def _read_result(self, node: JsonObject) -> None:
        call_id = node.required_text("call_id")
        full_name = self._ids.answered(call_id, node, "call_id", len(self.messages))
        if not node.has("output"):
            raise node.error("output", "missing")
        self._check_fields(node, ("call_id", "output"), idle=("name", "namespace"))
        self._add(result_message(full_name, self._text(node, "output")))

    def _read_web_search_call(self, node: JsonObject) -> None:
        action = node.required_node("action")
        call = read_action(action)
        self._check_fields(node, ("action",))
        if call is None:
            self._notes.lost(action.path, "no call of the browser does this")
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
            self._ids.add(item.call_id, item.full_name)
        self._add(item.message)

    def _add(self, message: Message) -> None:
        self.messages.append(message)

    def _check_fields(
        self, node: JsonObject, known: tuple[str, ...], idle: tuple[str, ...] = ()
    ) -> None:
        # Ids and statuses are the server's own, and need no note.
        self._notes.unknown_fields(node, ("type", "id", "status", *known), idle=idle)


def _kind(node: JsonObject) -> str:
    """The type of an item, which is optional in messages and references."""
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
