"""Requests that run together: who shares a run, what each is answered, and who is never run."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from pyserving import batch_flight
from pyserving.batch_lane import MOST_REFUSALS, STUCK_SECONDS
from pyserving.batching import tensors
from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.batching_session import BatchingSession
from pyserving.errors import (
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    Unavailable,
    error_for,
)
from pyserving.loop_batches import LoopBatches
from pyserving.loop_time import LoopTime
from pyserving.metrics import Metrics
from pyserving.session import DirectSession, RunResult
from pyserving.signature import DataType, SignatureDef, TensorInfo
from pyserving.workers import Job, Workers
from tests.batching.row_executor import RowExecutor
from tests.clock import Clock
from tests.fakes import HeldWorkers

HOUR = 3600.0


class HeldThreads(HeldWorkers):
    """Threads of a scheduler, whose batches run when the test says so."""

    def __init__(self, threads: int) -> None:
        super().__init__("batches", threads)
        self.stand_ins = 0
        self.something_came = asyncio.Event()

    def submit(self, function: Callable[..., Any], *args: Any) -> Job[Any]:
        self.something_came.set()
        return super().submit(function, *args)

    def add_stand_in(self) -> bool:
        self.stand_ins += 1
        return True

    def remove_stand_in(self) -> None:
        self.stand_ins -= 1


class Handles:
    """Counts how many are open, as a ServableHandle does on its version."""

    def __init__(self) -> None:
        self.open = 1

    def copy(self) -> Handles:
        self.open += 1
        return self

    def close(self) -> None:
        self.open -= 1


class Ticks:
    """Takes the place of `perf_counter` and `thread_time` in modules; time passes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        self._now = 0.0
        for module in modules:
            for clock in ("perf_counter", "thread_time"):
                monkeypatch.setattr(f"{module}.{clock}", lambda: self._now, raising=False)

    def advance(self, seconds: float) -> None:
        self._now += seconds


class Model:
    """A version with its session and its metrics; `asked` gives the tasks of requests that have come in one turn."""

    def __init__(self, executor: RowExecutor, running: Any, batches: Any, **options: Any) -> None:
        may_rerun = options.pop("may_rerun", True)
        loop_time = LoopTime()
        self.metrics = Metrics()
        self.executor = executor
        self.scheduler = options.pop("scheduler", None) or SharedBatchScheduler(batches)
        self.session = BatchingSession(
            DirectSession(executor, running, loop_time=loop_time),
            self.scheduler,
            QueueOptions(**options),
            partial(BatchCounts, self.metrics, "m", "1"),
            executor.signature_defs,
            loop_time=loop_time,
            may_rerun=may_rerun,
        )

    def run(
        self,
        *arrays: Any,
        fetches: tuple[str, ...] = ("same:0",),
        feeds: tuple[str, ...] | None = None,
        deadline: float | None = None,
        handle: Handles | None = None,
    ) -> Awaitable[RunResult]:
        taken = [array if isinstance(array, np.ndarray) else np.array(array, np.float32) for array in arrays]
        names = feeds or ("x:0", "w:0", "v:0")[: len(taken)]
        return self.session.run(self.session.plan(names, fetches), taken, handle, deadline)

    async def asked(self, *requests: Awaitable[RunResult]) -> list[asyncio.Future[RunResult]]:
        tasks = [asyncio.ensure_future(request) for request in requests]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks

    def sample(self, line_start: str) -> float:
        """The number of a line on the metrics page."""
        lines = self.metrics.exposition().decode().splitlines()
        return float(next(line for line in lines if line.startswith(line_start)).rpartition(" ")[2])

    def dropped(self, reason: str, signature: str = "serving_default") -> float:
        labels = f'model="m",version="1",signature="{signature}",reason="{reason}"'
        return self.sample(f":pyserving:batching:dropped_total{{{labels}}}")


@pytest.fixture
def executor() -> RowExecutor:
    return RowExecutor()


@pytest.fixture
async def running() -> AsyncIterator[Workers]:
    async with Workers("run", 1) as workers:
        yield workers


@pytest.fixture
async def threads() -> HeldThreads:
    return HeldThreads(1)


@pytest.fixture
def model(executor: RowExecutor, running: Workers, threads: HeldThreads) -> Callable[..., Model]:
    return partial(Model, executor, running, threads)


@pytest.fixture
async def clock() -> Clock:
    return Clock(asyncio.get_running_loop())


def rows(number: int, value: float = 1.0) -> np.ndarray:
    return np.full((number, 2), value, np.float32)


def values(results: Sequence[RunResult], output: int = 0) -> list[Any]:
    return [result.outputs[output].tolist() for result in results]


def now() -> float:
    return asyncio.get_running_loop().time()


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_requests_of_one_turn_share_a_run_and_each_gets_its_own_rows(model, threads, executor):
    m = model()
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0], [3.0]]), m.run([[4.0]]))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0], [3.0]], [[4.0]]]
    assert executor.shapes == [(4, 1)]


async def test_what_comes_while_a_batch_runs_is_the_next_batch(model, threads, executor):
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    asked += await m.asked(m.run([[2.0]]))
    asked += await m.asked(m.run([[3.0]]))
    assert len(threads.held) == 1
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0]], [[3.0]]]
    assert executor.shapes == [(1, 1), (2, 1)]


async def test_same_tensors_in_another_order_share_the_queue(model, threads, executor):
    m = model()
    first, second = np.array([[1.0]], np.float32), np.array([[5.0]], np.float32)
    asked = await m.asked(
        m.run(first, second, feeds=("x:0", "w:0"), fetches=("same:0", "double:0")),
        m.run(second, first, feeds=("w:0", "x:0"), fetches=("double:0", "same:0")),
    )
    await threads.release()
    one, other = await asyncio.gather(*asked)
    assert [output.tolist() for output in one.outputs] == [[[1.0]], [[2.0]]]
    assert [output.tolist() for output in other.outputs] == [[[2.0]], [[1.0]]]
    assert executor.shapes == [(2, 1)]


@pytest.mark.proves("difference: Batching: requests of different shapes")
async def test_shapes_are_never_mixed(model, threads, executor):
    m = model()
    asked = await m.asked(*(m.run(np.full((1, width), width, np.float32)) for width in (2, 3, 2, 3)))
    await threads.release()
    assert [result.outputs[0].shape for result in await asyncio.gather(*asked)] == [(1, 2), (1, 3), (1, 2), (1, 3)]
    assert sorted(executor.shapes) == [(2, 2), (2, 3)]


@pytest.mark.proves("difference: Batching: no rows, scalars, no inputs, outputs without rows")
@pytest.mark.parametrize("array", [np.zeros((0, 2), np.float32), np.float32(3.0)])
async def test_what_no_batch_can_take_up_runs_by_itself(model, executor, array):
    m = model()
    result = await m.run(np.asarray(array))
    assert result.outputs[0].shape == array.shape
    assert executor.shapes == [array.shape]


@pytest.mark.proves("difference: Batching: no rows, scalars, no inputs, outputs without rows")
async def test_signature_without_inputs_runs_by_itself(model):
    m = model()
    assert (await m.run(fetches=("mean:0",))).outputs[0] == 0.0


async def test_arrays_that_differ_in_their_rows_are_refused(model):
    m = model()
    with pytest.raises(InvalidArgument, match=r"^Batching Run\(\) input tensors must have equal 0th-dimension size$"):
        await m.run(rows(2), rows(3))


async def test_wrong_dtype_is_refused_as_without_batching(model):
    m = model()
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[0\] to be float but double is provided$"):
        await m.run(np.zeros((1, 2)))


@pytest.mark.proves("difference: Batching: one bad row")
async def test_only_the_guilty_request_fails(model, threads, executor):
    m = model()
    asked = await m.asked(m.run([[1.0]]), m.run([[-1.0]]), m.run([[3.0]]))
    await threads.release()
    good, bad, fine = await asyncio.gather(*asked, return_exceptions=True)
    assert values([good, fine]) == [[[1.0]], [[3.0]]]
    assert isinstance(bad, InvalidArgument)
    assert executor.shapes == [(3, 1), (1, 1), (1, 1), (1, 1)]
    assert m.sample(":pyserving:batching:reruns_total") == 3


@pytest.mark.proves("difference: Batching: one bad row")
async def test_all_share_the_error_of_a_model_that_requests_may_change(model, threads, executor):
    m = model(may_rerun=False)
    asked = await m.asked(m.run([[1.0]]), m.run([[-1.0]]))
    await threads.release()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(error) for error in errors] == ["a row is negative"] * 2
    assert errors[0] is not errors[1]
    assert len(executor.shapes) == 1


@pytest.mark.proves("difference: Batching: one bad row")
@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE])
async def test_what_is_wrong_at_the_moment_is_not_run_again(model, threads, executor, code):
    m = model()
    executor.error = error_for(code, "not now")
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0]]))
    await threads.release()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [(error.code, str(error)) for error in errors] == [(code, "not now")] * 2
    assert len(executor.shapes) == 1


async def test_running_again_ends_when_it_is_no_use(model, threads, executor):
    m = model()
    asked = await m.asked(*(m.run([[-1.0]]) for _ in range(40)))
    await threads.release()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, InvalidArgument) for error in errors)
    assert len(executor.shapes) == 17


async def test_error_that_is_no_status_reaches_everybody(model, threads, executor):
    def fail() -> None:
        raise ZeroDivisionError

    m = model()
    executor.before_run = fail
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0]]))
    await threads.release()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2


@pytest.mark.proves("difference: Batching: a request past its deadline, or cancelled")
async def test_deadline_in_the_queue_is_kept_and_the_request_never_runs(model, threads, executor, clock):
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    (late,) = await m.asked(m.run([[2.0]], deadline=now() + HOUR))
    clock.advance(HOUR)
    with pytest.raises(DeadlineExceeded, match=r"^Run\(\) timeout exceeded while waiting in batching queue$"):
        await late
    await threads.release()
    await asyncio.gather(*asked)
    assert executor.shapes == [(1, 1)]
    assert m.dropped("deadline") == 1
    assert m.sample(":pyserving:batching:queue_depth") == 0


async def test_hundred_short_deadlines_behind_a_long_batch(model, threads, executor, clock):
    m = model(max_batch_size=100)
    (long,) = await m.asked(m.run(rows(100)))
    short = await m.asked(*(m.run(rows(1), deadline=now() + HOUR) for _ in range(100)))
    clock.advance(HOUR)
    errors = await asyncio.gather(*short, return_exceptions=True)
    assert not long.done()
    assert {type(error) for error in errors} == {DeadlineExceeded}
    await threads.release()
    await long
    assert executor.shapes == [(100, 2)]


async def test_deadline_already_past_is_answered_without_waiting(model, threads):
    m = model()
    with pytest.raises(DeadlineExceeded):
        await m.run([[1.0]], deadline=now())
    assert not threads.held


async def test_deadline_during_the_run_is_answered_on_time_with_the_version_held(model, threads, clock, executor):
    handle = Handles()
    m = model()
    (late,) = await m.asked(m.run([[1.0]], deadline=now() + HOUR, handle=handle))
    assert handle.open == 2
    clock.advance(HOUR)
    with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
        await late
    assert handle.open == 2
    await threads.release()
    assert handle.open == 1


@pytest.mark.proves("difference: Batching: a request past its deadline, or cancelled")
async def test_cancelled_request_never_runs(model, threads, executor):
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    (gone,) = await m.asked(m.run([[2.0]]))
    gone.cancel()
    await turns()
    await threads.release()
    await asyncio.gather(*asked)
    assert gone.cancelled()
    assert executor.shapes == [(1, 1)]
    assert m.dropped("cancelled") == 1


@pytest.mark.proves("difference: Batching: a request past its deadline, or cancelled")
async def test_request_cancelled_in_the_turn_in_which_its_batch_is_formed_never_runs(model, threads, executor):
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    gone, *others = await m.asked(m.run([[2.0]]), m.run([[3.0]]))
    gone.cancel()
    await threads.release()  # before the one that was cancelled could tell anybody
    assert values(await asyncio.gather(*asked, *others)) == [[[1.0]], [[3.0]]]
    assert executor.shapes == [(1, 1), (1, 1)]
    assert m.dropped("cancelled") == 1


async def test_batch_of_nobody_is_not_run(model, threads, executor):
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    gone = await m.asked(m.run([[2.0]]), m.run([[3.0]]))
    for each in gone:
        each.cancel()
    await threads.release()
    await asyncio.gather(*asked)
    assert executor.shapes == [(1, 1)]
    assert m.dropped("cancelled") == 2
    assert m.sample(":pyserving:batching:queue_depth") == 0


async def test_depth_is_told_though_all_that_waited_are_expired(model, threads, clock):
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    late = await m.asked(m.run([[2.0]], deadline=now() + HOUR))
    clock.advance(HOUR)
    await threads.release()  # before the timer has had its turn
    assert m.sample(":pyserving:batching:queue_depth") == 0
    assert m.dropped("deadline") == 1
    await asyncio.gather(*asked, *late, return_exceptions=True)


async def test_first_run_is_no_measure_of_those_that_come_after_it(model, threads, executor, monkeypatch):
    ticks = Ticks(monkeypatch, "pyserving.batch_lane", "pyserving.batch_flight")
    executor.before_run = lambda: ticks.advance(HOUR)
    m = model()
    asked = await m.asked(m.run([[1.0]]))
    await threads.release()
    asked += await m.asked(m.run([[2.0]], deadline=now() + HOUR / 2), m.run([[3.0]]))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0]], [[3.0]]]
    assert executor.shapes == [(1, 1), (2, 1)]


async def test_run_that_nobody_waits_for_is_forgotten_as_soon_as_it_has_ended(model, threads, clock):
    m = model()
    late = await m.asked(*(m.run(np.ones((1, 1 << 16), np.float32), deadline=now() + HOUR) for _ in range(2)))
    clock.advance(HOUR)
    assert {type(error) for error in await asyncio.gather(*late, return_exceptions=True)} == {DeadlineExceeded}
    flight = weakref.ref(threads.held[0].__self__)
    late.clear()
    await threads.release()
    await turns()
    assert flight() is None


async def test_run_that_nobody_waits_for_and_does_not_end_gets_a_stand_in(executor, running, clock):
    async with Workers("batch", 1) as batches:
        m = Model(executor, running, batches)
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        gate = threading.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(arrived.set)
            gate.wait()

        executor.before_run = wait
        stuck = asyncio.ensure_future(m.run([[1.0]]))
        await arrived.wait()
        stuck.cancel()
        executor.before_run = lambda: None
        (waiting,) = await m.asked(m.run([[2.0]]))
        assert not waiting.done()
        clock.advance(STUCK_SECONDS)
        assert values([await waiting]) == [[[2.0]]]
        gate.set()
    assert executor.shapes == [(1, 1), (1, 1)]


@pytest.mark.proves("field BatchingParameters.max_enqueued_batches")
async def test_full_queue_is_unavailable_and_counted(model, threads):
    m = model(max_batch_size=1, max_execution_batch_size=1, max_enqueued_batches=1)
    asked = await m.asked(m.run([[1.0]]))
    asked += await m.asked(m.run([[2.0]]))
    with pytest.raises(Unavailable, match="currently 1 batches enqueued and max_enqueued_batches is 1"):
        await m.run([[3.0]])
    assert m.dropped("full") == 1
    await threads.release()
    await asyncio.gather(*asked)


async def test_queue_is_not_full_while_a_thread_is_free(model, threads, executor):
    m = model(max_batch_size=1, max_execution_batch_size=1, max_enqueued_batches=1)
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0]]), m.run([[3.0]]))
    await threads.release()
    *answers, refused = await asyncio.gather(*asked, return_exceptions=True)
    assert values(answers) == [[[1.0]], [[2.0]]]
    assert isinstance(refused, Unavailable)
    assert m.dropped("full") == 1


@pytest.mark.proves("field BatchingParameters.max_batch_size")
async def test_request_larger_than_a_batch_is_refused(model):
    m = model(max_batch_size=2, max_execution_batch_size=2)
    with pytest.raises(InvalidArgument, match="Task size 3 is larger than maximum input batch size 2"):
        await m.run(rows(3))


@pytest.mark.proves(
    "field BatchingParameters.allowed_batch_sizes", "metric :tensorflow:serving:batching_session:padding_size"
)
async def test_batches_are_filled_up_to_an_allowed_size(model, threads, executor):
    m = model(max_batch_size=4, max_execution_batch_size=4, allowed_batch_sizes=(1, 4))
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0], [3.0]]))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0], [3.0]]]
    assert executor.shapes == [(4, 1)]
    assert m.sample(':tensorflow:serving:batching_session:padding_size_sum{execution_batch_size="4"}') == 1
    assert m.sample(":pyserving:batching:padding_bytes_total") == 4


async def test_lone_request_is_filled_up_too(model, threads, executor):
    m = model(max_batch_size=4, max_execution_batch_size=4, allowed_batch_sizes=(2, 4))
    asked = await m.asked(m.run([[1.0]]))
    await threads.release()
    assert values([await asked[0]]) == [[[1.0]]]
    assert executor.shapes == [(2, 1)]


@pytest.mark.proves(
    "field BatchingParameters.pad_variable_length_inputs", "difference: Batching: requests of different shapes"
)
async def test_variable_lengths_are_padded_with_their_own_first_element_and_not_cropped(model, threads, executor):
    m = model(pad_variable_length_inputs=True)
    asked = await m.asked(m.run(np.full((1, 2, 2), 7, np.float32)), m.run(np.full((1, 3, 3), 8, np.float32)))
    await threads.release()
    small, large = await asyncio.gather(*asked)
    assert small.outputs[0].tolist() == np.full((1, 3, 3), 7).tolist()
    assert large.outputs[0].tolist() == np.full((1, 3, 3), 8).tolist()
    assert executor.shapes == [(2, 3, 3)]


async def test_padding_that_would_make_much_of_little_is_not_done(model, threads, executor):
    m = model(pad_variable_length_inputs=True)
    asked = await m.asked(
        m.run(np.ones((1, 1, 100_000), np.float32)),
        m.run(np.ones((1, 100_000, 1), np.float32)),
        m.run(np.full((1, 2, 2), -1, np.float32)),
    )
    await threads.release()
    one, other, bad = await asyncio.gather(*asked, return_exceptions=True)
    assert (one.outputs[0].shape, other.outputs[0].shape) == ((1, 1, 100_000), (1, 100_000, 1))
    assert isinstance(bad, InvalidArgument)


async def test_requests_that_are_not_padded_share_nothing_but_the_batch(model, threads, monkeypatch):
    monkeypatch.setattr(batch_flight, "_MOST_PADDED_BYTES", 100)
    m = model(pad_variable_length_inputs=True)
    wide, high = np.ones((1, 1, 100), np.float32), np.ones((1, 100, 1), np.float32)
    asked = await m.asked(*(m.run(-array) for array in (wide, high) * 9), m.run(wide))
    await threads.release()
    *bad, good = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(error) for error in bad} == {InvalidArgument}
    assert good.outputs[0].shape == wide.shape
    for _ in range(MOST_REFUSALS):
        asked = await m.asked(m.run(wide), m.run(high))
        await threads.release()
        assert [result.outputs[0].shape for result in await asyncio.gather(*asked)] == [wide.shape, high.shape]
    assert m.session.place(m.session.plan(("x:0",), ("same:0",))) == "batched"
    assert m.sample(":pyserving:batching:reruns_total") == 0


async def test_requests_run_one_by_one_where_there_is_no_memory_to_merge_them(model, threads, executor, monkeypatch):
    def no_memory(*_: object) -> None:
        raise MemoryError

    m = model()
    monkeypatch.setattr(tensors.Arenas, "arrays", no_memory)
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0]]))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0]]]
    assert executor.shapes == [(1, 1), (1, 1)]


@pytest.mark.proves(
    "field BatchingParameters.enable_large_batch_splitting", "field BatchingParameters.max_execution_batch_size"
)
async def test_large_request_is_cut_and_put_together_again(model, threads, executor):
    m = model(max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True)
    content = np.arange(20, dtype=np.float32).reshape(10, 2)
    (asked,) = await m.asked(m.run(content, fetches=("same:0", "double:0")))
    await threads.release()
    result = await asked
    assert result.outputs[0].tolist() == content.tolist()
    assert result.outputs[1].tolist() == (content * 2).tolist()
    assert executor.shapes == [(4, 2), (4, 2), (2, 2)]


async def test_one_piece_that_fails_fails_its_request_and_spares_the_rest(model, threads, executor):
    m = model(max_batch_size=6, max_execution_batch_size=2, enable_large_batch_splitting=True)
    content = np.array([[-1.0], [0.0], [1.0], [2.0], [3.0], [4.0]], np.float32)
    (asked,) = await m.asked(m.run(content))
    await threads.release()
    with pytest.raises(InvalidArgument, match="a row is negative"):
        await asked
    assert executor.shapes == [(2, 1)]
    assert m.sample(":pyserving:batching:queue_depth") == 0


@pytest.mark.proves("difference: Batching: no rows, scalars, no inputs, outputs without rows")
@pytest.mark.parametrize("fetch", ["mean:0", "rows:0"])
async def test_outputs_without_rows_are_run_one_by_one_and_from_then_on_alone(model, threads, executor, fetch):
    m = model()
    asked = await m.asked(m.run([[1.0]], fetches=(fetch,)), m.run([[2.0], [4.0]], fetches=(fetch,)))
    await threads.release()
    one, other = values(await asyncio.gather(*asked))
    assert (one, other) == ((1.0, 3.0) if fetch == "mean:0" else ([1] * 7, [2] * 7))
    assert executor.shapes == [(3, 1), (1, 1), (2, 1)]
    await m.run([[1.0]], fetches=(fetch,))
    assert not threads.held


async def test_model_that_refuses_every_batch_is_not_asked_again(model, threads, executor):
    m = model()
    executor.error = Internal("one row only")
    for _ in range(MOST_REFUSALS):
        asked = await m.asked(m.run([[1.0]]), m.run([[2.0]]))
        await threads.release()
        assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0]]]
    executor.shapes.clear()
    assert values(await asyncio.gather(m.run([[1.0]]), m.run([[2.0]]))) == [[[1.0]], [[2.0]]]
    assert executor.shapes == [(1, 1), (1, 1)]


@pytest.mark.proves("difference: Batching: no rows, scalars, no inputs, outputs without rows")
async def test_request_that_cannot_be_put_together_again_is_run_whole(model, threads, executor):
    m = model(max_batch_size=6, max_execution_batch_size=2, enable_large_batch_splitting=True)
    (cut,) = await m.asked(m.run(rows(5), fetches=("mean:0",)))
    await threads.release()
    assert (await cut).outputs[0] == 1.0
    assert executor.shapes == [(2, 2), (5, 2)]
    await m.run(rows(6), fetches=("mean:0",))
    assert executor.shapes[2:] == [(6, 2)]


async def test_request_that_cannot_be_put_together_again_fails_where_it_may_have_changed_the_model(model, threads):
    m = model(may_rerun=False, max_batch_size=4, max_execution_batch_size=2, enable_large_batch_splitting=True)
    (cut,) = await m.asked(m.run(rows(3), fetches=("mean:0",)))
    await threads.release()
    with pytest.raises(FailedPrecondition, match="Batched output tensor has 0 dimensions"):
        await cut


async def test_pieces_that_were_padded_apart_are_no_answer(model, threads, executor):
    m = model(
        max_batch_size=4, max_execution_batch_size=2, enable_large_batch_splitting=True, pad_variable_length_inputs=True
    )
    small, large = np.ones((3, 2), np.float32), np.full((2, 3), 5, np.float32)
    asked = await m.asked(m.run(small), m.run(large))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [small.tolist(), large.tolist()]
    assert executor.shapes == [(2, 2), (2, 3), (1, 3), (3, 2)]
    assert m.session.place(m.session.plan(("x:0",), ("same:0",))) == "batched"


async def test_request_that_is_cut_may_have_no_outputs(model, threads):
    m = model(max_batch_size=4, max_execution_batch_size=2, enable_large_batch_splitting=True)
    (cut,) = await m.asked(m.run(rows(4), fetches=()))
    await threads.release()
    assert list((await cut).outputs) == []


@pytest.mark.proves("difference: Batching: no rows, scalars, no inputs, outputs without rows")
async def test_output_with_rows_of_its_own_is_never_divided(model, threads, executor):
    names = TensorInfo("rows:0", DataType.DT_FLOAT, (7,))
    scores = TensorInfo("same:0", DataType.DT_FLOAT, (-1, 2))
    x = TensorInfo("x:0", DataType.DT_FLOAT, (-1, 2))
    executor.signature_defs = {"serving_default": SignatureDef({"x": x}, {"names": names, "scores": scores})}
    m = model()
    fetches = ("rows:0", "same:0")
    assert m.session.place(m.session.plan(("x:0",), fetches)) == "workers"
    results = await asyncio.gather(*(m.run(rows(1), fetches=fetches) for _ in range(7)))
    assert values(results) == [[1] * 7] * 7
    asked = await m.asked(*(m.run(rows(1), fetches=("same:0",)) for _ in range(7)))
    await threads.release()
    await asyncio.gather(*asked)
    assert executor.shapes[7:] == [(7, 2)]


async def test_lone_request_shows_that_outputs_are_without_rows(model, threads, executor):
    m = model()
    asked = await m.asked(m.run(rows(1), fetches=("rows:0",)))
    await threads.release()
    asked += [asyncio.ensure_future(m.run(rows(1), fetches=("rows:0",))) for _ in range(7)]
    assert values(await asyncio.gather(*asked)) == [[1] * 7] * 8
    assert not threads.held


async def test_outputs_without_rows_fail_where_requests_may_change_the_model(model, threads):
    m = model(may_rerun=False)
    asked = await m.asked(m.run([[1.0]], fetches=("mean:0",)), m.run([[2.0]], fetches=("mean:0",)))
    await threads.release()
    for error in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(error, FailedPrecondition)
        assert str(error) == "Batched output tensor has 0 dimensions"


async def test_strings_are_merged_and_split(model, threads, executor):
    m = model()
    words = [np.array([word], object) for word in (b"a", b"bc", b"")]
    asked = await m.asked(*(m.run(word, feeds=("s:0",)) for word in words))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[b"a"], [b"bc"], [b""]]
    assert executor.shapes == [(3,)]


async def test_answer_that_is_kept_is_not_overwritten_by_later_batches(model, threads):
    m = model()
    kept = []
    for number in range(5):
        asked = await m.asked(*(m.run(np.full((1, 1 << 16), number, np.float32)) for _ in range(2)))
        await threads.release()
        kept.append(await asyncio.gather(*asked))
    for number, results in enumerate(kept):
        assert all((result.outputs[0] == number).all() for result in results)


async def test_memory_is_used_again_once_the_answers_are_gone(model, threads):
    m = model()
    addresses = set()
    for number in range(3):
        asked = await m.asked(*(m.run(np.full((1, 1 << 16), number, np.float32)) for _ in range(2)))
        await threads.release()
        results = await asyncio.gather(*asked)
        addresses.add(results[0].outputs[0].ctypes.data)
        assert results[0].outputs[0].ctypes.data % 64 == 0
        del results, asked
    assert len(addresses) <= 2


@pytest.mark.proves("field BatchingParameters.batch_timeout_micros")
async def test_batch_that_is_not_full_waits_for_its_timeout(model, threads, clock):
    m = model(max_batch_size=2, max_execution_batch_size=2, batch_timeout_micros=int(HOUR * 1e6))
    asked = await m.asked(m.run([[1.0]]))
    assert not threads.held
    clock.advance(HOUR)
    await threads.something_came.wait()
    await threads.release()
    assert values([await asked[0]]) == [[[1.0]]]


async def test_batch_that_is_full_does_not_wait(model, threads):
    m = model(max_batch_size=2, max_execution_batch_size=2, batch_timeout_micros=int(HOUR * 1e6))
    asked = await m.asked(m.run([[1.0]]), m.run([[2.0]]))
    await threads.release()
    assert values(await asyncio.gather(*asked)) == [[[1.0]], [[2.0]]]


async def test_models_take_turns(executor, running, threads):
    scheduler = SharedBatchScheduler(threads)
    busy = Model(executor, running, threads, scheduler=scheduler, max_batch_size=1, max_execution_batch_size=1)
    other = Model(executor, running, threads, scheduler=scheduler)
    asked = await busy.asked(*(busy.run(rows(1, 1)) for _ in range(4)))
    asked += await other.asked(other.run(rows(3, 2)))
    await threads.release()
    await asyncio.gather(*asked)
    assert executor.shapes.index((3, 2)) == 2


@pytest.mark.proves("field BatchingParameters.num_batch_threads")
async def test_batches_run_in_threads_of_the_scheduler_and_no_more_at_once(executor, running):
    async with Workers("batch", 2) as batches:
        m = Model(executor, running, batches, max_batch_size=1, max_execution_batch_size=1)
        await asyncio.gather(*(m.run([[1.0]]) for _ in range(8)))
    assert {thread.name for thread in executor.threads} <= {"batch-0", "batch-1"}


@pytest.fixture
async def short(
    executor: RowExecutor, running: Workers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Awaitable[Model]]]:
    """Makes models whose runs have proved to be so short that they are made on the loop."""
    executor.is_short = True
    async with Workers("batch", 1) as batches:

        async def make(pause_seconds: float = 0.0, **options: Any) -> Model:
            monkeypatch.setattr(LoopBatches, "PAUSE_SECONDS", pause_seconds)
            m = Model(executor, running, batches, **options)
            plan = m.session.plan(("x:0",), ("same:0",))
            while plan.choice([rows(1)]).on_loop is None:
                await m.run([[0.0]])
            await turns()
            executor.shapes.clear()
            executor.threads.clear()
            return m

        yield make


async def test_lone_short_request_runs_at_once_on_the_loop(short, executor):
    m = await short()
    with pytest.raises(StopIteration) as ended:  # without ever waiting
        m.run([[1.0]]).send(None)
    assert ended.value.value.outputs[0].tolist() == [[1.0]]
    assert executor.threads == [threading.main_thread()]
    assert m.sample(":pyserving:batching:batch_size_count") < 20


async def test_short_requests_of_one_turn_are_one_run_on_the_loop(short, executor):
    m = await short(pause_seconds=float("inf"))
    results = await asyncio.gather(*(m.run([[float(number)]]) for number in range(8)))
    assert values(results) == [[[float(number)]] for number in range(8)]
    assert executor.shapes == [(8, 1)]
    assert set(executor.threads) == {threading.main_thread()}


async def test_who_follows_at_once_waits_for_those_that_come_with_him(short, executor, monkeypatch):
    m = await short()
    await m.run([[1.0]])
    monkeypatch.setattr(LoopBatches, "PAUSE_SECONDS", float("inf"))
    await asyncio.gather(*(m.run([[1.0]]) for _ in range(3)))
    assert executor.shapes == [(1, 1), (3, 1)]


async def test_guilty_request_on_the_loop_fails_by_itself(short, executor):
    m = await short(pause_seconds=float("inf"))
    good, bad = await asyncio.gather(m.run([[1.0]]), m.run([[-1.0]]), return_exceptions=True)
    assert values([good]) == [[[1.0]]]
    assert isinstance(bad, InvalidArgument)


async def test_mistake_on_the_loop_reaches_those_who_asked(short, executor):
    def fail() -> None:
        raise ZeroDivisionError

    m = await short(pause_seconds=float("inf"))
    executor.before_run = fail
    errors = await asyncio.gather(m.run([[1.0]]), m.run([[2.0]]), return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2


async def test_with_a_timeout_short_requests_wait_all_the_same(short, executor):
    m = await short(batch_timeout_micros=1)
    await asyncio.gather(m.run([[1.0]]), m.run([[2.0]]))
    assert threading.main_thread() not in executor.threads


async def test_short_request_for_which_this_turn_has_no_time_runs_in_a_later_one(short, executor):
    async def run_late(m: Model) -> RunResult:
        m.session._loop_time.spend(1e6)
        return await m.run([[3.0]])

    m = await short(pause_seconds=float("inf"))
    results = await asyncio.gather(m.run([[1.0]]), m.run([[2.0]]), run_late(m))
    assert values(results) == [[[1.0]], [[2.0]], [[3.0]]]
    assert executor.shapes == [(2, 1), (1, 1)]


async def test_who_has_waited_for_a_turn_goes_to_a_thread_if_runs_are_long_by_then(short, executor):
    async def run_late(m: Model) -> RunResult:
        m.session._loop_time.spend(1e6)
        return await m.run([[3.0]])

    m = await short(pause_seconds=float("inf"))
    late = asyncio.ensure_future(run_late(m))
    await turns(1)
    m.session.plan(("x:0",), ("same:0",)).choice([rows(1)]).record_on_loop(50_000, 50_000)
    assert values([await late]) == [[[3.0]]]
    assert threading.main_thread() not in executor.threads


async def test_runs_that_are_long_of_a_sudden_are_few(short, executor, monkeypatch):
    m = await short(pause_seconds=float("inf"))
    ticks = Ticks(monkeypatch, "pyserving.loop_batches", "pyserving.loop_time", "pyserving.batching.run")
    executor.before_run = lambda: ticks.advance(HOUR)
    guests = 4 * LoopBatches.FIRST_COMPANY
    await asyncio.gather(*(m.run([[1.0]]) for _ in range(guests)))
    assert executor.shapes == [(LoopBatches.FIRST_COMPANY, 1), (guests - LoopBatches.FIRST_COMPANY, 1)]
    assert set(executor.threads) == {threading.main_thread()}


async def test_known_requests_are_put_off_to_the_end_of_the_turn(short, executor, monkeypatch):
    m = await short()
    handle = Handles()
    plan = m.session.plan(("x:0",), ("same:0",))
    prepared, at_once = m.session.prepare(plan, [rows(1)], handle.copy)
    assert at_once([rows(1, 7.0)]).outputs[0].tolist() == [[7.0, 7.0]]
    executor.shapes.clear()
    assert prepared([rows(1, 1.0)]).outputs[0].tolist() == [[1.0, 1.0]]
    monkeypatch.setattr(LoopBatches, "PAUSE_SECONDS", float("inf"))
    guests = [prepared([rows(1, value)]) for value in (2.0, 3.0)]
    finished = []
    for guest in guests:
        guest.finish = lambda guest, outcome, micros: finished.append((outcome[0].tolist(), handle.open))
    assert handle.open == 2
    await turns(1)
    assert finished == [([[2.0, 2.0]], 2), ([[3.0, 3.0]], 2)]
    assert handle.open == 1
    assert executor.shapes == [(1, 2), (2, 2)]


async def test_known_requests_of_a_model_that_is_not_short_go_the_long_way(model):
    m = model()
    for run in m.session.prepare(m.session.plan(("x:0",), ("same:0",)), [rows(1)], Handles().copy):
        assert run([rows(1)]) is None


async def test_licence_for_the_loop_comes_back_though_batches_are_never_of_one(short, executor):
    m = await short()
    choice = m.session.plan(("x:0",), ("same:0",)).choice([rows(2)])
    choice.record_on_loop(2_000, 2_000)
    assert choice.on_loop is None
    for _ in range(10_000):  # a busy machine takes some for long ones
        await asyncio.gather(*(m.run([[0.0], [1.0]]) for _ in range(4)))
        if choice.on_loop is not None:
            break
    assert choice.on_loop is not None
    assert (1, 1) not in executor.shapes


@pytest.mark.proves("field ModelWarmupOptions.enable_all_batch_sizes_warmup")
async def test_warm_up_runs_every_allowed_size(model, executor):
    m = model(max_batch_size=4, max_execution_batch_size=4, allowed_batch_sizes=(2, 4))
    heard: list[float] = []
    here = m.session.in_calling_thread(heard.append)
    await here.run(here.plan(("x:0",), ("same:0",)), [rows(1)])
    assert executor.shapes == [(1, 2), (2, 2), (4, 2)]
    assert len(heard) == 3


@pytest.mark.proves(
    "metric :tensorflow:serving:batching_session:queuing_latency",
    "metric :tensorflow:serving:batching_session:wrapped_run_count",
    "metric :tensorflow:serving:batching_session:input_batch_size",
    "metric :tensorflow:serving:batching_session:processed_batch_size",
)
async def test_metrics_tell_of_batches(model, threads):
    m = model(max_batch_size=10, max_execution_batch_size=10)
    asked = await m.asked(m.run(rows(2)), m.run(rows(3)))
    await threads.release()
    await asyncio.gather(*asked)
    queue = '{model="m",version="1",signature="serving_default"}'
    assert m.sample(f":pyserving:batching:batch_size_sum{queue}") == 5
    assert m.sample(f":pyserving:batching:fill_percent_sum{queue}") == 50
    assert m.sample(f":pyserving:batching:wait_micros_count{queue}") == 2
    assert m.sample(":tensorflow:serving:batching_session:wrapped_run_count{}") == 1
    assert m.sample(':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=""}') == 2
    assert m.sample(":tensorflow:serving:batching_session:input_batch_size_sum{}") == 5
    assert m.sample(":tensorflow:serving:batching_session:processed_batch_size_sum{}") == 5


async def test_request_that_is_cut_counts_once_with_all_its_rows(model, threads):
    m = model(max_batch_size=6, max_execution_batch_size=2, enable_large_batch_splitting=True)
    asked = await m.asked(m.run(rows(5)))
    await threads.release()
    await asyncio.gather(*asked)
    assert m.sample(":tensorflow:serving:batching_session:input_batch_size_sum{}") == 5
    assert m.sample(":tensorflow:serving:batching_session:input_batch_size_count{}") == 1
    assert m.sample(":tensorflow:serving:batching_session:wrapped_run_count{}") == 3


@pytest.mark.parametrize(
    ("fetches", "signature"),
    [(("same:0",), "serving_default"), (("double:0", "same:0"), "both"), (("double:0",), "both"), (("rows:0",), "")],
)
async def test_queue_is_labelled_with_the_signature_it_serves(model, threads, fetches, signature):
    m = model()
    asked = await m.asked(m.run(rows(1), fetches=fetches))
    assert m.dropped("full", signature) == 0
    await threads.release()
    await asyncio.gather(*asked)


async def test_queues_of_one_label_are_counted_together(model, threads):
    m = model()
    asked = await m.asked(m.run(rows(1)))
    asked += await m.asked(*(m.run(rows(1), fetches=("double:0", "same:0")) for _ in range(2)))
    asked += await m.asked(m.run(rows(1), fetches=("double:0",)))
    depth = ':pyserving:batching:queue_depth{model="m",version="1",signature="both"}'
    assert m.sample(depth) == 3
    await threads.release()
    await asyncio.gather(*asked)
    assert m.sample(depth) == 0


@pytest.mark.parametrize("options", [{}, {"pad_variable_length_inputs": True}, {"batch_timeout_micros": 1}])
async def test_session_that_is_let_go_of_is_gone_without_a_collection(running, options):
    executor = RowExecutor()
    executor.is_short = True
    async with Workers("batch", 2) as batches:
        m = Model(executor, running, batches, **options)
        for _ in range(20):
            await asyncio.gather(*(m.run(rows(1)) for _ in range(8)), m.run(rows(2), deadline=now() + HOUR))
        with pytest.raises(DeadlineExceeded):
            await m.run(rows(1), deadline=now())
        (lane,) = m.session._lanes.values()
        kept = [weakref.ref(each) for each in (m.session, lane, executor)]
        gc.disable()
        try:
            del lane, executor, m
            await batches.idle()
            await turns()
            assert [each() for each in kept] == [None] * 3
        finally:
            gc.enable()


async def test_queues_without_work_are_forgotten(model, threads, monkeypatch):
    monkeypatch.setattr(BatchingSession, "MOST_ROUTES", 2)
    m = model()
    for fetches in (("same:0",), ("double:0",), ("same:0", "double:0"), ("same:0",)):
        asked = await m.asked(m.run(rows(1), fetches=fetches))
        await threads.release()
        assert len((await asked[0]).outputs) == len(fetches)
        assert len(m.session._routes) <= 2


async def test_place_of_a_plan_is_in_batches_as_long_as_the_model_takes_them(model, threads):
    m = model()
    plan = m.session.plan(("x:0",), ("same:0",))
    assert m.session.place(plan) == "batched"
    asked = await m.asked(m.run([[1.0]]))
    await threads.release()
    await asyncio.gather(*asked)
    m.session._lanes[frozenset({"x:0"}), frozenset({"same:0"})].verdict.is_batchable = False
    assert m.session.place(plan) == "workers"


@pytest.mark.parametrize(("timeout", "place"), [(0, "loop"), (1000, "batched")])
async def test_place_of_short_runs_is_the_loop_unless_batches_wait_for_more(model, timeout, place):
    m = model(batch_timeout_micros=timeout)
    plan = m.session.plan(("x:0",), ("same:0",))
    choice = plan.choice([rows(1)])
    choice.on_loop = choice.next()
    assert m.session.place(plan) == place
