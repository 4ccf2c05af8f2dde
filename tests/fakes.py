"""Fakes with behaviour for the lifecycle: loaders that fail on demand, workers and a clock that wait for the test."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from pyserving.errors import ServingError, Unavailable
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableState
from pyserving.workers import Job


class FakeServable:
    def __init__(self, id: ServableId) -> None:
        self.id = id
        self.is_closed = False


class FakeLoader:
    """Loads a FakeServable after failing `failures` times."""

    def __init__(self, aspired: AspiredVersion, failures: float = 0, error: BaseException | None = None) -> None:
        self.aspired = aspired
        self.failures = failures
        self.error = error or Unavailable("storage is away")
        self.unload_error: Exception | None = None
        self.loads = 0
        self.unloads = 0
        self.is_cancelled = False
        self.servable: FakeServable | None = None

    @property
    def unloaded(self) -> bool:
        return self.unloads > 0

    def load(self) -> FakeServable:
        assert self.servable is None, "loaded twice"
        self.loads += 1
        if self.loads <= self.failures:
            raise self.error
        self.servable = FakeServable(self.aspired.id)
        return self.servable

    def cancel(self) -> None:
        self.is_cancelled = True

    def unload(self) -> None:
        assert self.servable is not None, "never loaded"
        self.unloads += 1
        self.servable.is_closed = True
        if self.unload_error is not None:
            raise self.unload_error


class FakeLoaders:
    """Makes a manager's loaders and keeps them all; `loaders[version]` is the newest made for that number."""

    def __init__(self) -> None:
        self.made: list[FakeLoader] = []
        self._failing: dict[int, tuple[float, BaseException | None]] = {}

    def fail(self, version: int, times: float = float("inf"), error: BaseException | None = None) -> None:
        """Let loaders of `version` made from now on fail their first `times` loads."""
        self._failing[version] = (times, error)

    def mend(self, version: int) -> None:
        del self._failing[version]

    def __call__(self, aspired: AspiredVersion) -> FakeLoader:
        failures, error = self._failing.get(aspired.id.version, (0, None))
        self.made.append(FakeLoader(aspired, failures, error))
        return self.made[-1]

    def __getitem__(self, version: int) -> FakeLoader:
        return self.of(version)[-1]

    def of(self, version: int, name: str | None = None) -> list[FakeLoader]:
        return [m for m in self.made if m.aspired.id.version == version and name in (None, m.aspired.id.name)]


class HeldWorkers:
    """Workers whose jobs are held until the test releases them; then they run on the loop's own thread."""

    def __init__(self, name: str = "held", threads: int = 8) -> None:
        self.name = name
        self.threads = threads
        self.stand_ins = 0
        self._held: list[tuple[Callable[..., Any], Job[Any]]] = []

    async def __aenter__(self) -> HeldWorkers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    @property
    def held(self) -> list[Callable[..., Any]]:
        """The functions submitted and not released yet."""
        return [function for function, _ in self._held]

    @property
    def unfinished(self) -> int:
        return len(self._held)

    def submit(self, function: Callable[..., Any], *args: Any) -> Job[Any]:
        job: Job[Any] = Job(function, args, asyncio.get_running_loop().create_future())
        self._held.append((function, job))
        return job

    def add_stand_in(self) -> bool:
        self.stand_ins += 1
        return True

    def remove_stand_in(self) -> None:
        self.stand_ins -= 1

    async def release(self) -> None:
        """Run what is held, and what that brings with it, until nothing is held any more."""
        while self._held:
            await self.release_one()

    async def release_one(self, function: Callable[..., Any] | None = None) -> None:
        """Run the oldest job, or that of `function`, and let everybody hear of its result."""
        job = next(pair for pair in self._held if function is None or pair[0] == function)
        self._held.remove(job)
        job[1].run()
        job[1].land()
        await asyncio.sleep(0)  # callbacks of the future run before whoever waits here


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    """Stands in for `loop.call_later`; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = count()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), timer))
        return timer

    @property
    def due_in(self) -> list[float]:
        """Seconds until each timer that was not cancelled."""
        return sorted(when - self.now for when, _, timer in self._timers if not timer.is_cancelled)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.is_cancelled:
                timer.callback()


class RecordedStates:
    """A `publish` that keeps all it is told."""

    def __init__(self) -> None:
        self.all: list[ServableState] = []

    def __call__(self, state: ServableState) -> None:
        self.all.append(state)

    def of(self, version: int, name: str = "m") -> list[ManagerState]:
        """The states a version went through, in order."""
        return [state.manager_state for state in self.all if state.id == ServableId(name, version)]

    def health(self, version: int, name: str = "m") -> ServingError | None:
        """The error in the last state of a version."""
        return [state.health for state in self.all if state.id == ServableId(name, version)][-1]
