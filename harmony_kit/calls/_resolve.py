"""Whom a recipient means, among the tools that were declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ..wire._builtin_tools import BROWSER, PYTHON
from ..wire._contents import Tool, ToolNamespace
from ..wire._roles import FUNCTIONS


class Target(NamedTuple):
    """A tool that can be called."""

    name: str
    namespace: str | None
    schema_json: str | None = None
    takes_text: bool = False


class Resolved(NamedTuple):
    """Whom a recipient means.

    Attributes:
        target: The tool.
        declared: Whether it was declared.
        normalized: Whether the recipient was written wrongly.
    """

    target: Target
    declared: bool
    normalized: bool = False


# What a model leaves behind a name. Underscores and hyphens belong to names.
_PUNCTUATION: Final = " \t\n.,:;!?()[]{}<>|=*/\\\"'`"
_SPECIAL_SPELLINGS: Final = re.compile(r"(?:<\|[a-z_]*\|>\s*)*")


class DeclaredNames:
    """The declared tools by every recipient that means them.

    Args:
        tools: Namespaces, or the names of functions alone; `None` if nothing is known.
    """

    def __init__(self, tools: Iterable[ToolNamespace | str] | None) -> None:
        self._known = tools is not None
        self._targets: dict[str, Target] = {}
        targets = [*_targets(tools)] if tools is not None else []
        for target in targets:
            self._targets.setdefault(_full_name(target), target)
        # Other ways to write a name never hide a tool that has it as its own.
        for target in targets:
            alias = target.name if target.namespace == FUNCTIONS else _behind_functions(target)
            self._targets.setdefault(alias, target)

    def resolve(self, recipient: str) -> Resolved:
        """Whom a recipient means.

        Args:
            recipient: The recipient of a message.
        """
        if not self._known:
            return Resolved(_split(recipient), declared=True)
        target = self._targets.get(recipient)
        if target is not None:
            return Resolved(target, declared=True)
        cleaned = without_remains(recipient)
        target = self._targets.get(cleaned)
        if target is not None:
            return Resolved(target, declared=True, normalized=True)
        return Resolved(_split(recipient), declared=False)


def _full_name(target: Target) -> str:
    return f"{target.namespace}.{target.name}" if target.namespace else target.name


def _behind_functions(target: Target) -> str:
    return f"{FUNCTIONS}.{_full_name(target)}"


def without_remains(recipient: str) -> str:
    """A recipient without special tokens spelt out and punctuation after the name."""
    return _without_special_tokens(recipient).rstrip(_PUNCTUATION)


def _without_special_tokens(recipient: str) -> str:
    spelled = _SPECIAL_SPELLINGS.match(recipient)
    return recipient[spelled.end() if spelled else 0 :].partition("<|")[0]


def _split(recipient: str) -> Target:
    """The parts of a name about which nothing is known."""
    if recipient == PYTHON.name:
        return Target(recipient, None, takes_text=True)
    recipient = _without_special_tokens(recipient)
    namespace, _, name = recipient.partition(".")
    return Target(name, namespace) if namespace and name else Target(recipient, None)


def _targets(tools: Iterable[ToolNamespace | str]) -> Iterator[Target]:
    for tool in tools:
        yield from _named(tool) if isinstance(tool, str) else _in_namespace(tool)


def _of_tool(tool: Tool, namespace: str) -> Target:
    return Target(tool.name, namespace, tool.parameters_json)


def _in_namespace(namespace: ToolNamespace) -> Iterator[Target]:
    if not namespace.tools:
        yield Target(namespace.name, None, takes_text=True)
    for tool in namespace.tools:
        yield _of_tool(tool, namespace.name)


def _named(name: str) -> Iterator[Target]:
    """What a plain name declares: a built-in tool, or else a function without a schema."""
    if name in (PYTHON.name, BROWSER.name):
        yield from _in_namespace(PYTHON if name == PYTHON.name else BROWSER)
        return
    built_in = [target for target in _in_namespace(BROWSER) if _full_name(target) == name]
    yield from built_in or [Target(name.removeprefix(f"{FUNCTIONS}."), FUNCTIONS)]


def names_nobody(recipient: str) -> bool:
    """Whether a recipient has no name but that of the functions' namespace.

    Args:
        recipient: The recipient.
    """
    return without_remains(recipient) in ("", FUNCTIONS)
