"""The source of the server's versions: base paths on local and remote storage, looked at as often as flags say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from pyserving import options
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.model_metrics import ModelMetrics
from pyserving.options import Options
from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.sources.remote_storage import RemoteStorage
from pyserving.sources.source_router import SourceRouter
from pyserving.workers import Workers

_REMOTE_QUIET_SECONDS = 5.0
"""Copying to remote storage goes file by file, each there at once, with pauses in between."""
_REMOTE_INCOMPLETE_SECONDS = 600.0
"""Of a file that is uploaded nothing is seen before its end."""
_REMOTE_ANSWER_SECONDS = 60.0
"""Graphs are fetched whole, requests are tried again, and the first of them waits for TensorFlow to be imported."""
_REMOTE_CLOCK_MARGIN_SECONDS = 60.0
"""Object stores keep good time, and refuse clients that do not."""
_MOST_STUCK_SCANS = 256


@asynccontextmanager
async def storage_path_source(
    settings: Options,
    given: frozenset[str],
    manager: AspiredVersionsManager,
    monitor: ServableStateMonitor,
    counts: ModelMetrics,
    *,
    prefer_tflite_model: bool,
) -> AsyncIterator[SourceRouter]:
    """What `manager` aspires to is set by it, and `monitor` is told to look again when a scan has come to an end.

    `given` names the flags that were written out: those for local storage hold for remote storage only then.
    """
    poll_seconds = settings.file_system_poll_wait_seconds
    is_given = "file_system_poll_wait_seconds" in given
    remote_poll_seconds, remote_least_seconds = options.remote_poll_seconds(poll_seconds if is_given else None)
    incomplete_seconds = settings.incomplete_version_timeout_seconds

    def listing_problem(name: str, reason: str) -> None:
        counts.count_listing_problem(name, reason)
        monitor.recheck()

    source = partial(
        FileSystemStoragePathSource,
        servable_versions_always_present=settings.servable_versions_always_present,
        on_problem=listing_problem,
        on_version_changed=manager.files_changed,
        on_scanned=monitor.recheck,
        prefer_tflite_model=prefer_tflite_model,
    )
    # Storage may keep threads for good: one each, as many as there are base paths within reason.
    threads = partial(Workers, max_stand_ins=_MOST_STUCK_SCANS, waits_at_close=False)
    async with (
        threads("scan", 1) as scanning,
        threads("scan-remote", 4) as scanning_remote,
        SourceRouter(
            manager.set_aspired_versions,
            local=partial(
                source,
                scanning=scanning,
                poll_wait_seconds=poll_seconds,
                incomplete_version_timeout_seconds=incomplete_seconds,
            ),
            remote=partial(
                source,
                scanning=scanning_remote,
                poll_wait_seconds=remote_poll_seconds,
                incomplete_version_timeout_seconds=(
                    incomplete_seconds if "incomplete_version_timeout_seconds" in given else _REMOTE_INCOMPLETE_SECONDS
                ),
                quiet_seconds=_REMOTE_QUIET_SECONDS,
                answer_seconds=_REMOTE_ANSWER_SECONDS,
                clock_margin_seconds=_REMOTE_CLOCK_MARGIN_SECONDS,
                least_wait_seconds=remote_least_seconds,
                on_listed=counts.count_listings,
                storage=RemoteStorage(),
            ),
        ) as router,
    ):
        yield router
