"""One completion, from its prompt to what it says."""

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
    """Reads one completion while it is generated.

    Args:
        prompt: Its tokens.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._prompt = prompt
        self._parser = Parser()
        self._finish_reason: FinishReason | None = None

    def feed(self, delta: TokenChunk) -> list[Event]:
        """What a delta says.

        Args:
            delta: The next of the backend.
        """
        self._finish_reason = delta.finish_reason or self._finish_reason
        return self._parser.feed(delta.tokens)

    def close(self, *, may_end_in_text: bool = False) -> list[Event]:
        """What the end of the completion says.

        Some engines keep the stop token to themselves: code at whose end the generation stopped is
        closed. Arguments in JSON show by themselves whether they are.

        Args:
            may_end_in_text: Whether a stop text can have ended the completion, too.
        """
        header = self._parser.header
        is_stopped = self._finish_reason == "stop" and not may_end_in_text
        if is_stopped and header is not None and header.is_call and header.recipient == PYTHON.name:
            return [*self._parser.feed(CALL), *self._parser.close()]
        return self._parser.close()

    def ended(self, tools: Iterable[ToolNamespace]) -> TurnFinished:
        """What came of it.

        Args:
            tools: The tools that the conversation declares.
        """
        result = self._parser.result()
        usage = Usage(len(self._prompt), self._parser.position)
        return TurnFinished(result, tool_calls(result, tools), usage, self._finish_reason)


def completion_by(
    backend: Backend, prompt: Sequence[int], sampling: SamplingParams, deadline: float | None
) -> AsyncGenerator[TokenChunk, None]:
    """What a backend generates until a deadline; closing this aborts the generation.

    Args:
        backend: What generates.
        prompt: Token ids.
        sampling: How tokens are chosen.
        deadline: When it is aborted, in seconds of the event loop's clock.

    Returns:
        The deltas; where the deadline cut them off, one with the finish reason `"abort"` is the
        last.
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
                if not time_limit.expired():  # it is the backend's own
                    raise
                yield TokenChunk((), "abort")
                return
            if delta is None:
                return
            yield delta
