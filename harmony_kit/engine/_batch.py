"""Many requests through one backend: the lines of OpenAI's Batch API, in and out.

A line in is `{"custom_id": ..., "url": "/v1/chat/completions" | "/v1/responses", "body": ...}`.
Its result is a line of the output file, or, if it failed, of the error file. What of a request was
not carried over, or is not enforced since the backend takes no constraints, stands in the line's
`notes`. Each line is written whole and flushed, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple

from .._checks import checked_integer
from .._options import checked_options
from ..convert import chat_completions, responses
from ..convert._notes import Note, Unsupported
from ..convert._request import HarmonyRequest
from ..errors import BackendError, GrammarError, HarmonyError
from ..sampling import SamplingParams
from ..wire._events import Completion
from ..wire._parser import Parser
from ..wire._render_options import RenderOptions
from ._protocol import Backend, FinishReason, completion_of, supported_by

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"


class BatchLine(NamedTuple):
    """A request of a batch.

    Attributes:
        custom_id: By which its result is known.
        url: The endpoint that it is for.
        body: The request.
    """

    custom_id: str
    url: str
    body: Any


class BatchResult(NamedTuple):
    """What came of a request.

    Attributes:
        custom_id: That of the request.
        fields: The line of the output or the error file.
        failed: Whether it belongs into the error file.
        tokens: How many tokens were generated.
    """

    custom_id: str
    fields: dict[str, Any]
    failed: bool
    tokens: int = 0


@checked_options
def read_batch(lines: Iterable[str]) -> list[BatchLine]:
    """The requests of a batch.

    Args:
        lines: The lines of the file.

    Raises:
        HarmonyError: A line is no request, or has the id of another; the error names the line.
    """
    found: dict[str, BatchLine] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            request = BatchLine(fields["custom_id"], fields["url"], fields["body"])
        except (ValueError, TypeError, KeyError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise HarmonyError(f"line {number}: {reason}") from None
        if not isinstance(request.custom_id, str):
            raise HarmonyError(f"line {number}: custom_id is no text")
        if request.custom_id in found:
            raise HarmonyError(f"line {number}: a second {request.custom_id!r}")
        found[request.custom_id] = request
    return list(found.values())


class BatchFile:
    """A file of results to which whole lines are added; what a kill left of one is cut off.

    Args:
        path: The file; it need not exist.

    Raises:
        OSError: The file cannot be read or written.
        HarmonyError: A line of it is no result.
    """

    @checked_options
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.done = set(self._keep_whole_lines())
        self._file: BinaryIO = self.path.open("ab")

    def _keep_whole_lines(self) -> Iterator[str]:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                yield json.loads(line)["custom_id"]
            except (ValueError, TypeError, KeyError):
                raise HarmonyError(f"{self.path}: line {number} is no result") from None

    def write(self, result: BatchResult) -> None:
        """Add a result.

        Args:
            result: The result.

        Raises:
            OSError: The file cannot be written.
        """
        line = json.dumps(result.fields, ensure_ascii=False, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self.done.add(result.custom_id)

    def __enter__(self) -> BatchFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


@checked_options
async def run_batch(
    lines: Iterable[BatchLine],
    backend: Backend,
    finish: Callable[[BatchResult], None],
    *,
    concurrency: int = 64,
    now: Callable[[], int],
    model: str = "gpt-oss",
    current_date: str | None = None,
    unsupported: Unsupported = "error",
    rendering: RenderOptions | None = None,
) -> None:
    """Run the requests of a batch, as many at once as is allowed.

    Args:
        lines: The requests.
        backend: What generates.
        finish: Called with every result, as it comes.
        concurrency: How many requests are in the engine at once.
        now: Says the time, in seconds since 1970.
        model: The model's name in responses to requests that name none.
        current_date: Today, as the model shall see it.
        unsupported: What becomes of what Harmony cannot carry: `"error"` fails the request.
        rendering: How the prompts are rendered.
    """
    checked_integer("concurrency", concurrency, least=1, optional=False)
    waiting = iter(lines)

    async def work() -> None:
        for line in waiting:  # shared: each worker takes the next
            finish(await _result(line, backend, now, model, current_date, unsupported, rendering))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(work())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # such as a full disk: the others only stopped


async def _result(
    line: BatchLine,
    backend: Backend,
    now: Callable[[], int],
    model: str,
    current_date: str | None,
    unsupported: Unsupported,
    rendering: RenderOptions | None,
) -> BatchResult:
    try:
        module = {CHAT_COMPLETIONS: chat_completions, RESPONSES: responses}[line.url]
    except (KeyError, TypeError):
        known = f"{CHAT_COMPLETIONS} and {RESPONSES}"
        return _failure(line, "invalid_url", f"url: there are {known}", 404)
    try:
        request = module.read_request(line.body, current_date=current_date, unsupported=unsupported)
        prompt = request.prompt(options=rendering)
        sampling, notes = request.for_backend(await supported_by(backend))
    except BackendError as error:
        return _failure(line, "server_error", str(error), 500)
    except HarmonyError as error:
        return _failure(line, "invalid_request_error", str(error), 400)
    try:
        result, finish_reason, tokens = await _generate(prompt, sampling, backend)
    except GrammarError as error:  # such as a limit of tokens that no completion fits
        return _failure(line, "invalid_request_error", str(error), 400)
    except BackendError as error:
        return _failure(line, "server_error", str(error), 500)
    body = _response(line, request, result, finish_reason, len(prompt), tokens, now(), model)
    return BatchResult(line.custom_id, _success(line, body, notes), False, tokens)


async def _generate(
    prompt: list[int], sampling: SamplingParams, backend: Backend
) -> tuple[Completion, FinishReason | None, int]:
    parser = Parser()
    finish_reason: FinishReason | None = None
    async with aclosing(completion_of(backend, prompt, sampling)) as deltas:
        async for delta in deltas:
            parser.feed(delta.tokens)
            finish_reason = delta.finish_reason or finish_reason
    parser.close()
    return parser.result(), finish_reason, parser.position


def _response(
    line: BatchLine,
    request: HarmonyRequest,
    result: Completion,
    finish_reason: FinishReason | None,
    prompt_tokens: int,
    completion_tokens: int,
    time: int,
    model: str,
) -> dict[str, Any]:
    common: dict[str, Any] = {
        "model": request.model or model,
        "request": request,
        "finish_reason": finish_reason,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
    }
    if line.url == CHAT_COMPLETIONS:
        name = f"chatcmpl-{line.custom_id}"
        return chat_completions.write_response(result, id=name, created=time, **common)
    name = f"resp_{line.custom_id}"
    return responses.write_response(result, id=name, created_at=time, **common)


def _success(line: BatchLine, body: dict[str, Any], notes: Sequence[Note]) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": line.custom_id, "body": body}
    fields = {
        "id": f"batch_req_{line.custom_id}",
        "custom_id": line.custom_id,
        "response": response,
        "error": None,
    }
    return fields | ({"notes": [note._asdict() for note in notes]} if notes else {})


def _failure(line: BatchLine, code: str, reason: str, status: int) -> BatchResult:
    error = {"message": reason, "type": code, "param": None, "code": code}
    response = {"status_code": status, "request_id": line.custom_id, "body": {"error": error}}
    fields = {
        "id": f"batch_req_{line.custom_id}",
        "custom_id": line.custom_id,
        "response": response,
        "error": {"code": code, "message": reason},
    }
    return BatchResult(line.custom_id, fields, True)
