"""Every number the server counts: a family is declared once, in `Metrics`; whoever counts binds its cell with
`labels(...)`. The loop owns all of it.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from pyserving.errors import ServingError
from pyserving.metric_family import OTHER, Counter, Family, Gauge, Histogram, exponential, page

_Cell = TypeVar("_Cell", bound="Counter | Gauge | Histogram")

MAX_STRANGERS = 100
MAX_STRANGER_LENGTH = 128

MICROS = exponential(10, 1.8, 33)
"""Bucket limits of TensorFlow Serving's latencies."""
EXAMPLES = exponential(1, 2, 15)
"""Bucket limits of examples in a request."""
ROWS = exponential(1, 2, 14)
"""Bucket limits of rows in a batch."""
PERCENT = (1.0, 2.0, 5.0, *(float(percent) for percent in range(10, 101, 10)))


class Metrics:
    """The families of one server. `docs/metrics.md` says what each of them means."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """`clock` gives nanoseconds."""
        self.clock = clock
        self._families: dict[str, Family[Any]] = {}
        self._models: set[str] = set()
        self._strangers: set[str] = set()

        # TensorFlow Serving's: the eleven that exist from the start of its process.
        self.request_count = self._counter("/tensorflow/serving/request_count", "model_name", "status")
        self.request_latency = self._histogram(
            "/tensorflow/serving/request_latency", MICROS, "model_name", "API", "entrypoint"
        )
        self.runtime_latency = self._histogram(
            "/tensorflow/serving/runtime_latency", MICROS, "model_name", "API", "runtime"
        )
        self.request_example_counts = self._histogram("/tensorflow/serving/request_example_counts", EXAMPLES, "model")
        self.request_example_count_total = self._counter("/tensorflow/serving/request_example_count_total", "model")
        self.model_warmup_latency = self._histogram(
            "/tensorflow/serving/model_warmup_latency", MICROS, "model_path", "status"
        )
        self.model_warmup_records_read = self._counter(
            "/tensorflow/serving/model_warmup_records_read", "model_path", "status"
        )
        self.mlmd_map = self._gauge("/tensorflow/serving/mlmd_map", "model_name", "version")
        self.request_log_count = self._counter("/tensorflow/serving/request_log_count", "model_name", "status_code")
        self.queuing_latency = self._histogram(
            "/tensorflow/serving/batching_session/queuing_latency", exponential(100, 1.2, 52), "thread_pool_name"
        )
        self.wrapped_run_count = self._counter("/tensorflow/serving/batching_session/wrapped_run_count")

        # These come into being with the first batched request.
        self.input_batch_size = self._late_histogram("/tensorflow/serving/batching_session/input_batch_size", ROWS)
        self.processed_batch_size = self._late_histogram(
            "/tensorflow/serving/batching_session/processed_batch_size", ROWS
        )
        self.padding_size = self._late_histogram(
            "/tensorflow/serving/batching_session/padding_size", ROWS, "execution_batch_size"
        )

        # TensorFlow's own registry cannot be read from Python; these are counted where the thing happens.
        self.load_attempt_count = self._counter("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")
        self.load_latency = self._counter("/tensorflow/cc/saved_model/load_latency", "model_path")
        self.direct_session_runs = self._counter("/tensorflow/core/direct_session_runs")
        self.graph_runs = self._counter("/tensorflow/core/graph_runs")
        self.graph_run_time_usecs = self._counter("/tensorflow/core/graph_run_time_usecs")

        # Ours.
        self.request_duration = self._histogram(
            "/pyserving/request_duration_micros", MICROS, "model", "version", "signature", "status"
        )
        self.requests_in_flight = self._gauge("/pyserving/requests_in_flight")
        self.bytes_in_flight = self._gauge("/pyserving/bytes_in_flight")
        self.rejected = self._counter("/pyserving/rejected_total", "reason")
        self.model_version_state = self._gauge("/pyserving/model_version_state", "model", "version")
        self.load_failures = self._counter("/pyserving/load_failures_total", "model", "version", "status")
        self.unload_failures = self._counter("/pyserving/unload_failures_total", "model", "version", "status")
        self.listing_problems = self._counter("/pyserving/listing_problems_total", "model")
        self.remote_listings = self._counter("/pyserving/remote_listings_total", "model")
        self.remote_fetched_bytes = self._counter("/pyserving/remote_fetched_bytes_total", "model")
        self.request_log_dropped = self._counter("/pyserving/request_log_dropped_total", "model", "reason")
        queue = ("model", "version", "signature")
        self.batching_queue_depth = self._gauge("/pyserving/batching/queue_depth", *queue)
        self.batching_wait = self._histogram("/pyserving/batching/wait_micros", MICROS, *queue)
        self.batching_batch_size = self._histogram("/pyserving/batching/batch_size", ROWS, *queue)
        self.batching_fill = self._histogram("/pyserving/batching/fill_percent", PERCENT, *queue)
        self.batching_padding_bytes = self._counter("/pyserving/batching/padding_bytes_total", *queue)
        self.batching_reruns = self._counter("/pyserving/batching/reruns_total", *queue)
        self.batching_dropped = self._counter("/pyserving/batching/dropped_total", *queue, "reason")

        self.runs = self._counter("/pyserving/runs_total", "model", "version", "way")
        self.tls_handshake_failures = self._counter("/pyserving/tls_handshake_failures_total", "port")
        self.auth_token_reloads = self._counter("/pyserving/auth_token_reloads_total", "status")
        self.certificate_reloads = self._counter("/pyserving/certificate_reloads_total", "status")

        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def model_label(self, name: str) -> str:
        """The label value for a name that a client sent.

        Models that serve or once did have their own. Of names that nobody has, the first MAX_STRANGERS do, if they are
        no longer than a name is; what clients make up beyond that shares one.
        """
        if name in self._models or name in self._strangers:
            return name
        if len(self._strangers) >= MAX_STRANGERS or len(name) > MAX_STRANGER_LENGTH:
            return OTHER
        self._strangers.add(name)
        return name

    def know_model(self, name: str) -> None:
        """A model of this server: its name is a label value whatever clients made up before."""
        self._models.add(name)
        self._strangers.discard(name)

    def request(self, model_name: str, api: str, entrypoint: str) -> Request:
        """Count and time one request: `with metrics.request("m", "Predict", "GRPC") as request: ...`."""
        return Request(self, model_name, api, entrypoint)

    def exposition(self) -> bytes:
        """The whole page: the families, then process, platform and garbage collection in prometheus-client's form."""
        return page(self._families.values()).encode() + generate_latest(self._process)

    def value(self, slash_name: str) -> int:
        """The number in the first cell of a family, as HandleReloadConfigRequest reports it.

        0 for an unknown name, a histogram, and a family without cells.
        """
        family = self._families.get(slash_name)
        cell = family.first_cell if family else None
        return cell.value if isinstance(cell, Counter | Gauge) else 0

    def _counter(self, name: str, *label_names: str) -> Family[Counter]:
        return self._declare(Family(name, "counter", label_names, Counter))

    def _gauge(self, name: str, *label_names: str) -> Family[Gauge]:
        return self._declare(Family(name, "gauge", label_names, Gauge))

    def _histogram(self, name: str, limits: Sequence[float], *label_names: str) -> Family[Histogram]:
        return self._declare(Family(name, "histogram", label_names, lambda: Histogram(limits)))

    def _late_histogram(self, name: str, limits: Sequence[float], *label_names: str) -> Family[Histogram]:
        return self._declare(Family(name, "histogram", label_names, lambda: Histogram(limits), is_shown_empty=False))

    def _declare(self, family: Family[_Cell]) -> Family[_Cell]:
        self._families[family.name] = family
        return family


class RequestCells:
    """The cells that requests for one signature are counted in, for those who count many without waiting."""

    __slots__ = ("_counts", "_durations", "_latencies", "_metrics", "_name", "_runtimes")

    def __init__(
        self,
        metrics: Metrics,
        api: str,
        entrypoint: str,
        runtime: str,
        labels: tuple[str, str, str],
        *,
        runtime_api: str = "",
    ) -> None:
        """`labels` are the name, version and signature of a model that is there; `runtime_api` is what runs call `api`
        where that is another word."""
        name = labels[0]
        self._metrics = metrics
        self._name = name
        self._counts = metrics.request_count.labels(name, "OK")
        self._latencies = metrics.request_latency.labels(name, api, entrypoint)
        self._runtimes = metrics.runtime_latency.labels(name, runtime_api or api, runtime)
        self._durations = metrics.request_duration.labels(*labels, "OK")

    def answered(self, micros: int, runtime_micros: float) -> None:
        self._counts.value += 1
        bucket = bisect_right(MICROS, micros)  # once for both, whose limits are the same
        latencies, durations = self._latencies, self._durations
        latencies.counts[bucket] += 1
        latencies.sum += micros
        durations.counts[bucket] += 1
        durations.sum += micros
        self._runtimes.add(runtime_micros)

    def failed(self, micros: int, error: Exception) -> None:
        status = _status_name(error)
        self._metrics.request_count.labels(self._name, status).increment()
        self._metrics.request_duration.labels("", "", "", status).add(micros)  # as a Request counts what has no answer


class RunCount:
    """Counts the session runs of one version."""

    __slots__ = ("_metrics", "_model", "_totals", "_version", "_ways")

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._metrics = metrics
        self._model = model
        self._version = version
        self._ways: dict[str, Counter] = {}
        self._totals: tuple[Counter, Counter, Counter] | None = None

    def __call__(self, micros: float, way: str) -> None:
        """A run of so many microseconds is over. `way` names how it was made."""
        runs, graphs, usecs = self._totals or self._new_totals()
        runs.value += 1
        graphs.value += 1
        usecs.value += round(micros)
        (self._ways.get(way) or self._new_way(way)).value += 1

    def _new_totals(self) -> tuple[Counter, Counter, Counter]:
        """Of the whole process; the page has them from the first run on."""
        metrics = self._metrics
        self._totals = (
            metrics.direct_session_runs.labels(),
            metrics.graph_runs.labels(),
            metrics.graph_run_time_usecs.labels(),
        )
        return self._totals

    def _new_way(self, way: str) -> Counter:
        self._ways[way] = self._metrics.runs.labels(self._model, self._version, way)
        return self._ways[way]


class Request:
    """One request being counted and timed, from entering the context to leaving it.

    `model_name`, `api` and `entrypoint` label TensorFlow Serving's families and may be set late. `version` and
    `signature_name` label ours; set them once a servable has resolved them, never to what a client merely asked for:
    labels must not grow with what clients make up.
    """

    __slots__ = ("_metrics", "_started", "api", "entrypoint", "model_name", "signature_name", "version")

    def __init__(self, metrics: Metrics, model_name: str, api: str, entrypoint: str) -> None:
        self.model_name = model_name
        self.api = api
        self.entrypoint = entrypoint
        self.version = ""
        self.signature_name = ""
        self._metrics = metrics
        self._started = 0

    def __enter__(self) -> Request:
        self._started = self._metrics.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        metrics = self._metrics
        name = metrics.model_label(self.model_name)
        micros = (metrics.clock() - self._started) // 1000
        status = _status_name(error)
        metrics.request_count.labels(name, status).increment()
        if error is None:
            metrics.request_latency.labels(name, self.api, self.entrypoint).add(micros)
        model = name if self.version else ""
        metrics.request_duration.labels(model, self.version, self.signature_name, status).add(micros)


def _status_name(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    if isinstance(error, ServingError):
        return error.code.name
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"
