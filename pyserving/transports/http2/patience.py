"""When a peer has kept us waiting for too long, is not there any more, or has stayed long enough."""

from __future__ import annotations

import random
from enum import Enum

from pyserving.transports.http2.limits import Limits

_AGE_SPREAD = 0.1
"""As gRPC's: so that clients that came together do not leave together."""


class Verdict(Enum):
    PATIENT = "nothing is due"
    PING = "ask whether anybody is there"
    RETIRE = "let it finish what it has begun, and come again"
    CUT_OFF = "end what it has begun, too"
    ABORT = "close without a word"


class Patience:
    """Times of one connection, in seconds. Pure: it is told what happens, and asked from time to time what is due."""

    __slots__ = (
        "_age",
        "_has_retired",
        "_limits",
        "_opened_at",
        "_pinged_at",
        "_taken",
        "_taken_at",
        "busy_at",
        "has_greeted",
        "heard_at",
        "leaving_since",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._opened_at = now
        self._age = limits.max_connection_age * random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)
        self._has_retired = False
        self._pinged_at: float | None = None
        self._taken: int | None = None
        self._taken_at = now
        self.has_greeted = False
        """The preface and the first SETTINGS have come."""
        self.heard_at = now
        """When the last byte came."""
        self.busy_at = now
        """When there was a stream for the last time."""
        self.leaving_since: float | None = None
        """When we said our last word, or began to close."""

    def verdict(self, now: float, *, has_streams: bool, is_mid_frame: bool, taken: int | None) -> Verdict:
        """`taken`: how many bytes of ours the system has taken so far; None: nothing waits to be sent."""
        if has_streams:
            self.busy_at = now
        if self._has_run_out(now, is_mid_frame, taken):
            return Verdict.ABORT
        if self.leaving_since is not None:
            return Verdict.PATIENT  # after our last word, a PING would be one too many
        return self._at_its_age(now, has_streams) or self._alive(now)

    def _has_run_out(self, now: float, is_mid_frame: bool, taken: int | None) -> bool:
        limits = self._limits
        if taken is None or taken != self._taken:
            self._taken, self._taken_at = taken, now
        if now - self._taken_at >= limits.stall_timeout:
            return True
        if self.leaving_since is not None:
            return now - self.leaving_since >= limits.linger and taken is None
        if not self.has_greeted:
            return now - self._opened_at >= limits.handshake_timeout
        return is_mid_frame and now - self.heard_at >= limits.stall_timeout

    def _at_its_age(self, now: float, has_streams: bool) -> Verdict | None:
        limits = self._limits
        age = now - self._opened_at
        if self._has_retired:
            return Verdict.CUT_OFF if age >= self._age + limits.max_connection_age_grace else None
        is_idle = not has_streams and now - self.busy_at >= limits.max_connection_idle
        if age < self._age and not is_idle:
            return None
        self._has_retired = True
        return Verdict.RETIRE

    def _alive(self, now: float) -> Verdict:
        if self._pinged_at is not None and self.heard_at >= self._pinged_at:
            self._pinged_at = None
        if self._pinged_at is not None:
            is_gone = now - self._pinged_at >= self._limits.keepalive_timeout
            return Verdict.ABORT if is_gone else Verdict.PATIENT
        if now - self.heard_at < self._limits.keepalive_time:
            return Verdict.PATIENT
        self._pinged_at = now
        return Verdict.PING
