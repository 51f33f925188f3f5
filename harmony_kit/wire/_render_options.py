"""How conversations are rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    TypedDict,
    get_args,
)

from .._options import checked_fields, refuse_options
from ..errors import OptionError
from ._header.writing import HeaderOrder
from ._roles import SchemaStyle

DropAnalysis = Literal["reference", "finished-turns", "never"]
"""Which analysis messages of earlier turns are left out of a rendering.

`"finished-turns"`: the analysis before the *last* final answer, which is what the format's
documentation describes ("drop any previous CoT content"). `"reference"`: as openai-harmony: where
the last assistant message is a final answer, the analysis before the *first* final answer.
`"never"`: keep all.
"""


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(repr(str(choice)) for choice in choices)
        raise OptionError(f"{value!r} is none of {known}", option=name)


@checked_fields
@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """How conversations are rendered; the same defaults hold wherever a prompt is made.

    Args:
        drop_analysis: Which reasoning of earlier turns is left out; see `DropAnalysis`.
        header_order: Where the recipient stands in a header; see `HeaderOrder`.
        schema_style: How tool parameters are written: `"reference"` is byte for byte what
            the model was trained on, `"extended"` covers all of JSON Schema.
        verbatim: Whether messages that remember their tokens (`Message.tokens`) are rendered as
            these, id for id, so that prompts go on from what a model generated. The header order
            is that of the other messages.

    Raises:
        OptionError: An option has an unknown value.

    Example:
        >>> RenderOptions(drop_analysis="never").header_order
        'recipient-first'
    """

    drop_analysis: DropAnalysis = "finished-turns"
    header_order: HeaderOrder = "recipient-first"
    schema_style: SchemaStyle = "reference"
    verbatim: bool = True

    REFERENCE: ClassVar[RenderOptions]
    """The options with which `render` gives the tokens of openai-harmony."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        if not isinstance(self.verbatim, bool):
            raise OptionError(f"{self.verbatim!r} is neither True nor False", option="verbatim")

    @classmethod
    def of(
        cls, options: RenderOptions | None, changes: Mapping[str, Any], where: str
    ) -> RenderOptions:
        """Options with some of them changed, as keyword arguments of a function say it.

        Args:
            options: The options; the defaults if there are none.
            changes: Values by the name of the option.
            where: The function, for errors.

        Raises:
            TypeError: There is no option of that name.
            OptionError: An option has an unknown value.
        """
        options = _DEFAULTS if options is None else options
        if not isinstance(options, RenderOptions):
            kind = type(options).__name__
            raise OptionError(f"expected RenderOptions, got {kind}", option="options")
        if not changes:
            return options
        if not changes.keys() <= RENDER_OPTIONS:
            others = {"options", *_OTHER_OPTIONS.get(where, ())}
            refuse_options(where, changes, RENDER_OPTIONS | others)
        return replace(options, **changes)


class RenderKeywords(TypedDict, total=False):
    """The fields of `RenderOptions` as keyword arguments."""

    drop_analysis: DropAnalysis
    header_order: HeaderOrder
    schema_style: SchemaStyle
    verbatim: bool


_CHOICES: Final = {
    "drop_analysis": get_args(DropAnalysis),
    "header_order": get_args(HeaderOrder),
    "schema_style": get_args(SchemaStyle),
}
# What functions take beside the options, for the suggestions of errors.
_OTHER_OPTIONS: Final = {
    "render": ("next_role",),
    "render_prompt": ("next_role",),
    "extend": ("new_messages", "next_role"),
    "render_message": ("has_function_tools",),
}
RENDER_OPTIONS: Final = frozenset(field.name for field in fields(RenderOptions))
"""The names of the options."""
RenderOptions.REFERENCE = RenderOptions(drop_analysis="reference", verbatim=False)
_DEFAULTS: Final = RenderOptions()
