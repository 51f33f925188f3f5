"""Reading the tool declarations of a conversation, and adding to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..wire._contents import DeveloperContent, Part, SystemContent, ToolNamespace
from ..wire._messages import Message
from ..wire._roles import Role
from ._source import full_name, merged


def declared_namespaces(conversation: Iterable[Message]) -> list[ToolNamespace]:
    """The namespaces that the system and developer messages declare, in order."""
    found: list[ToolNamespace] = []
    for message in conversation:
        for part in _parts(message):
            if not isinstance(part, str):
                found += part.tools
    return found


def declared_tools(conversation: Iterable[Message]) -> set[str]:
    """The full names of all tools that the system and developer messages declare."""
    names: set[str] = set()
    for namespace in declared_namespaces(conversation):
        names.update(full_name(namespace, tool) for tool in namespace.tools)
        if not namespace.tools:
            names.add(namespace.name)
    return names


def declare(
    conversation: Iterable[Message],
    *,
    system: Iterable[ToolNamespace] = (),
    developer: Iterable[ToolNamespace] = (),
) -> list[Message]:
    """The conversation with more tools declared.

    They are added to the first system message and the first developer message; a missing message
    is created.
    """
    messages = list(conversation)
    declared = declared_tools(messages)
    _add(messages, _missing(system, declared), SystemContent)
    _add(messages, _missing(developer, declared), DeveloperContent)
    return messages


def _missing(namespaces: Iterable[ToolNamespace], declared: set[str]) -> list[ToolNamespace]:
    missing = []
    for namespace in namespaces:
        tools = tuple(t for t in namespace.tools if full_name(namespace, t) not in declared)
        if tools or not (namespace.tools or namespace.name in declared):
            missing.append(replace(namespace, tools=tools))
    return missing


def _add(
    messages: list[Message],
    namespaces: Sequence[ToolNamespace],
    kind: type[SystemContent | DeveloperContent],
) -> None:
    """Declare namespaces in the first content of a kind, or in a new message."""
    if not namespaces:
        return
    for index, message in enumerate(messages):
        parts = list(_parts(message))
        for position, part in enumerate(parts):
            if isinstance(part, kind):
                parts[position] = _with_tools(part, namespaces)
                content: Any = parts if isinstance(message.content, tuple) else parts[0]
                messages[index] = message.replace(content=content)
                return
    role = Role.SYSTEM if kind is SystemContent else Role.DEVELOPER
    before = sum(message.role is Role.SYSTEM for message in messages[:1])
    place = 0 if role is Role.SYSTEM else before
    messages.insert(place, Message(role, _with_tools(kind(), namespaces)))


def _parts(message: Message) -> tuple[Part, ...]:
    content = message.content
    return content if isinstance(content, tuple) else (content,)


def _with_tools(content: Any, namespaces: Iterable[ToolNamespace]) -> Any:
    known = {namespace.name: namespace for namespace in content.tools}
    for namespace in namespaces:
        known[namespace.name] = merged(known.get(namespace.name), namespace)
    return replace(content, tools=tuple(known.values()))
