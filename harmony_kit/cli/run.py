"""Ask a model, letting it call tools."""

from __future__ import annotations

import importlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from rich.console import Console

from ..build import developer, system, user
from ..conversation import RunEnded, RunOptions, stream
from ..convert.harmony import messages_to_json
from ..errors import HarmonyError, ToolError
from ..generation import Backend, backend_names, load_backend
from ..sampling import Sampling
from .show import RunPrinter


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("prompt", help="what the user says")
    add_backend(parser)
    parser.add_argument(
        "--tool",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="a Python function that the model may call; may be repeated",
    )
    parser.add_argument("--instructions", help="what the developer message says")
    parser.add_argument("--reasoning-effort", default="medium", metavar="low|medium|high")
    parser.add_argument("--current-date", metavar="YYYY-MM-DD", help="the date that the model sees")
    parser.add_argument("--max-tokens", type=int, help="the most tokens of a completion")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--max-turns", type=int, default=10, help="the most completions")
    parser.add_argument(
        "--json", action="store_true", help="print the whole conversation as JSON at the end"
    )


def main(options: Namespace) -> int:
    """Run the command."""
    tools = [_function(reference) for reference in options.tool]
    conversation = [
        system(reasoning_effort=options.reasoning_effort, current_date=options.current_date)
    ]
    if options.instructions or tools:
        conversation.append(developer(options.instructions, tools=tools))
    conversation.append(user(options.prompt))
    how: RunOptions = {
        "sampling": Sampling(
            max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed
        ),
        "max_turns": options.max_turns,
    }
    printer = RunPrinter(Console(highlight=False))
    for event in stream(conversation, backend_of(options), **how):
        if not options.json:
            printer.show(event)
        elif isinstance(event, RunEnded):
            print(messages_to_json(event.reply.conversation, indent=2))
    return 0


def add_backend(parser: ArgumentParser) -> None:
    """Add the arguments that say what generates; `backend_of` loads it.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "--backend", required=True, help=f"what generates: {', '.join(backend_names())}"
    )
    parser.add_argument("--model", help="the model, for backends that take one")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the backend, its value JSON or plain text; may be repeated",
    )


def backend_of(options: Namespace) -> Backend:
    """The backend that a command line asks for.

    Args:
        options: The arguments `--backend`, `--model` and `--option`.

    Raises:
        HarmonyError: An option is not NAME=VALUE.
        BackendError: The backend cannot be loaded.
    """
    settings = dict(_setting(text) for text in options.option)
    if options.model is not None:
        settings["model"] = options.model
    return load_backend(options.backend, **settings)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise HarmonyError(f"--option {text}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _function(reference: str) -> Callable[..., Any]:
    module_name, colon, name = reference.partition(":")
    if not colon:
        raise ToolError(f"--tool {reference}: expected MODULE:FUNCTION")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: modules in the working directory
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise ToolError(f"--tool {reference}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ToolError(f"--tool {reference}: not a function")
    return function  # type: ignore[no-any-return]
