"""FileSystemStoragePathSource: watches base paths and says which versions of each model are wanted.

It lives on the loop and owns what was said of each model; when base paths are scanned is up to a Lookout for each, and
the scans themselves run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple

from pyserving.errors import Cancelled
from pyserving.sources.clock import Clock
from pyserving.sources.counted_storage import CountedStorage
from pyserving.sources.lookout import Lookout, Pace
from pyserving.sources.remarks import Remark
from pyserving.sources.scan import Known, Report, Rules, scan_servable
from pyserving.sources.scan_threads import ScanThreads
from pyserving.sources.settling import Patience
from pyserving.sources.storage import LOCAL, Storage, local_path
from pyserving.sources.version_policy import MonitoredServable
from pyserving.sources.watcher import Folders, Watcher, folders_to_watch
from pyserving.types import AspiredVersion, ServableId
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_EVENT_SCANS = 0.2
"""How often events have everything scanned, however many there are."""
_WATCHES = "watches"
"""Stands for a base path where a thread is not in one, but in all that are watched."""
_CLOSING_SECONDS = 1.0
"""For watches to end, which may be stuck in storage that does not answer."""


class FileSystemStoragePathSource:
    """Calls `aspire(name, versions)` whenever the wanted versions of a model are others than before.

    A new version is wanted once it is complete and quiet (see completeness.py and settling.py); one that stays
    incomplete and unchanged for `incomplete_version_timeout_seconds` is wanted as it is. Base paths are scanned every
    `poll_wait_seconds`, counted from the start of the scan before, and when something happens in them; with 0 or less
    only when the configuration changes or somebody waits for a scan. Versions that are waited for are looked at again
    in any case, though no sooner than `least_wait_seconds` after the look before. A base path that is missing, cannot
    be listed or has no version any more changes nothing, unless `servable_versions_always_present` is off and it can
    be listed: then its last versions go.

    The clock of the storage may be behind ours by `clock_margin_seconds`.

    Each model is scanned by itself. One whose storage does not answer within `answer_seconds` changes nothing either,
    and nobody waits for it any longer; should the answer come after all, it counts.

    `storage` that cannot be watched is polled alone; while a model has a problem, each wait is twice the one before.

    `on_problem(name, reason)` is told each time the reason changes for which a model's versions stay as they are;
    `on_version_changed(id)` when the files of an aspired version have changed and are whole and quiet again;
    `on_listed(name, listings)`, of how often its storage was listed, and `on_scanned()` after each scan. All callbacks
    come on the loop.
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
        answer_seconds: float = 10.0,
        least_wait_seconds: float = 0.0,
        clock_margin_seconds: float = 600.0,
        prefer_tflite_model: bool = False,
        on_problem: Callable[[str, str], None] = lambda name, reason: None,
        on_version_changed: Callable[[ServableId], None] = lambda servable_id: None,
        on_listed: Callable[[str, int], None] = lambda name, listings: None,
        on_scanned: Callable[[], None] = lambda: None,
        storage: Storage = LOCAL,
        clock: Clock | None = None,
    ) -> None:
        self._aspire = aspire
        self._on_problem = on_problem
        self._on_version_changed = on_version_changed
        self._on_listed = on_listed
        self._on_scanned = on_scanned
        self._clock = clock or Clock()
        self._threads = ScanThreads(scanning, self._clock)
        self._pace = Pace(poll_wait_seconds, answer_seconds, least_wait_seconds, backs_off=not storage.can_be_watched)
        self._can_watch = poll_wait_seconds > 0 and storage.can_be_watched
        self._rules = Rules(
            Patience(quiet_seconds, incomplete_version_timeout_seconds, clock_margin_seconds),
            servable_versions_always_present,
            self._clock.monotonic,
            self._clock.wall,
            storage,
            prefer_tflite_model,
        )
        self._lookouts: dict[str, Lookout] = {}
        self._aspired: dict[str, tuple[AspiredVersion, ...]] = {}
        self._problems: dict[str, str] = {}
        self._settling: dict[str, Mapping[int, str]] = {}
        self._said: dict[str, tuple[Remark, ...]] = {}
        self._folders: dict[str, Folders] = {}
        self._is_open = False
        self._last_scan_began = -math.inf
        self._event_timer: asyncio.TimerHandle | None = None
        self._is_told = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FileSystemStoragePathSource:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to watch and to scan; `close` ends it."""
        self._is_open = True
        if self._can_watch:
            self._watching = asyncio.create_task(self._watch(Watcher(self._on_event)))
        for lookout in self._lookouts.values():
            lookout.start()

    async def close(self) -> None:
        """Nothing is aspired or un-aspired any more."""
        self._is_open = False
        for lookout in self._lookouts.values():
            lookout.close(Cancelled("The source of versions was closed"))
        if self._event_timer is not None:
            self._event_timer.cancel()
        if self._watching is not None:
            self._is_told.set()
            await asyncio.wait([self._watching], timeout=_CLOSING_SECONDS)
            self._watching.cancel()

    @property
    def problems(self) -> Mapping[str, str]:
        """Model to the reason why its last scan left its versions as they are."""
        return dict(self._problems)

    @property
    def settling(self) -> Mapping[str, Mapping[int, str]]:
        """Model to its new versions that are waited for, and why. A model that has a problem is not waited for."""
        return dict(self._settling)

    def update_config(self, servables: Sequence[MonitoredServable]) -> None:
        """Monitor these and nothing else, beginning with a scan at once.

        Versions of a name that went are un-aspired now. A name that stays keeps its versions until the scan; of a
        version that another base path holds too only the number counts.
        """
        for name in self._lookouts.keys() - {servable.name for servable in servables}:
            self._forget(name)
        for servable in servables:
            if servable.name not in self._lookouts:
                self._lookouts[servable.name] = self._new_lookout(servable)
            self._lookouts[servable.name].look_for(servable)

    async def scanned(self, names: Collection[str]) -> None:
        """Return when these models were scanned and handed over, by scans that begin after this call.

        A name that is not monitored is not waited for, and one whose storage does not answer no longer than until that
        is its problem. Raises Cancelled when the source is closed before.
        """
        if not self._is_open:
            raise Cancelled("The source of versions was closed")
        await asyncio.gather(*(self._lookouts[name].scanned() for name in names if name in self._lookouts))

    def _new_lookout(self, servable: MonitoredServable) -> Lookout:
        lookout = Lookout(servable, self._scan, self._take_over, self._pace, self._clock)
        if self._is_open:
            lookout.start()
        return lookout

    def _forget(self, name: str) -> None:
        self._lookouts.pop(name).close()
        for remembered in (self._aspired, self._problems, self._settling, self._said, self._folders):
            remembered.pop(name, None)
        self._aspire(name, ())

    async def _scan(self, servable: MonitoredServable, known: Known) -> Report:
        self._last_scan_began = self._clock.monotonic()
        scan = await self._threads.run(
            servable.base_path, _scan_in_thread, servable, known, self._rules, self._can_watch
        )
        self._folders[servable.name] = scan.folders
        self._on_listed(servable.name, scan.listings)
        return scan.report

    def _take_over(self, report: Report) -> None:
        name = report.servable.name
        for remark in report.remarks:
            if remark.is_event or remark not in self._said.get(name, ()):
                _log.log(remark.level, "%s", remark.text)
        self._said[name] = report.remarks
        self._note_settling(name, report)
        self._note_problem(name, report.problem)
        if report.versions is not None and report.versions != self._aspired.get(name, ()):
            self._aspired[name] = report.versions
            self._aspire(name, report.versions)
        for version in report.changed:
            self._on_version_changed(ServableId(name, version))
        self._is_told.set()
        self._on_scanned()

    def _note_settling(self, name: str, report: Report) -> None:
        settling = report.known.settling.items()
        waited_for = {version: folder.reason for version, folder in settling if not folder.is_refused}
        if waited_for and report.problem is None:
            self._settling[name] = waited_for
        else:
            self._settling.pop(name, None)

    def _note_problem(self, name: str, problem: str | None) -> None:
        if problem is None:
            self._problems.pop(name, None)
        elif problem != self._problems.get(name):
            self._problems[name] = problem
            self._on_problem(name, problem)

    def _on_event(self) -> None:
        gap = self._last_scan_began + _SECONDS_BETWEEN_EVENT_SCANS - self._clock.monotonic()
        if self._event_timer is not None:
            self._event_timer.cancel()
        self._event_timer = self._clock.call_later(max(gap, 0.0), self._wake_all)

    def _wake_all(self) -> None:
        for lookout in self._lookouts.values():
            lookout.wake()

    async def _watch(self, watcher: Watcher) -> None:
        """Have the folders followed that scans told of.

        Only once all scans have come back, and not those of storage that is silent: nothing else is sure to answer.
        """
        await self._is_told.wait()
        while self._is_open:
            self._is_told.clear()
            lookouts = self._lookouts.items()
            if not any(lookout.is_scanning and not lookout.is_silent for _, lookout in lookouts):
                folders = [self._folders.get(name, {}) for name, lookout in lookouts if not lookout.is_silent]
                if await self._threads.run(_WATCHES, watcher.follow, folders):
                    self._wake_all()
            await self._is_told.wait()
        await self._threads.run(_WATCHES, watcher.close)


class _Scan(NamedTuple):
    report: Report
    folders: Folders
    """To be watched."""
    listings: int


def _scan_in_thread(servable: MonitoredServable, known: Known, rules: Rules, can_watch: bool) -> _Scan:
    storage = CountedStorage(rules.storage)
    report = scan_servable(servable, known, replace(rules, storage=storage))
    folders: Folders = {}
    if can_watch:
        with contextlib.suppress(OSError):  # a link went while it was followed: the next scan follows another
            folders = folders_to_watch(local_path(servable.base_path))
    return _Scan(report, folders, storage.listings)
