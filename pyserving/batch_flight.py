"""A batch on its way through a thread, and what it keeps meanwhile: memory to merge in, and the version loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import prod
from time import perf_counter

import numpy as np

from pyserving.batch_request import Request, rows_of
from pyserving.batching import tensors
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.queue import Batch
from pyserving.batching.run import BatchRun
from pyserving.batching.tensors import Arenas
from pyserving.executors.execution_plan import Choice
from pyserving.session import Handle

_MOST_PADDED_BYTES = 256 << 20
"""Of a run's inputs, if most of them is padding."""


class Flight:
    """A batch on its way."""

    def __init__(
        self,
        batch: Batch[Request],
        options: QueueOptions,
        arenas: Arenas,
        choice: Choice,
        on_landed: Callable[[Flight, BaseException | None], None],
        *,
        may_rerun: bool,
    ) -> None:
        """`choice` is that for runs of the batch's size.

        `on_landed(flight, error)` is called on the loop once no thread is in it any more; `error` is what is no
        request's fault.
        """
        self.batch = batch
        self.choice = choice
        self.way = choice.next()
        self.is_warm = choice.is_warm(self.way)
        self.feeds = [rows_of(piece) for piece in batch.pieces]
        self.run_size = options.run_size(batch.size)
        self.merged = self._room(options, arenas)
        if self.merged is None:
            self.run_size = max(piece.size for piece in batch.pieces)
        self._on_landed = on_landed
        self.began = perf_counter()
        self.held: Handle | None = None
        """Keeps the version loaded for as long as a thread is in it."""
        self.given_up: asyncio.TimerHandle | None = None
        """Since nobody waits for it any more: for what is to be done if it is stuck."""
        self.batch_run = BatchRun(
            self.way.run,
            self.feeds,
            [piece.size for piece in batch.pieces],
            self.merged,
            may_rerun=may_rerun,
            is_wanted=lambda index: not batch.pieces[index].task.future.done(),
        )

    @property
    def is_awaited(self) -> bool:
        """By somebody in it."""
        return any(not piece.task.future.done() for piece in self.batch.pieces)

    def _room(self, options: QueueOptions, arenas: Arenas) -> list[np.ndarray] | None:
        """Where to merge the requests; None where they run as they are."""
        if len(self.feeds) == 1 and self.run_size == self.batch.size:
            return None
        forms = [
            (tensors.merged_shape(arrays, self.run_size), arrays[0].dtype) for arrays in zip(*self.feeds, strict=True)
        ]
        if options.pad_variable_length_inputs and self._is_bloated(forms):
            return None
        try:
            return arenas.arrays(forms)
        except MemoryError:  # for so much at once
            return None

    def _is_bloated(self, forms: Sequence[tuple[tuple[int, ...], np.dtype]]) -> bool:
        """Whether padding would make much of little: a request of one long row and one of many short ones."""
        padded = sum(prod(shape) * dtype.itemsize for shape, dtype in forms)
        sent = sum(array.nbytes for arrays in self.feeds for array in arrays)
        return padded > _MOST_PADDED_BYTES and padded > 2 * sent

    @property
    def padding_bytes(self) -> int:
        """Bytes of the run's inputs that no request has sent."""
        if self.merged is None:
            return 0
        return sum(map(tensors.padding_bytes, zip(*self.feeds, strict=True), self.merged))

    def run(self) -> None:
        """In the thread."""
        self.batch_run()

    def land(self, error: BaseException | None) -> None:
        """On the loop."""
        if self.given_up is not None:
            self.given_up.cancel()
        run = self.batch_run
        if run.has_succeeded:
            self.choice.record(self.way, run.micros, run.cpu_micros)
        try:
            self._on_landed(self, error)
        finally:
            if self.held is not None:
                self.held.close()
