"""Input of the commands: files, standard input, and token ids in them."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser
from pathlib import Path

from ..errors import HarmonyError


def add_input(parser: ArgumentParser, what: str) -> None:
    """Add the argument for the input."""
    parser.add_argument(
        "file", nargs="?", default="-", help=f"{what}; - or nothing for standard input"
    )


def add_reading(parser: ArgumentParser) -> None:
    """Add the arguments for the format of the input."""
    parser.add_argument(
        "--text",
        action="store_true",
        help="the input is text with special tokens spelled out (missing ones are detected)",
    )
    parser.add_argument(
        "--stripped",
        action="store_true",
        help="the input is text without its special tokens",
    )
    parser.add_argument(
        "--role",
        choices=["assistant", "none"],
        default="assistant",
        help="assistant (the default): a completion, which follows <|start|>assistant; "
        "none: the input starts with <|start|>",
    )


def read_input(file: str) -> str:
    """The text of a file, or of standard input for `-`.

    Raises:
        HarmonyError: The text is not UTF-8.
        OSError: The file cannot be read.
    """
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        name = "standard input" if file == "-" else file
        raise HarmonyError(f"{name}: not UTF-8 at byte {error.start}") from None


def token_ids(text: str) -> list[int]:
    """Token ids from a JSON list, or from numbers separated by whitespace or commas.

    Raises:
        HarmonyError: An item is not a number; the error names it and its position.
    """
    body = text.strip()
    if body.startswith("[") and body.endswith("]"):
        body = body[1:-1]
    ids = []
    for position, word in enumerate(re.split(r"[\s,]+", body.strip(" \t\r\n,"))):
        if re.fullmatch(r"-?[0-9]{1,18}", word):
            ids.append(int(word))
        elif word:
            shown = json.dumps(word if len(word) <= 40 else word[:40] + "…", ensure_ascii=False)
            raise HarmonyError(f"token {position}: {shown} is not a token id (for text: --text)")
    return ids
