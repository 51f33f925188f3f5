"""Reading the arguments of a call as JSON, with repair of the model's mistakes.

Valid JSON is preserved byte for byte. For other text, the intended object is searched in nested
JSON text and in envelopes, and by repair. The result is validated against the tool's JSON
Schema, and values of the wrong type are converted where the conversion is lossless.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from .._options import checked_options
from ._json import (
    BLANKS,
    Finding,
    Found,
    TooDeepError,
    TooLargeError,
    check_depth,
    json_text,
    read_json,
    says_nothing,
)
from ._repair import closed_string, repaired_object
from ._validation import Schema, compiled_schema, validated


class Arguments(NamedTuple):
    """The arguments of a call.

    Attributes:
        value: The JSON value; `None` if the text could not be read.
        text: The arguments as JSON text; the original text if it could not be read.
        status: Whether the text was valid as written, was repaired, had values converted to the
            types of the schema, or is invalid.
        findings: What was wrong and what was changed.
        is_closed: Whether the text is one closed JSON value, however it is written, so that
            nothing can be missing at its end.
    """

    value: Any
    text: str
    status: Literal["ok", "repaired", "coerced", "invalid"]
    findings: tuple[Finding, ...] = ()
    is_closed: bool = True


@checked_options
def read_arguments(
    text: str, schema_json: str | None = None, *, name: str | None = None
) -> Arguments:
    """Read the arguments of a call.

    Args:
        text: The content of the call.
        schema_json: The JSON Schema of the tool's parameters as JSON text. A schema that cannot be
            used, for example because it refers to other documents, is ignored.
        name: The tool's name, to unwrap `{"name": ..., "arguments": ...}` around the arguments.

    Returns:
        The arguments: always an object, unless the schema forbids objects.

    Example:
        >>> read_arguments('{"city": "Paris"}').status
        'ok'
        >>> schema = '{"properties": {"days": {"type": "integer"}}}'
        >>> arguments = read_arguments("{'days': '3',}", schema)
        >>> arguments.value, arguments.status
        ({'days': 3}, 'coerced')
        >>> [finding.code for finding in arguments.findings]
        ['json_repaired', 'schema_coercion']
    """
    schema = compiled_schema(schema_json)
    body = text.strip(BLANKS)
    try:
        found = _found(body, schema, name)
        if found is None:
            return _unread(text, "not_json")
        return _judged(validated(found, schema), body)
    except (TooDeepError, RecursionError):
        return _unread(text, "too_deep")
    except TooLargeError:
        return _unread(text, "not_json", "the number is too large")


def _unread(text: str, code: str, detail: str | None = None) -> Arguments:
    return Arguments(None, text, "invalid", (Finding(code, detail),), is_closed=False)


# Findings that are not repairs of the text.
_NO_REPAIRS: Final = frozenset({"duplicate_keys", "schema_coercion", "schema_mismatch"})


def _judged(found: Found, body: str) -> Arguments:
    codes = {finding.code for finding in found.findings}
    repaired = not codes <= _NO_REPAIRS
    status: Literal["ok", "repaired", "coerced", "invalid"] = "repaired" if repaired else "ok"
    if "schema_mismatch" in codes:
        status = "invalid"
    elif "schema_coercion" in codes:
        status = "coerced"
    # A bare number is never closed: more digits could follow.
    is_number = isinstance(found.value, int | float) and not isinstance(found.value, bool)
    is_closed = bool(body) and "truncated_json" not in codes and not is_number
    return Arguments(found.value, found.text, status, found.findings, is_closed)


# --- Finding the object ---------------------------------------------------------------------


_MAX_ENCODINGS: Final = 3
_MAX_ENVELOPES: Final = 3


def _found(body: str, schema: Schema, name: str | None) -> Found | None:
    """The value that a text is or was meant to be."""
    if says_nothing(body):
        return Found({}, "{}", (Finding("empty_arguments"),))
    if not schema.wants_object:
        check_depth(body)
        try:
            return read_json(body)
        except TooLargeError:
            raise
        except ValueError:
            if schema.wants_text:
                return Found(body, json_text(body))
    found = _object_in(body, name)
    return found and _without_envelope(found, schema.properties, name)


def _object_in(text: str, name: str | None, encodings: int = 0) -> Found | None:
    """The object that a text is or was meant to be."""
    body = text.strip(BLANKS)
    check_depth(body)
    try:
        found = read_json(body)
    except TooLargeError:
        raise
    except ValueError:
        return _repaired(body, name, encodings)
    return _object_of(found, name, encodings)


def _object_of(found: Found, name: str | None, encodings: int) -> Found | None:
    """The object that a valid JSON value is or contains."""
    value = found.value
    if isinstance(value, dict):
        return found
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        inner = found._replace(value=value[0], text=found.text[1:-1].strip(BLANKS))
        return inner.noting("json_repaired", "an array around the object")
    if isinstance(value, str) and encodings < _MAX_ENCODINGS:
        decoded = _object_in(value, name, encodings + 1)
        return decoded and decoded.noting("double_encoded_json")
    return None


def _repaired(body: str, name: str | None, encodings: int) -> Found | None:
    """The object that an invalid JSON text was meant to be."""
    string = closed_string(body)
    found = string and _object_of(string, name, encodings)
    return found.noting("truncated_json") if found else repaired_object(body, name)


# --- Envelopes ------------------------------------------------------------------------------


def _without_envelope(found: Found, properties: frozenset[str], name: str | None) -> Found:
    for _ in range(_MAX_ENVELOPES):
        inner = _inside(found.value, properties, name)
        if inner is None:
            break
        if isinstance(inner, str):
            unpacked = _object_in(inner, name, 1)
            if unpacked is None:
                break
            found = unpacked._replace(findings=(*found.findings, *unpacked.findings))
        else:
            found = found._replace(value=inner, text=json_text(inner, found.text))
        found = found.noting("enveloped_arguments")
    return found


def _inside(
    value: dict[str, Any], properties: frozenset[str], name: str | None
) -> dict[str, Any] | str | None:
    """The arguments inside an envelope; `None` if the object is not an envelope."""
    for key in ("arguments", "parameters"):
        inner = value.get(key)
        if key in properties or not isinstance(inner, dict | str):
            continue
        others = value.keys() - {key}
        if not others or (others == {"name"} and _is_name(value["name"], name)):
            return inner
    return None


def _is_name(value: Any, name: str | None) -> bool:
    if not isinstance(value, str):
        return False
    return name is None or value.rpartition(".")[2] == name.rpartition(".")[2]
