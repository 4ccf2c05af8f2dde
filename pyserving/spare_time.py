"""C code that computes for long beside requests: it gets the processors while nobody else wants them.

A run of a model spreads over several threads that wait for each other many times. A load at their side, at whatever
niceness, has each of them wait until the end of its time slice; one at the system's idle priority makes way at once.
"""

from __future__ import annotations

import _thread
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

from pyserving.machine import idle_seconds

_T = TypeVar("_T")


def at_once(function: Callable[..., _T], *args: Any) -> _T:
    """For whom nobody has to make way."""
    return function(*args)


def _ran_seconds(thread: int) -> float:
    """0 for a thread that has gone."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def _set_policy(thread: int, policy: int) -> None:
    """Where that is not allowed, or the thread has gone, nothing is lost."""
    with suppress(OSError):
        os.sched_setscheduler(thread, policy, os.sched_param(0))


class SpareTime:
    """Calls functions in what others leave of the processors. They have to release the GIL: who holds it at idle
    priority keeps everybody waiting.

    No thread can be given back the priority it once had, but by a privileged process. So each call has a thread of its
    own; threads that the function starts may be born with the idle priority, and should end with it.
    """

    LEAST_SHARE = 0.25
    """Of one processor, idle before the call. Where less is left, it would take too long, and is made at once."""
    SHORT_SECONDS = 0.01
    """In which a call that is over by then keeps the priority of others."""
    LOOK_SECONDS = 0.1
    LONGEST_LOOK_SECONDS = 2.0
    """Before it is said that too little is left: a burst of requests, and what it keeps waiting, pass in that time."""
    LEFT_HOLDS_SECONDS = 1.0
    NOT_LEFT_HOLDS_SECONDS = 10.0
    PATIENCE_SECONDS = 10.0
    """After which a call that is not over is no longer kept back, if the process may decide so."""

    def __init__(
        self,
        is_wanted: Callable[[], bool],
        *,
        idle_seconds: Callable[[], float] = idle_seconds,
        ran_seconds: Callable[[int], float] = _ran_seconds,
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], None] = sleep,
    ) -> None:
        """`is_wanted()`: whether there is anybody to make way for. All of these are asked in any thread.

        `ran_seconds(thread)`: for how long the thread of that native id has been at work.
        """
        self._is_wanted = is_wanted
        self._idle_seconds = idle_seconds
        self._ran_seconds = ran_seconds
        self._clock = clock
        self._wait = wait
        self._is_left = False
        self._holds_until = -math.inf
        self._threads: dict[int, None] = {}
        """Native ids of those that are in a call."""

    def __call__(self, function: Callable[..., _T], *args: Any) -> _T:
        """What the function returns or raises."""
        if sys.platform != "linux" or not self._is_wanted() or not self._has_time():
            return function(*args)
        call = _Call(function, args)
        call.begin()
        if not call.is_over(self.SHORT_SECONDS):
            self._keep_back(call)
        return call.result()

    def _keep_back(self, call: _Call[Any]) -> None:
        """Until it is over. It is in the function by now, without the GIL, which it would not get back soon."""
        self._threads[call.thread] = None
        _set_policy(call.thread, os.SCHED_IDLE)
        if not call.is_over(self.PATIENCE_SECONDS):
            _set_policy(call.thread, os.SCHED_OTHER)
            call.is_over()
        del self._threads[call.thread]

    def _has_time(self) -> bool:
        """Looks for a while what is left, unless somebody has just done so."""
        if self._clock() >= self._holds_until:
            self._is_left = self._look()
            holds = self.LEFT_HOLDS_SECONDS if self._is_left else self.NOT_LEFT_HOLDS_SECONDS
            self._holds_until = self._clock() + holds
        return self._is_left

    def _look(self) -> bool:
        """For as long as too little seems to be left."""
        began, before, seconds = self._clock(), self._left_seconds(), 0.0
        while seconds < self.LONGEST_LOOK_SECONDS:
            self._wait(self.LOOK_SECONDS)
            seconds = self._clock() - began
            if self._left_seconds() - before >= self.LEAST_SHARE * seconds:
                return True
        return False

    def _left_seconds(self) -> float:
        """That no processor had anything else to do than calls like these."""
        return self._idle_seconds() + sum(map(self._ran_seconds, tuple(self._threads)))


class _Call(Generic[_T]):
    """A function in a bare thread, which does little more after it: that is done at idle priority, with the GIL."""

    def __init__(self, function: Callable[..., _T], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._result: _T | None = None
        self._error: BaseException | None = None
        self._beginning, self._running = _thread.allocate_lock(), _thread.allocate_lock()
        self.thread = 0
        """Its native id."""

    def begin(self) -> None:
        """Returns when the thread is about to call the function."""
        self._beginning.acquire()
        self._running.acquire()
        _thread.start_new_thread(self._run, ())
        self._beginning.acquire()

    def _run(self) -> None:
        """In the thread."""
        self.thread = _thread.get_native_id()
        self._beginning.release()
        try:
            self._result = self._function(*self._args)
        except BaseException as error:  # the caller's to raise
            self._error = error
        self._running.release()

    def is_over(self, seconds: float = -1) -> bool:
        """Waits so long for it; without end if that is not said. Not to be asked again when it is."""
        return self._running.acquire(timeout=seconds)

    def result(self) -> _T:
        if self._error is None:
            return self._result  # type: ignore[return-value]  # a function that returned nothing gives None
        try:
            raise self._error
        finally:
            self._error = None  # whose traceback holds this frame
