"""Show the problems of completions, given as token ids or text."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..errors import HarmonyError
from ..tools import tool_calls
from ..wire._events import Completion
from ..wire._parser import parse
from ..wire._problems import Problem
from ..wire._text import parse_text
from ..wire._vocabulary import decode_leniently
from ._files import add_reading, read_input, token_ids

_AROUND = 12  # tokens or characters shown before and after a problem
_LONGEST = 60  # shown characters of a problem


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", default=["-"], help="token ids or text; - or nothing for standard input"
    )
    add_reading(parser)
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="every line is a completion in JSON: a list of token ids, a string, or an object with "
        '"tokens" or "text"',
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per problem")


class _Completion(NamedTuple):
    """What is linted."""

    source: str
    content: Sequence[int] | str


def main(options: Namespace) -> int:
    """Run the command; the exit code is 1 if there are problems."""
    console = Console(highlight=False, soft_wrap=True)
    completions = problems = 0
    for completion in _completions(options):
        completions += 1
        for found in _problems(completion, options):
            problems += 1
            if options.json:
                print(json.dumps(_as_json(completion.source, found), ensure_ascii=False))
            else:
                _show(console, completion, found)
    if not options.json:
        style = "yellow" if problems else "green"
        counts = (_count(problems, "problem"), _count(completions, "completion"))
        console.print(" in ".join(counts), style=style)
    return 1 if problems else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _completions(options: Namespace) -> Iterator[_Completion]:
    is_text = options.text or options.stripped
    for file in options.files:
        name = "standard input" if file == "-" else file
        text = read_input(file)
        if not options.jsonl:
            yield _Completion(name, text.removesuffix("\n") if is_text else token_ids(text))
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield _Completion(f"{name}:{number}", _from_json(line, f"{name}:{number}"))


def _from_json(line: str, place: str) -> Sequence[int] | str:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise HarmonyError(f"{place}: not JSON: {error}") from None
    if isinstance(value, dict):
        value = value.get("tokens", value.get("text"))
    is_ids = isinstance(value, list) and all(type(token) is int for token in value)
    if not is_ids and not isinstance(value, str):
        raise HarmonyError(
            f'{place}: expected token ids, a string, or an object with "tokens" or "text"'
        )
    return value  # type: ignore[no-any-return]


def _problems(completion: _Completion, options: Namespace) -> list[Problem]:
    """The problems of a completion and its calls, in order."""
    role = None if options.role == "none" else options.role
    result: Completion
    if isinstance(completion.content, str):
        stripped = True if options.stripped else None
        result = parse_text(completion.content, role=role, stripped=stripped)
    else:
        result = parse(completion.content, role=role)
    of_calls = [found for call in tool_calls(result) for found in call.problems]
    return sorted([*result.problems, *of_calls], key=lambda found: found.span)


def _as_json(source: str, found: Problem) -> dict[str, Any]:
    return {
        "source": source,
        "code": found.code,
        "span": list(found.span),
        "message": found.message,
        "detail": found.detail,
    }


def _show(console: Console, completion: _Completion, found: Problem) -> None:
    """Print a problem, and below it the marked place."""
    unit = "character" if isinstance(completion.content, str) else "token"
    start, end = found.span
    line = Text()
    line.append(f"{completion.source}: {unit} {start}: ", style="bold")
    line.append(found.code, style="bold yellow")
    line.append(f": {found.message}")
    if found.detail is not None:
        line.append(f" ({found.detail})", style="bright_black")
    console.print(line)
    before, marked, after = _around(completion.content, start, end)
    console.print(
        Text.assemble("    ", (before, "bright_black"), (marked, "red"), (after, "bright_black"))
    )
    mark = "^" + "~" * (cell_len(marked) - 1)
    console.print(Text(" " * (4 + cell_len(before)) + mark, style="red"))


def _around(content: Sequence[int] | str, start: int, end: int) -> tuple[str, str, str]:
    """The text before, at and after a place, on one line."""
    text: Callable[[Any], str] = str if isinstance(content, str) else decode_leniently
    width = _AROUND * (4 if isinstance(content, str) else 1)
    before = _one_line(text(content[max(0, start - width) : start]))
    marked = _one_line(text(content[start : min(end, start + 4 * _LONGEST)]))
    after = _one_line(text(content[end : end + width]))
    if len(marked) > _LONGEST:
        marked = marked[: _LONGEST - 1] + "…"
    return before, marked, after


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎").translate(dict.fromkeys(range(32), "·"))
