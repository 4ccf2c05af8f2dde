"""How much of the event loop's time runs of models may take before everything else on it has its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time

TURN_MICROS = 2_000.0
"""Of runs in one turn of the loop. What else is on it, health checks and other models among it, waits so long."""
_RENEWED_BELOW_MICROS = 0.75 * TURN_MICROS
"""A renewal costs the loop another round. As long as this much is left, turns may share one allowance."""
_PAUSE_SECONDS = 30e-6
"""Runs that follow one another sooner have no more than Python between them, and share a look at the thread's clock."""


class LoopTime:
    """One turn's allowance, shared by all models; who finds it spent waits in line for a later turn.

    Whoever runs something on the loop looks at `is_left` first and awaits a `turn` if there is none, then calls `begin`
    before the run and `spend` after it.
    """

    def __init__(self, settle: Callable[[], bool] = lambda: True) -> None:
        """`settle` is called before a run, in the loop's thread, for what has to be done there once: until it says that
        it is done."""
        self._settle = settle
        self._is_settled = False
        self.is_left = True
        """There is time in this turn, and it is not promised to who waited for it."""
        self._left = TURN_MICROS
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._is_renewal_due = False
        self._cpu_before = self._first_began = 0.0
        """When the first of several runs without a pause between them began, by the two clocks."""
        self._last_began = self._ended = 0.0

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
        if not self._is_settled:
            self._is_settled = self._settle()
        self._last_began = now = perf_counter()
        if now - self._ended > _PAUSE_SECONDS:
            self._cpu_before, self._first_began = thread_time(), now
        return now

    def spend(self, micros: float) -> None:
        """A run on the loop has taken so long."""
        self._ended = self._last_began + micros * 1e-6
        self._left -= micros
        if self._left < _RENEWED_BELOW_MICROS:
            if self._left <= 0:
                self.is_left = False
            self._renew_soon()

    def cpu_micros(self, began: float) -> float:
        """How long the loop's thread has been at work since `began`, what `begin` gave last.

        At least: when it was scheduled out between two runs that had no pause between them, nobody knows.
        """
        busy = thread_time() - self._cpu_before
        return max(0.0, busy - (began - self._first_began)) * 1e6

    def _renew_soon(self) -> None:
        if not self._is_renewal_due:
            self._is_renewal_due = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """The next turn has begun. Those at the head of the line go, as many as there is time for."""
        self._is_renewal_due = False
        self._left = promised = TURN_MICROS
        while self._waiting and promised > 0:
            turn, micros = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                promised -= micros
        self.is_left = promised > 0
        if not self.is_left:
            self._renew_soon()
