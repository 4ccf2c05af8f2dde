"""ModelMetrics: counts what becomes of models and their versions; requests are counted where they are answered."""

from __future__ import annotations

from collections import deque

from pyserving.errors import Code
from pyserving.lifecycle.attempt import Action, Attempt
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.loader import ServableLoader
from pyserving.metrics import Metrics
from pyserving.types import ServableId, ServableState


class ModelMetrics:
    """Hears of every state from the monitor."""

    def __init__(self, metrics: Metrics, monitor: ServableStateMonitor) -> None:
        self.metrics = metrics
        self.with_mlmd: deque[ServableId] = deque()
        """Loaded with a file of their own for it, and not counted yet; loading threads append."""
        monitor.subscribe(self._count_state)
        monitor.forgotten.append(self._forget_state)

    def _count_state(self, state: ServableState) -> None:
        name, version = state.id.name, str(state.id.version)
        self.metrics.know_model(name)
        self.metrics.model_version_state.labels(name, version).set(int(state.manager_state))

    def _forget_state(self, id: ServableId) -> None:
        self.metrics.model_version_state.remove(id.name, str(id.version))

    def count_attempt(self, attempt: Attempt) -> None:
        """A load or an unload is over; a load's loader kept what there is to count of it."""
        metrics, loader = self.metrics, attempt.loader
        if attempt.error is not None and attempt.error.code is not Code.CANCELLED:
            failures = metrics.load_failures if attempt.action is Action.LOAD else metrics.unload_failures
            failures.labels(attempt.id.name, str(attempt.id.version), attempt.error.code.name).increment()
        assert isinstance(loader, ServableLoader), "all are made by the SourceAdapter"
        for opening in loader.take_attempts():
            status = "success" if opening.has_succeeded else "fail"
            metrics.load_attempt_count.labels(loader.path, status).increment()
            metrics.load_latency.labels(loader.path).increment(round(opening.micros))
        for fetch in loader.take_fetches():
            self.count_listings(attempt.id.name, fetch.listings)
            metrics.remote_fetched_bytes.labels(attempt.id.name).increment(fetch.fetched_bytes)
        for warmup in loader.take_warmups():
            warmup.count_into(metrics)
        while self.with_mlmd:
            loaded = self.with_mlmd.popleft()
            metrics.mlmd_map.labels(loaded.name, str(loaded.version)).set(0)  # as the page shows a gauge of text

    def count_listings(self, name: str, listings: int) -> None:
        """Of remote storage, for that model."""
        if listings:
            self.metrics.remote_listings.labels(name).increment(listings)

    def count_listing_problem(self, name: str, reason: str) -> None:
        """A base path could not be listed; `reason` is the log's."""
        self.metrics.listing_problems.labels(name).increment()
