"""Docstrings: what they say of a function or a class, and of each parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class Docs(NamedTuple):
    """What a docstring says.

    Attributes:
        description: The text without its sections.
        parameters: The descriptions of parameters, each on one line, by name.
    """

    description: str
    parameters: dict[str, str]


def docs_of(core: Callable[..., Any]) -> Docs:
    """What the docstring of a callable says.

    Args:
        core: A function, a class, or an object that can be called.
    """
    if inspect.isclass(core):
        return class_docs(core)
    if inspect.isroutine(core) or hasattr(core, "__wrapped__"):
        return parsed_docs(inspect.getdoc(core))
    call = type(core).__call__
    if inspect.isfunction(call) and call.__doc__:
        return parsed_docs(inspect.getdoc(call))
    return class_docs(type(core))


def class_docs(cls: type) -> Docs:
    """What the docstring says that a class has of its own, unless Python made it up.

    Args:
        cls: The class.
    """
    doc = vars(cls).get("__doc__")
    made_up = not isinstance(doc, str) or doc.startswith(f"{cls.__name__}(")
    return parsed_docs(None if made_up else inspect.cleandoc(str(doc)))


def parsed_docs(text: str | None) -> Docs:
    """What the text of a docstring says.

    Args:
        text: The docstring without its indentation, in the style of Google, NumPy or
            reStructuredText; or `None`.
    """
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
    """Text without the line breaks that the width of the source asked for.

    The models' text has the description of a property on a line of its own; another line
    would stand there without a comment sign.
    """
    return " ".join(text.split())
