"""Many requests of all kinds at a BatchingSession with real threads: each has the one outcome that is its own."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import numpy as np
import pytest

from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.batching_session import BatchingSession
from pyserving.errors import Code, ServingError
from pyserving.loop_time import LoopTime
from pyserving.metrics import Metrics
from pyserving.session import DirectSession
from pyserving.workers import Workers
from tests.batching.row_executor import RowExecutor

REQUESTS = 200


class Handle:
    """Counts how often it is open."""

    def __init__(self) -> None:
        self.open = 1

    def copy(self) -> Handle:
        self.open += 1
        return self

    def close(self) -> None:
        self.open -= 1


def some_options(chance: random.Random) -> QueueOptions:
    size = chance.choice([3, 4, 8, 1000])
    is_splitting = chance.random() < 0.4
    return QueueOptions(
        max_batch_size=size,
        max_execution_batch_size=chance.randint(1, min(size, 8)) if is_splitting else size,
        batch_timeout_micros=chance.choice([0, 0, 100, 2_000]),
        max_enqueued_batches=chance.choice([1, 3, 100]),
        allowed_batch_sizes=chance.choice([(), (2, size)]),
        pad_variable_length_inputs=chance.random() < 0.3,
        enable_large_batch_splitting=is_splitting,
    )


class Story:
    """One session, and what becomes of the requests to it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.options = some_options(chance)
        self.handles: list[Handle] = []
        self.answered = 0
        self.metrics = Metrics()
        self._executor = RowExecutor()
        self._executor.is_short = chance.random() < 0.4
        self._executor.before_run = self._dawdle

    def _dawdle(self) -> None:
        if self.chance.random() < 0.2:
            sum(range(self.chance.randrange(50_000)))  # a run that takes its time

    async def tell(self) -> None:
        async with Workers("run", 2) as running, Workers("batch", self.chance.choice([1, 2])) as batches:
            loop_time = LoopTime()
            scheduler = SharedBatchScheduler(batches)
            self._session = BatchingSession(
                DirectSession(self._executor, running, loop_time=loop_time),
                scheduler,
                self.options,
                partial(BatchCounts, self.metrics, "m", "1"),
                self._executor.signature_defs,
                loop_time=loop_time,
            )
            tasks = []
            for number in range(1, REQUESTS):
                tasks.append(asyncio.ensure_future(self._request(number)))
                if self.chance.random() < 0.1:
                    asyncio.get_running_loop().call_later(self.chance.random() * 0.01, tasks[-1].cancel)
                if self.chance.random() < 0.1:
                    await asyncio.sleep(0)
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                    raise outcome
        assert scheduler.has_free_thread

    async def _request(self, number: int) -> None:
        chance, handle = self.chance, Handle()
        self.handles.append(handle)
        is_bad = chance.random() < 0.05
        x = np.full((chance.choice([1, 1, 2, 3]), chance.choice([2, 2, 3])), -number if is_bad else number, np.float32)
        x += np.arange(len(x), dtype=np.float32)[:, np.newaxis] / 4
        fetches = chance.choice([("same:0",), ("same:0", "double:0"), ("double:0", "same:0")])
        now = asyncio.get_running_loop().time()
        deadline = chance.choice([None, None, now + 0.001, now + 0.01, now + 10])
        try:
            result = await self._session.run(self._session.plan(("x:0",), fetches), [x], handle, deadline)
        except ServingError as error:
            self._check_error(error, is_bad, deadline)
        else:
            assert not is_bad
            self._check_answer(x, dict(zip(fetches, result.outputs, strict=True)))
            self.answered += 1
        finally:
            handle.close()

    def _check_error(self, error: ServingError, is_bad: bool, deadline: float | None) -> None:
        if error.code is Code.INVALID_ARGUMENT:
            assert is_bad
        elif error.code is Code.DEADLINE_EXCEEDED:
            assert deadline is not None
        else:
            assert error.code is Code.UNAVAILABLE

    def _check_answer(self, x: np.ndarray, outputs: dict[str, np.ndarray]) -> None:
        same = outputs["same:0"]
        if self.options.pad_variable_length_inputs:
            assert len(same) == len(x)
            assert np.array_equal(same[:, : x.shape[1]], x)
        else:
            assert np.array_equal(same, x)
        assert np.array_equal(outputs.get("double:0", same * 2), same * 2)

    def depth(self) -> list[str]:
        lines = self.metrics.exposition().decode().splitlines()
        return [line.rpartition(" ")[2] for line in lines if line.startswith(":pyserving:batching:queue_depth{")]


@pytest.mark.parametrize("seed", range(12))
async def test_each_request_has_its_own_outcome_and_nothing_is_left_behind(seed):
    story = Story(random.Random(seed))
    await story.tell()
    assert story.answered > 0
    assert {handle.open for handle in story.handles} == {0}
    assert set(story.depth()) == {"0"}
