"""Stories of versions under one manager; every load and unload happens when the story says so."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from pyserving.errors import Cancelled, Code, DataLoss, NotFound
from pyserving.lifecycle.attempt import Attempt
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.lifecycle.policy import resource_preserving
from pyserving.lifecycle.retries import LoadRetries
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableRequest, ServableState
from pyserving.workers import Workers
from tests.fakes import FakeClock, FakeLoaders, HeldWorkers, RecordedStates

START, LOADING, AVAILABLE, UNLOADING, END = ManagerState
LATEST = ServableRequest("m")


def version(number: int, name: str = "m") -> AspiredVersion:
    return AspiredVersion(ServableId(name, number), f"/models/{name}/{number}")


@pytest.fixture
def workers() -> HeldWorkers:
    return HeldWorkers()


@pytest.fixture
def loaders() -> FakeLoaders:
    return FakeLoaders()


@pytest.fixture
def states() -> RecordedStates:
    return RecordedStates()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def manager(
    workers: HeldWorkers, loaders: FakeLoaders, states: RecordedStates, clock: FakeClock
) -> AsyncIterator[AspiredVersionsManager]:
    manager = AspiredVersionsManager(
        loaders, workers, workers, states, retries=LoadRetries(2, 60_000_000), call_later=clock.call_later
    )
    yield manager
    leaving = asyncio.ensure_future(manager.__aexit__(None, None, None))
    await asyncio.sleep(0)
    await workers.release()
    await asyncio.sleep(0)
    assert leaving.done(), "a handle was left open"
    assert all(loader.unloaded == (loader.servable is not None) for loader in loaders.made)


# The usual way.


async def test_a_version_goes_through_its_states_and_serves(manager, workers, states):
    manager.set_aspired_versions("m", [version(1)])
    assert states.of(1) == [START, LOADING]
    with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(m\)$"):
        manager.get_servable_handle(LATEST)

    await workers.release()

    assert states.of(1) == [START, LOADING, AVAILABLE]
    with manager.get_servable_handle(LATEST) as servable:
        assert servable.id == ServableId("m", 1)

    manager.set_aspired_versions("m", [])
    await workers.release()
    assert states.of(1) == [START, LOADING, AVAILABLE, UNLOADING, END]
    assert states.health(1) is None


async def test_latest_is_the_largest_number_and_each_number_can_be_asked_for(manager, workers):
    manager.set_aspired_versions("m", [version(n) for n in (9, 10, 0)])
    await workers.release()
    assert manager.available_versions("m") == [0, 9, 10]
    with manager.get_servable_handle(LATEST) as servable:
        assert servable.id.version == 10
    with manager.get_servable_handle(ServableRequest("m", 0)) as servable:
        assert servable.id.version == 0
    with pytest.raises(NotFound, match=r"^Servable not found for request: Specific\(m, 7\)$"):
        manager.get_servable_handle(ServableRequest("m", 7))


async def test_the_highest_of_several_new_versions_loads_first(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(n) for n in (1, 3, 2)])
    assert workers.held == [loaders[3].load, loaders[2].load, loaders[1].load]


async def test_the_same_wish_again_changes_nothing(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(1)])
    manager.set_aspired_versions("m", [replace(version(1), path="/elsewhere/1")])  # numbers are compared
    await workers.release()
    assert states.of(1) == [START, LOADING, AVAILABLE]
    assert len(loaders.made) == 1


async def test_nobody_can_reach_a_version_before_it_is_published_or_after_its_end_began(workers, loaders):
    seen: list[tuple[ManagerState, list[int]]] = []
    manager = AspiredVersionsManager(
        loaders, workers, workers, lambda s: seen.append((s.manager_state, manager.available_versions("m")))
    )
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [])
    await workers.release()
    assert seen == [(START, []), (LOADING, []), (AVAILABLE, [1]), (UNLOADING, [1]), (END, [])]


async def test_callbacks_hear_of_each_swap_of_the_serving_map(manager, workers):
    seen = []
    manager.serving_map_changed.append(lambda: seen.append(manager.available_versions("m")))
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(2)])
    await workers.release()
    assert seen == [[1], [1, 2], [2]]


# Swapping over.


async def test_the_old_version_serves_until_the_new_one_does(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(2)])
    assert manager.available_versions("m") == [1]
    await workers.release_one(loaders[2].load)
    assert manager.available_versions("m") == [2]
    assert states.of(1)[-1] is UNLOADING
    await workers.release()
    assert states.of(1)[-1] is END
    assert loaders[1].unloaded


async def test_the_old_version_unloads_only_after_its_last_request(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    first, second = manager.get_servable_handle(LATEST), manager.get_servable_handle(LATEST)
    manager.set_aspired_versions("m", [version(2)])
    await workers.release()
    assert manager.available_versions("m") == [2]
    first.close()
    first.close()
    await workers.release()
    assert states.of(1)[-1] is UNLOADING
    assert not second.servable.is_closed

    second.close()
    await workers.release()

    assert loaders[1].unloaded
    assert states.of(1)[-1] is END


async def test_a_copied_handle_keeps_the_version_loaded_by_itself(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    handle = manager.get_servable_handle(LATEST)
    manager.set_aspired_versions("m", [])
    copy = handle.copy()  # of a version that the serving map no longer has
    handle.close()
    await workers.release()
    assert copy.servable is loaders[1].servable
    assert not loaders[1].unloaded
    copy.close()
    await workers.release()
    assert loaders[1].unloaded


async def test_a_closed_handle_cannot_be_copied_and_holds_nothing(manager, workers):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    handle = manager.get_servable_handle(LATEST)
    handle.close()
    with pytest.raises(RuntimeError, match="closed"):
        handle.copy()
    manager.set_aspired_versions("m", [])
    assert handle.servable is None


async def test_it_goes_back_to_a_smaller_number_the_same_way(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(2)])
    await workers.release()
    manager.set_aspired_versions("m", [version(1)])
    assert manager.available_versions("m") == [2]
    await workers.release_one(loaders[1].load)
    assert manager.available_versions("m") == [1]


async def test_a_new_version_that_fails_for_good_leaves_the_old_one_serving(manager, workers, loaders, clock, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(2)
    manager.set_aspired_versions("m", [version(2)])
    await _until_given_up(workers, clock)
    assert states.of(2)[-1] is END
    assert manager.available_versions("m") == [1]


async def test_a_removed_model_goes_lowest_first(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(n) for n in (2, 1, 3)])
    await workers.release()
    manager.set_aspired_versions("m", [])
    assert manager.available_versions("m") == []
    assert workers.held == [loaders[1].unload, loaders[2].unload, loaders[3].unload]


async def test_several_old_versions_are_trimmed_to_one_while_the_new_one_loads(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(n) for n in (1, 2, 3)])
    await workers.release()
    manager.set_aspired_versions("m", [version(4)])
    assert manager.available_versions("m") == [3]
    await workers.release_one(loaders[4].load)
    assert manager.available_versions("m") == [4]


async def test_models_do_not_touch_each_other(manager, workers, loaders, clock, states):
    loaders.fail(7)
    manager.set_aspired_versions("bad", [version(7, "bad")])
    manager.set_aspired_versions("m", [version(1)])
    manager.set_aspired_versions("n", [version(2, "n")])
    await workers.release()
    held = manager.get_servable_handle(ServableRequest("n"))
    manager.set_aspired_versions("n", [])
    manager.set_aspired_versions("m", [version(3)])
    await workers.release()
    assert manager.available_versions("m") == [3]
    assert manager.available_versions("n") == []
    assert states.of(7, "bad") == [START, LOADING, LOADING]
    assert states.of(2, "n")[-1] is UNLOADING
    held.close()


@pytest.mark.proves("difference: Giving memory up before a new version takes it")
async def test_resource_preserving_unloads_before_it_loads(workers, loaders, states):
    manager = AspiredVersionsManager(loaders, workers, workers, states, policy=resource_preserving)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(2)])
    assert workers.held == [loaders[1].unload]
    assert states.of(2) == [START]
    await workers.release_one()
    assert workers.held == [loaders[2].load]
    await workers.release()
    assert manager.available_versions("m") == [2]


# Turns.


async def test_no_more_loads_are_handed_over_than_there_are_threads(loaders, states):
    loading, unloading = HeldWorkers(threads=2), HeldWorkers()
    manager = AspiredVersionsManager(loaders, loading, unloading, states)
    for name, number in (("l", 1), ("m", 2), ("n", 3)):
        manager.set_aspired_versions(name, [version(number, name)])
    assert loading.held == [loaders[1].load, loaders[2].load]
    assert states.of(3, "n") == [START]
    await loading.release_one()
    assert states.of(3, "n") == [START, LOADING]


async def test_a_version_called_off_before_its_turn_never_loads(loaders, states):
    loading, unloading = HeldWorkers(threads=1), HeldWorkers()
    manager = AspiredVersionsManager(loaders, loading, unloading, states)
    manager.set_aspired_versions("slow", [version(1, "slow")])
    manager.set_aspired_versions("m", [version(2)])
    manager.set_aspired_versions("m", [])
    assert states.of(2) == [START, END]
    assert states.health(2).status == "CANCELLED: Loading of servable cancelled"
    await loading.release()
    assert loaders[2].loads == 0


async def test_a_version_that_waits_for_its_retry_holds_no_thread(loaders, states, clock):
    loading, unloading = HeldWorkers(threads=1), HeldWorkers()
    manager = AspiredVersionsManager(loaders, loading, unloading, states, call_later=clock.call_later)
    loaders.fail(1)
    manager.set_aspired_versions("bad", [version(1, "bad")])
    manager.set_aspired_versions("m", [version(2)])
    await loading.release()
    assert clock.due_in == [60]
    assert manager.available_versions("m") == [2]


async def test_a_slow_unload_holds_up_no_other_load_or_unload(manager, workers, loaders, states):
    for name, number in (("slow", 1), ("m", 2)):
        manager.set_aspired_versions(name, [version(number, name)])
    await workers.release()
    manager.set_aspired_versions("slow", [])
    manager.set_aspired_versions("m", [version(3)])
    assert workers.held == [loaders[1].unload, loaders[3].load]
    await workers.release_one(loaders[3].load)
    await workers.release_one(loaders[2].unload)
    assert states.of(2)[-1] is END
    assert manager.available_versions("m") == [3]
    assert states.of(1, "slow")[-1] is UNLOADING


async def test_a_slow_load_holds_up_no_other_load_or_unload(manager, workers, loaders, states):
    manager.set_aspired_versions("slow", [version(1, "slow")])
    manager.set_aspired_versions("m", [version(2)])
    await workers.release_one(loaders[2].load)
    manager.set_aspired_versions("m", [version(3)])
    await workers.release_one(loaders[3].load)
    await workers.release_one(loaders[2].unload)
    assert states.of(2)[-1] is END
    assert states.of(1, "slow") == [START, LOADING]


async def test_threads_that_are_stuck_leave_the_others_to_other_models(loaders, states):
    gate = threading.Event()
    news = asyncio.Event()

    def publish(state: ServableState) -> None:
        states(state)
        news.set()

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            news.clear()
            await asyncio.wait_for(news.wait(), timeout=30)

    async with Workers("load", 2) as loading, Workers("unload", 2) as unloading:
        manager = AspiredVersionsManager(loaders, loading, unloading, publish)
        manager.set_aspired_versions("m", [version(1)])
        await until(lambda: states.of(1)[-1:] == [AVAILABLE])
        loading.submit(gate.wait)
        unloading.submit(gate.wait)
        manager.set_aspired_versions("m", [version(2)])
        await until(lambda: states.of(1)[-1:] == [END])
        assert manager.available_versions("m") == [2]
        gate.set()
        await manager.__aexit__(None, None, None)


# Failing and trying again.


async def test_a_failing_load_is_tried_again_and_then_serves(manager, workers, loaders, clock, states):
    loaders.fail(1, times=2)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert states.of(1) == [START, LOADING, LOADING]
    assert states.health(1).status == "UNAVAILABLE: storage is away"
    assert clock.due_in == [60]
    clock.advance(59)
    assert workers.held == []
    clock.advance(1)
    await workers.release()
    clock.advance(60)
    await workers.release()
    assert states.of(1) == [START, LOADING, LOADING, LOADING, AVAILABLE]
    assert states.health(1) is None
    assert loaders[1].loads == 3
    manager.set_aspired_versions("m", [])
    await workers.release()
    assert states.of(1)[-1] is END
    assert states.health(1) is None


async def test_it_gives_up_after_the_last_retry_and_stays_so(manager, workers, loaders, clock, states):
    loaders.fail(1, error=DataLoss("shard is short"))
    manager.set_aspired_versions("m", [version(1)])
    await _until_given_up(workers, clock)
    assert loaders[1].loads == 3  # once and two retries
    assert states.of(1)[-1] is END
    assert states.health(1).status == "DATA_LOSS: shard is short"
    manager.set_aspired_versions("m", [version(1)])
    assert workers.held == []
    assert clock.due_in == []


async def test_a_negative_interval_means_no_wait(workers, loaders, clock, states):
    retries = LoadRetries(1, -1)
    manager = AspiredVersionsManager(loaders, workers, workers, states, retries=retries, call_later=clock.call_later)
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert clock.due_in == [0]


async def test_a_given_up_version_is_begun_afresh_after_it_was_gone(manager, workers, loaders, clock, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await _until_given_up(workers, clock)
    loaders.mend(1)
    manager.set_aspired_versions("m", [])
    assert states.of(1)[-1] is END
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert states.of(1)[-4:] == [END, START, LOADING, AVAILABLE]


async def test_retry_begins_a_given_up_version_afresh(manager, workers, loaders, clock, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await _until_given_up(workers, clock)
    manager.retry(ServableId("m", 1))
    await _until_given_up(workers, clock)
    assert [loader.loads for loader in loaders.of(1)] == [3, 3]
    loaders.mend(1)
    manager.retry(ServableId("m", 1))
    await workers.release()
    assert states.of(1)[-4:] == [END, START, LOADING, AVAILABLE]


async def test_retry_does_not_wait_for_the_next_attempt(manager, workers, loaders, clock):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.mend(1)
    manager.retry(ServableId("m", 1))
    await workers.release()
    assert manager.available_versions("m") == [1]
    assert clock.due_in == []


async def test_retry_makes_the_attempt_that_runs_the_first(manager, workers, loaders, clock, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    clock.advance(60)
    assert states.health(1).code is Code.UNAVAILABLE
    manager.retry(ServableId("m", 1))
    assert (states.of(1)[-1], states.health(1)) == (LOADING, None)
    await _until_given_up(workers, clock)
    assert [loader.loads for loader in loaders.of(1)] == [4], "one before, and three since"
    assert (states.of(1)[-1], states.health(1).code) == (END, Code.UNAVAILABLE)


async def test_a_version_called_off_while_it_is_tried_again_says_nothing_of_what_failed(
    manager, workers, loaders, clock, states
):
    loaders.fail(1, times=1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    clock.advance(60)
    manager.set_aspired_versions("m", [])
    manager.set_aspired_versions("m", [version(1)])
    assert (states.of(1)[-1], states.health(1)) == (LOADING, None)
    loaders.mend(1)
    await workers.release()
    assert states.of(1) == [START, LOADING, LOADING, LOADING, END, START, LOADING, AVAILABLE]


async def test_retry_leaves_alone_what_does_not_fail(manager, workers, loaders):
    manager.retry(ServableId("m", 1))
    manager.set_aspired_versions("m", [version(1)])
    manager.retry(ServableId("m", 1))
    await workers.release()
    manager.retry(ServableId("m", 1))
    assert len(loaders.made) == 1
    assert workers.held == []


async def test_a_failing_version_with_another_path_is_begun_afresh(manager, workers, loaders, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.mend(1)
    manager.set_aspired_versions("m", [replace(version(1), path="/mended/1")])
    await workers.release()
    assert loaders[1].aspired.path == "/mended/1"
    assert states.of(1) == [START, LOADING, LOADING, START, LOADING, AVAILABLE]


async def test_an_unexpected_exception_is_internal_and_its_trace_is_logged_once(
    manager, workers, loaders, clock, states, caplog
):
    loaders.fail(1, error=ZeroDivisionError("by zero"))
    manager.set_aspired_versions("m", [version(1)])
    await _until_given_up(workers, clock)
    assert states.health(1).status == "INTERNAL: ZeroDivisionError: by zero"
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]


async def test_a_kept_error_holds_no_frames_of_the_load(manager, workers, loaders, states):
    loaders.fail(1, error=DataLoss("shard is short"))
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    health = states.health(1)
    assert (health.__traceback__, health.__cause__, health.__context__) == (None, None, None)


@pytest.mark.proves("difference: A failure's sentence of several thousand characters")
async def test_a_sentence_that_is_too_long_is_cut_and_whole_in_the_log(manager, workers, loaders, states, caplog):
    loaders.fail(1, error=DataLoss("x" * 5000))
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert states.health(1).message == "x" * 2000 + "… (the log has the rest)"
    assert "x" * 5000 in caplog.text


async def test_a_failed_unload_ends_with_its_error(manager, workers, loaders, states, caplog):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders[1].unload_error = OSError("stuck")
    manager.set_aspired_versions("m", [])
    await workers.release()
    assert states.of(1)[-1] is END
    assert states.health(1).status == "INTERNAL: OSError: stuck"
    assert "Unloading servable version {name: m version: 1} failed" in caplog.text


# Files that change under a version.


@pytest.fixture
async def reloading(workers, loaders, states, clock) -> AsyncIterator[AspiredVersionsManager]:
    """A manager that loads replaced versions anew."""
    manager = AspiredVersionsManager(
        loaders,
        workers,
        workers,
        states,
        retries=LoadRetries(1, 60_000_000),
        call_later=clock.call_later,
        reload_replaced_versions=True,
    )
    yield manager
    await asyncio.gather(manager.__aexit__(None, None, None), workers.release())
    assert all(loader.unloaded == (loader.servable is not None) for loader in loaders.made)


@pytest.mark.proves("difference: A load failed, then the files are mended under the same number")
@pytest.mark.parametrize("has_given_up", [False, True])
async def test_a_failing_version_begins_afresh_when_its_files_change(
    manager, workers, loaders, clock, states, has_given_up
):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await (_until_given_up(workers, clock) if has_given_up else workers.release())
    loaders.mend(1)
    manager.files_changed(ServableId("m", 1))
    await workers.release()
    assert states.of(1)[-3:] == [START, LOADING, AVAILABLE]
    assert clock.due_in == []


async def test_files_that_change_while_an_attempt_fails_are_tried_at_once(manager, workers, loaders, clock, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    manager.files_changed(ServableId("m", 1))
    loaders.mend(1)
    assert len(workers.held) == 1
    await workers.release()
    assert states.of(1) == [START, LOADING, START, LOADING, AVAILABLE]
    assert clock.due_in == []


async def test_a_version_whose_turn_has_not_come_reads_the_new_files_anyway(loaders, states):
    loading = HeldWorkers(threads=1)
    manager = AspiredVersionsManager(loaders, loading, loading, states, reload_replaced_versions=True)
    manager.set_aspired_versions("m", [version(1), version(2)])
    manager.files_changed(ServableId("m", 1))
    await loading.release()
    assert [len(loaders.of(n)) for n in (1, 2)] == [1, 1]


async def test_a_replaced_version_serves_on_unless_asked_otherwise(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.files_changed(ServableId("m", 1))
    assert workers.held == []
    assert states.of(1) == [START, LOADING, AVAILABLE]


async def test_a_replaced_version_is_loaded_beside_itself_and_then_swapped(reloading, workers, loaders, states):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    handle = reloading.get_servable_handle(LATEST)
    reloading.files_changed(ServableId("m", 1))
    old, new = loaders.of(1)
    assert reloading.available_versions("m") == [1]
    await workers.release()
    with reloading.get_servable_handle(LATEST) as servable:
        assert servable is new.servable
    assert handle.servable is old.servable
    assert not old.unloaded, "a request is still in it"
    handle.close()
    await workers.release()
    assert old.unloaded
    assert states.of(1) == [START, LOADING, AVAILABLE, AVAILABLE]
    reloading.set_aspired_versions("m", [])
    await workers.release()
    assert states.of(1)[-2:] == [UNLOADING, END]


async def test_a_version_replaced_while_it_loads_is_loaded_again(reloading, workers, loaders):
    reloading.set_aspired_versions("m", [version(1)])
    reloading.files_changed(ServableId("m", 1))
    await workers.release()
    assert [loader.unloaded for loader in loaders.of(1)] == [True, False]


async def test_a_version_replaced_again_while_its_new_copy_loads_is_loaded_once_more(reloading, workers, loaders):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    reloading.files_changed(ServableId("m", 1))
    reloading.files_changed(ServableId("m", 1))
    assert len(workers.held) == 1
    await workers.release()
    assert [loader.unloaded for loader in loaders.of(1)] == [True, True, False]


async def test_a_replacement_that_fails_for_good_leaves_the_old_copy_serving(
    reloading, workers, loaders, clock, states, caplog
):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(1)
    reloading.files_changed(ServableId("m", 1))
    await _until_given_up(workers, clock)
    assert loaders[1].loads == 2
    assert "Giving up loading servable version {name: m version: 1}" in caplog.text
    assert reloading.available_versions("m") == [1]
    loaders.mend(1)
    reloading.files_changed(ServableId("m", 1))
    await workers.release()
    with reloading.get_servable_handle(LATEST) as servable:
        assert servable is loaders[1].servable


async def test_a_version_that_serves_while_its_new_files_fail_is_available_with_their_error(
    reloading, workers, loaders, clock, states
):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(1)
    reloading.files_changed(ServableId("m", 1))
    await workers.release()
    reason = (
        "UNAVAILABLE: Files of this version were replaced and cannot be loaded; it serves as it was before: "
        "storage is away"
    )
    assert (states.of(1)[-1], states.health(1).status) == (AVAILABLE, reason)
    await _until_given_up(workers, clock)
    assert (states.of(1)[-1], states.health(1).status) == (AVAILABLE, reason)
    loaders.mend(1)
    reloading.files_changed(ServableId("m", 1))
    assert states.health(1).status == reason, "until it is known better"
    await workers.release()
    assert (states.of(1)[-1], states.health(1)) == (AVAILABLE, None)


async def test_a_version_whose_new_files_failed_ends_well(reloading, workers, loaders, clock, states):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(1)
    reloading.files_changed(ServableId("m", 1))
    await _until_given_up(workers, clock)
    reloading.set_aspired_versions("m", [])
    await workers.release()
    assert (states.of(1)[-1], states.health(1)) == (END, None)


@pytest.mark.parametrize("has_given_up", [False, True])
async def test_retry_begins_the_failing_load_of_new_files_afresh(reloading, workers, loaders, clock, has_given_up):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(1)
    reloading.files_changed(ServableId("m", 1))
    await (_until_given_up(workers, clock) if has_given_up else workers.release())
    loaders.mend(1)
    reloading.retry(ServableId("m", 1))
    await workers.release()
    assert clock.due_in == []
    with reloading.get_servable_handle(LATEST) as servable:
        assert servable is loaders[1].servable
    reloading.retry(ServableId("m", 1))
    assert workers.held == []


async def test_a_replacement_between_two_attempts_begins_afresh_when_files_change_again(
    reloading, workers, loaders, clock
):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(1)
    reloading.files_changed(ServableId("m", 1))
    await workers.release()
    assert clock.due_in == [60]
    loaders.mend(1)
    reloading.files_changed(ServableId("m", 1))
    await workers.release()
    assert clock.due_in == []
    assert [loader.unloaded for loader in loaders.of(1)] == [True, False, False]


async def test_a_replacement_is_called_off_with_its_version(reloading, workers, loaders, states):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    reloading.files_changed(ServableId("m", 1))
    reloading.set_aspired_versions("m", [])
    await workers.release()
    assert [loader.unloaded for loader in loaders.of(1)] == [True, True]
    assert states.of(1) == [START, LOADING, AVAILABLE, UNLOADING, END]


async def test_a_replacement_called_off_is_over_before_its_version_loads_again(reloading, workers, loaders):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    reloading.files_changed(ServableId("m", 1))
    called_off = loaders[1]
    reloading.set_aspired_versions("m", [])
    await workers.release_one(loaders.of(1)[0].unload)
    reloading.set_aspired_versions("m", [version(1)])
    assert workers.held == [called_off.load]
    await workers.release_one(called_off.load)
    assert workers.held == [called_off.unload]
    await workers.release()
    assert reloading.available_versions("m") == [1]
    assert [loader.unloaded for loader in loaders.of(1)] == [True, True, False]


async def test_a_version_wished_again_while_its_replacement_is_called_off_gets_its_new_files(
    reloading, workers, loaders
):
    reloading.set_aspired_versions("m", [version(1)])
    await workers.release()
    reloading.files_changed(ServableId("m", 1))
    called_off = loaders[1]
    reloading.set_aspired_versions("m", [version(2)])
    reloading.set_aspired_versions("m", [version(1)])
    assert workers.held == [called_off.load, loaders[2].load]
    await workers.release()
    assert called_off.unloaded
    with reloading.get_servable_handle(LATEST) as servable:
        assert servable is loaders.of(1)[2].servable


# Changing one's mind.


async def test_a_version_called_off_while_it_loads_is_never_served(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    manager.set_aspired_versions("m", [])
    assert states.of(1) == [START, LOADING]
    await workers.release_one(loaders[1].load)
    assert manager.available_versions("m") == []
    assert workers.held == [loaders[1].unload]
    await workers.release()
    assert states.of(1) == [START, LOADING, END]
    assert states.health(1).status == "CANCELLED: Loading of servable cancelled"


async def test_a_version_called_off_while_its_load_fails_ends_with_the_error(manager, workers, loaders, clock, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    manager.set_aspired_versions("m", [])
    await workers.release()
    assert states.of(1) == [START, LOADING, END]
    assert states.health(1).code is Code.UNAVAILABLE
    assert clock.due_in == []


async def test_a_version_called_off_between_attempts_ends_at_once(manager, workers, loaders, clock, states):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [])
    assert states.of(1) == [START, LOADING, LOADING, END]
    assert states.health(1).code is Code.UNAVAILABLE
    assert clock.due_in == []


async def test_a_version_wished_again_while_it_loads_waits_and_loads_afresh(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    manager.set_aspired_versions("m", [])
    manager.set_aspired_versions("m", [version(1)])
    assert len(loaders.made) == 1
    await workers.release()
    assert states.of(1) == [START, LOADING, END, START, LOADING, AVAILABLE]
    assert [loader.unloaded for loader in loaders.of(1)] == [True, False]


async def test_a_version_wished_again_while_it_unloads_waits_and_loads_afresh(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [])
    manager.set_aspired_versions("m", [version(1)])
    assert workers.held == [loaders[1].unload]
    await workers.release_one()
    assert states.of(1)[-3:] == [END, START, LOADING]
    await workers.release()
    assert manager.available_versions("m") == [1]


async def test_a_version_wished_again_while_requests_hold_it_leaves_the_other_serving(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    handle = manager.get_servable_handle(LATEST)
    manager.set_aspired_versions("m", [version(2)])
    await workers.release()
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert manager.available_versions("m") == [2]  # until 1 is back
    handle.close()
    await workers.release_one(loaders.of(1)[0].unload)
    assert manager.available_versions("m") == [2]
    await workers.release_one(loaders.of(1)[1].load)
    assert manager.available_versions("m") == [1]


async def test_other_versions_of_a_wish_do_not_wait_for_one_that_is_on_its_way_out(manager, workers):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    handle = manager.get_servable_handle(LATEST)
    manager.set_aspired_versions("m", [version(2)])
    await workers.release()
    manager.set_aspired_versions("m", [version(1), version(3)])
    await workers.release()
    assert manager.available_versions("m") == [3]
    handle.close()
    await workers.release()
    assert manager.available_versions("m") == [1, 3]


async def test_an_old_version_wished_again_before_the_new_one_is_there_serves_on(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(2)])
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert states.of(1) == [START, LOADING, AVAILABLE]
    assert states.of(2) == [START, LOADING, END]


# Leaving.


async def test_leaving_waits_for_a_running_load_and_unloads_it(workers, loaders, states):
    manager = AspiredVersionsManager(loaders, workers, workers, states)
    manager.set_aspired_versions("m", [version(1)])
    leaving = asyncio.ensure_future(manager.__aexit__(None, None, None))
    await asyncio.sleep(0)
    assert not leaving.done()
    await workers.release()
    await leaving
    assert states.of(1) == [START, LOADING, END]
    assert loaders[1].unloaded


async def test_leaving_waits_for_open_handles_and_drops_retries(workers, loaders, states, clock):
    manager = AspiredVersionsManager(loaders, workers, workers, states, call_later=clock.call_later)
    loaders.fail(2)
    manager.set_aspired_versions("m", [version(1), version(2)])
    await workers.release()
    handle = manager.get_servable_handle(LATEST)
    leaving = asyncio.ensure_future(manager.__aexit__(None, None, None))
    await asyncio.sleep(0)
    await workers.release()
    assert clock.due_in == []
    assert not leaving.done()
    handle.close()
    await workers.release()
    await leaving
    assert states.of(1)[-1] is END


async def test_nothing_is_aspired_any_more_once_it_leaves(loaders, states, workers):
    async with AspiredVersionsManager(loaders, workers, workers, states) as manager:
        pass
    manager.set_aspired_versions("m", [version(1)])
    assert loaders.made == []


# With real threads and the loop's own time.


async def test_it_loads_retries_swaps_and_leaves_with_real_workers(loaders):
    monitor = ServableStateMonitor()
    loaders.fail(2, times=2)
    async with (
        Workers("load", 2) as loading,
        Workers("unload", 1) as unloading,
        AspiredVersionsManager(loaders, loading, unloading, monitor.publish, retries=LoadRetries(2, 0)) as manager,
    ):
        manager.set_aspired_versions("m", [version(1)])
        assert await monitor.wait_until(lambda: manager.available_versions("m") == [1])
        manager.set_aspired_versions("m", [version(2)])
        assert await monitor.wait_until(lambda: monitor.versions("m")[-1].manager_state is END)
        assert manager.available_versions("m") == [2]
    assert [state.manager_state for state in monitor.versions("m")] == [END, END]
    assert all(loader.unloads == 1 for loader in loaders.made)


# Attempts.


@pytest.fixture
def attempts() -> list[Attempt]:
    return []


@pytest.fixture
def counted(workers, loaders, states, clock, attempts) -> AspiredVersionsManager:
    """A manager that tells `attempts` of each."""
    return AspiredVersionsManager(
        loaders,
        workers,
        workers,
        states,
        retries=LoadRetries(1, 60_000_000),
        call_later=clock.call_later,
        on_attempt=attempts.append,
        reload_replaced_versions=True,
    )


def _told(attempts: list[Attempt]) -> list[tuple[str, str | None]]:
    return [(attempt.action.name, attempt.error and attempt.error.code.name) for attempt in attempts]


async def test_each_load_and_each_unload_is_told(counted, workers, loaders, clock, attempts):
    loaders.fail(1, times=1)
    counted.set_aspired_versions("m", [version(1)])
    await _until_given_up(workers, clock)
    counted.set_aspired_versions("m", [])
    await workers.release()
    assert _told(attempts) == [("LOAD", "UNAVAILABLE"), ("LOAD", None), ("UNLOAD", None)]
    assert {attempt.id for attempt in attempts} == {ServableId("m", 1)}
    assert {attempt.loader for attempt in attempts} == {loaders[1]}


async def test_a_load_that_was_called_off_has_not_failed(counted, workers, attempts, states):
    counted.set_aspired_versions("m", [version(1)])
    counted.set_aspired_versions("m", [])
    await workers.release()
    assert states.health(1).code is Code.CANCELLED
    assert _told(attempts) == [("LOAD", None), ("UNLOAD", None)]


async def test_a_version_called_off_before_its_turn_was_never_attempted(workers, loaders, states, attempts):
    loading = HeldWorkers(threads=1)
    manager = AspiredVersionsManager(loaders, loading, workers, states, on_attempt=attempts.append)
    manager.set_aspired_versions("slow", [version(1, "slow")])
    manager.set_aspired_versions("m", [version(2)])
    manager.set_aspired_versions("m", [])
    assert states.health(2).code is Code.CANCELLED
    assert attempts == []


async def test_failed_loads_of_replaced_files_and_failed_unloads_are_told(counted, workers, loaders, clock, attempts):
    counted.set_aspired_versions("m", [version(1)])
    await workers.release()
    loaders.fail(1)
    counted.files_changed(ServableId("m", 1))
    await _until_given_up(workers, clock)
    loaders.of(1)[0].unload_error = OSError("stuck")
    counted.set_aspired_versions("m", [])
    await workers.release()
    assert _told(attempts) == [
        ("LOAD", None),
        ("LOAD", "UNAVAILABLE"),
        ("LOAD", "UNAVAILABLE"),
        ("UNLOAD", "INTERNAL"),
    ]


async def test_an_attempt_is_told_before_its_state(workers, loaders, states, clock):
    seen: list[int] = []
    manager = AspiredVersionsManager(
        loaders,
        workers,
        workers,
        states,
        call_later=clock.call_later,
        on_attempt=lambda attempt: seen.append(len(states.of(1))),
    )
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert (seen, states.of(1)) == ([2], [START, LOADING, LOADING])


# What an operator reads.


async def test_the_log_has_a_line_for_each_change(manager, workers, caplog):
    caplog.set_level(logging.INFO)
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(2)])
    manager.set_aspired_versions("m", [])
    await workers.release()
    assert caplog.messages == [
        "Loading servable version {name: m version: 1}",
        "Successfully loaded servable version {name: m version: 1}",
        "Loading servable version {name: m version: 2}",
        "Quiescing servable version {name: m version: 1}",
        "Unloading servable version {name: m version: 1}",
        "Unloading just-loaded servable version {name: m version: 2}",
        "Done unloading servable version {name: m version: 1}",
        "Done unloading servable version {name: m version: 2}",
    ]


async def test_the_log_tells_each_failed_attempt_and_the_giving_up(manager, workers, loaders, clock, caplog):
    loaders.fail(1)
    manager.set_aspired_versions("m", [version(1)])
    await _until_given_up(workers, clock)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "WARNING",
            "Attempt 1 to load servable version {name: m version: 1} failed, the next is in 60 s: "
            "UNAVAILABLE: storage is away",
        ),
        (
            "WARNING",
            "Attempt 2 to load servable version {name: m version: 1} failed, the next is in 60 s: "
            "UNAVAILABLE: storage is away",
        ),
        (
            "ERROR",
            "Giving up loading servable version {name: m version: 1} after attempt 3: UNAVAILABLE: storage is away",
        ),
    ]


async def _until_given_up(workers: HeldWorkers, clock: FakeClock) -> None:
    await workers.release()
    while clock.due_in:
        clock.advance(clock.due_in[0])
        await workers.release()


# Calling off.


async def test_a_load_that_nobody_wants_any_more_is_told_and_no_other(manager, workers, loaders, states):
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    manager.set_aspired_versions("m", [version(1), version(2)])
    manager.set_aspired_versions("m", [version(1)])
    assert [loaders[number].is_cancelled for number in (1, 2)] == [False, True]
    loaders[2].failures, loaders[2].error = 1, Cancelled("broken off")
    await workers.release()
    assert states.of(2) == [START, LOADING, END]
    assert states.health(2).code is Code.CANCELLED
    assert manager.available_versions("m") == [1]


async def test_a_version_wished_again_after_its_load_was_called_off_is_loaded_afresh(manager, workers, loaders):
    manager.set_aspired_versions("m", [version(1)])
    manager.set_aspired_versions("m", [])
    loaders[1].failures, loaders[1].error = 1, Cancelled("broken off")
    manager.set_aspired_versions("m", [version(1)])
    await workers.release()
    assert manager.available_versions("m") == [1]
    assert [loader.is_cancelled for loader in loaders.of(1)] == [True, False]
