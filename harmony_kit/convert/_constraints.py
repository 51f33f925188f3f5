"""What a request asks to be kept to, as a constraint on its completion.

A prompt can ask for a call or for a form of the answer; only a constraint keeps a model to it.
Schemas that must be kept to (`strict`) and cannot be are errors, as the APIs have it. Of the others
as much is enforced as can be: that it is JSON at least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..errors import GrammarError, RequestError
from ..grammar import Constraint, Reasoning, constraint
from ..tools._choice import ToolChoice
from ..wire._contents import ResponseFormat, ToolNamespace
from ._notes import Note
from ._requirements import REASONING, RESPONSE_FORMAT, TOOL_CHOICE, Requirement

Verify = Callable[[Constraint], object]
"""Raises a GrammarError for a constraint that an engine cannot keep to."""

_ARGUMENTS: Final = ("after", TOOL_CHOICE, REASONING)
"""Errors about these have nothing to do with schemas."""


@dataclass(frozen=True)
class Completion:
    """What a completion is to be.

    Attributes:
        tools: What may be called.
        tool_choice: Which of it may or must be called.
        response_format: The form of the answer.
        reasoning: How much the model may think.
        after: Token ids with which the completion begins already, at the end of the prompt.
    """

    tools: tuple[ToolNamespace, ...]
    tool_choice: ToolChoice
    response_format: ResponseFormat | None
    reasoning: Reasoning
    after: Sequence[int]


def constraint_of(
    completion: Completion,
    requirements: Mapping[str, Requirement],
    *,
    verify: Verify = Constraint.verify,
) -> tuple[Constraint, tuple[Note, ...]]:
    """The constraint on a completion.

    Args:
        completion: What it is to be.
        requirements: What of it was asked for, and where.
        verify: Refuses what the engine that is to keep to it cannot; llguidance by default.

    Returns:
        The constraint, and what of the schemas it leaves out.

    Raises:
        RequestError: What must be kept to cannot be; the error names the JSON path.
        GrammarError: No completion begins with what it is to begin with.
    """
    try:
        return _constraint(completion, frozenset(), verify), ()
    except GrammarError as error:
        if error.path == TOOL_CHOICE and TOOL_CHOICE in requirements:
            raise RequestError(error.reason, path=requirements[TOOL_CHOICE].path) from None
        refused = {} if error.path in _ARGUMENTS else _refused_schemas(completion, verify)
        if not refused:
            raise
    notes = _notes(refused, requirements)
    return _constraint(completion, frozenset(refused), verify), notes


def _constraint(completion: Completion, loose: frozenset[str], verify: Verify) -> Constraint:
    """The constraint, without some of the schemas."""
    form = completion.response_format
    if form is not None and RESPONSE_FORMAT in loose:
        form = ResponseFormat(form.name, {})
    made = constraint(
        completion.tools,
        tool_choice=completion.tool_choice,
        response_format=form,
        reasoning=completion.reasoning,
        strict=frozenset(_single_tools(completion.tools)) - loose,
        after=completion.after,
    )
    verify(made)
    return made


def _single_tools(namespaces: Sequence[ToolNamespace]) -> dict[str, ToolNamespace]:
    """Every tool, alone in its namespace, by its full name."""
    return {
        f"{space.name}.{tool.name}": replace(space, tools=(tool,))
        for space in namespaces
        for tool in space.tools
    }


def _refused_schemas(completion: Completion, verify: Verify) -> dict[str, GrammarError]:
    """Why schemas cannot be enforced, by the names of what they are the schemas of."""
    alone = {
        name: constraint([tool], tool_choice="required", reasoning="none")
        for name, tool in _single_tools(completion.tools).items()
    }
    form = completion.response_format
    alone[RESPONSE_FORMAT] = constraint(response_format=form, reasoning="none")
    refusals = {name: _refusal(made, verify) for name, made in alone.items()}
    return {name: error for name, error in refusals.items() if error is not None}


def _refusal(made: Constraint, verify: Verify) -> GrammarError | None:
    try:
        verify(made)
    except GrammarError as error:
        return error
    return None


def _notes(
    refused: Mapping[str, GrammarError], requirements: Mapping[str, Requirement]
) -> tuple[Note, ...]:
    """What is to be said of schemas that were asked for and are not enforced."""
    notes = []
    for name in refused.keys() & requirements.keys():
        reason, place = refused[name].reason, refused[name].path.removeprefix(name)
        path = f"{requirements[name].path}{place}"
        if requirements[name].is_strict:
            raise RequestError(reason, path=path)
        notes.append(Note(path, f"not enforced: {reason}"))
    return tuple(sorted(notes))
