"""Staying awake between requests that follow one another closely.

A processor that has gone to sleep takes long to wake, and finds its caches cold: a request that takes 20 µs among
others takes 70 after a pause of 50. So the event loop, instead of sleeping, asks the system again and again what has
come: about as long as waking takes, and only while requests mostly do come in that time. They may not because the
client needs this very processor, so it is also offered to others each time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import perf_counter

_ENOUGH = 8
"""Pauses that were short, before the first is waited for awake; twice as many each time that this has not paid."""
_MOST_ENOUGH = 4096
_PRICE = 8
"""Of a wait in vain: it pays as long as no more than one in nine is."""
_MOST_CREDIT = 32
_SAME_TURN_SECONDS = 15e-6
"""Between what comes for one connection and for the next, if both have been there for a while: who has slept wakes to
more work at a time, and gains more by that than by being awake."""
_WAKING_SECONDS = 100e-6
"""What a pause takes longer for a loop that has slept."""

_let_others = getattr(os, "sched_yield", lambda: None)


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
        self._enough = _ENOUGH
        self._short_pauses = 0
        """Slept through, and not made up for by long ones."""
        self._credit = 0
        """More than 0: the loop stays awake."""
        self._rounds = 0
        """Of the loop, awake, since the last answer."""
        self._is_polling = False

    def arrived(self) -> None:
        """A request has begun to come."""
        quiet_since, self._quiet_since = self._quiet_since, 0.0
        if not quiet_since:
            return
        if self._is_polling:
            self._found_awake()
        else:
            self._found_asleep(self._clock() - quiet_since)

    def answered(self) -> None:
        """Something has been sent, at the end of a turn."""
        if self._seconds and self._is_idle():
            self._quiet_since = self._clock()
            self._rounds = 0
            if self._credit and not self._is_polling:
                self._is_polling = True
                asyncio.get_running_loop().call_soon(self._poll)

    def _found_awake(self) -> None:
        self._credit = min(self._credit + 1, _MOST_CREDIT) if self._rounds else max(0, self._credit - 1)
        if self._credit == _MOST_CREDIT:
            self._enough = _ENOUGH

    def _found_asleep(self, pause: float) -> None:
        if pause < _SAME_TURN_SECONDS:
            self._short_pauses = max(0, self._short_pauses - 1)
        elif pause < self._seconds + _WAKING_SECONDS:
            self._short_pauses += 1
        else:
            self._short_pauses = max(0, self._short_pauses - _PRICE)
        if self._short_pauses >= self._enough:
            self._short_pauses = 0
            self._credit = _PRICE

    def _waited_in_vain(self) -> None:
        self._credit = max(0, self._credit - _PRICE)
        if not self._credit:
            self._enough = min(2 * self._enough, _MOST_ENOUGH)

    def _poll(self) -> None:
        """Once in each round of the loop, which therefore does not sleep."""
        if not (self._credit and self._is_idle()):
            self._quiet_since = 0.0
        elif self._quiet_since and self._clock() - self._quiet_since < self._seconds:
            self._rounds += 1
            _let_others()
            asyncio.get_running_loop().call_soon(self._poll)
            return
        if self._quiet_since:
            self._quiet_since = 0.0
            self._waited_in_vain()
        self._is_polling = False


NEVER = BusyPoll(0.0, lambda: False)
