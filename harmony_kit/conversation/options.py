"""How a run goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from ..header import HeaderOrder
from ..messages import SchemaStyle
from ..render import DropAnalysis
from ..sampling import SamplingParams
from ..tools import ToolsLike
from ..tools.choice import ToolChoice
from .context import ContextPolicy


class RunOptions(TypedDict, total=False):
    """How a run goes; the keyword arguments of `run`, `arun`, `stream` and `astream`.

    Attributes:
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
        max_turns: The most completions; 10 by default.
        max_retries: The most completions in which a call goes wrong, in its name, in its
            arguments or in the tool, before the run ends; 3 by default.
        max_tool_calls: The most calls that are run. A call beyond them is told so, once; the
            next ends the run.
        max_completion_tokens: The most tokens that all completions together may have.
        max_seconds: How long the run may take. When the time is up, generating and running
            tools stop.
        max_prompt_tokens: The most tokens that a prompt may have.
        context_policy: What is left out of a prompt that would have more; `drop_tool_cycles`
            by default.
        drop_analysis: Which reasoning of earlier turns the prompts leave out; as for `render`.
        header_order: Where the recipient stands in a header; as for `render`.
        schema_style: How tool parameters are written; as for `render`.
    """

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
    drop_analysis: DropAnalysis
    header_order: HeaderOrder
    schema_style: SchemaStyle
