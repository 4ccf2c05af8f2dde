"""A plan that knows its fastest way of running: the one place where that is decided, by measuring live requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from pyserving.errors import InvalidArgument
from pyserving.executors.executor import CALLER, Plan, Way
from pyserving.executors.loop_licence import SHORT_MICROS, SHORT_MICROS_IN_THREAD, LoopLicence
from pyserving.signature import data_type_of

LOOP = "loop"
"""As the name of a way: the caller's, where the caller is the event loop."""
WORKERS, BATCHED, MIXED = "workers", "batched", "mixed"
"""Where a plan runs, besides LOOP: in threads, one by one or in batches. MIXED: on the loop for some sizes of input."""


class Choice:
    """Which way runs a plan fastest for inputs of about one size, judged by the requests' own run times.

    In a trial the ways take turns until each has been timed often enough; the one with the least median is kept until
    the next trial, long afterwards. No run is made just to be measured: there are models that count their runs.

    Runs that prove to be short are made on the event loop itself, for as long as they are.
    """

    TIMED_RUNS = 5
    """Of each way in a trial. The very first run of a way is not one of them: it allocates and compiles."""
    RUNS_BETWEEN_TRIALS = 4096
    """So that one run in 800 goes the slower way."""
    LEAST_GAIN = 0.05
    """What another way must save to take the place of the kept one; less is noise."""

    def __init__(self, ways: Sequence[Way], *, is_bounded: bool = False) -> None:
        """Only what `is_bounded`, as a Plan tells it, is ever run on the loop."""
        caller = next((way for way in ways if way.name == CALLER), None)
        self._ways = ways
        self._caller = caller
        self._is_bounded = is_bounded
        self._licence = LoopLicence(is_possible=is_bounded and caller is not None)
        self.on_loop: Way | None = None
        """The way to go in the event loop's own thread, while runs are short enough for that."""
        self.micros_on_loop = SHORT_MICROS
        """What the next run on the loop will take, to judge by the last."""
        self._kept = ways[0]
        self._in_trial = len(ways) > 1
        self._runs = 0
        """Started since the trial began, or since it ended."""
        self._cold = {way.name for way in ways}
        self._caller_cpu_micros = deque[float](maxlen=self.TIMED_RUNS)
        self._micros = {way.name: deque[float](maxlen=self.TIMED_RUNS) for way in ways}

    @property
    def kept(self) -> str | None:
        """Name of the way that is kept, or `loop`; None while the first trial is on."""
        if self.on_loop is not None:
            return LOOP
        return None if self._in_trial else self._kept.name

    def next(self) -> Way:
        """The way for the run that starts now in a worker."""
        self._runs += 1
        if self._in_trial:
            return self._ways[self._runs % len(self._ways)]
        if self._runs >= self.RUNS_BETWEEN_TRIALS and len(self._ways) > 1:
            self._begin_trial()
        return self._kept

    def is_warm(self, way: Way) -> bool:
        """Whether runs of `way` take as long as they will from now on."""
        return way.name not in self._cold

    def record(self, way: Way, micros: float, cpu_micros: float) -> None:
        """A run of `way` has succeeded in a worker, whose thread was at work for `cpu_micros` of the time."""
        if way.name in self._cold:
            self._cold.remove(way.name)
            return
        if way is self._caller:
            self._caller_cpu_micros.append(cpu_micros)
            self._licence.ran_in_thread(micros, cpu_micros)
            self.on_loop = way if self._licence.is_held else None
        if self._in_trial:
            self._record_trial(way, micros)

    def record_on_loop(self, micros: float, cpu_micros: float) -> None:
        """A run on the loop is over, well or not."""
        self.micros_on_loop = micros
        self._licence.ran_on_loop(micros, cpu_micros)
        if not self._licence.is_held:
            self.on_loop = None

    def _record_trial(self, way: Way, micros: float) -> None:
        self._micros[way.name].append(micros)
        if all(len(times) == self.TIMED_RUNS for times in self._micros.values()):
            self._end_trial()

    def _begin_trial(self) -> None:
        self._in_trial = True
        self._runs = 0
        for times in self._micros.values():
            times.clear()

    def _end_trial(self) -> None:
        self._in_trial = False
        self._runs = 0
        if self._caller is not None and self._is_bounded and median(self._caller_cpu_micros) < SHORT_MICROS_IN_THREAD:
            self._kept = self._caller  # on its way to the loop, where there are no other threads to wait for
            return
        medians = {way.name: median(self._micros[way.name]) for way in self._ways}
        fastest = min(self._ways, key=lambda way: medians[way.name])
        if medians[fastest.name] < (1 - self.LEAST_GAIN) * medians[self._kept.name]:
            self._kept = fastest


class ExecutionPlan:
    """A plan and, for each size of input, the choice between its ways. Lives on the loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._dtypes = [data_type.numpy for data_type in plan.feed_types]
        self._choices: dict[int, Choice] = {}

    @property
    def choices(self) -> Mapping[int, str | None]:
        """Rows, rounded up to a power of two, to the name of the way kept for them; None while that is being found.

        `loop`, where they run in the event loop's own thread."""
        return {rows: choice.kept for rows, choice in self._choices.items()}

    @property
    def place(self) -> str:
        """LOOP, WORKERS or MIXED, by the requests that have come so far."""
        on_loop = {choice.on_loop is not None for choice in self._choices.values()}
        if True not in on_loop:
            return WORKERS
        return MIXED if False in on_loop else LOOP

    def choice(self, arrays: Sequence[np.ndarray]) -> Choice:
        """The choice for inputs of this size."""
        rows = rows_bucket(arrays) if len(self.plan.ways) > 1 else 0
        try:
            return self._choices[rows]
        except KeyError:
            return self._choices.setdefault(rows, Choice(self.plan.ways, is_bounded=self.plan.is_bounded))

    def check_dtypes(self, arrays: Sequence[np.ndarray]) -> None:
        """Raises InvalidArgument for the first array that is not of its feed's type; as direct_session.cc words it."""
        for index, (array, dtype) in enumerate(zip(arrays, self._dtypes, strict=True)):
            if array.dtype is not dtype and array.dtype != dtype:
                expected, given = self.plan.feed_types[index].type_name, data_type_of(array).type_name
                raise InvalidArgument(f"Expects arg[{index}] to be {expected} but {given} is provided")


def rows_bucket(arrays: Sequence[np.ndarray]) -> int:
    """Rows of the first array, rounded up to a power of two; 0 where there are no arrays, no rows or no dimensions."""
    if not arrays or arrays[0].ndim == 0 or len(arrays[0]) == 0:
        return 0
    return 1 << (len(arrays[0]) - 1).bit_length()
