"""Scans in threads of which some do not come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from pyserving.sources.scan_threads import ScanThreads
from pyserving.workers import Workers
from tests.sources.test_file_system import FakeTime


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers("scan", 1, max_stand_ins=2, waits_at_close=False) as made:
        yield made


async def stuck(threads: ScanThreads, base_path: str, gate: threading.Event) -> asyncio.Task[bool]:
    """A scan that is in its thread until the gate opens."""
    entered = threading.Event()

    def scan() -> bool:
        entered.set()
        return gate.wait(20)

    task = asyncio.create_task(threads.run(base_path, scan))
    await asyncio.get_running_loop().run_in_executor(None, entered.wait, 20)
    return task


async def test_a_scan_gives_its_result_or_its_error(workers: Workers, fake_time: FakeTime) -> None:
    threads = ScanThreads(workers, fake_time.clock)
    assert await threads.run("/m", divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run("/m", divmod, 7, 0)
    assert fake_time.due_in == []


async def test_another_thread_stands_in_for_one_that_is_stuck_and_goes_when_it_comes_back(
    workers: Workers, fake_time: FakeTime, gate: threading.Event
) -> None:
    threads = ScanThreads(workers, fake_time.clock)
    first = await stuck(threads, "/a", gate)
    other = asyncio.create_task(threads.run("/b", divmod, 7, 2))
    await asyncio.sleep(0)
    fake_time.pass_by(0.5)
    assert await other == (3, 1)
    gate.set()
    assert await first
    assert [workers.add_stand_in() for _ in range(3)] == [True, True, False]


async def test_a_base_path_in_which_a_thread_is_stuck_gets_no_other(
    workers: Workers, fake_time: FakeTime, gate: threading.Event
) -> None:
    threads = ScanThreads(workers, fake_time.clock)
    first = await stuck(threads, "/a", gate)
    fake_time.pass_by(0.5)
    first.cancel()
    again = asyncio.create_task(threads.run("/a", divmod, 7, 2))
    assert await threads.run("/b", divmod, 9, 2) == (4, 1)
    assert not again.done()
    gate.set()
    assert await again == (3, 1)


async def test_the_more_are_stuck_the_sooner_is_the_next_one_relieved(
    workers: Workers, fake_time: FakeTime, gate: threading.Event
) -> None:
    threads = ScanThreads(workers, fake_time.clock)
    running = [await stuck(threads, "/a", gate)]
    fake_time.pass_by(0.5)
    running.append(await stuck(threads, "/b", gate))
    assert fake_time.due_in == [0.25]
    fake_time.pass_by(0.25)
    running.append(await stuck(threads, "/c", gate))
    assert fake_time.due_in == [0.167]
    fake_time.pass_by(1.0)  # there are no more stand-ins
    assert fake_time.due_in == [0.167]
    gate.set()
    assert await asyncio.gather(*running) == [True] * 3
