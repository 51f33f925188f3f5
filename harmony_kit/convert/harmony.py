"""Messages to and from JSON, in the format of openai-harmony's `to_dict` and `from_dict`.

    {"role": "assistant", "name": null, "channel": "commentary",
     "recipient": "functions.get_weather", "content_type": "<|constrain|>json",
     "content": [{"type": "text", "text": "{}"}]}

Reading accepts plain text as the content, and keys that are `null` or absent. A conversation is a
list of messages, or an object with the key `messages`. In addition to openai-harmony's format, a
developer content can have `response_formats`, and a message the `tokens` from which it was parsed:
`{"ids": [...], "sampled": [0, 17]}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from .._options import checked_options
from ..errors import InvalidMessageError, ParseError
from ..wire._contents import (
    DeveloperContent,
    Part,
    ResponseFormat,
    SystemContent,
    Tool,
    ToolNamespace,
)
from ..wire._messages import CLOSED_CALL, Message, MessageTokens, trusted_message, with_tokens
from ..wire._parser import parse
from ..wire._render import next_header
from ..wire._roles import Role

_CONSTRAIN: Final = "<|constrain|>"
_CALL: Final = "<|call|>"
_Item = TypeVar("_Item")


# --- To JSON --------------------------------------------------------------------------------


@checked_options
def messages_to_json(
    messages: Iterable[Message], *, indent: int | None = None, tokens: bool = False
) -> str:
    """Write messages as JSON text: an object with the key `messages`.

    Args:
        messages: The messages.
        indent: The number of spaces to indent by; one line by default.
        tokens: Whether to write the tokens of parsed messages, as in `message_to_dict`.

    Example:
        >>> from harmony_kit import user
        >>> messages_to_json([user("Hi")])[:40]
        '{"messages": [{"role": "user", "name": n'
    """
    data = {"messages": [message_to_dict(message, tokens=tokens) for message in messages]}
    return json.dumps(data, ensure_ascii=False, indent=indent)


@checked_options
def message_to_dict(message: Message, *, tokens: bool = False) -> dict[str, Any]:
    """Write a message as plain JSON data.

    Args:
        message: The message.
        tokens: Whether to write the tokens from which the message was parsed (`Message.tokens`)
            under the key `tokens`, which openai-harmony does not have. A call that was closed by
            `<|call|>` but whose tokens are unknown gets the key `terminator`.

    Example:
        >>> from harmony_kit import assistant
        >>> message_to_dict(assistant("4"))  # doctest: +NORMALIZE_WHITESPACE
        {'role': 'assistant', 'name': None, 'content': [{'type': 'text', 'text': '4'}],
         'channel': 'final'}
    """
    content = message.content
    parts = content if isinstance(content, tuple) else (content,)
    data: dict[str, Any] = {
        "role": message.role.value,
        "name": message.name,
        "content": [_part_to_dict(part) for part in parts],
    }
    content_type = message.content_type
    if message.constrained:
        content_type = f"{_CONSTRAIN}{content_type}"
    optional: dict[str, Any] = {
        "channel": None if message.channel is None else str(message.channel),
        "recipient": message.recipient,
        "content_type": content_type,
    }
    if tokens and message.tokens is not None:
        ids, start, end = message.tokens
        optional["tokens"] = {"ids": list(ids), "sampled": [start, end]}
    elif tokens and message.is_closed_call:
        optional["terminator"] = _CALL
    return data | {key: value for key, value in optional.items() if value is not None}


def _part_to_dict(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, SystemContent):
        return _system_to_dict(part)
    return _developer_to_dict(part)


def _system_to_dict(content: SystemContent) -> dict[str, Any]:
    effort = content.reasoning_effort
    channels = {
        "valid_channels": list(content.valid_channels),
        "channel_required": content.channel_required,
    }
    return _without_none(
        {
            "type": "system_content",
            "model_identity": content.model_identity,
            "reasoning_effort": effort and effort.value.capitalize(),
            "conversation_start_date": content.current_date,
            "knowledge_cutoff": content.knowledge_cutoff,
            "channel_config": channels,
            "tools": _namespaces_to_dict(content.tools),
        },
        # Reading has defaults for these, so that `null` must be written.
        keep=("model_identity", "reasoning_effort", "knowledge_cutoff"),
    )


def _developer_to_dict(content: DeveloperContent) -> dict[str, Any]:
    formats = [
        _without_none({"name": f.name, "schema": f.schema, "description": f.description})
        for f in content.response_formats
    ]
    return _without_none(
        {
            "type": "developer_content",
            "instructions": content.instructions,
            "tools": _namespaces_to_dict(content.tools),
            "response_formats": formats or None,
        }
    )


def _namespaces_to_dict(namespaces: Iterable[ToolNamespace]) -> dict[str, Any] | None:
    data = {
        namespace.name: {
            "name": namespace.name,
            "description": namespace.description,
            "tools": [
                {"name": t.name, "description": t.description, "parameters": t.parameters}
                for t in namespace.tools
            ],
        }
        for namespace in namespaces
    }
    return data or None


def _without_none(data: dict[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None or key in keep}


# --- From JSON ------------------------------------------------------------------------------


@checked_options
def messages_from_json(text: str | bytes) -> list[Message]:
    """Read messages from JSON text: a list of messages, or an object with the key `messages`.

    Args:
        text: The JSON text.

    Raises:
        InvalidMessageError: The text is not JSON, or a message is invalid; the error names the
            message and the field.

    Example:
        >>> messages_from_json('[{"role": "user", "content": "Hi"}]')[0].text
        'Hi'
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidMessageError(f"not JSON: {error}", field="conversation") from None
    except RecursionError:
        raise InvalidMessageError("nested too deeply", field="conversation") from None
    if isinstance(data, dict):
        data = data.get("messages")
    if not isinstance(data, list):
        raise InvalidMessageError(
            "expected a list of messages, or an object with a list under 'messages'",
            field="conversation",
        )
    messages = []
    for index, item in enumerate(data):
        try:
            messages.append(message_from_dict(item))
        except InvalidMessageError as error:
            raise error.at(index) from None
    return messages


@checked_options
def message_from_dict(data: Mapping[str, Any]) -> Message:
    """Read a message from plain JSON data.

    Args:
        data: The data, as written by `message_to_dict`.

    Raises:
        InvalidMessageError: A key is missing or unknown, or has an invalid value; the error names
            the field.

    Example:
        >>> message_from_dict({"role": "user", "content": "Hi"}).text
        'Hi'
    """
    optional = {"name", "channel", "recipient", "content_type", "tokens", "terminator"}
    _check_keys(data, "message", {"role", "content"}, optional)
    content_type = data.get("content_type")
    constrained = False
    if isinstance(content_type, str):
        constrained = content_type.startswith(_CONSTRAIN)
        content_type = content_type.removeprefix(_CONSTRAIN)
    message = Message(
        data["role"],
        _content_from_json(data["content"]),
        name=data.get("name"),
        channel=data.get("channel"),
        recipient=data.get("recipient"),
        content_type=content_type,
        constrained=constrained,
    )
    if data.get("terminator") is not None:
        if data["terminator"] != _CALL or not message.is_call:
            reason = f"expected {_CALL!r}, and only of a call, got {data['terminator']!r}"
            raise InvalidMessageError(reason, field="terminator")
        return trusted_message(message.header, message.content, CLOSED_CALL)
    return with_tokens(message, _tokens_from_dict(data.get("tokens"), message))


def _tokens_from_dict(data: Any, message: Message) -> MessageTokens | None:
    """The tokens of a message, checked to be an encoding of it.

    Otherwise a history would show one text and the model would see another.
    """
    if data is None:
        return None
    _check_keys(data, "tokens", {"ids", "sampled"})
    ids, sampled = data["ids"], data["sampled"]
    if not _are_integers(ids):
        raise InvalidMessageError("expected a list of token ids", field="tokens.ids")
    try:
        parsed = parse(ids, role=None, strict=True).parsed
    except ParseError as error:
        reason = f"not one well-formed message: {error}"
        raise InvalidMessageError(reason, field="tokens.ids") from None
    is_this = len(parsed) == 1 and parsed[0].message == message
    tokens = parsed[0].message.tokens if is_this else None
    if tokens is None or tokens.ids != tuple(ids):  # a history never has <|return|>
        raise InvalidMessageError("they are not an encoding of this message", field="tokens.ids")
    prompted = len(next_header(Role.ASSISTANT))
    is_generated = message.role is Role.ASSISTANT or sampled == [0, 0]
    if not (
        is_generated and _are_integers(sampled) and _is_sampled_range(sampled, len(ids), prompted)
    ):
        reason = f"expected the start and end of the generated ids, got {sampled!r}"
        raise InvalidMessageError(reason, field="tokens.sampled")
    return MessageTokens(tuple(ids), *sampled)


def _are_integers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)


def _is_sampled_range(sampled: list[int], length: int, prompted: int) -> bool:
    """Whether these can be the start and end of the generated ids of a message."""
    if sampled == [0, 0]:
        return True
    return len(sampled) == 2 and sampled[0] in (0, prompted) and length - sampled[1] in (0, 1)


def _content_from_json(data: Any) -> Part | tuple[Part, ...]:
    if isinstance(data, str):
        return data
    if not isinstance(data, list):
        raise InvalidMessageError(f"expected text or a list, got {_kind(data)}", field="content")
    parts = tuple(_part_from_dict(part, f"content[{i}]") for i, part in enumerate(data))
    return parts[0] if len(parts) == 1 else parts


def _part_from_dict(data: Any, place: str) -> Part:
    if isinstance(data, str):
        return data
    kind = data.get("type") if isinstance(data, dict) else None
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        known = ", ".join(_READERS)
        raise InvalidMessageError(f"expected an object with a type among {known}", field=place)
    try:
        return reader({key: value for key, value in data.items() if key != "type"})
    except InvalidMessageError as error:
        raise InvalidMessageError(error.reason, field=f"{place}.{error.field}") from None


def _text_from_dict(data: dict[str, Any]) -> str:
    _check_keys(data, "text content", {"text"})
    text = data["text"]
    if not isinstance(text, str):
        raise InvalidMessageError(f"expected text, got {_kind(text)}", field="text")
    return text


def _system_from_dict(data: dict[str, Any]) -> SystemContent:
    names = {
        "model_identity": "model_identity",
        "conversation_start_date": "current_date",
        "knowledge_cutoff": "knowledge_cutoff",
    }
    _check_keys(
        data, "system content", set(), {*names, "reasoning_effort", "channel_config", "tools"}
    )
    fields = {name: data[key] for key, name in names.items() if key in data}
    if "reasoning_effort" in data:
        effort = data["reasoning_effort"]
        fields["reasoning_effort"] = effort.lower() if isinstance(effort, str) else effort
    if "channel_config" in data:
        fields |= _channels_from_dict(data["channel_config"])
    return SystemContent(**fields, tools=_namespaces_from_dict(data.get("tools")))


def _channels_from_dict(data: Any) -> dict[str, Any]:
    if data is None:
        return {"valid_channels": ()}
    _check_keys(data, "channel_config", {"valid_channels", "channel_required"})
    return {key: data[key] for key in ("valid_channels", "channel_required")}


def _developer_from_dict(data: dict[str, Any]) -> DeveloperContent:
    _check_keys(data, "developer content", set(), {"instructions", "tools", "response_formats"})
    formats = _items(data.get("response_formats"), "response_formats", _format_from_dict)
    return DeveloperContent(
        instructions=data.get("instructions"),
        tools=_namespaces_from_dict(data.get("tools")),
        response_formats=formats,
    )


def _format_from_dict(data: Any) -> ResponseFormat:
    _check_keys(data, "response format", {"name", "schema"}, {"description"})
    return ResponseFormat(data["name"], data["schema"], data.get("description"))


def _namespaces_from_dict(data: Any) -> tuple[ToolNamespace, ...]:
    if data is None:
        return ()
    if not isinstance(data, dict):
        raise InvalidMessageError(f"expected an object, got {_kind(data)}", field="tools")
    return _items(list(data.values()), "tools", _namespace_from_dict, list(data))


def _namespace_from_dict(data: Any) -> ToolNamespace:
    _check_keys(data, "namespace", {"name", "tools"}, {"description"})
    tools = _items(data["tools"], "tools", _tool_from_dict)
    return ToolNamespace(data["name"], tools, data.get("description"))


def _tool_from_dict(data: Any) -> Tool:
    _check_keys(data, "tool", {"name", "description"}, {"parameters"})
    return Tool(data["name"], data["description"], data.get("parameters"))


_READERS: Final[dict[str, Callable[[dict[str, Any]], Part]]] = {
    "text": _text_from_dict,
    "system_content": _system_from_dict,
    "developer_content": _developer_from_dict,
}


def _items(
    data: Any, place: str, read: Callable[[Any], _Item], names: list[str] | None = None
) -> tuple[_Item, ...]:
    """Read each item of a list, so that an error names the item."""
    if data is None:
        return ()
    if not isinstance(data, list):
        raise InvalidMessageError(f"expected a list, got {_kind(data)}", field=place)
    items = []
    for index, item in enumerate(data):
        try:
            items.append(read(item))
        except InvalidMessageError as error:
            key = names[index] if names else index
            field = f"{place}[{key!r}].{error.field}"
            raise InvalidMessageError(error.reason, field=field) from None
    return tuple(items)


def _check_keys(
    data: Any, what: str, required: set[str], optional: set[str] | frozenset[str] = frozenset()
) -> None:
    if not isinstance(data, Mapping):
        raise InvalidMessageError(f"expected an object, got {_kind(data)}", field=what)
    missing = sorted(required - data.keys())
    if missing:
        raise InvalidMessageError("missing", field=missing[0])
    unknown = sorted(map(str, data.keys() - required - optional))
    if unknown:
        raise InvalidMessageError(f"unknown key in a {what}", field=unknown[0])


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
