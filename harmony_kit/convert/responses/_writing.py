"""Conversations as requests of the Responses API."""

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
from .._reply import Kind
from ._output import Item, Items
from ._request import JSON_OBJECT

# What the API says of sampling, by our words.
_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_output_tokens",
}


@checked_options
def write_request(
    messages: Iterable[Message], *, model: str, sampling: SamplingParams | None = None
) -> dict[str, Any]:
    """A conversation as a request.

    The identity of the model, its dates and its channels are the server's to say; of the
    system message, the reasoning effort and the built-in tools are written. A function keeps
    the name that it has in the prompt.

    Args:
        messages: The conversation.
        model: The model to ask for.
        sampling: How to generate; stop tokens are the server's to choose.

    Raises:
        RequestError: The API has no word for something; the error says for which message.
    """
    writer = _Writer()
    for index, message in enumerate(messages):
        writer.add(message, f"messages[{index}]")
    request: dict[str, Any] = {"model": model, **writer.fields, "input": writer.items}
    if writer.tools:
        request["tools"] = writer.tools
    return request | _sampling(sampling or SamplingParams())


def _sampling(sampling: SamplingParams) -> dict[str, Any]:
    for name in ("seed", "stop", "frequency_penalty", "presence_penalty"):
        if getattr(sampling, name) not in (None, ()):
            raise RequestError("the API has no such field", path=f"sampling.{name}")
    values = {theirs: getattr(sampling, ours) for ours, theirs in _SAMPLING.items()}
    return {key: value for key, value in values.items() if value is not None}


class _Writer:
    """Collects the parts of a request."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.items: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self._output = Items("history", None)
        self._has_begun = False  # whether there was a message
        self._has_opened = False  # whether something was said that instructions cannot follow
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
            raise RequestError("a content that the API cannot carry here", path=f"{path}.content")
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
                    "name": tool.name,
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
            # Without a channel, what the model wrote is its answer.
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
            # Such a call has its results with it; those of one before cannot follow later.
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
