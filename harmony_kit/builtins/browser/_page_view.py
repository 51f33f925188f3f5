"""Page views for the model: a header, and numbered lines within a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from ...wire._vocabulary import decode, encode
from ._errors import BrowserArgumentsError
from ._marks import clean_line
from ._page import Page

_MAX_URL: Final = 1024  # characters of a URL in a header
_MAX_LINES: Final = 100_000


def render_view(page: Page, cursor: int, *, line: int, num_lines: int | None, tokens: int) -> str:
    """A view of a page, in the format of the model's training.

    Raises:
        BrowserArgumentsError: The line does not exist.
    """
    lines = page.lines
    last = len(lines) - 1
    if line > last:
        raise BrowserArgumentsError(
            f"there is no line {line}: the last line of this page is {last}"
        )
    count = min(num_lines or _MAX_LINES, tokens)  # a line is at least one token
    numbered = [
        f"L{number}: {lines[number]}" for number in range(line, min(line + count, last + 1))
    ]
    shown = numbered[: _lines_within(numbered, tokens)]
    body = "\n".join(shown)
    place = f"**viewing lines [{line} - {line + len(shown) - 1}] of {last}**"
    return f"[{cursor}] {_heading(page)}\n{place}\n\n{body}"


def _heading(page: Page) -> str:
    address = clean_line(unquote(page.url), _MAX_URL)
    return f"{page.title} ({address})" if address else page.title


def _lines_within(lines: Sequence[str], tokens: int) -> int:
    """The number of lines that fit into a number of tokens; at least one."""
    ids = encode("\n".join(lines))
    if len(ids) <= tokens:
        return len(lines)
    return max(1, decode(ids[:tokens]).count("\n"))
