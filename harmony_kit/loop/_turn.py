"""One completion, from its prompt to the parsed result."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from ..engine._protocol import Backend, FinishReason, TokenChunk, completion_of
from ..sampling import SamplingParams
from ..tools import tool_calls
from ..wire._builtin_tools import PYTHON
from ..wire._contents import ToolNamespace
from ..wire._events import Event
from ..wire._parser import Parser
from ..wire._vocabulary import CALL
from ._events import TurnFinished
from ._state import Usage


class Turn:
    """Parses one completion while it is generated."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._prompt = prompt
        self._parser = Parser()
        self._finish_reason: FinishReason | None = None

    def feed(self, delta: TokenChunk) -> list[Event]:
        """The events of a chunk."""
        self._finish_reason = delta.finish_reason or self._finish_reason
        return self._parser.feed(delta.tokens)

    def close(self, *, may_end_in_text: bool = False) -> list[Event]:
        """The events of the end of the completion.

        Some engines do not return the stop token: code at which the generation stopped counts as
        closed. JSON arguments show by themselves whether they are complete.
        """
        header = self._parser.header
        is_stopped = self._finish_reason == "stop" and not may_end_in_text
        if is_stopped and header is not None and header.is_call and header.recipient == PYTHON.name:
            return [*self._parser.feed(CALL), *self._parser.close()]
        return self._parser.close()

    def ended(self, tools: Iterable[ToolNamespace]) -> TurnFinished:
        """The final event of the turn."""
        result = self._parser.result()
        usage = Usage(len(self._prompt), self._parser.position)
        return TurnFinished(result, tool_calls(result, tools), usage, self._finish_reason)


def completion_by(
    backend: Backend, prompt: Sequence[int], sampling: SamplingParams, deadline: float | None
) -> AsyncGenerator[TokenChunk, None]:
    """The chunks that a backend generates until a deadline; closing this aborts the generation.

    If the deadline is reached, a chunk with the finish reason `"abort"` is the last.
    """
    deltas = completion_of(backend, prompt, sampling)
    return deltas if deadline is None else _until(deadline, deltas)


async def _until(
    deadline: float, deltas: AsyncGenerator[TokenChunk, None]
) -> AsyncGenerator[TokenChunk, None]:
    import asyncio

    async with aclosing(deltas):
        while True:
            time_limit = asyncio.timeout_at(deadline)
            try:
                async with time_limit:
                    delta = await anext(deltas, None)
            except TimeoutError:
                if not time_limit.expired():  # the backend raised it
                    raise
                yield TokenChunk((), "abort")
                return
            if delta is None:
                return
            yield delta
