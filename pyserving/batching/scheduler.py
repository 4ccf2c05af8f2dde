"""Which queue's batch a free thread runs next: one pool of threads for all models, and each model in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Protocol

from pyserving.workers import Job, Workers


class Flight(Protocol):
    """A batch on its way through a thread."""

    def run(self) -> None:
        """In the thread."""

    def land(self, error: BaseException | None) -> None:
        """On the loop, once no thread is in it; `error` is what `run` raised."""


class Source(Protocol):
    """A queue with requests in it."""

    @property
    def owner(self) -> Hashable:
        """The version it belongs to. Owners take turns, then the queues of an owner."""

    def due(self) -> float | None:
        """In `loop.time()` seconds: from when on `take` gives something; None when nothing waits."""

    def take(self, now: float, threads: int) -> Flight | None:
        """What to run next; None: nothing yet. So many threads are free, this one among them."""


class SharedBatchScheduler:
    """Lives on the loop. Knows only the queues in which something waits, so that a queue needs no closing."""

    def __init__(self, workers: Workers) -> None:
        """`workers` are this scheduler's alone."""
        self._workers = workers
        self._free = workers.threads
        self._owners: dict[Hashable, dict[Source, None]] = {}
        """Whose turn it is comes first."""
        self._jobs: dict[Flight, Job[None]] = {}
        self._abandoned: set[Flight] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def threads(self) -> int:
        """Batches that run at once."""
        return self._workers.threads

    @property
    def has_free_thread(self) -> bool:
        """For one more batch, now."""
        return self._free > 0

    def add(self, source: Source) -> None:
        """Something waits in `source`, or something else than before."""
        self._owners.setdefault(source.owner, {}).setdefault(source)
        self._dispatch(asyncio.get_running_loop().time())

    def abandon(self, flight: Flight) -> None:
        """Nobody waits for this batch any more. A thread cannot be stopped: another one stands in for it."""
        job = self._jobs.get(flight)
        if job is not None and flight not in self._abandoned and job.is_started and self._workers.add_stand_in():
            self._abandoned.add(flight)
            self._free += 1
            self._dispatch(asyncio.get_running_loop().time())

    def _dispatch(self, now: float) -> None:
        while self._free and (flight := self._next(now)) is not None:
            self._free -= 1
            job = self._workers.submit(flight.run)
            job.on_over = partial(self._over, flight, job)
            self._jobs[flight] = job
        self._wake_when_due(now)

    def _next(self, now: float) -> Flight | None:
        for owner, sources in list(self._owners.items()):
            for source in list(sources):
                flight = source.take(now, self._free)
                del sources[source]
                if source.due() is not None:
                    sources[source] = None
                if flight is None:
                    continue
                del self._owners[owner]
                if sources:
                    self._owners[owner] = sources
                return flight
            if not sources:
                del self._owners[owner]
        return None

    def _over(self, flight: Flight, job: Job[None]) -> None:
        del self._jobs[flight]
        job.on_over = None  # which holds the job
        if flight in self._abandoned:
            self._abandoned.remove(flight)
            self._workers.remove_stand_in()
        else:
            self._free += 1
        try:
            flight.land(job.future.exception())
        finally:
            self._dispatch(asyncio.get_running_loop().time())

    def _wake_when_due(self, now: float) -> None:
        """While threads are busy nobody need wake: the one that comes free looks for itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._free:
            return
        dues = [due for sources in self._owners.values() for source in sources if (due := source.due()) is not None]
        if dues:
            due = min(dues)
            # The loop's clock may tell of a time just before the one it was asked to wake at.
            self._timer = asyncio.get_running_loop().call_at(due, self._dispatch, max(due, now))
