"""One owner's part of the workers: limits, and threads that do not come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from pyserving.errors import DeadlineExceeded
from pyserving.servable import Servable
from pyserving.session import DirectSession
from pyserving.types import ServableId
from pyserving.workers import Job, Share, Workers
from tests.fake_executor import FakeExecutor
from tests.test_servable import NoHandle, X


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers("run", 2) as made:
        yield made


async def given_up(share: Share, job: Job[object]) -> None:
    job.future.cancel()
    with suppress(asyncio.CancelledError):
        await job.future
    share.give_up(job)


async def started(job: Job[object], flag: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, flag.wait)
    assert job.is_started


async def test_what_exceeds_the_limit_waits_and_leaves_threads_to_others(workers: Workers) -> None:
    gate = threading.Event()
    one, other = Share(workers, 1), Share(workers, 1)
    held = [one.submit(gate.wait) for _ in range(3)]
    assert await other.submit(lambda: "answered") == "answered"
    assert not any(job.is_over for job in held)
    gate.set()
    assert await asyncio.gather(*held) == [True] * 3


async def test_a_waiting_job_that_is_given_up_never_starts(workers: Workers) -> None:
    gate = threading.Event()
    share = Share(workers, 1)
    first, second = share.submit(gate.wait), share.submit(gate.wait)
    over: list[str] = []
    second.on_over = lambda: over.append("second")
    await given_up(share, second)
    assert over == ["second"]
    gate.set()
    await first
    assert not second.is_started


async def test_a_thread_that_does_not_come_back_is_replaced(workers: Workers) -> None:
    gate = threading.Event()
    share = Share(workers, 2)
    stuck = []
    for _ in range(6):  # three times as many as there are threads
        entered = threading.Event()

        def stay(entered: threading.Event = entered) -> None:
            entered.set()
            gate.wait()

        job = share.submit(stay)
        await started(job, entered)
        await given_up(share, job)
        stuck.append(job)
    assert share.given_up == 6
    assert await share.submit(lambda: "answered") == "answered"
    gate.set()
    await workers.idle()
    assert all(job.is_over for job in stuck)
    assert await share.submit(lambda: "answered") == "answered"
    assert share.given_up == 0


async def test_runs_that_expire_do_not_keep_other_requests_from_running(workers: Workers) -> None:
    """More endless runs than there are threads, of one model: it goes on answering, and so does another."""
    slow, quick = FakeExecutor(), FakeExecutor()
    slow.gate.clear()
    servables = [Servable(ServableId("m", 1), e, DirectSession(e, workers)) for e in (slow, quick)]
    loop = asyncio.get_running_loop()
    for _ in range(6):
        with pytest.raises(DeadlineExceeded):
            await servables[0].predict(NoHandle(), "", {"x": X}, (), loop.time() + 0.02)  # type: ignore[arg-type]
    answer = await servables[1].predict(NoHandle(), "", {"x": X}, (), None)  # type: ignore[arg-type]
    assert answer.outputs["y"].tolist() == [2.0, 4.0]
    slow.gate.set()
    answer = await servables[0].predict(NoHandle(), "", {"x": X}, (), None)  # type: ignore[arg-type]
    assert answer.outputs["y"].tolist() == [2.0, 4.0]
