"""What a request of any API comes to: messages of Harmony, tools, sampling, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from ..errors import InvalidMessageError, RequestError
from ..messages import (
    FUNCTIONS,
    Channel,
    DeveloperContent,
    Message,
    ReasoningEffort,
    ResponseFormat,
    Role,
    SystemContent,
    Tool,
    ToolNamespace,
    trusted_message,
)
from ..render import DropAnalysis, render
from ..sampling import Sampling
from .names import ToolNames
from .reading import Node

Unsupported = Literal["error", "note"]
"""What becomes of a field that Harmony cannot carry: an error, or a note in the result."""


class Note(NamedTuple):
    """Something that was not carried over, or not as it was.

    Attributes:
        path: The JSON path of the field.
        reason: What became of it.
    """

    path: str
    reason: str


class ToolChoice(NamedTuple):
    """Which tools the model may or must call.

    Attributes:
        mode: `"auto"`: as it likes. `"none"`: none. `"required"`: at least one.
        names: The full names that it may call; none means all.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()


_ANY_TOOL: Final = ToolChoice()
_AS_THE_ENGINE_LIKES: Final = Sampling()
_OWN_NAMES: Final = ToolNames()


@dataclass(frozen=True)
class HarmonyRequest:
    """A request as Harmony.

    Attributes:
        messages: The conversation, system and developer message first.
        tools: The tools that the conversation declares.
        tool_choice: Which of them the model may or must call.
        parallel_tool_calls: Whether it may call several at once.
        response_format: The shape that the final answer must have.
        sampling: How to generate.
        model: The model that was asked for.
        stream: Whether a stream was asked for.
        include_usage: Whether the stream shall end with the usage.
        names: The client's names of the functions.
        text_tools: The client's names of the tools that take text instead of JSON. In Harmony
            they are functions with one argument, `input`.
        notes: What was not carried over.
        extra: What only the same API has use for, as it was given.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolNamespace, ...] = ()
    tool_choice: ToolChoice = _ANY_TOOL
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    sampling: Sampling = _AS_THE_ENGINE_LIKES
    model: str | None = None
    stream: bool = False
    include_usage: bool = False
    names: ToolNames = _OWN_NAMES
    text_tools: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def client_messages(self) -> tuple[Message, ...]:
        """The messages with the functions under the client's names, for requests to others."""
        if all(name == own for name, own in self.names.harmony_names.items()):
            return self.messages
        return tuple(self._with_client_names(message) for message in self.messages)

    def _with_client_names(self, message: Message) -> Message:
        content = message.content
        if isinstance(content, DeveloperContent):
            tools = tuple(self._renamed(namespace) for namespace in content.tools)
            return replace(message, content=replace(content, tools=tools))
        return replace(
            message,
            name=self._client_name(message.name),
            recipient=self._client_name(message.recipient),
        )

    def _renamed(self, namespace: ToolNamespace) -> ToolNamespace:
        if namespace.name != FUNCTIONS:
            return namespace
        tools = tuple(
            Tool(self.names.to_client(tool.name), tool.description, tool.parameters)
            for tool in namespace.tools
        )
        return replace(namespace, tools=tools)

    def _client_name(self, full_name: str | None) -> str | None:
        prefix, _, name = (full_name or "").partition(".")
        return f"{FUNCTIONS}.{self.names.to_client(name)}" if prefix == FUNCTIONS else full_name

    def prompt(self, *, drop_analysis: DropAnalysis = "finished-turns") -> list[int]:
        """Render the request to prompt tokens.

        Args:
            drop_analysis: Which reasoning is left out: by default that of finished turns,
                as the format's documentation has it; that of a tool loop stays.

        Raises:
            InvalidMessageError: A message cannot be rendered.
        """
        return render(self.messages, drop_analysis=drop_analysis)


class Notes:
    """Collects what is not carried over while a request is read.

    Args:
        unsupported: Whether to raise instead.
    """

    def __init__(self, unsupported: Unsupported) -> None:
        if unsupported not in ("error", "note"):
            raise RequestError(f"{unsupported!r} is neither 'error' nor 'note'", path="unsupported")
        self._raises = unsupported == "error"
        self._notes: list[Note] = []

    def lost(self, path: str, reason: str) -> None:
        """Something cannot be carried over.

        Args:
            path: Its JSON path.
            reason: Why, or what becomes of it.

        Raises:
            RequestError: Where the caller wants errors.
        """
        if self._raises:
            raise RequestError(reason, path=path)
        self._notes.append(Note(path, reason))

    def changed(self, path: str, reason: str) -> None:
        """Something is carried over, but not as it was, or is of no consequence.

        Args:
            path: Its JSON path.
            reason: What became of it.
        """
        self._notes.append(Note(path, reason))

    def unknown_fields(self, node: Node, known: Iterable[str], idle: Iterable[str] = ()) -> None:
        """Report the fields of an object that are not read.

        Args:
            node: The object.
            known: The fields that are read.
            idle: Fields that make no difference to what the model is told.

        Raises:
            RequestError: Where the caller wants errors.
        """
        for key in node.value:
            if key in known or node.value[key] is None:
                continue
            if key in idle:
                self.changed(node.at(key), "of no consequence to the model")
            else:
                self.lost(node.at(key), "not supported")

    def all(self) -> tuple[Note, ...]:
        """The notes so far."""
        return tuple(self._notes)


# --- Tools ----------------------------------------------------------------------------------


INPUT_SCHEMA: Final = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
"""The parameters of a tool that takes text, as Harmony sees it."""


def function_tool(
    node: Node, name: str, description: str | None, parameters: Any, path: str
) -> Tool:
    """A function that a client declares.

    Args:
        node: The declaration, for errors.
        name: Its name in the prompt.
        description: What it does.
        parameters: The JSON Schema of its arguments, or `None`.
        path: The name of the field that has the parameters.

    Raises:
        RequestError: The parameters are no JSON Schema.
    """
    try:
        # A function without parameters is one that takes an object without properties.
        return Tool(name, description or "", parameters)
    except InvalidMessageError as error:
        raise node.error(path, error.reason) from None


def opening(
    *,
    instructions: str | None,
    functions: Iterable[Tool] = (),
    builtin_tools: Iterable[ToolNamespace] = (),
    response_format: ResponseFormat | None = None,
    reasoning_effort: ReasoningEffort | None = None,
    current_date: str | None = None,
) -> list[Message]:
    """The system message, and the developer message if there is anything to say in it.

    Args:
        instructions: What the developer says.
        functions: The client's functions.
        builtin_tools: `BROWSER` and `PYTHON`, where they are offered.
        response_format: The shape of the final answer.
        reasoning_effort: How much to think; medium by default.
        current_date: Today, as the model shall see it.
    """
    system = SystemContent(
        reasoning_effort=reasoning_effort or ReasoningEffort.MEDIUM,
        current_date=current_date,
        tools=tuple(builtin_tools),
    )
    messages = [Message(Role.SYSTEM, system)]
    declared = tuple(functions)
    formats = () if response_format is None else (response_format,)
    if instructions is None and not declared and not formats:
        return messages
    content = DeveloperContent(
        instructions=instructions,
        tools=(ToolNamespace(FUNCTIONS, declared),) if declared else (),
        response_formats=formats,
    )
    return [*messages, Message(Role.DEVELOPER, content)]


_EFFORTS: Final = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}


def reasoning_effort(node: Node, key: str, notes: Notes) -> ReasoningEffort | None:
    """How much the model shall think; what Harmony has no word for becomes the nearest.

    Args:
        node: The object that says it.
        key: The field.
        notes: Told of an effort that was changed.

    Raises:
        RequestError: The effort is unknown.
    """
    effort = node.choice(key, [*ReasoningEffort, *_EFFORTS])
    if effort in _EFFORTS:
        notes.changed(node.at(key), f"taken for {_EFFORTS[effort]}")
        effort = _EFFORTS[effort]
    return None if effort is None else ReasoningEffort(effort)


# --- Messages of the history ----------------------------------------------------------------
#
# Made without the checks of `Message`: what they are made of was just read as text.


def text_message(
    role: Role, text: str, *, channel: Channel | None = None, name: str | None = None
) -> Message:
    """A message that says something.

    Args:
        role: Who says it; no tool.
        text: What it says.
        channel: What it is for.
        name: The author's name.
    """
    return trusted_message(role, text, name, channel, None, None, False)


def call_message(recipient: str, arguments: str) -> Message:
    """A call that the model made, as the model's chat template has it: without `<|constrain|>`.

    Args:
        recipient: The full name of the tool.
        arguments: The arguments as JSON text.
    """
    commentary = Channel.COMMENTARY
    return trusted_message(Role.ASSISTANT, arguments, None, commentary, recipient, "json", False)


def result_message(name: str, text: str, *, channel: Channel = Channel.COMMENTARY) -> Message:
    """What a tool answered.

    Args:
        name: The full name of the tool.
        text: Its answer.
        channel: Where it was called.
    """
    return trusted_message(Role.TOOL, text, name, channel, Role.ASSISTANT, None, False)


# --- Calls of the history -------------------------------------------------------------------


class CallIds:
    """The calls of a history by their ids."""

    def __init__(self) -> None:
        self._recipients: dict[str, str] = {}

    def add(self, call_id: str, recipient: str) -> None:
        """A call was made; of two with one id the last counts.

        Args:
            call_id: Its id.
            recipient: The full name of the tool.
        """
        self._recipients[call_id] = recipient

    def recipient(self, call_id: str, node: Node, key: str) -> str:
        """The tool that a result comes from.

        Args:
            call_id: The id of the call.
            node: The result, for errors.
            key: The field that has the id.

        Raises:
            RequestError: No call before has this id.
        """
        recipient = self._recipients.get(call_id)
        if recipient is None:
            raise node.error(key, f"no call before has the id {call_id!r}")
        return recipient
