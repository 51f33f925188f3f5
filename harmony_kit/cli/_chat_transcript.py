"""The conversation of a chat, and its file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..convert.harmony import message_to_dict, messages_from_json
from ..errors import HarmonyError, InvalidMessageError
from ..tools._build import developer, system, user
from ..wire._contents import DeveloperContent, SystemContent
from ..wire._events import is_reasoning
from ..wire._messages import Message
from ..wire._roles import Role
from ._files import read_input

_BROWSER: Final = "browser"
"""The key of the browser's session, next to `messages`."""


class Transcript:
    """The messages of a chat."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.messages = list(messages)

    def ask(self, text: str) -> None:
        """Add a user message.

        Raises:
            InvalidMessageError: The text is not valid Unicode.
        """
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidMessageError("not UTF-8", field="message")
        self.messages.append(user(text))

    def add(self, messages: Iterable[Message]) -> None:
        """Add the messages of an answer."""
        self.messages += messages

    def question_count(self) -> int:
        """The number of user messages."""
        return sum(message.role is Role.USER for message in self.messages)

    def last_reasoning(self) -> list[str]:
        """The reasoning after the last user message."""
        texts: list[str] = []
        for message in reversed(self.messages):
            if message.role is Role.USER:
                break
            if is_reasoning(message):
                texts.append(message.text)
        return texts[::-1]

    def take_back_answer(self) -> bool:
        """Remove everything after the last user message; returns whether there is one."""
        for index in reversed(range(len(self.messages))):
            if self.messages[index].role is Role.USER:
                del self.messages[index + 1 :]
                return True
        return False

    def take_back_question(self) -> str | None:
        """Remove the last user message and everything after it; returns its text, or `None`."""
        return self.messages.pop().text if self.take_back_answer() else None


# --- Beginning ------------------------------------------------------------------------------


def begun_with(
    messages: Iterable[Message],
    *,
    system_fields: dict[str, Any],
    instructions: str | None,
) -> list[Message]:
    """A conversation with the system and developer fields of a command line."""
    found = list(messages) or [system()]
    if system_fields:
        _set(found, SystemContent, system(), 0, system_fields)
    if instructions is not None:
        after_system = sum(message.role is Role.SYSTEM for message in found[:1])
        _set(found, DeveloperContent, developer(), after_system, {"instructions": instructions})
    return found


def _set(
    messages: list[Message], kind: type, empty: Message, place: int, fields: dict[str, Any]
) -> None:
    """Set fields of the first message with a content of a kind, or of a new one."""
    for index, message in enumerate(messages):
        if isinstance(message.content, kind):
            content: Any = message.content
            messages[index] = message.replace(content=replace(content, **fields))
            return
    new: Any = empty.content
    messages.insert(place, empty.replace(content=replace(new, **fields)))


# --- Files ----------------------------------------------------------------------------------


def check_can_save(path: Path, loaded: str | None) -> None:
    """Refuse to overwrite a file that was not loaded.

    Raises:
        HarmonyError: The file exists and is not the loaded one, or its folder does not exist.
    """
    if not path.resolve().parent.is_dir():
        raise HarmonyError(f"{path}: there is no folder {path.parent}")
    is_own = loaded is not None and Path(loaded).resolve() == path.resolve()
    if path.exists() and not is_own:
        raise HarmonyError(f"{path} exists: continue it with --load, or choose another file")


def saved_transcript(path: str) -> tuple[list[Message], Any]:
    """The messages of a saved transcript or a conversation in JSON, and the session of the browser.

    Raises:
        HarmonyError: It is not a conversation; the error names the place.
        OSError: The file cannot be read.
    """
    text = read_input(path)
    try:
        messages = messages_from_json(text)
    except HarmonyError as error:
        raise HarmonyError(f"{path}: {error}") from None
    data = json.loads(text)
    return messages, data.get(_BROWSER) if isinstance(data, dict) else None


def save_transcript(path: Path, messages: Iterable[Message], browser: Any = None) -> None:
    """Write a transcript atomically.

    Raises:
        OSError: The file cannot be written.
    """
    data: dict[str, Any] = {
        "messages": [message_to_dict(message, tokens=True) for message in messages]
    }
    if browser is not None:
        data[_BROWSER] = browser
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        temporary.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", "utf-8")
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
