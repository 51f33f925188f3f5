"""Runs files of requests through a backend, in the format of OpenAI's Batch API.

An input line is `{"custom_id": ..., "url": ..., "body": ...}`; the URL is `/v1/chat/completions`,
`/v1/responses` or, with bodies of Anthropic's API, `/v1/messages`. Its result is a line of the
output file or, if it failed, of the error file. `notes` of a line has what was not carried over,
and what is not enforced because the backend does not support constraints. Each line is written
whole and flushed, so that a killed run can resume.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple

from .._checks import checked_integer
from .._options import checked_options
from ..convert import anthropic, chat_completions, responses
from ..convert._api import Api
from ..convert._notes import Note, Unsupported
from ..errors import BackendError, GrammarError, HarmonyError
from ..sampling import SamplingParams
from ..wire._events import Completion
from ..wire._parser import Parser
from ..wire._render_options import RenderOptions
from ._protocol import Backend, FinishReason, completion_of, supported_by

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"

# The packages and the prefixes of response ids.
_APIS: Final[Mapping[str, tuple[Api, str]]] = {
    CHAT_COMPLETIONS: (chat_completions, "chatcmpl-"),
    RESPONSES: (responses, "resp_"),
    MESSAGES: (anthropic, "msg_"),
}


class BatchLine(NamedTuple):
    """A request of a batch.

    Attributes:
        custom_id: The id by which its result is found.
        url: The endpoint.
        body: The request.
    """

    custom_id: str
    url: str
    body: Any


class BatchResult(NamedTuple):
    """The result of a request.

    Attributes:
        custom_id: That of the request.
        fields: The line of the output or the error file.
        failed: Whether it belongs in the error file.
        tokens: The number of generated tokens.
    """

    custom_id: str
    fields: dict[str, Any]
    failed: bool
    tokens: int = 0


@checked_options
def read_batch(lines: Iterable[str]) -> list[BatchLine]:
    """Read the requests of a batch.

    Args:
        lines: The lines of the file.

    Raises:
        HarmonyError: A line is invalid, or repeats an id; the error names the line.

    Example:
        >>> body = '{"messages": [{"role": "user", "content": "Hi"}]}'
        >>> line = f'{{"custom_id": "r1", "url": "/v1/chat/completions", "body": {body}}}'
        >>> read_batch([line])[0].url
        '/v1/chat/completions'
    """
    found: dict[str, BatchLine] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            request = BatchLine(fields["custom_id"], fields["url"], fields["body"])
        except (ValueError, TypeError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise HarmonyError(f"line {number}: {reason}") from None
        if not isinstance(request.custom_id, str):
            raise HarmonyError(f"line {number}: custom_id is not a string")
        if request.custom_id in found:
            raise HarmonyError(f"line {number}: a second {request.custom_id!r}")
        found[request.custom_id] = request
    return list(found.values())


class BatchFile:
    """A file of results to which whole lines are appended; an incomplete last line is removed.

    Args:
        path: The file, created if it does not exist.

    Raises:
        OSError: The file cannot be read or written.
        HarmonyError: A line of it is not a result.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with BatchFile(Path(folder) / "out.jsonl") as results:
        ...         results.write(BatchResult("r1", {"custom_id": "r1"}, failed=False))
        ...         print(results.done)
        {'r1'}
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
                raise HarmonyError(f"{self.path}: line {number} is not a result") from None

    def write(self, result: BatchResult) -> None:
        """Append a result.

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
    """Run the requests of a batch.

    Args:
        lines: The requests.
        backend: The backend that generates.
        finish: Called with each result as it completes.
        concurrency: The maximum number of requests in flight.
        now: Returns the time, in seconds since 1970.
        model: The model's name in responses to requests without one.
        current_date: Today's date for the system message, such as `"2025-06-28"`.
        unsupported: How to treat fields that Harmony cannot express: `"error"` fails the request,
            `"note"` leaves it out and adds a note to the line of the result.
        rendering: How to render the prompts.

    Example:
        >>> from collections.abc import AsyncIterator
        >>> from harmony_kit import encode_with_special
        >>> from harmony_kit.engine import TokenChunk
        >>> class Greeting:
        ...     name, supports = "greeting", frozenset()
        ...     async def generate(self, prompt, sampling) -> AsyncIterator[TokenChunk]:
        ...         yield TokenChunk(
        ...             encode_with_special("<|channel|>final<|message|>Hi!<|return|>"), "stop"
        ...         )
        ...     async def aclose(self) -> None: ...
        >>> body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
        >>> results = []
        >>> lines = [BatchLine("r1", "/v1/messages", body)]
        >>> asyncio.run(run_batch(lines, Greeting(), results.append, now=lambda: 0))
        >>> results[0].fields["response"]["body"]["content"]
        [{'type': 'text', 'text': 'Hi!'}]
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
        raise group.exceptions[0] from None  # such as a full disk: the others were only cancelled


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
        api, prefix = _APIS[line.url]
    except (KeyError, TypeError):
        known = ", ".join(_APIS)
        return _failure(line, "invalid_url", f"url: expected one of {known}", 404)
    try:
        request = api.read_request(line.body, current_date=current_date, unsupported=unsupported)
        prompt = request.prompt(options=rendering)
        sampling, notes = request.for_backend(await supported_by(backend))
    except BackendError as error:
        return _failure(line, "server_error", str(error), 500)
    except HarmonyError as error:
        return _failure(line, "invalid_request_error", str(error), 400)
    try:
        result, finish_reason, tokens = await _generate(prompt, sampling, backend)
    except GrammarError as error:  # such as a token limit that no completion fits
        return _failure(line, "invalid_request_error", str(error), 400)
    except BackendError as error:
        return _failure(line, "server_error", str(error), 500)
    body = api.write_response(
        result,
        id=f"{prefix}{line.custom_id}",
        model=request.model or model,
        created=now(),
        request=request,
        prompt_tokens=len(prompt),
        completion_tokens=tokens,
        finish_reason=finish_reason,
    )
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
