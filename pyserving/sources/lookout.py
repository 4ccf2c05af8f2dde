"""Lookout: has the base path of one model scanned when it is due, and never waits for that of another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pyserving.sources.clock import Clock
from pyserving.sources.scan import Known, Report, silence
from pyserving.sources.version_policy import MonitoredServable

_log = logging.getLogger(__name__)

_MOST_DOUBLINGS = 3
"""Of the wait between two polls that find a problem."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a base path is due, in seconds."""

    poll_wait_seconds: float
    """From the start of one scan to the next; 0 or less: no poll."""
    answer_seconds: float
    """A scan that takes longer is no longer waited for."""
    least_wait_seconds: float = 0.0
    """Between two scans that nobody asked for."""
    backs_off: bool = False
    """Each wait is twice the one before while scans find a problem."""

    def next_scan(self, began: float, failures: int, look_again_at: float | None) -> float | None:
        """When the next one is due after one that began at `began` and was the so-manieth in a row with a problem.

        `look_again_at` is when something is to be seen that is waited for. Whatever the poll does, it is looked at.
        """
        due = []
        if self.poll_wait_seconds > 0:
            doublings = min(failures, _MOST_DOUBLINGS) if self.backs_off else 0
            due.append(began + self.poll_wait_seconds * (1 << doublings))
        if look_again_at is not None:
            due.append(max(look_again_at, began + self.least_wait_seconds))
        return min(due, default=None)


class Lookout:
    """One scan at a time; one that is asked for meanwhile comes after it.

    `scan` runs a scan in a thread and may never come back; `tell` is handed each report on the loop, among them the one
    that says so. A scan that comes back late counts like any other.
    """

    def __init__(
        self,
        servable: MonitoredServable,
        scan: Callable[[MonitoredServable, Known], Awaitable[Report]],
        tell: Callable[[Report], None],
        pace: Pace,
        clock: Clock,
    ) -> None:
        self.servable = servable
        self.known = Known()
        self.is_scanning = False
        self.is_silent = False
        """The scan under way is no longer waited for."""
        self._scan = scan
        self._tell = tell
        self._pace = pace
        self._clock = clock
        self._is_due = asyncio.Event()
        self._failures = 0
        self._waiting: list[asyncio.Future[None]] = []
        """For a scan that has not begun."""
        self._expecting: list[asyncio.Future[None]] = []
        """For the one under way."""
        self._timer: asyncio.TimerHandle | None = None
        """To the next scan, or to the end of patience with the one under way."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to scan; `close` ends it."""
        self._task = asyncio.create_task(self._scan_when_due(self._task))

    def close(self, error: Exception | None = None) -> None:
        """Nothing is told any more. Who waits for a scan is answered, with `error` if there is one."""
        self._break_off()
        self._answer(self._waiting, error)

    def wake(self) -> None:
        """A scan is due."""
        self._is_due.set()

    def look_for(self, servable: MonitoredServable) -> None:
        """Scan at once. When this is another base path or policy, a scan that is under way counts no more."""
        if servable != self.servable:
            self.servable = servable
            if self._task is not None:
                self._break_off()
                self.start()
        self.wake()

    def scanned(self) -> asyncio.Future[None]:
        """Done when a scan that begins from now on was told of, or none can be expected because storage is silent."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_silent:
            future.set_result(None)
        else:
            self._waiting.append(future)
        self.wake()
        return future

    async def _scan_when_due(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # was broken off
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            self._expecting, self._waiting = self._waiting, []
            began = self._clock.monotonic()
            error: Exception | None = None
            try:
                self._take(await self._look(began))
            except Exception as defect:  # one scan gone wrong must not be the last one
                _log.exception("A scan of the base path of servable %s failed", self.servable.name)
                error = defect
            self._set_timer(self._pace.next_scan(began, self._failures, self.known.look_again_at), self.wake)
            self._answer(self._expecting, error)

    async def _look(self, began: float) -> Report:
        self.is_scanning = True
        self._set_timer(began + self._pace.answer_seconds, self._fall_silent)
        try:
            return await self._scan(self.servable, self.known)
        finally:
            self.is_scanning = self.is_silent = False

    def _take(self, report: Report) -> None:
        self._failures = self._failures + 1 if report.problem is not None else 0
        self.known = report.known
        self._tell(report)

    def _fall_silent(self) -> None:
        self.is_silent = True
        self._tell(silence(self.servable, self.known, self._pace.answer_seconds))
        self._answer(self._expecting)
        self._answer(self._waiting)

    def _break_off(self) -> None:
        """Whoever waited for the scan under way waits for the next one."""
        if self._task is not None:
            self._task.cancel()
        self.is_silent = False
        self._set_timer(None, self.wake)
        self._waiting, self._expecting = self._expecting + self._waiting, []

    def _set_timer(self, when: float | None, callback: Callable[[], None]) -> None:
        """In the place of the one before; None: none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._clock.call_later(max(when - self._clock.monotonic(), 0.0), callback)

    @staticmethod
    def _answer(waiting: list[asyncio.Future[None]], error: Exception | None = None) -> None:
        for future in waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        waiting.clear()
