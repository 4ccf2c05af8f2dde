from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.api import BaseObserver

from pyserving.errors import Cancelled
from pyserving.sources import file_system, watcher
from pyserving.sources.clock import Clock
from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.sources.version_policy import MonitoredServable, VersionPolicy
from pyserving.types import ServableId
from pyserving.workers import Workers
from tests.sources.fake_storage import FakeStorage
from tests.sources.saved_models import INDEX, with_variables, write

NAMES = ("a", "b", "m", "n", "gone")
"""All models that any test has."""


class FakeTimer:
    def __init__(self, due: float, callback: Callable[[], None], on_cancel: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.is_cancelled = False
        self._on_cancel = on_cancel

    def cancel(self) -> None:
        self.is_cancelled = True
        self._on_cancel()


class FakeTime:
    """Passes when told to. Files are an hour old until `wall` is set to 0, when only waiting makes them quiet."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = time.time() + 3600.0
        self.timers: list[FakeTimer] = []
        self._changed = asyncio.Event()
        self.clock = Clock(lambda: self.now, lambda: self.wall, self._call_later)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        self.timers.append(FakeTimer(self.now + seconds, callback, self._changed.set))
        self._changed.set()
        return self.timers[-1]

    async def until(self, *seconds: float) -> None:
        """Until timers are set for so many seconds from now, and no others."""
        while self.due_in != [*seconds]:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), timeout=20)

    @property
    def due_in(self) -> list[float]:
        return sorted(round(timer.due - self.now, 3) for timer in self.timers if not timer.is_cancelled)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for timer in list(self.timers):
            if timer.due <= self.now:
                self.timers.remove(timer)
                if not timer.is_cancelled:
                    timer.callback()


class Wishes:
    """Keeps what a source said. A test waits for the next thing it says, or for its scans."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.paths: dict[ServableId, str] = {}
        self.problems: list[tuple[str, str]] = []
        self.changed: list[ServableId] = []
        self._said = asyncio.Event()
        self.num_scans = 0
        self._scans = asyncio.Semaphore(0)

    def aspire(self, name, versions) -> None:
        self.calls.append((name, [wanted.id.version for wanted in versions]))
        self.paths.update({wanted.id: wanted.path for wanted in versions})
        self._said.set()

    def on_problem(self, name: str, reason: str) -> None:
        self.problems.append((name, reason))

    def on_version_changed(self, servable_id: ServableId) -> None:
        self.changed.append(servable_id)

    def on_scanned(self) -> None:
        self.num_scans += 1
        self._scans.release()

    async def scans(self, number: int) -> None:
        """So many more scans of one model each."""
        for _ in range(number):
            await asyncio.wait_for(self._scans.acquire(), timeout=20)

    async def next(self) -> tuple[str, list[int]]:
        """The call that comes after those that were there when last asked."""
        await asyncio.wait_for(self._said.wait(), timeout=20)
        self._said.clear()
        return self.calls[-1]


class Events:
    """A watcher of which the test says when it wakes the source."""

    def __call__(self, wake: Callable[[], None]) -> Events:
        self.wake = wake
        return self

    def follow(self, base_paths: object) -> bool:
        return False

    def close(self) -> None:
        """There is nothing to end."""


@pytest.fixture
def events(monkeypatch) -> Events:
    events = Events()
    monkeypatch.setattr(file_system, "Watcher", events)
    return events


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def wishes() -> Wishes:
    return Wishes()


@pytest.fixture
def no_watches(monkeypatch):
    class NoMoreWatches(BaseObserver):
        def __init__(self) -> None:
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watcher, "Observer", NoMoreWatches)


@pytest.fixture
async def new_source(wishes, fake_time) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:
        scanning = await stack.enter_async_context(Workers("scan", 1, waits_at_close=False))

        async def new(poll_wait_seconds: float = 0, **options: Any) -> FileSystemStoragePathSource:
            source = FileSystemStoragePathSource(
                wishes.aspire,
                scanning,
                poll_wait_seconds,
                **{
                    "on_problem": wishes.on_problem,
                    "on_version_changed": wishes.on_version_changed,
                    "on_scanned": wishes.on_scanned,
                    "clock": fake_time.clock,
                    **options,
                },
            )
            return await stack.enter_async_context(source)

        yield new


def model(tmp_path: Path, name: str, *versions: str, policy: VersionPolicy | None = None) -> MonitoredServable:
    for version in versions:
        write(tmp_path / name / version, with_variables())
    return MonitoredServable(name, str(tmp_path / name), policy or VersionPolicy())


async def test_versions_are_aspired_with_their_paths(new_source, wishes, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "a", "1", "2"), model(tmp_path, "b", "7")])
    await source.scanned(NAMES)
    assert wishes.calls == [("a", [2]), ("b", [7])]
    assert wishes.paths[ServableId("a", 2)] == str(tmp_path / "a" / "2")


async def test_a_configuration_is_scanned_without_being_waited_for(new_source, wishes, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "m", "1")])
    assert await wishes.next() == ("m", [1])


async def test_a_configuration_given_before_it_opens_is_scanned(wishes, tmp_path):
    async with Workers("scan", 1) as scanning:
        source = FileSystemStoragePathSource(wishes.aspire, scanning, 0)
        source.update_config([model(tmp_path, "m", "1")])
        async with source:
            assert await wishes.next() == ("m", [1])


async def test_an_unchanged_set_is_not_aspired_again(new_source, wishes, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "m", "1")])
    await source.scanned(NAMES)
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [1])]


async def test_a_removed_model_is_un_aspired_once_and_at_once(new_source, wishes, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "a", "1"), model(tmp_path, "b", "1")])
    await source.scanned(NAMES)
    source.update_config([model(tmp_path, "a")])
    assert wishes.calls[-1] == ("b", [])
    source.update_config([model(tmp_path, "a")])
    await source.scanned(NAMES)
    assert wishes.calls[2:] == [("b", [])]


async def test_a_model_removed_and_added_while_a_scan_runs_is_scanned_again(new_source, wishes, tmp_path):
    source = await new_source()
    servable = model(tmp_path, "m", "1")
    source.update_config([servable])
    await source.scanned(NAMES)
    waiting = asyncio.ensure_future(source.scanned(NAMES))
    await asyncio.sleep(0)  # lets the scan begin
    source.update_config([])
    source.update_config([servable])
    await waiting
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [1]), ("m", []), ("m", [1])]


async def test_another_base_path_or_policy_counts_from_the_next_scan(new_source, wishes, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "m", "1", "2")])
    await source.scanned(NAMES)
    source.update_config([model(tmp_path, "m", policy=VersionPolicy("all"))])
    await source.scanned(NAMES)
    write(tmp_path / "new" / "2", with_variables())
    source.update_config([MonitoredServable("m", str(tmp_path / "new"))])
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [2]), ("m", [1, 2]), ("m", [2])]
    assert wishes.paths[ServableId("m", 2)] == str(tmp_path / "new" / "2")
    assert wishes.changed == []


@pytest.mark.proves("difference: A base path vanishes, empties, or cannot be listed")
async def test_one_models_missing_base_path_leaves_the_others_alone(new_source, wishes, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "gone"), model(tmp_path, "m", "1")])
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [1])]
    assert list(source.problems) == ["gone"]
    assert "Could not find base path" in source.problems["gone"]


async def test_a_problem_is_told_and_logged_once_and_again_when_it_comes_back(new_source, wishes, tmp_path, caplog):
    source = await new_source()
    source.update_config([model(tmp_path, "m", "1")])
    await source.scanned(NAMES)
    for _ in range(2):
        (tmp_path / "m").rename(tmp_path / "away")
        await source.scanned(NAMES)
        await source.scanned(NAMES)
        assert list(source.problems) == ["m"]
        (tmp_path / "away").rename(tmp_path / "m")
        await source.scanned(NAMES)
        assert source.problems == {}
    assert [name for name, _ in wishes.problems] == ["m", "m"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    assert caplog.records[3].message == "Refusing to unload all versions for Servable: m"
    assert wishes.calls == [("m", [1])]


async def test_a_version_waited_for_is_looked_at_again_without_any_poll(
    new_source, wishes, fake_time, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    fake_time.wall = 0.0
    source = await new_source(poll_wait_seconds=0)
    servable = model(tmp_path, "m", "1")
    (tmp_path / "m" / "1" / INDEX).unlink()
    source.update_config([servable])
    await source.scanned(NAMES)
    for _ in range(3):
        assert fake_time.due_in == [0.5]
        fake_time.pass_by(0.5)
        await source.scanned(NAMES)
    assert source.settling == {"m": {1: f"{INDEX} is not there"}}
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "its files are still changing",
        f"{INDEX} is not there",
    ]
    write(tmp_path / "m" / "1", with_variables())
    fake_time.pass_by(0.5)
    await source.scanned(NAMES)
    fake_time.pass_by(0.5)
    assert await wishes.next() == ("m", [1])
    assert source.settling == {}
    assert fake_time.due_in == []


async def test_the_timeout_of_an_incomplete_version_is_kept_without_any_poll(new_source, wishes, fake_time, tmp_path):
    fake_time.wall = 0.0
    source = await new_source(poll_wait_seconds=-1, incomplete_version_timeout_seconds=3.0)
    (tmp_path / "m" / "1").mkdir(parents=True)
    source.update_config([model(tmp_path, "m")])
    await source.scanned(NAMES)
    fake_time.pass_by(3.0)
    assert await wishes.next() == ("m", [1])


@pytest.mark.parametrize("poll_wait_seconds", [0, -1])
async def test_without_a_poll_new_versions_wait_for_somebody_to_ask(
    new_source, wishes, fake_time, tmp_path, poll_wait_seconds
):
    source = await new_source(poll_wait_seconds)
    source.update_config([model(tmp_path, "m", "1")])
    await source.scanned(NAMES)
    model(tmp_path, "m", "2")
    assert fake_time.due_in == []
    source.update_config([model(tmp_path, "m")])
    await source.scanned(NAMES)
    fake_time.pass_by(0.5)
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [1]), ("m", [2])]


async def test_the_poll_finds_new_versions_and_counts_from_the_start_of_a_scan(
    new_source, wishes, fake_time, tmp_path, no_watches
):
    source = await new_source(poll_wait_seconds=60)
    source.update_config([model(tmp_path, "m", "1")])
    assert await wishes.next() == ("m", [1])
    await fake_time.until(60.0)
    model(tmp_path, "m", "2")
    fake_time.pass_by(59.0)
    assert fake_time.due_in == [1.0]
    await wishes.scans(1)
    fake_time.pass_by(1.0)
    await wishes.scans(1)
    await fake_time.until(0.5)
    fake_time.pass_by(0.5)
    assert await wishes.next() == ("m", [2])
    await fake_time.until(60.0)


async def test_a_version_moved_in_wakes_it_long_before_the_poll(wishes, tmp_path):
    async with Workers("scan", 1) as scanning:
        servable = model(tmp_path, "m", "1")
        async with FileSystemStoragePathSource(wishes.aspire, scanning, 3600, quiet_seconds=0.0) as source:
            source.update_config([servable])
            assert await wishes.next() == ("m", [1])
            write(tmp_path / "2", with_variables()).rename(tmp_path / "m" / "2")
            assert await wishes.next() == ("m", [2])


async def test_a_base_path_that_appears_wakes_it_long_before_the_poll(wishes, tmp_path):
    async with (
        Workers("scan", 1) as scanning,
        FileSystemStoragePathSource(wishes.aspire, scanning, 3600, quiet_seconds=0.0) as source,
    ):
        source.update_config([model(tmp_path, "m")])
        await source.scanned(NAMES)
        write(tmp_path / "there" / "1", with_variables())
        (tmp_path / "there").rename(tmp_path / "m")
        assert await wishes.next() == ("m", [1])


async def test_however_many_events_there_are_one_scan_follows(new_source, wishes, fake_time, events, tmp_path):
    source = await new_source(poll_wait_seconds=3600)
    source.update_config([model(tmp_path, "m", "1")])
    await fake_time.until(3600.0)
    for _ in range(50):
        events.wake()
    await fake_time.until(0.2, 3600.0)
    fake_time.pass_by(0.2)
    await wishes.scans(2)
    await fake_time.until(3600.0)
    assert wishes.num_scans == 2


async def test_a_changed_version_is_told_by_its_id(new_source, wishes, fake_time, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "m", "1")])
    await source.scanned(NAMES)
    write(tmp_path / "m" / "1", with_variables(b"other weights"))
    await source.scanned(NAMES)
    fake_time.pass_by(0.5)
    await source.scanned(NAMES)
    await source.scanned(NAMES)
    assert wishes.changed == [ServableId("m", 1)]
    assert wishes.calls == [("m", [1])]


@pytest.mark.proves("difference: A base path vanishes, empties, or cannot be listed")
async def test_last_versions_go_when_they_need_not_be_present(new_source, wishes, tmp_path):
    source = await new_source(servable_versions_always_present=False)
    source.update_config([model(tmp_path, "m", "1")])
    await source.scanned(NAMES)
    shutil.rmtree(tmp_path / "m" / "1")
    await source.scanned(NAMES)
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [1]), ("m", [])]


async def test_a_version_that_went_and_came_back_is_aspired_again(new_source, wishes, fake_time, tmp_path):
    source = await new_source()
    source.update_config([model(tmp_path, "m", "1", "2")])
    await source.scanned(NAMES)
    (tmp_path / "m" / "2").rename(tmp_path / "away")
    await source.scanned(NAMES)
    (tmp_path / "away").rename(tmp_path / "m" / "2")
    await source.scanned(NAMES)
    fake_time.pass_by(0.5)
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [2]), ("m", [1]), ("m", [2])]


async def test_a_scan_gone_wrong_is_told_to_who_waits_and_is_not_the_last(
    new_source, wishes, fake_time, tmp_path, caplog
):
    storage = FakeStorage()
    source = await new_source(storage=storage)
    storage.trouble["gs://bucket/m"] = TypeError("a mistake of ours")
    storage.write("gs://bucket/m/1", with_variables())
    source.update_config([MonitoredServable("m", "gs://bucket/m"), model(tmp_path, "a")])
    with pytest.raises(TypeError):
        await source.scanned(NAMES)
    assert "A scan of the base path of servable m failed" in caplog.text
    del storage.trouble["gs://bucket/m"]
    await source.scanned(NAMES)
    assert wishes.calls == [("m", [1])]


async def test_the_loop_goes_on_while_a_scan_takes_its_time(wishes, tmp_path):
    released = threading.Event()

    def wall() -> float:
        released.wait(20)
        return time.time() + 3600.0

    async with (
        Workers("scan", 1) as scanning,
        FileSystemStoragePathSource(wishes.aspire, scanning, 0, clock=Clock(wall=wall)) as source,
    ):
        source.update_config([model(tmp_path, "m", "1")])
        waiting = asyncio.ensure_future(source.scanned(NAMES))
        await asyncio.sleep(0)
        source.update_config([model(tmp_path, "m"), model(tmp_path, "n", "3")])
        assert wishes.calls == []
        released.set()
        await waiting
        await source.scanned(NAMES)
        assert wishes.calls[-1] == ("n", [3])


async def test_who_waits_for_a_scan_when_it_closes_is_told(wishes, tmp_path):
    released = threading.Event()
    async with Workers("scan", 1) as scanning:
        scanning.submit(released.wait, 20)
        async with FileSystemStoragePathSource(wishes.aspire, scanning, 0) as source:
            source.update_config([model(tmp_path, "m", "1")])
            waiting = asyncio.ensure_future(source.scanned(NAMES))
            await asyncio.sleep(0)
        released.set()
        with pytest.raises(Cancelled, match="closed"):
            await waiting
        with pytest.raises(Cancelled, match="closed"):
            await source.scanned(NAMES)
    assert wishes.calls == []


async def test_each_scan_is_told_of_and_each_change_too(new_source, wishes, fake_time, tmp_path, caplog):
    scans = []
    source = await new_source(on_scanned=lambda: scans.append(source.settling))
    served = model(tmp_path, "a", "1")
    source.update_config([served])
    await source.scanned(NAMES)
    for data in (b"heavier", b"lighter"):
        write(tmp_path / "a" / "1", with_variables(data))
        await source.scanned(NAMES)
        fake_time.pass_by(0.5)
        await source.scanned(NAMES)
    assert wishes.changed == [ServableId("a", 1)] * 2
    assert caplog.messages == ["Files of servable version {name: a version: 1} changed under the same number"] * 2
    assert len(scans) >= 3


# Storage that does not answer

BUCKET = "gs://bucket"


@pytest.fixture
def storage() -> Iterator[FakeStorage]:
    made = FakeStorage()
    yield made
    made.release()


def remote(storage: FakeStorage, name: str) -> MonitoredServable:
    storage.write(f"{BUCKET}/{name}/1", with_variables())
    return MonitoredServable(name, f"{BUCKET}/{name}")


@pytest.mark.proves("difference: Storage that hangs")
async def test_storage_that_hangs_holds_up_its_own_model_alone(new_source, wishes, fake_time, storage):
    source = await new_source(storage=storage)
    hung = [remote(storage, name) for name in ("a", "b", "n")]
    storage.hang(*(servable.base_path for servable in hung))
    source.update_config([*hung, remote(storage, "m")])
    waiting = asyncio.ensure_future(source.scanned(["m"]))
    for servable in hung:
        await storage.entered(servable.base_path)
        fake_time.pass_by(0.5)  # when another thread takes the place of the one that is stuck
    await asyncio.wait_for(waiting, timeout=20)
    assert wishes.calls == [("m", [1])]
    assert source.problems == {}


@pytest.mark.proves("difference: Storage that hangs")
async def test_storage_that_hangs_is_the_models_problem_and_nobody_waits_longer(
    new_source, wishes, fake_time, storage, caplog
):
    source = await new_source(storage=storage)
    storage.hang(f"{BUCKET}/m")
    source.update_config([remote(storage, "m")])
    waiting = asyncio.ensure_future(source.scanned(["m"]))
    await storage.entered(f"{BUCKET}/m")
    fake_time.pass_by(9.9)
    assert not waiting.done()
    fake_time.pass_by(0.1)
    await asyncio.wait_for(waiting, timeout=20)
    problem = (
        "FileSystemStoragePathSource encountered a filesystem access error: Could not list base path gs://bucket/m for "
        "servable m: no answer from the storage within 10 s"
    )
    assert source.problems == {"m": problem}
    assert wishes.problems == [("m", problem)]
    assert caplog.messages == [problem]
    await asyncio.wait_for(source.scanned(["m"]), timeout=20)  # who asks now is answered at once


@pytest.mark.proves("difference: Storage that hangs")
async def test_an_answer_that_comes_late_counts(new_source, wishes, fake_time, storage):
    source = await new_source(storage=storage)
    storage.hang(f"{BUCKET}/m")
    source.update_config([remote(storage, "m")])
    await storage.entered(f"{BUCKET}/m")
    fake_time.pass_by(10.0)
    assert list(source.problems) == ["m"]
    storage.release()
    assert await wishes.next() == ("m", [1])
    assert source.problems == {}


async def test_a_version_is_not_waited_for_while_storage_hangs(new_source, fake_time, storage):
    source = await new_source(storage=storage)
    storage.write(f"{BUCKET}/m/1", {"README": b"more to come"})
    source.update_config([MonitoredServable("m", f"{BUCKET}/m")])
    fake_time.wall = 0.0
    await source.scanned(["m"])
    assert list(source.settling) == ["m"]
    storage.hang(f"{BUCKET}/m")
    fake_time.pass_by(0.5)
    await storage.entered(f"{BUCKET}/m")
    fake_time.pass_by(10.0)
    assert (list(source.problems), source.settling) == (["m"], {})


async def test_another_base_path_is_scanned_while_the_old_one_hangs(new_source, wishes, fake_time, storage):
    source = await new_source(storage=storage)
    storage.hang(f"{BUCKET}/a")
    source.update_config([MonitoredServable("m", f"{BUCKET}/a")])
    await storage.entered(f"{BUCKET}/a")
    waiting = asyncio.ensure_future(source.scanned(["m"]))
    await asyncio.sleep(0)
    source.update_config([remote(storage, "m")])
    fake_time.pass_by(0.5)
    await asyncio.wait_for(waiting, timeout=20)
    assert wishes.calls == [("m", [1])]
    storage.write(f"{BUCKET}/a/7", with_variables())
    storage.release()
    await source.scanned(["m"])
    assert wishes.calls == [("m", [1])]


async def test_a_base_path_that_takes_the_place_of_a_silent_one_is_waited_for(new_source, wishes, fake_time, storage):
    source = await new_source(storage=storage)
    storage.hang(f"{BUCKET}/a")
    source.update_config([MonitoredServable("m", f"{BUCKET}/a")])
    await storage.entered(f"{BUCKET}/a")
    fake_time.pass_by(10.0)
    assert list(source.problems) == ["m"]
    source.update_config([remote(storage, "m")])
    await source.scanned(["m"])
    assert (wishes.calls, source.problems) == ([("m", [1])], {})


async def test_a_model_that_comes_and_goes_costs_one_thread_while_its_storage_hangs(
    new_source, wishes, fake_time, storage
):
    source = await new_source(storage=storage)
    servable = remote(storage, "m")
    storage.hang(servable.base_path)
    for _ in range(3):
        source.update_config([servable])
        await storage.entered(servable.base_path)
        fake_time.pass_by(10.0)
        assert list(source.problems) == ["m"]
        source.update_config([])
    assert storage.hanging == 1
    source.update_config([servable])
    storage.release()
    while wishes.calls[-1:] != [("m", [1])]:
        await wishes.next()


async def test_who_waits_for_a_model_that_is_removed_meanwhile_waits_no_more(new_source, wishes, storage):
    source = await new_source(storage=storage)
    storage.hang(f"{BUCKET}/m")
    source.update_config([remote(storage, "m")])
    waiting = asyncio.ensure_future(source.scanned(["m"]))
    await storage.entered(f"{BUCKET}/m")
    source.update_config([])
    await asyncio.wait_for(waiting, timeout=20)
    assert wishes.calls == [("m", [])]


async def test_folders_that_take_long_to_be_watched_hold_up_no_scan(
    new_source, wishes, fake_time, tmp_path, monkeypatch
):
    entered, gate = threading.Event(), threading.Event()

    def follow(self, folders):
        entered.set()
        return gate.wait(20)

    monkeypatch.setattr(watcher.Watcher, "follow", follow)
    source = await new_source(poll_wait_seconds=3600)
    source.update_config([model(tmp_path, "a", "1")])
    await asyncio.get_running_loop().run_in_executor(None, entered.wait, 20)
    fake_time.pass_by(0.5)
    source.update_config([model(tmp_path, "b", "1")])
    await source.scanned(NAMES)
    assert wishes.calls == [("a", [1]), ("a", []), ("b", [1])]
    gate.set()
