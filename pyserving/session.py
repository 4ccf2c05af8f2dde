"""An executor made awaitable: a request is a run in a thread, with a deadline that is kept whatever the run does.

Warm-up asks for the same runs in the thread it is in already.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from pyserving.errors import DeadlineExceeded, ServingError, error_for
from pyserving.executors.execution_plan import LOOP, Choice, ExecutionPlan
from pyserving.executors.executor import Executor, Way
from pyserving.executors.loop_licence import LONG_MICROS
from pyserving.loop_time import LoopTime
from pyserving.messages import Later
from pyserving.workers import Job, Share, Workers

__all__ = [
    "NOT_AT_ONCE",
    "TIMED_OUT",
    "CallingThreadSession",
    "DirectSession",
    "ExecutionPlan",
    "Handle",
    "PreparedRun",
    "RunResult",
    "Session",
    "by",
]

_T = TypeVar("_T")

TIMED_OUT = "Timed out waiting for notification"
"""As direct_session.cc says of a run that takes longer than its caller will wait."""


class Handle(Protocol):
    """What a run asks of a ServableHandle: another count on the same version, to be closed by whoever took it."""

    def copy(self) -> Handle: ...

    def close(self) -> None: ...


class RunResult(NamedTuple):
    outputs: Sequence[np.ndarray]
    """In the order of the plan's fetches."""
    runtime_micros: float


_run_result: Callable[[tuple[Sequence[np.ndarray], float]], RunResult] = partial(tuple.__new__, RunResult)
"""As RunResult itself, at a third of the cost."""


class PreparedRun(NamedTuple):
    """Ways to run a plan on arrays of shapes and types that are known."""

    run: Callable[[Sequence[np.ndarray]], RunResult | Later | None]
    """Within this turn of the loop; None: not now, and nothing has been done."""
    run_at_once: Callable[[Sequence[np.ndarray]], RunResult | None]
    """Before this returns."""


def _not_at_once(arrays: Sequence[np.ndarray]) -> None:
    """Where runs are waited for."""


NOT_AT_ONCE = PreparedRun(_not_at_once, _not_at_once)


class Session(Protocol):
    """What a Servable asks of a session."""

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> ExecutionPlan: ...

    def place(self, plan: ExecutionPlan) -> str:
        """Where requests for a plan are run: LOOP, WORKERS, BATCHED or MIXED."""

    async def subset_plan(
        self, feeds: tuple[str, ...], fetches: tuple[str, ...], handle: Handle | None, deadline: float | None
    ) -> ExecutionPlan: ...

    async def run(
        self, plan: ExecutionPlan, arrays: Sequence[np.ndarray], handle: Handle | None, deadline: float | None
    ) -> RunResult: ...

    def prepare(
        self, plan: ExecutionPlan, arrays: Sequence[np.ndarray], acquire: Callable[[], Handle]
    ) -> PreparedRun: ...

    async def offload(self, function: Callable[[], _T]) -> _T: ...

    def in_calling_thread(self, observe: Callable[[float], None]) -> Session:
        """The same plans, run where they are asked for. `observe(micros)` hears of each run, failed ones included."""


Observe: TypeAlias = Callable[[float, str], None]
"""Hears of a run: its microseconds, and the name of the way it went, or LOOP."""


def _nobody(micros: float, way: str) -> None:
    """Where nobody counts."""


_Tensors: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
_Planned: TypeAlias = ExecutionPlan | ServingError


class DirectSession:
    """Runs each request by itself: at once on the loop if that takes no time, else as soon as a worker is free.

    One model holds three quarters of the workers at most.
    """

    SUBSET_PLANS = 128
    """Kept of those that no signature has; a callable for each costs memory in TensorFlow."""

    def __init__(
        self,
        executor: Executor,
        workers: Workers,
        observe: Observe = _nobody,
        loop_time: LoopTime | None = None,
    ) -> None:
        """`observe(micros, way)` hears on the loop of every run that was made, failed ones included.

        `loop_time` is shared by the sessions of one loop; without it nothing runs on the loop.
        """
        self._observe = observe
        self._loop_time = loop_time
        self._executor = executor
        self._workers = workers
        self._share = Share(workers, max(1, workers.threads * 3 // 4))
        self._plans: dict[_Tensors, _Planned] = {}
        self._subsets: OrderedDict[_Tensors, _Planned] = OrderedDict()
        self._making: dict[_Tensors, Job[_Planned]] = {}

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> ExecutionPlan:
        """The plan of a signature, kept as long as the session. For the loading thread, while nothing runs yet.

        Raises the ServingError for which it cannot be made, which is kept as well.
        """
        tensors = (feeds, fetches)
        if tensors not in self._plans:
            self._plans[tensors] = self._make(feeds, fetches)
        return _plan_or_raise(self._plans[tensors])

    def place(self, plan: ExecutionPlan) -> str:
        """LOOP, WORKERS or MIXED."""
        return plan.place

    async def subset_plan(
        self, feeds: tuple[str, ...], fetches: tuple[str, ...], handle: Handle | None, deadline: float | None
    ) -> ExecutionPlan:
        """The plan of some outputs of a signature, made in a worker when it is not at hand.

        Raises like `plan`, and DeadlineExceeded when it is not made by `deadline` (`loop.time()` seconds).
        """
        tensors = (feeds, fetches)
        planned = self._plans.get(tensors) or self._subsets.get(tensors)
        if planned is None:
            planned = await by(deadline, asyncio.shield(self._making_of(tensors, handle).future))
        elif tensors in self._subsets:
            self._subsets.move_to_end(tensors)
        return _plan_or_raise(planned)

    async def run(
        self,
        plan: ExecutionPlan,
        arrays: Sequence[np.ndarray],
        handle: Handle | None = None,
        deadline: float | None = None,
    ) -> RunResult:
        """Run `plan` on arrays in the order of its feeds; they must not change until it is over.

        Raises InvalidArgument for a wrong dtype, DeadlineExceeded at `deadline` (`loop.time()` seconds), or the error
        of the run. A run that is given up, by its deadline or by cancelling this call, does not start if it has not,
        and else goes on in its thread, where it keeps the version of `handle` loaded. A run on the loop is over before
        anybody could give it up.
        """
        plan.check_dtypes(arrays)
        if deadline is not None and deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceeded(TIMED_OUT)
        choice = plan.choice(arrays)
        if choice.on_loop is not None and self._loop_time is not None:
            if not self._loop_time.is_left:
                await by(deadline, self._loop_time.turn(choice.micros_on_loop))
            if (way := choice.on_loop) is not None:  # still
                return self._run_on_loop(choice, way, arrays, self._loop_time)
        run = _Run(choice, arrays, self._observe)
        job = self._share.submit(run)
        job.on_over = run.over
        run.held = handle.copy() if handle is not None else None
        try:
            return await by(deadline, job.future)
        finally:
            if not job.is_over:
                self._share.give_up(job)

    def prepare(self, plan: ExecutionPlan, arrays: Sequence[np.ndarray], acquire: Callable[[], Handle]) -> PreparedRun:
        """`run_now` for arrays like these, whose types are right. `acquire` gives handles on the version."""
        run = partial(self.run_now, plan.choice(arrays))
        return PreparedRun(run, run)

    def run_now(self, choice: Choice, arrays: Sequence[np.ndarray]) -> RunResult | None:
        """Run arrays whose types are known to be right, and for which `choice` was made, within this turn of the loop.

        None when they are not for the loop, or not now; nothing has been done then. Raises the error of the run.
        """
        way, loop_time = choice.on_loop, self._loop_time
        if way is None or loop_time is None or not loop_time.is_left:
            return None
        return self._run_on_loop(choice, way, arrays, loop_time)

    def _run_on_loop(self, choice: Choice, way: Way, arrays: Sequence[np.ndarray], loop_time: LoopTime) -> RunResult:
        began = loop_time.begin()
        try:
            outputs = way.run(*arrays)
        finally:
            micros = (perf_counter() - began) * 1e6
            loop_time.spend(micros)
            choice.record_on_loop(micros, loop_time.cpu_micros(began) if micros >= LONG_MICROS else micros)
            self._observe(micros, LOOP)
        return _run_result((outputs, micros))

    async def offload(self, function: Callable[[], _T]) -> _T:
        """Run a function that has nothing to do with the model in a worker: work too long for the loop."""
        return await self._workers.submit(function)

    def in_calling_thread(
        self, observe: Callable[[float], None], batch_sizes: Sequence[int] = ()
    ) -> CallingThreadSession:
        """For the loading thread, while nobody else has this session. Each run is made with so many rows as well."""
        return CallingThreadSession(self, observe, batch_sizes)

    def subset_plan_here(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> ExecutionPlan:
        """Like `subset_plan`, made in the calling thread: the loading thread, while nobody else has this session."""
        tensors = (feeds, fetches)
        planned = self._plans.get(tensors) or self._subsets.get(tensors)
        if planned is None:
            planned = self._make(feeds, fetches)
            self._keep_subset(tensors, planned)
        return _plan_or_raise(planned)

    def _making_of(self, tensors: _Tensors, handle: Handle | None) -> Job[_Planned]:
        if tensors not in self._making:
            job = self._workers.submit(self._make, *tensors)
            job.on_over = partial(self._made, tensors, job, handle.copy() if handle is not None else None)
            self._making[tensors] = job
        return self._making[tensors]

    def _make(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> _Planned:
        """In a thread."""
        try:
            return ExecutionPlan(self._executor.plan(feeds, fetches))
        except ServingError as error:
            return error_for(error.code, error.message)  # a new one: the old one's traceback holds TensorFlow's session

    def _made(self, tensors: _Tensors, job: Job[_Planned], held: Handle | None) -> None:
        del self._making[tensors]
        if held is not None:
            held.close()
        if job.future.exception() is None:
            self._keep_subset(tensors, job.future.result())

    def _keep_subset(self, tensors: _Tensors, planned: _Planned) -> None:
        self._subsets[tensors] = planned
        if len(self._subsets) > self.SUBSET_PLANS:
            self._subsets.popitem(last=False)


class CallingThreadSession:
    """A session's runs, one after another in the thread that asks for them; its coroutines never wait.

    The plans, and what is measured of their ways, are the session's own, so that requests find them ready. They live
    on the loop; but as long as only the loading thread has the servable, they are that thread's alone.
    """

    def __init__(self, session: DirectSession, observe: Callable[[float], None], batch_sizes: Sequence[int]) -> None:
        self._session = session
        self._observe = observe
        self._batch_sizes = batch_sizes

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> ExecutionPlan:
        """The session's."""
        return self._session.plan(feeds, fetches)

    def place(self, plan: ExecutionPlan) -> str:
        """The session's."""
        return self._session.place(plan)

    async def subset_plan(
        self,
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        handle: Handle | None = None,
        deadline: float | None = None,
    ) -> ExecutionPlan:
        """The session's. A deadline is not kept."""
        return self._session.subset_plan_here(feeds, fetches)

    async def run(
        self,
        plan: ExecutionPlan,
        arrays: Sequence[np.ndarray],
        handle: Handle | None = None,
        deadline: float | None = None,
    ) -> RunResult:
        """Raises like a DirectSession's, but that a deadline is not kept."""
        plan.check_dtypes(arrays)
        result = self._run(plan, arrays)
        for size in self._batch_sizes:
            if _rows(arrays):
                self._run(plan, [array[np.arange(size) % len(array)] for array in arrays])
        return result

    def prepare(self, plan: ExecutionPlan, arrays: Sequence[np.ndarray], acquire: Callable[[], Handle]) -> PreparedRun:
        """Requests are not answered here."""
        return NOT_AT_ONCE

    async def offload(self, function: Callable[[], _T]) -> _T:
        return function()

    def in_calling_thread(self, observe: Callable[[float], None]) -> CallingThreadSession:
        return CallingThreadSession(self._session, observe, self._batch_sizes)

    def _run(self, plan: ExecutionPlan, arrays: Sequence[np.ndarray]) -> RunResult:
        run = _Run(plan.choice(arrays), arrays, lambda micros, way: self._observe(micros))
        try:
            return run()
        finally:
            run.over()


def _rows(arrays: Sequence[np.ndarray]) -> int:
    """Of all arrays; 0 for those that no batch could take up: scalars, no arrays, no rows, or not as many in each."""
    rows = {len(array) if array.ndim else 0 for array in arrays}
    return rows.pop() if len(rows) == 1 else 0


def _plan_or_raise(planned: _Planned) -> ExecutionPlan:
    if isinstance(planned, ServingError):
        raise error_for(planned.code, planned.message)  # a new one: each raise makes an old one's traceback longer
    return planned


async def by(deadline: float | None, future: asyncio.Future[_T]) -> _T:
    """The future's result, or DeadlineExceeded on time."""
    if deadline is None:
        return await future
    timer = future.get_loop().call_at(deadline, _expire, future)
    try:
        return await future
    finally:
        timer.cancel()


def _expire(future: asyncio.Future[_T]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded(TIMED_OUT))


class _Run:
    """One run in a thread: it is timed, and its version stays loaded until no thread is in it."""

    __slots__ = ("_arrays", "_choice", "_cpu_micros", "_has_succeeded", "_micros", "_observe", "_way", "held")

    def __init__(self, choice: Choice, arrays: Sequence[np.ndarray], observe: Observe) -> None:
        self._choice = choice
        self._way = choice.next()
        self._arrays = arrays
        self._observe = observe
        self._micros: float | None = None
        self._cpu_micros = 0.0
        self._has_succeeded = False
        self.held: Handle | None = None

    def __call__(self) -> RunResult:
        """In the thread."""
        began, busy = perf_counter(), thread_time()
        try:
            outputs = self._way.run(*self._arrays)
        finally:
            self._cpu_micros = (thread_time() - busy) * 1e6
            self._micros = micros = (perf_counter() - began) * 1e6
        self._has_succeeded = True
        return RunResult(outputs, micros)

    def over(self) -> None:
        """On the loop, whether anybody still waits or not; what was given up is a measurement all the same."""
        if self._micros is not None:
            self._observe(self._micros, self._way.name)
            if self._has_succeeded:
                self._choice.record(self._way, self._micros, self._cpu_micros)
        if self.held is not None:
            self.held.close()
