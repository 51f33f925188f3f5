"""The tools of a run: what is declared, what can be run, and running it."""

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
from ._declared import declare, declared_namespaces, merged
from ._policy import Confirm, ToolPolicy
from ._results import ToolResult, error_text, limited, result_text, whole_characters
from ._running import Slots, StoppedError, TimeIsUpError, run_within
from ._source import ToolsLike, ToolSource, full_name, is_builtin, is_source, namespace_of


class Toolbox:
    """Tools: declares them, and runs the calls that a model makes of them.

    Iterating gives the namespaces as they are declared. One toolbox can serve any number of
    runs, one after another or at once. Used with `async with`, it closes its sources at the
    end.

    Args:
        tools: Functions, `Tool`s and pydantic models, which belong to the namespace
            `functions`; whole namespaces, whose tools have functions; and sources such as an
            MCP server, whose tools are those that it has now. What has no function is only
            declared.
        policy: How calls are run.
        policies: How those of single tools are run instead, by full name, or by the name of a
            function alone.
        concurrency: The most calls that run at a time in one event loop; `None` for any
            number.

    Raises:
        ToolError: Two different tools have the same name, a value is no tool, or `policies`
            names a tool that is not here.
        OptionError: Another option has a value that it cannot have.
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
        for value in tools:
            self._add(value)
        self._policy = ToolPolicy() if policy is None else policy
        self._policies = {self._known(name): own for name, own in (policies or {}).items()}
        check_type("policy", self._policy, ToolPolicy)
        for name, own in self._policies.items():
            check_type(f"policies[{name!r}]", own, ToolPolicy)
        checked_integer("concurrency", concurrency, least=1)
        self._slots = Slots(concurrency)
        self._converters: dict[str, ArgumentConverter] = {}

    # Building

    def _add(self, value: ToolsLike) -> None:
        self._add_namespace(namespace_of(value), is_builtin(value))
        if is_source(value):
            for name, tool in value.tools.items():
                self._add_tool(name, tool)
            self._sources.append(value)

    def _add_namespace(self, namespace: ToolNamespace, builtin: bool) -> None:
        known = self._namespaces.get(namespace.name)
        if known is not None and bool(known.tools) != bool(namespace.tools):
            raise ToolError(f"{namespace.name} is the name of a tool and of a namespace with tools")
        for tool in namespace.tools:
            self._add_tool(full_name(namespace, tool), tool)
        self._namespaces[namespace.name] = merged(known, namespace)
        if builtin:
            self._builtin |= {namespace.name}

    def _add_tool(self, name: str, tool: Tool) -> None:
        known = self._tools.get(name)
        if known is None or (known == tool and known.function is None):
            self._tools[name] = tool
        elif known != tool or tool.function not in (None, known.function):
            raise ToolError(f"two different tools are called {name}")

    def _known(self, name: str) -> str:
        for known in (name, f"{FUNCTIONS}.{name}"):
            if known in self._tools:
                return known
        raise ToolError(f"a policy for {name}: there is no such tool")

    def merged_with(self, conversation: Iterable[Message]) -> Toolbox:
        """A toolbox that also has the tools that a conversation declares with their functions.

        A tool of this toolbox stands before one of the same name in the conversation.

        Args:
            conversation: The messages.
        """
        more = copy.copy(self)
        more._namespaces = dict(self._namespaces)
        more._tools = dict(self._tools)
        more._converters = {}
        for namespace in declared_namespaces(conversation):
            new = tuple(tool for tool in namespace.tools if more._lacks(namespace, tool))
            if new:
                more._add_namespace(replace(namespace, tools=new), False)
        return more

    def _lacks(self, namespace: ToolNamespace, tool: Tool) -> bool:
        """Whether a tool has a function, and its like here has none."""
        known = self._tools.get(full_name(namespace, tool))
        if known is not None and (known.function is not None or known != tool):
            return False
        return tool.function is not None

    # Declaring

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by full name, such as `"functions.get_weather"` or `"python"`."""
        return MappingProxyType(self._tools)

    def __iter__(self) -> Iterator[ToolNamespace]:
        return iter(self._namespaces.values())

    def declared_in(self, conversation: Iterable[Message]) -> list[Message]:
        """A conversation that declares all of these tools.

        Those that it does not declare yet go into its first developer message, the built-in
        ones (python, browser) into its first system message; where there is none, one is made.

        Args:
            conversation: The messages.
        """
        return declare(
            conversation,
            system=(namespace for namespace in self if namespace.name in self._builtin),
            developer=(namespace for namespace in self if namespace.name not in self._builtin),
        )

    # Running

    def can_answer(self, call: ToolCall) -> bool:
        """Whether a call can be answered here.

        It cannot if its tool is only declared: then whoever declared it answers. What is wrong
        with a call that cannot be run can always be told.

        Args:
            call: The call.
        """
        return not call.runnable or self._function(call) is not None

    def _function(self, call: ToolCall) -> Callable[..., Any] | None:
        tool = self._tools.get(call.full_name or "")
        return None if tool is None else tool.function

    async def run(self, call: ToolCall) -> ToolAnswer:
        """Run a call, or tell the model why it was not run.

        Whatever goes wrong is told in the message of the answer. If the caller is cancelled,
        the tool is too.

        Args:
            call: The call; it addresses somebody.

        Raises:
            Exception: The function raised it, and the policy says to raise; or the policy's
                `confirm` did.
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
        """The function with the arguments of a call, as it declares them."""
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
            Exception: A source could not be closed; the others are closed all the same.
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
    """Why a call may not run, in words for the model; `None` if it may."""
    decided = confirm(call)
    decision = await decided if inspect.isawaitable(decided) else decided
    if decision is True:
        return None
    reason = f": {decision}" if decision and isinstance(decision, str) else "."
    return f"the call was not allowed{reason}"


async def _attempted(call: ToolCall, function: Callable[[], Any], policy: ToolPolicy) -> ToolAnswer:
    """Run a function as often as the policy says, until it returns."""
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
    """The answer that tells of something that went wrong."""
    text = limited(whole_characters(f"Error: {text}"), policy.max_result_characters)
    return ToolAnswer(tool_result(call, text), ending, error=error)
