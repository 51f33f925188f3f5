"""How a run goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from .._checks import POSITIVE, check_type, checked_integer, checked_number
from .._options import checked_fields, refuse_options
from ..errors import OptionError
from ..sampling import SamplingParams
from ..tools import Toolbox, ToolsLike
from ..tools._choice import ToolChoice, tool_choice_of
from ..tools._source import is_tools_like
from ..wire._render_options import RENDER_OPTIONS, RenderKeywords, RenderOptions
from ._context import ContextPolicy, drop_tool_cycles


@checked_fields
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes: what may be called, how tokens are chosen, and the budgets.

    Args:
        tools: What may be called: functions, `Tool`s and namespaces with functions, sources
            such as an MCP server, or a `Toolbox`. Those that the conversation does not declare
            are declared in its first developer message, python and the browser in its first
            system message, or in a new one. Tools that the conversation declares with their
            functions need not be repeated.
        sampling: How tokens are chosen.
        constrained: Whether each completion is constrained to be well-formed, with the tools and
            the response formats that the conversation declares.
        tool_choice: Which tools the model may or must call, as for `constraint`; other than
            `"auto"` it constrains the completions. Once a tool that had to be called was, the
            model is free.
        max_turns: The most completions.
        max_retries: The most completions in which a call goes wrong, in its name, in its
            arguments or in the tool, before the run ends.
        max_tool_calls: The most calls that are run. A call beyond them is told so, once; the
            next ends the run.
        max_completion_tokens: The most tokens that all completions together may have.
        max_seconds: How long the run may take. When the time is up, generating and running
            tools stop.
        max_prompt_tokens: The most tokens that a prompt may have.
        context_policy: Chooses what is left out of a prompt that would have more.
        rendering: How the prompts are rendered. Functions that take the options as keyword
            arguments take the fields of `RenderOptions` too.

    Raises:
        OptionError: An option has a value that it cannot have.

    Example:
        >>> RunOptions(max_turns=0)
        Traceback (most recent call last):
            ...
        harmony_kit.errors.OptionError: max_turns: expected an integer of at least 1, got 0
    """

    tools: Iterable[ToolsLike] = ()
    sampling: SamplingParams = SamplingParams()  # noqa: RUF009 -- frozen
    constrained: bool = False
    tool_choice: ToolChoice | str = "auto"
    max_turns: int = 10
    max_retries: int = 3
    max_tool_calls: int | None = None
    max_completion_tokens: int | None = None
    max_seconds: float | None = None
    max_prompt_tokens: int | None = None
    context_policy: ContextPolicy = drop_tool_cycles
    rendering: RenderOptions = RenderOptions()  # noqa: RUF009 -- frozen

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", _checked_tools(self.tools))
        check_type("sampling", self.sampling, SamplingParams)
        check_type("constrained", self.constrained, bool)
        tool_choice_of(self.tool_choice)
        for name, (least, may_be_none) in _BUDGETS.items():
            checked_integer(name, getattr(self, name), least=least, optional=may_be_none)
        checked_number("max_seconds", self.max_seconds, POSITIVE)
        if not callable(self.context_policy):
            raise OptionError(
                f"expected a function, got {self.context_policy!r}", option="context_policy"
            )
        check_type("rendering", self.rendering, RenderOptions)

    @classmethod
    def of(cls, options: RunOptions | None, changes: Mapping[str, Any], where: str) -> RunOptions:
        """Options with some of them changed, as keyword arguments of a function say it.

        Args:
            options: The options; the defaults if there are none.
            changes: Values by the name of the option, of `RunOptions` or of `RenderOptions`.
            where: The function, for errors.

        Raises:
            TypeError: There is no option of that name.
            OptionError: An option has a value that it cannot have.
        """
        options = _DEFAULTS if options is None else options
        check_type("options", options, RunOptions)
        if not changes.keys() <= _KEYWORDS:
            refuse_options(where, changes, {*_KEYWORDS, "options"})
        own = {name: value for name, value in changes.items() if name not in RENDER_OPTIONS}
        rendering = {name: changes[name] for name in RENDER_OPTIONS if name in changes}
        options = replace(options, **own) if own else options
        if not rendering:
            return options
        return replace(options, rendering=replace(options.rendering, **rendering))


class RunKeywords(RenderKeywords, total=False):
    """The fields of `RunOptions` and `RenderOptions` as keyword arguments."""

    tools: Iterable[ToolsLike]
    sampling: SamplingParams
    constrained: bool
    tool_choice: ToolChoice | str
    max_turns: int
    max_retries: int
    max_tool_calls: int | None
    max_completion_tokens: int | None
    max_seconds: float | None
    max_prompt_tokens: int | None
    context_policy: ContextPolicy
    rendering: RenderOptions


# The least of each, and whether there need be none.
_BUDGETS: Final = {
    "max_turns": (1, False),
    "max_retries": (0, False),
    "max_tool_calls": (0, True),
    "max_completion_tokens": (1, True),
    "max_prompt_tokens": (1, True),
}
_KEYWORDS: Final = RENDER_OPTIONS | {field.name for field in fields(RunOptions)}


def _checked_tools(tools: Any) -> Iterable[ToolsLike]:
    if isinstance(tools, Toolbox):
        return tools
    if not isinstance(tools, Iterable) or isinstance(tools, str | bytes | Mapping | type):
        raise OptionError(
            f"expected a Toolbox or an iterable of tools such as [look], got {tools!r}",
            option="tools",
        )
    listed = tuple(tools)
    for place, tool in enumerate(listed):
        if not is_tools_like(tool):
            raise OptionError(
                f"expected a function, a Tool, a namespace or a source of tools, got {tool!r}",
                option=f"tools[{place}]",
            )
    return listed


_DEFAULTS: Final = RunOptions()
