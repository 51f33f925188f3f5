"""Reads requests of Chat Completions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..._options import checked_options
from ...errors import InvalidMessageError
from ...sampling import SamplingParams
from ...tools._choice import ToolChoice
from ...wire._contents import ResponseFormat, Tool, ToolNamespace
from ...wire._messages import Message
from ...wire._roles import FUNCTIONS, Channel, Role
from .._names import OWN_NAMES, ToolNames, tool_names
from .._notes import Notes, Unsupported
from .._reading import JsonObject
from .._request import (
    INPUT_SCHEMA,
    CallIds,
    HarmonyRequest,
    call_message,
    function_tool,
    instructions_message,
    opening,
    reasoning_effort,
    result_message,
    sampling_params,
    text_message,
)
from .._requirements import Requirement, requirement_of_function, requirements
from .._store import ResponseStore

_IDLE: Final = frozenset(
    (
        *("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
        *("service_tier", "store", "user", "verbosity", "include_reasoning"),
    )
)
_KNOWN: Final = frozenset(
    (
        *("frequency_penalty", "function_call", "functions", "max_completion_tokens", "max_tokens"),
        *("messages", "model", "n", "parallel_tool_calls", "presence_penalty", "reasoning_effort"),
        *("response_format", "seed", "stop", "stream", "stream_options", "temperature"),
        *("tool_choice", "tools", "top_p"),
    )
)


@checked_options
def read_request(
    body: Any,
    *,
    current_date: str | None = None,
    unsupported: Unsupported = "error",
    store: ResponseStore | None = None,
) -> HarmonyRequest:
    """Read a request of Chat Completions.

    System and developer messages at the start become the instructions of the developer message.

    Args:
        body: The request: JSON data, or a pydantic object.
        current_date: Today's date for the system message, such as `"2025-06-28"`.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out and adds a note to the result.
        store: Has the reasoning before calls, for clients that do not send it back.

    Raises:
        RequestError: The request is invalid, or has what Harmony cannot carry; the error names the
            JSON path.

    Example:
        >>> body = {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 50}
        >>> request = read_request(body, current_date="2025-06-28")
        >>> [str(message.role) for message in request.messages], request.sampling.max_tokens
        (['system', 'user'], 50)
        >>> request.prompt()[:3]
        [200006, 17360, 200008]
    """
    node = JsonObject(body)
    notes = Notes(unsupported)
    notes.unknown_fields(node, _KNOWN, _IDLE)
    if (node.integer("n") or 1) != 1:
        notes.lost("n", "one choice is made")
    declared = _Tools(node, notes)
    choice_key = "tool_choice" if node.has("tool_choice") else "function_call"
    choice = _tool_choice(node, choice_key, declared)
    tools = declared.functions if choice.mode != "none" else ()
    response_format = _response_format(node)
    reader = _History(declared.names, notes, store)
    instructions, messages = reader.read(node)
    start = opening(
        instructions=instructions,
        functions=tools,
        response_format=response_format,
        reasoning_effort=reasoning_effort(node, "reasoning_effort", notes),
        current_date=current_date,
    )
    thinks = node.get("reasoning_effort") != "none"
    options = node.node("stream_options")
    return HarmonyRequest(
        messages=(*start, *messages),
        tools=(ToolNamespace(FUNCTIONS, tuple(tools)),) if tools else (),
        tool_choice=choice,
        parallel_tool_calls=node.boolean("parallel_tool_calls") is not False,
        response_format=response_format,
        reasoning="free" if thinks else "none",
        requirements=requirements(
            choice,
            node.at(choice_key),
            functions=declared.requirements,
            answer=_demand_of_format(node),
            no_reasoning=None if thinks else Requirement("reasoning_effort"),
        ),
        sampling=_sampling(node),
        model=node.text("model"),
        stream=bool(node.boolean("stream")),
        include_usage=bool(options and options.boolean("include_usage")),
        names=declared.names,
        text_tools=declared.text_tools,
        notes=notes.all(),
        history=tuple(messages),
        calls=reader.calls.recipients,
    )


@checked_options
def read_messages(
    messages: Iterable[Any],
    *,
    unsupported: Unsupported = "error",
    store: ResponseStore | None = None,
) -> tuple[Message, ...]:
    """Read messages of Chat Completions.

    Args:
        messages: The messages: JSON data, or pydantic objects.
        unsupported: How to treat what Harmony cannot carry: `"error"` raises, `"note"` leaves it
            out.
        store: Has the reasoning before calls, for clients that do not send it back.

    Raises:
        RequestError: A message is invalid, or has what Harmony cannot carry.

    Example:
        >>> given = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        >>> [str(message.role) for message in read_messages(given)]
        ['developer', 'user']
    """
    reader = _History(OWN_NAMES, Notes(unsupported), store)
    instructions, rest = reader.read(JsonObject({"messages": messages}))
    start = [] if instructions is None else [instructions_message(instructions)]
    return (*start, *rest)


def read_assistant(message: JsonObject, *, unsupported: Unsupported) -> tuple[Message, ...]:
    """Read the message of a response."""
    return tuple(_History(OWN_NAMES, Notes(unsupported), None).assistant(message))


# --- Tools ----------------------------------------------------------------------------------


class _Tools:
    """The tools of a request.

    Attributes:
        functions: The tools as the model sees them.
        names: The client's names of them.
        text_tools: The client's names of those that take text.
        requirements: By full name, the functions whose arguments must match their schema.
    """

    def __init__(self, node: JsonObject, notes: Notes) -> None:
        declarations = [self._declaration(tool, notes) for tool in node.nodes("tools")]
        declarations += [(function, "function") for function in node.nodes("functions")]
        given = [(d, kind) for d, kind in declarations if d is not None]
        listed = [declaration.required_text("name") for declaration, _ in given]
        seen: set[str] = set()
        for (declaration, _), name in zip(given, listed, strict=True):
            if name in seen:
                raise declaration.error("name", f"a second tool is called {name!r}")
            seen.add(name)
        self.names = tool_names(listed)
        self.requirements: dict[str, Requirement] = {}
        self.text_tools = frozenset(
            name for (_, kind), name in zip(given, listed, strict=True) if kind == "custom"
        )
        self.functions = tuple(
            self._tool(declaration, kind, name, notes)
            for (declaration, kind), name in zip(given, listed, strict=True)
        )

    def _declaration(self, tool: JsonObject, notes: Notes) -> tuple[JsonObject | None, str]:
        kind = tool.text("type") or "function"
        if kind not in ("function", "custom"):
            notes.lost(tool.at("type"), f"tools of the type {kind!r} are not supported")
            return None, kind
        notes.unknown_fields(tool, ("type", kind))
        return tool.required_node(kind), kind

    def _tool(self, declaration: JsonObject, kind: str, name: str, notes: Notes) -> Tool:
        harmony_name = self.names.to_harmony(name)
        description = declaration.text("description")
        if kind == "custom":
            shape = declaration.node("format")
            if shape is not None and shape.text("type") not in (None, "text"):
                notes.lost(shape.path, "the text of a tool is not constrained")
            notes.unknown_fields(declaration, ("name", "description", "format"))
            return Tool(harmony_name, description or "", INPUT_SCHEMA)
        notes.unknown_fields(declaration, ("name", "description", "parameters", "strict"))
        self.requirements |= requirement_of_function(harmony_name, declaration, "parameters")
        parameters = declaration.get("parameters")
        return function_tool(declaration, harmony_name, description, parameters, "parameters")


def _tool_choice(node: JsonObject, key: str, tools: _Tools) -> ToolChoice:
    value = node.get(key)
    if value is None or isinstance(value, str):
        mode = node.choice(key, ("auto", "none", "required"))
        return ToolChoice(mode or "auto")  # type: ignore[arg-type]
    choice = node.required_node(key)
    kind = choice.text("type") or "function"
    if kind == "allowed_tools":
        allowed = choice.required_node("allowed_tools")
        mode = allowed.choice("mode", ("auto", "required")) or "auto"
        names = tuple(_chosen(tool, tools) for tool in allowed.nodes("tools"))
        return ToolChoice(mode, names)  # type: ignore[arg-type]
    return ToolChoice("required", (_chosen(choice, tools),))


def _chosen(choice: JsonObject, tools: _Tools) -> str:
    kind = choice.text("type") or "function"
    named = choice.node(kind) or choice
    name = named.required_text("name")
    if name not in tools.names.harmony_names:
        raise named.error("name", f"no tool is called {name!r}")
    return f"{FUNCTIONS}.{tools.names.to_harmony(name)}"


def _response_format(node: JsonObject) -> ResponseFormat | None:
    value = node.node("response_format")
    kind = value and value.choice("type", ("text", "json_object", "json_schema"))
    if value is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return ResponseFormat("json_object", {"type": "object"})
    schema = value.required_node("json_schema")
    try:
        return ResponseFormat(
            schema.required_text("name"), schema.get("schema") or {}, schema.text("description")
        )
    except InvalidMessageError as error:
        raise schema.error("schema", error.reason) from None


def _demand_of_format(node: JsonObject) -> Requirement | None:
    value = node.node("response_format")
    kind = value and value.text("type")
    if value is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return Requirement(value.path)
    schema = value.required_node("json_schema")
    return Requirement(schema.at("schema"), is_strict=bool(schema.boolean("strict")))


def _sampling(node: JsonObject) -> SamplingParams:
    stop = node.get("stop")
    if isinstance(stop, str):
        stops: tuple[str, ...] = (stop,)
    else:
        stops = tuple(text for text, _ in node.items("stop"))
        if not all(isinstance(text, str) for text in stops):
            raise node.error("stop", "expected texts")
    key = "max_completion_tokens" if node.has("max_completion_tokens") else "max_tokens"
    return sampling_params(
        node,
        {"max_tokens": key},
        max_tokens=node.integer(key),
        temperature=node.number("temperature"),
        top_p=node.number("top_p"),
        seed=node.integer("seed"),
        stop=stops,
        frequency_penalty=node.number("frequency_penalty"),
        presence_penalty=node.number("presence_penalty"),
    )


# --- Messages -------------------------------------------------------------------------------


# Parts of a content that have reasoning, as several servers and templates write it.
_REASONING_PARTS: Final = ("reasoning", "reasoning_text", "thinking")
_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_FIELDS: Final[Mapping[str, Sequence[str]]] = {
    "system": ("role", "content", "name"),
    "developer": ("role", "content", "name"),
    "user": ("role", "content", "name"),
    "assistant": (
        *("role", "content", "name", "refusal", "tool_calls", "function_call"),
        *("reasoning", "reasoning_content", "reasoning_details", "thinking"),
    ),
    "tool": ("role", "content", "tool_call_id", "name"),
    "function": ("role", "content", "name"),
}
_IDLE_FIELDS: Final = ("annotations", "audio_transcript")


class _History:
    """Reads messages, and remembers the ids of the calls."""

    def __init__(self, names: ToolNames, notes: Notes, store: ResponseStore | None) -> None:
        self._names = names
        self._notes = notes
        self._store = store
        self.calls = CallIds(notes)

    def read(self, node: JsonObject) -> tuple[str | None, list[Message]]:
        """The instructions at the start of the history, and the messages after them."""
        instructions = None
        messages: list[Message] = []
        given = list(node.nodes("messages"))
        if not given:
            raise node.error("messages", "there is no message")
        for message in given:
            role = message.choice("role", _ROLES)
            if role is None:
                raise message.error("role", "missing")
            if role != "assistant":
                self._notes.unknown_fields(message, _FIELDS[role], _IDLE_FIELDS)
            if role not in ("tool", "function"):
                self.calls.close()
            if role in ("system", "developer"):
                text = self._text(message)
                if message.has("name"):
                    self._notes.lost(message.at("name"), "instructions have no author")
                if messages:
                    messages.append(instructions_message(text))
                else:
                    instructions = text if instructions is None else f"{instructions}\n\n{text}"
            elif role == "user":
                name = message.text("name")
                messages.append(text_message(Role.USER, self._text(message), name=name))
            elif role == "assistant":
                messages += self.assistant(message)
            else:
                messages.append(self._result(message, role, len(messages)))
        return instructions, self.calls.in_order(messages)

    def assistant(self, message: JsonObject) -> list[Message]:
        """The messages of Harmony that one message of the assistant becomes."""
        self._notes.unknown_fields(message, _FIELDS["assistant"], _IDLE_FIELDS)
        if message.has("name"):
            self._notes.lost(message.at("name"), "the model has no name")
        made = list(message.nodes("tool_calls"))
        calls = [self._call(call) for call in made]
        legacy = message.node("function_call")
        if legacy is not None:
            calls.append(self._function_call(legacy))
        turn = []
        reasoning = self._reasoning(message, made)
        if reasoning:
            turn.append(text_message(Role.ASSISTANT, reasoning, channel=Channel.ANALYSIS))
        text = self._text(message)
        refusal = message.text("refusal")
        if refusal:
            self._notes.changed(message.at("refusal"), "kept as the text of an answer")
            text += refusal
        if text:
            channel = Channel.COMMENTARY if calls else Channel.FINAL
            turn.append(text_message(Role.ASSISTANT, text, channel=channel))
        return turn + calls

    def _reasoning(self, message: JsonObject, calls: Iterable[JsonObject]) -> str:
        given = (
            message.text("reasoning_content")
            or message.text("reasoning")
            or message.text("thinking")
            or self._reasoning_parts(message)
        )
        if given or self._store is None:
            return given or ""
        ids = [call_id for call in calls if (call_id := call.text("id")) is not None]
        kept = [self._store.reasoning(call_id) for call_id in ids]
        return "\n".join(dict.fromkeys(text for text in kept if text))

    def _reasoning_parts(self, message: JsonObject) -> str:
        """The reasoning in `reasoning_details`, or in parts of the content."""
        texts: list[str | None] = []
        for detail in message.nodes("reasoning_details"):
            text = detail.text("text") or detail.text("summary")
            if text is None:
                self._notes.changed(detail.path, "left out: reasoning without its text")
            else:
                texts.append(text)
        if not isinstance(message.get("content"), str | None):
            for part in message.nodes("content"):
                is_reasoning = part.text("type") in _REASONING_PARTS
                texts.append((part.text("text") or part.text("thinking")) if is_reasoning else None)
        return "\n".join(text for text in texts if text)

    def _call(self, call: JsonObject) -> Message:
        kind = call.choice("type", ("function", "custom")) or "function"
        self._notes.unknown_fields(call, ("id", "type", "index", kind))
        if kind == "custom":
            body = call.required_node("custom")
            arguments = _json({"input": body.required_text("input")})
        else:
            body = call.required_node("function")
            arguments = body.text("arguments") or ""
        made = self._made(body.required_text("name"), arguments)
        call_id = call.text("id")
        if call_id is not None:
            self.calls.add(call_id, made.recipient or "", call.path)
        return made

    def _function_call(self, body: JsonObject) -> Message:
        name = body.required_text("name")
        made = self._made(name, body.text("arguments") or "")
        self.calls.add(name, made.recipient or "", body.path)  # that API identified calls by name
        return made

    def _made(self, name: str, arguments: str) -> Message:
        return call_message(f"{FUNCTIONS}.{self._names.to_harmony(name)}", arguments)

    def _result(self, message: JsonObject, role: str, place: int) -> Message:
        key = "tool_call_id" if role == "tool" else "name"
        recipient = self.calls.answered(message.required_text(key), message, key, place)
        return result_message(recipient, self._text(message))

    def _text(self, message: JsonObject) -> str:
        """The text of a content; the texts of parts are concatenated."""
        content = message.get("content")
        if content is None or isinstance(content, str):
            return content or ""
        texts = []
        for part in message.nodes("content"):
            kind = part.text("type") or "text"
            if kind == "text":
                texts.append(part.required_text("text"))
            elif kind in _REASONING_PARTS and message.text("role") == "assistant":
                continue
            elif kind == "refusal":
                self._notes.changed(part.path, "kept as the text of an answer")
                texts.append(part.required_text("refusal"))
            else:
                self._notes.lost(part.path, f"a part of the type {kind!r} cannot be carried")
        return "".join(texts)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
