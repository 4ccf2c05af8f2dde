"""What a BatchingParameters proto comes to, with the defaults, checks and sentences of bundle_factory_util.cc."""

from __future__ import annotations

from dataclasses import dataclass

from pyserving import protos
from pyserving.errors import InvalidArgument

DEFAULT_MAX_BATCH_SIZE = 1000
DEFAULT_MAX_ENQUEUED_BATCHES = 10
DEFAULT_POOL_NAME = "batch_threads"
"""Of a parameters file that does not name its threads."""
POOL_NAME_WITHOUT_FILE = "model_server_batch_threads"


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How the batches of one queue are formed."""

    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    """Rows of one request."""
    max_execution_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    """Rows of one run. Less than `max_batch_size` only where large requests are split."""
    batch_timeout_micros: int = 0
    """How long a batch that is not full waits for more; 0: not at all."""
    max_enqueued_batches: int = DEFAULT_MAX_ENQUEUED_BATCHES
    """Times `max_execution_batch_size` rows may wait."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Rows that a run may have; fewer are filled up to the next of them."""
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False

    @property
    def batch_timeout_seconds(self) -> float:
        return self.batch_timeout_micros / 1e6

    def run_size(self, rows: int) -> int:
        """The rows of the run that takes up `rows`. As batching_session.cc: more than all that are allowed stay."""
        for size in self.allowed_batch_sizes:
            if size >= rows:
                return size
        return rows


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The threads that run the batches of all models."""

    name: str
    threads: int


def queue_options(parameters: protos.BatchingParameters) -> QueueOptions:
    """Raises InvalidArgument for what cannot be, in the words in which TensorFlow Serving fails the load."""
    max_batch_size = _value(parameters, "max_batch_size", DEFAULT_MAX_BATCH_SIZE)
    allowed = tuple(parameters.allowed_batch_sizes)
    if allowed and allowed[-1] != max_batch_size:
        raise InvalidArgument(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{allowed[-1]}; expected {max_batch_size}"
        )
    _check_positive("input_batch_size_limit", max_batch_size)
    timeout = _value(parameters, "batch_timeout_micros", 0)
    if timeout < 0:
        raise InvalidArgument(f"batch_timeout_micros must be non-negative; was {timeout}")
    splitting = parameters.enable_large_batch_splitting.value
    max_enqueued_batches = _value(parameters, "max_enqueued_batches", DEFAULT_MAX_ENQUEUED_BATCHES)
    if not splitting and max_enqueued_batches == 0:
        max_enqueued_batches = 1
    _check_positive("max_enqueued_batches", max_enqueued_batches)
    return QueueOptions(
        max_batch_size,
        _max_execution_batch_size(parameters, max_batch_size) if splitting else max_batch_size,
        timeout,
        max_enqueued_batches,
        allowed,
        parameters.pad_variable_length_inputs,
        splitting,
    )


def _max_execution_batch_size(parameters: protos.BatchingParameters, max_batch_size: int) -> int:
    size = _value(parameters, "max_execution_batch_size", max_batch_size)
    _check_positive("max_execution_batch_size", size)
    if size > max_batch_size:
        # As shared_batch_scheduler.h, which puts the flag and both sizes behind the sentence without a blank.
        raise InvalidArgument(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            f"max_execution_batch_size.1{max_batch_size}{size}"
        )
    return size


def pool_options(parameters: protos.BatchingParameters, cpus: int) -> PoolOptions:
    """Raises InvalidArgument for fewer threads than one."""
    threads = _value(parameters, "num_batch_threads", cpus)
    _check_positive("num_batch_threads", threads)
    has_name = parameters.HasField("thread_pool_name")
    return PoolOptions(parameters.thread_pool_name.value if has_name else DEFAULT_POOL_NAME, threads)


def _value(parameters: protos.BatchingParameters, field: str, default: int) -> int:
    """A wrapped number; one that is given counts even when it is 0."""
    return int(getattr(parameters, field).value) if parameters.HasField(field) else default


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise InvalidArgument(f"{name} must be positive; was {value}")
