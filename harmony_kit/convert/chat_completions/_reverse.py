"""Messages of Harmony as a request of Chat Completions, for any endpoint that speaks it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..._options import checked_options
from ...errors import InvalidMessageError
from ...sampling import SamplingParams
from ...wire._contents import DeveloperContent, ResponseFormat, SystemContent, Tool
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Role
from .._names import ToolNames
from .._reply import Kind, kind_of

_OWN_NAMES = ToolNames()
_SAMPLING = {
    "max_tokens": "max_completion_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}


@checked_options
def write_request(
    messages: Iterable[Message],
    *,
    model: str,
    sampling: SamplingParams | None = None,
    names: ToolNames = _OWN_NAMES,
) -> dict[str, Any]:
    """A conversation as a request of Chat Completions.

    What the system message says besides the reasoning effort (identity, dates, built-in tools)
    is the business of whoever renders the request, and is left out.

    Args:
        messages: The conversation.
        model: The model to ask.
        sampling: How to generate.
        names: The client's names of the functions, where they have others.

    Raises:
        InvalidMessageError: A message has no place in a request: a tool's message that answers
            no call before it.
    """
    conversation = tuple(messages)
    body: dict[str, Any] = {"model": model, "messages": write_messages(conversation, names=names)}
    tools: list[Tool] = []
    formats: list[ResponseFormat] = []
    for part in _parts(conversation):
        if isinstance(part, SystemContent) and part.reasoning_effort is not None:
            body["reasoning_effort"] = part.reasoning_effort.value
        elif isinstance(part, DeveloperContent):
            tools += [t for n in part.tools if n.name == FUNCTIONS for t in n.tools]
            formats += part.response_formats
    if tools:
        body["tools"] = [_tool(tool, names) for tool in tools]
    if formats:
        body["response_format"] = _response_format(formats[-1])
    if sampling is not None:
        body |= {
            name: getattr(sampling, field)
            for field, name in _SAMPLING.items()
            if getattr(sampling, field) is not None
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
    return body


def _parts(messages: Iterable[Message]) -> Iterable[Any]:
    for message in messages:
        content = message.content
        yield from content if isinstance(content, tuple) else (content,)


def _tool(tool: Tool, names: ToolNames) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.to_client(tool.name)}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json is not None:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _response_format(shape: ResponseFormat) -> dict[str, Any]:
    if shape.name == "json_object" and shape.schema == {"type": "object"}:
        return {"type": "json_object"}
    schema = {"name": shape.name, "schema": shape.schema}
    if shape.description is not None:
        schema["description"] = shape.description
    return {"type": "json_schema", "json_schema": schema}


# --- Messages -------------------------------------------------------------------------------


@checked_options
def write_messages(
    messages: Iterable[Message], *, names: ToolNames = _OWN_NAMES
) -> list[dict[str, Any]]:
    """Messages of Harmony as those of Chat Completions.

    Consecutive messages of the assistant become one, up to the answer. Calls get the ids
    `call_0`, `call_1` and so on; a tool's message answers the first call of that tool that was
    not answered.

    Args:
        messages: The messages.
        names: The client's names of the functions, where they have others.

    Raises:
        InvalidMessageError: A tool's message answers no call before it.
    """
    writer = _Writer(names)
    for index, message in enumerate(messages):
        writer.add(message, index)
    return writer.written


class _Writer:
    """Writes messages one after the other."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self.written: list[dict[str, Any]] = []
        self._open: dict[str, list[str]] = {}  # ids of calls without answer, by recipient
        self._calls = 0
        self._turn: dict[str, Any] | None = None  # the assistant's message that may go on

    def add(self, message: Message, index: int) -> None:
        """Write one message more."""
        if message.role is Role.ASSISTANT:
            self._add_assistant(message)
            return
        self._turn = None
        if message.role is Role.TOOL:
            ids = self._open.get(message.name or "")
            if not ids:
                reason = f"answers no call of {message.name} before it"
                raise InvalidMessageError(reason, field="name", index=index)
            answer = {"role": "tool", "tool_call_id": ids.pop(0), "content": message.text}
            self.written.append(answer)
        elif message.role is Role.USER:
            named = {} if message.name is None else {"name": message.name}
            self.written.append({"role": "user", "content": message.text, **named})
        else:
            self._add_instructions(message)

    def _add_instructions(self, message: Message) -> None:
        content = message.content
        for part in content if isinstance(content, tuple) else (content,):
            text = part.instructions if isinstance(part, DeveloperContent) else part
            if isinstance(text, str):
                self.written.append({"role": message.role.value, "content": text})

    def _add_assistant(self, message: Message) -> None:
        kind = kind_of(message.header)
        turn = self._turn
        if turn is None or self._is_full(turn, kind):
            turn = self._turn = {"role": "assistant", "content": None}
            self.written.append(turn)
        if kind is Kind.CALL:
            turn.setdefault("tool_calls", []).append(self._call(message))
        elif kind in (Kind.REASONING, Kind.HIDDEN):
            turn["reasoning_content"] = message.text
        else:
            turn["content"] = message.text
            if kind is Kind.FINAL:
                self._turn = None

    def _is_full(self, turn: dict[str, Any], kind: Kind) -> bool:
        """Whether a message has what comes next already, or what can only come after it."""
        if kind is Kind.CALL:
            return False
        if "tool_calls" in turn or turn["content"] is not None:
            return True
        return kind is Kind.REASONING and "reasoning_content" in turn

    def _call(self, message: Message) -> dict[str, Any]:
        call_id = f"call_{self._calls}"
        self._calls += 1
        recipient = message.recipient or ""
        self._open.setdefault(recipient, []).append(call_id)
        name = self._names.to_client(recipient.removeprefix(f"{FUNCTIONS}."))
        function = {"name": name, "arguments": message.text}
        return {"id": call_id, "type": "function", "function": function}
