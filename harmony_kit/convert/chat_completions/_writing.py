"""Writes conversations as requests of Chat Completions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..._options import checked_options
from ...errors import RequestError
from ...sampling import SamplingParams
from ...wire._contents import DeveloperContent, ResponseFormat, SystemContent, Tool
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Role
from .._names import OWN_NAMES, ToolNames
from .._reply import Kind, kind_of
from .._request import with_limit

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
    max_tokens: int | None = None,
    sampling: SamplingParams | None = None,
    names: ToolNames = OWN_NAMES,
) -> dict[str, Any]:
    """Write a conversation as a request of Chat Completions.

    Of the system message only the reasoning effort is written: its identity, dates and built-in
    tools are up to the server.

    Args:
        messages: The conversation.
        model: The model to request.
        max_tokens: The limit on generated tokens; by default that of `sampling`.
        sampling: How to generate.
        names: The client's names of the functions, if they differ from those in `messages`.

    Raises:
        RequestError: The result of a tool has no call before it.

    Example:
        >>> from harmony_kit import system, user
        >>> conversation = [system(reasoning_effort="low"), user("Hi")]
        >>> write_request(conversation, model="gpt-oss", max_tokens=50)
        ... # doctest: +NORMALIZE_WHITESPACE
        {'model': 'gpt-oss', 'messages': [{'role': 'user', 'content': 'Hi'}],
         'reasoning_effort': 'low', 'max_completion_tokens': 50}
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
    chosen = with_limit(sampling, max_tokens)
    body |= {
        name: getattr(chosen, field)
        for field, name in _SAMPLING.items()
        if getattr(chosen, field) is not None
    }
    if chosen.stop:
        body["stop"] = list(chosen.stop)
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
    messages: Iterable[Message], *, names: ToolNames = OWN_NAMES
) -> list[dict[str, Any]]:
    """Write messages as those of Chat Completions.

    Consecutive messages of the assistant become one, which ends with the answer. Calls get the ids
    `call_0`, `call_1` and so on; the result of a tool answers the first open call of that tool.

    Args:
        messages: The messages.
        names: The client's names of the functions, if they differ from those in `messages`.

    Raises:
        RequestError: The result of a tool has no call before it.

    Example:
        >>> from harmony_kit import developer, user
        >>> write_messages([developer("Be brief."), user("Hi")])
        [{'role': 'developer', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    """
    writer = _Writer(names)
    for index, message in enumerate(messages):
        writer.add(message, index)
    return writer.written


class _Writer:
    """Writes messages sequentially."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self.written: list[dict[str, Any]] = []
        self._open: dict[str, list[str]] = {}  # ids of calls without a result, by recipient
        self._calls = 0
        self._turn: dict[str, Any] | None = None  # the message of the assistant that may continue

    def add(self, message: Message, index: int) -> None:
        """Write a message."""
        if message.role is Role.ASSISTANT:
            self._add_assistant(message)
            return
        self._turn = None
        if message.role is Role.TOOL:
            ids = self._open.get(message.name or "")
            if not ids:
                reason = f"no open call of {message.name!r}"
                raise RequestError(reason, path=f"messages[{index}].name")
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
        """Whether the message already has this kind, or one that must come after it."""
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
