"""Parse token ids or text to messages in JSON."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rich.console import Console

from ..convert.harmony import messages_to_json
from ..parse import ParseResult, parse
from ..render import TokenPart
from ..vocabulary import encode_with_special
from .files import add_input, read_input, token_ids
from .show import token_table


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_input(parser, "token ids, a JSON list or separated by white space")
    parser.add_argument(
        "--text", action="store_true", help="the input is text with special tokens spelt out"
    )
    parser.add_argument(
        "--role",
        choices=["assistant", "none"],
        default="assistant",
        help="assistant (the default): a completion, that goes on after <|start|>assistant; "
        "none: the input begins with <|start|>",
    )
    parser.add_argument("--explain", action="store_true", help="print every token with its part")


def main(options: Namespace) -> int:
    """Run the command."""
    text = read_input(options.file)
    tokens = encode_with_special(text.removesuffix("\n")) if options.text else token_ids(text)
    result = parse(tokens, role=None if options.role == "none" else options.role)
    if options.explain:
        indices, parts = _places(result, len(tokens))
        Console().print(token_table(tokens, indices, parts))
    else:
        print(messages_to_json(result.messages, indent=2))
    return 0


def _places(result: ParseResult, length: int) -> tuple[list[int | None], list[TokenPart | None]]:
    indices: list[int | None] = [None] * length
    parts: list[TokenPart | None] = [None] * length
    for index, span in enumerate(result.spans):
        indices[span.start : span.end] = [index] * (span.end - span.start)
        for part, where in (
            (TokenPart.HEADER, span.header),
            (TokenPart.CONTENT, span.content),
            (TokenPart.TERMINATOR, span.terminator),
        ):
            parts[where] = [part] * (where.stop - where.start)
    return indices, parts
