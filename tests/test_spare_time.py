"""Who is made to wait for a processor, and when."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from pyserving.spare_time import SpareTime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an idle priority for threads")


class Machine:
    """Its processors idle for a share of the time, which passes only when somebody waits."""

    def __init__(self, idle_share: float) -> None:
        self.idle_share = idle_share
        self.busy_until = 0.0
        """Nothing idles before."""
        self.now = 0.0
        self.idle = 0.0
        self.busy_share = 0.0
        """That a call in spare time takes."""
        self.ran = 0.0
        self.waits = 0

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.now += seconds
        if self.now > self.busy_until:
            self.idle += seconds * self.idle_share
        self.ran += seconds * self.busy_share

    def spare_time(self, *, is_wanted: bool = True) -> SpareTime:
        return SpareTime(
            lambda: is_wanted,
            idle_seconds=lambda: self.idle,
            ran_seconds=lambda thread: self.ran,
            clock=lambda: self.now,
            wait=self.wait,
        )


def policy() -> int:
    """Of the thread that asks, as soon as it is not the usual one; after a while, if it stays that."""
    end = time.monotonic() + 0.5
    while (policy := os.sched_getscheduler(0)) == os.SCHED_OTHER and time.monotonic() < end:
        os.sched_yield()
    return policy


@pytest.mark.proves("difference: The processor time that a load takes while others are served")
def test_a_call_makes_way_for_others_where_a_processor_idles():
    assert Machine(idle_share=0.5).spare_time()(policy) == os.SCHED_IDLE


def test_the_caller_keeps_its_priority():
    Machine(idle_share=0.5).spare_time()(policy)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_short_call_keeps_its_priority(monkeypatch):
    monkeypatch.setattr(SpareTime, "SHORT_SECONDS", 20.0)
    assert Machine(idle_share=0.5).spare_time()(os.sched_getscheduler, 0) == os.SCHED_OTHER


def test_threads_that_come_later_are_as_others():
    spare_time, policies = Machine(idle_share=0.5).spare_time(), []
    spare_time(policy)
    thread = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    assert policies == [os.SCHED_OTHER]


def test_a_call_is_made_at_once_where_hardly_anything_is_left():
    assert Machine(idle_share=0.2).spare_time()(threading.get_ident) == threading.get_ident()


def test_that_hardly_anything_is_left_takes_a_longer_look_and_holds_longer():
    machine = Machine(idle_share=0.2)
    spare_time = machine.spare_time()
    spare_time(os.getpid)
    assert machine.now == pytest.approx(SpareTime.LONGEST_LOOK_SECONDS)
    machine.idle_share = 1.0
    machine.now += SpareTime.LEFT_HOLDS_SECONDS
    assert spare_time(threading.get_ident) == threading.get_ident()
    machine.now += SpareTime.NOT_LEFT_HOLDS_SECONDS
    assert spare_time(threading.get_ident) != threading.get_ident()


def test_a_burst_of_requests_is_waited_for():
    machine = Machine(idle_share=1.0)
    machine.busy_until = 1.0
    spare_time = machine.spare_time()
    assert spare_time(threading.get_ident) != threading.get_ident()
    assert 1.0 < machine.now < SpareTime.LONGEST_LOOK_SECONDS


def test_a_call_is_made_at_once_where_nobody_is_to_be_made_way_for():
    machine = Machine(idle_share=2.0)
    assert machine.spare_time(is_wanted=False)(threading.get_ident) == threading.get_ident()
    assert machine.waits == 0


def test_calls_in_a_row_need_one_look():
    machine = Machine(idle_share=1.0)
    spare_time = machine.spare_time()
    for _ in range(5):
        spare_time(os.getpid)
    assert machine.waits == 1


def test_another_look_follows_when_the_last_is_old():
    machine = Machine(idle_share=1.0)
    spare_time = machine.spare_time()
    spare_time(os.getpid)
    machine.now += SpareTime.LEFT_HOLDS_SECONDS
    machine.idle_share = 0.0
    assert spare_time(threading.get_ident) == threading.get_ident()


def test_what_a_call_takes_is_left_to_the_next_one():
    machine = Machine(idle_share=1.0)
    spare_time = machine.spare_time()

    def busy() -> bool:
        policy()  # the call is kept back by now
        machine.now += SpareTime.LEFT_HOLDS_SECONDS
        machine.idle_share, machine.busy_share = 0.0, 1.0
        return spare_time(threading.get_ident) != threading.get_ident()

    assert spare_time(busy)
    assert machine.waits == 2


def test_results_and_errors_come_back():
    spare_time = Machine(idle_share=1.0).spare_time()
    assert spare_time(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        spare_time(divmod, 7, 0)


def test_a_call_of_long_is_no_longer_kept_back_if_that_is_allowed(monkeypatch):
    monkeypatch.setattr(SpareTime, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(SpareTime, "PATIENCE_SECONDS", 0.0)
    lifted = threading.Event()
    allow = os.sched_setscheduler
    callers: list[tuple[int, int]] = []

    def set_scheduler(thread: int, policy: int, parameters: os.sched_param) -> None:
        callers.append((thread, policy))
        if policy == os.SCHED_OTHER:
            lifted.set()
        else:
            allow(thread, policy, parameters)

    monkeypatch.setattr(os, "sched_setscheduler", set_scheduler)
    ids: list[int] = []

    def takes_long() -> bool:
        ids.append(threading.get_native_id())
        return lifted.wait(20)

    assert Machine(idle_share=1.0).spare_time()(takes_long)
    assert (ids[0], os.SCHED_OTHER) in callers


def test_a_call_is_made_where_priorities_are_not_ours_to_change(monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert Machine(idle_share=1.0).spare_time()(lambda: "made") == "made"
