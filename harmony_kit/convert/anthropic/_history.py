"""Reads the messages of a request or a response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...wire._contents import DeveloperContent
from ...wire._messages import Message
from ...wire._roles import Channel, Role
from .._names import ToolNames
from .._notes import Notes
from .._reading import JsonObject
from .._reply import Kind, kind_of
from .._request import CallIds
from .._store import ResponseStore
from ._blocks import ERROR, SERVER_RECIPIENTS, call_message, recipient_of, result_message

IDLE: Final = ("cache_control",)
"""Fields of blocks that make no difference to the prompt."""
SEPARATOR: Final = "\n\n"
"""The separator of text blocks that become one text."""


def text_of(node: JsonObject, key: str, notes: Notes) -> str | None:
    """A text, or the joined texts of text blocks; `None` if the field is absent."""
    if not node.has(key):
        return None
    texts = []
    for block in blocks_of(node, key):
        if block.required_text("type") == "text":
            texts.append(_block_text(block, notes))
        else:
            notes.lost(block.path, f"a {block.text('type')} block is not supported here")
    return _joined(texts, node.at(key), notes)


def blocks_of(node: JsonObject, key: str) -> Iterator[JsonObject]:
    """The blocks of a content; a text is one text block."""
    content = node.get(key)
    if isinstance(content, str):
        yield JsonObject({"type": "text", "text": content}, node.at(key))
    else:
        yield from node.nodes(key)


def _block_text(block: JsonObject, notes: Notes) -> str:
    if block.get("citations"):
        notes.lost(block.at("citations"), "not supported")
    notes.unknown_fields(block, ("type", "text", "citations"), IDLE)
    return block.required_text("text")


def _joined(texts: list[str], path: str, notes: Notes) -> str:
    if len(texts) > 1:
        notes.changed(path, "the text blocks are joined with blank lines")
    return SEPARATOR.join(texts)


class History:
    """Reads messages sequentially.

    Attributes:
        messages: The messages so far.
        calls: The calls so far.

    Args:
        names: The names of the client's functions; `None` keeps names as they are.
        notes: Gets what is not carried over.
        store: Has the reasoning before calls, for clients that do not send it back.
    """

    def __init__(
        self, names: ToolNames | None, notes: Notes, store: ResponseStore | None = None
    ) -> None:
        self.messages: list[Message] = []
        self.calls = CallIds(notes)
        self._names = names
        self._notes = notes
        self._store = store
        self._order: dict[str, int] = {}
        self._answered: set[str] = set()
        self._reasoning_position = 0  # of the reasoning before the next call

    def read(self, node: JsonObject) -> None:
        """Read a message."""
        role = node.choice("role", ("user", "assistant", "system"))
        if role is None:
            raise node.error("role", "missing")
        if not node.has("content"):
            raise node.error("content", "missing")
        self._notes.unknown_fields(node, ("role", "content"))
        if role == "user":
            self._user(node)
        elif role == "assistant":
            self.assistant(node)
        else:
            content = DeveloperContent(instructions=text_of(node, "content", self._notes))
            self.messages.append(Message(Role.DEVELOPER, content))

    # --- The user and the results of tools ---

    def _user(self, node: JsonObject) -> None:
        texts: list[str] = []
        results: list[tuple[int, Message]] = []
        for block in blocks_of(node, "content"):
            kind = block.required_text("type")
            if kind == "text":
                self._flush_results(results)
                texts.append(_block_text(block, self._notes))
            elif kind == "tool_result":
                self._flush_texts(texts, node)
                results.append(self._result(block))
            else:
                self._notes.lost(block.path, f"a {kind} block is not supported")
        self._flush_results(results)
        self._flush_texts(texts, node)
        self.calls.close()

    def _flush_texts(self, texts: list[str], node: JsonObject) -> None:
        if texts:
            text = _joined(texts, node.at("content"), self._notes)
            self.messages.append(Message(Role.USER, text))
            texts.clear()

    def _flush_results(self, results: list[tuple[int, Message]]) -> None:
        # Harmony has no ids: results of calls of one tool are distinguished by their order.
        results.sort(key=lambda result: result[0])
        self.messages += [message for _, message in results]
        results.clear()

    def _result(self, block: JsonObject) -> tuple[int, Message]:
        """The position of the call, and its result."""
        known = ("type", "tool_use_id", "content", "is_error")
        self._notes.unknown_fields(block, known, (*IDLE, "toolset_name"))
        order, recipient = self._call(block)
        text = text_of(block, "content", self._notes) or ""
        if block.boolean("is_error"):
            self._notes.changed(block.at("is_error"), f"the result begins with {ERROR!r}")
            text = text if text.startswith(ERROR.strip()) else ERROR + text
        return order, result_message(recipient, text)

    def _call(self, block: JsonObject) -> tuple[int, str]:
        """The position and the tool of the call whose result a block is."""
        call_id = block.required_text("tool_use_id")
        if call_id in self._answered:
            raise block.error("tool_use_id", f"a second result of the call {call_id!r}")
        self._answered.add(call_id)
        recipient = self.calls.answered(call_id, block, "tool_use_id")
        return self._order[call_id], recipient

    # --- The assistant ---

    def assistant(self, node: JsonObject) -> None:
        """Read a message of the assistant."""
        self._reasoning_position = len(self.messages)
        blocks = list(blocks_of(node, "content"))
        kinds = [block.required_text("type") for block in blocks]
        calls = [i for i, kind in enumerate(kinds) if kind in ("tool_use", "server_tool_use")]
        last_call = calls[-1] if calls else -1
        for index, block in enumerate(blocks):
            # The answer ends a turn: text before a call is a preamble.
            channel = Channel.COMMENTARY if index < last_call else Channel.FINAL
            self._assistant_block(block, kinds[index], channel)

    def _assistant_block(self, block: JsonObject, kind: str, channel: Channel) -> None:
        notes = self._notes
        if kind == "text":
            text = _block_text(block, notes)
            self.messages.append(Message(Role.ASSISTANT, text, channel=channel))
        elif kind == "thinking":
            # The signature proves that the reasoning is the model's own; it is read without one.
            notes.unknown_fields(block, ("type", "thinking", "signature"), IDLE)
            text = block.required_text("thinking")
            self.messages.append(Message(Role.ASSISTANT, text, channel=Channel.ANALYSIS))
        elif kind == "redacted_thinking":
            notes.lost(block.path, "encrypted reasoning cannot be read")
        elif kind in ("tool_use", "server_tool_use"):
            self._tool_use(block, kind)
        elif kind == "code_execution_tool_result":
            self._code_result(block)
        else:
            notes.lost(block.path, f"a {kind} block is not supported")

    def _tool_use(self, block: JsonObject, kind: str) -> None:
        known = ("type", "id", "name", "input")
        self._notes.unknown_fields(block, known, (*IDLE, "caller", "toolset_name"))
        call_id, name = block.required_text("id"), block.required_text("name")
        value: dict[str, Any] = dict(block.required_node("input").value)
        if kind == "tool_use":
            recipient = recipient_of(name, self._names)
        elif name in SERVER_RECIPIENTS:
            recipient = SERVER_RECIPIENTS[name]
        else:
            return self._notes.lost(block.path, f"the model has no tool like {name}")
        self._restore_reasoning(block, call_id)
        self.calls.add(call_id, recipient, block.path)
        self._order[call_id] = len(self._order)
        self._answered.discard(call_id)
        self.messages.append(call_message(recipient, value))
        self._reasoning_position = len(self.messages)
        return None

    def _restore_reasoning(self, block: JsonObject, call_id: str) -> None:
        """Add the reasoning that led to a call, if the client did not send it back."""
        position = self._reasoning_position
        if self._store is None or any(
            kind_of(message.header) is Kind.REASONING for message in self.messages[position:]
        ):
            return
        reasoning = self._store.reasoning(call_id)
        if reasoning is not None:
            self._notes.changed(block.path, "the reasoning before it was taken from the store")
            message = Message(Role.ASSISTANT, reasoning, channel=Channel.ANALYSIS)
            self.messages.insert(position, message)

    def _code_result(self, block: JsonObject) -> None:
        """The output of code, which is all that a result of the python tool has."""
        self._notes.unknown_fields(block, ("type", "tool_use_id", "content"), IDLE)
        content = block.required_node("content")
        if content.required_text("type") != "code_execution_result":
            return self._notes.lost(content.path, "only plain output of code is supported")
        if content.get("content"):
            self._notes.lost(content.at("content"), "files are not supported")
        if content.integer("return_code"):
            self._notes.changed(content.at("return_code"), "only the output is carried")
        _, recipient = self._call(block)
        output = (content.text("stdout") or "") + (content.text("stderr") or "")
        self.messages.append(result_message(recipient, output))
        self._reasoning_position = len(self.messages)
        return None
