"""Decides when a version folder has come to rest: a pure function of two looks at it, and of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyserving.sources.snapshot import Snapshot

STILL_CHANGING = "its files are still changing"
_SHORTEST_WAIT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a folder is waited for, in seconds."""

    quiet_seconds: float = 0.5
    """Files that did not change for this long are no longer being written."""
    timeout_seconds: float = 30.0
    """An incomplete folder that did not change for this long is taken as it is."""


@dataclass(frozen=True, slots=True)
class Settling:
    """A folder that is waited for."""

    snapshot: Snapshot
    since: float
    """When its files were first seen as they are, on the monotonic clock."""
    look_again_at: float
    """On the same clock."""
    reason: str


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
    wall: float,
    patience: Patience,
    why_incomplete: Callable[[], str | None],
) -> Settled | Settling:
    """What to think of a folder that looks like `snapshot`, and looked like `before` the last time.

    `now` is the monotonic clock, `wall` seconds since the epoch. A folder whose newest file is older than the quiet
    time by the file's own time stamp needs no second look. Contents are only examined once they are quiet.
    """
    if snapshot.is_file:
        return Settled(snapshot)  # it fails to load, as in TensorFlow Serving
    since = before.since if before is not None and before.snapshot == snapshot else now
    unchanged_for = max(now - since, snapshot.seconds_since_change(wall))
    if unchanged_for < patience.quiet_seconds:
        reason = STILL_CHANGING if before is None else before.reason  # what was missing most likely still is
        return _wait(snapshot, since, now, patience.quiet_seconds - unchanged_for, reason)
    missing = why_incomplete()
    if missing is None or unchanged_for >= patience.timeout_seconds:
        return Settled(snapshot, given_up=missing)
    return _wait(snapshot, since, now, patience.quiet_seconds, missing)


def _wait(snapshot: Snapshot, since: float, now: float, seconds: float, reason: str) -> Settling:
    return Settling(snapshot, since, now + max(seconds, _SHORTEST_WAIT_SECONDS), reason)
