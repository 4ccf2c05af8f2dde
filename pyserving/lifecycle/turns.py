"""Whose load, or unload, is next: fair among models, and not kept waiting by those that do not come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from pyserving.lifecycle.harness import LoaderHarness
from pyserving.lifecycle.retries import CallLater, call_later
from pyserving.workers import Workers


class Turns:
    """Lets versions into the threads that load them, or into those that unload them.

    The model with the fewest versions in threads comes first; of several such, the one whose last turn is longest ago.
    Where there are several threads, one model leaves the last of them to the others. A version that is in its thread
    for longer than `patience_seconds` no longer counts: another thread stands in for it until it comes back.
    """

    def __init__(
        self,
        workers: Workers,
        begin: Callable[[LoaderHarness], Callable[[], Any]],
        over: Callable[[LoaderHarness, asyncio.Future[Any]], None],
        patience_seconds: float | None = None,
        call_later: CallLater = call_later,
    ) -> None:
        """`begin(harness)` gives what to run in the thread, `over(harness, result)` hears of its end, both on the loop.

        `patience_seconds=None` means that there are never more in threads than there are threads.
        """
        self._workers = workers
        self._begin = begin
        self._on_over = over
        self._patience_seconds = patience_seconds
        self._call_later = call_later
        self._waiting: dict[str, dict[LoaderHarness, None]] = {}  # by model, in the order of their turns
        self._in_threads: Counter[str] = Counter()  # by model
        self._overdue: set[LoaderHarness] = set()  # a thread stands in for each

    def wait(self, harness: LoaderHarness) -> None:
        """Have it take its turn, from the next `give` on."""
        self._waiting.setdefault(harness.id.name, {})[harness] = None

    def call_off(self, harness: LoaderHarness) -> None:
        """It does not wait any more. One that is in a thread cannot be called off."""
        versions = self._waiting.get(harness.id.name, {})
        versions.pop(harness, None)
        if not versions:
            self._waiting.pop(harness.id.name, None)

    def give(self) -> None:
        """Begin whatever has a thread. What waits is untouched until then, so it can still be called off."""
        while (name := self._next()) is not None:
            self._begin_one(self._take(name))

    def _next(self) -> str | None:
        """The model whose turn it is; None while there is no thread for any."""
        threads = self._workers.threads
        if self._workers.unfinished - len(self._overdue) >= threads:
            return None
        at_most = max(1, threads - 1)
        allowed = [name for name in self._waiting if self._in_threads[name] < at_most]
        return min(allowed, key=lambda name: self._in_threads[name], default=None)  # the first of equals

    def _take(self, name: str) -> LoaderHarness:
        """The version of the model that waits longest. The others' turn comes after that of the other models."""
        versions = self._waiting.pop(name)
        harness = next(iter(versions))
        del versions[harness]
        if versions:
            self._waiting[name] = versions
        return harness

    def _begin_one(self, harness: LoaderHarness) -> None:
        self._in_threads[harness.id.name] += 1
        job = self._workers.submit(self._begin(harness))
        timer = None
        if self._patience_seconds is not None:
            timer = self._call_later(self._patience_seconds, partial(self._stand_in, harness))
        job.future.add_done_callback(partial(self._over, harness, timer))

    def _stand_in(self, harness: LoaderHarness) -> None:
        if self._workers.add_stand_in():
            self._overdue.add(harness)
            self.give()

    def _over(self, harness: LoaderHarness, timer: asyncio.TimerHandle | None, result: asyncio.Future[Any]) -> None:
        if timer is not None:
            timer.cancel()
        if harness in self._overdue:
            self._overdue.remove(harness)
            self._workers.remove_stand_in()
        self._in_threads[harness.id.name] -= 1
        self._in_threads += Counter()  # forgets the models that have none
        self._on_over(harness, result)
        self.give()
