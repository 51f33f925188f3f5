"""The options of rendering."""

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
"""Which analysis messages of earlier turns are dropped from a rendering.

`"finished-turns"`: the analysis before the *last* final answer, as the documentation of the format
describes ("drop any previous CoT content"). `"reference"`: the same as openai-harmony, which drops
the analysis before the *first* final answer if the last assistant message is a final answer.
`"never"`: none.
"""


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(repr(str(choice)) for choice in choices)
        raise OptionError(f"{value!r} is not one of {known}", option=name)


@checked_fields
@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """How conversations are rendered.

    Args:
        drop_analysis: Which reasoning of earlier turns is dropped; see `DropAnalysis`.
        header_order: Whether the recipient comes before or after the channel; see `HeaderOrder`.
        schema_style: How tool parameters are written: `"reference"` as openai-harmony does, which
            is what the model was trained on; `"extended"` including all keywords of JSON Schema.
        verbatim: Whether messages that carry the tokens they were parsed from (`Message.tokens`)
            are rendered as those ids, so that prompts begin with the ids that the model generated.
            `header_order` applies to the other messages only.

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
    """The options with which `render` returns the same tokens as openai-harmony."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        if not isinstance(self.verbatim, bool):
            raise OptionError(f"{self.verbatim!r} is neither True nor False", option="verbatim")

    @classmethod
    def of(
        cls, options: RenderOptions | None, changes: Mapping[str, Any], where: str
    ) -> RenderOptions:
        """Combine the `options` and the keyword arguments of a function.

        Args:
            options: The options; `None` for the defaults.
            changes: The options that differ, by name.
            where: The name of the function, for errors.

        Raises:
            TypeError: An option has an unknown name.
            OptionError: An option has an unknown value.

        Example:
            >>> RenderOptions.of(None, {"verbatim": False}, "render").verbatim
            False
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
# Other arguments of the functions that take options, for suggestions in errors.
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
