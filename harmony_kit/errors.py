"""The exceptions of harmony-kit.

Every exception that the package raises on purpose is a `HarmonyError`. Exceptions for bad input
are also `ValueError`s, so that code without knowledge of this package can catch them.
"""

from __future__ import annotations


class HarmonyError(Exception):
    """The base class of all exceptions of this package."""


class InvalidMessageError(HarmonyError, ValueError):
    """A message, a content or a tool is invalid.

    Attributes:
        reason: What is wrong, without the place.
        field: The invalid field, such as `"role"` or `"tools[2].parameters"`.
        index: The position of the message in its conversation, if known.
    """

    def __init__(self, reason: str, *, field: str, index: int | None = None) -> None:
        self.reason = reason
        self.field = field
        self.index = index
        place = field if index is None else f"message {index}: {field}"
        super().__init__(f"{place}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_invalid_message, (self.reason, self.field, self.index))

    def at(self, index: int) -> InvalidMessageError:
        """A copy of the error with the position of the message in the conversation."""
        return InvalidMessageError(self.reason, field=self.field, index=index)


def _invalid_message(reason: str, field: str, index: int | None) -> InvalidMessageError:
    return InvalidMessageError(reason, field=field, index=index)


class OptionError(HarmonyError, ValueError):
    """An option has an invalid value.

    Attributes:
        option: The name of the option, such as `"temperature"`.
        reason: What is wrong, without the name.
    """

    def __init__(self, reason: str, *, option: str) -> None:
        self.option = option
        self.reason = reason
        super().__init__(f"{option}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_option_error, (self.option, self.reason))


def _option_error(option: str, reason: str) -> OptionError:
    return OptionError(reason, option=option)


class UnknownTokenError(HarmonyError, ValueError):
    """A token id does not exist in o200k_harmony.

    Attributes:
        token: The invalid value.
        position: Its index in the input.
    """

    def __init__(self, token: object, position: int) -> None:
        self.token = token
        self.position = position
        super().__init__(f"token {position}: {token!r} is not a token id of o200k_harmony")

    def __reduce__(self) -> tuple[object, ...]:
        return (UnknownTokenError, (self.token, self.position))


class ParseError(HarmonyError, ValueError):
    """Strict parsing found tokens that are not well-formed Harmony.

    Attributes:
        code: The kind of problem, such as `"missing_start"`; docs/problems.md lists them.
        reason: What is wrong.
        position: The index of the token, or of the character of a text, at which it was detected.
        unit: The unit of the position, `"token"` or `"character"`.
    """

    def __init__(self, code: str, reason: str, *, position: int, unit: str = "token") -> None:
        self.code = code
        self.reason = reason
        self.position = position
        self.unit = unit
        super().__init__(f"{unit} {position}: {reason} ({code})")

    def __reduce__(self) -> tuple[object, ...]:
        return (_parse_error, (self.code, self.reason, self.position, self.unit))


def _parse_error(code: str, reason: str, position: int, unit: str) -> ParseError:
    return ParseError(code, reason, position=position, unit=unit)


class RequestError(HarmonyError, ValueError):
    """A request of an API is invalid.

    Attributes:
        reason: What is wrong, without the place.
        path: The JSON path of the invalid field, such as `messages[2].tool_calls[0].id`.
    """

    def __init__(self, reason: str, *, path: str) -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (_request_error, (self.reason, self.path))


def _request_error(reason: str, path: str) -> RequestError:
    return RequestError(reason, path=path)


class GrammarError(HarmonyError, ValueError):
    """A constraint cannot be expressed as a grammar.

    Attributes:
        reason: What is wrong, without the place.
        path: The place: a JSON path that starts with a tool's full name, `response_format`, or an
            argument.
    """

    def __init__(self, reason: str, *, path: str) -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (_grammar_error, (self.reason, self.path))


def _grammar_error(reason: str, path: str) -> GrammarError:
    return GrammarError(reason, path=path)


class ToolError(HarmonyError):
    """A value cannot be made a tool, or a tool cannot be called.

    If a tool's own function raises it, the model receives its text without the class name.
    """


class ToolArgumentsError(ToolError):
    """The arguments of a call are not valid for the tool.

    A tool's own function can raise it for conditions that the schema cannot express.
    """


class BackendError(HarmonyError):
    """A backend cannot be loaded, or failed while generating."""
