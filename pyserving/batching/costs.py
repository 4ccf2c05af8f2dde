"""What runs of so many rows take, learnt from those that were made: which size pays best, who can be in time. Pure."""

from __future__ import annotations

from collections import deque
from statistics import median


class RunCosts:
    """The latest run times of one kind of batch, in classes of rows: a class for each power of two."""

    WINDOW = 8
    LEAST_SAMPLES = 3
    """Of a class, before its size is judged."""
    LEAST_GAIN = 0.05
    """What a row must save in a smaller batch for it to be preferred; less is noise."""
    CHOICES_BETWEEN_TRIALS = 64
    """So often the largest batch is run although a smaller one was found to pay better: things change."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[tuple[int, float]]] = {}
        """Class to rows and seconds of its latest runs."""
        self._choices = 0

    def record(self, rows: int, seconds: float) -> None:
        """A run of `rows` took so long."""
        self._runs.setdefault(_size_class(rows), deque(maxlen=self.WINDOW)).append((rows, seconds))

    def estimate(self, rows: int) -> float:
        """Seconds that a run of `rows` will hardly exceed; 0 where nothing is known.

        The worst of the latest runs is left out: once in a while something else takes the time.
        """
        known = self._runs.get(_size_class(rows)) or self._nearest(rows)
        if not known:
            return 0.0
        seconds = sorted(seconds * max(1.0, rows / run) for run, seconds in known)
        return seconds[-2] if len(seconds) > self.LEAST_SAMPLES else seconds[-1]

    def _nearest(self, rows: int) -> deque[tuple[int, float]] | None:
        """Runs of the next smaller class that is known, or else of the next larger one."""
        smaller = [size for size in self._runs if size < rows]
        larger = [size for size in self._runs if size >= rows]
        if smaller:
            return self._runs[max(smaller)]
        return self._runs[min(larger)] if larger else None

    def best_size(self, rows: int) -> int:
        """How many of `rows` to run next: all of them, unless a smaller batch has been found to take less for each."""
        per_row = self._per_row(rows)
        if per_row is None or rows == 1:
            return rows
        self._choices += 1
        if self._choices % self.CHOICES_BETWEEN_TRIALS == 0:
            return rows
        best, least = rows, per_row * (1 - self.LEAST_GAIN)
        size = _size_class(rows) // 2
        while size:
            seconds = self._per_row(size)
            if seconds is not None and seconds < least:
                best, least = size, seconds
            size //= 2
        return best

    def _per_row(self, rows: int) -> float | None:
        known = self._runs.get(_size_class(rows), ())
        if len(known) < self.LEAST_SAMPLES:
            return None
        return median(seconds / run for run, seconds in known)


def _size_class(rows: int) -> int:
    return 1 << (rows - 1).bit_length()
