from __future__ import annotations

import asyncio

import pytest

from pyserving.errors import ResourceExhausted
from pyserving.transports.admission import THREADPOOL_EXHAUSTED, Admission, Lease


@pytest.mark.proves("difference: Sizes")
def test_it_sheds_calls_over_the_limit_and_names_the_flag():
    admission = Admission(1, 100)
    admission.enter(10)
    with pytest.raises(ResourceExhausted, match=r"limit is 1 \(--max_inflight_calls\)"):
        admission.enter(10)
    assert (admission.calls, admission.bytes) == (1, 10)


@pytest.mark.proves("difference: `--grpc_max_threads`")
def test_it_uses_the_sentence_of_the_thread_limit_when_given():
    admission = Admission(0, 100, too_many_calls=THREADPOOL_EXHAUSTED)
    with pytest.raises(ResourceExhausted, match=r"^Server Threadpool Exhausted$"):
        admission.enter(0)


def test_it_sheds_bytes_over_the_limit_until_others_have_left():
    admission = Admission(10, 100)
    admission.enter(60)
    with pytest.raises(ResourceExhausted, match=r"limit of 100 \(--max_inflight_bytes\)"):
        admission.enter(41)
    admission.leave(60)
    admission.enter(100)
    assert admission.bytes == 100


async def test_it_is_idle_once_the_last_call_has_left():
    admission = Admission(10, 100)
    await admission.idle()
    admission.enter(1)
    admission.enter(1)
    idle = asyncio.create_task(admission.idle())
    admission.leave(1)
    await asyncio.sleep(0)
    assert not idle.done()
    admission.leave(1)
    await idle


def test_it_tells_its_observer_every_change():
    seen = []
    admission = Admission(10, 100, observer=lambda calls, size: seen.append((calls, size)))
    admission.enter(5)
    admission.enter(6)
    admission.leave(5)
    assert seen == [(1, 5), (2, 11), (1, 6)]


def test_a_lease_counts_what_it_reserves_until_it_is_released():
    shed = []
    admission = Admission(max_calls=2, max_bytes=100, on_shed=shed.append)
    lease = Lease(admission, 10)
    lease.reserve(80)
    assert (admission.calls, admission.bytes) == (1, 90)
    with pytest.raises(ResourceExhausted, match="--max_inflight_bytes"):
        lease.reserve(11)
    second = Lease(admission, 5)
    with pytest.raises(ResourceExhausted, match="--max_inflight_calls"):
        Lease(admission, 1)
    lease.release()
    second.release()
    assert (admission.calls, admission.bytes) == (0, 0)
    assert shed == ["bytes", "calls"]


async def test_there_is_room_for_what_would_be_let_in():
    admission = Admission(2, 100)
    assert admission.has_room(100)
    assert not admission.has_room(101)
    admission.enter(40)
    admission.hold(20)
    assert admission.has_room(40)
    assert not admission.has_room(41)
    admission.enter(0)
    assert not admission.has_room(0)
    admission.leave(40)
    admission.let_go(20)
    assert admission.has_room(100)


async def test_asking_for_room_sheds_nothing():
    shed = []
    admission = Admission(1, 100, on_shed=shed.append)
    admission.enter(100)
    assert not admission.has_room(1)
    assert shed == []
    assert (admission.calls, admission.bytes) == (1, 100)
