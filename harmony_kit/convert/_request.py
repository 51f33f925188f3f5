"""A request of any API as Harmony messages, tools, sampling parameters and notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Unpack

from .._options import checked_fields, checked_options
from ..errors import InvalidMessageError, OptionError
from ..sampling import SamplingParams
from ..tools._choice import ANY_TOOL, ToolChoice
from ..wire._contents import DeveloperContent, ResponseFormat, SystemContent, Tool, ToolNamespace
from ..wire._messages import Header, Message, trusted_message
from ..wire._render import render
from ..wire._render_options import RenderKeywords, RenderOptions
from ..wire._roles import FUNCTIONS, Channel, ReasoningEffort, Role
from ._names import OWN_NAMES, ToolNames
from ._notes import Note, Notes
from ._reading import JsonObject
from ._requirements import Requirement

if TYPE_CHECKING:
    from ..grammar import Constraint


class AdaptedRequest(NamedTuple):
    """A request adapted to a backend.

    Attributes:
        sampling: How to generate, with the constraint that the request requires if the backend
            supports constraints.
        notes: Everything that was not carried over or is not enforced.
    """

    sampling: SamplingParams
    notes: tuple[Note, ...]


_DEFAULT_SAMPLING: Final = SamplingParams()


@checked_fields
@dataclass(frozen=True)
class HarmonyRequest:
    """A request of an API as Harmony.

    Attributes:
        messages: The conversation, beginning with the system and the developer message.
        tools: The tools that the request declares.
        tool_choice: Which of them the model may or must call.
        parallel_tool_calls: Whether the client accepts several calls at once. A completion makes
            one at most, since a call ends it.
        response_format: The format of the final answer.
        reasoning: `"none"` if the model must not reason.
        requirements: What a constraint has to enforce, by subject: `"tool_choice"`,
            `"reasoning"`, `"response_format"`, and the full names of functions whose arguments
            must match their schemas.
        sampling: How to generate.
        model: The requested model.
        stream: Whether the response is to be streamed.
        include_usage: Whether the stream is to end with the token usage.
        names: The client's names of the functions.
        text_tools: The client's names of the tools that take text instead of JSON. For the model
            they are functions with one argument, `input`.
        notes: What was not carried over, or not unchanged.
        extra: The fields of the request that a response of the same API repeats.
        history: The conversation without the system message, the tools and the instructions that
            every request repeats: what a store keeps.
        calls: The full name of the tool, by the id of each call of the conversation.

    Example:
        >>> from harmony_kit.convert import chat_completions
        >>> body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
        >>> request = chat_completions.read_request(body)
        >>> request.messages[-1].text, request.sampling.temperature
        ('Hi', 0.5)
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolNamespace, ...] = ()
    tool_choice: ToolChoice = ANY_TOOL
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    reasoning: Literal["free", "none"] = "free"
    requirements: Mapping[str, Requirement] = field(default_factory=dict)
    sampling: SamplingParams = _DEFAULT_SAMPLING
    model: str | None = None
    stream: bool = False
    include_usage: bool = False
    names: ToolNames = OWN_NAMES
    text_tools: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Message, ...] = ()
    calls: Mapping[str, str] = field(default_factory=dict)

    def client_messages(self) -> tuple[Message, ...]:
        """The messages with the client's names of the functions, for requests to another API."""
        if all(name == own for name, own in self.names.harmony_names.items()):
            return self.messages
        return tuple(self._with_client_names(message) for message in self.messages)

    def _with_client_names(self, message: Message) -> Message:
        content = message.content
        if isinstance(content, DeveloperContent):
            tools = tuple(self._renamed(namespace) for namespace in content.tools)
            return message.replace(content=replace(content, tools=tools))
        return message.replace(
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

    def prompt(
        self, *, options: RenderOptions | None = None, **changes: Unpack[RenderKeywords]
    ) -> list[int]:
        """Render the request to prompt tokens, as `render` does its messages.

        Args:
            options: How to render.
            **changes: Fields of `RenderOptions` that replace those of `options`.

        Raises:
            InvalidMessageError: A message cannot be rendered.
            OptionError: An option has an unknown value.
            TypeError: An option has an unknown name.
        """
        chosen = RenderOptions.of(options, changes, "HarmonyRequest.prompt")
        return render(self.messages, options=chosen)

    @checked_options
    def constraint(self, *, after: Sequence[int] = ()) -> Constraint | None:
        """The constraint that enforces the requirements of the request.

        Args:
            after: Token ids at the end of the prompt that are a prefix of the completion.

        Returns:
            The constraint, or `None` if the request requires nothing.

        Raises:
            RequestError: A strict requirement cannot be enforced; the error names the JSON path.
            GrammarError: `after` is not a prefix of such a completion.
        """
        return self._constraint(after)[0]

    @checked_options
    def for_backend(
        self, supports: Collection[str], *, after: Sequence[int] = ()
    ) -> AdaptedRequest:
        """The sampling parameters for a backend, and what it cannot carry out.

        Args:
            supports: The features of the backend, its `supports`.
            after: As for `constraint`.

        Raises:
            RequestError: As for `constraint`, if the backend supports constraints.
            GrammarError: As for `constraint`.
        """
        if "constraint" not in supports:
            reason = "not enforced: the backend takes no constraints"
            left = (Note(requirement.path, reason) for requirement in self.requirements.values())
            return AdaptedRequest(self.sampling, (*self.notes, *left))
        constraint, notes = self._constraint(after)
        sampling = replace(self.sampling, constraint=constraint)
        return AdaptedRequest(sampling, (*self.notes, *notes))

    def _constraint(self, after: Sequence[int]) -> tuple[Constraint | None, tuple[Note, ...]]:
        if not self.requirements:
            return None, ()
        # Slow to import, and most requests need no constraint.
        from ._constraints import Completion, constraint_of

        completion = Completion(
            self.tools, self.tool_choice, self.response_format, self.reasoning, after
        )
        return constraint_of(completion, self.requirements)


# --- Sampling -------------------------------------------------------------------------------


def sampling_params(node: JsonObject, keys: Mapping[str, str], **values: Any) -> SamplingParams:
    """Sampling parameters; an error names the field of the request.

    Args:
        node: The request.
        keys: The field, by the parameter, where they have different names.
        **values: The parameters.
    """
    try:
        return SamplingParams(**values)
    except OptionError as error:
        raise node.error(keys.get(error.option, error.option), error.reason) from None


def with_limit(sampling: SamplingParams | None, max_tokens: int | None) -> SamplingParams:
    """Sampling parameters with another limit, if there is one."""
    chosen = sampling or _DEFAULT_SAMPLING
    return chosen if max_tokens is None else replace(chosen, max_tokens=max_tokens)


# --- Tools ----------------------------------------------------------------------------------


INPUT_SCHEMA: Final = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
"""The parameters that the model sees of a tool that takes text."""


def function_tool(
    node: JsonObject, name: str, description: str | None, parameters: Any, path: str
) -> Tool:
    """A function that a client declares; `path` is the field with its JSON Schema."""
    try:
        # Without parameters: a function of an object without properties.
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
    """The system message, and the developer message if it has any content."""
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


def reasoning_effort(node: JsonObject, key: str, notes: Notes) -> ReasoningEffort | None:
    """The reasoning effort; a level that Harmony does not have becomes the nearest one."""
    effort = node.choice(key, [*ReasoningEffort, *_EFFORTS])
    if effort in _EFFORTS:
        notes.changed(node.at(key), f"taken for {_EFFORTS[effort]}")
        effort = _EFFORTS[effort]
    return None if effort is None else ReasoningEffort(effort)


# --- Messages of the history ----------------------------------------------------------------
#
# Made without the checks of `Message`, since their texts were just checked in reading.


def text_message(
    role: Role, text: str, *, channel: Channel | None = None, name: str | None = None
) -> Message:
    """A text of any role but the tool's."""
    return trusted_message(Header(role, name, channel), text)


def call_message(recipient: str, arguments: str) -> Message:
    """A call of the model, as its chat template writes it: without `<|constrain|>`."""
    commentary = Channel.COMMENTARY
    header = Header(Role.ASSISTANT, None, commentary, recipient, "json")
    return trusted_message(header, arguments)


def result_message(name: str, text: str, *, channel: Channel = Channel.COMMENTARY) -> Message:
    """The result of a tool, named by its full name."""
    return trusted_message(Header(Role.TOOL, name, channel, Role.ASSISTANT), text)


# --- Calls of the history -------------------------------------------------------------------


class CallIds:
    """The calls of a history by their ids, and which of them have a result.

    Attributes:
        recipients: The full name of the tool by the id of the call.
    """

    def __init__(self, notes: Notes) -> None:
        self.recipients: dict[str, str] = {}
        self._notes = notes
        self._order: dict[str, int] = {}
        self._open: dict[str, str] = {}  # the paths of the calls that have no result yet
        self._results: dict[int, int] = {}

    def add(self, call_id: str, recipient: str, path: str | None = None) -> None:
        """Add a call at a path of the request; it replaces an earlier one with the same id."""
        self.recipients[call_id] = recipient
        self._order[call_id] = len(self._order)
        if path is not None:
            self._open[call_id] = path

    def answered(self, call_id: str, node: JsonObject, key: str, place: int | None = None) -> str:
        """The tool whose result `node` is; its field `key` has the id.

        Args:
            call_id: The id of the call.
            node: The result.
            key: The field of the result that has the id.
            place: The index that the result has among the messages, for `in_order`.
        """
        recipient = self.recipients.get(call_id)
        if recipient is None:
            raise node.error(key, f"no call before has the id {call_id!r}")
        if self._open.pop(call_id, None) is None:
            self._notes.changed(node.at(key), f"one more result of the call {call_id!r}")
        if place is not None:
            self._results[place] = self._order[call_id]
        return recipient

    def close(self) -> None:
        """The conversation continues: note the calls that have no result."""
        for call_id, path in self._open.items():
            self._notes.changed(path, f"the call {call_id!r} has no result")
        self._open.clear()

    def in_order(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with each run of results in the order of their calls.

        A result has no id in Harmony: those of calls of one tool are told apart by their order.
        """
        ordered = list(messages)
        places = sorted(self._results)
        for _, run in groupby(enumerate(places), key=lambda item: item[1] - item[0]):
            stretch = [place for _, place in run]
            by_call = sorted(stretch, key=self._results.__getitem__)
            ordered[stretch[0] : stretch[-1] + 1] = [messages[place] for place in by_call]
        return ordered


# --- Instructions ---------------------------------------------------------------------------


def leading_instructions(messages: Sequence[Message]) -> tuple[str | None, tuple[Message, ...]]:
    """The joined instructions of the developer messages at the start, and the other messages."""
    leading = [*takewhile(lambda message: message.role is Role.DEVELOPER, messages)]
    if not leading:
        return None, tuple(messages)
    return "\n\n".join(map(_instructions, leading)), tuple(messages[len(leading) :])


def joined_instructions(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, with the developer messages at the start joined to one."""
    instructions, rest = leading_instructions(messages)
    return rest if instructions is None else (instructions_message(instructions), *rest)


def instructions_message(text: str) -> Message:
    """A developer message."""
    return Message(Role.DEVELOPER, DeveloperContent(instructions=text))


def _instructions(message: Message) -> str:
    content = message.content
    return (content.instructions or "") if isinstance(content, DeveloperContent) else message.text
