"""Resolving recipients to declared tools."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final, NamedTuple

from ..wire._builtin_tools import BROWSER, PYTHON
from ..wire._contents import Tool, ToolNamespace
from ..wire._roles import FUNCTIONS


class Target(NamedTuple):
    """A tool that a recipient can name."""

    name: str
    namespace: str | None
    schema_json: str | None = None
    takes_text: bool = False

    @property
    def full_name(self) -> str:
        """The name with its namespace."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


class Resolved(NamedTuple):
    """The tool that a recipient names.

    Attributes:
        target: The tool.
        declared: Whether it is declared.
        normalized: Whether the recipient was malformed.
    """

    target: Target
    declared: bool
    normalized: bool = False


# Trailing characters that models write after a name. Underscores and hyphens belong to names.
_PUNCTUATION: Final = " \t\n.,:;!?()[]{}<>|=*/\\\"'`"
_SPECIAL_SPELLINGS: Final = re.compile(r"(?:<\|[a-z_]*\|>\s*)*")


class DeclaredNames:
    """The declared tools by every recipient that resolves to them.

    Args:
        tools: Namespaces and names of functions; `None` if the declarations are unknown.
    """

    def __init__(self, tools: Iterable[ToolNamespace | str] | None) -> None:
        self._known = tools is not None
        self._targets: dict[str, Target] = {}
        targets = [*_targets(tools)] if tools is not None else []
        for target in targets:
            self._targets.setdefault(target.full_name, target)
        # An alias never hides a tool that has the alias as its own name.
        for target in targets:
            alias = (
                target.name if target.namespace == FUNCTIONS else f"{FUNCTIONS}.{target.full_name}"
            )
            self._targets.setdefault(alias, target)

    @cached_property
    def _similar(self) -> dict[str, set[Target]]:
        """The tools by the key of their names; only a misspelt name needs them."""
        similar: dict[str, set[Target]] = {}
        for name, target in self._targets.items():
            similar.setdefault(_key(name), set()).add(target)
        return similar

    def has(self, name: str) -> bool:
        """Whether a tool was declared that has a name, or is meant by it.

        Args:
            name: The name.
        """
        return self._known and self.resolve(name).declared

    def resolve(self, recipient: str) -> Resolved:
        """The tool that a recipient names."""
        if not self._known:
            return Resolved(_split(recipient), declared=True)
        target = self._targets.get(recipient)
        if target is not None:
            return Resolved(target, declared=True)
        target = self._misspelt(without_remains(recipient))
        if target is not None:
            return Resolved(target, declared=True, normalized=True)
        return Resolved(_split(recipient), declared=False)

    def _misspelt(self, recipient: str) -> Target | None:
        """The one tool that a recipient means which no tool has as its name."""
        for spelling in _spellings(recipient):
            target = self._targets.get(spelling)
            if target is not None:
                return target
        for spelling in _spellings(recipient):
            similar = self._similar.get(_key(spelling), set())
            if len(similar) == 1:
                return next(iter(similar))
        return None


# What is glued to a name where a marker was lost.
_GLUED: Final = ("json", "code", "commentary", "analysis", "final")
_SEPARATORS: Final = re.compile(r"[^0-9a-z]+")
_NAMESPACE: Final = re.compile(r"(?:functions?_)+")


def _spellings(recipient: str) -> Iterator[str]:
    """A recipient, and the rest of it without the words that are glued to its end."""
    while recipient:
        yield recipient
        word = next((word for word in _GLUED if recipient.endswith(word)), None)
        recipient = recipient.removesuffix(word).rstrip(_PUNCTUATION) if word else ""


def _key(name: str) -> str:
    """What is the same for names that differ in case, separators and the word `functions`."""
    return _NAMESPACE.sub("", _SEPARATORS.sub("_", name.casefold()).strip("_"), count=1)


def without_remains(recipient: str) -> str:
    """A recipient without spelled-out special tokens, and without punctuation around the name."""
    return _without_special_tokens(recipient).strip(_PUNCTUATION)


def _without_special_tokens(recipient: str) -> str:
    spelled = _SPECIAL_SPELLINGS.match(recipient)
    return recipient[spelled.end() if spelled else 0 :].partition("<|")[0]


def _split(recipient: str) -> Target:
    """The namespace and name in a recipient that is not declared."""
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
    """The declarations of a plain name: a built-in tool, or a function without a schema."""
    if name in (PYTHON.name, BROWSER.name):
        yield from _in_namespace(PYTHON if name == PYTHON.name else BROWSER)
        return
    built_in = [target for target in _in_namespace(BROWSER) if target.full_name == name]
    yield from built_in or [Target(name.removeprefix(f"{FUNCTIONS}."), FUNCTIONS)]


def names_nobody(recipient: str) -> bool:
    """Whether a recipient has no tool name: it is empty or the namespace of functions."""
    return without_remains(recipient) in ("", FUNCTIONS)
