"""A session whose requests run together: what waits at the same time, or came in the same turn of the loop.

Requests that no batch can take up run by themselves, in the DirectSession within.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from time import perf_counter
from typing import TypeVar

import numpy as np

from pyserving.batching import counts, tensors
from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.queue import Batch, BatchQueue, BatchTask, Piece
from pyserving.batching.run import BatchRun
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.errors import DeadlineExceeded, ServingError, Unavailable
from pyserving.executors.execution_plan import Choice, ExecutionPlan
from pyserving.executors.executor import Way
from pyserving.executors.loop_licence import SHORT_MICROS_IN_THREAD
from pyserving.loop_batches import Guest, LoopBatches
from pyserving.loop_time import LoopTime
from pyserving.messages import Later
from pyserving.session import (
    NOT_AT_ONCE,
    TIMED_OUT,
    CallingThreadSession,
    DirectSession,
    Handle,
    Observe,
    PreparedRun,
    RunResult,
    by,
)
from pyserving.signature import SignatureDef

_T = TypeVar("_T")
MOST_REFUSALS = 3
_MOST_PADDED_BYTES = 256 << 20
"""Of a run's inputs, if most of them is padding."""

TIMED_OUT_IN_QUEUE = "Run() timeout exceeded while waiting in batching queue"
"""As batching_session.cc."""


class BatchingSession:
    """One version's runs, in batches. A queue for each set of feeds and set of fetches, whoever asks for them."""

    MOST_ROUTES = 512
    """Plans whose queue is known."""

    def __init__(
        self,
        direct: DirectSession,
        scheduler: SharedBatchScheduler,
        options: QueueOptions,
        new_counts: Callable[[str], BatchCounts],
        signature_defs: Mapping[str, SignatureDef],
        *,
        observe: Observe = lambda micros, way: None,
        loop_time: LoopTime | None = None,
        may_rerun: bool = True,
    ) -> None:
        """`new_counts(signature)` gives the cells of a queue; `observe` and `loop_time` are as a DirectSession's.

        `may_rerun`: a run changes nothing in the model, so that a batch which has failed may be run again one by one.
        """
        self._direct = direct
        self._scheduler = scheduler
        self._options = options
        self._new_counts = new_counts
        self._signature_defs = signature_defs
        self._observe = observe
        self._loop_time = loop_time
        self._may_rerun = may_rerun
        self._lanes: dict[Hashable, _Lane] = {}
        self._routes: dict[ExecutionPlan, _Route] = {}

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> ExecutionPlan:
        """As DirectSession."""
        return self._direct.plan(feeds, fetches)

    async def subset_plan(
        self, feeds: tuple[str, ...], fetches: tuple[str, ...], handle: Handle | None, deadline: float | None
    ) -> ExecutionPlan:
        """As DirectSession."""
        return await self._direct.subset_plan(feeds, fetches, handle, deadline)

    async def offload(self, function: Callable[[], _T]) -> _T:
        """As DirectSession."""
        return await self._direct.offload(function)

    def in_calling_thread(self, observe: Callable[[float], None]) -> CallingThreadSession:
        """As DirectSession; each run is made in every allowed batch size, too."""
        return self._direct.in_calling_thread(observe, self._options.allowed_batch_sizes)

    async def run(
        self,
        plan: ExecutionPlan,
        arrays: Sequence[np.ndarray],
        handle: Handle | None = None,
        deadline: float | None = None,
    ) -> RunResult:
        """As DirectSession.

        Raises also InvalidArgument for arrays that differ in their rows or have too many, Unavailable when too many
        wait, and DeadlineExceeded on time whether the request waits or runs. What has not begun then never begins.
        """
        route = self._routes.get(plan) or self._new_route(plan)
        lane = route.lane
        rows = tensors.batch_rows(arrays)
        if not rows or not lane.is_batchable:
            return await self._direct.run(plan, arrays, handle, deadline)
        if lane.runs_on_loop(plan.choice(arrays), rows):
            if lane.company.is_lonely():
                return await self._direct.run(plan, arrays, handle, deadline)
            return await self._in_company(route, arrays, rows, handle, deadline)
        plan.check_dtypes(arrays)
        request = lane.schedule(route, arrays, rows, handle, deadline)
        try:
            return await request.future
        except asyncio.CancelledError:
            lane.give_up(request, counts.CANCELLED)
            raise

    async def _in_company(
        self, route: _Route, arrays: Sequence[np.ndarray], rows: int, handle: Handle | None, deadline: float | None
    ) -> RunResult:
        """With those that came in this turn of the loop, or in the next one that has time."""
        loop = asyncio.get_running_loop()
        route.lane.plan.check_dtypes(ordered := route.feeds_of(arrays))
        if deadline is not None and deadline <= loop.time():
            raise DeadlineExceeded(TIMED_OUT_IN_QUEUE)
        future: asyncio.Future[RunResult] = loop.create_future()
        if not route.lane.company.has_time():
            await by(deadline, route.lane.company.turn())
        guest = Guest(ordered, rows, tensors.shapes(ordered), route.lane.plan.choice(ordered))
        guest.finish = partial(_settle, future, route)
        route.lane.company.join(guest, lambda: None if handle is None else handle.copy())
        return await future

    def prepare(self, plan: ExecutionPlan, arrays: Sequence[np.ndarray], acquire: Callable[[], Handle]) -> PreparedRun:
        """As DirectSession. Who comes in company waits for the end of this turn of the loop."""
        route = self._routes.get(plan) or self._new_route(plan)
        rows = tensors.batch_rows(arrays)
        alone = self._direct.prepare(plan, arrays, acquire)
        if not rows:
            return alone
        if route.feed_order is not None or route.fetch_order is not None:
            return NOT_AT_ONCE
        prepared = _Prepared(route.lane, plan.choice(arrays), rows, tensors.shapes(arrays), alone.run_at_once, acquire)
        return PreparedRun(prepared.run, prepared.run_at_once)

    def _new_route(self, plan: ExecutionPlan) -> _Route:
        feeds, fetches = plan.plan.feeds, plan.plan.fetches
        tensors_of_queue = (frozenset(feeds), frozenset(fetches))
        lane = self._lanes.get(tensors_of_queue)
        if lane is None:
            signature = _signature_of(self._signature_defs, *tensors_of_queue)
            lane = self._lanes[tensors_of_queue] = _Lane(self, plan, self._new_counts(signature))
        if len(self._routes) >= self.MOST_ROUTES:
            self._forget_idle()
        route = self._routes[plan] = _Route(
            lane, _order(lane.plan.plan.feeds, feeds), _order(fetches, lane.plan.plan.fetches)
        )
        return route

    def _forget_idle(self) -> None:
        """Those that are asked for again are made again."""
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.is_busy}
        kept = set(self._lanes.values())
        self._routes = {plan: route for plan, route in self._routes.items() if route.lane in kept}


def _order(wanted: Sequence[str], given: Sequence[str]) -> tuple[int, ...] | None:
    """Where in `given` each of `wanted` is; None when they are the same."""
    return None if wanted == given else tuple(map(given.index, wanted))


def _signature_of(signature_defs: Mapping[str, SignatureDef], feeds: frozenset[str], fetches: frozenset[str]) -> str:
    """The first signature, by name, with these tensors; else the first that has them among its own; else no name."""
    partly = ""
    for name, signature in sorted(signature_defs.items()):
        outputs = {info.name for info in signature.outputs.values()}
        if feeds != {info.name for info in signature.inputs.values()}:
            continue
        if outputs == fetches:
            return name
        if not partly and outputs >= fetches:
            partly = name
    return partly


class _Request(BatchTask):
    """One caller who waits."""

    __slots__ = ("arrays", "began", "future", "handle", "lane", "outputs", "route", "timer")

    def __init__(
        self,
        route: _Route,
        arrays: Sequence[np.ndarray],
        rows: int,
        variety: Hashable,
        handle: Handle | None,
        deadline: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(rows, variety, loop.time(), deadline)
        self.route = route
        self.arrays = arrays
        self.handle = handle
        self.future: asyncio.Future[RunResult] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.began = perf_counter()
        self.outputs: dict[int, Sequence[np.ndarray]] | None = None
        """By first row, of a request that is cut in pieces."""

    def answer(self, outputs: Sequence[np.ndarray], piece: Piece[_Request]) -> None:
        """The outputs of these rows."""
        if self.future.done():
            return
        if piece.size < self.size:
            if (whole := self._gathered(outputs, piece)) is None:
                return
            outputs = whole
        self._settle()
        self.future.set_result(RunResult(self.route.fetches_of(outputs), (perf_counter() - self.began) * 1e6))

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self._settle()
            self.future.set_exception(error)

    def _gathered(self, outputs: Sequence[np.ndarray], piece: Piece[_Request]) -> list[np.ndarray] | None:
        """All rows, once every piece is there."""
        if self.outputs is None:
            self.outputs = {}
        self.outputs[piece.start] = outputs
        if sum(len(part[0]) for part in self.outputs.values()) < self.size:
            return None
        parts = [self.outputs[start] for start in sorted(self.outputs)]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    def _settle(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class _Prepared:
    """Further requests like one that is known."""

    __slots__ = ("_acquire", "_alone", "_choice", "_lane", "_rows", "_variety")

    def __init__(
        self,
        lane: _Lane,
        choice: Choice,
        rows: int,
        variety: Hashable,
        alone: Callable[[Sequence[np.ndarray]], RunResult | None],
        acquire: Callable[[], Handle],
    ) -> None:
        self._lane = lane
        self._choice = choice
        self._rows = rows
        self._variety = variety
        self._alone = alone
        self._acquire = acquire

    def run_at_once(self, arrays: Sequence[np.ndarray]) -> RunResult | None:
        lane = self._lane
        if lane.is_batchable and not lane.runs_on_loop(self._choice, self._rows):
            return None
        return self._alone(arrays)

    def run(self, arrays: Sequence[np.ndarray]) -> RunResult | Later | None:
        lane = self._lane
        if not lane.is_batchable:
            return self._alone(arrays)
        if not lane.runs_on_loop(self._choice, self._rows):
            return None
        if lane.company.is_lonely():
            return self._alone(arrays)
        if not lane.company.has_time():
            return None
        guest = Guest(arrays, self._rows, self._variety, self._choice)
        lane.company.join(guest, self._acquire)
        return guest


def _settle(
    future: asyncio.Future[RunResult],
    route: _Route,
    guest: Later,
    outcome: Sequence[np.ndarray] | Exception,
    micros: float,
) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(RunResult(route.fetches_of(outcome), micros))


@dataclass(frozen=True, slots=True)
class _Route:
    """From a plan to the queue that it shares with others, which may have the same tensors in another order."""

    lane: _Lane
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


class _Lane:
    """A queue, the plan that runs its batches, and what is counted of it."""

    def __init__(self, session: BatchingSession, plan: ExecutionPlan, counted: BatchCounts) -> None:
        options = session._options
        self.plan = plan
        self.owner: Hashable = session
        self._options = options
        self._scheduler = session._scheduler
        self._observe = session._observe
        self._may_run_on_loop = session._loop_time is not None and not options.batch_timeout_micros
        self._may_rerun = session._may_rerun
        self._counts = counted
        self._queue: BatchQueue[_Request] = BatchQueue(options, self._too_late)
        self._arenas = tensors.Arenas(session._scheduler.threads + 1)
        self._variety = tensors.padded_shapes if options.pad_variable_length_inputs else tensors.shapes
        self._flights: dict[_Request, set[_Flight]] = {}
        """Batches in threads, by the requests in them."""
        self._untimed: list[_Request] = []
        """Came in this turn of the loop, and have no timer for their deadline yet."""
        self._in_threads = self._rows_in_threads = 0
        """Batches of this queue, and their rows."""
        self._is_turn_ending = False
        self._refusals = 0
        """Batches in a row that failed although none of their requests did by itself."""
        self.company = LoopBatches(
            plan,
            options,
            counted,
            session._loop_time or LoopTime(),
            session._observe,
            self._judge,
            may_rerun=session._may_rerun,
        )
        self.is_batchable = True
        """The model takes batches, and its outputs have a row for each row of the inputs, as far as is known."""

    @property
    def is_busy(self) -> bool:
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
        self, route: _Route, arrays: Sequence[np.ndarray], rows: int, handle: Handle | None, deadline: float | None
    ) -> _Request:
        """Raises Unavailable and InvalidArgument as the queue does, and DeadlineExceeded for one that is past."""
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline <= loop.time():
            raise DeadlineExceeded(TIMED_OUT_IN_QUEUE)
        arrays = route.feeds_of(arrays)
        request = _Request(route, arrays, rows, self._variety(arrays), handle, deadline, loop)
        try:
            self._queue.schedule(request)
        except Unavailable:
            self._counts.dropped(counts.FULL)
            raise
        if deadline is not None:
            self._untimed.append(request)
        self._end_turn_soon(loop)
        return request

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

    def _keep_deadline(self, request: _Request) -> None:
        if not request.future.done() and request.deadline is not None:
            loop = request.future.get_loop()
            request.timer = loop.call_at(request.deadline, self._expire, request)

    def _expire(self, request: _Request) -> None:
        is_running = request.taken > 0
        request.fail(DeadlineExceeded(TIMED_OUT if is_running else TIMED_OUT_IN_QUEUE))
        self.give_up(request, counts.DEADLINE)

    def give_up(self, request: _Request, reason: str) -> None:
        """Nobody waits for it any more: what has not begun of it never begins."""
        request._settle()
        late_at = request.deadline if reason == counts.DEADLINE else None
        if self._queue.drop(request, late_at):
            self._counts.dropped(reason)
            self._counts.depth(self._queue.depth)
        for flight in self._flights.get(request, ()):
            if not flight.is_awaited:
                self._scheduler.abandon(flight)

    def _too_late(self, request: _Request) -> None:
        """It left the queue, for its deadline has come or is too near for any run. Its timer answers it, on time."""
        is_past = request.deadline is not None and request.deadline <= asyncio.get_running_loop().time()
        self._counts.dropped(counts.DEADLINE if is_past else counts.TOO_LATE)
        if is_past:
            request.fail(DeadlineExceeded(TIMED_OUT_IN_QUEUE))

    # On the way out, as the scheduler's source.

    def due(self) -> float | None:
        return self._queue.due()

    def take(self, now: float, threads: int) -> _Flight | None:
        batch = self._queue.take(now, threads + self._in_threads, self._rows_in_threads)
        if batch is None:
            return None
        choice = self._choice(self._options.run_size(batch.size))
        flight = self._flight(batch, choice, choice.next())
        for piece in batch.pieces:
            self._flights.setdefault(piece.task, set()).add(flight)
        handle = batch.pieces[0].task.handle
        flight.held = handle.copy() if handle is not None else None
        self._in_threads += 1
        self._rows_in_threads += batch.size
        self._counts.depth(self._queue.depth)
        return flight

    def _flight(self, batch: Batch[_Request], choice: Choice, way: Way) -> _Flight:
        began = perf_counter()
        waits = [(began - piece.task.began) * 1e6 for piece in batch.pieces]
        self._counts.taken([piece.size for piece in batch.pieces], len(self.plan.plan.feeds), waits)
        feeds = [_rows_of(piece) for piece in batch.pieces]
        run_size = self._options.run_size(batch.size)
        merged = None
        if len(feeds) > 1 or run_size > batch.size:
            forms = [(tensors.merged_shape(arrays, run_size), arrays[0].dtype) for arrays in zip(*feeds, strict=True)]
            if not self._is_bloated(forms, feeds):
                merged = self._arenas.arrays(forms)
            else:
                run_size = max(piece.size for piece in batch.pieces)
        return _Flight(self, batch, feeds, merged, run_size, choice, way)

    def _is_bloated(
        self, forms: Sequence[tuple[tuple[int, ...], np.dtype]], feeds: Sequence[Sequence[np.ndarray]]
    ) -> bool:
        """Whether padding would make much of little: a request of one long row and one of many short ones."""
        if not self._options.pad_variable_length_inputs:
            return False
        padded = sum(prod(shape) * dtype.itemsize for shape, dtype in forms)
        return padded > _MOST_PADDED_BYTES and padded > 2 * sum(array.nbytes for arrays in feeds for array in arrays)

    def landed(self, flight: _Flight, error: BaseException | None) -> None:
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
            self._queue.record(flight.batch.pieces[0].task.variety, flight.run_size, seconds)
        self.answer(flight, error)

    def answer(self, flight: _Flight, error: BaseException | None) -> None:
        self._count(flight)
        run = flight.batch_run
        self._judge(run)
        for piece, outcome in zip(flight.batch.pieces, run.outcomes, strict=False):
            if isinstance(outcome, ServingError):
                piece.task.fail(outcome)
                self._queue.drop(piece.task)
            else:
                piece.task.answer(outcome, piece)
        if error is not None:
            for piece in flight.batch.pieces:
                piece.task.fail(error)
                self._queue.drop(piece.task)

    def was_short(self, flight: _Flight) -> None:
        """A run of one of its requests alone would have been no longer, nor will the next one be, on the loop."""
        choice, run = self._choice(flight.batch.pieces[0].task.size), flight.batch_run
        if choice is not flight.choice:
            choice.record(flight.way, run.micros, run.cpu_micros)

    def _judge(self, run: BatchRun) -> None:
        """Some models are made for one row, whatever they declare."""
        if run.has_succeeded and run.is_splittable:
            self._refusals = 0
        elif run.reruns > 1 and not any(isinstance(outcome, ServingError) for outcome in run.outcomes):
            self._refusals += 1
        if not run.is_splittable or self._refusals == MOST_REFUSALS:
            self.is_batchable = False

    def _count(self, flight: _Flight) -> None:
        run, batch = flight.batch_run, flight.batch
        if run.micros:
            self._observe(run.micros, flight.way.name)
            padding = 0
            if flight.merged is not None:
                padding = sum(map(tensors.padding_bytes, zip(*flight.feeds, strict=True), flight.merged))
            self._counts.ran(batch.size, flight.run_size, self._options.max_execution_batch_size, padding)
        for _ in range(run.reruns):
            self._observe(run.rerun_micros / run.reruns, flight.way.name)
        self._counts.reran(run.reruns)


class _Flight:
    """A batch on its way."""

    def __init__(
        self,
        lane: _Lane,
        batch: Batch[_Request],
        feeds: Sequence[Sequence[np.ndarray]],
        merged: Sequence[np.ndarray] | None,
        run_size: int,
        choice: Choice,
        way: Way,
    ) -> None:
        self._lane = lane
        self.choice = choice
        self.way = way
        self.batch = batch
        self.feeds = feeds
        self.merged = merged
        self.run_size = run_size
        self.began = perf_counter()
        self.held: Handle | None = None
        """Keeps the version loaded for as long as a thread is in it."""
        self.batch_run = BatchRun(
            self.way.run,
            feeds,
            [piece.size for piece in batch.pieces],
            merged,
            may_rerun=lane._may_rerun,
            is_wanted=lambda index: not batch.pieces[index].task.future.done(),
        )

    @property
    def is_awaited(self) -> bool:
        return any(not piece.task.future.done() for piece in self.batch.pieces)

    def run(self) -> None:
        """In the thread."""
        self.batch_run()

    def land(self, error: BaseException | None) -> None:
        run = self.batch_run
        if run.has_succeeded:
            self.choice.record(self.way, run.micros, run.cpu_micros)
            if run.cpu_micros < SHORT_MICROS_IN_THREAD:
                self._lane.was_short(self)
        try:
            self._lane.landed(self, error)
        finally:
            if self.held is not None:
                self.held.close()


def _rows_of(piece: Piece[_Request]) -> Sequence[np.ndarray]:
    task = piece.task
    if piece.size == task.size:
        return task.arrays
    return [array[piece.start : piece.start + piece.size] for array in task.arrays]
