"""Rendering like openai-harmony, on top of `harmony_kit.render`.

The reference differs in the framing of messages: its tools are kept in a map whose keys, not the
names of the namespaces, determine their order and whether there are function tools, and it drops
analysis by its own rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ..wire._contents import DeveloperContent, SystemContent, Tool, ToolNamespace
from ..wire._instructions import developer_text, system_text, tools_section
from ..wire._messages import Message
from ..wire._render import render_message
from ..wire._roles import Role
from ..wire._vocabulary import RETURN, START
from ..wire._vocabulary import encode_text as encode
from ._reference_tokens import HarmonyError

_CONSTRAIN: Final = "<|constrain|>"


class SystemText(NamedTuple):
    """The text of a system content, without and with the line about function tools."""

    plain: str
    with_function_tools: str


class DeveloperText(NamedTuple):
    """The text of a developer content."""

    text: str


class Turn(NamedTuple):
    """A message for rendering: plain values, with contents as text."""

    role: str
    name: str | None
    recipient: str | None
    channel: str | None
    content_type: str | None
    contents: tuple[str | SystemText | DeveloperText, ...]
    has_function_tools: bool = False


# --- From JSON ------------------------------------------------------------------------------


def turn_of(message: Mapping[str, Any]) -> Turn:
    """The turn of a message that was read from JSON."""
    contents = message["content"]
    return Turn(
        message["role"],
        message["name"],
        message["recipient"],
        message["channel"],
        message["content_type"],
        tuple(map(_content_text, contents)),
        any(_has_function_tools(content) for content in contents),
    )


def _has_function_tools(content: Mapping[str, Any]) -> bool:
    if content["type"] != "developer_content":
        return False
    functions = (content["tools"] or {}).get("functions")
    return functions is not None and bool(functions["tools"])


def _content_text(content: Mapping[str, Any]) -> str | SystemText | DeveloperText:
    kind = content["type"]
    if kind == "system_content":
        return SystemText(_system_text(content, False), _system_text(content, True))
    if kind == "developer_content":
        return DeveloperText(_developer_text(content))
    text: str = content["text"]
    return text


def _system_text(content: Mapping[str, Any], has_function_tools: bool) -> str:
    effort = content["reasoning_effort"]
    facts = replace(
        _NOTHING,
        model_identity=content["model_identity"],
        knowledge_cutoff=content["knowledge_cutoff"],
        current_date=content["conversation_start_date"],
        reasoning_effort=effort and effort.lower(),
    )
    sections = [] if facts == _NOTHING else [system_text(facts)]
    sections += _tools_sections(content["tools"])
    config = content["channel_config"]
    if config and config["valid_channels"]:
        required = config["channel_required"]
        channels = replace(
            _NOTHING, valid_channels=config["valid_channels"], channel_required=required
        )
        sections.append(system_text(channels, has_function_tools=has_function_tools))
    return "\n\n".join(sections)


_NOTHING: Final = SystemContent(
    model_identity=None, knowledge_cutoff=None, reasoning_effort=None, valid_channels=()
)


def _developer_text(content: Mapping[str, Any]) -> str:
    sections = []
    if content["instructions"] is not None:
        sections.append(developer_text(DeveloperContent(instructions=content["instructions"])))
    return "\n\n".join(sections + _tools_sections(content["tools"]))


def _tools_sections(namespaces: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    if not namespaces:
        return []
    return [tools_section(_namespace(namespaces[key]) for key in sorted(namespaces))]


def _namespace(namespace: Mapping[str, Any]) -> ToolNamespace:
    tools = tuple(map(_tool, namespace["tools"]))
    return ToolNamespace(namespace["name"], tools, namespace["description"])


def _tool(tool: Mapping[str, Any]) -> Tool:
    parameters = tool["parameters"]
    if parameters is not None and not isinstance(parameters, dict):
        parameters = {}  # a value that is not a schema is written like an empty one
    return Tool(tool["name"], tool["description"], parameters)


# --- To tokens ------------------------------------------------------------------------------


def render_turns(turns: Sequence[Turn], *, drop_analysis: bool) -> list[int]:
    """The tokens of a conversation.

    Raises:
        HarmonyError: A message cannot be rendered.
    """
    has_function_tools = any(turn.has_function_tools for turn in turns)
    before = _first_final(turns) if drop_analysis and _is_answered(turns) else 0
    tokens: list[int] = []
    for index, turn in enumerate(turns):
        if index >= before or turn.channel != "analysis":
            tokens += render_turn(turn, has_function_tools=has_function_tools)
    return tokens


def render_for_completion(
    turns: Sequence[Turn], next_role: str, *, drop_analysis: bool
) -> list[int]:
    """The tokens of a conversation and the start of the next message."""
    tokens = render_turns(turns, drop_analysis=drop_analysis)
    return [*tokens, START, *encode(next_role)]


def render_for_training(turns: Sequence[Turn], *, drop_analysis: bool) -> list[int]:
    """The tokens of a conversation; a final answer at its end is closed with `<|return|>`."""
    tokens = render_turns(turns, drop_analysis=drop_analysis)
    if turns and turns[-1].role == "assistant" and turns[-1].channel == "final":
        tokens[-1] = RETURN
    return tokens


def render_turn(turn: Turn, *, has_function_tools: bool) -> list[int]:
    """The tokens of one message.

    Raises:
        HarmonyError: A tool has no name, or the role does not allow a content.
    """
    role = Role(turn.role)
    if role is Role.TOOL and turn.name is None:
        raise HarmonyError("Tools should have a name!")
    content_type = turn.content_type
    constrained = content_type is not None and content_type.startswith(_CONSTRAIN)
    if content_type is not None and constrained:
        content_type = content_type.removeprefix(_CONSTRAIN)
    message = Message(
        role,
        _texts(turn, has_function_tools),
        name=turn.name,
        channel=turn.channel,
        recipient=turn.recipient,
        content_type=content_type,
        constrained=constrained,
    )
    return render_message(message)


def _texts(turn: Turn, has_function_tools: bool) -> str | tuple[str, ...]:
    contents = turn.contents
    if len(contents) == 1 and isinstance(contents[0], str):
        return contents[0]
    return tuple(_text(content, turn.role, has_function_tools) for content in contents)


def _text(content: str | SystemText | DeveloperText, role: str, has_function_tools: bool) -> str:
    if isinstance(content, SystemText):
        _check_place("System", "system", role)
        return content.with_function_tools if has_function_tools else content.plain
    if isinstance(content, DeveloperText):
        _check_place("Developer", "developer", role)
        return content.text
    return content


def _check_place(kind: str, home: str, role: str) -> None:
    if role != home:
        raise HarmonyError(
            f"{kind}Content may only appear in {home} messages, found in {role.capitalize()}"
        )


def _is_answered(turns: Sequence[Turn]) -> bool:
    channels = [turn.channel for turn in turns if turn.role == "assistant"]
    return bool(channels) and channels[-1] == "final"


def _first_final(turns: Sequence[Turn]) -> int:
    return [turn.channel for turn in turns].index("final")
