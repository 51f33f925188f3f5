"""The requirements of a request as a constraint on its completion.

A prompt can ask for a call or for a format; only a constraint enforces them. A strict schema that
cannot be enforced is an error, as in the APIs. Of any other schema as much is enforced as possible:
at least that the text is JSON.
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
"""Raises a GrammarError for a constraint that an engine cannot enforce."""

_ARGUMENTS: Final = ("after", TOOL_CHOICE, REASONING)
"""The paths of errors that are not about a schema."""


@dataclass(frozen=True)
class Completion:
    """The completion that is wanted.

    Attributes:
        tools: The tools that may be called.
        tool_choice: Which of them may or must be called.
        response_format: The format of the answer.
        reasoning: Whether the model may reason.
        after: Token ids at the end of the prompt that are a prefix of the completion.
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
    """The constraint on a completion, and notes about the schemas that it leaves out.

    Args:
        completion: The completion that is wanted.
        requirements: What the request requires of it.
        verify: Refuses what the engine cannot enforce; checks with llguidance by default.

    Raises:
        RequestError: A strict requirement cannot be enforced; the error names the JSON path.
        GrammarError: No completion begins with `completion.after`.
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
    """The constraint without the schemas in `loose`."""
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
    """Every tool by its full name, alone in its namespace."""
    return {
        f"{space.name}.{tool.name}": replace(space, tools=(tool,))
        for space in namespaces
        for tool in space.tools
    }


def _refused_schemas(completion: Completion, verify: Verify) -> dict[str, GrammarError]:
    """Why schemas cannot be enforced, by the subject of their requirement."""
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
    """Notes about required schemas that are not enforced."""
    notes = []
    for name in refused.keys() & requirements.keys():
        reason, place = refused[name].reason, refused[name].path.removeprefix(name)
        path = f"{requirements[name].path}{place}"
        if requirements[name].is_strict:
            raise RequestError(reason, path=path)
        notes.append(Note(path, f"not enforced: {reason}"))
    return tuple(sorted(notes))
