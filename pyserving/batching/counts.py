"""What the metrics page shows of one queue: TensorFlow Serving's batching families, and ours beside them."""

from __future__ import annotations

from collections.abc import Sequence

from pyserving.metrics import Metrics

DEADLINE, CANCELLED, TOO_LATE, FULL = "deadline", "cancelled", "too_late", "full"
"""Why a request was dropped: its deadline passed in the queue, its client left, a run could not end in time any more,
or the queue was full."""
REASONS = (DEADLINE, CANCELLED, TOO_LATE, FULL)


_WAITS_APART = 0.8
"""Waits that are no more different than this are counted as the first of them; a bucket is as wide."""


class BatchCounts:
    """The cells of one queue, bound when it is made. Lives on the loop."""

    def __init__(self, metrics: Metrics, model: str, version: str, signature: str) -> None:
        labels = (model, version, signature)
        self._queuing_latency = metrics.queuing_latency.labels("")  # as there: the pool's name never gets into it
        self._wrapped_run_count = metrics.wrapped_run_count.labels()
        self._input_batch_size = metrics.input_batch_size
        self._processed_batch_size = metrics.processed_batch_size
        self._padding_size = metrics.padding_size
        self._depth = metrics.batching_queue_depth.labels(*labels)
        self._told_depth = 0
        self._wait = metrics.batching_wait.labels(*labels)
        self._batch_size = metrics.batching_batch_size.labels(*labels)
        self._fill = metrics.batching_fill.labels(*labels)
        self._padding_bytes = metrics.batching_padding_bytes.labels(*labels)
        self._reruns = metrics.batching_reruns.labels(*labels)
        self._dropped = {reason: metrics.batching_dropped.labels(*labels, reason) for reason in REASONS}

    def depth(self, requests: int) -> None:
        """So many wait. Queues of one label, for some and for all outputs of a signature, say, are counted together."""
        self._depth.increment(requests - self._told_depth)
        self._told_depth = requests

    def taken(self, sizes: Sequence[int], inputs: int, waits: Sequence[float]) -> None:
        """The rows of each request that begins with this batch, the input tensors that each has, and the microseconds
        that each request of the batch has waited."""
        input_batch_size = self._input_batch_size.labels()
        if sizes and min(sizes) == max(sizes):
            input_batch_size.add_many(sizes[0], len(sizes) * inputs)
        else:
            for size in sizes:
                input_batch_size.add_many(size, inputs)
        if min(waits) > _WAITS_APART * max(waits):
            self._queuing_latency.add_many(waits[0], len(waits))
            self._wait.add_many(waits[0], len(waits))
        else:
            for micros in waits:
                self._queuing_latency.add(micros)
                self._wait.add(micros)

    def ran(self, rows: int, run_size: int, limit: int, padding_bytes: int) -> None:
        """A batch of `rows` was run as one of `run_size`; it could have had `limit`."""
        self._wrapped_run_count.increment()
        self._processed_batch_size.labels().add(run_size)
        self._padding_size.labels(str(run_size)).add(run_size - rows)
        self._batch_size.add(rows)
        self._fill.add(100 * rows / limit)
        if padding_bytes:
            self._padding_bytes.increment(padding_bytes)

    def reran(self, requests: int) -> None:
        if requests:
            self._reruns.increment(requests)

    def dropped(self, reason: str) -> None:
        self._dropped[reason].increment()
