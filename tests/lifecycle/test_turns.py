"""Who is next: a few threads, many models, and some that do not come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pyserving.lifecycle.harness import LoaderHarness
from pyserving.lifecycle.turns import Turns
from pyserving.types import AspiredVersion, ServableId
from tests.fakes import FakeClock, FakeLoader, HeldWorkers


class Loads:
    """Turns of loads; keeps what began and what is over, in order, as `name/version`."""

    def __init__(self, threads: int, patience_seconds: float | None = None) -> None:
        self.workers = HeldWorkers(threads=threads)
        self.clock = FakeClock()
        self.begun: list[str] = []
        self.over: list[str] = []
        self.turns = Turns(self.workers, self._begin, self._over, patience_seconds, self.clock.call_later)
        self._harnesses: dict[str, LoaderHarness] = {}

    def come(self, *names: str) -> None:
        """Have these wait, all before any is let in."""
        for name in names:
            model, _, version = name.partition("/")
            aspired = AspiredVersion(ServableId(model, int(version)), name)
            self._harnesses[name] = LoaderHarness(aspired, FakeLoader(aspired))
            self.turns.wait(self._harnesses[name])
        self.turns.give()

    def call_off(self, name: str) -> None:
        self.turns.call_off(self._harnesses[name])

    async def end(self, name: str) -> None:
        await self.workers.release_one(self._harnesses[name].loader.load)

    def _begin(self, harness: LoaderHarness) -> Callable[[], Any]:
        self.begun.append(harness.path)
        return harness.loader.load

    def _over(self, harness: LoaderHarness, result: asyncio.Future[Any]) -> None:
        assert result.done()
        self.over.append(harness.path)


async def test_they_begin_in_the_order_in_which_they_came_as_threads_come_free() -> None:
    loads = Loads(threads=2)
    loads.come("a/1", "b/1", "c/1", "d/1")
    assert loads.begun == ["a/1", "b/1"]
    await loads.end("b/1")
    assert loads.begun == ["a/1", "b/1", "c/1"]
    assert loads.over == ["b/1"]


async def test_a_model_with_many_versions_does_not_keep_the_others_waiting() -> None:
    loads = Loads(threads=3)
    loads.come("a/1", "a/2", "a/3", "b/1", "c/1")
    assert loads.begun == ["a/1", "b/1", "c/1"]
    await loads.workers.release()
    assert loads.begun[3:] == ["a/2", "a/3"]


async def test_one_that_is_slow_does_not_keep_its_model_from_its_next_turn() -> None:
    loads = Loads(threads=3)
    loads.come("a/1", "a/2", "b/1", "b/2")
    assert loads.begun == ["a/1", "b/1", "a/2"]
    await loads.end("b/1")
    assert loads.begun[3:] == ["b/2"]


async def test_the_last_thread_is_left_to_other_models() -> None:
    loads = Loads(threads=3)
    loads.come("a/1", "a/2", "a/3")
    assert loads.begun == ["a/1", "a/2"]
    loads.come("b/1")
    assert loads.begun == ["a/1", "a/2", "b/1"]


async def test_a_single_thread_is_left_to_nobody() -> None:
    loads = Loads(threads=1)
    loads.come("a/1", "a/2")
    assert loads.begun == ["a/1"]
    await loads.end("a/1")
    assert loads.begun == ["a/1", "a/2"]


async def test_one_that_is_called_off_while_it_waits_never_begins() -> None:
    loads = Loads(threads=1)
    loads.come("a/1", "b/1", "c/1")
    loads.call_off("b/1")
    await loads.workers.release()
    assert loads.begun == ["a/1", "c/1"]


async def test_one_that_is_in_its_thread_cannot_be_called_off() -> None:
    loads = Loads(threads=1)
    loads.come("a/1")
    loads.call_off("a/1")
    await loads.workers.release()
    assert loads.over == ["a/1"]


async def test_another_thread_stands_in_for_one_that_does_not_come_back() -> None:
    loads = Loads(threads=1, patience_seconds=30)
    loads.come("hung/1", "b/1", "c/1")
    loads.clock.advance(29)
    assert loads.begun == ["hung/1"]
    loads.clock.advance(1)
    assert loads.begun == ["hung/1", "b/1"]
    assert loads.workers.stand_ins == 1
    await loads.end("b/1")
    assert loads.begun == ["hung/1", "b/1", "c/1"]
    await loads.end("hung/1")
    assert loads.workers.stand_ins == 0
    assert loads.over == ["b/1", "hung/1"]


async def test_one_that_comes_back_in_time_has_no_stand_in() -> None:
    loads = Loads(threads=1, patience_seconds=30)
    loads.come("a/1")
    await loads.end("a/1")
    assert loads.clock.due_in == []
    loads.come("b/1")
    loads.clock.advance(29)
    assert loads.workers.stand_ins == 0


async def test_stand_ins_are_for_other_models_however_many_versions_of_one_hang() -> None:
    loads = Loads(threads=3, patience_seconds=30)
    loads.come("hung/1", "hung/2", "hung/3")
    loads.clock.advance(30)
    loads.come("b/1", "c/1")
    assert loads.begun == ["hung/1", "hung/2", "b/1", "c/1"]


async def test_with_no_patience_there_are_never_more_than_threads() -> None:
    loads = Loads(threads=2)
    loads.come("a/1", "b/1", "c/1")
    assert loads.clock.due_in == []
    assert loads.begun == ["a/1", "b/1"]


async def test_where_no_thread_can_stand_in_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads(threads=1, patience_seconds=30)
    monkeypatch.setattr(loads.workers, "add_stand_in", lambda: False)
    loads.come("hung/1", "b/1")
    loads.clock.advance(30)
    assert loads.begun == ["hung/1"]
    await loads.end("hung/1")
    assert loads.begun == ["hung/1", "b/1"]


async def test_a_burst_of_models_starves_none_of_them() -> None:
    loads = Loads(threads=4)
    models = [f"m{number:02}" for number in range(20)]
    loads.come(*(f"{model}/{version}" for model in models for version in (3, 2, 1)))
    while loads.workers.held:
        await loads.workers.release_one()
    assert loads.begun == [f"{model}/{version}" for version in (3, 2, 1) for model in models]
    assert len(loads.over) == 60
