"""Play a recorded conversation with gpt-oss-120b, which calls a real Python function."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rich.console import Console
from rich.text import Text

from ..engine._protocol import load_backend
from ..loop import stream
from ..tools._build import developer, system, user
from ..wire._builtin_tools import BROWSER, PYTHON
from ._show import RunPrinter, print_message


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def get_current_weather(location: str) -> str:
    """Returns the current weather status at a given location as a string.

    Args:
        location: The location to get the weather for.
    """
    return "Terrestrial." if location else "There is no weather nowhere."


def main(options: Namespace) -> int:  # noqa: ARG001
    console = Console(highlight=False)
    question = user("What's the weather in Paris right now?")
    conversation = [
        system(current_date="2025-08-06", tools=[BROWSER, PYTHON]),
        developer(tools=[get_current_weather]),
        question,
    ]
    console.print(Text("gpt-oss-120b, recorded; get_current_weather really runs", "italic"))
    console.print()
    print_message(console, question)
    printer = RunPrinter(console)
    for event in stream(conversation, load_backend("replay", recording="paris-weather")):
        printer.show(event)
    return 0
