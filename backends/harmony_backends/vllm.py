"""The vLLM backend: vLLM's asynchronous engine in this process.

vLLM starts processes of its own, some of which run the program's main module again: a script that
creates this backend needs the `if __name__ == "__main__":` guard.
"""

from __future__ import annotations

import atexit
import os
import uuid
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, get_args

from harmony_kit.engine._protocol import Feature, FinishReason, TokenChunk
from harmony_kit.errors import BackendError, HarmonyError
from harmony_kit.grammar import Constraint
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import END_OF_TEXT

from ._event_loops import EngineLoop
from ._limits import EngineBackend, closed_error
from ._stop_texts import StopTexts
from .errors import DeadEngineError as DeadEngineError  # noqa: PLC0414 -- found here, too

Script = Callable[[Sequence[int]], Sequence[int]]
"""A function from a prompt to the completion that the model must generate, both as token ids."""

_FINISH_REASONS: Final = frozenset(get_args(FinishReason))
_SCRIPTED: Final = "harmony_backends.scripted:Scripted"
_CONSTRAINED: Final = "harmony_backends.constrained:Constrained"


class VLLMBackend(EngineBackend):
    """Generates with vLLM, many requests at once.

    The engine is bound to one event loop: the running one where the backend is created, as in a
    server, which is fastest; if none is running, a new one in a thread. Requests may come from any
    event loop, as long as the engine's is running, so that `harmony_kit.run` works repeatedly.

    No tokenizer is loaded unless `skip_tokenizer_init=False` is passed; this backend needs none.

    Args:
        model: A folder or a name, as for vLLM.
        constraints: Whether requests may have constraints. Loads a logits processor, which needs
            llguidance.
        script: For tests: the completions that the model must generate, whatever its weights.
        **engine_arguments: Further arguments of vLLM's `AsyncEngineArgs`, such as
            `tensor_parallel_size`, `data_parallel_size`, `quantization`, `max_model_len`.

    Raises:
        BackendError: vLLM is not installed, or does not start.
    """

    name = "vllm"

    def __init__(
        self,
        model: str,
        *,
        constraints: bool = False,
        script: Script | None = None,
        **engine_arguments: Any,
    ) -> None:
        arguments = {"skip_tokenizer_init": True, **engine_arguments, "model": str(model)}
        processors = [*(arguments.get("logits_processors") or ())]
        if constraints:
            processors.append(_CONSTRAINED)
        if script is not None:
            processors.append(_SCRIPTED)
        if processors:
            arguments["logits_processors"] = processors
            # vLLM's second model runner, the default of 0.32 on GPUs, refuses such processors.
            os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
        features: tuple[Feature, ...] = ("logprobs", "constraint")
        self.supports = frozenset(features if constraints else features[:1])
        self._script = script
        self._active: set[str] = set()
        self._loop = EngineLoop()
        try:
            self._engine = self._loop.call(lambda: _start(arguments))
        except BaseException:
            self._loop.end()
            raise
        self._vocabulary_size = self._engine.model_config.get_vocab_size()
        self._context = self._engine.model_config.max_model_len
        self._defaults: dict[str, Any] = self._engine.model_config.get_diff_sampling_param()
        atexit.register(_shut_down_at_exit, weakref.ref(self))

    @property
    def unfinished_requests(self) -> int:
        """The number of requests that are running or waiting."""
        if self._engine is None:
            return 0
        return int(self._engine.output_processor.get_num_unfinished_requests())

    def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """Generate a completion; see `harmony_kit.engine.Backend`.

        A completion also ends with the token that completes a stop text, and at `<|endoftext|>`.

        Returns:
            The tokens, one or several at a time. Iterating raises the errors below.

        Raises:
            GrammarError: No completion under the constraint fits the token limit.
            DeadEngineError: The engine has died.
            BackendError: The backend or the engine refuses the request, or the generation failed.
        """
        outputs = self._outputs(prompt, sampling)
        # A closed backend has no loop; its error needs none.
        is_here = self._closed or self._loop.is_here
        return outputs if is_here else self._loop.bring(outputs)

    async def aclose(self) -> None:
        """Abort all requests and shut the engine down."""
        if self._closed:
            return
        self._closed = True
        if self._loop.is_running:
            await self._loop.run(self._shut_down())
        else:  # the event loop has ended, and with it all requests
            self._engine.shutdown()
        self._engine = None
        self._loop.end()

    # --- In the engine's event loop ---------------------------------------------------------

    async def _outputs(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """The engine's output; iterated in its event loop.

        Every token of every request passes here, which is why this is a single generator.
        """
        limit = self._room_for(prompt, sampling)
        stop_texts = StopTexts(sampling.stop) if sampling.stop else None
        request = str(uuid.uuid4())  # vLLM does not check that ids are unique
        self._active.add(request)
        is_finished = False
        try:
            given = {"prompt_token_ids": list(prompt)}
            parameters = self._parameters(prompt, sampling, limit)
            outputs = self._engine.generate(given, parameters, request)
            async with aclosing(outputs):
                async for output in outputs:
                    is_finished = output.finished
                    chunk = _chunk(output.outputs[0])
                    end = stop_texts.find(chunk.tokens) if stop_texts else None
                    if end is not None:
                        yield _cut(chunk, end)
                        return
                    yield chunk
        except Exception as error:
            raise self._translated(error) from error
        finally:
            self._active.discard(request)
            if not is_finished:
                # vLLM does not abort a request if it is cancelled while submitting it.
                await self._abort([request])

    async def _shut_down(self) -> None:
        await self._abort(list(self._active))
        self._engine.shutdown()

    def _shut_down_at_once(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.call(self._engine.shutdown)

    async def _abort(self, requests: list[str]) -> None:
        if self._engine is not None and not self._engine.errored:
            await self._engine.abort(requests)

    # --- Requests and errors ----------------------------------------------------------------

    def _parameters(self, prompt: Sequence[int], sampling: SamplingParams, limit: int) -> Any:
        from vllm import SamplingParams as EngineParams
        from vllm.sampling_params import RequestOutputKind

        requested: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "frequency_penalty": sampling.frequency_penalty,
            "presence_penalty": sampling.presence_penalty,
            "logprobs": sampling.logprobs,
        }
        extra: dict[str, Any] = {}
        if self._script is not None:
            extra["script"] = list(self._script(prompt))
        if sampling.constraint is not None:
            # The processor must know the limit, including that of the context.
            requested["max_tokens"] = limit
            extra["constraint"] = self._checked(sampling.constraint, limit)
        if extra:
            requested["extra_args"] = extra
        given = {name: value for name, value in requested.items() if value is not None}
        return EngineParams(
            **{"max_tokens": None, **self._defaults, **given},
            # Only the requested stop tokens, not those of the model's files.
            ignore_eos=True,
            stop_token_ids=[*sampling.stop_tokens, END_OF_TEXT],
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _checked(self, constraint: Constraint, max_tokens: int) -> str:
        """The grammar, checked here because an error in the engine would end the engine."""
        constraint.matcher(max_tokens, vocabulary_size=self._vocabulary_size)
        return constraint.lark

    def _translated(self, error: Exception) -> HarmonyError:
        if isinstance(error, HarmonyError):
            return error
        if self._closed:
            return closed_error(self.name)
        if self._engine.errored:
            return DeadEngineError("the vLLM engine is dead; see its log, and make a new backend")
        reason = error.__cause__ or error
        return BackendError(f"vllm: {type(reason).__name__}: {reason}")


def _start(arguments: dict[str, Any]) -> Any:
    # By default vLLM logs to the standard output, where programs write their results. It reads
    # this variable when it is imported, and its processes inherit it.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise BackendError(
            f"backend 'vllm' needs the package {error.name!r}: pip install 'harmony-kit[vllm]'"
        ) from error
    try:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    except Exception as error:
        raise BackendError(f"vllm does not start: {error}") from error


def _shut_down_at_exit(backend: weakref.ref[VLLMBackend]) -> None:
    """Shut down the engine of a program that does not close its backend.

    Otherwise multiprocessing ends it, and vLLM logs a failure.
    """
    alive = backend()
    if alive is not None:
        alive._shut_down_at_once()


def _chunk(completion: Any) -> TokenChunk:
    # Without stop_reason, which is not always the stop token; that is the last of the tokens.
    reason = completion.finish_reason
    if reason is not None and reason not in _FINISH_REASONS:
        raise BackendError(f"vllm ended the completion with {reason!r}")
    logprobs = completion.logprobs
    return TokenChunk(completion.token_ids, reason, logprobs and [*map(_logprobs, logprobs)])


def _logprobs(tokens: Mapping[int, Any]) -> dict[int, float]:
    return {token: found.logprob for token, found in tokens.items()}


def _cut(chunk: TokenChunk, end: int) -> TokenChunk:
    """The start of a chunk, as the end of a completion."""
    return TokenChunk(chunk.tokens[:end], "stop", chunk.logprobs and chunk.logprobs[:end])
