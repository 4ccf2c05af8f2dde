"""A logging_config honoured by a real server: TensorFlow reads what it wrote, and the commands make use of it."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, prediction_log_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request, predict_request
from tests.end_to_end.server_process import ROOT, START_SECONDS, Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

NUM_PREDICTS = 300
"""Enough for the http2 transport to know their layout."""


def config_of(folder: Path, *, is_logged: bool = True) -> str:
    logging = f"""logging_config {{
        log_collector_config {{ type: "tfrecord" filename_prefix: "{folder}/logs/m" }}
        sampling_config {{ sampling_rate: 1.0 }}
    }}"""
    return f"""model_config_list {{ config {{
        name: "m" base_path: "{folder}/m" model_platform: "tensorflow" {logging if is_logged else ""}
    }} }}"""


@pytest.fixture
def folder(tmp_path: Path, exported: Exported) -> Path:
    shutil.copytree(exported(models.half_plus_two), tmp_path / "m" / "1")
    (tmp_path / "models.config").write_text(config_of(tmp_path))
    return tmp_path


def serve(folder: Path, transport: str, *flags: str) -> ServerProcess:
    return ServerProcess(f"--model_config_file={folder}/models.config", f"--grpc_transport={transport}", *flags)


def ask(client: Client) -> None:
    for number in range(NUM_PREDICTS):
        client.prediction.Predict(predict_request("m", {"x": [float(number)]}), timeout=60)
    client.prediction.Classify(examples_request("m", [example(x=1.0)], "classify_x_to_y"), timeout=60)
    client.prediction.Regress(examples_request("m", [example(x=1.0)], "regress_x_to_y", kind="regress"), timeout=60)


def logs(*paths: Path) -> list[Any]:
    """As TensorFlow reads them."""
    contents = tf.data.TFRecordDataset([str(path) for path in paths]).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(content) for content in contents]


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyserving", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


@pytest.mark.proves(
    "field ModelConfig.logging_config",
    "field LoggingConfig.log_collector_config",
    "field LoggingConfig.sampling_config",
    "field LogCollectorConfig.filename_prefix",
    "field PredictionLog.predict_log",
    "difference: `logging_config`",
)
@pytest.mark.parametrize("transport", ["grpcio", "http2"])
def test_what_was_answered_is_in_the_log_and_can_be_sent_again(folder: Path, transport: str) -> None:
    with serve(folder, transport) as server, Client(server) as client:
        ask(client)
        off = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(config_of(folder, is_logged=False), off.config)
        client.model.HandleReloadConfigRequest(off, timeout=60)
        client.prediction.Predict(predict_request("m", {"x": [5.0]}), timeout=60)
        server.wait_for("Finished request log ")

        replayed = command("replay", *finished(folder, 1), "--target", server.address, "--concurrency", 4)
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert replayed.stdout.splitlines()[2].split()[:4] == ["m", "Predict", str(NUM_PREDICTS), str(NUM_PREDICTS)]
        server.terminate()
        assert server.wait() == 0
    written = logs(*finished(folder, 1))
    assert [log.WhichOneof("log_type") for log in written] == [
        *["predict_log"] * NUM_PREDICTS,
        "classify_log",
        "regress_log",
    ]
    assert [log.predict_log.request.inputs["x"].float_val[0] for log in written[:3]] == [0.0, 1.0, 2.0]
    assert [log.predict_log.response.outputs["y"].float_val[0] for log in written[:3]] == [2.0, 2.5, 3.0]
    metadata = written[0].log_metadata
    assert (metadata.model_spec.version.value, metadata.model_spec.signature_name) == (1, "serving_default")
    assert list(metadata.saved_model_tags) == ["serve"]

    made = command("warmup", *finished(folder, 1), folder / "m")
    assert made.returncode == 0, made.stderr
    assert len(logs(folder / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests")) == 3


REST = {
    "predict": b'{"instances": [%d, %d]}',
    "regress": b'{"signature_name": "regress_x_to_y", "examples": [{"x": %d.0}, {"x": %d.0}]}',
    "classify": b'{"signature_name": "classify_x_to_y", "examples": [{"x": %d.0}, {"x": %d.0}]}',
}


@pytest.mark.proves("difference: `logging_config`")
def test_what_rest_was_asked_is_in_the_log_like_a_call(folder: Path) -> None:
    port = free_port()
    (folder / "m" / "2").symlink_to(folder / "m" / "1")
    with serve(folder, "http2", f"--rest_api_port={port}") as server:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        for number in range(50):  # enough for them to be answered at once, were they not logged
            for verb, body in REST.items():
                client.request("POST", f"/v1/models/m:{verb}", body % (number, number))
                answer = client.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)
        client.request("POST", "/v1/models/m/versions/2:predict", b'{"inputs": {"x": [3.0]}}')
        assert client.getresponse().read() == b'{\n    "outputs": [\n        3.5\n    ]\n}'
        client.close()
        server.terminate()
        assert server.wait() == 0
    written = logs(*finished(folder, 1))
    kinds = ["predict_log", "regress_log", "classify_log"]
    assert [log.WhichOneof("log_type") for log in written] == [*kinds * 50, "predict_log"]
    predicted, regressed, classified = (getattr(log, log.WhichOneof("log_type")) for log in written[3:6])
    assert tf.make_ndarray(predicted.request.inputs["x"]).tolist() == [1.0, 1.0]
    assert tf.make_ndarray(predicted.response.outputs["y"]).tolist() == [2.5, 2.5]
    assert [found.value for found in regressed.response.result.regressions] == [2.5, 2.5]
    assert len(classified.response.result.classifications) == 2
    assert written[0].log_metadata.model_spec.version.value == 2
    assert not written[0].predict_log.request.model_spec.HasField("version")
    assert written[-1].predict_log.request.model_spec.version.value == 2

    (folder / "models.config").write_text(config_of(folder, is_logged=False))
    with serve(folder, "grpcio") as server:
        replayed = command("replay", *finished(folder, 1), "--target", server.address, "--concurrency", 4)
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        rows = [line.split()[:4] for line in replayed.stdout.splitlines()]
        assert rows[1:4] == [["m", "Classify", "50", "50"], ["m", "Predict", "51", "51"], ["m", "Regress", "50", "50"]]


def test_a_killed_server_leaves_whole_records_which_the_next_one_finishes(folder: Path) -> None:
    with serve(folder, "http2") as server, Client(server) as client:
        ask(client)
        server.kill()
    [left] = (folder / "logs").iterdir()
    assert left.suffix == ".open"
    with left.open("ab") as file:
        file.write(b"\x09")  # as a disk that was cut off in the middle of a record
    with serve(folder, "http2") as server:
        server.wait_for("was being written when its server died")
        server.terminate()
        assert server.wait() == 0
    assert 0 < len(logs(*finished(folder, 1))) <= NUM_PREDICTS + 2


def finished(folder: Path, count: int) -> list[Path]:
    found = sorted((folder / "logs").glob("m-*.tfrecord"))
    assert len(found) == count
    return found
