"""The vLLM backend: vLLM's asynchronous engine in this process.

vLLM starts processes of its own, some by running the program's main module again: a script
that makes this backend needs the `if __name__ == "__main__":` guard.
"""

from __future__ import annotations

import atexit
import os
import uuid
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, get_args

from harmony_kit.engine._protocol import (
    Feature,
    FinishReason,
    TokenChunk,
    check_prompt,
    check_support,
)
from harmony_kit.errors import BackendError, HarmonyError
from harmony_kit.grammar import Constraint
from harmony_kit.sampling import SamplingParams
from harmony_kit.wire._vocabulary import END_OF_TEXT

from .closing import Closing
from .event_loops import EngineLoop
from .stop_texts import StopTexts

Script = Callable[[Sequence[int]], Sequence[int]]
"""What a model shall say to a prompt, in token ids."""

_FINISH_REASONS: Final = frozenset(get_args(FinishReason))
_SCRIPTED: Final = "harmony_backends.scripted:Scripted"
_CONSTRAINED: Final = "harmony_backends.constrained:Constrained"


class DeadEngineError(BackendError):
    """The engine has died, and every request with it; only a new backend helps."""


class VLLMBackend(Closing):
    """Generates with vLLM, many requests at once.

    The engine lives in one event loop: the one that is running where the backend is made, as
    in a server, which is the fastest; where none is, one of its own in a thread, so that
    `harmony_kit.run` can be called again and again. Requests may come from any event loop,
    as long as the engine's is running.

    No tokenizer is loaded unless `skip_tokenizer_init=False` is given; nothing here needs one.

    Args:
        model: A folder or a name, as vLLM takes it.
        constraints: Whether requests may have constraints, which needs llguidance. A processor
            of the logits is loaded for them.
        script: For tests: what the model is made to say to a prompt, whatever its weights.
        **engine_arguments: What vLLM's `AsyncEngineArgs` takes, such as
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
            # vLLM's second model runner, which 0.32 takes on GPUs, has an interface of its own.
            os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
        features: tuple[Feature, ...] = ("logprobs", "constraint")
        self.supports = frozenset(features if constraints else features[:1])
        self._script = script
        self._closed = False
        self._active: set[str] = set()
        self._loop = EngineLoop()
        try:
            self._engine = self._loop.call(lambda: _start(arguments))
        except BaseException:
            self._loop.end()
            raise
        self._vocabulary_size: int = self._engine.model_config.get_vocab_size()
        self._context: int = self._engine.model_config.max_model_len
        self._defaults: dict[str, Any] = self._engine.model_config.get_diff_sampling_param()
        atexit.register(_shut_down_at_exit, weakref.ref(self))

    @property
    def vocabulary_size(self) -> int:
        """The lowest id that the model does not know."""
        return self._vocabulary_size

    @property
    def context(self) -> int:
        """How many tokens a prompt and its completion may have together."""
        return self._context

    @property
    def unfinished_requests(self) -> int:
        """How many requests the engine is working on."""
        if self._engine is None:
            return 0
        return int(self._engine.output_processor.get_num_unfinished_requests())

    def generate(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """Generate a completion; see `harmony_kit.Backend`.

        Stop texts are looked for here, in the tokens' text; the token that completes one is
        the last of the completion.

        Args:
            prompt: Token ids.
            sampling: How to choose tokens, and when to stop. `<|endoftext|>` stops as well.

        Returns:
            The tokens as the engine gives them, one or several at once. Iterating raises what
            follows.

        Raises:
            GrammarError: No completion under the constraint fits.
            DeadEngineError: The engine has died.
            BackendError: The prompt is none for this model, the engine refuses the request,
                or failed.
        """
        outputs = self._outputs(prompt, sampling)
        is_here = self._closed or self._loop.is_here  # what is closed has no loop; it says so
        return outputs if is_here else self._loop.bring(outputs)

    async def aclose(self) -> None:
        """Abort what is being generated and shut the engine down."""
        if self._closed:
            return
        self._closed = True
        if self._loop.is_running:
            await self._loop.run(self._shut_down())
        else:  # the program's event loop, which has ended; nothing is being generated
            self._engine.shutdown()
        self._engine = None
        self._loop.end()

    # --- In the engine's event loop ---------------------------------------------------------

    async def _outputs(
        self, prompt: Sequence[int], sampling: SamplingParams
    ) -> AsyncGenerator[TokenChunk, None]:
        """What the engine generates; iterated in its event loop.

        Every token of every request comes through here: one loop, without another generator
        around it.
        """
        self._check(prompt, sampling)
        stop_texts = StopTexts(sampling.stop) if sampling.stop else None
        request = str(uuid.uuid4())  # vLLM does not see to it that they differ
        self._active.add(request)
        is_finished = False
        try:
            given = {"prompt_token_ids": list(prompt)}
            outputs = self._engine.generate(given, self._parameters(prompt, sampling), request)
            async with aclosing(outputs):
                async for output in outputs:
                    is_finished = output.finished
                    delta = _delta(output.outputs[0])
                    end = stop_texts.find(delta.tokens) if stop_texts else None
                    if end is not None:
                        yield _cut(delta, end)
                        return
                    yield delta
        except Exception as error:
            raise self._translated(error) from error
        finally:
            self._active.discard(request)
            if not is_finished:
                # Cancelled while it hands a request over, vLLM forgets to abort it.
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

    def _check(self, prompt: Sequence[int], sampling: SamplingParams) -> None:
        """Refuse what vLLM would refuse less clearly, or die of."""
        if self._closed:
            raise BackendError("the vllm backend is closed")
        check_support(self, sampling)
        check_prompt(prompt, vocabulary_size=self._vocabulary_size)
        if len(prompt) >= self._context:
            raise BackendError(
                f"the prompt has {len(prompt)} tokens; the context of {self._context} leaves "
                "no room for a completion"
            )

    def _parameters(self, prompt: Sequence[int], sampling: SamplingParams) -> Any:
        from vllm import SamplingParams as EngineParams
        from vllm.sampling_params import RequestOutputKind

        asked: dict[str, Any] = {
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
            # The engine has to know where the completion is cut, by the context too.
            asked["max_tokens"] = self._room(len(prompt), sampling.max_tokens)
            extra["constraint"] = self._checked(sampling.constraint, asked["max_tokens"])
        if extra:
            asked["extra_args"] = extra
        given = {name: value for name, value in asked.items() if value is not None}
        return EngineParams(
            **{"max_tokens": None, **self._defaults, **given},
            # The stop tokens are those that were asked for, whatever the model's files say.
            ignore_eos=True,
            stop_token_ids=[*sampling.stop_tokens, END_OF_TEXT],
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _room(self, prompt_length: int, max_tokens: int | None) -> int:
        room = self._context - prompt_length
        return room if max_tokens is None else min(room, max_tokens)

    def _checked(self, constraint: Constraint, max_tokens: int) -> str:
        """The grammar; an error in the engine would end it."""
        constraint.matcher(max_tokens, vocabulary_size=self._vocabulary_size)
        return constraint.lark

    def _translated(self, error: Exception) -> HarmonyError:
        if isinstance(error, HarmonyError):
            return error
        if self._closed:
            return BackendError("the vllm backend is closed")
        if self._engine.errored:
            return DeadEngineError("the vLLM engine is dead; its log says why; make a new backend")
        reason = error.__cause__ or error
        return BackendError(f"vllm: {type(reason).__name__}: {reason}")


def _start(arguments: dict[str, Any]) -> Any:
    # vLLM would log to the standard output, where programs write their results. It reads this
    # when it is imported, and its processes inherit it.
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
    """End the engine of a program that does not close its backend.

    Otherwise multiprocessing ends it, and vLLM logs that as a failure.
    """
    alive = backend()
    if alive is not None:
        alive._shut_down_at_once()


def _delta(completion: Any) -> TokenChunk:
    # Not stop_reason: it does not always say which token stopped. The token is the last.
    reason = completion.finish_reason
    if reason is not None and reason not in _FINISH_REASONS:
        raise BackendError(f"vllm ended the completion with {reason!r}")
    logprobs = completion.logprobs
    return TokenChunk(completion.token_ids, reason, logprobs and [*map(_logprobs, logprobs)])


def _logprobs(tokens: Mapping[int, Any]) -> dict[int, float]:
    return {token: found.logprob for token, found in tokens.items()}


def _cut(delta: TokenChunk, end: int) -> TokenChunk:
    """The first tokens of a delta, as the last of a completion."""
    return TokenChunk(delta.tokens[:end], "stop", delta.logprobs and delta.logprobs[:end])
