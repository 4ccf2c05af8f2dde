"""One request in a batching queue: from its plan's order of tensors to the queue's, and its answer back."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from pyserving.batching.queue import BatchTask, Piece
from pyserving.batching.tensors import Unjoinable, Unsplittable, join, split
from pyserving.session import Handle, RunResult


@dataclass(frozen=True, slots=True)
class Order:
    """Between a plan and a queue that has the same tensors, in an order of its own."""

    feed_order: tuple[int, ...] | None
    """For each of the queue's feeds, where it is in the plan's."""
    fetch_order: tuple[int, ...] | None
    """For each of the plan's fetches, where it is in the queue's."""

    def feeds_of(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """The plan's feeds in the queue's order."""
        return arrays if self.feed_order is None else [arrays[index] for index in self.feed_order]

    def fetches_of(self, outputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """The queue's outputs in the plan's order."""
        return outputs if self.fetch_order is None else [outputs[index] for index in self.fetch_order]


class Request(BatchTask):
    """One caller who waits."""

    __slots__ = ("arrays", "began", "future", "handle", "order", "outputs", "rows_answered", "timer")

    def __init__(
        self,
        order: Order,
        arrays: Sequence[np.ndarray],
        rows: int,
        variety: Hashable,
        handle: Handle | None,
        deadline: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(rows, variety, loop.time(), deadline)
        self.order = order
        self.arrays = arrays
        self.handle = handle
        self.future: asyncio.Future[RunResult] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.began = perf_counter()
        self.outputs: dict[int, Sequence[np.ndarray]] | None = None
        """By first row, of a request that is cut in pieces."""
        self.rows_answered = 0

    def answer(self, outputs: Sequence[np.ndarray], piece: Piece[Request]) -> None:
        """The outputs of these rows.

        A request that is cut fails with Unsplittable where they have not as many, with Unjoinable where they have not
        the form of its other outputs.
        """
        if self.future.done():
            return
        if piece.size < self.size:
            try:
                split(outputs, [piece.size], piece.size)
                whole = self._gathered(outputs, piece)
            except (Unsplittable, Unjoinable, MemoryError) as error:
                self.fail(error)
                return
            if whole is None:
                return
            outputs = whole
        self.settle()
        self.future.set_result(RunResult(self.order.fetches_of(outputs), (perf_counter() - self.began) * 1e6))

    def fail(self, error: BaseException) -> None:
        """Unless it is settled already."""
        if not self.future.done():
            self.settle()
            self.future.set_exception(error)

    def _gathered(self, outputs: Sequence[np.ndarray], piece: Piece[Request]) -> list[np.ndarray] | None:
        """All rows, once every piece is there."""
        if self.outputs is None:
            self.outputs = {}
        self.outputs[piece.start] = outputs
        self.rows_answered += piece.size
        if self.rows_answered < self.size:
            return None
        return join([self.outputs[start] for start in sorted(self.outputs)])

    def settle(self) -> None:
        """Its deadline is no matter any more."""
        if self.timer is not None:
            self.timer.cancel()


def rows_of(piece: Piece[Request]) -> Sequence[np.ndarray]:
    """The arrays of a piece: views where it is not the whole request."""
    task = piece.task
    if piece.size == task.size:
        return task.arrays
    return [array[piece.start : piece.start + piece.size] for array in task.arrays]
