"""Writes conversations as requests of the Messages API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..._options import checked_options
from ...errors import RequestError
from ...sampling import SamplingParams
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import (
    DeveloperContent,
    Part,
    ResponseFormat,
    SystemContent,
    Tool,
    ToolNamespace,
)
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, MODEL_IDENTITY, Channel, Role
from .._names import OWN_NAMES, ToolNames
from .._request import with_limit
from ._blocks import Blocks, input_of
from ._history import SEPARATOR

_SERVER_TOOLS: Final = {
    BROWSER: {"type": "web_search_20250305", "name": "web_search"},
    PYTHON: {"type": "code_execution_20250522", "name": "code_execution"},
}
_DEFAULT_STOP: Final = SamplingParams().stop_tokens


DEFAULT_MAX_TOKENS: Final = 4096
"""The limit in requests without one: the API requires it."""


@checked_options
def write_request(
    messages: Iterable[Message],
    *,
    model: str,
    max_tokens: int | None = None,
    sampling: SamplingParams | None = None,
    names: ToolNames = OWN_NAMES,
) -> dict[str, Any]:
    """Write a conversation as a request of the Messages API.

    Ids of calls are derived from the positions of the messages; a result answers the first open
    call of its tool. Of the system message the reasoning effort and the tools are written: its
    dates and channels are up to the server.

    Args:
        messages: The conversation.
        model: The model to request.
        max_tokens: The limit on generated tokens; by default that of `sampling`, or 4096, since the
            API requires one.
        sampling: How to generate.
        names: The client's names of the functions, if they differ from those in `messages`.

    Raises:
        RequestError: The API cannot represent something; the error names the message.

    Example:
        >>> from harmony_kit import system, user
        >>> conversation = [system(reasoning_effort="low"), user("Hi")]
        >>> write_request(conversation, model="gpt-oss", max_tokens=50)
        ... # doctest: +NORMALIZE_WHITESPACE
        {'model': 'gpt-oss', 'max_tokens': 50,
         'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}],
         'output_config': {'effort': 'low'}}
    """
    writer = _Writer(names)
    for index, message in enumerate(messages):
        writer.write(index, message)
    chosen = with_limit(sampling, max_tokens)
    limit = chosen.max_tokens or DEFAULT_MAX_TOKENS
    return {"model": model, "max_tokens": limit, **writer.body(), **_sampling(chosen)}


@checked_options
def write_messages(
    messages: Iterable[Message], *, names: ToolNames = OWN_NAMES
) -> list[dict[str, Any]]:
    """Write messages as those of the Messages API.

    Args:
        messages: The messages. Of the system and developer messages only the instructions are
            written: tools and settings are fields of the request.
        names: The client's names of the functions, if they differ from those in `messages`.

    Raises:
        RequestError: The API cannot represent something; the error names the message.

    Example:
        >>> from harmony_kit import developer, user
        >>> write_messages([developer("Be brief."), user("Hi")])  # doctest: +NORMALIZE_WHITESPACE
        [{'role': 'system', 'content': [{'type': 'text', 'text': 'Be brief.'}]},
         {'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}]
    """
    writer = _Writer(names)
    for index, message in enumerate(messages):
        writer.write(index, message)
    return writer.all_messages()


def _sampling(sampling: SamplingParams) -> dict[str, Any]:
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if getattr(sampling, name):
            raise RequestError("the API has no such field", path=f"sampling.{name}")
    if sampling.stop_tokens != _DEFAULT_STOP:
        raise RequestError("the API has no stop tokens", path="sampling.stop_tokens")
    fields = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    fields["stop_sequences"] = list(sampling.stop) or None  # type: ignore[assignment]
    return {key: value for key, value in fields.items() if value is not None}


class _Writer:
    """Writes messages sequentially."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self._messages: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._tools: list[dict[str, Any]] = []
        self._output: dict[str, Any] = {}
        self._open_calls: list[tuple[str, str]] = []  # recipients and ids
        self._takes_results = False

    def body(self) -> dict[str, Any]:
        """The fields of the request."""
        fields: dict[str, Any] = {"messages": self._messages}
        if self._texts:
            fields["system"] = SEPARATOR.join(self._texts)
        if self._tools:
            fields["tools"] = self._tools
        if self._output:
            fields["output_config"] = self._output
        return fields

    def all_messages(self) -> list[dict[str, Any]]:
        """The messages, the instructions at the start included."""
        leading = [_instructions(self._texts)] if self._texts else []
        return [*leading, *self._messages]

    def write(self, index: int, message: Message) -> None:
        """Write a message."""
        place = f"messages[{index}]"
        if message.role in (Role.SYSTEM, Role.DEVELOPER):
            self._instructions(message, place)
        elif message.role is Role.USER:
            _refuse(message, place, "name", "channel", "recipient", "content_type")
            block = {"type": "text", "text": message.text}
            self._messages.append({"role": "user", "content": [block]})
            self._takes_results = False
        elif message.role is Role.TOOL:
            self._result(message, place)
        else:
            self._assistant(index, message, place)

    # --- Instructions and tools ---

    def _instructions(self, message: Message, place: str) -> None:
        _refuse(message, place, "name", "channel", "recipient", "content_type")
        content = message.content
        parts = content if isinstance(content, tuple) else (content,)
        texts = [text for part in parts if (text := self._part(part, place)) is not None]
        if not self._messages:
            self._texts += texts
        elif texts:
            self._messages.append(_instructions(texts))
            self._takes_results = False

    def _part(self, part: Part, place: str) -> str | None:
        if isinstance(part, str):
            return part
        for space in part.tools:
            self._tools += _declarations(space, self._names, place)
        if isinstance(part, DeveloperContent):
            for shape in part.response_formats:
                self._format(shape, place)
            return part.instructions
        if part.model_identity not in (None, MODEL_IDENTITY):
            raise RequestError("not supported", path=f"{place}.content.model_identity")
        self._effort(part)
        return None

    def _effort(self, content: SystemContent) -> None:
        if content.reasoning_effort is not None:
            self._output["effort"] = content.reasoning_effort.value

    def _format(self, shape: ResponseFormat, place: str) -> None:
        path = f"{place}.content.response_formats"
        if "format" in self._output:
            raise RequestError("the API takes one format", path=path)
        if shape.description is not None:
            raise RequestError("the API has no descriptions of formats", path=path)
        schema = shape.schema if isinstance(shape.schema, dict) else _schema(shape.schema)
        self._output["format"] = {"type": "json_schema", "schema": schema}

    # --- The assistant and the results of tools ---

    def _assistant(self, index: int, message: Message, place: str) -> None:
        _refuse(message, place, "name")
        header = message.header
        if header.channel is None and not header.is_call:
            header = header._replace(channel=Channel.FINAL)
        block = Blocks(str(index), self._names).begin(header)
        if block is None:
            raise RequestError("the API has no place for this channel", path=f"{place}.channel")
        if header.is_call:
            self._open_calls.append((header.recipient or "", block["id"]))
            block["input"] = input_of(message.recipient, message.text)
        else:
            block[block["type"]] = message.text
        self._assistant_blocks().append(block)

    def _assistant_blocks(self) -> list[dict[str, Any]]:
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages.append({"role": "assistant", "content": []})
        self._takes_results = False
        blocks: list[dict[str, Any]] = self._messages[-1]["content"]
        return blocks

    def _result(self, message: Message, place: str) -> None:
        if message.recipient not in (None, "assistant", "all"):
            raise RequestError("not supported", path=f"{place}.recipient")
        _refuse(message, place, "content_type")
        open_calls = [call for call in self._open_calls if call[0] == message.name]
        if not open_calls:
            raise RequestError(f"no open call of {message.name!r}", path=f"{place}.name")
        self._open_calls.remove(open_calls[0])
        made = open_calls[0][1]
        if message.name == PYTHON.name:
            self._assistant_blocks().append(_code_result(made, message.text))
            return
        if not self._takes_results:
            self._messages.append({"role": "user", "content": []})
            self._takes_results = True
        block = {"type": "tool_result", "tool_use_id": made, "content": message.text}
        self._messages[-1]["content"].append(block)


def _refuse(message: Message, place: str, *fields: str) -> None:
    for name in fields:
        if getattr(message, name) is not None:
            raise RequestError("the API has no such field", path=f"{place}.{name}")


def _code_result(made: str, output: str) -> dict[str, Any]:
    content = {
        "type": "code_execution_result",
        "stdout": output,
        "stderr": "",
        "return_code": 0,
        "content": [],
    }
    return {"type": "code_execution_tool_result", "tool_use_id": made, "content": content}


def _instructions(texts: list[str]) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": "text", "text": text} for text in texts]}


def _declarations(namespace: ToolNamespace, names: ToolNames, place: str) -> list[dict[str, Any]]:
    if namespace in _SERVER_TOOLS:
        return [dict(_SERVER_TOOLS[namespace])]
    if namespace.name != FUNCTIONS or namespace.description is not None:
        reason = f"the API cannot declare the namespace {namespace.name!r}"
        raise RequestError(reason, path=f"{place}.content.tools")
    return [_declaration(tool, names) for tool in namespace.tools]


def _declaration(tool: Tool, names: ToolNames) -> dict[str, Any]:
    fields = {"name": names.to_client(tool.name), "input_schema": _schema(tool.parameters)}
    return {**fields, "description": tool.description} if tool.description else fields


def _schema(schema: Any) -> dict[str, Any]:
    """A JSON Schema as an object, which the API requires."""
    if schema is None:
        return {"type": "object", "properties": {}}
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    found: dict[str, Any] = schema
    return found
