"""What a request asks to be kept to: what a prompt can ask for, but not promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..tools._choice import ANY_TOOL, ToolChoice
from ..wire._roles import FUNCTIONS
from ._reading import JsonObject

# What a requirement is about, where it is not a function.
TOOL_CHOICE: Final = "tool_choice"
RESPONSE_FORMAT: Final = "response_format"
REASONING: Final = "reasoning"


class Requirement(NamedTuple):
    """Something that a request asks to be kept to, which a prompt alone cannot promise.

    Attributes:
        path: The JSON path where it is asked for; of a schema, where the schema stands.
        is_strict: Whether it is an error where it cannot be kept to.
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
    """What a request asks to be kept to, by what it is about.

    Args:
        choice: Which tools the model may or must call.
        choice_path: The JSON path where that is said.
        functions: By full names, of which functions the arguments must meet their schema.
        answer: That the answer has a form, if it must.
        no_reasoning: That the model does not think, if it must not.
    """
    single = {
        TOOL_CHOICE: None if choice == ANY_TOOL else Requirement(choice_path),
        RESPONSE_FORMAT: answer,
        REASONING: no_reasoning,
    }
    asked = {name: requirement for name, requirement in single.items() if requirement is not None}
    return {**asked, **(functions if choice.mode != "none" else {})}


def requirement_of_function(name: str, node: JsonObject, key: str) -> dict[str, Requirement]:
    """That the arguments of a function meet its schema, if its declaration is strict.

    Args:
        name: Its name in the prompt.
        node: The declaration.
        key: The field that has the schema.

    Raises:
        RequestError: `strict` is no boolean.
    """
    return {f"{FUNCTIONS}.{name}": Requirement(node.at(key))} if node.boolean("strict") else {}
