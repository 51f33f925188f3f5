"""What can go wrong, as exceptions.

Every exception that harmony-kit raises on purpose is a `HarmonyError`. Those that
concern bad input are `ValueError`s as well, so that code which knows nothing of this
package can still catch them.
"""

from __future__ import annotations


class HarmonyError(Exception):
    """The base of every exception of this package."""


class InvalidMessageError(HarmonyError, ValueError):
    """A message, a content or a tool cannot be what it was asked to be.

    Attributes:
        reason: What is wrong, without the place.
        field: The field at fault, such as `"role"` or `"tools[2].parameters"`.
        index: The position of the message in its conversation, where it is known.
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
        """The same error, saying which message of the conversation it is about."""
        return InvalidMessageError(self.reason, field=self.field, index=index)


def _invalid_message(reason: str, field: str, index: int | None) -> InvalidMessageError:
    return InvalidMessageError(reason, field=field, index=index)


class OptionError(HarmonyError, ValueError):
    """An option has a value that it cannot have.

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
    """A token id is not one of o200k_harmony's.

    Attributes:
        token: The offending value.
        position: Its index in the sequence that was given.
    """

    def __init__(self, token: object, position: int) -> None:
        self.token = token
        self.position = position
        super().__init__(f"token {position}: {token!r} is not a token id of o200k_harmony")

    def __reduce__(self) -> tuple[object, ...]:
        return (UnknownTokenError, (self.token, self.position))


class ParseError(HarmonyError, ValueError):
    """Strict parsing met tokens that are not well-formed Harmony.

    Attributes:
        code: The kind of fault, one word such as `"missing_start"`.
        reason: What is wrong, in words.
        position: The index of the token, or of the character of a text, at which it was
            noticed.
        unit: What the position counts, `"token"` or `"character"`.
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
    """A request of an API cannot be what it was asked to be.

    Attributes:
        reason: What is wrong, without the place.
        path: The JSON path of the field at fault, such as `messages[2].tool_calls[0].id`.
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
    """What a completion shall be cannot be said in a grammar.

    Attributes:
        reason: What is wrong, without the place.
        path: Where: a JSON path that begins with a tool's full name, `response_format`, or an
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
    """A tool cannot be made from what was given, or cannot be called.

    Raised by a tool's own function, it is told to the model by its text alone.
    """


class ToolArgumentsError(ToolError):
    """The arguments of a call are not what the tool takes.

    A tool's own function may raise it too, to say so where its schema cannot.
    """


class BackendError(HarmonyError):
    """A backend cannot be loaded, or failed while generating."""
