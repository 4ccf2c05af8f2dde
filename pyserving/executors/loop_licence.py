"""Whether runs of one kind are short enough for the event loop's own thread, where everybody else waits for them."""

from __future__ import annotations

SHORT_MICROS = 150.0
"""A run that costs less is over before a thread would have been woken, and had its turn at the GIL, to make it."""
SHORT_MICROS_IN_THREAD = 300.0
"""Of the processor's time; getting at the GIL again takes some of it."""
LONG_MICROS = 1_000.0
"""On the loop; what waits has noticed by then."""
VERY_LONG_MICROS = 20_000.0


class LoopLicence:
    """Given for short runs in a row, withdrawn by the first long one on the loop, or by some that are not short.

    Each withdrawal makes it eight times as hard to get back, so that a model which is slow now and then keeps away from
    the loop for most of its runs. Many short runs make up for one. A run that took long but little of the processor's
    time was scheduled out by a busy machine: it counts only if another was so just before.
    """

    RUNS = 5
    """Short ones in a row that make the first licence."""
    HARDER = 8
    HARDEST = 4
    """Withdrawals that count; twenty thousand runs."""
    FORGIVEN_AFTER = 512
    EXCUSED_AFTER = 16

    def __init__(self, *, is_possible: bool = True) -> None:
        """One that is not possible is never held."""
        self._is_possible = is_possible
        self._withdrawals = 0
        self._missing = self.RUNS
        self._is_quick = False
        """One of the runs in a row was short by the clock on the wall as well: they do not wait for something."""
        self._runs = 0
        """On the loop, since the licence was last withdrawn."""
        self._excused_at = -self.EXCUSED_AFTER
        self._lengthy = 0
        """Runs on the loop, in a row up to now, that were not short."""
        self.is_held = False

    def ran_in_thread(self, micros: float, cpu_micros: float) -> None:
        """A run in a worker. Others' Python may hold it up, so mostly the time that its thread was at work counts."""
        if self.is_held or not self._is_possible:
            return
        if cpu_micros >= SHORT_MICROS_IN_THREAD:
            self._begin_again()
            return
        self._missing -= 1
        self._is_quick = self._is_quick or micros < LONG_MICROS
        self.is_held = self._missing <= 0 and self._is_quick

    def ran_on_loop(self, micros: float, cpu_micros: float) -> None:
        """A run on the loop."""
        self._runs += 1
        if micros < SHORT_MICROS:
            self._lengthy = 0
            return
        self._lengthy += 1
        if cpu_micros >= LONG_MICROS:
            self._withdraw(2 if cpu_micros >= VERY_LONG_MICROS else 1)
        elif micros >= LONG_MICROS and self._runs - self._excused_at > self.EXCUSED_AFTER:
            self._excused_at = self._runs
        elif micros >= LONG_MICROS or self._lengthy >= self.RUNS:
            self._withdraw(1)

    def _withdraw(self, weight: int) -> None:
        forgiven = self._runs // self.FORGIVEN_AFTER
        self._withdrawals = min(max(0, self._withdrawals - forgiven) + weight, self.HARDEST)
        self._runs = self._lengthy = 0
        self._excused_at = -self.EXCUSED_AFTER
        self.is_held = False
        self._begin_again()

    def _begin_again(self) -> None:
        self._missing = self.RUNS * int(self.HARDER**self._withdrawals)
        self._is_quick = False
