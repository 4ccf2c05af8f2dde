"""Requests of one turn of the event loop, run there as one where each of them would have been run there by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from time import perf_counter

import numpy as np

from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.run import BatchRun
from pyserving.executors.execution_plan import LOOP, Choice, ExecutionPlan
from pyserving.executors.loop_licence import LONG_MICROS, SHORT_MICROS
from pyserving.loop_time import TURN_MICROS, LoopTime
from pyserving.messages import Later
from pyserving.session import Handle


class Guest(Later):
    """One request of a turn."""

    __slots__ = ("arrays", "choice", "rows", "variety")

    def __init__(self, arrays: Sequence[np.ndarray], rows: int, variety: Hashable, choice: Choice) -> None:
        self.arrays = arrays
        self.rows = rows
        self.variety = variety
        """Only guests of equal variety share a run."""
        self.choice = choice
        """Of a run of this request alone."""


class LoopBatches:
    """Those of one queue. A run of many takes no longer than their runs one by one, which the loop would make."""

    PAUSE_SECONDS = 50e-6
    """A request that follows another sooner has come with it: there was no time to ask the network in between."""
    FIRST_COMPANY = 8
    """Requests that the first run of several may have; one that proves to be short lets the next have twice as many."""

    def __init__(
        self,
        plan: ExecutionPlan,
        options: QueueOptions,
        counts: BatchCounts,
        loop_time: LoopTime,
        observe: Callable[[float, str], None],
        judge: Callable[[BatchRun], None],
        *,
        may_rerun: bool,
    ) -> None:
        """`judge(run)` hears of each run; the others are as a BatchingSession's."""
        self._plan = plan
        self._options = options
        self._counts = counts
        self._loop_time = loop_time
        self._observe = observe
        self._judge = judge
        self._may_rerun = may_rerun
        self._guests: list[Guest] = []
        self._began = 0.0
        """When the first of them came."""
        self._held: Handle | None = None
        self._is_turn_ending = False
        self._in_last_turn = 0
        self._seen_at = 0.0
        """When the last lonely request came, by `perf_counter()`."""
        self._company = self.FIRST_COMPANY
        self._micros_each = SHORT_MICROS / self.FIRST_COMPANY
        """What a guest of late runs has taken."""

    def is_lonely(self) -> bool:
        """Whether to run the caller's request at once, since nobody else seems to come with it."""
        if self._guests or self._in_last_turn > 1:
            return False
        now = perf_counter()
        before, self._seen_at = self._seen_at, now
        return now - before > self.PAUSE_SECONDS

    def has_time(self) -> bool:
        """For one more guest in this turn."""
        return self._loop_time.is_left and len(self._guests) * self._micros_each < TURN_MICROS

    def turn(self) -> asyncio.Future[None]:
        """Done when a turn begins that has time."""
        return self._loop_time.turn(self._micros_each)

    def join(self, guest: Guest, acquire: Callable[[], Handle | None]) -> None:
        """For one that is not lonely while this has time, whose own runs are made on the loop.

        `acquire` gives a handle on the version, which stays loaded until the turn is over.
        """
        if not self._guests:
            self._began = perf_counter()
            self._held = acquire()
            self._end_turn_soon()
        self._guests.append(guest)

    def _end_turn_soon(self) -> None:
        if not self._is_turn_ending:
            self._is_turn_ending = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_turn_ending = False
        guests, self._guests = self._guests, []
        self._in_last_turn = len(guests)
        held, self._held = self._held, None
        try:
            for group in _by_variety(guests):
                self._run_all(group)
        finally:
            if held is not None:
                held.close()

    def _run_all(self, guests: Sequence[Guest]) -> None:
        start, most = 0, self._options.max_execution_batch_size
        while start < len(guests):
            end, rows = start, 0
            # They have to be answered in this turn. If their runs are long of a sudden, let them be few.
            company = len(guests) if guests[start].choice.on_loop is None else self._company
            while end < len(guests) and end - start < company and rows + guests[end].rows <= most:
                rows += guests[end].rows
                end += 1
            self._run(guests[start:end], rows)
            start = end

    def _run(self, guests: Sequence[Guest], rows: int) -> None:
        choice = guests[0].choice
        way = choice.on_loop or choice.next()
        run_size = self._options.run_size(rows)
        sizes = [guest.rows for guest in guests]
        feeds = [guest.arrays for guest in guests]
        merged = _room(feeds[0], run_size) if len(guests) > 1 else None
        run = BatchRun(way.run, feeds, sizes, merged, may_rerun=self._may_rerun, is_even=True)
        began = self._loop_time.begin()
        mistake: Exception | None = None
        try:
            run()
        except Exception as error:  # they hear of it who asked
            mistake = error
        micros = (perf_counter() - began) * 1e6
        self._loop_time.spend(micros)
        self._learn(choice, run, len(guests), micros)
        self._count(run, sizes, run_size, (began - self._began) * 1e6)
        self._judge(run)
        if mistake is not None:
            for guest in guests:
                guest.finish(guest, mistake, micros)
        else:
            for guest, outcome in zip(guests, run.outcomes, strict=True):
                guest.finish(guest, outcome, micros)

    def _learn(self, choice: Choice, run: BatchRun, guests: int, micros: float) -> None:
        """Whether more may run together, or fewer must; and what each of them would take alone, for the choice."""
        each = micros / guests
        self._micros_each += (each - self._micros_each) / 8
        if micros < SHORT_MICROS and guests == self._company:
            self._company *= 2
        elif run.cpu_micros >= LONG_MICROS / 2:
            self._company = max(1, guests // 2)
        choice.record_on_loop(each, run.cpu_micros / guests)

    def _count(self, run: BatchRun, sizes: Sequence[int], run_size: int, wait_micros: float) -> None:
        rows = sum(sizes)
        self._counts.taken(sizes, len(self._plan.plan.feeds), [wait_micros] * len(sizes))
        if run.micros:
            self._observe(run.micros, LOOP)
            padding = sum(merged.nbytes // run_size * (run_size - rows) for merged in run.merged or ())
            self._counts.ran(rows, run_size, self._options.max_execution_batch_size, padding)
        for _ in range(run.runs_alone):
            self._observe(run.micros_alone / run.runs_alone, LOOP)
        self._counts.reran(run.reruns)


def _room(arrays: Sequence[np.ndarray], run_size: int) -> list[np.ndarray] | None:
    """Where to merge requests with arrays like these; None where there is none."""
    try:
        return [np.empty((run_size, *array.shape[1:]), array.dtype) for array in arrays]
    except MemoryError:
        return None


def _by_variety(guests: list[Guest]) -> list[list[Guest]]:
    """In the order in which they came, within a variety."""
    if not guests:
        return []
    first = guests[0].variety
    if all(guest.variety == first for guest in guests):
        return [guests]
    guests.sort(key=lambda guest: hash(guest.variety))
    return [list(group) for _, group in groupby(guests, key=lambda guest: guest.variety)]
