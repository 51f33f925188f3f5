"""What the user of a chat types, or what is piped in."""

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
    """Reads messages: a line each, or what stands between two lines of three quotes.

    In a terminal lines can be edited, and earlier ones are found with the arrow keys.

    Args:
        is_terminal: Whether a person types.
        commands: What the tab key completes.
    """

    def __init__(self, *, is_terminal: bool, commands: Sequence[str]) -> None:
        self._is_terminal = is_terminal
        if is_terminal:
            _edit_lines(commands)

    def read(self) -> str:
        """The next message.

        Raises:
            EOFError: There is none.
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
    """Give `input` a memory, and the tab key a meaning, where the system has readline."""
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
