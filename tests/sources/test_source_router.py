"""Local and remote base paths side by side: one source to the outside, and none that holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from pyserving.errors import Cancelled
from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.sources.source_router import SourceRouter
from pyserving.sources.version_policy import MonitoredServable, VersionPolicy
from pyserving.types import ServableId
from pyserving.workers import Workers
from tests.sources.fake_storage import FakeStorage
from tests.sources.saved_models import DATA, INDEX, with_variables, write
from tests.sources.test_file_system import FakeTime, Wishes

BUCKET = "gs://bucket"
NAMES = ("here", "there", "hung", "well", "m")
"""All models that any test has."""


@pytest.fixture
def wishes() -> Wishes:
    return Wishes()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def storage() -> Iterator[FakeStorage]:
    made = FakeStorage()
    yield made
    made.release()


@pytest.fixture
async def router(wishes: Wishes, fake_time: FakeTime, storage: FakeStorage) -> AsyncIterator[SourceRouter]:
    source = partial(
        FileSystemStoragePathSource,
        on_problem=wishes.on_problem,
        on_version_changed=wishes.on_version_changed,
        clock=fake_time.clock,
    )
    async with Workers("scan", 1) as scanning, Workers("scan-remote", 2, waits_at_close=False) as scanning_remote:
        router = SourceRouter(
            wishes.aspire,
            local=partial(source, scanning=scanning, poll_wait_seconds=0),
            remote=partial(source, scanning=scanning_remote, poll_wait_seconds=60, storage=storage),
        )
        async with router:
            yield router


def local(tmp_path: Path, name: str, *versions: str) -> MonitoredServable:
    for version in versions:
        write(tmp_path / name / version, with_variables())
    return MonitoredServable(name, str(tmp_path / name))


def remote(storage: FakeStorage, name: str, *versions: str) -> MonitoredServable:
    for version in versions:
        storage.write(f"{BUCKET}/{name}/{version}", with_variables())
    return MonitoredServable(name, f"{BUCKET}/{name}")


async def test_local_and_remote_models_are_one_wish(router, wishes, storage, tmp_path):
    router.update_config([local(tmp_path, "here", "1"), remote(storage, "there", "3", "4")])
    await router.scanned(NAMES)
    assert sorted(wishes.calls) == [("here", [1]), ("there", [4])]
    assert wishes.paths[ServableId("there", 4)] == f"{BUCKET}/there/4"


async def test_a_removed_model_is_unaspired_and_no_longer_looked_at(router, wishes, storage, fake_time):
    router.update_config([remote(storage, "there", "1")])
    await router.scanned(NAMES)
    router.update_config([])
    await router.scanned(NAMES)
    assert wishes.calls == [("there", [1]), ("there", [])]
    assert fake_time.due_in == []


@pytest.mark.parametrize("goes_remote", [True, False])
async def test_a_model_that_moves_is_never_without_versions(router, wishes, storage, tmp_path, goes_remote):
    places = [local(tmp_path, "m", "1"), remote(storage, "m", "1", "2")]
    before, after = places if goes_remote else places[::-1]
    router.update_config([before])
    await router.scanned(NAMES)
    router.update_config([after])
    await router.scanned(NAMES)
    assert [versions for _, versions in wishes.calls] == ([[1], [2]] if goes_remote else [[2], [1]])


@pytest.mark.proves("difference: A base path on remote storage")
async def test_storage_that_does_not_answer_holds_up_nobody_else(router, wishes, storage, tmp_path):
    storage.hang(f"{BUCKET}/hung")
    hung = remote(storage, "hung", "1")
    router.update_config([hung])
    waiting = asyncio.create_task(router.scanned(NAMES))
    await storage.entered(f"{BUCKET}/hung")
    router.update_config([hung, remote(storage, "well", "1"), local(tmp_path, "here", "1")])
    await router.scanned(["well", "here"])
    assert sorted(wishes.calls) == [("here", [1]), ("well", [1])]
    assert not waiting.done()
    storage.release()
    await waiting


async def test_storage_that_does_not_answer_is_the_models_problem(router, storage, fake_time, tmp_path):
    storage.hang(f"{BUCKET}/hung")
    router.update_config([remote(storage, "hung", "1"), local(tmp_path, "here", "1")])
    waiting = asyncio.create_task(router.scanned(NAMES))
    await storage.entered(f"{BUCKET}/hung")
    fake_time.pass_by(10)
    await asyncio.wait_for(waiting, timeout=20)
    assert "no answer from the storage within 10 s" in router.problems["hung"]


async def test_nobody_waits_for_a_router_that_is_closed(router, storage):
    storage.hang(f"{BUCKET}/hung")
    router.update_config([remote(storage, "hung", "1")])
    waiting = asyncio.create_task(router.scanned(NAMES))
    await storage.entered(f"{BUCKET}/hung")
    await router.__aexit__(None, None, None)
    with pytest.raises(Cancelled):
        await waiting


@pytest.mark.proves("difference: A base path on remote storage")
async def test_a_remote_base_path_is_polled_less_often_while_it_fails(router, wishes, storage, fake_time):
    storage.trouble[f"{BUCKET}/m"] = OSError(5, "permission denied")
    router.update_config([remote(storage, "m", "1")])
    await fake_time.until(120)
    assert wishes.problems == [
        (
            "m",
            "FileSystemStoragePathSource encountered a filesystem access error: Could not list base path "
            "gs://bucket/m for servable m: permission denied",
        )
    ]
    waits = []
    for _ in range(5):
        waits.append(fake_time.due_in)
        await router.scanned(NAMES)
    assert waits == [[120], [240], [480], [480], [480]]
    del storage.trouble[f"{BUCKET}/m"]
    await router.scanned(NAMES)
    assert fake_time.due_in == [60]
    assert wishes.calls == [("m", [1])]
    assert router.problems == {}


async def test_a_remote_base_path_that_fails_later_keeps_its_versions(router, wishes, storage):
    router.update_config([remote(storage, "m", "1")])
    await router.scanned(NAMES)
    storage.remove(f"{BUCKET}/m")
    await router.scanned(NAMES)
    assert wishes.calls == [("m", [1])]
    assert "Could not find base path gs://bucket/m" in router.problems["m"]


async def test_a_remote_version_waits_for_the_shards_its_index_tells(router, wishes, storage, fake_time):
    fake_time.wall = 1.0  # second after the epoch, when all files were written
    files = with_variables()
    folder = f"{BUCKET}/m/1"
    storage.write(folder, {name: files[name] for name in ("saved_model.pb", INDEX)})
    router.update_config([MonitoredServable("m", f"{BUCKET}/m")])
    for content, reason in [(None, f"{DATA} is not there"), (b"wei", f"{DATA} has 3 of 7 bytes")]:
        if content is not None:
            storage.write(folder, {DATA: content}, mtime_ns=1)
        await router.scanned(NAMES)
        fake_time.pass_by(0.5)
        await router.scanned(NAMES)
        assert router.settling == {"m": {1: reason}}
    storage.write(folder, {DATA: files[DATA]})
    await router.scanned(NAMES)
    fake_time.pass_by(0.5)
    await router.scanned(NAMES)
    assert wishes.calls == [("m", [1])]


@pytest.mark.proves("difference: A base path on remote storage")
async def test_a_remote_version_that_is_waited_for_is_looked_at_no_oftener_than_it_is_polled_and_read_once(
    wishes, storage, fake_time
):
    async with Workers("scan", 1) as scanning:
        source = FileSystemStoragePathSource(
            wishes.aspire,
            scanning,
            60,
            quiet_seconds=5.0,
            least_wait_seconds=60,
            storage=storage,
            clock=fake_time.clock,
        )
        async with source:
            fake_time.wall = 0.0
            storage.write(f"{BUCKET}/m/1", {"saved_model.pb": with_variables()["saved_model.pb"]})
            source.update_config([MonitoredServable("m", f"{BUCKET}/m")])
            for looks in range(1, 6):
                await fake_time.until(60.0)
                assert storage.listings == 2 * looks  # of the base path and of the version
                fake_time.pass_by(60)
            assert storage.opened == [f"{BUCKET}/m/1/saved_model.pb"]


async def test_storage_without_times_takes_a_second_look(router, wishes, storage, fake_time):
    storage.write(f"{BUCKET}/m/1", with_variables(), mtime_ns=0)
    router.update_config([MonitoredServable("m", f"{BUCKET}/m")])
    await router.scanned(NAMES)
    assert wishes.calls == []
    fake_time.pass_by(1)
    await router.scanned(NAMES)
    assert wishes.calls == [("m", [1])]


async def test_a_remote_version_that_changes_is_told_also_by_a_file_that_came(router, wishes, storage, fake_time):
    router.update_config([remote(storage, "m", "1")])
    await router.scanned(NAMES)
    storage.write(f"{BUCKET}/m/1", {"assets.extra/notes": b"new"})
    await router.scanned(NAMES)
    fake_time.pass_by(0.5)
    await router.scanned(NAMES)
    assert wishes.changed == [ServableId("m", 1)]


async def test_specific_remote_versions_are_not_listed(router, wishes, storage):
    remote(storage, "m", "1", "2")
    router.update_config([MonitoredServable("m", f"{BUCKET}/m", VersionPolicy("specific", versions=(1,)))])
    storage.trouble[f"{BUCKET}/m"] = OSError(5, "listing is forbidden")
    await router.scanned(NAMES)
    assert wishes.calls == [("m", [1])]


async def test_the_listings_of_each_scan_are_told(wishes, storage, fake_time):
    listings = []
    async with Workers("scan", 1) as scanning:
        source = FileSystemStoragePathSource(
            wishes.aspire,
            scanning,
            60,
            storage=storage,
            on_listed=lambda name, number: listings.append((name, number)),
            clock=fake_time.clock,
        )
        async with source:
            source.update_config([remote(storage, "m", "1", "2")])
            await source.scanned(["m"])
            storage.trouble[f"{BUCKET}/m"] = OSError(5, "permission denied")
            await source.scanned(["m"])
    assert listings == [("m", 2), ("m", 1)]
