"""Runs in threads: what they answer, when they are given up, and what they keep loaded meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping

import numpy as np
import pytest

from pyserving.errors import DeadlineExceeded, Internal, InvalidArgument, ServingError
from pyserving.executors.executor import Plan, Way
from pyserving.session import DirectSession, ExecutionPlan
from pyserving.signature import DataType, SignatureDef
from pyserving.workers import Workers
from tests.clock import Clock

X = np.array([1, 2], np.float32)


class Gate:
    """Where threads wait until the test lets them pass."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self.arrived = asyncio.Event()
        """A thread stands at the gate."""
        self.passed = 0

    def wait(self) -> None:
        """In the thread."""
        self._loop.call_soon_threadsafe(self.arrived.set)
        self._open.wait()
        self.passed += 1

    def open(self) -> None:
        self._open.set()


class AddingExecutor:
    """Feeds of floats, and fetches named by what is to be added to the first: `1:0`, `2:0`; others are unknown."""

    signature_defs: Mapping[str, SignatureDef] = {}
    signature_def_map = b""

    def __init__(self) -> None:
        self.before_run: Callable[[], None] = lambda: None
        self.before_plan: Callable[[], None] = lambda: None
        self.planned: list[tuple[str, ...]] = []
        self.runs = 0
        self.shapes: list[tuple[int, ...]] = []
        """Of the first array of each run."""

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        self.before_plan()
        self.planned.append(fetches)
        try:
            added = [int(name.removesuffix(":0")) for name in fetches]
        except ValueError:
            raise InvalidArgument(f"Unknown tensor in {fetches}") from None

        def run(*arrays: np.ndarray) -> list[np.ndarray]:
            self.before_run()
            self.runs += 1
            self.shapes.append(arrays[0].shape)
            return [arrays[0] + number for number in added]

        return Plan(feeds, fetches, (DataType.DT_FLOAT,) * len(feeds), (Way("pool", run), Way("caller", run)))

    def close(self) -> None:
        pass


class CountingHandle:
    """Counts how many of its kind are open, as a ServableHandle does on its version."""

    def __init__(self, open_handles: list[CountingHandle] | None = None) -> None:
        self.open_handles = [] if open_handles is None else open_handles
        self.open_handles.append(self)

    def copy(self) -> CountingHandle:
        return CountingHandle(self.open_handles)

    def close(self) -> None:
        self.open_handles.remove(self)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers("run", 1) as workers:
        yield workers


@pytest.fixture
def executor() -> AddingExecutor:
    return AddingExecutor()


@pytest.fixture
def session(executor: AddingExecutor, workers: Workers) -> DirectSession:
    return DirectSession(executor, workers)


@pytest.fixture
def plan(session: DirectSession) -> ExecutionPlan:
    return session.plan(("x:0",), ("1:0",))


@pytest.fixture
async def gate(executor: AddingExecutor) -> AsyncIterator[Gate]:
    """Holds up every run."""
    gate = Gate()
    executor.before_run = gate.wait
    yield gate
    gate.open()


@pytest.fixture
async def clock() -> Clock:
    return Clock(asyncio.get_running_loop())


HOUR = 3600.0


def in_an_hour() -> float:
    return asyncio.get_running_loop().time() + HOUR


async def finished(workers: Workers) -> None:
    """Returns when the jobs submitted so far have landed."""
    await workers.idle()


async def test_outputs_come_in_the_order_of_the_fetches_with_the_time_they_took(session):
    result = await session.run(session.plan(("x:0",), ("2:0", "1:0")), [X])
    assert [output.tolist() for output in result.outputs] == [[3, 4], [2, 3]]
    assert 0 < result.runtime_micros < 60e6


async def test_runs_are_measured_until_a_way_is_kept(session, plan):
    for _ in range(12):
        await session.run(plan, [X])
    assert list(plan.choices) == [2]
    assert plan.choices[2] in {"pool", "caller"}


@pytest.mark.proves("difference: TensorFlow Lite: an input of another type")
async def test_wrong_dtype_never_reaches_the_executor(session, executor, plan):
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[0\] to be float but int64 is provided$"):
        await session.run(plan, [np.array([1])])
    assert executor.runs == 0


async def test_error_of_the_run_is_raised_and_not_measured(session, executor, plan):
    def fail() -> None:
        raise Internal("out of order")

    executor.before_run = fail
    for _ in range(12):
        with pytest.raises(Internal, match="out of order"):
            await session.run(plan, [X])
    assert plan.choices == {2: None}


async def test_handle_is_held_twice_while_a_run_is_in_its_thread(session, plan, gate):
    handle = CountingHandle()
    running = asyncio.create_task(session.run(plan, [X], handle))
    await gate.arrived.wait()
    assert len(handle.open_handles) == 2
    gate.open()
    await running
    assert handle.open_handles == [handle]


@pytest.mark.proves("difference: Deadlines")
async def test_deadline_is_answered_on_time_while_the_run_goes_on(session, executor, plan, gate, workers, clock):
    handle = CountingHandle()
    running = asyncio.create_task(session.run(plan, [X], handle, in_an_hour()))
    await gate.arrived.wait()
    clock.advance(HOUR)
    with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
        await running
    assert gate.passed == 0
    handle.close()
    assert len(handle.open_handles) == 1  # the run's own: the version must not be unloaded under it
    gate.open()
    await finished(workers)
    assert executor.runs == 1
    assert handle.open_handles == []


async def test_run_that_was_given_up_is_measured_all_the_same(session, plan, gate, workers, clock):
    choice = plan.choice([X])
    recorded = []
    choice.record = lambda way, micros, cpu_micros: recorded.append(micros)
    running = asyncio.create_task(session.run(plan, [X], None, in_an_hour()))
    await gate.arrived.wait()
    clock.advance(HOUR)
    with pytest.raises(DeadlineExceeded):
        await running
    gate.open()
    await finished(workers)
    assert len(recorded) == 1


@pytest.mark.proves("difference: Deadlines")
async def test_run_whose_deadline_passes_in_the_queue_never_starts(session, executor, plan, gate, workers, clock):
    first = asyncio.create_task(session.run(plan, [X]))
    await gate.arrived.wait()
    handle = CountingHandle()
    second = asyncio.create_task(session.run(plan, [X], handle, in_an_hour()))
    await asyncio.sleep(0)  # it is in the queue
    clock.advance(HOUR)
    with pytest.raises(DeadlineExceeded):
        await second
    gate.open()
    await first
    await finished(workers)
    assert executor.runs == 1
    assert handle.open_handles == [handle]


async def test_deadline_already_past_is_answered_without_a_run(session, executor, plan, workers):
    with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
        await session.run(plan, [X], None, asyncio.get_running_loop().time())
    await finished(workers)
    assert executor.runs == 0


async def test_deadline_far_away_changes_nothing(session, plan):
    result = await session.run(plan, [X], None, in_an_hour())
    assert result.outputs[0].tolist() == [2, 3]


async def test_cancelled_call_leaves_its_run_to_end_with_the_version_held(session, executor, plan, gate, workers):
    handle = CountingHandle()
    running = asyncio.create_task(session.run(plan, [X], handle, in_an_hour()))
    await gate.arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    handle.close()
    assert len(handle.open_handles) == 1
    gate.open()
    await finished(workers)
    assert handle.open_handles == []


async def test_cancelled_call_whose_run_has_not_started_never_runs(session, executor, plan, gate, workers):
    first = asyncio.create_task(session.run(plan, [X]))
    await gate.arrived.wait()
    second = asyncio.create_task(session.run(plan, [X]))
    await asyncio.sleep(0)  # it is in the queue
    second.cancel()
    gate.open()
    await first
    await finished(workers)
    assert executor.runs == 1


async def test_closed_workers_leave_no_handle_open(executor):
    async with Workers("run", 1) as workers:
        session = DirectSession(executor, workers)
    handle = CountingHandle()
    with pytest.raises(RuntimeError, match="closed"):
        await session.run(session.plan(("x:0",), ("1:0",)), [X], handle)
    assert handle.open_handles == [handle]


def test_plan_of_a_signature_is_made_once(executor):
    session = DirectSession(executor, Workers("run", 1))
    assert session.plan(("x:0",), ("1:0",)) is session.plan(("x:0",), ("1:0",))
    assert executor.planned == [("1:0",)]


def test_plan_that_cannot_be_made_keeps_its_error(executor):
    session = DirectSession(executor, Workers("run", 1))
    errors = [plan_error(session) for _ in range(2)]
    assert [str(error) for error in errors] == ["Unknown tensor in ('no:0',)"] * 2
    assert errors[0] is not errors[1]
    assert executor.planned == [("no:0",)]


def plan_error(session: DirectSession) -> ServingError:
    with pytest.raises(InvalidArgument) as raised:
        session.plan(("x:0",), ("no:0",))
    return raised.value


async def test_subset_is_planned_in_a_worker_and_once_for_all_who_wait(session, executor):
    threads = []
    executor.before_plan = lambda: threads.append(threading.current_thread())
    plans = await asyncio.gather(*(session.subset_plan(("x:0",), ("3:0",), None, None) for _ in range(3)))
    assert plans[0] is plans[1] is plans[2] is await session.subset_plan(("x:0",), ("3:0",), None, None)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert (await session.run(plans[0], [X])).outputs[0].tolist() == [4, 5]


async def test_subset_that_a_signature_has_is_its_plan(session, executor, plan):
    assert await session.subset_plan(("x:0",), ("1:0",), None, None) is plan
    assert executor.planned == [("1:0",)]


async def test_subset_that_cannot_be_planned_keeps_its_error(session, executor):
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="Unknown tensor"):
            await session.subset_plan(("x:0",), ("no:0",), None, None)
    assert executor.planned == [("no:0",)]


async def test_subset_used_longest_ago_is_forgotten(session, executor, monkeypatch):
    monkeypatch.setattr(DirectSession, "SUBSET_PLANS", 2)
    for fetch in ("1:0", "2:0", "1:0", "3:0", "1:0", "2:0"):
        await session.subset_plan(("x:0",), (fetch,), None, None)
    assert executor.planned == [("1:0",), ("2:0",), ("3:0",), ("2:0",)]


async def test_planning_a_subset_holds_the_version_and_keeps_the_deadline(session, executor, gate, workers, clock):
    executor.before_plan = gate.wait
    handle = CountingHandle()
    planning = asyncio.create_task(session.subset_plan(("x:0",), ("1:0",), handle, in_an_hour()))
    await gate.arrived.wait()
    clock.advance(HOUR)
    with pytest.raises(DeadlineExceeded):
        await planning
    handle.close()
    assert len(handle.open_handles) == 1
    gate.open()
    await finished(workers)
    assert handle.open_handles == []
    await session.subset_plan(("x:0",), ("1:0",), None, None)
    assert executor.planned == [("1:0",)]


async def test_calling_thread_runs_what_it_asks_for_and_hears_of_it(executor):
    session = DirectSession(executor, Workers("run", 1))
    micros = []
    here = session.in_calling_thread(micros.append)
    result = await here.run(here.plan(("x:0",), ("1:0",)), [X])
    assert result.outputs[0].tolist() == [2, 3]
    assert micros == [result.runtime_micros]
    with pytest.raises(InvalidArgument, match="to be float but double is provided"):
        await here.run(here.plan(("x:0",), ("1:0",)), [X.astype(np.float64)])
    assert executor.runs == 1


async def test_calling_thread_shares_the_plans_of_its_session(session, executor, plan):
    here = session.in_calling_thread(lambda micros: None)
    subset = await here.subset_plan(("x:0",), ("3:0",))
    assert await session.subset_plan(("x:0",), ("3:0",), None, None) is subset
    assert await here.subset_plan(("x:0",), ("1:0",)) is plan
    for _ in range(12):
        await here.run(plan, [X])
    assert plan.choices[2] in {"pool", "caller"}
    assert executor.planned == [("1:0",), ("3:0",)]


@pytest.mark.parametrize(
    ("shapes", "run"),
    [
        ([(2, 3)], [(2, 3), (1, 3), (4, 3)]),
        ([(2, 3), (2,)], [(2, 3), (1, 3), (4, 3)]),
        ([(2, 3), (1, 3)], [(2, 3)]),
        ([(0, 3)], [(0, 3)]),
        ([()], [()]),
    ],
)
async def test_calling_thread_runs_what_can_be_batched_in_each_batch_size_too(executor, shapes, run):
    here = DirectSession(executor, Workers("run", 1)).in_calling_thread(lambda micros: None, batch_sizes=(1, 4))
    plan = here.plan(tuple(f"x{number}:0" for number in range(len(shapes))), ("1:0",))
    result = await here.run(plan, [np.zeros(shape, np.float32) for shape in shapes])
    assert executor.shapes == run
    assert result.outputs[0].shape == shapes[0]
