"""Tools from pydantic models: the model's schema is the schema of the arguments.

This module does not import pydantic: a model is recognized by its methods.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, TypeGuard

from .._options import checked_options
from ..errors import ToolArgumentsError, ToolError
from ..wire._contents import Tool


def is_model(value: object) -> TypeGuard[type[Any]]:
    """Whether a value is a class that describes itself, such as a pydantic model."""
    return inspect.isclass(value) and callable(getattr(value, "model_json_schema", None))


@checked_options
def tool_from_model(
    model: type[Any],
    function: Callable[[Any], Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Tool:
    """Make a tool with the fields of a pydantic model as its arguments.

    Args:
        model: The model class.
        function: The function that runs calls, sync or async; its only argument is the validated
            instance. Without it, the tool is only declared.
        name: The tool's name; defaults to the model's.
        description: The tool's description; defaults to the model's docstring.

    Raises:
        ToolError: `model` is not a model, or its schema cannot be made.

    Example:
        >>> class Search:  # a pydantic.BaseModel has this method
        ...     @classmethod
        ...     def model_json_schema(cls):
        ...         properties = {"query": {"type": "string"}}
        ...         return {"description": "Search.", "type": "object", "properties": properties}
        >>> tool = tool_from_model(Search)
        >>> tool.name, tool.description, tool.parameters["properties"]
        ('Search', 'Search.', {'query': {'type': 'string'}})
    """
    if not is_model(model):
        raise ToolError(f"{model!r} is not a pydantic model class")
    schema = schema_of_model(model)
    schema.pop("title", None)
    own_description = schema.pop("description", "")
    return Tool(
        model.__name__ if name is None else name,
        own_description if description is None else description,
        schema,
        function=None if function is None else _taking_instance(model, function),
    )


def _taking_instance(model: type[Any], function: Callable[[Any], Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        async def run_later(**arguments: Any) -> Any:
            return await function(instance_of(model, arguments))

        return run_later

    def run(**arguments: Any) -> Any:
        return function(instance_of(model, arguments))

    return run


def instance_of(model: type[Any], value: Any) -> Any:
    """A validated instance of a model, from its JSON value.

    Raises:
        ToolArgumentsError: The value is not valid.
    """
    try:
        # As JSON text, because a strict model accepts a string for a date only there.
        return model.model_validate_json(json.dumps(value))
    except Exception as error:  # validators can raise anything
        raise ToolArgumentsError(_reasons(error)) from error


def _reasons(error: Exception) -> str:
    """The text of a validation error without URLs of documentation."""
    try:
        found = error.errors(include_url=False)  # type: ignore[attr-defined]
        return "; ".join(f"{'.'.join(('$', *map(str, e['loc'])))}: {e['msg']}" for e in found)
    except (AttributeError, TypeError, LookupError):
        return f"{type(error).__name__}: {error}"


def schema_of_model(model: type[Any]) -> dict[str, Any]:
    """The JSON Schema of a model without generated titles.

    Raises:
        ToolError: The model's method raised.
    """
    try:
        schema: dict[str, Any] = without_made_up_titles(dict(model.model_json_schema()))
    except Exception as error:  # the method can raise anything
        raise ToolError(f"{model.__name__}.model_json_schema(): {error}") from error
    return schema


def without_made_up_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic generates from the names of properties.

    They carry no information, and each would appear in the prompt as a comment above the property.
    """
    if isinstance(schema, list):
        return [without_made_up_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    clean = {key: without_made_up_titles(value) for key, value in schema.items()}
    properties = clean.get("properties")
    for name, value in properties.items() if isinstance(properties, dict) else ():
        if isinstance(value, dict) and value.get("title") == name.replace("_", " ").title():
            del value["title"]
    return clean
