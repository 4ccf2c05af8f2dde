"""What the monitor remembers, whom it tells, and when it wakes those who wait."""

from __future__ import annotations

import asyncio

import pytest

from pyserving.errors import NotFound
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.types import ManagerState, ServableId, ServableState


def state(version: int, manager_state: ManagerState, name: str = "m") -> ServableState:
    return ServableState(ServableId(name, version), manager_state)


@pytest.fixture
def monitor() -> ServableStateMonitor:
    return ServableStateMonitor()


def test_it_knows_the_latest_state_of_each_version_largest_first(monitor):
    for number in (2, 10, 9):
        monitor.publish(state(number, ManagerState.START))
    failed = ServableState(ServableId("m", 9), ManagerState.END, NotFound("no file"))
    monitor.publish(failed)
    assert monitor.versions("m") == [state(10, ManagerState.START), failed, state(2, ManagerState.START)]
    assert monitor.state(ServableId("m", 9)) is failed


def test_what_was_never_seen_is_unknown(monitor):
    assert monitor.versions("m") == []
    assert monitor.state(ServableId("m", 1)) is None
    assert monitor.names() == []


def test_names_stay_known_after_their_end(monitor):
    monitor.publish(state(1, ManagerState.START, "b"))
    monitor.publish(state(1, ManagerState.START, "a"))
    monitor.publish(state(1, ManagerState.END, "b"))
    assert monitor.names() == ["b", "a"]


@pytest.mark.proves("difference: END entries in GetModelStatus")
def test_it_keeps_the_ten_versions_of_a_model_that_ended_last(monitor):
    monitor.publish(state(99, ManagerState.END, "other"))
    for number in (5, 4, 3, 2, 1, 6, 7, 8, 9, 10, 11, 12):
        monitor.publish(state(number, ManagerState.AVAILABLE))
        monitor.publish(state(number, ManagerState.END))
    assert [known.id.version for known in monitor.versions("m")] == [12, 11, 10, 9, 8, 7, 6, 3, 2, 1]
    assert monitor.state(ServableId("other", 99)) is not None


def test_it_tells_of_each_version_that_it_forgets(monitor):
    forgotten: list[ServableId] = []
    monitor.forgotten.append(forgotten.append)
    for number in range(1, 13):
        monitor.publish(state(number, ManagerState.START))
        monitor.publish(state(number, ManagerState.END))
    assert forgotten == [ServableId("m", 1), ServableId("m", 2)]


@pytest.mark.proves("difference: END entries in GetModelStatus")
def test_versions_that_are_kept_are_no_part_of_the_ten(monitor):
    kept = {1, 2}
    monitor.keep_while(lambda id: id.version in kept)
    for number in range(1, 14):
        monitor.publish(state(number, ManagerState.END))
    assert [known.id.version for known in monitor.versions("m")] == [*range(13, 3, -1), 2, 1]
    kept.clear()
    monitor.publish(state(14, ManagerState.END))
    assert [known.id.version for known in monitor.versions("m")] == list(range(14, 4, -1))


def test_a_version_that_ends_again_counts_as_the_last(monitor):
    for number in range(1, 11):
        monitor.publish(state(number, ManagerState.END))
    monitor.publish(state(1, ManagerState.START))
    monitor.publish(state(1, ManagerState.END))
    monitor.publish(state(11, ManagerState.END))
    assert monitor.state(ServableId("m", 1)) is not None
    assert monitor.state(ServableId("m", 2)) is None


def test_live_versions_are_never_forgotten(monitor):
    for number in range(30):
        monitor.publish(state(number, ManagerState.AVAILABLE))
    for number in range(30, 50):
        monitor.publish(state(number, ManagerState.END))
    assert len(monitor.versions("m")) == 40
    assert monitor.state(ServableId("m", 0)) is not None


def test_subscribers_hear_of_every_state_and_find_it_remembered(monitor):
    heard = []
    monitor.subscribe(lambda s: heard.append((s, monitor.state(s.id))))
    for manager_state in ManagerState:
        monitor.publish(state(1, manager_state))
    assert heard == [(state(1, s), state(1, s)) for s in ManagerState]


def test_a_subscriber_that_fails_keeps_nobody_else_from_hearing(monitor, caplog):
    heard = []
    monitor.subscribe(lambda s: 1 / 0)
    monitor.subscribe(heard.append)
    monitor.publish(state(1, ManagerState.START))
    assert heard == [state(1, ManagerState.START)]
    assert "A subscriber failed at the state of {name: m version: 1}" in caplog.text


async def test_waiting_ends_at_once_when_it_holds_already(monitor):
    assert await monitor.wait_until(lambda: True)


async def test_waiting_ends_with_the_publish_that_makes_it_hold(monitor):
    waiting = asyncio.ensure_future(monitor.wait_until(lambda: len(monitor.versions("m")) == 2))
    await asyncio.sleep(0)
    monitor.publish(state(1, ManagerState.START))
    await asyncio.sleep(0)
    assert not waiting.done()
    monitor.publish(state(2, ManagerState.START))
    assert await waiting is True


async def test_a_state_that_passes_in_an_instant_is_not_missed(monitor):
    def has_ended() -> bool:
        known = monitor.state(ServableId("m", 1))
        return known is not None and known.manager_state is ManagerState.END

    waiting = asyncio.ensure_future(monitor.wait_until(has_ended))
    await asyncio.sleep(0)
    monitor.publish(state(1, ManagerState.END))
    monitor.publish(state(1, ManagerState.START))
    assert await waiting is True


async def test_waiting_gives_up_at_its_deadline(monitor):
    assert not await monitor.wait_until(lambda: False, deadline=asyncio.get_running_loop().time())
    monitor.publish(state(1, ManagerState.START))  # nobody waits any more
    assert monitor.names() == ["m"]


async def test_waiting_can_be_cancelled(monitor):
    asked = []
    waiting = asyncio.ensure_future(monitor.wait_until(lambda: bool(asked.append(1))))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    monitor.publish(state(1, ManagerState.START))
    assert asked == [1]


async def test_a_predicate_that_fails_fails_the_one_who_waits(monitor):
    waiting = asyncio.ensure_future(monitor.wait_until(lambda: bool(monitor.names()) and bool(1 / 0)))
    await asyncio.sleep(0)
    monitor.publish(state(1, ManagerState.START))
    with pytest.raises(ZeroDivisionError):
        await waiting
