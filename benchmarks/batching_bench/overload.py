"""A batching session in memory, when more is asked of it than it can do: deadlines, and what is left to do in time."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from statistics import median

import numpy as np

from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.batching_session import BatchingSession
from pyserving.errors import DeadlineExceeded, Unavailable
from pyserving.executors.executor import CALLER, Executor, Plan, Way
from pyserving.metrics import Metrics
from pyserving.session import DirectSession, ExecutionPlan
from pyserving.signature import DataType, SignatureDef
from pyserving.workers import Workers


@asynccontextmanager
async def session(executor: Executor, threads: int, options: QueueOptions) -> AsyncIterator[BatchingSession]:
    async with Workers("run", 4) as running, Workers("batch", threads) as batches:
        counts = partial(BatchCounts, Metrics(), "m", "1")
        yield BatchingSession(
            DirectSession(executor, running), SharedBatchScheduler(batches), options, counts, executor.signature_defs
        )


class SlowExecutor:
    """Every run takes as long as the first number of its input says."""

    signature_def_map = b""
    may_be_batched = True
    may_change = False

    def __init__(self) -> None:
        self.signature_defs: dict[str, SignatureDef] = {}
        self.rows = 0

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        def run(array: np.ndarray) -> Sequence[np.ndarray]:
            self.rows += len(array)
            time.sleep(float(array.max()))
            return [array]

        return Plan(feeds, fetches, (DataType.DT_FLOAT,), (Way(CALLER, run),))

    def close(self) -> None:
        pass


async def behind_a_long_batch() -> dict[str, float]:
    """A hundred requests of 50 ms behind a run of 500 ms: how many of them ran, and when the last one was answered."""
    executor = SlowExecutor()
    async with session(executor, 1, QueueOptions()) as batching:
        plan = batching.plan(("x:0",), ("y:0",))
        loop = asyncio.get_running_loop()
        long = asyncio.ensure_future(batching.run(plan, [np.full((1, 1), 0.5, np.float32)]))
        await asyncio.sleep(0.01)
        answered: list[float] = []
        statuses: set[str] = set()

        async def short() -> None:
            sent = time.perf_counter()
            try:
                await batching.run(plan, [np.zeros((1, 1), np.float32)], None, loop.time() + 0.05)
                statuses.add("OK")
            except DeadlineExceeded as error:
                statuses.add(error.code.name)
            answered.append(time.perf_counter() - sent)

        await asyncio.gather(*(short() for _ in range(100)))
        await long
    return {"run": executor.rows - 1, "last": max(answered), "others": len(statuses - {"DEADLINE_EXCEEDED"})}


class Overload:
    """Twice as much as a model can do, asked for without waiting for answers."""

    IN_FLIGHT = 16

    def __init__(self, batching: BatchingSession, plan: ExecutionPlan, inputs: Sequence[np.ndarray]) -> None:
        self._batching = batching
        self._plan = plan
        self._inputs = inputs

    async def _one(self, patience: float | None = None) -> float:
        """Seconds to the answer."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        deadline = None if patience is None else loop.time() + patience
        await self._batching.run(self._plan, self._inputs, None, deadline)
        return time.perf_counter() - began

    async def unloaded(self, seconds: float) -> float:
        """Median of one call after another."""
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            times.append(await self._one())
        return median(times)

    async def capacity(self, seconds: float) -> float:
        """Answers a second with so many calls always in flight."""
        end, answers = time.perf_counter() + seconds, 0

        async def client() -> None:
            nonlocal answers
            while time.perf_counter() < end:
                await self._one()
                answers += 1

        await asyncio.gather(*(client() for _ in range(self.IN_FLIGHT)))
        return answers / seconds

    async def overloaded(self, rate: float, patience: float, seconds: float) -> tuple[float, float]:
        """Answers a second that came in time, and megabytes by which the process has grown at its largest."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        in_time = 0

        async def call() -> None:
            nonlocal in_time
            with suppress(DeadlineExceeded, Unavailable):
                took = await self._one(patience)  # before the sum is read: others add to it meanwhile
                in_time += took <= patience

        calls: set[asyncio.Task[None]] = set()
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - began) < seconds:
            while sent < now * rate:
                task = asyncio.ensure_future(call())
                calls.add(task)
                task.add_done_callback(calls.discard)
                sent += 1
            await asyncio.sleep(0.002)
        await asyncio.gather(*calls)
        return in_time / seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    async def recovery(self, usual: float, limit: float = 10.0) -> float:
        """Seconds after the load until three calls in a row take no more than twice as long as usual."""
        began, good = time.perf_counter(), 0
        while good < 3 and time.perf_counter() - began < limit:
            good = good + 1 if await self._one() <= 2 * usual else 0
        return time.perf_counter() - began


async def overload(
    executor: Executor, tensors: tuple[tuple[str, ...], tuple[str, ...]], inputs: Sequence[np.ndarray], seconds: float
) -> dict[str, float]:
    """`tensors`: feeds and fetches of the model that is to be asked for too much."""
    async with session(executor, 2, QueueOptions()) as batching:
        load = Overload(batching, batching.plan(*tensors), inputs)
        await load.capacity(5)
        usual = await load.unloaded(3)
        capacity = await load.capacity(5)
        in_time, grown = await load.overloaded(2 * capacity, 5 * usual, seconds)
        recovery = await load.recovery(usual)
    return {"usual": usual, "capacity": capacity, "in time": in_time, "grown": grown, "recovery": recovery}
