"""Chat with a model in the terminal, with tools."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from datetime import date
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import HarmonyError
from ._backend_options import add_backend, add_sampling
from ._tool_options import add_tools

if TYPE_CHECKING:
    from ..wire._messages import Message
    from ._chat_input import ChatInput
    from ._chat_interrupts import Interrupts
    from ._chat_session import ChatSession


def add_arguments(parser: ArgumentParser) -> None:
    add_backend(parser)
    add_tools(parser)
    conversation = parser.add_argument_group("conversation")
    conversation.add_argument(
        "--instructions",
        "--developer",
        metavar="TEXT",
        help="the instructions in the developer message (the system prompt of other models)",
    )
    conversation.add_argument(
        "--system",
        metavar="TEXT",
        help="the first line of the system message; by default that of the model's training",
    )
    conversation.add_argument(
        "--reasoning", "--reasoning-effort", metavar="low|medium|high", help="medium by default"
    )
    conversation.add_argument(
        "--current-date",
        metavar="YYYY-MM-DD",
        help="the date in the system message; by default today; none for no date",
    )
    conversation.add_argument("--load", metavar="FILE", help="continue a saved conversation")
    conversation.add_argument(
        "--save", metavar="FILE", help="save the conversation to this file after each turn"
    )
    conversation.add_argument(
        "--show-analysis", action="store_true", help="show the reasoning instead of its length"
    )
    add_sampling(parser)
    parser.add_argument(
        "--max-turns", type=int, default=50, help="the maximum number of completions per answer"
    )
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        help="the maximum length of a prompt in tokens; a longer one omits older tool results",
    )


def main(options: Namespace) -> int:
    """Run the command; without a terminal, the exit code is 1 if anything failed."""
    import asyncio

    from ._chat_commands import COMMANDS
    from ._chat_input import ChatInput
    from ._chat_interrupts import Interrupts, StoppedByUser
    from ._chat_session import ChatSession

    for stream in (sys.stdout, sys.stderr):
        _never_fail(stream)
    messages, browser = _begin(options)
    with asyncio.Runner() as runner, Interrupts(runner) as interrupts:
        session = ChatSession(options, messages, interrupts)
        try:
            session.open(browser)
            reader = ChatInput(is_terminal=session.is_terminal, commands=sorted(COMMANDS))
            while (line := _read(reader, session, interrupts)) is not None:
                if not _do(line, session):
                    break
        except StoppedByUser:
            return 130
        finally:
            session.close()
    return 1 if session.failures and not session.is_terminal else 0


def _never_fail(stream: TextIO) -> None:
    """Replace characters that the stream's encoding lacks by question marks."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")


def _read(reader: ChatInput, session: ChatSession, interrupts: Interrupts) -> str | None:
    """The user's next message; `None` if the user leaves."""
    was_interrupted = False
    while True:
        try:
            with interrupts.reading():
                return reader.read()
        except EOFError:
            if session.is_terminal:
                session.screen.note("")
            return None
        except KeyboardInterrupt:
            session.screen.note("" if was_interrupted else "\nCtrl-C again, or Ctrl-D, leaves")
            if was_interrupted:
                return None
            was_interrupted = True
        except HarmonyError as error:
            session.fail(error)


def _do(line: str, session: ChatSession) -> bool:
    """Run a command, or let the model answer; returns whether the chat continues."""
    from ._chat_commands import Leave, run_command

    try:
        if line.strip() and not run_command(session, line):
            session.transcript.ask(line)
            session.answer()
    except Leave:
        return False
    except Exception as error:
        session.fail(error)
    return True


def _begin(options: Namespace) -> tuple[list[Message], Any]:
    """The initial messages, and the saved session of the browser."""
    from ._chat_transcript import begun_with, check_can_save, saved_transcript

    messages: list[Message] = []
    browser: Any = None
    if options.load is not None:
        messages, browser = saved_transcript(options.load)
    if options.save is not None:
        check_can_save(Path(options.save), options.load)
    fields: dict[str, Any] = {}
    if options.system is not None:
        fields["model_identity"] = options.system
    if options.reasoning is not None:
        fields["reasoning_effort"] = options.reasoning
    if options.current_date is not None:
        fields["current_date"] = None if options.current_date == "none" else options.current_date
    elif options.load is None:
        fields["current_date"] = date.today().isoformat()
    messages = begun_with(messages, system_fields=fields, instructions=options.instructions)
    return messages, browser
