"""A set of tools: declaring them and running their calls."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Self

from .._checks import check_type, checked_integer
from .._options import checked_options
from ..calls._calls import ToolCall
from ..errors import ToolArgumentsError, ToolError
from ..wire._contents import Tool, ToolNamespace
from ..wire._messages import Message
from ..wire._roles import FUNCTIONS
from ._answers import Ending, ToolAnswer, fault_of, tool_result, wrong_arguments
from ._conversion import ArgumentConverter
from ._declared import declare, declared_namespaces
from ._policy import Confirm, ToolPolicy
from ._results import ToolResult, error_text, limited, result_text, whole_characters
from ._running import Slots, StoppedError, TimeIsUpError, run_within
from ._source import (
    Declaration,
    ToolGroup,
    ToolsLike,
    ToolSource,
    declarations,
    full_name,
    is_source,
    listed,
    merged,
    same_tool,
)


class Toolbox(ToolGroup):
    """A set of tools that declares them and runs the model's calls.

    Iterating yields the declared namespaces. A toolbox can serve any number of runs, sequentially
    or concurrently. As an async context manager, it closes its sources on exit.

    Args:
        tools: Functions, `Tool`s and pydantic model classes, which belong to the namespace
            `functions`; `ToolNamespace`s; sources such as an MCP server, with the tools that it has
            now; and other toolboxes, whose own policies remain in force. A tool without a function
            is only declared.
        policy: How calls are run.
        policies: How the calls of individual tools are run instead, by full name, or by the bare
            name of a function.
        concurrency: The maximum number of calls that run at a time in one event loop; `None` for no
            limit.

    Raises:
        ToolError: Two different tools have the same name, a value is not a tool, or `policies`
            names an unknown tool.
        OptionError: Another option has an invalid value.

    Example:
        >>> import asyncio
        >>> from harmony_kit import call_message, tool_calls
        >>> def add(a: int, b: int) -> int:
        ...     return a + b
        >>> toolbox = Toolbox([add])
        >>> list(toolbox.tools)
        ['functions.add']
        >>> (call,) = tool_calls([call_message("functions.add", '{"a": 1, "b": 2}')], toolbox)
        >>> asyncio.run(toolbox.run(call)).value
        3
    """

    @checked_options
    def __init__(
        self,
        tools: Iterable[ToolsLike] = (),
        *,
        policy: ToolPolicy | None = None,
        policies: Mapping[str, ToolPolicy] | None = None,
        concurrency: int | None = 8,
    ) -> None:
        self._namespaces: dict[str, ToolNamespace] = {}
        self._builtin: frozenset[str] = frozenset()
        self._tools: dict[str, Tool] = {}
        self._sources: list[ToolSource] = []
        self._policies: dict[str, ToolPolicy] = {}
        for value in listed(tools):
            self._add(value)
        self._policy = ToolPolicy() if policy is None else policy
        self._has_policy = policy is not None
        self._policies |= {self._known(name): own for name, own in (policies or {}).items()}
        check_type("policy", self._policy, ToolPolicy)
        for name, own in self._policies.items():
            check_type(f"policies[{name!r}]", own, ToolPolicy)
        checked_integer("concurrency", concurrency, least=1)
        self._slots = Slots(concurrency)
        self._converters: dict[str, ArgumentConverter] = {}

    # Building

    def _add(self, value: ToolsLike) -> None:
        for declaration in declarations((value,)):
            self._add_declaration(declaration)
        if isinstance(value, Toolbox):
            self._sources += value._sources
            self._policies |= value._own_policies()
        elif is_source(value):
            self._sources.append(value)

    def _add_declaration(self, declaration: Declaration) -> None:
        namespace = declaration.namespace
        self._namespaces[namespace.name] = merged(self._namespaces.get(namespace.name), namespace)
        declared = {full_name(namespace, tool): tool for tool in namespace.tools}
        for name, tool in (*declared.items(), *declaration.tools.items()):
            self._tools[name] = same_tool(name, self._tools.get(name), tool)
        if declaration.is_builtin:
            self._builtin |= {namespace.name}

    def _own_policies(self) -> dict[str, ToolPolicy]:
        """The policies that were given, for each tool by full name."""
        general = dict.fromkeys(self._tools, self._policy) if self._has_policy else {}
        return general | self._policies

    def _known(self, name: str) -> str:
        for known in (name, f"{FUNCTIONS}.{name}"):
            if known in self._tools:
                return known
        raise ToolError(f"policies[{name!r}]: there is no such tool")

    def merged_with(self, conversation: Iterable[Message]) -> Toolbox:
        """A toolbox that also contains the runnable tools declared in a conversation.

        If both have a tool of the same name, that of this toolbox is used.
        """
        more = copy.copy(self)
        more._namespaces = dict(self._namespaces)
        more._tools = dict(self._tools)
        more._converters = {}
        for namespace in declared_namespaces(conversation):
            new = tuple(tool for tool in namespace.tools if more._lacks(namespace, tool))
            if new:
                declared = Declaration(replace(namespace, tools=new), False, {})
                more._add_declaration(declared)
        return more

    def _lacks(self, namespace: ToolNamespace, tool: Tool) -> bool:
        """Whether a tool can run and this toolbox only declares it, or does not have it."""
        known = self._tools.get(full_name(namespace, tool))
        if known is not None and (known.function is not None or known != tool):
            return False
        return tool.function is not None

    # Declaring

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by full name, such as `"functions.get_weather"` or `"python"`."""
        return MappingProxyType(self._tools)

    def declarations(self) -> list[Declaration]:
        """The namespaces with the tools that run their calls."""
        return [
            Declaration(namespace, namespace.name in self._builtin, self._tools_of(namespace))
            for namespace in self
        ]

    def _tools_of(self, namespace: ToolNamespace) -> dict[str, Tool]:
        return {
            name: tool
            for name, tool in self._tools.items()
            if name == namespace.name or name.startswith(f"{namespace.name}.")
        }

    def __iter__(self) -> Iterator[ToolNamespace]:
        return iter(self._namespaces.values())

    def declared_in(self, conversation: Iterable[Message]) -> list[Message]:
        """The conversation with all of these tools declared.

        Missing tools are added to the first developer message, built-in ones (python, browser) to
        the first system message; a missing message is created.
        """
        return declare(
            conversation,
            system=(namespace for namespace in self if namespace.name in self._builtin),
            developer=(namespace for namespace in self if namespace.name not in self._builtin),
        )

    # Running

    def can_answer(self, call: ToolCall) -> bool:
        """Whether `run` can answer a call.

        It cannot if the tool is only declared: the caller has to run it. A call that cannot be run
        at all can always be answered, with an error.
        """
        return not call.runnable or self._function(call) is not None

    def _function(self, call: ToolCall) -> Callable[..., Any] | None:
        tool = self._tools.get(call.full_name or "")
        return None if tool is None else tool.function

    async def run(self, call: ToolCall) -> ToolAnswer:
        """Run a call, or answer it with an error for the model.

        If the caller is cancelled, so is the tool.

        Args:
            call: A call with a recipient.

        Raises:
            Exception: The function raised and the policy is to raise, or the policy's `confirm`
                raised.
        """
        policy = self._policies.get(call.full_name or "", self._policy)
        function = self._function(call)
        if not call.runnable or function is None:
            known = [name for name, tool in self._tools.items() if tool.function is not None]
            return _told(call, policy, "invalid", fault_of(call, known))
        try:
            bound = self._bound(call, function)
        except ToolArgumentsError as error:
            return _told(call, policy, "invalid", wrong_arguments(call, str(error)), error)
        if policy.confirm is not None:
            refusal = await _refusal(policy.confirm, call)
            if refusal is not None:
                return _told(call, policy, "refused", refusal)
        async with self._slots.taken():
            return await _attempted(call, bound, policy)

    def _bound(self, call: ToolCall, function: Callable[..., Any]) -> Callable[[], Any]:
        """The function with the arguments of a call, converted to the types that it declares."""
        arguments = call.value
        if not isinstance(arguments, dict):
            return partial(function, arguments)
        name = call.full_name or ""
        if name not in self._converters:
            self._converters[name] = ArgumentConverter(function)
        return partial(function, **self._converters[name](arguments))

    # Closing

    async def aclose(self) -> None:
        """Close the sources.

        Raises:
            Exception: A source could not be closed; the others are closed anyway.
        """
        errors = []
        for source in reversed(self._sources):
            try:
                await source.aclose()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("closing tools", errors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _refusal(confirm: Confirm, call: ToolCall) -> str | None:
    """The reason why a call may not run, for the model; `None` if it may."""
    decided = confirm(call)
    decision = await decided if inspect.isawaitable(decided) else decided
    if decision is True:
        return None
    reason = f": {decision}" if decision and isinstance(decision, str) else "."
    return f"the call was not allowed{reason}"


async def _attempted(call: ToolCall, function: Callable[[], Any], policy: ToolPolicy) -> ToolAnswer:
    """Run a function until it returns, with as many attempts as the policy allows."""
    last: Exception | None = None
    for _ in range(policy.retries + 1):
        try:
            value = await run_within(function, policy.timeout)
            text = result_text(value)
        except TimeIsUpError as error:
            told = f"{call.full_name} took longer than {policy.timeout:g} seconds and was given up."
            return _told(call, policy, "timed_out", told, error)
        except ToolArgumentsError as error:
            return _told(call, policy, "invalid", wrong_arguments(call, str(error)), error)
        except Exception as error:
            last = error
        else:
            message = tool_result(call, limited(text, policy.max_result_characters))
            own = value.value if isinstance(value, ToolResult) else value
            return ToolAnswer(message, "returned", own)
    assert last is not None
    if policy.on_error == "raise":
        raise last
    speaks_for_itself = isinstance(last, ToolError | StoppedError)
    told = str(last) if speaks_for_itself else error_text(last)
    return _told(call, policy, "raised", told, last)


def _told(
    call: ToolCall,
    policy: ToolPolicy,
    ending: Ending,
    text: str,
    error: BaseException | None = None,
) -> ToolAnswer:
    """An answer that reports an error."""
    text = limited(whole_characters(f"Error: {text}"), policy.max_result_characters)
    return ToolAnswer(tool_result(call, text), ending, error=error)
