"""What runs of so many rows take, learnt from those that were made: which size pays best, who can be in time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from statistics import median


class RunCosts:
    """The latest run times of one kind of batch, in classes of rows: a class for each power of two.

    They are what runs took as they were made, beside whatever else was going on: a device that does one run after
    another shows in longer runs when two are made at once.
    """

    WINDOW = 8
    LEAST_SAMPLES = 3
    """Of a class, before its size is judged."""
    MOST_TRIES = 6
    """Of a class that is not known: requests may be of sizes that never make a batch of it."""
    LEAST_GAIN = 0.05
    """What smaller batches must save to be preferred; less is noise."""
    CHOICES_BETWEEN_TRIALS = 32
    """So often a size is tried again that was found wanting: things change."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[tuple[int, float]]] = {}
        """Class to rows and seconds of its latest runs."""
        self._medians: dict[int, float] = {}
        """Class to seconds a row, where enough is known."""
        self._tries: dict[int, int] = {}
        """Class to the times it was chosen in order to get to know it."""
        self._choices = 0

    def record(self, rows: int, seconds: float) -> None:
        """A run of `rows` took so long."""
        size = _size_class(rows)
        runs = self._runs.setdefault(size, deque(maxlen=self.WINDOW))
        runs.append((rows, seconds))
        if len(runs) >= self.LEAST_SAMPLES:
            self._medians[size] = median(seconds / rows for rows, seconds in runs)

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

    def best_size(self, rows: int, threads: int = 1, run_size: Callable[[int], int] = int) -> int:
        """How many of `rows` to run next, so that all of them are done soonest in so many threads.

        All at once, unless smaller batches have been found to be better; each size that is not known well enough is
        tried. `run_size(rows)`: the rows of the run that takes them up.
        """
        if rows == 1:
            return 1
        self._choices += 1
        candidates = []
        for size in _candidates(rows, threads):
            size_class = _size_class(run_size(size))
            if size_class in self._medians:
                candidates.append(size)
            elif self._tries.get(size_class, 0) < self.MOST_TRIES:
                self._tries[size_class] = self._tries.get(size_class, 0) + 1
                return size
        if not candidates:
            return rows
        if self._choices % self.CHOICES_BETWEEN_TRIALS == 0:
            return candidates[self._choices // self.CHOICES_BETWEEN_TRIALS % len(candidates)]
        best, least = rows, float("inf")
        for size in candidates:
            run = run_size(size)
            rounds = _divided_up(_divided_up(rows, size), threads)
            seconds = rounds * run * self._medians[_size_class(run)]
            if seconds < least:
                best, least = size, seconds * (1 - self.LEAST_GAIN)
        return best


def _candidates(rows: int, threads: int) -> Iterator[int]:
    """All, an equal part for each thread, and the powers of two below; from large to small."""
    yield rows
    share = _divided_up(rows, threads)
    size = _size_class(rows) // 2
    while size:
        if size < share < min(rows, 2 * size):
            yield share
        yield size
        size //= 2


def _divided_up(number: int, by: int) -> int:
    return -(-number // by)


def _size_class(rows: int) -> int:
    return 1 << (rows - 1).bit_length()
