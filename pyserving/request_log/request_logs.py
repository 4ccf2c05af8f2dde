"""RequestLogs: which models' requests are written down, how many of them, and what became of each.

A request is never kept waiting: its record goes into a queue of bounded size, which a thread of its own writes out, and
where there is no room for it, it is dropped and counted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from pyserving import protos
from pyserving.errors import Code, ResourceExhausted
from pyserving.messages import Buffer
from pyserving.metrics import Metrics
from pyserving.request_log.log_files import Bounds, LogFiles
from pyserving.request_log.record import Record
from pyserving.types import ServableId
from pyserving.workers import Job, Workers

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestLogger:
    """What a model's logging_config comes to."""

    sampling_rate: float
    sampling_config: bytes
    """The serialized SamplingConfig, as each record has it."""
    files: LogFiles


@dataclass(frozen=True, slots=True)
class _Fate:
    """What became of a record."""

    code: Code
    reason: str = ""
    """Of a drop, as the metrics have it: queue, too_large or write."""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class _Written:
    """What came of one job of the thread."""

    fates: Sequence[_Fate]
    begun: Sequence[LogFiles]
    """Those that began a file."""


class RequestLogs:
    """The observer of front ends. All of it is the loop's, but for what the one thread writes."""

    def __init__(
        self,
        writing: Workers,
        metrics: Metrics,
        bounds: Bounds | None = None,
        *,
        saved_model_tags: Iterable[str] = (),
        max_queued_bytes: int = 64 << 20,
        sample: Callable[[], float] = random.random,
    ) -> None:
        """`writing` has one thread, so that what is submitted first is written first; `sample` gives 0 to 1."""
        self._writing = writing
        self._metrics = metrics
        self._bounds = bounds or Bounds()
        self._saved_model_tags = tuple(sorted(saved_model_tags))
        self._max_queued_bytes = max_queued_bytes
        self._sample = sample
        self._loggers: Mapping[str, RequestLogger] = {}
        self._files: Mapping[str, LogFiles] = {}
        self._waiting: list[tuple[RequestLogger, Record]] = []
        self._queued_bytes = 0
        self._jobs: set[Job[_Written]] = set()
        self._retirements: dict[LogFiles, asyncio.TimerHandle] = {}
        self._told: set[str] = set()
        """Reasons of drops that are in the server's log; the metrics count each drop."""

    async def __aenter__(self) -> RequestLogs:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What waits is written, and every file finished."""
        closings = self._replace({}, {})
        await asyncio.gather(*(closing.future for closing in closings), *(job.future for job in self._jobs))

    def apply(self, models: Mapping[str, protos.ModelConfig]) -> None:
        """From now on log what these models' logging_configs, which have been found right, ask for."""
        configs = {name: model.logging_config for name, model in models.items() if model.HasField("logging_config")}
        prefixes = {config.log_collector_config.filename_prefix for config in configs.values()}
        files = {prefix: self._files.get(prefix) or LogFiles(prefix, self._bounds) for prefix in prefixes}
        loggers = {name: _logger(config, files) for name, config in configs.items()}
        for name, logger in loggers.items():
            if logger != self._loggers.get(name):
                _log.info("Logging %g%% of the requests of model %s", logger.sampling_rate * 100, name)
        for name in self._loggers.keys() - loggers.keys():
            _log.info("Logging no more requests of model %s", name)
        self._told.clear()
        self._replace(loggers, files)

    def observes(self, model_name: str) -> bool:
        """Whether `answered` wants to hear of this model. Changes with the config, at once."""
        return model_name in self._loggers

    def picks(self, model_name: str) -> bool:
        """Whether the request at hand is to be logged, by the sampling rate."""
        logger = self._loggers.get(model_name)
        return logger is not None and self._sample() < logger.sampling_rate

    def answered(
        self, api: str, servable_id: ServableId, signature_name: str, request: Buffer, response: bytes
    ) -> None:
        """Log a request of PredictionService's method `api`, if its model still is to be logged."""
        logger = self._loggers.get(servable_id.name)
        if logger is None:
            return
        if self._queued_bytes + len(request) + len(response) > self._max_queued_bytes:
            self._count(servable_id.name, _Fate(Code.RESOURCE_EXHAUSTED, "queue", "the disk is too slow"))
            return
        record = Record(api, servable_id, signature_name, bytes(request), response, int(time.time()))
        self._queued_bytes += record.num_bytes
        self._waiting.append((logger, record))
        if not self._jobs:
            self._write_out()

    def _replace(self, loggers: Mapping[str, RequestLogger], files: Mapping[str, LogFiles]) -> list[Job[None]]:
        """The closing of the files that nobody logs to any more."""
        before, self._files, self._loggers = self._files, files, loggers
        for prefix in files.keys() - before.keys():
            self._writing.submit(_prepare, files[prefix])
        return [self._close(before[prefix]) for prefix in before.keys() - files.keys()]

    def _close(self, files: LogFiles) -> Job[None]:
        """After what waits to be written to them."""
        if (timer := self._retirements.pop(files, None)) is not None:
            timer.cancel()
        self._write_out()
        return self._writing.submit(files.close)

    def _write_out(self) -> None:
        """Give the thread what waits. While it is at work, the next group gathers."""
        if not self._waiting:
            return
        entries, self._waiting = self._waiting, []
        job = self._writing.submit(_write, entries, self._saved_model_tags)
        job.on_over = partial(self._written, job, [record for _, record in entries])
        self._jobs.add(job)

    def _written(self, job: Job[_Written], records: Sequence[Record]) -> None:
        self._jobs.remove(job)
        written = job.future.result()
        for record, fate in zip(records, written.fates, strict=True):
            self._queued_bytes -= record.num_bytes
            self._count(record.servable_id.name, fate)
        for files in written.begun:
            self._retire_in_time(files)
        if not self._jobs:
            self._write_out()

    def _retire_in_time(self, files: LogFiles) -> None:
        """A file that has just been begun is finished when its time is over, full or not."""
        if (timer := self._retirements.pop(files, None)) is not None:
            timer.cancel()
        if self._files.get(files.prefix) is files:
            loop = asyncio.get_running_loop()
            self._retirements[files] = loop.call_later(self._bounds.max_file_seconds, self._close, files)

    def _count(self, model_name: str, fate: _Fate) -> None:
        self._metrics.request_log_count.labels(model_name, fate.code.name).increment()
        if not fate.reason:
            self._told.discard("write")
            return
        self._metrics.request_log_dropped.labels(model_name, fate.reason).increment()
        if fate.reason not in self._told:
            self._told.add(fate.reason)
            _log.warning("A request of model %s could not be logged, nor may others: %s", model_name, fate.sentence)


def _logger(config: protos.LoggingConfig, files: Mapping[str, LogFiles]) -> RequestLogger:
    return RequestLogger(
        _sampling_rate(config.sampling_config),
        config.sampling_config.SerializeToString(deterministic=True),
        files[config.log_collector_config.filename_prefix],
    )


def _sampling_rate(config: protos.SamplingConfig) -> float:
    """As request_logger.cc: the first entry made for this task counts. This one is in no data centre, nor numbered."""
    for task in config.per_task_sampling_configs:
        if not task.dc and not task.HasField("task_index"):
            return task.sampling_rate
    return config.sampling_rate


def _write(entries: Sequence[tuple[RequestLogger, Record]], saved_model_tags: tuple[str, ...]) -> _Written:
    """In the thread."""
    begun_before = {logger.files: logger.files.num_opened for logger, _ in entries}
    fates = [_append(logger, record, saved_model_tags) for logger, record in entries]
    return _Written(fates, [files for files, number in begun_before.items() if files.num_opened != number])


def _append(logger: RequestLogger, record: Record, saved_model_tags: tuple[str, ...]) -> _Fate:
    try:
        logger.files.append(record.encoded(logger.sampling_config, saved_model_tags))
    except ResourceExhausted as error:
        return _Fate(error.code, "too_large", error.message)
    except OSError as error:
        return _Fate(_CODES.get(error.errno, Code.INTERNAL), "write", str(error))
    except MemoryError:  # a record is put together as a whole
        return _Fate(Code.RESOURCE_EXHAUSTED, "write", "there is no memory for it")
    return _Fate(Code.OK)


_CODES: Mapping[int | None, Code] = {
    errno.ENOSPC: Code.RESOURCE_EXHAUSTED,
    errno.EDQUOT: Code.RESOURCE_EXHAUSTED,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ENOENT: Code.NOT_FOUND,
}


def _prepare(files: LogFiles) -> None:
    """In the thread."""
    try:
        files.prepare()
    except OSError as error:
        _log.error("Requests cannot be logged to %s: %s", files.prefix, error)
