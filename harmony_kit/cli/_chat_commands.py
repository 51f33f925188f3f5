"""The commands of a chat: lines that start with a slash."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from ..errors import HarmonyError
from ..wire._messages import Message
from ..wire._render import render, render_message
from ..wire._roles import Role
from ._chat_session import ChatSession

_COMMAND: Final = re.compile(r"/([A-Za-z?]+)(?:\s+(.*))?\s*", re.DOTALL)


class Leave(Exception):  # noqa: N818 - not an error
    """The user leaves the chat."""


class Command(NamedTuple):
    """A command.

    Attributes:
        usage: Its syntax.
        summary: Its description.
        run: Runs it, given the session and the argument.
    """

    usage: str
    summary: str
    run: Callable[[ChatSession, str], None]


def run_command(session: ChatSession, line: str) -> bool:
    """Run a line if it is a command; returns whether it is one.

    A line that starts with a space, or with a path such as `/etc/hosts`, is not a command.

    Raises:
        HarmonyError: The command is unknown or failed.
        Leave: The user leaves.
    """
    written = _COMMAND.fullmatch(line)
    if written is None:
        return False
    command = COMMANDS.get(f"/{written[1].lower()}")
    if command is None:
        raise HarmonyError(
            f"there is no command /{written[1]}; /help lists the commands "
            "(put a space before the slash to send it as a message)"
        )
    command.run(session, (written[2] or "").strip())
    return True


def _help(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{c.usage:{width}}  {c.summary}" for c in dict.fromkeys(COMMANDS.values())]
    lines.append('Enclose a message of several lines in """ and """.')
    lines.append("Ctrl-C stops an answer and keeps its text. Ctrl-D, or Ctrl-C twice, leaves.")
    session.screen.say("\n".join(lines))


def _save(session: ChatSession, argument: str) -> None:
    if not argument:
        raise HarmonyError("/save: expected a file")
    session.save(argument)
    session.screen.note(f"saved to {argument}, and again after each turn")


def _undo(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    question = session.transcript.take_back_question()
    if question is None:
        raise HarmonyError("there is nothing to undo")
    session.screen.note(f"removed: {question}")
    session.autosave()


def _retry(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    if not session.transcript.take_back_answer():
        raise HarmonyError("there is no question to retry")
    session.answer()


def _tools(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    lines = []
    for name, tool in session.toolbox.tools.items():
        summary = tool.description.strip().partition("\n")[0]
        lines.append(f"{name}  {summary}".rstrip())
    session.screen.say("\n".join(lines) or "there are no tools")


def _analysis(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    screen = session.screen
    screen.show_analysis = not screen.show_analysis
    if not screen.show_analysis:
        screen.note("reasoning is hidden")
        return
    screen.note("reasoning is shown")
    for text in session.transcript.last_reasoning():
        screen.note(text)


def _tokens(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    messages = session.transcript.messages
    has_functions = any(name.startswith("functions.") for name in session.toolbox.tools)
    counts: dict[str, int] = {}
    for message in messages:
        length = len(render_message(message, has_function_tools=has_functions))
        kind = _kind(message)
        counts[kind] = counts.get(kind, 0) + length
    counts["the next prompt"] = len(render(messages))
    counts["all prompts"] = session.usage.prompt_tokens
    counts["all completions"] = session.usage.completion_tokens
    width = max(map(len, counts))
    session.screen.say("\n".join(f"{kind:{width}} {n:>9,}" for kind, n in counts.items()))


def _kind(message: Message) -> str:
    header = message.header
    if message.role is not Role.ASSISTANT:
        return {Role.USER: "questions", Role.TOOL: "results"}.get(message.role, message.role)
    if header.is_call:
        return "calls"
    return {"analysis": "reasoning", "final": "answers"}.get(header.channel or "", "commentary")


def _quit(session: ChatSession, argument: str) -> None:  # noqa: ARG001
    raise Leave


_HELP: Final = Command("/help", "lists the commands", _help)
_QUIT: Final = Command("/quit", "leaves", _quit)

COMMANDS: Final[dict[str, Command]] = {
    "/help": _HELP,
    "/save": Command("/save FILE", "saves the conversation now and after each turn", _save),
    "/undo": Command("/undo", "removes the last question and its answer", _undo),
    "/retry": Command("/retry", "asks the last question again", _retry),
    "/tools": Command("/tools", "lists the tools", _tools),
    "/analysis": Command("/analysis", "shows or hides the reasoning", _analysis),
    "/tokens": Command("/tokens", "counts the tokens of the conversation", _tokens),
    "/quit": _QUIT,
    "/exit": _QUIT,
    "/?": _HELP,
}
"""The commands by name."""
