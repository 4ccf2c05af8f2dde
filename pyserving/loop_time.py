"""How much of the event loop's time runs of models may take before everything else on it has its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter, thread_time

TURN_MICROS = 2_000.0
"""Of runs in one turn of the loop. What else is on it, health checks and other models among it, waits so long."""


class LoopTime:
    """One turn's allowance, shared by all models; who finds it spent waits in line for a later turn.

    Whoever runs something on the loop looks at `is_left` first and awaits a `turn` if there is none, then calls `begin`
    before the run and `spend` after it.
    """

    def __init__(self) -> None:
        self.is_left = True
        """There is time in this turn, and it is not promised to who waited for it."""
        self._left = TURN_MICROS
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._is_renewal_due = False
        self._has_begun = False
        self._cpu_before = self._began = 0.0
        """When the first run of this turn began, by the two clocks."""

    @property
    def waiting(self) -> int:
        """Runs that wait for a turn, those given up included."""
        return len(self._waiting)

    def turn(self, micros: float) -> asyncio.Future[None]:
        """Done when it is the turn of this caller, who will take so long: it may run then, whatever `is_left` says."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, micros))
        self._renew_soon()
        return turn

    def begin(self) -> float:
        """A run on the loop begins: the `perf_counter()` of now."""
        now = perf_counter()
        if not self._has_begun:
            self._has_begun = True
            self._cpu_before, self._began = thread_time(), now
        return now

    def spend(self, micros: float) -> None:
        """A run on the loop has taken so long."""
        self._left -= micros
        if self._left <= 0:
            self.is_left = False
        if not self._is_renewal_due:
            self._renew_soon()

    def cpu_micros(self, began: float) -> float:
        """How long the loop's thread has been at work since `began`, what `begin` gave in this turn.

        At least: when the thread was scheduled out between two runs of the turn, nobody knows.
        """
        busy = thread_time() - self._cpu_before
        return max(0.0, busy - (began - self._began)) * 1e6

    def _renew_soon(self) -> None:
        if not self._is_renewal_due:
            self._is_renewal_due = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """The next turn has begun. Those at the head of the line go, as many as there is time for."""
        self._is_renewal_due = self._has_begun = False
        self._left = promised = TURN_MICROS
        while self._waiting and promised > 0:
            turn, micros = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                promised -= micros
        self.is_left = promised > 0
        if not self.is_left:
            self._renew_soon()
