"""Conversations of Harmony as requests of the Messages API."""

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
from ...wire._messages import Header, Message
from ...wire._roles import FUNCTIONS, MODEL_IDENTITY, Channel, Role
from ._blocks import NO_NAMES, call_id, client_tool, input_of, opening_block
from ._history import SEPARATOR

_SERVER_TOOLS: Final = {
    BROWSER: {"type": "web_search_20250305", "name": "web_search"},
    PYTHON: {"type": "code_execution_20250522", "name": "code_execution"},
}
_DEFAULT_STOP: Final = SamplingParams().stop_tokens


@checked_options
def write_request(
    messages: Iterable[Message],
    *,
    model: str,
    max_tokens: int,
    sampling: SamplingParams | None = None,
) -> dict[str, Any]:
    """Write a conversation as a request of the API.

    Ids of calls come of the positions of the messages; a result answers the first open call
    of its tool. Of the system message the reasoning effort and the tools are written; dates
    and channels are the business of whoever renders the prompt. Functions keep the names of
    the prompt.

    Args:
        messages: The conversation.
        model: The name of the model.
        max_tokens: The most tokens to generate, in place of that of `sampling`.
        sampling: How to generate.

    Returns:
        The request as JSON data.

    Raises:
        RequestError: A message has what the API cannot carry; the error names the place.
    """
    writer = _Writer()
    for index, message in enumerate(messages):
        writer.write(index, message)
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, **writer.body()}
    if sampling is not None:
        body |= _sampling(sampling)
    return body


def _sampling(sampling: SamplingParams) -> dict[str, Any]:
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if getattr(sampling, name):
            raise RequestError("the API has no such field", path=f"sampling.{name}")
    if sampling.stop_tokens != _DEFAULT_STOP:
        raise RequestError("the API stops at texts alone", path="sampling.stop_tokens")
    fields = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    fields["stop_sequences"] = list(sampling.stop) or None  # type: ignore[assignment]
    return {key: value for key, value in fields.items() if value is not None}


class _Writer:
    """Writes messages, one after the other."""

    def __init__(self) -> None:
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
            blocks = [{"type": "text", "text": text} for text in texts]
            self._messages.append({"role": "system", "content": blocks})
            self._takes_results = False

    def _part(self, part: Part, place: str) -> str | None:
        if isinstance(part, str):
            return part
        self._tools += [tool for space in part.tools for tool in _declarations(space, place)]
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
            raise RequestError("the API has one format of the answer", path=path)
        if shape.description is not None:
            raise RequestError("the API has no description of formats", path=path)
        schema = shape.schema if isinstance(shape.schema, dict) else _schema(shape.schema)
        self._output["format"] = {"type": "json_schema", "schema": schema}

    # --- The assistant and the results of tools ---

    def _assistant(self, index: int, message: Message, place: str) -> None:
        _refuse(message, place, "name")
        header = message.header
        if header.channel is None and not header.is_call:
            header = header._replace(channel=Channel.FINAL)
        block = opening_block(header, message_id=str(index), calls=0, names=NO_NAMES)
        if block is None:
            raise RequestError("no client sees this channel", path=f"{place}.channel")
        if header.is_call:
            block["id"] = self._call(index, header)
            block["input"] = input_of(message.recipient, message.text)
        else:
            block[block["type"]] = message.text
        self._assistant_blocks().append(block)

    def _call(self, index: int, header: Header) -> str:
        recipient = header.recipient or ""
        made = call_id(str(index), 0, client_tool(recipient, NO_NAMES).type)
        self._open_calls.append((recipient, made))
        return made

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


def _declarations(namespace: ToolNamespace, place: str) -> list[dict[str, Any]]:
    if namespace in _SERVER_TOOLS:
        return [dict(_SERVER_TOOLS[namespace])]
    if namespace.name != FUNCTIONS or namespace.description is not None:
        reason = f"the API cannot declare the namespace {namespace.name!r}"
        raise RequestError(reason, path=f"{place}.content.tools")
    return [_declaration(tool) for tool in namespace.tools]


def _declaration(tool: Tool) -> dict[str, Any]:
    fields = {"name": tool.name, "input_schema": _schema(tool.parameters)}
    return {**fields, "description": tool.description} if tool.description else fields


def _schema(schema: Any) -> dict[str, Any]:
    """A JSON Schema as an object, which the API asks for."""
    if schema is None:
        return {"type": "object", "properties": {}}
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    found: dict[str, Any] = schema
    return found
