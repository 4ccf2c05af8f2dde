"""Staying awake between requests that follow one another closely.

A processor that has gone to sleep takes long to wake, and finds its caches cold: a request that takes 20 µs among
others takes 70 after a pause of 50. So the event loop, instead of sleeping, asks the system again and again what has
come: no longer than sleeping and waking would cost, and only while that mostly pays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

_ENOUGH = 8
"""Pauses that were short, before the first is waited for awake."""
_PRICE = 8
"""Of one that was long: all is well as long as no more than one in nine is."""
_MOST = 32
_SAME_TURN_SECONDS = 5e-6
"""Between what comes for one connection and for the next, if both have been there for a while."""
_WAKING_SECONDS = 100e-6
"""What a pause takes longer for a loop that has slept."""


class BusyPoll:
    """One event loop's. Transports tell it what comes and what goes."""

    def __init__(self, seconds: float, is_idle: Callable[[], bool], clock: Callable[[], float] = perf_counter) -> None:
        """The longest pause to stay awake for, 0: none. Only while all calls are answered, as `is_idle` tells: else
        there is something better to do for a processor."""
        self._seconds = seconds
        self._is_idle = is_idle
        self._clock = clock
        self._quiet_since = 0.0
        """0: it is not quiet, or it has been for too long."""
        self._credit = 0
        self._is_polling = False

    def arrived(self) -> None:
        """Something has been received."""
        quiet_since, self._quiet_since = self._quiet_since, 0.0
        if quiet_since:
            self._judge(self._clock() - quiet_since)

    def answered(self) -> None:
        """Something has been sent, at the end of a turn."""
        if self._seconds and self._is_idle():
            self._quiet_since = self._clock()
            if self._credit >= _ENOUGH and not self._is_polling:
                self._is_polling = True
                asyncio.get_running_loop().call_soon(self._poll)

    def _judge(self, pause: float) -> None:
        if pause < _SAME_TURN_SECONDS:
            return
        if pause < self._seconds + (0.0 if self._is_polling else _WAKING_SECONDS):
            self._credit = min(self._credit + 1, _MOST)
        else:
            self._credit = max(self._credit - _PRICE, 0)

    def _poll(self) -> None:
        """Once in each round of the loop, which therefore does not sleep."""
        if self._quiet_since and (pause := self._clock() - self._quiet_since) < self._seconds:
            asyncio.get_running_loop().call_soon(self._poll)
            return
        if self._quiet_since:
            self._quiet_since = 0.0
            self._judge(pause)
        self._is_polling = False


NEVER = BusyPoll(0.0, lambda: False)
