"""The input of a chat: typed lines or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ..errors import HarmonyError

_PROMPT: Final = "> "
_MORE: Final = ". "
_QUOTES: Final = '"""'


class ChatInput:
    """Reads messages: a line each, or several lines between two lines of three quotes.

    In a terminal, lines can be edited, and earlier ones are available with the arrow keys.

    Args:
        is_terminal: Whether the input is interactive.
        commands: The completions for the tab key.
    """

    def __init__(self, *, is_terminal: bool, commands: Sequence[str]) -> None:
        self._is_terminal = is_terminal
        if is_terminal:
            _edit_lines(commands)

    def read(self) -> str:
        """The next message.

        Raises:
            EOFError: The input has ended.
            KeyboardInterrupt: Ctrl-C was pressed.
            HarmonyError: A line is not UTF-8.
        """
        line = self._line(_PROMPT)
        if not line.lstrip().startswith(_QUOTES):
            return line
        text = line.lstrip().removeprefix(_QUOTES)
        while not text.rstrip().endswith(_QUOTES):
            try:
                text += "\n" + self._line(_MORE)
            except EOFError:
                return text.strip("\n")
        return text.rstrip().removesuffix(_QUOTES).strip("\n")

    def _line(self, prompt: str) -> str:
        try:
            if self._is_terminal:
                return input(prompt)
            line = sys.stdin.buffer.readline().decode()
        except UnicodeDecodeError as error:
            raise HarmonyError(f"the line is not UTF-8 at byte {error.start}") from None
        if not line:
            raise EOFError
        return line.removesuffix("\n").removesuffix("\r")


def _edit_lines(commands: Sequence[str]) -> None:
    """Give `input` a history and tab completion, if the system has readline."""
    with suppress(ImportError):
        import readline

        def complete(text: str, state: int) -> str | None:
            if not readline.get_line_buffer().startswith("/"):
                return None
            found = [command for command in commands if command.startswith(text)]
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" \t\n")
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
