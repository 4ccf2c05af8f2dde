"""The queue of one set of feeds and one of fetches, at work: the loop's side of it, between callers and batches."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from functools import partial
from time import perf_counter

import numpy as np

from pyserving.batch_flight import Flight
from pyserving.batch_request import Order, Request
from pyserving.batching import counts, tensors
from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.queue import Batch, BatchQueue
from pyserving.batching.run import BatchRun
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.errors import DeadlineExceeded, ServingError, Unavailable
from pyserving.executors.execution_plan import Choice, ExecutionPlan
from pyserving.executors.loop_licence import SHORT_MICROS_IN_THREAD
from pyserving.loop_batches import LoopBatches
from pyserving.loop_time import LoopTime
from pyserving.session import TIMED_OUT, Handle, Observe

MOST_REFUSALS = 3
"""Of batches in a row, by a model that takes their requests one by one; then it is asked for no more."""
STUCK_SECONDS = 2.0
"""After which a run that nobody waits for any more is taken to be stuck. Those that are merely late would be made later
still by other threads beside them."""
TIMED_OUT_IN_QUEUE = "Run() timeout exceeded while waiting in batching queue"
"""As batching_session.cc."""


class Verdict:
    """Whether a model takes batches, by what has become of those that were made."""

    __slots__ = ("_refusals", "is_batchable")

    def __init__(self) -> None:
        self._refusals = 0
        """Batches in a row that failed although none of their requests did by itself."""
        self.is_batchable = True
        """The model takes them, and its outputs have a row for each row of the inputs, as far as is known."""

    def judge(self, run: BatchRun) -> None:
        """Some models are made for one row, whatever they declare."""
        if run.has_succeeded and run.is_splittable:
            self._refusals = 0
        elif run.reruns > 1 and not any(isinstance(outcome, ServingError) for outcome in run.outcomes):
            self._refusals += 1
        if not run.is_splittable or self._refusals == MOST_REFUSALS:
            self.is_batchable = False


class Lane:
    """A queue, the plan that runs its batches, and what is counted of it."""

    def __init__(
        self,
        owner: Hashable,
        plan: ExecutionPlan,
        scheduler: SharedBatchScheduler,
        options: QueueOptions,
        counted: BatchCounts,
        observe: Observe,
        loop_time: LoopTime | None,
        *,
        may_rerun: bool,
    ) -> None:
        """`owner` is one for all queues of a version; the others are as a BatchingSession's.

        Nothing in here refers back to its lane, or to the session, that unloading need not wait for a collection.
        """
        self.plan = plan
        self.owner = owner
        self._options = options
        self._scheduler = scheduler
        self._observe = observe
        self._may_run_on_loop = loop_time is not None and not options.batch_timeout_micros
        self._may_rerun = may_rerun
        self._counts = counted
        self._queue: BatchQueue[Request] = BatchQueue(options, partial(_too_late, counted))
        self._arenas = tensors.Arenas(scheduler.threads + 1)
        self._variety = tensors.padded_shapes if options.pad_variable_length_inputs else tensors.shapes
        self._flights: dict[Request, set[Flight]] = {}
        """Batches in threads, by the requests in them."""
        self._untimed: list[Request] = []
        """Came in this turn of the loop, and have no timer for their deadline yet."""
        self._in_threads = self._rows_in_threads = 0
        """Batches of this queue, and their rows."""
        self._is_turn_ending = False
        self.verdict = Verdict()
        self.company = LoopBatches(
            plan,
            options,
            counted,
            loop_time or LoopTime(),
            observe,
            self.verdict.judge,
            may_rerun=may_rerun,
        )

    @property
    def is_busy(self) -> bool:
        """Somebody waits here, or in a batch."""
        return bool(self._queue.depth or self._flights or self._is_turn_ending)

    # On the way in.

    def runs_on_loop(self, choice: Choice, rows: int) -> bool:
        """Whether a request runs on the loop now, by itself or in company; `choice` is that of its run alone."""
        return (
            self._may_run_on_loop
            and choice.on_loop is not None
            and rows <= self._options.max_execution_batch_size
            and self._options.run_size(rows) == rows
        )

    def schedule(
        self, order: Order, arrays: Sequence[np.ndarray], rows: int, handle: Handle | None, deadline: float | None
    ) -> Request:
        """Raises Unavailable and InvalidArgument as the queue does, and DeadlineExceeded for one that is past."""
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline <= loop.time():
            raise DeadlineExceeded(TIMED_OUT_IN_QUEUE)
        arrays = order.feeds_of(arrays)
        request = Request(order, arrays, rows, self._variety(arrays), handle, deadline, loop)
        self._enqueue(request)
        if deadline is not None:
            self._untimed.append(request)
        self._end_turn_soon(loop)
        return request

    def _enqueue(self, request: Request) -> None:
        """What has come in this turn does not fill the queue as long as a thread is free to take it."""
        try:
            try:
                self._queue.schedule(request)
            except Unavailable:
                if not (self._is_turn_ending and self._scheduler.has_free_thread):
                    raise
                self._scheduler.add(self)
                self._queue.schedule(request)
        except Unavailable:
            self._counts.dropped(counts.FULL)
            raise

    def _end_turn_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_turn_ending:
            self._is_turn_ending = True
            loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """What came in this turn of the loop is all there."""
        self._is_turn_ending = False
        if self._queue.depth:
            self._scheduler.add(self)
        for request in self._untimed:
            self._keep_deadline(request)
        self._untimed.clear()
        self._counts.depth(self._queue.depth)

    def _choice(self, rows: int) -> Choice:
        """For runs of so many rows; an array of nothing else stands for those that are not merged yet."""
        return self.plan.choice((np.empty((rows, 0)),))

    # Deadlines, and callers who leave.

    def _keep_deadline(self, request: Request) -> None:
        if not request.future.done() and request.deadline is not None:
            loop = request.future.get_loop()
            request.timer = loop.call_at(request.deadline, self._expire, request)

    def _expire(self, request: Request) -> None:
        is_running = request.taken > 0
        request.fail(DeadlineExceeded(TIMED_OUT if is_running else TIMED_OUT_IN_QUEUE))
        self.give_up(request, counts.DEADLINE)

    def give_up(self, request: Request, reason: str) -> None:
        """Nobody waits for it any more: what has not begun of it never begins."""
        request.settle()
        late_at = request.deadline if reason == counts.DEADLINE else None
        if self._queue.drop(request, late_at):
            self._counts.dropped(reason)
            self._counts.depth(self._queue.depth)
        for flight in self._flights.get(request, ()):
            if not flight.is_awaited and flight.given_up is None:
                loop = request.future.get_loop()
                flight.given_up = loop.call_later(STUCK_SECONDS, self._scheduler.abandon, flight)

    # On the way out, as the scheduler's source.

    def due(self) -> float | None:
        """As Source."""
        return self._queue.due()

    def take(self, now: float, threads: int) -> Flight | None:
        """As Source."""
        batch = self._next_batch(now, threads)
        if batch is None:
            return None
        began = perf_counter()
        waits = [(began - piece.task.began) * 1e6 for piece in batch.pieces]
        sizes = [piece.task.size for piece in batch.pieces if not piece.start]
        self._counts.taken(sizes, len(self.plan.plan.feeds), waits)
        choice = self._choice(self._options.run_size(batch.size))
        flight = Flight(batch, self._options, self._arenas, choice, self._landed, may_rerun=self._may_rerun)
        for piece in batch.pieces:
            self._flights.setdefault(piece.task, set()).add(flight)
        handle = batch.pieces[0].task.handle
        flight.held = handle.copy() if handle is not None else None
        self._in_threads += 1
        self._rows_in_threads += batch.size
        self._counts.depth(self._queue.depth)
        return flight

    def _next_batch(self, now: float, threads: int) -> Batch[Request] | None:
        """Without those whose callers have left in this very turn of the loop, and could not say so yet."""
        while (batch := self._queue.take(now, threads + self._in_threads, self._rows_in_threads)) is not None:
            if not any(piece.task.future.done() for piece in batch.pieces):
                return batch
            awaited = []
            for piece in batch.pieces:
                if not piece.task.future.done():
                    awaited.append(piece)
                elif not piece.task.left:  # else it is counted when the rest of it is dropped
                    self._counts.dropped(counts.CANCELLED)
            if awaited:
                return Batch(tuple(awaited), sum(piece.size for piece in awaited))
        self._counts.depth(self._queue.depth)
        return None

    def _landed(self, flight: Flight, error: BaseException | None) -> None:
        """A thread's batch: everybody in it is answered in this one turn."""
        self._in_threads -= 1
        self._rows_in_threads -= flight.batch.size
        for piece in flight.batch.pieces:
            flights = self._flights[piece.task]
            flights.discard(flight)
            if not flights:
                del self._flights[piece.task]
        run = flight.batch_run
        if run.has_succeeded:
            # With its way to the thread and back: that is what counts for those who wait.
            seconds = perf_counter() - flight.began
            if flight.is_warm:
                self._queue.record(flight.batch.pieces[0].task.variety, flight.run_size, seconds)
            if run.cpu_micros < SHORT_MICROS_IN_THREAD:
                self._was_short(flight)
        self._count(flight)
        self.verdict.judge(run)
        self._answer(flight, error)

    def _answer(self, flight: Flight, error: BaseException | None) -> None:
        run = flight.batch_run
        for piece, outcome in zip(flight.batch.pieces, run.outcomes, strict=False):
            if isinstance(outcome, ServingError):
                piece.task.fail(outcome)
            else:
                piece.task.answer(outcome, piece)
        for piece in flight.batch.pieces:
            if error is not None:
                piece.task.fail(error)
            if piece.task.left and piece.task.future.done() and self._queue.drop(piece.task):
                self._counts.depth(self._queue.depth)

    def _was_short(self, flight: Flight) -> None:
        """A run of one of its requests alone would have been no longer, nor will the next one be, on the loop."""
        choice, run = self._choice(flight.batch.pieces[0].task.size), flight.batch_run
        if choice is not flight.choice:
            choice.record(flight.way, run.micros, run.cpu_micros)

    def _count(self, flight: Flight) -> None:
        run, batch = flight.batch_run, flight.batch
        if run.micros:
            self._observe(run.micros, flight.way.name)
            limit = self._options.max_execution_batch_size
            self._counts.ran(batch.size, flight.run_size, limit, flight.padding_bytes)
        for _ in range(run.runs_alone):
            self._observe(run.micros_alone / run.runs_alone, flight.way.name)
        self._counts.reran(run.reruns)


def _too_late(counted: BatchCounts, request: Request) -> None:
    """It left the queue, for its deadline has come or is too near for any run. Its timer answers it, on time."""
    is_past = request.deadline is not None and request.deadline <= asyncio.get_running_loop().time()
    counted.dropped(counts.DEADLINE if is_past else counts.TOO_LATE)
    if is_past:
        request.fail(DeadlineExceeded(TIMED_OUT_IN_QUEUE))
