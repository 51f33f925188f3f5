"""Reading the arguments of a call: text to a JSON value, repaired where the model slipped.

What is valid JSON stays byte for byte. Else cheap steps are tried, each linear in the text:
the object is taken out of the text around it, quotes are unescaped, a cut-off end is closed,
comments and Python's spellings are written as JSON. The library json-repair gets what is
left, where it is small enough. What then comes out is checked against the tool's JSON
Schema, and values of a wrong type are converted where that loses nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

MAX_DEPTH: Final = 128
"""How many levels of nesting are read: as many as serde_json, the reader of most servers, takes.

Python's own readers recurse, so that a limit is needed that no caller's stack can meet."""

_MAX_LIBRARY_LENGTH: Final = 100_000
_MAX_LIBRARY_WORK: Final = 5_000_000
"""What json-repair is given: at most so many characters times punctuation marks.

Its time grows with that product on text made to hurt it (0.2 microseconds each, measured with
0.64: `{"a":"` and then `{a:` again and again), so that this is one second at worst. Longer
text with the usual faults never reaches it."""

_MAX_DIGITS: Final = 4300
"""The longest integer that Python reads; reading longer ones takes quadratic time."""

_MAX_ERRORS: Final = 2000
"""With more wrong values than this nothing is converted: each costs the validator up to 30
microseconds, in every round."""

_MAX_ROUNDS: Final = 8
"""How often the converted value is checked again, for values that were hidden in text."""

_MAX_DETAIL: Final = 500
"""How many characters of a message of the validator are kept: it may quote everything."""

_BLANKS: Final = " \t\n\r"


class Finding(NamedTuple):
    """Something about the arguments that is not as it should be.

    Attributes:
        code: The kind of problem, a key of `harmony_kit.problems.PROBLEM_KINDS`.
        detail: What it is about.
    """

    code: str
    detail: str | None = None


class Arguments(NamedTuple):
    """What the text of a call's arguments says.

    Attributes:
        value: The JSON value; `None` where the text could not be read.
        text: The arguments as JSON text; the text as written where it could not be read.
        status: How they came about: as written, repaired, converted to the types of the
            schema, or not what the tool can take.
        findings: What was wrong and what was changed.
        complete: Whether the text itself is valid JSON.
    """

    value: Any
    text: str
    status: Literal["ok", "repaired", "coerced", "invalid"]
    findings: tuple[Finding, ...] = ()
    complete: bool = True


class _Found(NamedTuple):
    """A JSON value that was found in a text, and how."""

    value: Any
    text: str
    findings: tuple[Finding, ...] = ()


class _TooDeepError(ValueError):
    """A text is nested too deeply."""


class _TooLargeError(ValueError):
    """A number is larger than Python reads."""


_REPORTED_ONLY: Final = frozenset({"duplicate_keys"})


def read_arguments(
    text: str, schema_json: str | None = None, *, name: str | None = None
) -> Arguments:
    """Read the arguments of a call.

    Args:
        text: The content of the call, as the model wrote it.
        schema_json: The JSON Schema of the tool's parameters as JSON text, if it is known. One
            that cannot be used, such as one that refers to other documents, checks nothing.
        name: The tool's name, for envelopes that repeat it.

    Returns:
        The arguments. Without a schema, and for one that allows objects, they are an object.
    """
    schema = None if schema_json is None else _schema(schema_json)
    body = text.strip(_BLANKS)
    try:
        found = _found(body, schema, name)
        if found is None:
            return _invalid(text, "not_json")
        if schema is None:
            return _judged(found, body)
        return _checked(found, body, schema)
    except (_TooDeepError, RecursionError):
        return _invalid(text, "too_deep")
    except _TooLargeError:
        return _invalid(text, "not_json", "a number that is too large")


def valid_json(text: str) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.

    Raises:
        ValueError: It is not JSON, or nested more than `MAX_DEPTH` levels, or has a number that
            Python cannot hold.
    """
    body = text.strip(_BLANKS)
    _check_depth(body)
    return _whole(body).value


def json_text(value: Any, like: str = "") -> str:
    """Write a value as JSON.

    Args:
        value: The value.
        like: A text whose blanks are imitated: with none after its first colon, none is written.

    Raises:
        ValueError: The value holds a number that JSON does not have.
    """
    colon = _COLON.search(like)
    separators = (",", ":") if colon and not colon[1] else (", ", ": ")
    written = json.dumps(value, ensure_ascii=False, separators=separators, allow_nan=False)
    if _SURROGATE.search(written):  # only an escape can carry one
        written = json.dumps(value, separators=separators)
    return written


_COLON: Final = re.compile(r"""[\w"']\s*+:(\s?)""")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _found(body: str, schema: _Schema | None, name: str | None) -> _Found | None:
    _check_depth(body)
    if schema is not None and not schema.wants_object:
        try:
            return _with_duplicates(body, _whole(body))
        except _TooLargeError:
            raise
        except ValueError:
            pass
    if not body:
        return _Found({}, "{}", (Finding("empty_arguments"),))
    found = _object_in(body, name)
    properties = schema.properties if schema else frozenset[str]()
    return found and _without_envelope(found, properties, name)


def _judged(found: _Found, body: str) -> Arguments:
    repaired = any(finding.code not in _REPORTED_ONLY for finding in found.findings)
    complete = found.text is body or not repaired or _is_valid(body)
    status: Literal["ok", "repaired"] = "repaired" if repaired else "ok"
    return Arguments(found.value, found.text, status, found.findings, complete)


def _is_valid(body: str) -> bool:
    try:
        _whole(body)
    except ValueError:
        return False
    return True


def _invalid(text: str, code: str, detail: str | None = None) -> Arguments:
    return Arguments(None, text, "invalid", (Finding(code, detail),), complete=False)


# --- Finding the object ---------------------------------------------------------------------


_MAX_ENCODINGS: Final = 3
_MAX_ENVELOPES: Final = 3


def _object_in(text: str, name: str | None, encodings: int = 0) -> _Found | None:
    """The object that a text is, or is meant to be."""
    try:
        decoded = _whole(text)
    except _TooLargeError:
        raise
    except ValueError:
        return _repaired(text, name, encodings)
    return _object_of(text, decoded, name, encodings)


def _object_of(text: str, decoded: _Decoded, name: str | None, encodings: int) -> _Found | None:
    """The object that a valid JSON text is, or holds."""
    value = decoded.value
    if isinstance(value, dict):
        return _with_duplicates(text, decoded)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        inner = _with_duplicates(text[1:-1].strip(_BLANKS), decoded._replace(value=value[0]))
        return _noting(inner, "json_repaired", "an array around the object")
    if isinstance(value, str) and encodings < _MAX_ENCODINGS:
        body = value.strip(_BLANKS)
        _check_depth(body)
        found = _object_in(body, name, encodings + 1)
        return found and _noting(found, "double_encoded_json")
    return None


def _with_duplicates(text: str, decoded: _Decoded) -> _Found:
    if not decoded.repeated:
        return _Found(decoded.value, text)
    return _Found(decoded.value, json_text(decoded.value, text), (Finding("duplicate_keys"),))


def _noting(found: _Found, code: str, detail: str | None = None) -> _Found:
    known = {finding.code for finding in found.findings}
    if code in known:
        return found
    return found._replace(findings=(*found.findings, Finding(code, detail)))


def _without_envelope(found: _Found, properties: frozenset[str], name: str | None) -> _Found:
    for _ in range(_MAX_ENVELOPES):
        inner = _inside(found.value, properties, name)
        if inner is None:
            break
        if isinstance(inner, str):
            unpacked = _object_in(inner.strip(_BLANKS), name, 1)
            if unpacked is None:
                break
            changes = (*found.findings, *unpacked.findings)
            found = _Found(unpacked.value, unpacked.text, changes)
        else:
            found = found._replace(value=inner, text=json_text(inner, found.text))
        found = _noting(found, "enveloped_arguments")
    return found


def _inside(
    value: dict[str, Any], properties: frozenset[str], name: str | None
) -> dict[str, Any] | str | None:
    """What stands in an envelope, if an object is one."""
    for key in ("arguments", "parameters"):
        inner = value.get(key)
        if key in properties or not isinstance(inner, dict | str):
            continue
        others = value.keys() - {key}
        if not others or (others == {"name"} and _is_name(value["name"], name)):
            if isinstance(inner, str):
                _check_depth(inner)
            return inner
    return None


def _is_name(value: Any, name: str | None) -> bool:
    if not isinstance(value, str):
        return False
    return name is None or value.rpartition(".")[2] == name.rpartition(".")[2]


# --- Reading JSON ---------------------------------------------------------------------------


class _Decoded(NamedTuple):
    """A JSON value at the beginning of a text.

    Attributes:
        value: The value.
        end: The position after it.
        repeated: Whether an object of it has a key twice.
    """

    value: Any
    end: int
    repeated: bool


def _decode(text: str, *, lenient: bool = False) -> _Decoded:
    """Read the JSON value with which a text begins.

    Args:
        text: The text.
        lenient: Whether line breaks may stand in strings, and NaN is read as null.
    """
    repeated = False

    def entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        value = dict(pairs)
        repeated = repeated or len(value) != len(pairs)
        return value

    decoder = json.JSONDecoder(
        object_pairs_hook=entries,
        parse_constant=_nothing if lenient else _refused,
        parse_float=_float,
        parse_int=_integer,
        strict=not lenient,
    )
    value, end = decoder.raw_decode(text)
    return _Decoded(value, end, repeated)


def _whole(text: str, *, lenient: bool = False) -> _Decoded:
    decoded = _decode(text, lenient=lenient)
    if decoded.end != len(text):
        raise ValueError("text after the value")
    return decoded


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _nothing(_constant: str) -> None:
    return None


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _TooLargeError
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _TooLargeError
    return value


# Strings, brackets and commas. A string that never ends is one match up to the end of the text
# (or up to a cut-off escape), so that no input is looked at twice.
_STRING: Final = r'"(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*+("?)'
_STRUCTURE: Final = re.compile(_STRING + r"|[{}\[\],]", re.DOTALL)


def _check_depth(text: str) -> None:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRUCTURE.finditer(text):
        character = text[match.start()]
        if character in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise _TooDeepError
        elif character in "}]":
            depth = max(depth - 1, 0)


# --- Repairs --------------------------------------------------------------------------------


def _repaired(text: str, name: str | None, encodings: int) -> _Found | None:
    """The object that a text without being JSON is meant to be."""
    if text.startswith('"') and encodings < _MAX_ENCODINGS:
        found = _cut_off_encoding(text, name, encodings)
        if found is not None:
            return found
    body = _object_part(text, name)
    if body is None:
        return None
    around = body != text
    for attempt in _ATTEMPTS:
        found = attempt(body)
        if found is not None:
            return _noting(found, "json_repaired") if around else found
    return None


def _cut_off_encoding(text: str, name: str | None, encodings: int) -> _Found | None:
    """The object in a JSON string that lost its end."""
    string = _STRUCTURE.match(text)
    if string is None or string[1] or not _CUT_OFF_ESCAPE.fullmatch(text, string.end()):
        return None
    closed = text[: string.end()] + '"'
    try:
        decoded = _whole(closed)
    except ValueError:
        return None
    found = _object_of(closed, decoded, name, encodings)
    return found and _noting(found, "truncated_json")


# What can stand at the end of a text that was cut inside an escape.
_CUT_OFF_ESCAPE: Final = re.compile(r"(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_LOST_BRACE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"\s*+:', re.DOTALL)
_BRACES: Final = re.compile(r"\{(?:\s*+\{)*+")
# What prose does not have: a call of a function, a statement.
_CODE: Final = re.compile(r"\w\(|^[ \t]*+(?:import|return|def|class)\b", re.MULTILINE)


def _object_part(text: str, name: str | None) -> str | None:
    """A text from its object on, without what stands before it; `None` if it has none."""
    if _LOST_BRACE.match(text):
        return "{" + text
    braces = _BRACES.search(text)
    if braces is None:
        return None
    before = text[: braces.start()].rstrip()
    if name and before.endswith(f"{name}("):
        before = before[: -len(name) - 1]
    if _CODE.search(before):
        return None
    body = text[braces.end() - 1 :]
    return None if "[" in before and not _is_alone(body) else body


def _is_alone(body: str) -> bool:
    """Whether no other object follows the one with which a text begins."""
    try:
        return "{" not in body[_decode(body, lenient=True).end :]
    except ValueError:
        return True


def _first_object(body: str) -> _Found | None:
    """The valid object with which a text begins, whatever follows."""
    for lenient in (False, True):
        try:
            decoded = _decode(body, lenient=lenient)
        except ValueError:
            continue
        if not isinstance(decoded.value, dict):
            return None
        rest = body[decoded.end :].strip()
        if _CODE.search(rest):
            return None
        found = _with_duplicates(body[: decoded.end], decoded)
        if lenient:
            found = found._replace(text=json_text(decoded.value, body))
        return _noting(found, "json_repaired", _detail(f"cut: {rest}") if rest else None)
    return None


def _detail(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"


def _unescaped(body: str) -> Iterator[str]:
    """A text whose quotes were escaped, without the backslashes."""
    if '\\"' in body:
        with suppress(ValueError):
            yield _whole(f'"{body}"', lenient=True).value
        yield body.replace('\\"', '"')


def _unescaped_object(body: str) -> _Found | None:
    found = map(_first_object, _unescaped(body))
    return next(filter(None, found), None)


def _completed_object(body: str) -> _Found | None:
    """The object of a text that was cut off, closed where it ends."""
    for candidate in _completions(body):
        for lenient in (False, True):
            try:
                decoded = _whole(candidate, lenient=lenient)
            except ValueError:
                continue
            found = _with_duplicates(candidate, decoded)
            if lenient:
                found = found._replace(text=json_text(decoded.value, body))
            return _noting(found, "truncated_json")
    return None


_PAIRS: Final = {"{": "}", "[": "]"}
# The beginning of a member that lacks its value, or has one that is no value yet.
_UNFINISHED: Final = re.compile(
    r',?\s*+(?:"(?:[^"\\]|\\.)*+(?:"\s*+(?::\s*+[\w.+-]*)?|\\?)|[\w.+-]*)\s*', re.DOTALL
)
_HALF_CHARACTER: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")


def _completions(body: str) -> Iterator[str]:
    """A text that was cut off, closed; then without the member at which it was cut."""
    closing: list[str] = []
    cut = 0
    string: re.Match[str] | None = None
    for match in _STRUCTURE.finditer(body):
        character = body[match.start()]
        string = match if character == '"' else None
        if character in _PAIRS:
            closing.append(_PAIRS[character])
            cut = match.end()
        elif character == ",":
            cut = match.start()
        elif character in "}]":
            if not closing or closing.pop() != character or not closing:
                return
            cut = match.end()
    if not closing:
        return
    end = "".join(reversed(closing))
    if string is not None and not string[1]:
        if _CUT_OFF_ESCAPE.fullmatch(body, string.end()):
            yield _HALF_CHARACTER.sub("", body[: string.end()]) + '"' + end
    else:
        yield body.rstrip() + end
    if _UNFINISHED.fullmatch(body, cut):
        yield body[:cut] + end


def _completed_unescaped_object(body: str) -> _Found | None:
    found = map(_completed_object, _unescaped(body))
    return next(filter(None, found), None)


def _rewritten_object(body: str) -> _Found | None:
    """The object of a text with comments, trailing commas and the spellings of Python."""
    written = _TRAILING_COMMA.sub(_kept, _LEXEME.sub(_as_json, body))
    found = _first_object(written) or _completed_object(written)
    return found and found._replace(text=json_text(found.value, body))


_LEXEME: Final = re.compile(
    r'"(?:[^"\\]|\\.)*+"?'
    r"|'(?:[^'\\]|\\.)*+'?"
    r"|//[^\n]*+|\#[^\n]*+|/\*.*?(?:\*/|\Z)"
    r"|\b(?:True|False|None|undefined)\b",
    re.DOTALL,
)
_TRAILING_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*+[}\]])', re.DOTALL)
_LITERALS: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


def _as_json(lexeme: re.Match[str]) -> str:
    text = lexeme[0]
    quote = text[0]
    if quote == '"':
        return _ESCAPE.sub(_escape, text)
    if quote == "'":
        ended = len(text) > 1 and text.endswith("'")
        inner = text[1:-1] if ended else text[1:]
        return f'"{_ESCAPE_OR_QUOTE.sub(_escape, inner)}' + ('"' if ended else "")
    return _LITERALS.get(text, " ")


def _kept(match: re.Match[str]) -> str:
    return match[1] or ""


_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPE_OR_QUOTE: Final = re.compile(_ESCAPE.pattern + '|"', re.DOTALL)


def _escape(match: re.Match[str]) -> str:
    escape = match[0]
    if escape == '"':
        return '\\"'
    if len(escape) == 4:
        return f"\\u00{escape[2:]}"
    if len(escape) == 6 or escape[1] in '"\\/bfnrt':
        return escape
    return "'" if escape[1] == "'" else f"\\{escape}"


def _library_object(body: str) -> _Found | None:
    """The object that json-repair makes of a text, if that is no invention."""
    body = _FENCE.sub("", body)
    if len(body) > _MAX_LIBRARY_LENGTH:
        return None
    if len(body) * len(_MARK.findall(body)) > _MAX_LIBRARY_WORK:
        return None
    import json_repair

    try:
        value: Any = json_repair.loads(body, skip_json_loads=True)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict) or not value:
            return None
        written = json_text(value, body)
    except RecursionError:
        raise
    except Exception:  # a library that promises none; the text stays what it is
        return None
    if _is_invention(body, written):
        return None
    cut_off = next(_completions(body), None) is not None
    return _Found(value, written, (Finding("truncated_json" if cut_off else "json_repaired"),))


_FENCE: Final = re.compile(r"\n?```\s*\Z")
_EMPTY_TEXT: Final = re.compile(r'(?<!\\)""')
_MARK: Final = re.compile(r"[^\w\s]")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_ESCAPED: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_COMMENT: Final = re.compile(r"//[^\n]*+|\#[^\n]*+|/\*.*?(?:\*/|\Z)", re.DOTALL)
_MADE_LITERALS: Final = frozenset({"true", "false", "none", "null", "nan", "infinity"})


def _is_invention(body: str, written: str) -> bool:
    """Whether json-repair added or lost something: it makes an object of nearly anything."""
    if '"""' in body or "'''" in body:
        return True
    if _EMPTY_TEXT.search(written) and '""' not in body and "''" not in body:
        return True
    comments = {word for comment in _COMMENT.findall(body) for word in _words(comment)}
    return not _words(body) <= _words(written) | comments | _MADE_LITERALS


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(_ESCAPED.sub(" ", text))}


_ATTEMPTS: Final[tuple[Callable[[str], _Found | None], ...]] = (
    _first_object,
    _unescaped_object,
    _completed_object,
    _completed_unescaped_object,
    _rewritten_object,
    _library_object,
)


# --- The schema -----------------------------------------------------------------------------


class _Schema(NamedTuple):
    """What is needed of the JSON Schema of a tool's parameters.

    Attributes:
        validator: Checks a value; `None` if the schema cannot be used.
        properties: The names of the properties that it knows.
        wants_object: Whether it allows objects.
    """

    validator: Validator | None
    properties: frozenset[str]
    wants_object: bool


@lru_cache(maxsize=256)
def _schema(schema_json: str) -> _Schema:
    try:
        schema = json.loads(schema_json)
        properties = frozenset(_property_names(schema))
    except (ValueError, RecursionError):
        return _Schema(None, frozenset(), wants_object=True)
    kinds = schema.get("type") if isinstance(schema, dict) else None
    wants_object = "object" in kinds if isinstance(kinds, str | list) else True
    return _Schema(_validator(schema_json), properties, wants_object)


def _validator(schema_json: str) -> Validator | None:
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(schema_json, retriever=_unavailable)
    except Exception:  # whatever is wrong with the schema, the call is not to blame
        return None


def _unavailable(uri: str) -> Any:
    """Instead of fetching a document to which a schema refers."""
    raise ValueError(f"{uri} is not fetched")


def _property_names(schema: Any) -> Iterator[str]:
    """The properties of a schema, those of the schemas included that it is made of."""
    waiting = [schema]
    followed: set[str] = set()
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("properties"), dict):
            yield from part["properties"]
        for combination in ("allOf", "anyOf", "oneOf"):
            if isinstance(part.get(combination), list):
                waiting += part[combination]
        reference = part.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            waiting.append(_referred(schema, reference))


def _referred(schema: Any, reference: str) -> Any:
    start, *steps = reference.split("/")
    for step in steps if start == "#" else ():
        schema = schema.get(step) if isinstance(schema, dict) else None
    return schema if start == "#" else None


def _checked(found: _Found, body: str, schema: _Schema) -> Arguments:
    """The arguments after validation, converted where that makes them valid."""
    judged = _judged(found, body)
    validator = schema.validator
    if validator is None:
        return judged
    try:
        errors = _errors(validator, found.value)
        if not errors:
            return judged
        # What was converted in vain is thrown away: the text has the value as it was.
        value, changes = _converted(validator, valid_json(found.text), errors)
        if value is not _NO_VALUE:
            findings = (*found.findings, *changes)
            written = json_text(value, found.text)
            return Arguments(value, written, "coerced", findings, judged.complete)
        finding = Finding("schema_mismatch", _detail(_described(errors[0])))
    except (RecursionError, _TooDeepError, _TooLargeError):
        raise
    except Exception:  # the validator gave up, on a pattern for example
        return judged
    return judged._replace(status="invalid", findings=(*found.findings, finding))


def _errors(validator: Validator, value: Any) -> list[ValidationError]:
    if validator.is_valid(value):
        return []
    return list(islice(validator.iter_errors(value), _MAX_ERRORS + 1))


def _described(error: ValidationError) -> str:
    return f"{_json_path(error.instance_path)}: {error.message}"


def _json_path(path: Iterable[str | int]) -> str:
    return "$" + "".join(_json_step(step) for step in path)


def _json_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step, ensure_ascii=False)}]"


# --- Converting -----------------------------------------------------------------------------


_NO_VALUE: Final = object()

_Path = tuple[str | int, ...]


def _converted(
    validator: Validator, value: Any, errors: list[ValidationError]
) -> tuple[Any, list[Finding]]:
    """The value with everything converted that has a wrong type; no value if that is not enough."""
    holder = [value]
    changes: dict[_Path, Finding] = {}
    for _ in range(_MAX_ROUNDS):
        if len(errors) > _MAX_ERRORS:
            break
        changed = False
        for path, kinds in _wrong_types(errors).items():
            changed |= _convert_at(holder, path, kinds, changes)
        if not changed:
            break
        errors = _errors(validator, holder[0])
        if not errors:
            return holder[0], [*changes.values()]
    return _NO_VALUE, []


def _wrong_types(errors: Iterable[ValidationError]) -> dict[_Path, set[str]]:
    """Where values have a wrong type, and the types that would do, outer values first."""
    found: dict[_Path, set[str]] = {}
    waiting = list(errors)
    while waiting:
        error = waiting.pop()
        kind: Any = error.kind
        for branch in getattr(kind, "context", ()):
            waiting += branch
        kinds = getattr(kind, "types", None)
        if kinds:
            found.setdefault(tuple(error.instance_path), set()).update(kinds)
    return dict(sorted(found.items(), key=lambda item: len(item[0])))


def _convert_at(
    holder: list[Any], path: _Path, kinds: set[str], changes: dict[_Path, Finding]
) -> bool:
    """Convert the value at a path in place, and say whether that was possible."""
    home: Any = holder
    step: Any = 0
    for next_step in path:
        try:
            home, step = home[step], next_step
        except (LookupError, TypeError):  # an outer value was converted before
            return False
    try:
        old = home[step]
    except (LookupError, TypeError):
        return False
    new = _as_one_of(old, kinds, len(path))
    if new is _NO_VALUE:
        return False
    home[step] = new
    place = _json_path(path)
    was = json_text(old) if not isinstance(old, dict | list) else type(old).__name__
    changes[path] = Finding("schema_coercion", f"{place}: {_detail(was)} to {_kind_of(new)}")
    return True


def _kind_of(value: Any) -> str:
    kinds: dict[type, str] = {
        bool: "boolean",
        dict: "object",
        float: "number",
        int: "integer",
        list: "array",
        str: "string",
    }
    return kinds.get(type(value), "null")


def _as_one_of(value: Any, kinds: set[str], depth: int) -> Any:
    """A value as one of several types, if that loses nothing; the strictest type first."""
    for kind, convert in _CONVERSIONS.items():
        if kind in kinds:
            new = convert(value)
            if new is not _NO_VALUE:
                if isinstance(new, dict | list):
                    _check_depth("[" * depth + json_text(new))
                return new
    return _NO_VALUE


def _to_null(value: Any) -> Any:
    return None if value in ("null", "None") else _NO_VALUE


def _to_boolean(value: Any) -> Any:
    words = {"true": True, "True": True, "false": False, "False": False}
    return words.get(value, _NO_VALUE) if isinstance(value, str) else _NO_VALUE


def _to_integer(value: Any) -> Any:
    number = _to_number(value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if type(number) is int and isinstance(value, str) else _NO_VALUE


def _to_number(value: Any) -> Any:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return _NO_VALUE
    try:
        number: int | float = _whole(value).value
    except ValueError:
        return _NO_VALUE
    if isinstance(number, float) and Decimal(repr(number)) != Decimal(value):
        return _NO_VALUE  # more digits than a float holds
    return number


_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,3})?")


def _to_object(value: Any) -> Any:
    return _unpacked(value, dict)


def _to_array(value: Any) -> Any:
    unpacked = _unpacked(value, list)
    if unpacked is not _NO_VALUE or value is None:
        return unpacked
    if isinstance(value, str) and _LIST_IN_WORDS.search(value):
        return _NO_VALUE  # perhaps several values: there is no telling
    return _NO_VALUE if isinstance(value, list) else [value]


_LIST_IN_WORDS: Final = re.compile(r"[,;\n]|\A\s*\[")


def _to_text(value: Any) -> Any:
    # A float does not say how it was written: 1.10 is a version, but 1.1 another.
    return str(value) if type(value) is int else _NO_VALUE


def _unpacked(value: Any, kind: type) -> Any:
    if not isinstance(value, str):
        return _NO_VALUE
    try:
        inner = valid_json(value)
    except ValueError:
        return _NO_VALUE
    return inner if isinstance(inner, kind) else _NO_VALUE


_CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "null": _to_null,
    "boolean": _to_boolean,
    "integer": _to_integer,
    "number": _to_number,
    "object": _to_object,
    "string": _to_text,
    "array": _to_array,
}
