"""What a request requires of its completion, which only a constraint can guarantee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..tools._choice import ANY_TOOL, ToolChoice
from ..wire._roles import FUNCTIONS
from ._reading import JsonObject

# The subject of a requirement, where it is not a function.
TOOL_CHOICE: Final = "tool_choice"
RESPONSE_FORMAT: Final = "response_format"
REASONING: Final = "reasoning"


class Requirement(NamedTuple):
    """Something that a request requires of its completion.

    Attributes:
        path: The JSON path of the field that requires it; for a schema, that of the schema.
        is_strict: Whether it is an error if it cannot be enforced.
    """

    path: str
    is_strict: bool = True


def requirements(
    choice: ToolChoice,
    choice_path: str,
    *,
    functions: Mapping[str, Requirement],
    answer: Requirement | None,
    no_reasoning: Requirement | None,
) -> dict[str, Requirement]:
    """The requirements of a request by subject.

    Args:
        choice: Which tools the model may or must call.
        choice_path: The JSON path of the choice.
        functions: By full name, the functions whose arguments must match their schema.
        answer: That the answer has a format.
        no_reasoning: That the model does not reason.
    """
    single = {
        TOOL_CHOICE: None if choice == ANY_TOOL else Requirement(choice_path),
        RESPONSE_FORMAT: answer,
        REASONING: no_reasoning,
    }
    asked = {name: requirement for name, requirement in single.items() if requirement is not None}
    return {**asked, **(functions if choice.mode != "none" else {})}


def requirement_of_function(name: str, node: JsonObject, key: str) -> dict[str, Requirement]:
    """The requirement of a `strict` declaration, whose schema is the field `key`; else empty."""
    return {f"{FUNCTIONS}.{name}": Requirement(node.at(key))} if node.boolean("strict") else {}
