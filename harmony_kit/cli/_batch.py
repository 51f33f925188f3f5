"""Run a file of requests (OpenAI's Batch API) through a backend."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..engine._protocol import Backend
from ._backend_options import add_backend, backend_of
from ._files import read_input

if TYPE_CHECKING:  # slow to import, and every command imports this module
    from ..engine._batch import BatchFile, BatchLine, BatchResult


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "input", help="the requests, one JSON object per line; - for standard input"
    )
    parser.add_argument("output", help="the file for results; an existing one is resumed")
    parser.add_argument(
        "--errors",
        help="the file for failed requests; by default OUTPUT with .errors before its suffix",
    )
    add_backend(parser)
    parser.add_argument(
        "--concurrency", type=int, default=64, help="the number of concurrent requests"
    )
    parser.add_argument(
        "--current-date", metavar="YYYY-MM-DD", help="the date in the system message"
    )
    parser.add_argument(
        "--note",
        action="store_true",
        help="leave out what Harmony cannot represent, instead of failing the request",
    )


def main(options: Namespace) -> int:
    """Run the command; the exit code is 1 if requests failed."""
    import asyncio

    from ..engine._batch import BatchFile, read_batch

    lines = read_batch(read_input(options.input).splitlines())
    output = Path(options.output)
    errors = Path(options.errors or output.with_suffix(f".errors{output.suffix}"))
    console = Console(stderr=True, highlight=False)
    with BatchFile(output) as results, BatchFile(errors) as failures:
        done = results.done | failures.done
        left = [line for line in lines if line.custom_id not in done]
        if len(left) < len(lines):
            console.print(f"{len(lines) - len(left)} of {len(lines)} requests were already done")
        if left:
            backend = backend_of(options)
            asyncio.run(_run(left, backend, results, failures, options, console))
        console.print(f"{len(results.done)} done, {len(failures.done)} failed")
        return 1 if failures.done else 0


async def _run(
    lines: list[BatchLine],
    backend: Backend,
    results: BatchFile,
    failures: BatchFile,
    options: Namespace,
    console: Console,
) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from ..engine._batch import run_batch

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.0f} tokens/s"),
        TimeElapsedColumn(),
    )
    begun = time.monotonic()
    tokens = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("requests", total=len(lines), speed=0.0)

        def finish(result: BatchResult) -> None:
            nonlocal tokens
            (failures if result.failed else results).write(result)
            tokens += result.tokens
            progress.update(task, advance=1, speed=tokens / (time.monotonic() - begun))

        try:
            await run_batch(
                lines,
                backend,
                finish,
                concurrency=max(1, options.concurrency),
                now=lambda: int(time.time()),
                model=options.model or "gpt-oss",
                current_date=options.current_date,
                unsupported="note" if options.note else "error",
            )
        finally:
            await backend.aclose()
