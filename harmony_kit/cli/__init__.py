"""The command harmony-kit."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import HarmonyError
from . import _backends as backends
from . import _batch as batch
from . import _chat as chat
from . import _convert as convert
from . import _demo as demo
from . import _grammar as grammar
from . import _lint as lint
from . import _parse as parse
from . import _render as render
from . import _run as run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    The exit code is 0; 1 if `lint` found problems, `grammar` refused a completion or requests of a
    batch failed; 2 after an error, of which one line is printed.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except HarmonyError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of the output has closed it. Otherwise Python would print an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130
    return code


def _fail(reason: str) -> int:
    print(f"harmony-kit: error: {reason}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harmony-kit", description="The Harmony format of the gpt-oss models."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in (demo, run, chat, render, parse, lint, convert, grammar, backends, batch):
        name = module.__name__.rpartition("._")[2]
        summary = (module.__doc__ or "").strip()
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(command=module.main)
    return parser
