"""The arguments that say what generates, and how."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from ..engine._protocol import Backend, backend_names, load_backend
from ..errors import BackendError, HarmonyError
from ..sampling import SamplingParams


def add_backend(parser: ArgumentParser) -> None:
    """Add the arguments that say what generates; `backend_of` loads it."""
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
    except Exception as error:  # an engine's own, of any kind
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
    """Add the arguments that say how tokens are chosen; `sampling_of` reads them."""
    parser.add_argument("--max-tokens", type=int, help="the most tokens of a completion")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float, help="the probability mass to sample from")
    parser.add_argument("--seed", type=int)


def sampling_of(options: Namespace) -> SamplingParams:
    """How tokens are chosen."""
    return SamplingParams(
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )
