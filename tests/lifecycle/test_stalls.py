"""One slow or failing model never holds up another: the manager with the threads that the server gives it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pyserving import options
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.lifecycle.policy import resource_preserving
from pyserving.lifecycle.retries import LoadRetries
from pyserving.loader import ServableLoader
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableRequest, ServableState
from pyserving.warmup import WarmupReport
from pyserving.workers import Workers
from tests.fakes import FakeClock, FakeLoader, FakeLoaders, HeldWorkers

START, LOADING, AVAILABLE, UNLOADING, END = ManagerState
DEFAULT = 0
"""What --num_load_threads and --num_unload_threads are unless they are given."""


class Storage:
    """A manager with the threads of `--num_load_threads=load --num_unload_threads=unload` on two CPUs.

    Loads and unloads of models whose name begins with `hung` do not come back before the test says so.
    """

    def __init__(self, load: int = DEFAULT, unload: int = DEFAULT, **settings: object) -> None:
        self.loading = HeldWorkers("load", options.transition_threads(load, cpus=2))
        self.unloading = HeldWorkers("unload", options.transition_threads(unload, cpus=2))
        self.loaders, self.clock, self.monitor = FakeLoaders(), FakeClock(), ServableStateMonitor()
        self.manager = AspiredVersionsManager(
            self.loaders,
            self.loading,
            self.unloading,
            self.monitor.publish,
            retries=LoadRetries(3, 60_000_000),
            call_later=self.clock.call_later,
            load_patience_seconds=options.transition_patience_seconds(load),
            unload_patience_seconds=options.transition_patience_seconds(unload),
            **settings,  # type: ignore[arg-type]
        )

    def wish(self, name: str, *versions: int) -> None:
        aspired = [AspiredVersion(ServableId(name, version), f"/{name}/{version}") for version in versions]
        self.manager.set_aspired_versions(name, aspired)

    async def work(self) -> None:
        """Let every thread that is not in a hung model come back, until there is nothing more for them to do."""
        while jobs := [(w, job) for w in (self.loading, self.unloading) for job in w.held if not _is_hung(job)]:
            workers, job = jobs[0]
            await workers.release_one(job)

    async def wake(self) -> None:
        """The hung ones come back."""
        while self.loading.held or self.unloading.held:
            await self.loading.release()
            await self.unloading.release()

    def states(self, name: str) -> dict[int, ManagerState]:
        return {state.id.version: state.manager_state for state in self.monitor.versions(name)}


def _is_hung(job: object) -> bool:
    loader = job.__self__  # type: ignore[attr-defined]
    assert isinstance(loader, FakeLoader)
    return loader.aspired.id.name.startswith("hung")


@pytest.mark.proves("difference: A load or an unload that takes long, or hangs")
async def test_a_model_all_of_whose_versions_hang_leaves_others_to_load_swap_and_go() -> None:
    storage = Storage()
    storage.wish("hung", *range(1, 21))
    storage.wish("m", 1)
    await storage.work()
    assert storage.states("m") == {1: AVAILABLE}
    storage.wish("m", 2)
    await storage.work()
    assert storage.states("m") == {2: AVAILABLE, 1: END}
    storage.wish("m")
    await storage.work()
    assert storage.states("m") == {2: END, 1: END}
    await storage.wake()
    assert storage.manager.available_versions("hung") == list(range(1, 21))


async def test_more_hung_models_than_threads_hold_up_others_for_a_bounded_time() -> None:
    storage = Storage()
    for number in range(20):
        storage.wish(f"hung{number}", 1)
    storage.wish("m", 1)
    await storage.work()
    assert storage.states("m") == {1: START}
    for _ in range(3):  # eight stand-ins take over each time
        storage.clock.advance(30)
    await storage.work()
    assert storage.states("m") == {1: AVAILABLE}
    await storage.wake()
    assert (storage.loading.stand_ins, storage.clock.due_in) == (0, [])


@pytest.mark.proves("difference: A load or an unload that takes long, or hangs")
async def test_a_number_of_threads_that_was_given_is_kept() -> None:
    storage = Storage(load=1)
    storage.wish("hung", 1)
    storage.wish("m", 1)
    storage.clock.advance(3600)
    await storage.work()
    assert storage.states("m") == {1: START}
    await storage.wake()
    assert storage.states("m") == {1: AVAILABLE}


@pytest.mark.proves("difference: A load or an unload that takes long, or hangs")
async def test_with_one_thread_a_load_that_waits_for_its_retry_is_not_waited_for() -> None:
    storage = Storage(load=1)
    storage.loaders.fail(7)
    storage.wish("bad", 7)
    storage.wish("m", 1)
    await storage.work()
    assert storage.states("bad") == {7: LOADING}
    assert storage.states("m") == {1: AVAILABLE}
    assert storage.clock.due_in == [60]


async def test_with_one_thread_a_hung_load_holds_up_no_unload() -> None:
    storage = Storage(load=1, unload=1)
    storage.wish("m", 1)
    await storage.work()
    storage.wish("hung", 1)
    storage.wish("m")
    await storage.work()
    assert storage.states("m") == {1: END}


async def test_a_retry_that_is_due_while_another_model_loads_holds_up_neither() -> None:
    storage = Storage()
    storage.loaders.fail(7, times=1)
    storage.wish("bad", 7)
    await storage.work()
    storage.wish("m", 1)
    storage.clock.advance(60)
    assert [job.__self__.aspired.id.name for job in storage.loading.held] == ["m", "bad"]
    await storage.work()
    assert (storage.states("m"), storage.states("bad")) == ({1: AVAILABLE}, {7: AVAILABLE})


@pytest.mark.proves("difference: A load or an unload that takes long, or hangs")
@pytest.mark.parametrize("policy", [None, resource_preserving])
async def test_hung_unloads_hold_up_no_other_model(policy: object) -> None:
    storage = Storage(**({"policy": policy} if policy else {}))
    storage.wish("hung", *range(1, 21))
    storage.wish("m", 1)
    await storage.wake()
    storage.wish("hung")
    storage.wish("m", 2)
    await storage.work()
    assert storage.states("m") == {2: AVAILABLE, 1: END}
    assert set(storage.states("hung").values()) == {UNLOADING}
    await storage.wake()
    assert set(storage.states("hung").values()) == {END}


async def test_a_model_that_is_removed_while_its_load_hangs_holds_up_no_other() -> None:
    storage = Storage()
    storage.wish("hung", *range(1, 9))
    storage.wish("hung")
    storage.wish("m", 1)
    await storage.work()
    storage.wish("n", 1)
    await storage.work()
    assert (storage.states("m"), storage.states("n")) == ({1: AVAILABLE}, {1: AVAILABLE})
    assert storage.states("hung")[1] is END, "it had not begun"
    assert storage.states("hung")[8] is LOADING
    await storage.wake()
    assert set(storage.states("hung").values()) == {END}
    assert storage.manager.available_versions("hung") == []


async def test_leaving_waits_for_a_load_that_hangs_and_then_unloads_it() -> None:
    storage = Storage()
    storage.wish("hung", 1)
    storage.wish("m", 1)
    await storage.work()
    leaving = asyncio.ensure_future(storage.manager.__aexit__(None, None, None))
    await asyncio.sleep(0)
    await storage.work()
    assert storage.states("m") == {1: END}
    assert not leaving.done()
    await storage.wake()
    await leaving
    assert storage.states("hung") == {1: END}
    assert storage.loaders[1].unloaded


async def test_every_model_of_a_first_burst_serves_though_some_hang_and_some_fail() -> None:
    storage = Storage()
    storage.loaders.fail(7)
    for number in range(20):
        storage.wish("hung" if number == 3 else f"m{number}", *((7,) if number in (5, 11) else (1, 2, 3)))
    await storage.work()
    for number in set(range(20)) - {3, 5, 11}:
        assert storage.states(f"m{number}") == {3: AVAILABLE, 2: AVAILABLE, 1: AVAILABLE}
    assert storage.states("m5") == storage.states("m11") == {7: LOADING}
    await storage.wake()
    assert storage.states("hung") == {3: AVAILABLE, 2: AVAILABLE, 1: AVAILABLE}


class NoExecutor:
    def close(self) -> None:
        pass


async def test_a_long_warm_up_holds_up_no_other_model() -> None:
    gate, is_warming = threading.Event(), threading.Event()

    def warm_up(path: str, servable: str, report: WarmupReport) -> None:
        if path.startswith("/slow"):
            is_warming.set()
            gate.wait()

    def loader(version: AspiredVersion) -> ServableLoader[str]:
        return ServableLoader(version, lambda path: NoExecutor(), lambda path, id, executor: str(id), warm_up)  # type: ignore[arg-type,return-value]

    def is_available(state: ServableState | None) -> bool:
        return state is not None and state.manager_state is AVAILABLE

    slow, quick = ServableId("slow", 1), ServableId("m", 1)
    monitor = ServableStateMonitor()
    threads = options.transition_threads(DEFAULT, cpus=2)
    async with (
        Workers("load", threads) as loading,
        Workers("unload", threads) as unloading,
        AspiredVersionsManager(loader, loading, unloading, monitor.publish) as manager,
    ):
        for name in ("slow", "m"):
            manager.set_aspired_versions(name, [AspiredVersion(ServableId(name, 1), f"/{name}/1")])
        assert await monitor.wait_until(lambda: is_available(monitor.state(quick)))
        await loading.submit(is_warming.wait)
        assert not is_available(monitor.state(slow))
        with manager.get_servable_handle(ServableRequest("m")) as servable:
            assert servable == str(quick)
        gate.set()
        assert await monitor.wait_until(lambda: is_available(monitor.state(slow)))


async def test_real_threads_stand_in_for_those_that_hang() -> None:
    gate = threading.Event()
    loaders, clock, monitor = FakeLoaders(), FakeClock(), ServableStateMonitor()
    async with Workers("load", 1) as loading, Workers("unload", 1) as unloading:
        manager = AspiredVersionsManager(
            lambda aspired: HangingLoader(aspired, gate) if aspired.id.name == "hung" else loaders(aspired),
            loading,
            unloading,
            monitor.publish,
            call_later=clock.call_later,
            load_patience_seconds=30,
        )
        manager.set_aspired_versions("hung", [AspiredVersion(ServableId("hung", 1), "/hung/1")])
        manager.set_aspired_versions("m", [AspiredVersion(ServableId("m", 1), "/m/1")])
        clock.advance(30)
        assert await monitor.wait_until(lambda: manager.available_versions("m") == [1])
        gate.set()
        assert await monitor.wait_until(lambda: manager.available_versions("hung") == [1])
        await manager.__aexit__(None, None, None)


class HangingLoader:
    def __init__(self, aspired: AspiredVersion, gate: threading.Event) -> None:
        self._gate = gate

    def load(self) -> object:
        assert self._gate.wait(60), "nobody opened the gate"
        return object()

    def cancel(self) -> None:
        pass

    def unload(self) -> None:
        pass
