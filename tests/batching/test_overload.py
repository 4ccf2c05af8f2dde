"""More than can be done, in virtual time: what is answered in time stays near to what can be done at all."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest

from pyserving.batching.parameters import QueueOptions
from pyserving.batching.queue import Batch, BatchQueue, BatchTask
from pyserving.errors import Unavailable

THREADS = 2
SECONDS = 12.0


class Device:
    """Two threads that take batches from a queue; `cost(rows)` is what a run takes at least."""

    def __init__(self, cost: Callable[[int], float], noise: float) -> None:
        self._random = random.Random(1)
        self._cost = cost
        self._noise = noise
        self._queue: BatchQueue[BatchTask] = BatchQueue(QueueOptions())
        self._events: list[tuple[float, int, str, Any]] = []
        self._order = count()
        self._free = THREADS
        self._running = 0
        """Rows."""
        self.in_time = 0

    def _at(self, when: float, what: str, whom: Any = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, whom))

    def run(self, arrivals: Iterable[float], patience: float | None, *, comes_again: bool = False) -> float:
        """Answers a second that came in time. Whoever is answered comes again at once, or not."""
        for when in arrivals:
            self._at(when, "arrive")
        while self._events and self._events[0][0] < SECONDS:
            now, _, what, whom = heapq.heappop(self._events)
            if what == "arrive":
                self._arrive(now, patience)
            elif what == "expire":
                self._queue.drop(whom, now)
            else:
                self._land(now, whom, comes_again)
            self._start(now)
        return self.in_time / SECONDS

    def _arrive(self, now: float, patience: float | None) -> None:
        task = BatchTask(1, "a", now, None if patience is None else now + patience)
        try:
            self._queue.schedule(task)
        except Unavailable:
            return
        if task.deadline is not None:
            self._at(task.deadline, "expire", task)

    def _start(self, now: float) -> None:
        while self._free and (batch := self._queue.take(now, THREADS, self._running)) is not None:
            self._free -= 1
            self._running += batch.size
            took = self._cost(batch.size) * (1 + self._noise * self._random.random())
            self._at(now + took, "land", (batch, took))

    def _land(self, now: float, landed: tuple[Batch[BatchTask], float], comes_again: bool) -> None:
        batch, took = landed
        self._free += 1
        self._running -= batch.size
        self._queue.record("a", batch.size, took)
        for piece in batch.pieces:
            self.in_time += piece.task.deadline is None or now <= piece.task.deadline
            if comes_again:
                self._at(now, "arrive")


@pytest.mark.parametrize(
    "cost",
    [
        pytest.param(lambda rows: 0.016 * rows, id="rows one after another"),
        pytest.param(lambda rows: 0.010 + 0.007 * rows, id="batches pay"),
        pytest.param(lambda rows: 0.010 + 0.0002 * rows, id="batches cost hardly more than rows"),
        pytest.param(lambda rows: 0.010 * rows**1.2, id="batches do harm"),
    ],
)
@pytest.mark.parametrize("noise", [0.1, 0.5])
@pytest.mark.parametrize("times", [2, 4])
def test_answers_in_time_stay_near_to_capacity(cost, noise, times):
    capacity = Device(cost, noise).run([0.0] * 16, None, comes_again=True)
    asked = random.Random(2)
    arrivals = sorted(asked.uniform(0, SECONDS) for _ in range(int(times * capacity * SECONDS)))
    in_time = Device(cost, noise).run(arrivals, 5 * cost(1))
    assert in_time >= 0.8 * capacity


def test_everybody_is_in_time_when_there_is_not_much_to_do():
    def cost(rows: int) -> float:
        return 0.010 + 0.007 * rows

    asked = random.Random(2)
    arrivals = sorted(asked.uniform(0, SECONDS) for _ in range(int(60 * SECONDS)))
    assert Device(cost, 0.1).run(arrivals, 5 * cost(1)) >= 0.99 * len(arrivals) / SECONDS
