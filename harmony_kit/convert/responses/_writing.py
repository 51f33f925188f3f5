"""Writes conversations as requests of the Responses API."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any, Final

from ..._options import checked_options
from ...errors import RequestError
from ...sampling import SamplingParams
from ...wire._builtin_tools import BROWSER, PYTHON
from ...wire._contents import DeveloperContent, ResponseFormat, SystemContent, ToolNamespace
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Role
from .._names import OWN_NAMES, ToolNames
from .._reply import Kind
from .._request import with_limit
from ._output import Item, Items
from ._request import JSON_OBJECT

# The API's fields by sampling parameter.
_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_output_tokens",
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
    """Write a conversation as a request of the Responses API.

    Of the system message the reasoning effort and the built-in tools are written: its identity,
    dates and channels are up to the server.

    Args:
        messages: The conversation.
        model: The model to request.
        max_tokens: The limit on generated tokens; by default that of `sampling`.
        sampling: How to generate. Stop tokens are up to the server.
        names: The client's names of the functions, if they differ from those in `messages`.

    Raises:
        RequestError: The API cannot represent something; the error names the message.

    Example:
        >>> from harmony_kit import system, user
        >>> conversation = [system(reasoning_effort="low"), user("Hi")]
        >>> write_request(conversation, model="gpt-oss", max_tokens=50)
        ... # doctest: +NORMALIZE_WHITESPACE
        {'model': 'gpt-oss', 'reasoning': {'effort': 'low'},
         'input': [{'type': 'message', 'role': 'user', 'content': 'Hi'}], 'max_output_tokens': 50}
    """
    writer = _Writer(names)
    for index, message in enumerate(messages):
        writer.add(message, f"messages[{index}]")
    request: dict[str, Any] = {"model": model, **writer.fields, "input": writer.items}
    if writer.tools:
        request["tools"] = writer.tools
    return request | _sampling(with_limit(sampling, max_tokens))


@checked_options
def write_messages(
    messages: Iterable[Message], *, names: ToolNames = OWN_NAMES
) -> list[dict[str, Any]]:
    """Write messages as input items of the Responses API.

    Args:
        messages: The messages. Of the system and developer messages only the instructions are
            written: tools and settings are fields of the request.
        names: The client's names of the functions, if they differ from those in `messages`.

    Raises:
        RequestError: The API cannot represent something; the error names the message.

    Example:
        >>> from harmony_kit import developer, user
        >>> write_messages([developer("Be brief."), user("Hi")])  # doctest: +NORMALIZE_WHITESPACE
        [{'type': 'message', 'role': 'developer', 'content': 'Be brief.'},
         {'type': 'message', 'role': 'user', 'content': 'Hi'}]
    """
    writer = _Writer(names)
    for index, message in enumerate(messages):
        writer.add(message, f"messages[{index}]")
    instructions = writer.fields.get("instructions")
    if instructions is None:
        return writer.items
    return [{"type": "message", "role": "developer", "content": instructions}, *writer.items]


def _sampling(sampling: SamplingParams) -> dict[str, Any]:
    for name in ("seed", "stop", "frequency_penalty", "presence_penalty"):
        if getattr(sampling, name) not in (None, ()):
            raise RequestError("the API has no such field", path=f"sampling.{name}")
    values = {theirs: getattr(sampling, ours) for ours, theirs in _SAMPLING.items()}
    return {key: value for key, value in values.items() if value is not None}


class _Writer:
    """Collects the parts of a request."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self.fields: dict[str, Any] = {}
        self.items: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self._output = Items("history", None, names)
        self._has_begun = False  # whether there was a message
        self._has_opened = False  # whether an item or the instructions are written
        # The ids of the calls that await a result, by the full name of the function.
        self._awaiting: defaultdict[str, deque[str]] = defaultdict(deque)

    def add(self, message: Message, path: str) -> None:
        content = message.content
        is_first, self._has_begun = not self._has_begun, True
        if isinstance(content, SystemContent) and is_first:
            self._add_system(content, path)
        elif isinstance(content, DeveloperContent):
            self._add_developer(content, path)
        elif isinstance(content, tuple | SystemContent) and not _is_text(content):
            raise RequestError("the API cannot carry this content here", path=f"{path}.content")
        elif message.role is Role.ASSISTANT:
            self._add_output(message, path)
        elif message.role is Role.TOOL:
            self._add_result(message, path)
        else:
            self._add_text(message.role, message.text, message.name, path)

    def _add_system(self, content: SystemContent, path: str) -> None:
        if content.reasoning_effort is not None:
            self.fields["reasoning"] = {"effort": content.reasoning_effort.value}
        for namespace in content.tools:
            if namespace == BROWSER:
                self.tools.append({"type": "web_search"})
            elif namespace == PYTHON:
                self.tools.append({"type": "code_interpreter", "container": {"type": "auto"}})
            else:
                self._refuse_namespace(namespace, path)

    def _add_developer(self, content: DeveloperContent, path: str) -> None:
        if self._has_opened:
            if content.tools or content.response_formats:
                reason = "tools and formats can be declared only once, at the beginning"
                raise RequestError(reason, path=f"{path}.content")
            self._add_text(Role.DEVELOPER, content.instructions or "", None, path)
            return
        self._has_opened = True
        if content.instructions is not None:
            self.fields["instructions"] = content.instructions
        for namespace in content.tools:
            if namespace.name != FUNCTIONS or namespace.description is not None:
                self._refuse_namespace(namespace, path)
            self.tools += [
                {
                    "type": "function",
                    "name": self._names.to_client(tool.name),
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": False,
                }
                for tool in namespace.tools
            ]
        if len(content.response_formats) > 1:
            raise RequestError("the API takes one format", path=f"{path}.content.response_formats")
        for response_format in content.response_formats:
            self.fields["text"] = {"format": _format(response_format)}

    def _refuse_namespace(self, namespace: ToolNamespace, path: str) -> None:
        reason = f"the API cannot declare the namespace {namespace.name!r}"
        raise RequestError(reason, path=f"{path}.content.tools")

    def _add_text(self, role: Role, text: str, name: str | None, path: str) -> None:
        if name is not None:
            raise RequestError("the API has no names of authors", path=f"{path}.name")
        self._has_opened = True
        self.items.append({"type": "message", "role": role.value, "content": text})

    def _add_output(self, message: Message, path: str) -> None:
        self._has_opened = True
        header = message.header
        if header.channel is None and not header.is_call:
            # Text of the model without a channel is its answer.
            header = header._replace(channel=Kind.FINAL.value)
        item = self._output.begin(header)
        if item is None:
            reason = f"the API has no place for the channel {message.channel!r}"
            raise RequestError(reason, path=f"{path}.channel")
        data = self._input_data(item, message.text)
        if item.callee is not None and item.type == "function_call":
            recipient = message.recipient or ""
            is_full = recipient.startswith(f"{FUNCTIONS}.")
            full_name = recipient if is_full else item.callee.full_name
            self._awaiting[full_name].append(item.call_id)
        self.items.append(data)

    def _input_data(self, item: Item, content: str) -> dict[str, Any]:
        data = item.data(content, "completed")
        if item.type == "code_interpreter_call":
            data["outputs"] = []
        return data

    def _add_result(self, message: Message, path: str) -> None:
        name = message.name or ""
        last = self.items[-1] if self.items else {}
        if name == PYTHON.name and last.get("type") == "code_interpreter_call":
            # Results are part of such a call; those of an earlier call cannot be written.
            last["outputs"].append({"type": "logs", "logs": message.text})
            return
        waiting = self._awaiting[name]
        if not waiting:
            raise RequestError(f"no function call of {name!r} awaits a result", path=path)
        call_id = waiting.popleft()
        item = {"type": "function_call_output", "call_id": call_id, "output": message.text}
        self.items.append(item)


def _is_text(content: Any) -> bool:
    return isinstance(content, tuple) and all(isinstance(part, str) for part in content)


def _format(response_format: ResponseFormat) -> dict[str, Any]:
    if response_format == JSON_OBJECT:
        return {"type": "json_object"}
    written: dict[str, Any] = {
        "type": "json_schema",
        "name": response_format.name,
        "schema": response_format.schema,
    }
    if response_format.description is not None:
        written["description"] = response_format.description
    return written
