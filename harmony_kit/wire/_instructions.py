"""The texts of system and developer messages."""

from __future__ import annotations

from collections.abc import Iterable

from ._contents import DeveloperContent, ResponseFormat, SystemContent, Tool, ToolNamespace
from ._roles import SchemaStyle


def system_text(
    content: SystemContent,
    *,
    has_function_tools: bool = False,
    schema_style: SchemaStyle = "reference",
) -> str:
    """The text of a system message (format, section "System message format").

    Args:
        content: The content.
        has_function_tools: Whether the conversation declares function tools.
        schema_style: As for `RenderOptions`.
    """
    facts = []
    if content.model_identity is not None:
        facts.append(content.model_identity)
    if content.knowledge_cutoff is not None:
        facts.append(f"Knowledge cutoff: {content.knowledge_cutoff}")
    if content.current_date is not None:
        facts.append(f"Current date: {content.current_date}")
    sections = ["\n".join(facts)] if facts else []
    if content.reasoning_effort is not None:
        sections.append(f"Reasoning: {content.reasoning_effort.value}")
    if content.tools:
        sections.append(tools_section(_by_name(content.tools), schema_style=schema_style))
    if content.valid_channels:
        sections.append(_channels_section(content, has_function_tools))
    return "\n\n".join(sections)


def _channels_section(content: SystemContent, has_function_tools: bool) -> str:
    text = f"# Valid channels: {', '.join(content.valid_channels)}."
    if content.channel_required:
        text += " Channel must be included for every message."
    if has_function_tools:
        text += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return text


def developer_text(content: DeveloperContent, *, schema_style: SchemaStyle = "reference") -> str:
    """The text of a developer message (format, section "Developer message format")."""
    sections = []
    if content.instructions is not None:
        sections += ["# Instructions", content.instructions]
    if content.tools:
        sections.append(tools_section(_by_name(content.tools), schema_style=schema_style))
    if content.response_formats:
        sections += ["# Response Formats", *map(_response_format, content.response_formats)]
    return "\n\n".join(sections)


def _response_format(response_format: ResponseFormat) -> str:
    lines = [f"## {response_format.name}", ""]
    lines += _comment(response_format.description or "")
    return "\n".join([*lines, response_format.schema_json])


def tools_section(
    namespaces: Iterable[ToolNamespace], *, schema_style: SchemaStyle = "reference"
) -> str:
    """The section that declares tools (format, section "Defining available tools")."""
    sections = ["# Tools"]
    sections += ["\n".join(_namespace_lines(namespace, schema_style)) for namespace in namespaces]
    return "\n\n".join(sections)


def _by_name(namespaces: Iterable[ToolNamespace]) -> list[ToolNamespace]:
    return sorted(namespaces, key=lambda namespace: namespace.name)


def _namespace_lines(namespace: ToolNamespace, schema_style: SchemaStyle) -> list[str]:
    lines = [f"## {namespace.name}", ""]
    description = namespace.description or ""
    if not namespace.tools:
        return lines + _lines(description)
    lines += [*_comment(description), f"namespace {namespace.name} {{", ""]
    for tool in namespace.tools:
        lines += [*_comment(tool.description), _declaration(tool, schema_style), ""]
    return [*lines, f"}} // namespace {namespace.name}"]


def _declaration(tool: Tool, schema_style: SchemaStyle) -> str:
    if tool.parameters_json is None:
        return f"type {tool.name} = () => any;"
    from ._typescript.types import type_text_of_json  # only tools need it

    parameters = type_text_of_json(tool.parameters_json, style=schema_style)
    return f"type {tool.name} = (_: {parameters}) => any;"


def _comment(text: str) -> list[str]:
    return [f"// {line}" for line in _lines(text)]


def _lines(text: str) -> list[str]:
    """Lines split as the reference does: at line feeds, without one carriage return before them."""
    *ended, rest = text.split("\n")
    lines = [line.removesuffix("\r") for line in ended]
    return [*lines, rest] if rest else lines
