from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver

from pyserving.sources import watcher as watcher_module
from pyserving.sources.watcher import Watcher, folders_to_watch
from pyserving.workers import Workers


class Woken:
    """A watcher and the one who is woken; waits for the event itself."""

    def __init__(self, scanning: Workers) -> None:
        self._scanning = scanning
        self._event = asyncio.Event()
        self.watcher = Watcher(self._event.set)

    async def follow(self, *base_paths: Path) -> None:
        folders = [folders_to_watch(str(path)) for path in base_paths]
        await self._scanning.submit(self.watcher.follow, folders)
        self._event.clear()

    async def woken(self) -> bool:
        await asyncio.wait_for(self._event.wait(), timeout=20)
        self._event.clear()
        return True

    async def close(self) -> None:
        await self._scanning.submit(self.watcher.close)


@pytest.fixture
async def watching() -> AsyncIterator[Woken]:
    async with Workers("scan", 1) as scanning:
        woken = Woken(scanning)
        yield woken
        await woken.close()


def test_a_plain_base_path_is_watched_itself(tmp_path):
    assert folders_to_watch(str(tmp_path)) == {str(tmp_path): None}


def test_the_parent_of_a_missing_base_path_is_watched_for_its_name(tmp_path):
    assert folders_to_watch(str(tmp_path / "base")) == {str(tmp_path): {"base"}}
    assert folders_to_watch(str(tmp_path / "no" / "base")) == {}


def test_every_link_on_the_way_is_watched_for(tmp_path):
    (tmp_path / "real" / "rev1" / "models").mkdir(parents=True)
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "..data").symlink_to("../real/rev1")
    (tmp_path / "mount" / "models").symlink_to("..data/models")
    assert folders_to_watch(str(tmp_path / "mount" / "models")) == {
        str(tmp_path / "mount"): {"..data", "models"},
        str(tmp_path / "real" / "rev1" / "models"): None,
    }


def test_links_in_a_circle_come_to_an_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert folders_to_watch(str(tmp_path / "a"))[str(tmp_path)] == {"a", "b"}


async def test_a_version_that_comes_and_goes_wakes(watching, tmp_path):
    await watching.follow(tmp_path)
    (tmp_path / "1").mkdir()
    assert await watching.woken()
    await watching.follow(tmp_path)
    (tmp_path / "1").rename(tmp_path / "2")
    assert await watching.woken()


async def test_a_base_path_removed_and_made_again_is_watched_again(watching, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    await watching.follow(base)
    base.rmdir()
    assert await watching.woken()
    await watching.follow(base)
    base.mkdir()
    assert await watching.woken()
    await watching.follow(base)
    (base / "1").mkdir()
    assert await watching.woken()


async def test_a_base_path_made_again_between_two_looks_is_watched_again(watching, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    await watching.follow(base)
    base.rmdir()
    base.mkdir()
    assert await watching.woken()
    await watching.follow(base)
    (base / "1").mkdir()
    assert await watching.woken()


async def test_a_link_swapped_wakes(watching, tmp_path):
    for revision in ("rev1", "rev2"):
        (tmp_path / revision).mkdir()
    (tmp_path / "base").symlink_to("rev1")
    await watching.follow(tmp_path / "base")
    (tmp_path / "new").symlink_to("rev2")
    (tmp_path / "new").replace(tmp_path / "base")
    assert await watching.woken()
    await watching.follow(tmp_path / "base")
    (tmp_path / "rev2" / "1").mkdir()
    assert await watching.woken()


async def test_writing_behind_a_link_wakes(watching, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to("real")
    await watching.follow(tmp_path / "base")
    (tmp_path / "real" / "1").mkdir()
    assert await watching.woken()


async def test_without_watches_to_be_had_the_poll_is_left_alone(watching, tmp_path, monkeypatch, caplog):
    class NoMoreWatches(BaseObserver):
        def __init__(self) -> None:
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watcher_module, "Observer", NoMoreWatches)
    await watching.follow(tmp_path)
    await watching.follow(tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "inotify watch limit reached" in caplog.text
