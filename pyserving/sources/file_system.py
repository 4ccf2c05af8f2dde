"""FileSystemStoragePathSource: watches base paths and says which versions of each model are wanted.

It lives on the loop and owns what is remembered between scans; the scans themselves run in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from pyserving.errors import Cancelled
from pyserving.sources.remarks import Remark
from pyserving.sources.scan import Known, Report, Rules, scan
from pyserving.sources.settling import Patience
from pyserving.sources.storage import LOCAL, Storage, local_path
from pyserving.sources.version_policy import MonitoredServable
from pyserving.sources.watcher import Watcher
from pyserving.types import AspiredVersion, ServableId
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_EVENT_SCANS = 0.2
"""How often events have everything scanned, however many there are."""
_MOST_DOUBLINGS = 3
"""Of the wait between two polls that find a problem."""


def _call_later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, callback)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the source takes the time from, all in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle] = _call_later


class FileSystemStoragePathSource:
    """Calls `aspire(name, versions)` whenever the wanted versions of a model are others than before.

    A new version is wanted once it is complete and quiet (see completeness.py); one that stays incomplete and
    unchanged for `incomplete_version_timeout_seconds` is wanted as it is. Base paths are scanned every
    `poll_wait_seconds`, counted from the start of the scan before, and when something happens in them; with 0 or less
    only when the configuration changes or somebody waits for a scan. Versions that are waited for are looked at again
    in any case. A base path that is missing, cannot be listed or has no version any more changes nothing, unless
    `servable_versions_always_present` is off and it can be listed: then its last versions go.

    `storage` that cannot be watched is polled alone; while a model has a problem, each wait is twice the one before.

    `on_problem(name, reason)` is told each time the reason changes for which a model's versions stay as they are;
    `on_version_changed(id)` when the files of an aspired version have changed and are whole and quiet again;
    `on_scanned()` after each scan. All callbacks come on the loop.
    """

    def __init__(
        self,
        aspire: Callable[[str, Sequence[AspiredVersion]], None],
        scanning: Workers,
        poll_wait_seconds: float,
        *,
        servable_versions_always_present: bool = True,
        incomplete_version_timeout_seconds: float = 30.0,
        quiet_seconds: float = 0.5,
        on_problem: Callable[[str, str], None] = lambda name, reason: None,
        on_version_changed: Callable[[ServableId], None] = lambda servable_id: None,
        on_scanned: Callable[[], None] = lambda: None,
        storage: Storage = LOCAL,
        clock: Clock | None = None,
    ) -> None:
        self._aspire = aspire
        self._scanning = scanning
        self._poll_wait_seconds = poll_wait_seconds
        self._on_problem = on_problem
        self._on_version_changed = on_version_changed
        self._on_scanned = on_scanned
        self._storage = storage
        self._clock = clock or Clock()
        self._rules = Rules(
            Patience(quiet_seconds, incomplete_version_timeout_seconds),
            servable_versions_always_present,
            self._clock.monotonic,
            self._clock.wall,
            storage,
        )
        self._servables: dict[str, MonitoredServable] = {}
        self._known: dict[str, Known] = {}
        self._aspired: dict[str, tuple[AspiredVersion, ...]] = {}
        self._problems: dict[str, str] = {}
        self._said: dict[str, tuple[Remark, ...]] = {}
        self._due: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._is_due = asyncio.Event()
        self._last_scan_began = -math.inf
        self._failed_polls = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._watcher: Watcher | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FileSystemStoragePathSource:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to watch and to scan; `close` ends it."""
        if self._poll_wait_seconds > 0 and self._storage.can_be_watched:
            self._watcher = Watcher(self._on_event)
        self._task = asyncio.create_task(self._scan_when_due())

    async def close(self) -> None:
        """Nothing is aspired or un-aspired any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        for timer in self._timers.values():
            timer.cancel()
        if self._watcher is not None:
            await self._scanning.submit(self._watcher.close)
        self._answer(self._waiting, Cancelled("The source of versions was closed"))

    @property
    def problems(self) -> Mapping[str, str]:
        """Model to the reason why its last scan left its versions as they are."""
        return dict(self._problems)

    @property
    def settling(self) -> Mapping[str, Mapping[int, str]]:
        """Model to its new versions that are waited for, and why."""
        return {
            name: {version: folder.reason for version, folder in known.settling.items()}
            for name, known in self._known.items()
            if known.settling
        }

    def update_config(self, servables: Sequence[MonitoredServable]) -> None:
        """Monitor these and nothing else, beginning with a scan at once.

        Versions of a name that went are un-aspired now. A name that stays keeps its versions until the scan; of a
        version that another base path holds too only the number counts.
        """
        gone = self._servables.keys() - {servable.name for servable in servables}
        self._servables = {servable.name: servable for servable in servables}
        for name in gone:
            for remembered in (self._known, self._aspired, self._problems, self._said):
                remembered.pop(name, None)
            self._aspire(name, ())
        for name in self._servables:
            self._known.setdefault(name, Known())
        self._wake(self._servables)

    async def scanned(self) -> None:
        """Return when all that is monitored now was scanned and handed over, by a scan that begins after this call.

        Raises Cancelled when the source is closed before.
        """
        if self._task is None:
            raise Cancelled("The source of versions was closed")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake(self._servables)
        await future

    def _wake(self, names: Iterable[str]) -> None:
        self._due.update(names)
        self._is_due.set()

    def _on_event(self) -> None:
        gap = self._last_scan_began + _SECONDS_BETWEEN_EVENT_SCANS - self._clock.monotonic()
        self._call_in("event", gap, self._wake_all)

    def _wake_all(self) -> None:
        self._wake(self._servables)

    def _call_in(self, timer: str, seconds: float, callback: Callable[[], None]) -> None:
        """One callback per timer: the one asked for last."""
        if timer in self._timers:
            self._timers[timer].cancel()
        self._timers[timer] = self._clock.call_later(max(seconds, 0.0), callback)

    async def _scan_when_due(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            due, self._due = self._due, set()
            waiting, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._scan([servable for name, servable in self._servables.items() if name in due])
            except asyncio.CancelledError:
                self._waiting += waiting
                raise
            except Exception as defect:  # one scan gone wrong must not be the last one
                _log.exception("A scan of the base paths failed")
                error = defect
            self._answer(waiting, error)

    async def _scan(self, servables: Sequence[MonitoredServable]) -> None:
        self._last_scan_began = self._clock.monotonic()
        if self._poll_wait_seconds > 0 and len(servables) == len(self._servables):
            self._call_in("poll", self._poll_wait(), self._wake_all)
            await self._follow([local_path(servable.base_path) for servable in servables])
        # What went while the watches were set is not asked for any more.
        questions = [(s, self._known[s.name]) for s in servables if self._servables.get(s.name) == s]
        for report in await self._scanning.submit(scan, questions, self._rules):
            if self._is_current(report):
                self._take_over(report)
        self._plan_second_looks()
        self._on_scanned()

    def _poll_wait(self) -> float:
        """Seconds until the next poll."""
        if self._storage.can_be_watched:
            return self._poll_wait_seconds
        self._failed_polls = self._failed_polls + 1 if self._problems else 0
        return self._poll_wait_seconds * (1 << min(self._failed_polls, _MOST_DOUBLINGS))

    async def _follow(self, base_paths: Sequence[str]) -> None:
        if self._watcher is not None:
            await self._scanning.submit(self._watcher.follow, base_paths)

    def _is_current(self, report: Report) -> bool:
        """Not so when the model was removed, changed, or removed and added while the scan ran: another one is due."""
        name = report.servable.name
        return self._servables.get(name) == report.servable and self._known[name] is report.asked

    def _take_over(self, report: Report) -> None:
        name = report.servable.name
        self._known[name] = report.known
        for remark in report.remarks:
            if remark.is_event or remark not in self._said.get(name, ()):
                _log.log(remark.level, "%s", remark.text)
        self._said[name] = report.remarks
        self._note_problem(name, report.problem)
        if report.versions is not None and report.versions != self._aspired.get(name, ()):
            self._aspired[name] = report.versions
            self._aspire(name, report.versions)
        for version in report.changed:
            self._on_version_changed(ServableId(name, version))

    def _note_problem(self, name: str, problem: str | None) -> None:
        if problem is None:
            self._problems.pop(name, None)
        elif problem != self._problems.get(name):
            self._problems[name] = problem
            self._on_problem(name, problem)

    def _plan_second_looks(self) -> None:
        """Whatever the poll does, a folder that is waited for is looked at when it may have come to rest."""
        due = {name: known.look_again_at for name, known in self._known.items() if known.look_again_at is not None}
        if due:
            self._call_in("settling", min(due.values()) - self._clock.monotonic(), lambda: self._wake(due))

    @staticmethod
    def _answer(waiting: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
        for future in waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
