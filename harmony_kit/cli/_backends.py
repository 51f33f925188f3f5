"""List the backends, and what is missing to use them."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from importlib.metadata import (
    Distribution,
    EntryPoint,
    PackageNotFoundError,
    distribution,
    entry_points,
)
from importlib.util import find_spec
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..engine._protocol import ENTRY_POINTS


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")


class _Status(NamedTuple):
    """The status of a backend; the fields are those of the JSON output."""

    name: str
    package: str
    installed: bool
    reason: str | None  # why it is not available
    install: str | None  # the command that installs what is missing


def main(options: Namespace) -> int:
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    statuses = [_status(point) for point in points]
    if options.json:
        print(json.dumps([status._asdict() for status in statuses], indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    table.add_column("backend", style="bold", no_wrap=True)
    table.add_column("package", no_wrap=True)
    table.add_column("installed", no_wrap=True)
    table.add_column("what is missing", overflow="fold")
    for status in statuses:
        mark = Text("yes", "green") if status.installed else Text("no", "yellow")
        missing = Text(status.reason or "")
        if status.install is not None:
            missing.append(f": {status.install}", "bright_black")
        table.add_row(Text(status.name), Text(status.package), mark, missing)
    Console(highlight=False).print(table)
    return 0


def _status(point: EntryPoint) -> _Status:
    """The status of a backend, without importing its engine, which can take many seconds."""
    package = "?" if point.dist is None else point.dist.name
    install: str | None = None
    missing: list[str] = []
    if point.dist is not None:
        missing = [name for name in _requirements(point.dist, point.name) if not _is_there(name)]
        if _normal(point.name) in _extras(point.dist):
            install = f"pip install '{package}[{point.name}]'"
    if missing:
        return _Status(point.name, package, False, f"needs {', '.join(missing)}", install)
    try:
        point.load()
    except ImportError as error:
        reason = f"needs {error.name}" if isinstance(error, ModuleNotFoundError) else str(error)
        return _Status(point.name, package, False, reason, install)
    except Exception as error:
        reason = f"cannot be loaded: {type(error).__name__}: {error}"
        return _Status(point.name, package, False, reason, None)
    return _Status(point.name, package, True, None, None)


_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^]]*)\])?")
_EXTRA: Final = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


def _requirements(package: Distribution, extra: str) -> Iterator[str]:
    """The packages of a package's extra; empty if it does not exist."""
    for requirement in package.requires or ():
        read = _REQUIREMENT.match(requirement)
        wanted = _EXTRA.search(requirement)
        if read is None or wanted is None or _normal(wanted[1]) != _normal(extra):
            continue
        if _normal(read[1]) != _normal(package.name):
            yield read[1]
            continue
        for further in (read[2] or "").split(","):
            if _normal(further) != _normal(extra):
                yield from _requirements(package, further.strip())


def _is_there(name: str) -> bool:
    """Whether a package, or a module of its name, is installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        try:
            return find_spec(_normal(name).replace("-", "_")) is not None
        except (ImportError, ValueError):
            return False
    return True


def _extras(package: Distribution) -> set[str]:
    return {_normal(extra) for extra in package.metadata.get_all("Provides-Extra") or ()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
