"""Replaying warm-up records, as TensorFlow Serving's own tests pin it; in one thread and without a loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pyserving import protos
from pyserving.codec.tensor_proto import encode_into
from pyserving.errors import DataLoss, FailedPrecondition, InvalidArgument, ServingError, Unimplemented
from pyserving.executors.executor import Plan, Way
from pyserving.metrics import Metrics
from pyserving.servable import Servable
from pyserving.session import DirectSession
from pyserving.signature import CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME, DataType, SignatureDef, TensorInfo
from pyserving.types import ServableId
from pyserving.warmup import MAX_RECORDS, Warmup, WarmupReport, no_warmup, run_now
from pyserving.workers import Workers

X = TensorInfo("x:0", DataType.DT_FLOAT, (-1,))
Y = TensorInfo("y:0", DataType.DT_FLOAT, (-1,))
EXAMPLES = TensorInfo("examples:0", DataType.DT_STRING, (-1,))
SCORES = TensorInfo("scores:0", DataType.DT_FLOAT, (-1, 2))
VALUES = TensorInfo("values:0", DataType.DT_FLOAT, (-1,))
PATH = "/models/m/00000123"
FILE = f"{PATH}/assets.extra/tf_serving_warmup_requests"


class CountingExecutor:
    """Doubles, classifies and regresses in two ways each, and keeps what it was fed."""

    signature_def_map = b""
    signature_defs: Mapping[str, SignatureDef] = {
        "serving_default": SignatureDef({"x": X}, {"y": Y, "x_again": X}),
        "classify": SignatureDef({"inputs": EXAMPLES}, {"scores": SCORES}, CLASSIFY_METHOD_NAME),
        "regress": SignatureDef({"inputs": EXAMPLES}, {"outputs": VALUES}, REGRESS_METHOD_NAME),
    }

    def __init__(self) -> None:
        self.fed: list[np.ndarray] = []
        self.ways: list[str] = []
        self.fetched: list[tuple[str, ...]] = []
        self.planned: list[tuple[str, ...]] = []
        self.threads: set[int] = set()
        self.error: ServingError | None = None

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        self.planned.append(fetches)

        def run(way: str, array: np.ndarray) -> Sequence[np.ndarray]:
            self.fed.append(array)
            self.ways.append(way)
            self.fetched.append(fetches)
            self.threads.add(threading.get_ident())
            if self.error is not None:
                raise self.error
            outputs = {
                "x:0": lambda: array,
                "y:0": lambda: array * 2,
                "scores:0": lambda: np.zeros((len(array), 2), np.float32),
                "values:0": lambda: np.zeros(len(array), np.float32),
            }
            return [outputs[fetch]() for fetch in fetches]

        ways = tuple(Way(name, lambda array, name=name: run(name, array)) for name in ("pool", "caller"))
        return Plan(feeds, fetches, (DataType.DT_FLOAT if feeds == ("x:0",) else DataType.DT_STRING,), ways)

    def close(self) -> None:
        pass


@pytest.fixture
def executor() -> CountingExecutor:
    return CountingExecutor()


@pytest.fixture
def session(executor: CountingExecutor) -> DirectSession:
    return DirectSession(executor, Workers("run", 1))


@pytest.fixture
def servable(executor: CountingExecutor, session: DirectSession) -> Servable:
    return Servable(ServableId("m", 123), executor, session)


@pytest.fixture
def report() -> WarmupReport:
    return WarmupReport()


def predict_log(values: Sequence[float] = (1.0,), alias: str = "x", **spec: Any) -> protos.PredictionLog:
    log = protos.PredictionLog()
    encode_into(np.array(values, np.float32), log.predict_log.request.inputs[alias])
    log.predict_log.request.model_spec.MergeFrom(protos.ModelSpec(**spec))
    return log


def infer_log(kind: str, *, examples: int = 1, signature: str | None = None, name: str = "") -> protos.PredictionLog:
    log = protos.PredictionLog()
    request = getattr(log, f"{kind}_log").request
    request.model_spec.name = name
    request.model_spec.signature_name = kind if signature is None else signature
    add_examples(request.input, examples)
    return log


def add_examples(input: protos.Input, count: int) -> None:
    for number in range(count):
        input.example_list.examples.add().features.feature["x"].float_list.value.append(number)


def multi_inference_log(*names: str, examples: int = 1) -> protos.PredictionLog:
    """Classify and regress, for models of these names."""
    log = protos.PredictionLog()
    request = log.multi_inference_log.request
    tasks = [("classify", CLASSIFY_METHOD_NAME), ("regress", REGRESS_METHOD_NAME)]
    for name, (signature, method) in zip(names, tasks, strict=True):
        request.tasks.add(model_spec={"name": name, "signature_name": signature}, method_name=method)
    add_examples(request.input, examples)
    return log


def serialized(logs: Iterable[protos.PredictionLog]) -> list[bytes]:
    return [log.SerializeToString() for log in logs]


def warmup(records: Iterable[bytes] | None, **settings: Any) -> Warmup:
    """One that reads these records, whatever the file; None: there is no file."""
    return Warmup(read_records=lambda file: None if records is None else iter(records), **settings)


def iterations(count: int) -> protos.ModelWarmupOptions:
    options = protos.ModelWarmupOptions()
    options.num_request_iterations.value = count
    return options


def replay(servable: Servable, report: WarmupReport, *logs: protos.PredictionLog, **settings: Any) -> None:
    warmup(serialized(logs), **settings)(PATH, servable, report)


def lines(report: WarmupReport) -> set[str]:
    """What stands on the metrics page for it, without the latencies' buckets and sums."""
    metrics = Metrics()
    report.count_into(metrics)
    page = metrics.exposition().decode().splitlines()
    return {
        line for line in page if line.startswith(":tensorflow") and not line.endswith(" 0") and "_bucket{" not in line
    }


def test_without_a_file_nothing_is_run(servable, executor, report, caplog):
    caplog.set_level(logging.INFO)
    warmup(None)(PATH, servable, report)
    assert executor.fed == []
    assert report.reading is None
    assert f"No warmup data file found at {FILE}" in caplog.messages


def test_file_lies_in_the_extra_assets_of_the_version(servable, report):
    asked = []
    Warmup(read_records=lambda file: asked.append(file))(PATH, servable, report)
    assert asked == [FILE]


def test_predict_record_is_run_in_the_loading_thread(servable, executor, report):
    replay(servable, report, predict_log([1.0, 2.0]))
    assert [fed.tolist() for fed in executor.fed] == [[1.0, 2.0]]
    assert executor.threads == {threading.get_ident()}


def test_output_filter_has_its_plan_ready_for_requests(servable, executor, report):
    log = predict_log()
    log.predict_log.request.output_filter.append("y")
    replay(servable, report, log, log)
    assert executor.fetched == [("y:0",), ("y:0",)]
    assert executor.planned.count(("y:0",)) == 1


@pytest.mark.parametrize(("kind", "fetches"), [("classify", ("scores:0",)), ("regress", ("values:0",))])
def test_record_of_examples_is_run_with_its_signature(servable, executor, report, kind, fetches):
    replay(servable, report, infer_log(kind, examples=3))
    assert executor.fetched == [fetches]
    examples = [protos.Example.FromString(example) for example in executor.fed[0]]
    assert [example.features.feature["x"].float_list.value[0] for example in examples] == [0, 1, 2]


def test_multi_inference_record_is_one_run(servable, executor, report):
    replay(servable, report, multi_inference_log("any", "any"))
    assert executor.fetched == [("scores:0", "values:0")]


@pytest.mark.parametrize("spec", [{"name": "another"}, {"version": {"value": 7}}, {"version_label": "canary"}])
def test_name_version_and_label_of_a_record_are_not_read(servable, executor, report, spec):
    replay(servable, report, predict_log(**spec))
    assert len(executor.fed) == 1


def test_record_without_a_model_spec_is_run(servable, executor, report):
    log = predict_log()
    log.predict_log.request.ClearField("model_spec")
    replay(servable, report, log)
    assert len(executor.fed) == 1


def test_record_without_a_log_type_counts_and_runs_nothing(servable, executor, report):
    replay(servable, report, protos.PredictionLog())
    assert executor.fed == []
    assert report.reading.records == 1


@pytest.mark.proves("field PredictionLog.session_run_log", "field PredictionLog.predict_streamed_log")
@pytest.mark.parametrize(("kind", "number"), [("session_run_log", 5), ("predict_streamed_log", 7)])
def test_kinds_of_records_that_are_not_replayed(servable, report, kind, number):
    log = protos.PredictionLog()
    getattr(log, kind).SetInParent()
    with pytest.raises(Unimplemented, match=f"^Unsupported log_type for warmup: {number}$"):
        replay(servable, report, log)


@pytest.mark.parametrize(
    ("log", "error", "sentence"),
    [
        (predict_log(signature_name="no"), FailedPrecondition, 'Serving signature key "no" not found.'),
        (predict_log(alias="z"), InvalidArgument, "Signature input alias: x"),
        (infer_log("classify", signature="no"), InvalidArgument, "No signature was found with the name: no"),
        (infer_log("classify", signature=""), InvalidArgument, "No classification inputs found in SignatureDef: "),
        (infer_log("regress", examples=0), InvalidArgument, "Input is empty."),
        (multi_inference_log("", ""), InvalidArgument, "Found ModelSpec with an empty model name."),
        (multi_inference_log("a", "b"), InvalidArgument, "All ModelSpecs in a MultiInferenceRequest must access"),
    ],
)
def test_records_are_checked_as_requests_are(servable, executor, report, log, error, sentence):
    with pytest.raises(error) as raised:
        replay(servable, report, log)
    assert raised.value.message.startswith(sentence)
    assert executor.fed == []
    assert report.reading is None


def test_wrong_dtype_is_refused_as_a_request_is(servable, executor, report):
    log = predict_log()
    log.predict_log.request.inputs["x"].CopyFrom(protos.TensorProto(dtype=DataType.DT_INT32, int_val=[1]))
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[0\] to be float but int32 is provided$"):
        replay(servable, report, log)


def test_tensors_are_limited_as_in_requests(servable, report):
    with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x$"):
        replay(servable, report, predict_log([1.0] * 100), max_expanded_tensor_bytes=100)


def test_method_names_are_checked_where_they_are_for_requests(servable, report):
    classify = servable.signature_defs["classify"]
    servable.signature_defs = {"classify": replace(classify, method_name="odd")}
    replay(servable, report, infer_log("classify"))
    with pytest.raises(InvalidArgument, match="Was: odd"):
        replay(servable, report, infer_log("classify"), enable_signature_method_name_check=True)


def test_records_are_repeated_one_by_one(servable, executor, report):
    replay(servable, report, predict_log([1.0]), predict_log([2.0]), options=iterations(3))
    assert [fed.tolist() for fed in executor.fed] == [[1.0]] * 3 + [[2.0]] * 3
    assert report.reading.records == 2


def test_a_thousand_records_are_read(servable, executor, report):
    warmup(serialized([predict_log()]) * MAX_RECORDS)(PATH, servable, report)
    assert len(executor.fed) == report.reading.records == 1000


def test_one_more_is_run_and_then_refused(servable, executor, report):
    with pytest.raises(InvalidArgument) as raised:
        warmup(serialized([predict_log()]) * (MAX_RECORDS + 2))(PATH, servable, report)
    assert raised.value.message == f"Number of warmup records exceeds the maximum (1000) at {FILE}"
    assert len(executor.fed) == 1001
    assert report.reading is None


def test_record_that_is_no_log_is_refused_after_those_before_it(servable, executor, report):
    with pytest.raises(InvalidArgument) as raised:
        warmup([*serialized([predict_log()]), b"no log\xff"])(PATH, servable, report)
    assert raised.value.message == f"Failed to parse warmup record: no log� from {FILE}"
    assert len(executor.fed) == 1
    assert report.reading is None


def broken_file(*records: bytes) -> Iterator[bytes]:
    yield from records
    raise DataLoss("corrupted record at 0 (Is this even a TFRecord file?)")


def test_file_that_is_no_tfrecord_says_so(servable, report):
    with pytest.raises(DataLoss) as raised:
        warmup(broken_file())(PATH, servable, report)
    sentence = "corrupted record at 0 (Is this even a TFRecord file?)"
    assert raised.value.message == f"{sentence}. Please verify your warmup data is in TFRecord format."
    assert (report.reading.status, report.reading.records) == (f"DATA_LOSS: {sentence}", 0)


def test_what_a_request_raises_is_not_taken_for_the_files_error(servable, executor, report):
    executor.error = DataLoss("a table of the model is damaged")
    with pytest.raises(DataLoss, match=r"^a table of the model is damaged$"):
        replay(servable, report, predict_log(), predict_log())
    assert len(executor.fed) == 1
    assert report.reading is None


def test_metrics_of_a_file_read_to_its_end(servable, report):
    replay(servable, report, predict_log(), protos.PredictionLog())
    labels = f'model_path="{PATH}",status="OK"'
    assert lines(report) >= {
        f":tensorflow:serving:model_warmup_latency_count{{{labels}}} 1",
        f":tensorflow:serving:model_warmup_records_read{{{labels}}} 2",
    }


def test_metrics_of_a_damaged_file(servable, report):
    with pytest.raises(DataLoss):
        warmup(broken_file(*serialized([predict_log()])))(PATH, servable, report)
    status = "DATA_LOSS: corrupted record at 0 (Is this even a TFRecord file?)"
    assert f':tensorflow:serving:model_warmup_records_read{{model_path="{PATH}",status="{status}"}} 1' in lines(report)


def test_runs_are_counted_under_the_names_in_the_records(servable, report):
    logs = [predict_log(), predict_log(), predict_log(name="p"), infer_log("classify", name="c"), infer_log("regress")]
    replay(servable, report, *logs)
    count = ":tensorflow:serving:runtime_latency_count"
    assert lines(report) >= {
        f'{count}{{model_name="",API="Predict",runtime="TF1"}} 2',
        f'{count}{{model_name="p",API="Predict",runtime="TF1"}} 1',
        f'{count}{{model_name="c",API="Classify",runtime="TF1"}} 1',
        f'{count}{{model_name="",API="Regress",runtime="TF1"}} 1',
        ":tensorflow:core:direct_session_runs{} 5",
        ":tensorflow:core:graph_runs{} 5",
    }
    assert not any("request_count" in line or "request_latency" in line for line in lines(report))


def test_examples_of_multi_inference_are_counted(servable, report):
    replay(servable, report, multi_inference_log("any", "any", examples=3), options=iterations(2))
    assert lines(report) >= {
        ':tensorflow:serving:request_example_counts_count{model="any"} 2',
        ':tensorflow:serving:request_example_count_total{model="any"} 6',
    }
    assert not any("runtime_latency" in line for line in lines(report))


def test_runs_before_a_failure_are_counted_all_the_same(servable, executor, report):
    executor.error = InvalidArgument("no such row")
    with pytest.raises(InvalidArgument):
        replay(servable, report, predict_log())
    assert ":tensorflow:core:direct_session_runs{} 1" in lines(report)
    assert not any("runtime_latency" in line or "model_warmup" in line for line in lines(report))


def test_requests_find_the_ways_measured(servable, executor, session, report):
    replay(servable, report, predict_log([1.0, 2.0]), options=iterations(2))
    assert set(executor.ways) == {"pool", "caller"}
    replay(servable, report, predict_log([1.0, 2.0]), options=iterations(10))
    assert session.plan(("x:0",), ("x:0", "y:0")).choices[2] in {"pool", "caller"}


def test_log_tells_the_file_the_options_and_the_outcome(servable, report, caplog):
    caplog.set_level(logging.INFO)
    replay(servable, report, predict_log(), options=iterations(2))
    start, end = caplog.messages
    dump = "num_request_iterations { value: 2 }"
    assert start == f"Starting to read warmup data for model at {FILE} with model-warmup-options {dump}"
    assert end == (
        f"Finished reading warmup data for model at {FILE}. Number of warmup records read: 1. "
        f"Elapsed time (microseconds): {int(report.reading.micros)}."
    )


def test_warmup_that_is_switched_off_does_nothing(servable, executor, report):
    no_warmup(PATH, servable, report)
    assert executor.fed == []


def test_coroutine_that_would_wait_is_a_mistake():
    class Waits:
        def __await__(self) -> Iterator[None]:
            yield

    async def waits() -> None:
        await Waits()

    with pytest.raises(RuntimeError, match="waited"):
        run_now(waits())
