"""Command-line arguments for the backend and sampling."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from ..engine._protocol import Backend, backend_names, load_backend
from ..errors import BackendError, HarmonyError
from ..sampling import SamplingParams


def add_backend(parser: ArgumentParser) -> None:
    """Add the arguments for the backend, which `backend_of` loads."""
    parser.add_argument(
        "--backend", required=True, help=f"the backend: {', '.join(backend_names())}"
    )
    parser.add_argument("--model", help="the model, for backends that take one")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the backend; the value is JSON or plain text; may be repeated",
    )


def backend_of(options: Namespace) -> Backend:
    """The backend of a command line.

    Raises:
        HarmonyError: An option is not NAME=VALUE.
        BackendError: The backend cannot be loaded.
    """
    settings = dict(setting("--option", text) for text in options.option)
    if options.model is not None:
        settings["model"] = options.model
    try:
        return load_backend(options.backend, **settings)
    except (HarmonyError, OSError):
        raise
    except Exception as error:  # engines raise any kind of exception
        reason = f"{type(error).__name__}: {error}"
        raise BackendError(f"backend {options.backend!r}: {reason}") from error


def setting(argument: str, text: str) -> tuple[str, Any]:
    """The name and the value of NAME=VALUE.

    Raises:
        HarmonyError: It is not NAME=VALUE.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise HarmonyError(f"{argument} {text}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def add_sampling(parser: ArgumentParser) -> None:
    """Add the arguments for sampling, which `sampling_of` reads."""
    parser.add_argument("--max-tokens", type=int, help="the maximum number of completion tokens")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float, help="the probability mass to sample from")
    parser.add_argument("--seed", type=int)


def sampling_of(options: Namespace) -> SamplingParams:
    """The sampling parameters of a command line."""
    return SamplingParams(
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )
