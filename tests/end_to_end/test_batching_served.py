"""A server that batches, asked by many at once through the unmodified client."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import inference_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request, outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow


class Served:
    def __init__(self, client: Client, rest_port: int) -> None:
        self.client = client
        self._rest = f"http://127.0.0.1:{rest_port}"
        self._page = f"{self._rest}/monitoring/prometheus/metrics"

    def post(self, verb: str, body: Any) -> Any:
        """The answer of model `m`."""
        with urllib.request.urlopen(f"{self._rest}/v1/models/m{verb}", json.dumps(body).encode(), timeout=60) as answer:
            return json.load(answer)

    def sum_of(self, name: str) -> float:
        """Of all numbers on the metrics page whose line begins so."""
        with urllib.request.urlopen(self._page, timeout=30) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timeout, so that requests meet whatever the machine is busy with."""
    file = tmp_path_factory.mktemp("batching") / "batching.pbtxt"
    file.write_text("max_batch_size { value: 16 } batch_timeout_micros { value: 50000 } allowed_batch_sizes: [4, 16]")
    return file


@pytest.fixture(scope="module", params=["grpcio", "http2"])
def served(request: pytest.FixtureRequest, exported: Exported, parameters: Path) -> Iterator[Served]:
    rest_port = free_port()
    with (
        ServerProcess(
            f"--model_base_path={exported(models.half_plus_two).parent}",
            "--model_name=m",
            f"--rest_api_port={rest_port}",
            f"--grpc_transport={request.param}",
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
        ) as server,
        Client(server) as client,
    ):
        yield Served(client, rest_port)


@pytest.mark.proves("flag enable_batching", "flag batching_parameters_file")
def test_everybody_gets_the_answer_to_what_he_has_asked(served: Served) -> None:
    def ask(number: int) -> Any:
        if number % 3:
            x = np.full((number % 4 + 1, 1), number, np.float32)
            return outputs(served.client.prediction.Predict(predict_request("m", {"x": x}), timeout=60))["y"].ravel()
        examples = [example(x=float(number))] * (number % 4 + 1)
        request = examples_request("m", examples, "regress_x_to_y", "regress")
        return [row.value for row in served.client.prediction.Regress(request, timeout=60).result.regressions]

    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(ask, range(96)))
    for number, answer in enumerate(answers):
        assert list(answer) == [number / 2 + 2] * (number % 4 + 1)
    runs = served.sum_of(":tensorflow:serving:batching_session:wrapped_run_count")
    assert 0 < runs < 96
    assert served.sum_of(':tensorflow:serving:batching_session:padding_size_count{execution_batch_size="3"}') == 0
    assert served.sum_of(":pyserving:batching:wait_micros_count") == 96


def test_all_kinds_of_request_for_the_same_tensors_share_a_queue(served: Served) -> None:
    signature, queue = "regress_x_to_y", '{model="m",version="1",signature="classify_x_to_y"}'
    examples = [example(x=2.0)]
    serialized = np.array([example(x=2.0).SerializeToString()], object)
    multi = inference_pb2.MultiInferenceRequest()
    for name, kind in ((signature, "regress"), ("classify_x_to_y", "classify")):
        task = multi.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.name, task.model_spec.signature_name = "m", name
    multi.input.example_list.examples.extend(examples)
    regression = examples_request("m", examples, signature, "regress")
    classification = examples_request("m", examples, "classify_x_to_y", "classify")
    calls: list[Callable[[], Any]] = [
        lambda: served.client.prediction.Predict(predict_request("m", {"inputs": serialized}, signature), timeout=60),
        lambda: served.client.prediction.Regress(regression, timeout=60),
        lambda: served.client.prediction.Classify(classification, timeout=60),
        lambda: served.client.prediction.MultiInference(multi, timeout=60),
        lambda: served.post(":regress", {"signature_name": signature, "examples": [{"x": 2.0}]}),
        lambda: served.post(
            ":predict",
            {"signature_name": signature, "instances": [{"b64": base64.b64encode(serialized[0]).decode()}]},
        ),
    ]
    runs, requests = (
        served.sum_of(f":pyserving:batching:{name}_count{queue}") for name in ("batch_size", "wait_micros")
    )
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda call: call(), calls * 4))
    assert served.sum_of(f":pyserving:batching:wait_micros_count{queue}") - requests == 24
    assert served.sum_of(f":pyserving:batching:batch_size_count{queue}") - runs < 24
    for predicted, regressed, classified, inferred, *rest in zip(*[iter(answers)] * 6, strict=True):
        assert outputs(predicted)["outputs"].tolist() == [[3.0]]
        assert regressed.result.regressions[0].value == 3.0
        assert classified.result.classifications[0].classes[0].score == 3.0
        assert inferred.results[0].regression_result.regressions[0].value == 3.0
        assert rest == [{"results": [3.0]}, {"predictions": [[3.0]]}]


def test_request_larger_than_a_batch_is_refused_in_its_words(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        served.client.prediction.Predict(predict_request("m", {"x": np.zeros((17, 1), np.float32)}), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "Task size 17 is larger than maximum input batch size 16"


def test_request_without_rows_is_answered(served: Served) -> None:
    answer = served.client.prediction.Predict(predict_request("m", {"x": np.zeros((0, 1), np.float32)}), timeout=60)
    assert outputs(answer)["y"].shape == (0, 1)


def test_open_batch_is_answered_before_the_server_ends(exported: Exported, tmp_path: Path) -> None:
    file, rest_port = tmp_path / "batching.pbtxt", free_port()
    file.write_text("batch_timeout_micros { value: 2000000 }")
    with (
        ServerProcess(
            f"--model_base_path={exported(models.half_plus_two).parent}",
            "--model_name=m",
            f"--rest_api_port={rest_port}",
            "--enable_batching",
            f"--batching_parameters_file={file}",
        ) as server,
        Client(server) as client,
    ):
        served = Served(client, rest_port)
        call = client.prediction.Predict.future(predict_request("m", {"x": np.ones((1, 1), np.float32)}), timeout=60)
        while not served.sum_of(":pyserving:batching:queue_depth"):
            assert not call.done()
        server.terminate()
        server.wait_for("finishing what was admitted")
        assert outputs(call.result())["y"].tolist() == [[2.5]]
        assert server.wait() == 0


@pytest.mark.proves("flag enable_per_model_batching_parameters")
def test_versions_with_parameters_of_their_own(exported: Exported, tmp_path: Path) -> None:
    for name, text in (("with", "max_batch_size { value: 2 }"), ("without", None)):
        shutil.copytree(exported(models.half_plus_two), tmp_path / name / "1")
        if text is not None:
            (tmp_path / name / "1" / "batching_params.pbtxt").write_text(text)
    config = tmp_path / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}\n'
        for name in ("with", "without")
    )
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    flags = (f"--model_config_file={config}", "--enable_batching", "--enable_per_model_batching_parameters")
    x = np.zeros((3, 1), np.float32)
    with ServerProcess(*flags) as server, Client(server) as client:
        answer = client.prediction.Predict(predict_request("without", {"x": x}), timeout=60)
        assert outputs(answer)["y"].tolist() == [[2.0]] * 3
        with pytest.raises(grpc.RpcError, match="Task size 3 is larger than maximum input batch size 2"):
            client.prediction.Predict(predict_request("with", {"x": x}), timeout=60)


def test_parameters_that_cannot_be_end_the_start(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.write_text("max_batch_size { value: 0 }")
    with ServerProcess(
        f"--model_base_path={exported(models.half_plus_two).parent}",
        "--enable_batching",
        f"--batching_parameters_file={file}",
        wait_for="input_batch_size_limit must be positive; was 0",
    ) as server:
        assert server.wait() == 255
