"""One run of a batch, in whichever thread: merge, run, split; and again one by one when the batch as a whole fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import TypeAlias

import numpy as np

from pyserving.batching.tensors import Unsplittable, has_rows, merge, split
from pyserving.errors import Cancelled, Code, ServingError, error_for

Run: TypeAlias = Callable[..., Sequence[np.ndarray]]
Outcome: TypeAlias = Sequence[np.ndarray] | ServingError

NEVER_RERUN = {Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}
"""What these say is true of the moment, not of a request; to run again would make it worse."""
MOST_FAILURES_IN_A_ROW = 16
"""Of requests that are run again by themselves: then it is not for one of them that the batch has failed."""


_NOT_RUN = "The request was not run"


class BatchRun:
    """Runs once, with `__call__`; then `outcomes` says what became of each request."""

    def __init__(
        self,
        run: Run,
        feeds: Sequence[Sequence[np.ndarray]],
        sizes: Sequence[int],
        merged: Sequence[np.ndarray] | None,
        *,
        may_rerun: bool,
        is_even: bool = False,
        is_wanted: Callable[[int], bool] = lambda index: True,
    ) -> None:
        """`feeds`: the arrays of each request, in the order of the run's. `sizes`: rows of each.

        `merged`: where to merge them; None where requests are run as they are, one by one. `is_even`: no array is
        padded. `is_wanted(index)`: whether somebody still waits for a request.
        """
        self._run = run
        self._feeds = feeds
        self._sizes = sizes
        self.merged = merged
        self._may_rerun = may_rerun
        self._is_even = is_even
        self._is_wanted = is_wanted
        self.outcomes: list[Outcome] = []
        """Outputs or error of each request."""
        self.micros = 0.0
        """Of the run of all together; 0 when it did not come to that."""
        self.cpu_micros = 0.0
        """Of these, what this thread was at work."""
        self.has_succeeded = False
        """The run of all together."""
        self.is_splittable = True
        """The outputs have a row for each of the inputs, as far as is known."""
        self.runs_alone = 0
        """Of requests by themselves."""
        self.micros_alone = 0.0
        """Of all of these."""
        self._has_failed = False

    @property
    def reruns(self) -> int:
        """Requests that were run again by themselves, since the run of all together had failed."""
        return self.runs_alone if self._has_failed else 0

    def __call__(self) -> None:
        """Raises what is no ServingError."""
        try:
            if self.merged is None and len(self._feeds) > 1:
                self.outcomes = [Cancelled(_NOT_RUN) for _ in self._sizes]
                self._one_by_one(len(self._sizes))
            else:
                self.outcomes = self._together()
        except ServingError as error:
            self._has_failed = True
            self.is_splittable = not isinstance(error, Unsplittable)
            self.outcomes = [error_for(error.code, error.message) for _ in self._sizes]
            if self._can_do_better(error):
                self._one_by_one(MOST_FAILURES_IN_A_ROW)

    def _together(self) -> list[Outcome]:
        if self.merged is None:
            alone = self._timed(self._feeds[0])
            self.is_splittable = has_rows(alone, self._sizes[0])
            return [alone]
        for index, merged in enumerate(self.merged):
            merge([arrays[index] for arrays in self._feeds], merged, sum(self._sizes), is_even=self._is_even)
        outputs = self._timed(self.merged)
        return [*split(outputs, self._sizes, len(self.merged[0]))]

    def _timed(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        began, busy = perf_counter(), thread_time()
        try:
            outputs = self._run(*arrays)
        finally:
            self.cpu_micros = (thread_time() - busy) * 1e6
            self.micros = (perf_counter() - began) * 1e6
        self.has_succeeded = True
        return outputs

    def _can_do_better(self, error: ServingError) -> bool:
        is_alone = len(self._sizes) == 1 and self.is_splittable
        return self._may_rerun and not is_alone and error.code not in NEVER_RERUN

    def _one_by_one(self, most_failures: int) -> None:
        """So that an error is its own request's, and not shared by those who happened to come at the same time."""
        failures = 0
        began = perf_counter()
        for index, arrays in enumerate(self._feeds):
            if failures == most_failures:
                break
            if not self._is_wanted(index):
                continue
            self.runs_alone += 1
            try:
                self.outcomes[index] = self._run(*arrays)
                failures = 0
            except ServingError as error:
                self.outcomes[index] = error_for(error.code, error.message)
                failures += 1
        self.micros_alone = (perf_counter() - began) * 1e6
