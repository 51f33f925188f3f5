"""Parse token ids or text to messages in JSON."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rich.console import Console

from ..convert.harmony import messages_to_json
from ..wire._events import Completion
from ..wire._parser import parse
from ..wire._text import parse_text
from ..wire._training import TokenPart
from ..wire._vocabulary import encode_with_special
from ._files import add_input, add_reading, read_input, token_ids
from ._show import token_table


def add_arguments(parser: ArgumentParser) -> None:
    add_input(parser, "token ids, as a JSON list or separated by whitespace")
    add_reading(parser)
    parser.add_argument("--strict", action="store_true", help="fail at the first problem")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print every token with its role in the message and its problems",
    )


def main(options: Namespace) -> int:
    text = read_input(options.file)
    role = None if options.role == "none" else options.role
    if options.explain:
        tokens = encode_with_special(text.removesuffix("\n")) if options.text else token_ids(text)
        result = parse(tokens, role=role, strict=options.strict)
        places = _places(result, len(tokens))
        Console().print(token_table(tokens, *places, result.problems))
        return 0
    if options.text or options.stripped:
        stripped = True if options.stripped else None
        result = parse_text(
            text.removesuffix("\n"), role=role, strict=options.strict, stripped=stripped
        )
    else:
        result = parse(token_ids(text), role=role, strict=options.strict)
    print(messages_to_json(result.messages, indent=2))
    if result.problems:
        codes = ", ".join(dict.fromkeys(found.code for found in result.problems))
        console = Console(stderr=True, highlight=False)
        console.print(f"problems: {codes} (harmony-kit lint shows them)", style="yellow")
    return 0


def _places(result: Completion, length: int) -> tuple[list[int | None], list[TokenPart | None]]:
    indices: list[int | None] = [None] * length
    parts: list[TokenPart | None] = [None] * length
    for index, parsed in enumerate(result.parsed):
        span = parsed.span
        indices[span.start : span.end] = [index] * (span.end - span.start)
        for part, where in (
            (TokenPart.HEADER, span.header),
            (TokenPart.CONTENT, span.content),
            (TokenPart.TERMINATOR, span.terminator),
        ):
            parts[where] = [part] * (where.stop - where.start)
    return indices, parts
