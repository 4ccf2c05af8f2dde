"""Jobs on their way through real threads; events hold a thread where a story wants it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from pyserving.workers import Workers

PATIENCE = 10.0
"""Seconds after which a test that waits for a thread has failed."""


class Gate:
    """A function that a thread stays in until the gate is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return "passed"


async def test_a_result_lands_where_it_is_awaited():
    async with Workers("test", 2) as workers:
        assert await workers.submit(divmod, 17, 5) == (3, 2)
        assert await workers.submit(lambda: None) is None


async def test_functions_run_in_a_named_thread_and_land_on_the_loop():
    landed_in = []
    async with Workers("test", 1) as workers:
        job = workers.submit(lambda: threading.current_thread().name)
        job.on_over = lambda: landed_in.append(threading.current_thread())
        assert await job == "test-0"
    assert landed_in == [threading.current_thread()]


async def test_an_error_is_raised_where_it_is_awaited():
    async with Workers("test", 1) as workers:
        with pytest.raises(ZeroDivisionError):
            await workers.submit(divmod, 1, 0)
        assert await workers.submit(divmod, 1, 1) == (1, 0)


@pytest.mark.parametrize("error", [StopIteration("no more"), SystemExit(3), KeyboardInterrupt("enough")])
async def test_what_a_future_cannot_carry_arrives_as_a_runtime_error(error: BaseException):
    def fail() -> None:
        raise error

    async with Workers("test", 1) as workers:
        with pytest.raises(RuntimeError, match=f"{type(error).__name__}: {error}") as caught:
            await workers.submit(fail)
        assert caught.value.__cause__ is error


async def test_several_threads_run_at_once():
    both = threading.Barrier(2)
    async with Workers("test", 2) as workers:
        assert workers.threads == 2
        jobs = [workers.submit(both.wait, PATIENCE) for _ in range(2)]
        assert sorted([await job for job in jobs]) == [0, 1]


async def test_a_job_given_up_before_it_starts_never_runs():
    ran, over = [], []
    gate = Gate()
    async with Workers("test", 1) as workers:
        first = workers.submit(gate)
        second = workers.submit(ran.append, 1)
        second.on_over = lambda: over.append("second")
        waiting = asyncio.ensure_future(_result(second))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert workers.unfinished == 2
        gate.opened.set()
        assert await first == "passed"
    assert ran == []
    assert over == ["second"]
    assert workers.unfinished == 0


async def test_a_job_given_up_while_it_runs_is_over_when_the_thread_has_left_it():
    over = []
    gate = Gate()
    async with Workers("test", 1) as workers:
        job = workers.submit(gate)
        job.on_over = lambda: over.append(gate.opened.is_set())
        assert await asyncio.to_thread(gate.entered.wait, PATIENCE)
        job.future.cancel()
        await asyncio.sleep(0)
        assert over == []
        gate.opened.set()
    assert over == [True]


@pytest.mark.parametrize("function", [int, lambda: int("x")], ids=["result", "error"])
async def test_on_over_is_called_once_and_after_the_future_is_set(function):
    done = []
    async with Workers("test", 1) as workers:
        job = workers.submit(function)
        job.on_over = lambda: done.append(job.future.done())
        await asyncio.wait([job.future])
    assert done == [True]
    assert job.future.exception() is None or isinstance(job.future.exception(), ValueError)


async def test_an_observer_that_fails_does_not_keep_others_from_landing(caplog):
    def fail() -> None:
        raise ValueError("an observer's mistake")

    async with Workers("test", 1) as workers:
        first, second = workers.submit(int), workers.submit(int)
        first.on_over = fail
        assert await second == 0
        assert await first == 0
    assert [str(record.exc_info[1]) for record in caplog.records] == ["an observer's mistake"]


async def test_a_burst_of_jobs_lands_in_one_callback():
    order: list[int | str] = []
    ran = threading.Event()
    loop = asyncio.get_running_loop()
    async with Workers("test", 1) as workers:
        first = workers.submit(int)
        first.on_over = lambda: loop.call_soon(order.append, "the loop went on")
        for i in range(20):
            workers.submit(int).on_over = lambda i=i: order.append(i)
        workers.submit(ran.set)
        assert ran.wait(PATIENCE)  # the loop stands still meanwhile: all twenty have run
    assert order == [*range(20), "the loop went on"]


@pytest.mark.parametrize("threads", [1, 2, 5])
async def test_no_job_is_forgotten_while_threads_run_out_of_work_and_get_some(threads):
    async with Workers("test", threads) as workers:
        for burst in range(300):
            jobs = [workers.submit(int, i) for i in range(burst % (2 * threads + 1))]
            if burst % 3:
                await asyncio.sleep(0)  # so that some find threads on their way to sleep
            assert [await job for job in jobs] == [*range(len(jobs))]


async def test_nothing_keeps_a_result_once_it_is_no_longer_wanted():
    class Model:
        pass

    gone = threading.Event()

    def load() -> Model:
        model = Model()
        weakref.finalize(model, gone.set)
        return model

    async with Workers("test", 1) as workers:
        job = workers.submit(load)
        assert isinstance(await job, Model)
        del job
        assert await asyncio.to_thread(gone.wait, PATIENCE)  # though the thread has no next job to forget it for


async def test_an_error_frees_what_it_holds_without_the_collector():
    class Model:
        pass

    gone = threading.Event()

    def load() -> None:
        model = Model()  # in the frames of the error's traceback
        weakref.finalize(model, gone.set)
        raise ValueError("half loaded")

    gc.disable()
    try:
        async with Workers("test", 1) as workers:
            job = workers.submit(load)
            await asyncio.wait([job.future])
            assert str(job.future.exception()) == "half loaded"
            del job
            assert await asyncio.to_thread(gone.wait, PATIENCE)
    finally:
        gc.enable()


async def test_a_landed_job_keeps_no_arguments():
    class Array:
        pass

    async with Workers("test", 1) as workers:
        array = Array()
        known = weakref.ref(array)
        job = workers.submit(id, array)
        await job
        del array
        assert known() is None
        assert job.future.done()


async def test_closing_waits_for_what_was_submitted():
    gate = Gate()
    workers = Workers("test", 1)
    await workers.__aenter__()
    running, queued = workers.submit(gate), workers.submit(divmod, 5, 2)
    closing = asyncio.ensure_future(workers.__aexit__(None, None, None))
    await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(RuntimeError, match="'test' are closed"):
        workers.submit(int)
    gate.opened.set()
    await closing
    assert running.future.result() == "passed"
    assert queued.future.result() == (2, 1)


async def test_closing_leaves_behind_what_nobody_is_to_wait_for():
    gate = Gate()
    async with Workers("test", 1, waits_at_close=False) as workers:
        running = workers.submit(gate)
    assert not running.is_over
    gate.opened.set()


async def test_there_are_so_many_stand_ins_and_no_more():
    gate = Gate()
    async with Workers("test", 1, max_stand_ins=2) as workers:
        workers.submit(gate)
        assert [workers.add_stand_in() for _ in range(3)] == [True, True, False]
        workers.remove_stand_in()
        assert workers.add_stand_in()
        gate.opened.set()


async def test_closing_ends_the_threads():
    async with Workers("ending", 3) as workers:
        await workers.submit(int)
    for thread in threading.enumerate():
        if thread.name.startswith("ending-"):
            await asyncio.to_thread(thread.join, PATIENCE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ending-")]


async def test_nothing_can_be_submitted_before_it_is_opened():
    with pytest.raises(RuntimeError, match="closed"):
        Workers("test", 1).submit(int)


def test_there_is_at_least_one_thread():
    with pytest.raises(ValueError, match="'test' need at least one thread; was 0"):
        Workers("test", 0)


async def _result(job):
    return await job
