"""The options of a run."""

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
    """The options of a run: tools, sampling and budgets.

    Args:
        tools: Functions, `Tool`s, pydantic model classes, `ToolNamespace`s, sources such as an MCP
            server, and `Toolbox`es; or a single `Toolbox`. Tools that the conversation does not
            declare are declared in its first developer message, python and the browser in its first
            system message; a missing message is created. Tools that the conversation declares with
            their functions need not be repeated.
        sampling: How tokens are chosen.
        constrained: Whether completions are constrained to be well-formed, with the tools and the
            response formats that the conversation declares.
        tool_choice: Which tools the model may or must call, as for `constraint`; any value but
            `"auto"` constrains the completions. Once a required call has been made, the model may
            answer.
        max_turns: The maximum number of completions.
        max_retries: The maximum number of completions with a failed call (in its name, its
            arguments or the tool) before the run ends.
        max_tool_calls: The maximum number of calls that are run. The first completion with a call
            beyond it gets an error for that call; the next one ends the run.
        max_completion_tokens: The maximum number of tokens of all completions together.
        max_seconds: The maximum duration of the run in seconds. Generation and tools are stopped
            when it is reached.
        max_prompt_tokens: The maximum number of tokens of a prompt.
        context_policy: Selects what is left out of a prompt that is longer.
        rendering: How the prompts are rendered. Functions that take these options as keyword
            arguments also take the fields of `RenderOptions`.

    Raises:
        OptionError: An option has an invalid value.

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
        """Options with changes, for the keyword arguments of a function.

        Args:
            options: The options; the defaults if `None`.
            changes: Values by the name of an option of `RunOptions` or `RenderOptions`.
            where: The name of the function, for errors.

        Raises:
            TypeError: An option does not exist.
            OptionError: An option has an invalid value.
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


# The minimum of each, and whether None is allowed.
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
