"""Docstring parsing: the description of a callable and of each parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class Docs(NamedTuple):
    """A parsed docstring.

    Attributes:
        description: The text without its sections.
        parameters: The descriptions of parameters by name, each on one line.
    """

    description: str
    parameters: dict[str, str]


def docs_of(core: Callable[..., Any]) -> Docs:
    """The docstring of a function, a class or a callable object."""
    if inspect.isclass(core):
        return class_docs(core)
    if inspect.isroutine(core) or hasattr(core, "__wrapped__"):
        return parsed_docs(inspect.getdoc(core))
    call = type(core).__call__
    if inspect.isfunction(call) and call.__doc__:
        return parsed_docs(inspect.getdoc(call))
    return class_docs(type(core))


def class_docs(cls: type) -> Docs:
    """The docstring of a class; inherited and generated ones are ignored."""
    doc = vars(cls).get("__doc__")
    made_up = not isinstance(doc, str) or doc.startswith(f"{cls.__name__}(")
    return parsed_docs(None if made_up else inspect.cleandoc(str(doc)))


def parsed_docs(text: str | None) -> Docs:
    """Parse a dedented docstring in Google, NumPy or reStructuredText style."""
    import docstring_parser

    if not text:
        return Docs("", {})
    try:
        parsed = docstring_parser.parse(text)
    except Exception:  # such as an IndexError for a line that begins with ": :"
        return Docs(text, {})
    if not parsed.meta:
        return Docs(text, {})  # the parser would change the indentation
    gap = "\n\n" if parsed.blank_after_short_description else "\n"
    paragraphs = filter(None, (parsed.short_description, parsed.long_description))
    parameters = {
        name.strip().lstrip("*"): _one_line(parameter.description)
        for parameter in parsed.params
        if parameter.description
        for name in parameter.arg_name.split(",")  # NumPy: "x, y : float"
    }
    return Docs(gap.join(paragraphs).strip(), parameters)


def _one_line(text: str) -> str:
    """The text on one line.

    The prompt writes the description of a property as a single comment line; a second line would
    lack the comment sign.
    """
    return " ".join(text.split())
