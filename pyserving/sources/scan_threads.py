"""ScanThreads: workers for scans, some of which may never come back because their storage does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pyserving.sources.clock import Clock
from pyserving.workers import Job, Workers

_RELIEF_SECONDS = 0.5
"""A thread that is in one scan for longer is relieved by another: cheap, should it come back after all."""
_LEAST_RELIEF_SECONDS = 0.02

_T = TypeVar("_T")


class ScanThreads:
    """Runs scans so that one which hangs holds up no other, except of the same base path.

    A thread that is stuck in storage cannot be stopped. Another one stands in for it until it comes back; a base path
    keeps no more than one thread, and `workers` limits them all.
    """

    def __init__(self, workers: Workers, clock: Clock) -> None:
        self._workers = workers
        self._clock = clock
        self._stuck: dict[str, asyncio.Event] = {}

    async def run(self, base_path: str, scan: Callable[..., _T], *args: Any) -> _T:
        """`scan(*args)`, run in a thread once none is stuck in `base_path`. Whoever waits may give up at any time."""
        while base_path in self._stuck:
            await self._stuck[base_path].wait()
        job = self._workers.submit(scan, *args)
        self._relieve_later(base_path, job)
        return await job

    def _relieve_later(self, base_path: str, job: Job[Any]) -> None:
        # The more are stuck, the more of those that wait their turn are likely to be so too.
        seconds = max(_RELIEF_SECONDS / (1 + len(self._stuck)), _LEAST_RELIEF_SECONDS)
        timer = self._clock.call_later(seconds, partial(self._relieve, base_path, job))
        job.on_over = timer.cancel

    def _relieve(self, base_path: str, job: Job[Any]) -> None:
        if job.is_started and self._workers.add_stand_in():
            self._stuck.setdefault(base_path, asyncio.Event())
            job.on_over = partial(self._come_back, base_path)
        else:  # its turn has not come, or there are stand-ins enough
            self._relieve_later(base_path, job)

    def _come_back(self, base_path: str) -> None:
        self._workers.remove_stand_in()
        if base_path in self._stuck:
            self._stuck.pop(base_path).set()
