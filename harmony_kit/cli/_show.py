"""Messages and tokens formatted for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..loop import ContextReduced, RunEnded, RunEvent, ToolReturned, TurnFinished, TurnStarted
from ..wire._events import ContentDelta, MessageEnded, MessageStarted, ProblemFound
from ..wire._messages import Header, Message
from ..wire._problems import Problem
from ..wire._roles import Role
from ..wire._training import TokenPart
from ..wire._vocabulary import SIZE, SPECIAL_TOKEN_NAMES, token_bytes

_ROLE_STYLES: Final = {
    Role.SYSTEM: "blue",
    Role.DEVELOPER: "blue",
    Role.USER: "bold",
    Role.ASSISTANT: "bold green",
    Role.TOOL: "cyan",
}
_CHANNEL_STYLES: Final = {"analysis": "bright_black", "commentary": "yellow", "final": "green"}
_PART_STYLES: Final = {
    TokenPart.HEADER: "cyan",
    TokenPart.CONTENT: "",
    TokenPart.TERMINATOR: "magenta",
}


_PICTURES: Final = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


def visible(text: str) -> str:
    """The text with control characters replaced by visible symbols."""
    return text.translate(_PICTURES)


def header_line(header: Header) -> Text:
    """The author, channel and recipient, on one line."""
    author = header.role.value if header.name is None else f"{header.role}:{header.name}"
    line = Text(visible(author), style=_ROLE_STYLES[header.role])
    if header.channel is not None:
        line.append(
            visible(f" [{header.channel}]"), style=_CHANNEL_STYLES.get(header.channel, "red")
        )
    if header.recipient is not None:
        line.append(visible(f" → {header.recipient}"), style="magenta")
    if header.content_type is not None:
        line.append(visible(f" ({header.content_type})"), style="bright_black")
    return line


def content_style(header: Header) -> str:
    """The style of a message's content: reasoning is dimmed."""
    return "bright_black" if header.channel == "analysis" and header.recipient is None else ""


def print_message(console: Console, message: Message) -> None:
    """Print a whole message."""
    header = message.header
    console.print(header_line(header))
    console.print(Text(visible(message.text), style=content_style(header)), soft_wrap=True)
    console.print()


class RunPrinter:
    """Prints a run while it happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._turns: list[tuple[int, int]] = []

    def show(self, event: RunEvent) -> None:
        """Print an event."""
        console = self._console
        if isinstance(event, TurnStarted):
            line = f"— turn {len(self._turns) + 1}: a prompt of {len(event.prompt)} tokens"
            console.print(Text(line, style="bright_black"))
        elif isinstance(event, MessageStarted):
            console.print(header_line(event.header))
        elif isinstance(event, ContentDelta):
            text = Text(visible(event.text), style=content_style(event.header))
            console.print(text, end="", soft_wrap=True)
        elif isinstance(event, MessageEnded):
            end = "truncated" if event.terminator is None else str(event.terminator)
            console.print(Text(f"  {end}", style="bright_black"), end="\n\n")
        elif isinstance(event, ProblemFound):
            console.print(Text(f"  {event.problem.code}: {event.problem.message}", style="yellow"))
        elif isinstance(event, TurnFinished):
            self._turns.append((event.usage.prompt_tokens, event.usage.completion_tokens))
        elif isinstance(event, ToolReturned):
            print_message(console, event.result)
        elif isinstance(event, ContextReduced):
            line = f"— {len(event.left_out)} messages are left out of the prompt"
            console.print(Text(line, style="bright_black"))
        elif isinstance(event, RunEnded):
            self._print_usage()

    def _print_usage(self) -> None:
        table = Table("turn", "prompt tokens", "completion tokens", box=None, pad_edge=False)
        for number, (prompt, completion) in enumerate(self._turns, 1):
            table.add_row(str(number), str(prompt), str(completion))
        prompts, completions = map(sum, zip(*self._turns, strict=True))
        table.add_row("all", str(prompts), str(completions), style="bold")
        self._console.print(table)


def token_table(
    tokens: Sequence[int],
    messages: Iterable[int | None],
    parts: Iterable[TokenPart | None],
    problems: Sequence[Problem] = (),
) -> Table:
    """A table of all tokens with their roles in the messages."""
    table = Table("token", "id", "text", "message", "part", box=None, pad_edge=False)
    if problems:
        table.add_column("problem")
    at: dict[int, list[Problem]] = {}
    for found in problems:
        at.setdefault(found.span.start, []).append(found)
    for index, (token, message, part) in enumerate(zip(tokens, messages, parts, strict=True)):
        style = _PART_STYLES[part] if part else "red"
        table.add_row(
            str(index),
            str(token),
            Text(_token_text(token), style="bold magenta" if _is_special(token) else style),
            "" if message is None else str(message),
            Text(part or "", style=style),
            *([_problem_cell(at.get(index, ()))] if problems else []),
        )
    if len(tokens) in at:
        end = Text("(the end)", style="bright_black")
        table.add_row(str(len(tokens)), "", end, "", "", _problem_cell(at[len(tokens)]))
    return table


def _problem_cell(problems: Iterable[Problem]) -> Text:
    cell = Text()
    for found in problems:
        length = found.span.end - found.span.start
        extent = f" ({length} tokens)" if length > 1 else ""
        cell.append(f"{'; ' if cell else ''}{found.code}{extent}", style="yellow")
    return cell


def _is_special(token: int) -> bool:
    return token in SPECIAL_TOKEN_NAMES


def _token_text(token: int) -> str:
    if _is_special(token):
        return SPECIAL_TOKEN_NAMES[token]
    if not 0 <= token < SIZE:
        return "(not a token)"
    data = token_bytes(token)
    try:
        return repr(data.decode())
    except UnicodeDecodeError:
        return repr(data)
