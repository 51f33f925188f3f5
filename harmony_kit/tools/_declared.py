"""What a conversation declares, and declaring more in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..wire._contents import DeveloperContent, Part, SystemContent, Tool, ToolNamespace
from ..wire._messages import Message
from ..wire._roles import Role
from ._source import full_name


def declared_namespaces(conversation: Iterable[Message]) -> list[ToolNamespace]:
    """The namespaces that a conversation declares, in order.

    Args:
        conversation: The messages; system and developer messages declare tools.
    """
    found: list[ToolNamespace] = []
    for message in conversation:
        for part in _parts(message):
            if not isinstance(part, str):
                found += part.tools
    return found


def declared_tools(conversation: Iterable[Message]) -> set[str]:
    """The full names of all tools that a conversation declares.

    Args:
        conversation: The messages; system and developer messages declare tools.
    """
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
    """A conversation that declares tools, in addition to those that it declares already.

    They go into its first system and its first developer message; where there is none, one is
    made.

    Args:
        conversation: The messages.
        system: The tools for the system message.
        developer: The tools for the developer message.
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


def merged(first: ToolNamespace | None, second: ToolNamespace) -> ToolNamespace:
    """Two namespaces of one name as one; tools that both have, once.

    Args:
        first: The one whose tools come first, if there is one.
        second: The other.
    """
    if first is None:
        return second
    tools: dict[str, Tool] = {tool.name: tool for tool in (*first.tools, *second.tools)}
    texts = dict.fromkeys(filter(None, (first.description, second.description)))
    return ToolNamespace(first.name, tuple(tools.values()), "\n\n".join(texts) or None)
