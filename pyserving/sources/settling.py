"""Decides when a version folder has come to rest: a pure function of two looks at it, and of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyserving.sources.completeness import Incomplete
from pyserving.sources.snapshot import COARSE_SECONDS, Snapshot

STILL_CHANGING = "its files are still changing"
_SHORTEST_WAIT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a folder is waited for, in seconds."""

    quiet_seconds: float = 0.5
    """Files that did not change for this long are no longer being written."""
    timeout_seconds: float = 30.0
    """An incomplete folder that did not change for this long is taken as it is."""
    clock_margin_seconds: float = 600.0
    """How far the storage's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class Settling:
    """A folder that is waited for."""

    snapshot: Snapshot
    since: float
    """When its files were first seen as they are, on the monotonic clock."""
    look_again_at: float
    """On the same clock."""
    reason: str
    found: Incomplete | None = None
    """What reading these very files brought to light; None: they were not read yet."""

    @property
    def is_refused(self) -> bool:
        """It is not taken whatever time passes, unless its files change."""
        return self.found is not None and self.found.would_hang


@dataclass(frozen=True, slots=True)
class Settled:
    """A folder to be taken as it is."""

    snapshot: Snapshot
    given_up: str | None = None
    """What was still missing when the time was up; None: nothing."""


def settle(
    snapshot: Snapshot,
    before: Settling | None,
    now: float,
    seen_at: float,
    wall: float | None,
    patience: Patience,
    why_incomplete: Callable[[], Incomplete | None],
) -> Settled | Settling:
    """What to think of a folder that looks like `snapshot`, and looked like `before` the last time.

    `now` is when the scan began, and `seen_at` when the snapshot was taken, both on the monotonic clock. One `now` for
    all folders of a scan, so that none it looks at later, an older version, is quiet before one it looked at first: it
    would be loaded in vain. Two looks that see the same, `quiet_seconds` apart, tell that files have come to rest: that
    is sound whatever clock the storage goes by. Their time stamps alone are not, since the clock of a file server
    that is behind ours makes what is being written look old. So only a folder that was there before anybody
    looked may pass at the first look, and only when its newest file is older by `clock_margin_seconds` too. For such
    a folder `wall` gives our own time, in seconds since the epoch; None keeps time stamps out of it.

    Contents are only read once they are quiet, and not again while the files look the same.
    """
    if snapshot.is_file:
        return Settled(snapshot)  # it fails to load, as in TensorFlow Serving
    same = before if before is not None and before.snapshot == snapshot else None
    since = seen_at if same is None else same.since
    unchanged_for = now - since
    if wall is not None:
        unchanged_for = max(unchanged_for, snapshot.seconds_since_change(wall) - patience.clock_margin_seconds)
    if max(0.0, unchanged_for) < patience.quiet_seconds:
        reason = STILL_CHANGING if before is None else before.reason  # what was missing most likely still is
        return _wait(snapshot, since, seen_at, now + patience.quiet_seconds - unchanged_for, reason)
    found = same.found if same is not None and same.found is not None and same.found.is_lasting else why_incomplete()
    if found is None:
        return Settled(snapshot)
    if unchanged_for >= patience.timeout_seconds and not found.would_hang:
        return Settled(snapshot, given_up=found.reason)
    if unchanged_for < COARSE_SECONDS or not snapshot.tells_times:
        # The next write may leave no trace: on a coarse clock it may come within the same tick.
        found = found._replace(is_lasting=False)
    return _wait(snapshot, since, seen_at, seen_at + patience.quiet_seconds, found.reason, found)


def _wait(
    snapshot: Snapshot, since: float, seen_at: float, until: float, reason: str, found: Incomplete | None = None
) -> Settling:
    return Settling(snapshot, since, max(until, seen_at + _SHORTEST_WAIT_SECONDS), reason, found)
