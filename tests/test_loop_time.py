"""Time on the event loop: how much of a turn runs may take, and who goes next."""

from __future__ import annotations

import asyncio

import pytest

from pyserving import loop_time as module
from pyserving.loop_time import TURN_MICROS, LoopTime


class FakeTime:
    """The clock on the wall and the thread's, in seconds."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.cpu = 5.0

    def work(self, micros: float) -> None:
        self.wall += micros / 1e6
        self.cpu += micros / 1e6

    def idle(self, micros: float) -> None:
        self.wall += micros / 1e6


@pytest.fixture
def time(monkeypatch) -> FakeTime:
    made = FakeTime()
    monkeypatch.setattr(module, "perf_counter", lambda: made.wall)
    monkeypatch.setattr(module, "thread_time", lambda: made.cpu)
    return made


@pytest.fixture
def loop_time() -> LoopTime:
    return LoopTime()


async def next_turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # those who were let go have gone


async def queue(loop_time: LoopTime, micros: float, gone: list[int], number: int) -> None:
    await loop_time.turn(micros)
    gone.append(number)
    loop_time.spend(micros)


async def test_a_turn_has_time_until_that_is_spent(loop_time):
    assert loop_time.is_left
    loop_time.spend(TURN_MICROS - 1)
    assert loop_time.is_left
    loop_time.spend(1)
    assert not loop_time.is_left
    await next_turn()
    assert loop_time.is_left


async def test_what_was_spent_in_one_turn_does_not_count_in_the_next(loop_time):
    for _ in range(10):
        loop_time.spend(TURN_MICROS - 1)
        assert loop_time.is_left
        await next_turn()


async def test_those_who_wait_go_in_order_as_many_a_turn_as_there_is_time_for(loop_time):
    loop_time.spend(TURN_MICROS)
    gone: list[int] = []
    waiting = [asyncio.create_task(queue(loop_time, TURN_MICROS / 4, gone, n)) for n in range(10)]
    await asyncio.sleep(0)
    assert loop_time.waiting == 10
    seen = []
    while len(gone) < 10:
        await asyncio.sleep(0)
        seen.append(len(gone))
    assert gone == list(range(10))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == 4
    await asyncio.gather(*waiting)


async def test_nobody_goes_before_those_who_wait(loop_time):
    loop_time.spend(TURN_MICROS)
    line = [loop_time.turn(TURN_MICROS) for _ in range(3)]
    for turn in line:
        assert not loop_time.is_left
        await turn
        assert not loop_time.is_left
        loop_time.spend(TURN_MICROS)
    await next_turn()
    assert loop_time.is_left


async def test_who_does_not_come_when_it_is_their_turn_holds_up_nobody(loop_time):
    loop_time.spend(TURN_MICROS)
    line = [loop_time.turn(TURN_MICROS) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*line), 10)  # and none of them runs
    await next_turn()
    assert loop_time.is_left


async def test_many_dear_runs_do_not_go_at_once_because_a_cheap_one_went_before(loop_time):
    loop_time.spend(TURN_MICROS)
    gone: list[int] = []
    waiting = [asyncio.create_task(queue(loop_time, micros, gone, n)) for n, micros in enumerate([1.0] + 50 * [1000.0])]
    seen = []
    while len(gone) < len(waiting):
        await asyncio.sleep(0)
        seen.append(len(gone))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 3
    await asyncio.gather(*waiting)


async def test_who_has_given_up_takes_nobodys_turn(loop_time):
    loop_time.spend(TURN_MICROS)
    first, second, third = (loop_time.turn(TURN_MICROS) for _ in range(3))
    first.cancel()
    second.set_exception(TimeoutError("meanwhile"))
    await asyncio.sleep(0)
    assert third.done()
    assert third.result() is None
    assert loop_time.waiting == 0
    assert isinstance(second.exception(), TimeoutError)


async def test_others_on_the_loop_have_their_turns_between(loop_time):
    loop_time.spend(TURN_MICROS)
    gone: list[int] = []
    waiting = [asyncio.create_task(queue(loop_time, TURN_MICROS, gone, n)) for n in range(20)]
    other = 0
    while len(gone) < 20:
        await asyncio.sleep(0)
        other += 1
    assert other >= 20
    await asyncio.gather(*waiting)


async def test_work_of_a_run_is_told_from_time_in_which_its_thread_stood_still(loop_time, time):
    began = loop_time.begin()
    time.work(3000)
    assert loop_time.cpu_micros(began) == pytest.approx(3000)
    time.idle(5000)
    assert loop_time.cpu_micros(began) == pytest.approx(3000)


async def test_what_the_loop_did_before_a_run_is_none_of_its_work(loop_time, time):
    loop_time.begin()
    time.work(700)
    loop_time.spend(700)
    began = loop_time.begin()
    time.work(40)
    assert loop_time.cpu_micros(began) == pytest.approx(40)


async def test_a_loop_that_slept_before_a_run_says_nothing_of_it(loop_time, time):
    loop_time.begin()
    loop_time.spend(10)
    await next_turn()
    time.idle(60e6)
    began = loop_time.begin()
    time.work(3000)
    assert loop_time.cpu_micros(began) == pytest.approx(3000)


async def test_a_thread_that_stood_still_earlier_in_the_turn_has_worked_no_less_than_nothing(loop_time, time):
    loop_time.begin()
    time.idle(9000)
    loop_time.spend(9000)
    began = loop_time.begin()
    time.work(40)
    assert loop_time.cpu_micros(began) == 0.0


def test_what_has_to_be_done_once_in_the_thread_is_done_before_a_run(time):
    done = []

    def settle() -> bool:
        done.append(time.wall)
        return len(done) == 3

    loop_time = LoopTime(settle)
    for _ in range(6):
        loop_time.begin()
        time.idle(1000.0)
    assert len(done) == 3
