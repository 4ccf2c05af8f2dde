"""Warm-up: replay the requests a version brings with it before anybody else may ask it. As saved_model_warmup_util.cc.

All of it happens in the loading thread; what there is to count goes into a report, which the loop counts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES, TensorProtoInputs
from pyserving.core import SessionRun
from pyserving.errors import DataLoss, InvalidArgument, Unimplemented
from pyserving.executors.version_folder import has_file
from pyserving.inference.classify import classify
from pyserving.inference.multi_inference import multi_inference
from pyserving.inference.regress import regress
from pyserving.metric_family import Histogram
from pyserving.metrics import EXAMPLES, MICROS, Metrics
from pyserving.servable import Servable
from pyserving.signature import SignatureDef
from pyserving.types import ModelSpec, Prediction, ServableId

_log = logging.getLogger(__name__)

REQUESTS_FILE = "assets.extra/tf_serving_warmup_requests"
"""Inside the version folder: a TFRecord file of serialized tensorflow.serving.PredictionLog."""
MAX_RECORDS = 1000
_SHOWN_BYTES = 1024
"""Of a record that is none: as much of a sentence as gRPC carries."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reading:
    """A warm-up file that was read to where it ends, well or not."""

    model_path: str
    status: str
    """`OK`, or the code and sentence of what is wrong with the file."""
    records: int
    micros: float


@dataclass(slots=True)
class WarmupReport:
    """What one warm-up has to tell the metrics. It does not grow with the runs, so the loop counts it at a stroke."""

    reading: Reading | None = None
    """None where there is no file, or a request ended its reading."""
    runs: int = 0
    run_micros: float = 0.0
    runtimes: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    """By the model's name in the records, and the API."""
    examples: dict[str, Histogram] = field(default_factory=dict)
    """Of MultiInference requests, by the model's name in the records."""

    def add_run(self, micros: float) -> None:
        """A run of the session, failed or not."""
        self.runs += 1
        self.run_micros += micros

    def add_runtime(self, model_name: str, api: str, micros: float) -> None:
        """A request's run that succeeded."""
        self.runtimes.setdefault((model_name, api), Histogram(MICROS)).add(micros)

    def add_examples(self, model_name: str, num_examples: int) -> None:
        self.examples.setdefault(model_name, Histogram(EXAMPLES)).add(num_examples)

    def count_into(self, metrics: Metrics) -> None:
        """On the loop."""
        if (reading := self.reading) is not None:
            labels = (reading.model_path, reading.status)
            metrics.model_warmup_latency.labels(*labels).add(reading.micros)
            metrics.model_warmup_records_read.labels(*labels).increment(reading.records)
        for (model_name, api), runtimes in self.runtimes.items():
            metrics.runtime_latency.labels(model_name, api, "TF1").merge(runtimes)
        for model_name, examples in self.examples.items():
            metrics.request_example_counts.labels(model_name).merge(examples)
            metrics.request_example_count_total.labels(model_name).increment(round(examples.sum))
        metrics.direct_session_runs.labels().increment(self.runs)
        metrics.graph_runs.labels().increment(self.runs)
        metrics.graph_run_time_usecs.labels().increment(round(self.run_micros))


def no_warmup(path: str, servable: object, report: WarmupReport) -> None:
    """Where warm-up is switched off."""


def _tensorflow_records(file: str) -> Iterator[bytes] | None:
    if not has_file(*os.path.split(file)):
        return None
    from pyserving.executors.tf_record import records  # imports TensorFlow, which not every model's load has done

    return records(file)


@dataclass(frozen=True, slots=True)
class Warmup:
    """How warm-up files are replayed, the same for every version."""

    options: protos.ModelWarmupOptions = field(default_factory=protos.ModelWarmupOptions)
    max_expanded_tensor_bytes: int = DEFAULT_MAX_BYTES
    enable_signature_method_name_check: bool = False
    read_records: Callable[[str], Iterator[bytes] | None] = _tensorflow_records
    """The records of a TFRecord file, or None when there is none at this path."""

    def __call__(self, path: str, servable: Servable, report: WarmupReport) -> None:
        """Replay the file of the version folder `path`, if it has one, in the calling thread.

        Raises the ServingError of the first request that fails, or of the file. `report` is filled in either way.
        """
        file = f"{path}/{REQUESTS_FILE}"
        records = self.read_records(file)
        if records is None:
            _log.info("No warmup data file found at %s", file)
            return
        dump = text_format.MessageToString(self.options, as_one_line=True)
        _log.info("Starting to read warmup data for model at %s with model-warmup-options %s", file, dump)
        replay = _Replay(servable.in_calling_thread(report.add_run), report, self)
        for number, record in enumerate(_reported(records, path, report), 1):
            log = _prediction_log(record, file)
            for _ in range(self.num_request_iterations):
                run_now(replay(log))
            if number > MAX_RECORDS:  # the one too many has been replayed, as there
                raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
        assert report.reading is not None  # the records have ended
        _log.info(
            "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
            "Elapsed time (microseconds): %d.",
            file,
            report.reading.records,
            report.reading.micros,
        )

    @property
    def num_request_iterations(self) -> int:
        """Times to run each record, in a row."""
        if self.options.HasField("num_request_iterations"):
            return self.options.num_request_iterations.value
        return 1


def _reported(records: Iterator[bytes], path: str, report: WarmupReport) -> Iterator[bytes]:
    """The records, and into the report how reading them ended. What a request raises meanwhile does not end it."""
    began = perf_counter()
    count = 0
    try:
        for record in records:
            yield record
            count += 1
    except DataLoss as error:
        report.reading = Reading(path, error.status, count, (perf_counter() - began) * 1e6)
        raise DataLoss(f"{error.message}. Please verify your warmup data is in TFRecord format.") from None
    report.reading = Reading(path, "OK", count, (perf_counter() - began) * 1e6)


def _prediction_log(record: bytes, file: str) -> protos.PredictionLog:
    try:
        return protos.PredictionLog.FromString(record)
    except DecodeError:
        shown = record[:_SHOWN_BYTES].decode(errors="replace")
        raise InvalidArgument(f"Failed to parse warmup record: {shown} from {file}") from None


def run_now(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    coroutine.close()
    raise RuntimeError("A warm-up request waited for something")


class _Replay:
    """Sends a record the way its request would go, from the proto on."""

    def __init__(self, servable: Servable, report: WarmupReport, settings: Warmup) -> None:
        self._servable = servable
        self._report = report
        self._settings = settings

    async def __call__(self, log: protos.PredictionLog) -> None:
        """A record without a request is no trouble."""
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            await self._predict(log.predict_log.request)
        elif kind == "classify_log":
            await self._infer(classify, "Classify", log.classify_log.request)
        elif kind == "regress_log":
            await self._infer(regress, "Regress", log.regress_log.request)
        elif kind == "multi_inference_log":
            await self._multi_inference(log.multi_inference_log.request)
        elif kind is not None:
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise Unimplemented(f"Unsupported log_type for warmup: {number}")

    async def _predict(self, request: protos.PredictRequest) -> None:
        inputs = TensorProtoInputs(request.inputs, self._settings.max_expanded_tensor_bytes)
        spec = model_spec.decode(request.model_spec)
        await self._core(spec.name, "Predict").predict(spec, inputs, request.output_filter)

    async def _infer(self, inference: Any, api: str, request: Any) -> None:
        core = self._core(request.model_spec.name, api)
        serialized = protos.SerializedExampleRequest.FromString(request.SerializeToString())
        await inference(core, serialized, check_method_name=self._settings.enable_signature_method_name_check)

    async def _multi_inference(self, request: protos.MultiInferenceRequest) -> None:
        name = request.tasks[0].model_spec.name if request.tasks else ""
        await multi_inference(
            _LoadingCore(self._servable),
            protos.SerializedMultiInferenceRequest.FromString(request.SerializeToString()),
            check_method_name=self._settings.enable_signature_method_name_check,
            on_examples=partial(self._report.add_examples, name),
        )

    def _core(self, model_name: str, api: str) -> _LoadingCore:
        return _LoadingCore(self._servable, partial(self._report.add_runtime, model_name, api))


class _LoadingCore:
    """An InferenceCore of the one servable that is being loaded, which answers to every name and version."""

    def __init__(self, servable: Servable, observe: Callable[[float], None] = lambda micros: None) -> None:
        """`observe(micros)` hears of the runs that succeed."""
        self._servable = servable
        self._observe = observe

    async def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        *,
        deadline: float | None = None,
        take_in_worker: bool = False,
    ) -> Prediction:
        prediction = await self._servable.predict(None, spec.signature_name, inputs, output_filter, deadline)
        self._observe(prediction.runtime_micros)
        return prediction

    def signatures(self, spec: ModelSpec) -> tuple[ServableId, Mapping[str, SignatureDef]]:
        return self._servable.id, self._servable.signature_defs

    async def run(
        self,
        servable_id: ServableId,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        *,
        deadline: float | None = None,
    ) -> SessionRun:
        outputs, runtime_micros = await self._servable.run(None, feeds, fetches, deadline)
        self._observe(runtime_micros)
        return SessionRun(outputs, runtime_micros)
