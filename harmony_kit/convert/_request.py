"""What a request of any API comes to: messages of Harmony, tools, sampling, and what was lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from ._names import ToolNames
from ._notes import Note, Notes
from ._reading import JsonObject
from ._requirements import Requirement

if TYPE_CHECKING:
    from ..grammar import Constraint


class AdaptedRequest(NamedTuple):
    """What of a request a backend carries out.

    Attributes:
        sampling: How to generate: under the constraint that the request asks for, where the
            backend takes constraints.
        notes: All that is not carried over, what is not enforced included.
    """

    sampling: SamplingParams
    notes: tuple[Note, ...]


_AS_THE_ENGINE_LIKES: Final = SamplingParams()
_OWN_NAMES: Final = ToolNames()


@checked_fields
@dataclass(frozen=True)
class HarmonyRequest:
    """A request as Harmony.

    Attributes:
        messages: The conversation, system and developer message first.
        tools: The tools that the conversation declares.
        tool_choice: Which of them the model may or must call.
        parallel_tool_calls: Whether it may call several at once. A completion of Harmony makes
            one call, since the call ends it.
        response_format: The shape that the final answer must have.
        reasoning: Whether the model may think at all.
        requirements: What is to be kept to: `"tool_choice"`, `"reasoning"`, `"response_format"`,
            and the full names of the functions whose arguments must meet their schemas.
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
    tool_choice: ToolChoice = ANY_TOOL
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    reasoning: Literal["free", "none"] = "free"
    requirements: Mapping[str, Requirement] = field(default_factory=dict)
    sampling: SamplingParams = _AS_THE_ENGINE_LIKES
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
            **changes: Options that differ from those: the fields of `RenderOptions`.

        Raises:
            InvalidMessageError: A message cannot be rendered.
            OptionError: An option has an unknown value.
            TypeError: An option has an unknown name.
        """
        chosen = RenderOptions.of(options, changes, "HarmonyRequest.prompt")
        return render(self.messages, options=chosen)

    @checked_options
    def constraint(self, *, after: Sequence[int] = ()) -> Constraint | None:
        """The constraint on the completion that the request asks for.

        Args:
            after: Token ids with which the completion begins already, at the end of the prompt.

        Returns:
            The constraint, or `None` if the request asks for nothing that needs one.

        Raises:
            RequestError: What must be kept to cannot be; the error names the JSON path.
            GrammarError: `after` is no beginning of such a completion.
        """
        return self._constraint(after)[0]

    @checked_options
    def for_backend(
        self, supports: Collection[str], *, after: Sequence[int] = ()
    ) -> AdaptedRequest:
        """How a backend is to generate, and what of the request it cannot keep to.

        Args:
            supports: What the backend can do, its `supports`.
            after: As for `constraint`.

        Raises:
            RequestError: As for `constraint`, where the backend takes constraints.
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
        # Grammars are slow to import, and most requests need none.
        from ._constraints import Completion, constraint_of

        completion = Completion(
            self.tools, self.tool_choice, self.response_format, self.reasoning, after
        )
        return constraint_of(completion, self.requirements)


# --- Sampling -------------------------------------------------------------------------------


def sampling_params(node: JsonObject, keys: Mapping[str, str], **values: Any) -> SamplingParams:
    """How a request says that tokens are chosen.

    Args:
        node: The request, for errors.
        keys: The request's fields by the parameters that have other names.
        **values: The parameters.

    Raises:
        RequestError: A parameter has a value that it cannot have; the error names the field.
    """
    try:
        return SamplingParams(**values)
    except OptionError as error:
        raise node.error(keys.get(error.option, error.option), error.reason) from None


# --- Tools ----------------------------------------------------------------------------------


INPUT_SCHEMA: Final = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
"""The parameters of a tool that takes text, as Harmony sees it."""


def function_tool(
    node: JsonObject, name: str, description: str | None, parameters: Any, path: str
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


def reasoning_effort(node: JsonObject, key: str, notes: Notes) -> ReasoningEffort | None:
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
    return trusted_message(Header(role, name, channel), text)


def call_message(recipient: str, arguments: str) -> Message:
    """A call that the model made, as the model's chat template has it: without `<|constrain|>`.

    Args:
        recipient: The full name of the tool.
        arguments: The arguments as JSON text.
    """
    commentary = Channel.COMMENTARY
    header = Header(Role.ASSISTANT, None, commentary, recipient, "json")
    return trusted_message(header, arguments)


def result_message(name: str, text: str, *, channel: Channel = Channel.COMMENTARY) -> Message:
    """What a tool answered.

    Args:
        name: The full name of the tool.
        text: Its answer.
        channel: Where it was called.
    """
    return trusted_message(Header(Role.TOOL, name, channel, Role.ASSISTANT), text)


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

    def recipient(self, call_id: str, node: JsonObject, key: str) -> str:
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
