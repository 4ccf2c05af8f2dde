"""What runs of so many rows take, learnt from those that were made: which size pays best, who can be in time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from statistics import mean, median


class RunCosts:
    """The latest run times of one kind of batch, in classes of rows: a class for each power of two.

    They are what runs took as they were made, beside whatever else was going on: a device that does one run after
    another shows in longer runs when two are made at once.
    """

    WINDOW = 8
    LEAST_SAMPLES = 3
    """Of a class, before its size is judged."""
    PRESSED_SECONDS = 1.0
    """That a missed deadline is taken for a sign of too much work."""
    MOST_TRIES = 6
    """Of a class that is not known: requests may be of sizes that never make a batch of it."""
    LEAST_GAIN = 0.05
    """What smaller batches must save to be preferred; less is noise."""
    CHOICES_BETWEEN_TRIALS = 32
    """So often a size is tried again that was found wanting: things change."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[tuple[int, float]]] = {}
        """Class to rows and seconds of its latest runs."""
        self._points: dict[int, tuple[float, float]] = {}
        """Class to the mean of its rows and the median of its seconds."""
        self._per_row: dict[int, float] = {}
        """Class to seconds a row, where enough is known."""
        self._strays = deque[float](maxlen=2 * self.WINDOW)
        """How many times as long as was to be expected the latest runs took."""
        self._estimates: dict[int, float] = {}
        """Those asked for since the last run."""
        self._tries: dict[int, int] = {}
        """Class to the times it was chosen in order to get to know it."""
        self._choices = 0
        self._pressed_until = float("-inf")

    def missed_deadline(self, now: float) -> None:
        """A request was dropped that waited for such a run, at `now` in seconds."""
        self._pressed_until = now + self.PRESSED_SECONDS

    def is_pressed(self, now: float) -> bool:
        """Whether more came than could be done, just now."""
        return now < self._pressed_until

    def record(self, rows: int, seconds: float) -> None:
        """A run of `rows` took so long."""
        self._estimates.clear()
        if self._points:
            self._strays.append(seconds / self._usual(rows))
        size = _size_class(rows)
        runs = self._runs.setdefault(size, deque(maxlen=self.WINDOW))
        runs.append((rows, seconds))
        self._points[size] = mean(rows for rows, _ in runs), median(seconds for _, seconds in runs)
        if len(runs) >= self.LEAST_SAMPLES:
            self._per_row[size] = median(seconds / rows for rows, seconds in runs)

    def estimate(self, rows: int) -> float:
        """Seconds that a run of `rows` will hardly exceed; 0 where nothing is known.

        The worst of the latest runs is left out: once in a while something else takes the time.
        """
        if not self._points:
            return 0.0
        if rows not in self._estimates:
            strays = sorted(self._strays)[:-1]
            self._estimates[rows] = self._usual(rows) * max(1.0, strays[-1] if strays else 1.0)
        return self._estimates[rows]

    def _usual(self, rows: int) -> float:
        """On the line from the next smaller known size to the next larger; beyond the largest, in proportion."""
        points = sorted(self._points.values())
        below = [point for point in points if point[0] <= rows]
        above = [point for point in points if point[0] > rows]
        if not below:
            return above[0][1]
        start, start_seconds = below[-1]
        if not above:
            return start_seconds * max(1.0, rows / start)
        end, end_seconds = above[0]
        return start_seconds + (end_seconds - start_seconds) * (rows - start) / (end - start)

    def best_size(self, rows: int, threads: int = 1, running: int = 0, run_size: Callable[[int], int] = int) -> int:
        """How many of `rows` to run next, so that most is done in so many threads, which run `running` rows now.

        A fair share for each thread, unless one run of all of them has been found to do more, or smaller runs; each
        size that is not known well enough is tried. `run_size(rows)`: the rows of the run that takes them up.
        """
        if rows == 1:
            return 1
        self._choices += 1
        share = min(rows, _divided_up(rows + running, threads))
        known = []
        for size in _candidates(rows, share):
            size_class = _size_class(run_size(size))
            if size_class in self._per_row:
                known.append(size)
            elif self._tries.get(size_class, 0) < self.MOST_TRIES:
                self._tries[size_class] = self._tries.get(size_class, 0) + 1
                return size
        if not known:
            return share
        if self._choices % self.CHOICES_BETWEEN_TRIALS == 0:
            return known[self._choices // self.CHOICES_BETWEEN_TRIALS % len(known)]
        best, least = share, float("inf")
        for size in known:
            run = run_size(size)
            # All at once keeps one thread busy, and leaves nothing for the others.
            seconds = run * self._per_row[_size_class(run)] / size * (threads if size > share else 1)
            if seconds < least:
                best, least = size, seconds * (1 - self.LEAST_GAIN)
        return best


def _candidates(rows: int, share: int) -> Iterator[int]:
    """All, the share of a thread, and the powers of two below; from large to small."""
    yield rows
    if share < rows:
        yield share
    size = _size_class(share) // 2
    while size:
        yield size
        size //= 2


def _divided_up(number: int, by: int) -> int:
    return -(-number // by)


def _size_class(rows: int) -> int:
    return 1 << (rows - 1).bit_length()
