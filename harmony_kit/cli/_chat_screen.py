"""The display of a chat: streamed answers, folded reasoning, one line per call and result."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..calls import ToolCall
from ..loop import (
    ContextReduced,
    Outcome,
    RunEnded,
    RunEvent,
    ToolReturned,
    ToolStarted,
    TurnStarted,
)
from ..wire._events import ContentDelta, MessageEnded, MessageStarted
from ..wire._messages import Header
from ..wire._roles import Channel
from ..wire._vocabulary import encode
from ._show import visible

if TYPE_CHECKING:
    from ..builtins.browser import BrowserTool, Citation, CitationStream

_DIM: Final = "bright_black"
_LONGEST: Final = 100  # shown characters of a call or a result
_REFRESH: Final = 0.1  # seconds
_OUTCOMES: Final[Mapping[Outcome, str]] = {
    "no_final": "the model ended without an answer",
    "call": "the model called a tool that is not available",
    "length": "truncated at the token limit",
    "turn_limit": "stopped at the limit of --max-turns completions",
    "retry_limit": "stopped: too many failed calls",
    "call_limit": "stopped: too many calls",
    "token_limit": "stopped: too many tokens",
    "time_limit": "stopped: it took too long",
    "context_limit": "the conversation is longer than --max-prompt-tokens",
}


class ChatScreen:
    """Shows a chat.

    In a terminal everything is shown there, in colors, with a status line. Otherwise answers go to
    the standard output and everything else to the standard error, as plain text.

    Args:
        is_terminal: Whether the output is a terminal.
        show_analysis: Whether reasoning is shown instead of its length.

    Attributes:
        show_analysis: May be changed at any time.
        browser: The browser that resolves citations, if there is one.
    """

    def __init__(self, *, is_terminal: bool, show_analysis: bool) -> None:
        self.is_terminal = is_terminal
        self.show_analysis = show_analysis
        self.browser: BrowserTool | None = None
        self._answers = _console(is_terminal, stderr=False)
        self._notes = self._answers if is_terminal else _console(is_terminal, stderr=True)
        self._status = _Status(self._notes)
        self._message: _Shown | None = None

    # Events

    def show(self, event: RunEvent) -> None:
        """Show an event."""
        if isinstance(event, TurnStarted):
            self._status.show(f"reading {len(event.prompt):,} tokens")
        elif isinstance(event, MessageStarted):
            self._message = self._shown(event.header)
        elif isinstance(event, ContentDelta) and self._message is not None:
            self._message.add(event.text)
        elif isinstance(event, MessageEnded) and self._message is not None:
            length = event.span.content_end - event.span.content_start
            self._message.end(length)
            self._message = None
        elif isinstance(event, ToolStarted):
            self._show_call(event.call)
        elif isinstance(event, ToolReturned):
            self._show_result(event)
        elif isinstance(event, ContextReduced):
            count = len(event.left_out)
            self.note(f"{count} older messages are left out, so that the prompt fits")
        elif isinstance(event, RunEnded):
            self.end()
            if event.reply.outcome in _OUTCOMES:
                self.warn(_OUTCOMES[event.reply.outcome])

    def end(self) -> None:
        """Leave the status line at the end of a run."""
        if self._message is not None:
            self._message.end(None)
            self._message = None
        self._status.clear()

    def _shown(self, header: Header) -> _Shown:
        if header.is_call:
            self._status.show(f"calling {header.recipient}")
            return _Counted(self._status, f"calling {header.recipient}", stays=False)
        if header.channel == Channel.ANALYSIS:
            if not self.show_analysis:
                return _Counted(self._status, "thinking", stays=True)
            return _Streamed(self._notes, self._status, _DIM)
        if header.channel == Channel.FINAL:
            return _Answer(self._answers, self._status, self.browser)
        return _Streamed(self._notes, self._status, "yellow")

    def _show_call(self, call: ToolCall) -> None:
        name = call.full_name or call.message.recipient or "?"
        line = Text("→ ", "cyan").append(visible(name), "cyan")
        line.append(f" {_short(_arguments(call))}", _DIM)
        self._print_note(line)
        self._status.show(f"running {name}")

    def _show_result(self, event: ToolReturned) -> None:
        text = event.result.text
        line = Text("← ", "red" if event.is_error else "cyan")
        line.append(_short(text) or "(nothing)", "red" if event.is_error else _DIM)
        self._print_note(line)

    # Other output

    def note(self, text: str) -> None:
        """Show a remark."""
        self._print_note(Text(visible(text), _DIM))

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._print_note(Text(visible(text), "yellow"))

    def error(self, text: str) -> None:
        """Show an error."""
        self._print_note(Text(f"error: {visible(text)}", "red"))

    def say(self, text: str) -> None:
        """Show the output of a command."""
        self._status.clear()
        self._answers.print(Text(visible(text)), soft_wrap=True)

    def _print_note(self, line: Text) -> None:
        self._status.clear()
        self._notes.print(line, soft_wrap=True)


def _console(is_terminal: bool, *, stderr: bool) -> Console:
    if is_terminal:
        return Console(highlight=False)
    return Console(
        highlight=False, stderr=stderr, force_terminal=False, color_system=None, soft_wrap=True
    )


# --- Messages while they come ---------------------------------------------------------------


class _Shown:
    """A message that is shown while it is generated."""

    def add(self, text: str) -> None:
        """Show more of its content."""
        raise NotImplementedError

    def end(self, tokens: int | None) -> None:
        """End the message, whose content has `tokens` tokens; `None` if it is truncated."""
        raise NotImplementedError


class _Counted(_Shown):
    """A message of which only the length is shown."""

    def __init__(self, status: _Status, what: str, *, stays: bool) -> None:
        self._status = status
        self._what = what
        self._stays = stays
        self._tokens = 0

    def add(self, text: str) -> None:
        self._tokens += len(encode(text))
        self._status.show(f"{self._what}, {self._tokens:,} tokens")

    def end(self, tokens: int | None) -> None:
        self._status.clear()
        count = self._tokens if tokens is None else tokens
        if self._stays and count:
            self._status.leave(f"{self._what}, {count:,} {'token' if count == 1 else 'tokens'}")


class _Streamed(_Shown):
    """A message whose text is shown."""

    def __init__(self, console: Console, status: _Status, style: str) -> None:
        self._console = console
        self._status = status
        self._style = style
        self._last = ""

    def add(self, text: str) -> None:
        if not text:
            return
        self._status.clear()
        self._last = text[-1]
        self._console.out(visible(text), style=self._style, end="", highlight=False)

    def end(self, tokens: int | None) -> None:
        del tokens  # the text was shown
        if self._last not in ("", "\n"):
            self._console.out("", end="\n")


class _Answer(_Streamed):
    """An answer with resolved citations."""

    def __init__(self, console: Console, status: _Status, browser: BrowserTool | None) -> None:
        super().__init__(console, status, "")
        self._citations: CitationStream | None = None
        if browser is not None:
            from ..builtins.browser import CitationStream

            self._citations = CitationStream(browser)

    def add(self, text: str) -> None:
        super().add(text if self._citations is None else self._citations.feed(text))

    def end(self, tokens: int | None) -> None:
        if self._citations is not None:
            super().add(self._citations.close())
        super().end(tokens)
        if self._citations is not None and self._citations.citations:
            self._console.print()
            for line in _sources(self._citations.citations):
                self._console.print(Text(visible(line), _DIM), soft_wrap=True)


def _sources(citations: Iterable[Citation]) -> list[str]:
    """A line for each source: its number, title, URL and cited lines."""
    by_number: dict[int, list[Citation]] = {}
    for citation in citations:
        by_number.setdefault(citation.number, []).append(citation)
    lines = []
    for number, cited in sorted(by_number.items()):
        stretches = dict.fromkeys(stretch for citation in cited for stretch in citation.lines)
        places = ", ".join(
            f"{first}" if first == last else f"{first}-{last}" for first, last in stretches
        )
        where = f" (lines {places})" if places else ""
        names = dict.fromkeys(filter(None, (cited[0].title, cited[0].url)))
        lines.append(f"[{number}] {', '.join(names)}{where}")
    return lines


# --- The line that is updated ---------------------------------------------------------------


class _Status:
    """A dim status line, shown only in a terminal that can update it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        """Replace the line, at a limited rate."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        now = time.monotonic()
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        elif now - self._shown_at < _REFRESH:
            return
        self._shown_at = now
        line = Text(visible(text), _DIM, no_wrap=True, overflow="ellipsis")
        self._live.update(line, refresh=True)

    def clear(self) -> None:
        """Remove the line."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def leave(self, text: str) -> None:
        """Replace the line by one that stays."""
        self.clear()
        self._console.print(Text(visible(text), _DIM), soft_wrap=True)


# --- Short forms ----------------------------------------------------------------------------


def _arguments(call: ToolCall) -> str:
    """The arguments of a call, without the braces of a JSON object."""
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
    if not isinstance(value, dict):
        return call.arguments
    return ", ".join(
        f"{name}={json.dumps(item, ensure_ascii=False)}" for name, item in value.items()
    )


def _short(text: str) -> str:
    """The first non-empty line, and the number of further lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    first = lines[0] if len(lines[0]) <= _LONGEST else f"{lines[0][:_LONGEST]}…"
    more = len(lines) - 1
    rest = f" (+{more} {'line' if more == 1 else 'lines'})" if more else ""
    return visible(first) + rest
