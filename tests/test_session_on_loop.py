"""Runs on the event loop: which are made there, who waits meanwhile, and what a slow one costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping

import numpy as np
import pytest

from pyserving import loop_time as loop_time_module
from pyserving import session as session_module
from pyserving.errors import DeadlineExceeded, Internal, InvalidArgument
from pyserving.executors.execution_plan import Choice, ExecutionPlan
from pyserving.executors.executor import Plan, Way
from pyserving.loop_time import TURN_MICROS, LoopTime
from pyserving.session import NOT_AT_ONCE, DirectSession, RunResult
from pyserving.signature import DataType, SignatureDef
from pyserving.workers import Workers
from tests.clock import Clock

X = np.array([1, 2], np.float32)
SHORT, LONG = 20.0, 5_000.0


class FakeTime:
    """All threads' clocks, in seconds: they go on when a run says so."""

    def __init__(self) -> None:
        self.wall = self.cpu = 1000.0

    def work(self, micros: float) -> None:
        self.wall += micros / 1e6
        self.cpu += micros / 1e6

    def stand_still(self, micros: float) -> None:
        self.wall += micros / 1e6


class TimedExecutor:
    """`x + 1`, which takes as long as the test says, and notes where."""

    signature_defs: Mapping[str, SignatureDef] = {}
    signature_def_map = b""

    def __init__(self, time: FakeTime, *, is_bounded: bool = True) -> None:
        self.micros = SHORT
        self.spend = time.work
        self.before_run: Callable[[], None] = lambda: None
        self.on_loop: list[bool] = []
        """Of each run, whether it was in the main thread."""
        self._is_bounded = is_bounded

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        def run(*arrays: np.ndarray) -> list[np.ndarray]:
            self.on_loop.append(threading.current_thread() is threading.main_thread())
            self.before_run()
            self.spend(self.micros)
            return [arrays[0] + 1]

        ways = (Way("pool", run), Way("caller", run))
        return Plan(feeds, fetches, (DataType.DT_FLOAT,) * len(feeds), ways, self._is_bounded)

    def close(self) -> None:
        pass


@pytest.fixture
def time(monkeypatch) -> FakeTime:
    made = FakeTime()
    for module in (session_module, loop_time_module):
        monkeypatch.setattr(module, "perf_counter", lambda: made.wall)
        monkeypatch.setattr(module, "thread_time", lambda: made.cpu)
    return made


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers("run", 1) as workers:
        yield workers


@pytest.fixture
def executor(time: FakeTime) -> TimedExecutor:
    return TimedExecutor(time)


class Observed:
    """Names of the ways that runs went, in order."""

    def __init__(self) -> None:
        self.ways: list[str] = []

    def __call__(self, micros: float, way: str) -> None:
        self.ways.append(way)


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def loop_time() -> LoopTime:
    return LoopTime()


@pytest.fixture
def session(executor: TimedExecutor, workers: Workers, observed: Observed, loop_time: LoopTime) -> DirectSession:
    return DirectSession(executor, workers, observed, loop_time)


@pytest.fixture
def plan(session: DirectSession) -> ExecutionPlan:
    return session.plan(("x:0",), ("y:0",))


async def licensed(session: DirectSession, plan: ExecutionPlan) -> Choice:
    """The choice for X once it is run on the loop."""
    choice = plan.choice([X])
    for _ in range(100):
        if choice.on_loop is not None:
            await asyncio.sleep(0)  # a turn of its own for what comes next
            return choice
        await session.run(plan, [X])
    raise AssertionError("never on the loop")


async def test_place_of_a_plan_is_told(session, plan, executor):
    assert session.place(plan) == "workers"
    await licensed(session, plan)
    assert session.place(plan) == "loop"
    await session.run(plan, [np.ones(500, np.float32)])
    assert session.place(plan) == "mixed"
    executor.micros = LONG
    await session.run(plan, [X])
    assert session.place(plan) == "workers"
    assert session.in_calling_thread(lambda micros: None).place(plan) == "workers"


async def test_short_runs_come_to_be_made_on_the_loop(session, plan, executor, observed):
    await licensed(session, plan)
    assert not any(executor.on_loop)
    result = await session.run(plan, [X])
    assert result.outputs[0].tolist() == [2, 3]
    assert result.runtime_micros == pytest.approx(SHORT)
    assert executor.on_loop[-1]
    assert observed.ways[-1] == "loop"
    assert plan.choices == {2: "loop"}


async def test_each_size_of_input_earns_its_own_place(session, plan, executor):
    await licensed(session, plan)
    await session.run(plan, [np.zeros(100, np.float32)])
    assert not executor.on_loop[-1]


async def test_long_runs_stay_in_threads(session, plan, executor):
    executor.micros = LONG
    for _ in range(100):
        await session.run(plan, [X])
    assert not any(executor.on_loop)


async def test_runs_that_may_never_end_stay_in_threads(time, workers, loop_time):
    executor = TimedExecutor(time, is_bounded=False)
    session = DirectSession(executor, workers, loop_time=loop_time)
    for _ in range(100):
        await session.run(session.plan(("x:0",), ("y:0",)), [X])
    assert not any(executor.on_loop)


async def test_without_loop_time_nothing_runs_on_the_loop(executor, workers):
    session = DirectSession(executor, workers)
    plan = session.plan(("x:0",), ("y:0",))
    choice = await licensed(session, plan)
    assert session.run_now(choice, [X]) is None
    await session.run(plan, [X])
    assert not any(executor.on_loop)


@pytest.mark.parametrize("idle_micros", [0.0, 60e6])
async def test_one_slow_run_never_blocks_the_loop_a_second_time(session, plan, executor, time, idle_micros):
    await licensed(session, plan)
    executor.on_loop.clear()
    executor.micros = LONG
    for _ in range(1000):
        time.stand_still(idle_micros)
        await session.run(plan, [X])
    assert executor.on_loop.count(True) == 1
    assert executor.on_loop[0]


async def test_one_slow_run_asked_for_at_once_never_blocks_it_a_second_time_either(session, plan, executor):
    choice = await licensed(session, plan)
    executor.on_loop.clear()
    executor.micros = LONG
    assert session.run_now(choice, [X]) is not None
    for _ in range(100):
        assert session.run_now(choice, [X]) is None
        await session.run(plan, [X])
    assert executor.on_loop.count(True) == 1


async def test_a_run_that_fails_slowly_costs_the_place_as_well(session, plan, executor, observed):
    choice = await licensed(session, plan)
    executor.micros = LONG

    def fail() -> None:
        executor.spend(LONG)
        raise Internal("out of order")

    executor.before_run = fail
    with pytest.raises(Internal, match="out of order"):
        await session.run(plan, [X])
    assert observed.ways[-1] == "loop"
    assert choice.on_loop is None


async def test_a_run_held_up_by_a_busy_machine_is_excused_once(session, plan, executor, time):
    choice = await licensed(session, plan)
    executor.before_run = lambda: time.stand_still(LONG)
    await session.run(plan, [X])
    assert choice.on_loop is not None
    await session.run(plan, [X])
    assert choice.on_loop is None


async def test_runs_of_one_turn_take_no_more_than_its_time_and_others_go_between(session, plan, executor):
    await licensed(session, plan)
    executor.on_loop.clear()
    executor.micros = 140.0
    runs_in_a_turn = TURN_MICROS / executor.micros
    runs = [asyncio.create_task(session.run(plan, [X])) for _ in range(200)]
    before, most, turns = 0, 0, 0
    while not all(run.done() for run in runs):
        await asyncio.sleep(0)  # another coroutine
        most = max(most, len(executor.on_loop) - before)
        before = len(executor.on_loop)
        turns += 1
    assert all(executor.on_loop)
    assert most <= runs_in_a_turn + 1
    assert turns >= 200 / (runs_in_a_turn + 1)


async def waiting_run(
    session: DirectSession, plan: ExecutionPlan, loop_time: LoopTime, deadline: float | None = None
) -> asyncio.Task[RunResult]:
    """A run that stands in line behind many."""
    loop_time.spend(TURN_MICROS)
    for _ in range(50):
        loop_time.turn(TURN_MICROS)
    running = asyncio.create_task(session.run(plan, [X], None, deadline))
    await asyncio.sleep(0)
    assert loop_time.waiting > 40
    return running


async def test_who_waits_for_a_turn_is_answered_by_its_deadline(session, plan, executor, loop_time):
    await licensed(session, plan)
    executor.on_loop.clear()
    clock = Clock(asyncio.get_running_loop())
    running = await waiting_run(session, plan, loop_time, asyncio.get_running_loop().time() + 3600)
    clock.advance(3600)
    with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
        await running
    assert loop_time.waiting > 0
    assert executor.on_loop == []


async def test_who_waits_for_a_turn_and_is_cancelled_never_runs(session, plan, executor, loop_time):
    await licensed(session, plan)
    executor.on_loop.clear()
    running = await waiting_run(session, plan, loop_time)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await loop_time.turn(TURN_MICROS)  # behind it
    assert executor.on_loop == []


async def test_who_waited_while_the_place_was_lost_runs_in_a_thread(session, plan, executor, loop_time):
    choice = await licensed(session, plan)
    executor.on_loop.clear()
    running = await waiting_run(session, plan, loop_time)
    choice.record_on_loop(LONG, LONG)
    assert (await running).outputs[0].tolist() == [2, 3]
    assert executor.on_loop == [False]


async def test_a_deadline_already_past_is_answered_without_a_run(session, plan, executor):
    await licensed(session, plan)
    executor.on_loop.clear()
    with pytest.raises(DeadlineExceeded):
        await session.run(plan, [X], None, asyncio.get_running_loop().time())
    assert executor.on_loop == []


async def test_a_wrong_dtype_is_refused_on_the_loop_too(session, plan, executor):
    await licensed(session, plan)
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[0\] to be float but int64 is provided$"):
        await session.run(plan, [np.array([1, 2])])


async def test_a_run_now_is_had_when_it_is_for_the_loop_and_there_is_time(session, plan, executor, loop_time, observed):
    choice = plan.choice([X])
    assert session.run_now(choice, [X]) is None
    await licensed(session, plan)
    result = session.run_now(choice, [X])
    assert result is not None
    assert result.outputs[0].tolist() == [2, 3]
    assert observed.ways[-1] == "loop"
    runs = len(executor.on_loop)
    loop_time.spend(TURN_MICROS)
    assert session.run_now(choice, [X]) is None
    assert len(executor.on_loop) == runs
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert session.run_now(choice, [X]) is not None


async def test_a_run_now_goes_before_nobody_who_waits(session, plan, executor, loop_time):
    choice = await licensed(session, plan)
    loop_time.spend(TURN_MICROS)
    line = [loop_time.turn(TURN_MICROS) for _ in range(3)]
    while not line[-1].done():
        assert session.run_now(choice, [X]) is None
        await asyncio.sleep(0)


async def test_the_error_of_a_run_now_is_raised_and_counted(session, plan, executor, observed):
    choice = await licensed(session, plan)
    executor.micros = SHORT

    def fail() -> None:
        raise InvalidArgument("bad input")

    executor.before_run = fail
    with pytest.raises(InvalidArgument, match="bad input"):
        session.run_now(choice, [X])
    assert observed.ways[-1] == "loop"
    assert choice.on_loop is not None


async def test_the_loading_thread_never_runs_now(session, plan):
    await licensed(session, plan)
    here = session.in_calling_thread(lambda micros: None)
    assert here.prepare(plan, [X], lambda: None) is NOT_AT_ONCE  # type: ignore[arg-type, return-value]


async def test_warm_up_earns_the_place_before_the_first_request(session, plan, executor):
    here = session.in_calling_thread(lambda micros: None)
    for _ in range(100):
        await here.run(plan, [X])
    executor.on_loop.clear()
    await session.run(plan, [X])
    assert plan.choices == {2: "loop"}
    assert executor.on_loop == [True]


async def test_a_slow_model_blocks_another_once_and_then_keeps_to_its_threads(time, workers, loop_time):
    slow, other = TimedExecutor(time), TimedExecutor(time)
    sessions = [DirectSession(executor, workers, loop_time=loop_time) for executor in (slow, other)]
    slow_plan, plan = (session.plan(("x:0",), ("y:0",)) for session in sessions)
    for session, each in zip(sessions, (slow_plan, plan), strict=True):
        await licensed(session, each)
    slow.micros = 1e6
    slow.on_loop.clear()
    other.on_loop.clear()
    longest = 0.0
    for number in range(50):
        began = time.wall
        running = asyncio.create_task(sessions[0].run(slow_plan, [X]))
        result = await sessions[1].run(plan, [X])
        assert result.outputs[0].tolist() == [2, 3]
        if number:
            longest = max(longest, time.wall - began)
        await running
    assert slow.on_loop == [True] + 49 * [False]
    assert all(other.on_loop)
