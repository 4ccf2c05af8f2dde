"""A session whose requests run together: what waits at the same time, or came in the same turn of the loop.

Requests that no batch can take up run by themselves, in the DirectSession within.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from pyserving.batch_lane import TIMED_OUT_IN_QUEUE, Lane
from pyserving.batch_request import Order
from pyserving.batching import counts, tensors
from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.errors import DeadlineExceeded
from pyserving.executors.execution_plan import BATCHED, WORKERS, Choice, ExecutionPlan
from pyserving.loop_batches import Guest
from pyserving.loop_time import LoopTime
from pyserving.messages import Later
from pyserving.session import (
    NOT_AT_ONCE,
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
        self._owner = object()
        """Of all its queues. Were it the session itself, they would keep each other when the version is unloaded."""
        self._lanes: dict[Hashable, Lane] = {}
        self._routes: dict[ExecutionPlan, tuple[Lane, Order]] = {}

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> ExecutionPlan:
        """As DirectSession."""
        return self._direct.plan(feeds, fetches)

    def place(self, plan: ExecutionPlan) -> str:
        """BATCHED for what goes into batches of threads; LOOP and MIXED as DirectSession, in company or not."""
        tensors_of_queue = _queue_of(plan)
        lane = self._lanes.get(tensors_of_queue)
        is_batchable = lane.verdict.is_batchable if lane is not None else self._is_batchable(*tensors_of_queue)
        if not is_batchable:
            return plan.place
        never_on_loop = self._loop_time is None or self._options.batch_timeout_micros
        return BATCHED if plan.place == WORKERS or never_on_loop else plan.place

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
        lane, order = self._routes.get(plan) or self._new_route(plan)
        rows = tensors.batch_rows(arrays)
        if not rows or not lane.verdict.is_batchable:
            return await self._direct.run(plan, arrays, handle, deadline)
        choice = plan.choice(arrays)
        is_short = lane.runs_on_loop(choice, rows)
        if is_short and lane.company.is_lonely():
            return await self._direct.run(plan, arrays, handle, deadline)
        plan.check_dtypes(arrays)
        if is_short:
            if not lane.company.has_time():
                await by(deadline, lane.company.turn())
            if lane.runs_on_loop(choice, rows):  # still
                return await self._in_company(lane, order, arrays, rows, handle, deadline)
        request = lane.schedule(order, arrays, rows, handle, deadline)
        try:
            return await request.future
        except asyncio.CancelledError:
            lane.give_up(request, counts.CANCELLED)
            raise
        except (tensors.Unsplittable, tensors.Unjoinable) as error:  # only one that was cut is told so
            if not self._may_rerun:
                raise
            if isinstance(error, tensors.Unsplittable):
                lane.verdict.is_batchable = False
            return await self._direct.run(plan, arrays, handle, deadline)

    async def _in_company(
        self,
        lane: Lane,
        order: Order,
        arrays: Sequence[np.ndarray],
        rows: int,
        handle: Handle | None,
        deadline: float | None,
    ) -> RunResult:
        """With those that came in this turn of the loop."""
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline <= loop.time():
            raise DeadlineExceeded(TIMED_OUT_IN_QUEUE)
        arrays = order.feeds_of(arrays)
        future: asyncio.Future[RunResult] = loop.create_future()
        guest = Guest(arrays, rows, tensors.shapes(arrays), lane.plan.choice(arrays))
        guest.finish = partial(_settle, future, order)
        lane.company.join(guest, lambda: None if handle is None else handle.copy())
        return await future

    def prepare(self, plan: ExecutionPlan, arrays: Sequence[np.ndarray], acquire: Callable[[], Handle]) -> PreparedRun:
        """As DirectSession. Who comes in company waits for the end of this turn of the loop."""
        lane, order = self._routes.get(plan) or self._new_route(plan)
        rows = tensors.batch_rows(arrays)
        alone = self._direct.prepare(plan, arrays, acquire)
        if not rows:
            return alone
        if order.feed_order is not None or order.fetch_order is not None:
            return NOT_AT_ONCE
        prepared = _Prepared(lane, plan.choice(arrays), rows, tensors.shapes(arrays), alone.run_at_once, acquire)
        return PreparedRun(prepared.run, prepared.run_at_once)

    def _new_route(self, plan: ExecutionPlan) -> tuple[Lane, Order]:
        feeds, fetches = plan.plan.feeds, plan.plan.fetches
        tensors_of_queue = _queue_of(plan)
        lane = self._lanes.get(tensors_of_queue)
        if lane is None:
            signature = _signature_of(self._signature_defs, *tensors_of_queue)
            lane = self._lanes[tensors_of_queue] = Lane(
                self._owner,
                plan,
                self._scheduler,
                self._options,
                self._new_counts(signature),
                self._observe,
                self._loop_time,
                may_rerun=self._may_rerun,
            )
            lane.verdict.is_batchable = self._is_batchable(*tensors_of_queue)
        if len(self._routes) >= self.MOST_ROUTES:
            self._forget_idle()
        order = Order(_order(lane.plan.plan.feeds, feeds), _order(fetches, lane.plan.plan.fetches))
        self._routes[plan] = lane, order
        return lane, order

    def _is_batchable(self, feeds: frozenset[str], fetches: frozenset[str]) -> bool:
        """False where requests may have any rows and one of the outputs has so many, always, as the signatures say: the
        names of all classes, perhaps. A batch of just as many rows would be divided as if they were the requests'.

        Of a tensor without dimensions nothing is known: signatures made by hand leave shapes out.
        """
        shapes = {
            info.name: info.shape
            for signature in self._signature_defs.values()
            for info in (*signature.inputs.values(), *signature.outputs.values())
        }
        has_fixed_rows = {name for name, shape in shapes.items() if shape and shape[0] >= 0}
        return bool(has_fixed_rows & feeds) or not has_fixed_rows & fetches

    def _forget_idle(self) -> None:
        """Those that are asked for again are made again."""
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.is_busy}
        kept = set(self._lanes.values())
        self._routes = {plan: route for plan, route in self._routes.items() if route[0] in kept}


def _queue_of(plan: ExecutionPlan) -> tuple[frozenset[str], frozenset[str]]:
    """What its requests are queued by."""
    return frozenset(plan.plan.feeds), frozenset(plan.plan.fetches)


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


class _Prepared:
    """Further requests like one that is known."""

    __slots__ = ("_acquire", "_alone", "_choice", "_lane", "_rows", "_variety")

    def __init__(
        self,
        lane: Lane,
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
        if lane.verdict.is_batchable and not lane.runs_on_loop(self._choice, self._rows):
            return None
        return self._alone(arrays)

    def run(self, arrays: Sequence[np.ndarray]) -> RunResult | Later | None:
        lane = self._lane
        if not lane.verdict.is_batchable:
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
    order: Order,
    guest: Later,
    outcome: Sequence[np.ndarray] | Exception,
    micros: float,
) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(RunResult(order.fetches_of(outcome), micros))
