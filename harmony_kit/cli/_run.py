"""Ask a model a question, with tools."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rich.console import Console

from ..convert.harmony import messages_to_json
from ..loop import RunEnded, RunOptions, astream
from ..tools._build import developer, system, user
from ..wire._messages import Message
from ._backend_options import add_backend, add_sampling, backend_of, sampling_of
from ._show import RunPrinter
from ._tool_options import add_tools, opened_tools


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prompt", help="the user message")
    add_backend(parser)
    add_tools(parser)
    parser.add_argument("--instructions", help="the instructions in the developer message")
    parser.add_argument("--reasoning-effort", default="medium", metavar="low|medium|high")
    parser.add_argument(
        "--current-date", metavar="YYYY-MM-DD", help="the date in the system message"
    )
    add_sampling(parser)
    parser.add_argument(
        "--max-turns",
        type=int,
        default=RunOptions().max_turns,
        help="the maximum number of completions",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the whole conversation as JSON at the end"
    )


def main(options: Namespace) -> int:
    import asyncio

    conversation = [
        system(reasoning_effort=options.reasoning_effort, current_date=options.current_date)
    ]
    if options.instructions:
        conversation.append(developer(options.instructions))
    conversation.append(user(options.prompt))
    asyncio.run(_run(conversation, options))
    return 0


async def _run(conversation: list[Message], options: Namespace) -> None:
    from contextlib import aclosing

    printer = RunPrinter(Console(highlight=False))
    async with opened_tools(options) as tools:
        backend = backend_of(options)
        how = RunOptions(
            tools=tools.toolbox, sampling=sampling_of(options), max_turns=options.max_turns
        )
        try:
            async with aclosing(astream(conversation, backend, options=how)) as events:
                async for event in events:
                    if not options.json:
                        printer.show(event)
                    elif isinstance(event, RunEnded):
                        print(messages_to_json(event.reply.conversation, indent=2))
        finally:
            await backend.aclose()
