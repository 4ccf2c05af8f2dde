"""Versions that bring warm-up requests with them: replayed before the version answers, and refused when they fail."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request, outputs, predict_request, status_request
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

PredictionLog = prediction_log_pb2.PredictionLog


def write_requests(version: Path, *logs: Any) -> None:
    """As the documentation of TensorFlow Serving tells its users to."""
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def predict_log(signature: str = "", **inputs: Any) -> Any:
    request = predict_request("", inputs, signature)
    return PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def classify_log(name: str) -> Any:
    request = examples_request(name, [example(x=1.0)], "classify_x_to_y")
    return PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=request))


def regress_log(name: str) -> Any:
    request = examples_request(name, [example(x=1.0)], "regress_x_to_y", kind="regress")
    return PredictionLog(regress_log=prediction_log_pb2.RegressLog(request=request))


def multi_inference_log(name: str) -> Any:
    log = PredictionLog()
    request = log.multi_inference_log.request
    for signature, method in (("classify_x_to_y", "classify"), ("regress_x_to_y", "regress")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    request.input.example_list.examples.extend([example(x=1.0), example(x=2.0)])
    return log


def copy_version(exported: Exported, model: Any, base_path: Path, version: int = 1) -> Path:
    base_path.mkdir(exist_ok=True)
    return Path(shutil.copytree(exported(model), base_path / str(version)))


def count(server: ServerProcess) -> float:
    with Client(server) as client:
        answer = client.prediction.Predict(predict_request("m", {}, "get_counter"), timeout=60)
    return float(outputs(answer)["output"])


@pytest.mark.proves(
    "field ModelWarmupOptions.num_request_iterations",
    "flag enable_model_warmup",
    "flag num_request_iterations_for_warmup",
)
@pytest.mark.parametrize(
    ("flags", "counted"),
    [((), 2), (("--num_request_iterations_for_warmup=3",), 6), (("--noenable_model_warmup",), 0)],
)
def test_each_record_is_run_as_often_as_the_flags_say(
    tmp_path: Path, exported: Exported, flags: tuple[str, ...], counted: int
) -> None:
    version = copy_version(exported, models.counter, tmp_path / "m")
    write_requests(version, predict_log("incr_counter"), PredictionLog(), predict_log("incr_counter"))
    with ServerProcess("--model_name=m", f"--model_base_path={tmp_path}/m", *flags) as server:
        assert count(server) == counted


@pytest.mark.proves(
    "metric :tensorflow:serving:model_warmup_latency",
    "metric :tensorflow:serving:model_warmup_records_read",
    "metric :tensorflow:serving:runtime_latency",
    "metric :tensorflow:core:direct_session_runs",
)
def test_every_kind_of_record_is_replayed_and_counted(tmp_path: Path, exported: Exported) -> None:
    version = copy_version(exported, models.half_plus_two, tmp_path / "m")
    write_requests(version, predict_log(x=[1.0]), classify_log("c"), regress_log(""), multi_inference_log("mi"))
    port = free_port()
    flags = ("--model_name=m", f"--model_base_path={tmp_path}/m", f"--rest_api_port={port}")
    with ServerProcess(*flags) as server:
        server.wait_for("Number of warmup records read: 4.")
        url = f"http://127.0.0.1:{port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=60) as response:
            lines = response.read().decode().splitlines()
        assert not any("Attempt 1" in line or "deprecated" in line for line in server.lines)
    file = f'model_path="{version}",status="OK"'
    latency = ":tensorflow:serving:runtime_latency_count"
    assert set(lines) >= {
        f":tensorflow:serving:model_warmup_records_read{{{file}}} 4",
        f":tensorflow:serving:model_warmup_latency_count{{{file}}} 1",
        f'{latency}{{model_name="",API="Predict",runtime="TF1"}} 1',
        f'{latency}{{model_name="c",API="Classify",runtime="TF1"}} 1',
        f'{latency}{{model_name="",API="Regress",runtime="TF1"}} 1',
        ':tensorflow:serving:request_example_count_total{model="mi"} 2',
        ":tensorflow:core:direct_session_runs{} 4",
    }


@pytest.mark.proves("flag max_num_load_retries", "flag load_retry_interval_micros")
def test_a_version_that_fails_its_warm_up_is_tried_again_and_once_more_when_it_is_mended(
    tmp_path: Path, exported: Exported
) -> None:
    copy_version(exported, models.half_plus_two, tmp_path / "m")
    flags = ("--max_num_load_retries=1", "--load_retry_interval_micros=1000")
    with (
        ServerProcess("--model_name=m", f"--model_base_path={tmp_path}/m", *flags) as server,
        Client(server) as client,
    ):
        draft = copy_version(exported, models.half_plus_two, tmp_path / "draft", 2)
        (draft / "assets.extra").mkdir()
        (draft / "assets.extra" / "tf_serving_warmup_requests").write_text("No records but a line of text in a file.\n")
        draft.rename(tmp_path / "m" / "2")
        server.wait_for("Attempt 1 to load servable version {name: m version: 2} failed")
        server.wait_for("Giving up loading servable version {name: m version: 2}")
        newest, old = client.model.GetModelStatus(status_request("m"), timeout=60).model_version_status
        assert (newest.version, newest.state, newest.status.error_code) == (2, 50, 15)
        assert newest.status.error_message == (
            "corrupted record at 0 (Is this even a TFRecord file?). "
            "Please verify your warmup data is in TFRecord format."
        )
        assert (old.version, old.state) == (1, 30)
        assert outputs(client.prediction.Predict(predict_request("m", {"x": [2.0]}), timeout=60))["y"] == [3.0]
        write_requests(tmp_path / "m" / "2", predict_log(x=[1.0]))
        server.wait_for("Successfully loaded servable version {name: m version: 2}")


def test_server_whose_only_model_fails_its_warm_up_leaves(tmp_path: Path, exported: Exported) -> None:
    version = copy_version(exported, models.half_plus_two, tmp_path / "m")
    write_requests(version, predict_log("nope", x=[1.0]))
    flags = ("--model_name=m", f"--model_base_path={tmp_path}/m", "--max_num_load_retries=0")
    with ServerProcess(*flags, wait_for=None) as server:
        assert server.wait() == 255
        sentence = server.wait_for("Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available")
    assert 'FAILED_PRECONDITION: Serving signature key "nope" not found.' in sentence
