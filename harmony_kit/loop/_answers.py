"""Running the calls of a turn concurrently."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import TYPE_CHECKING

from ..calls import ToolCall
from ..tools import ToolAnswer, Toolbox, tool_result

if TYPE_CHECKING:
    import asyncio


async def answers_of(
    toolbox: Toolbox, calls: Sequence[ToolCall], deadline: float | None
) -> AsyncGenerator[tuple[int, ToolAnswer], None]:
    """The answers to concurrent calls, each with the call's index, as they become available.

    Closing the generator stops the calls that are still running.

    Raises:
        Exception: A tool raised it and its policy is to raise; the other calls are stopped.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    tasks = {loop.create_task(toolbox.run(call)): index for index, call in enumerate(calls)}
    running = set(tasks)
    try:
        while running:
            left = None if deadline is None else max(deadline - loop.time(), 0)
            ended, running = await asyncio.wait(
                running, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if not ended:
                break
            for task in sorted(ended, key=tasks.__getitem__):
                yield tasks[task], task.result()
    finally:
        await _stop(tasks)
    for task in sorted(running, key=tasks.__getitem__):
        yield tasks[task], _stopped(calls[tasks[task]])


async def _stop(tasks: Iterable[asyncio.Task[ToolAnswer]]) -> None:
    import asyncio

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stopped(call: ToolCall) -> ToolAnswer:
    text = f"Error: {call.full_name} was stopped: the time limit of this run is reached."
    return ToolAnswer(tool_result(call, text), "timed_out")


def not_run(call: ToolCall) -> ToolAnswer:
    """The answer to a call that exceeds the limit of calls."""
    text = "Error: no more tools can be called now; answer with what is known."
    return ToolAnswer(tool_result(call, text), "refused")
