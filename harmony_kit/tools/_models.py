"""Tools from pydantic models: the schema of the arguments is that of the model.

Nothing here imports pydantic: a model is told by its methods.
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
    """Whether a value is a class that describes itself, as pydantic's models do.

    Args:
        value: Anything.
    """
    return inspect.isclass(value) and callable(getattr(value, "model_json_schema", None))


@checked_options
def tool_from_model(
    model: type[Any],
    function: Callable[[Any], Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Tool:
    """Declare a tool whose arguments are the fields of a pydantic model.

    Args:
        model: The model class.
        function: What runs a call, sync or async; it gets the validated instance as its one
            argument. Without it the tool is only declared.
        name: The tool's name; that of the model by default.
        description: What the tool does; the docstring of the model by default.

    Raises:
        ToolError: The value is no model, or its schema cannot be made.
    """
    if not is_model(model):
        raise ToolError(f"{model!r} is no pydantic model")
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
    """An instance of a model, validated.

    Args:
        model: The model class.
        value: Its JSON value.

    Raises:
        ToolArgumentsError: The value is not valid.
    """
    try:
        # As JSON, for there a strict model takes text for a date.
        return model.model_validate_json(json.dumps(value))
    except Exception as error:  # whatever its validators raise
        raise ToolArgumentsError(_reasons(error)) from error


def _reasons(error: Exception) -> str:
    """What a validation error says, without addresses of a documentation."""
    try:
        found = error.errors(include_url=False)  # type: ignore[attr-defined]
        return "; ".join(f"{'.'.join(('$', *map(str, e['loc'])))}: {e['msg']}" for e in found)
    except (AttributeError, TypeError, LookupError):
        return f"{type(error).__name__}: {error}"


def schema_of_model(model: type[Any]) -> dict[str, Any]:
    """The JSON Schema of a model, without the titles that say nothing.

    Args:
        model: The model class.

    Raises:
        ToolError: It has none.
    """
    try:
        schema: dict[str, Any] = without_made_up_titles(dict(model.model_json_schema()))
    except Exception as error:  # whatever the class does
        raise ToolError(f"{model.__name__}.model_json_schema(): {error}") from error
    return schema


def without_made_up_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of the names of properties.

    They say nothing, and the model would see each as a comment above the property.

    Args:
        schema: The JSON Schema.
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
