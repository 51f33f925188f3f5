"""Batches of requests of the transformers backend."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from harmony_kit.errors import BackendError
from harmony_kit.wire._vocabulary import END_OF_TEXT

from ._rows import Row

_STEPS: Final = 16
_TOKENS_PER_STEP: Final = 16  # prompt tokens that are read in about the time of one step


class Batches:
    """Generates batch after batch, in a thread of its own.

    A batch is one call of `generate`, in which every row chooses its own tokens. The call is
    stopped early when rows have ended or requests are waiting; the unfinished rows and the waiting
    ones then form the next batch, for which the model reads all of their tokens again. This happens
    only after so many steps that reading does not take longer than generating.

    Args:
        model: A transformers model.
        size: The maximum number of rows in a batch.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._model = model
        self._size = size
        self._waiting: deque[Row] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="harmony-kit transformers")

    def add(self, row: Row) -> None:
        """Queue a row."""
        self._waiting.append(row)
        self._worker.submit(self._work)

    def abort(self, row: Row) -> None:
        """Abort a row: immediately if it is waiting, otherwise at its next token."""
        row.aborted.set()
        try:
            self._waiting.remove(row)
        except ValueError:
            return  # the worker has it
        row.abort()

    def close(self) -> None:
        """Wait until all rows have ended, and end the thread."""
        self._worker.shutdown()
        self._model = None

    # --- In the worker's thread -------------------------------------------------------------

    def _work(self) -> None:
        rows: list[Row] = []
        while rows := self._next(rows):
            try:
                self._generate(rows, self._waiting)
            except Exception as error:
                self._generate_alone(rows, error)

    def _next(self, rows: Sequence[Row]) -> list[Row]:
        """The unfinished rows, and as many waiting ones as there is room for."""
        unfinished = [row for row in rows if not row.is_finished]
        while self._waiting and len(unfinished) < self._size:
            try:
                row = self._waiting.popleft()
            except IndexError:  # it was aborted meanwhile
                break
            if row.aborted.is_set():
                row.abort()
            else:
                unfinished.append(row)
        return unfinished

    def _generate_alone(self, rows: Sequence[Row], error: Exception) -> None:
        """After an error, generate row by row, so that only the row that causes it fails."""
        if len(rows) == 1:
            rows[0].fail(BackendError(f"transformers: {type(error).__name__}: {error}"))
            return
        for row in rows:
            if not row.is_finished:
                try:
                    self._generate([row], ())
                except Exception as own:
                    self._generate_alone([row], own)

    def _generate(self, rows: Sequence[Row], waiting: Sequence[Row]) -> None:
        """Generate until all rows have ended, or a new batch is worthwhile."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        longest = max(len(row.tokens) for row in rows)
        padding = [longest - len(row.tokens) for row in rows]
        tokens = [
            [END_OF_TEXT] * left + row.tokens for left, row in zip(padding, rows, strict=True)
        ]
        mask = [[0] * left + [1] * (longest - left) for left in padding]
        batch = _Batch(rows, waiting, self._size, longest)
        device = self._model.device
        self._model.generate(
            input_ids=torch.tensor(tokens, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=self._config(max(row.room for row in rows)),
            logits_processor=LogitsProcessorList([batch.choose]),
            stopping_criteria=StoppingCriteriaList([batch.is_done]),
        )

    def _config(self, limit: int) -> Any:
        """The model's generation config, without what rows do themselves."""
        config = copy.deepcopy(self._model.generation_config)
        config.max_length = None
        config.max_new_tokens = limit
        config.do_sample = False
        config.temperature = config.top_p = config.top_k = config.min_p = None
        config.pad_token_id = END_OF_TEXT
        # Rows have their own stop tokens. `None` would mean the model's, so use an id it never has.
        config.eos_token_id = self._model.config.get_text_config().vocab_size
        return config


class _Batch:
    """The rows of one call of `generate`."""

    def __init__(
        self, rows: Sequence[Row], waiting: Sequence[Row], size: int, longest: int
    ) -> None:
        self._rows = rows
        self._waiting = waiting
        self._size = size
        self._patience = max(_STEPS, longest // _TOKENS_PER_STEP)
        self._steps = 0

    def choose(self, tokens: Any, scores: Any) -> Any:  # noqa: ARG002
        """A logits processor that gives each row's choice the highest score."""
        self._steps += 1
        for row, own in zip(self._rows, scores, strict=True):
            if row.aborted.is_set():
                row.abort()
            if not row.is_finished:
                token = row.choose(own)
                own.fill_(float("-inf"))
                own[token] = 0.0
        return scores

    def is_done(self, tokens: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002
        """A stopping criterion: the finished rows, or all rows if a new batch is worthwhile."""
        import torch

        finished = [row.is_finished for row in self._rows]
        if self._is_to_be_left(len(finished) - sum(finished)):
            finished = [True] * len(finished)
        return torch.tensor(finished, device=tokens.device)

    def _is_to_be_left(self, unfinished: int) -> bool:
        joining = min(len(self._waiting), self._size - unfinished)
        if not joining and unfinished * 2 > len(self._rows):
            return False
        # The more rows join, the sooner a new batch is worthwhile.
        return self._steps * max(unfinished, joining) >= self._patience * unfinished
