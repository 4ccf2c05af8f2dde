"""What an operator sees of a running server: metrics, pages, health, reflection, metadata."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2

from pyserving import protos
from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request, outputs, predict_request, status_request
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow


class Observed:
    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.server = ServerProcess(
            "--model_name=m",
            f"--model_base_path={folder}/m",
            f"--rest_api_port={self.port}",
            "--log_format=json",
            *flags,
        )
        self.client = Client(self.server)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, sample: str) -> float:
        """The value of the sample line that begins so; 0 when there is none yet."""
        _, page = self.get("/monitoring/prometheus/metrics")
        values = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(sample + " ")]
        return float(values[0]) if values else 0.0


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(exported(models.half_plus_two), folder / "m" / "1")
    made = Observed(folder)
    with made.server, made.client:
        yield made


@pytest.mark.proves("flag log_format")
def test_log_lines_are_json_objects(observed: Observed) -> None:
    line = observed.server.wait_for("Running gRPC ModelServer at UNIX socket")
    assert json.loads(line)["message"].startswith("Running gRPC ModelServer at UNIX socket ")
    assert observed.server.wait_for(f"Exporting HTTP/REST API at:localhost:{observed.port} ...")
    assert observed.server.wait_for("Successfully loaded servable version {name: m version: 1}")


@pytest.mark.proves(
    "metric :tensorflow:serving:request_count",
    "metric :tensorflow:serving:request_latency",
    "metric :tensorflow:serving:runtime_latency",
    "metric :tensorflow:cc:saved_model:load_attempt_count",
    "metric :tensorflow:cc:saved_model:load_latency",
)
def test_requests_are_counted_and_timed(observed: Observed) -> None:
    counted = ':tensorflow:serving:request_count{model_name="m",status="OK"}'
    missed = ':tensorflow:serving:request_count{model_name="nope",status="NOT_FOUND"}'
    runs = ':tensorflow:serving:runtime_latency_count{model_name="m",API="Predict",runtime="TF1"}'
    before = [observed.metric(sample) for sample in (counted, missed, runs)]
    observed.client.prediction.Predict(predict_request("m", {"x": np.ones(1, np.float32)}), timeout=30)
    with pytest.raises(Exception, match="Servable not found"):
        observed.client.prediction.Predict(predict_request("nope", {}), timeout=30)
    after = [observed.metric(sample) for sample in (counted, missed, runs)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
    latency = ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"}'
    assert observed.metric(latency) >= 1
    assert observed.metric(':pyserving:model_version_state{model="m",version="1"}') == 30
    path = f"{observed.folder}/m/1"
    load = f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",status="success"}}'
    assert observed.metric(load) == 1
    assert observed.metric(f':tensorflow:cc:saved_model:load_latency{{model_path="{path}"}}') > 0


@pytest.mark.proves(
    "rpc PredictionService.MultiInference",
    "metric :tensorflow:serving:request_example_counts",
    "metric :tensorflow:serving:request_example_count_total",
)
def test_only_multi_inference_counts_examples(observed: Observed) -> None:
    sample = ':tensorflow:serving:request_example_count_total{model="m"}'
    before = observed.metric(sample)
    observed.client.prediction.Classify(examples_request("m", [example(x=1.0)], "classify_x_to_y"), timeout=30)
    assert observed.metric(sample) == before
    request = protos.MultiInferenceRequest()
    for signature, method in (("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "m"
        task.model_spec.signature_name = signature
    for value in (2.0, 4.0):
        request.input.example_list.examples.append(protos.Example.FromString(example(x=value).SerializeToString()))
    path = "/tensorflow.serving.PredictionService/MultiInference"
    method = observed.client.unary_unary(
        path, lambda m: m.SerializeToString(), protos.MultiInferenceResponse.FromString
    )
    answer = method(request, timeout=30)
    regress, classify = answer.results
    assert [r.value for r in regress.regression_result.regressions] == [3.0, 4.0]
    assert len(classify.classification_result.classifications) == 2
    assert observed.metric(sample) == before + 2
    assert observed.metric(':tensorflow:serving:request_example_counts_bucket{model="m",le="4"}') == 1


@pytest.mark.proves("difference: Prometheus page")
def test_the_page_has_every_family_and_process_metrics(observed: Observed) -> None:
    status, page = observed.get("/monitoring/prometheus/metrics")
    assert status == 200
    for family in ("request_count counter", "request_latency histogram", "batching_session:wrapped_run_count counter"):
        assert f"# TYPE :tensorflow:serving:{family}\n" in page
    assert "process_resident_memory_bytes " in page
    assert "python_gc_objects_collected_total" in page
    assert observed.get("/monitoring/prometheus/metrics?x=1")[0] == 400


def test_pages(observed: Observed) -> None:
    assert observed.get("/healthz")[0] == 200
    status, body = observed.get("/readyz")
    assert (status, json.loads(body)["ready"]) == (200, True)
    status, body = observed.get("/v1/models/m")
    assert status == 200
    assert json.loads(body) == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    status, body = observed.get("/v1/models/n")
    assert (status, json.loads(body)["error"]) == (404, "Could not find any versions of model n")
    assert observed.get("/nowhere")[0] == 404


@pytest.mark.proves(
    "rpc PredictionService.GetModelMetadata",
    "field GetModelMetadataRequest.model_spec",
    "field GetModelMetadataRequest.metadata_field",
    "field GetModelMetadataResponse.model_spec",
    "field GetModelMetadataResponse.metadata",
    "field SignatureDefMap.signature_def",
)
def test_metadata_holds_every_signature_verbatim(observed: Observed, exported: Exported) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "m"
    answer = observed.client.prediction.GetModelMetadata(request, timeout=30)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 1)
    assert answer.model_spec.signature_name == ""
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    saved = saved_model_pb2.SavedModel.FromString((exported(models.half_plus_two) / "saved_model.pb").read_bytes())
    expected = saved.meta_graphs[0].signature_def
    assert set(signatures.signature_def) == set(expected)
    for name, signature in expected.items():
        assert signatures.signature_def[name] == signature


@pytest.mark.proves("rpc grpc.health.v1.Health.Check", "difference: Health")
@pytest.mark.parametrize(
    ("service", "status"),
    [("", 1), ("m", 1), ("tensorflow.serving.PredictionService", 1), ("PredictionService", 1), ("ModelService", 1)],
)
def test_health(observed: Observed, service: str, status: int) -> None:
    check = observed.client.unary_unary(
        "/grpc.health.v1.Health/Check", lambda m: m.SerializeToString(), protos.HealthCheckResponse.FromString
    )
    assert check(protos.HealthCheckRequest(service=service), timeout=30).status == status


def test_reflection_lists_the_services(observed: Observed) -> None:
    channel = observed.server.channel()
    call: Any = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        lambda m: m.SerializeToString(),
        protos.ServerReflectionResponse.FromString,
    )
    (answer,) = call(iter([protos.ServerReflectionRequest(list_services="")]), timeout=30)
    names = {service.name for service in answer.list_services_response.service}
    channel.close()
    assert names >= {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    }


@pytest.mark.proves("rpc ModelService.GetModelStatus")
def test_status_by_version(observed: Observed) -> None:
    (status,) = observed.client.model.GetModelStatus(status_request("m", 1), timeout=30).model_version_status
    assert (status.version, status.state, status.status.error_message) == (1, 30, "")


@pytest.mark.proves("difference: REST before the models have loaded", "difference: `Exporting HTTP/REST API at`")
def test_pages_answer_while_models_load(tmp_path: Path, exported: Exported) -> None:
    shutil.copytree(exported(models.half_plus_two), tmp_path / "m" / "1")
    port = free_port()
    flags = ("--model_name=m", f"--model_base_path={tmp_path}/m", f"--rest_api_port={port}")
    with ServerProcess(*flags, wait_for="Health, status and metrics pages at port") as server:

        def get(path: str) -> tuple[int, Any]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                return error.code, json.loads(error.read())

        assert get("/healthz")[0] == 200
        status, page = get("/readyz")
        if "Running gRPC ModelServer" not in "\n".join(server.lines):
            assert (status, page["ready"]) == (503, False)
        server.wait_for("Exporting HTTP/REST API at")
        last = [line for line in server.lines if "Running gRPC ModelServer" in line or "Exporting HTTP" in line][-1]
        assert "Exporting HTTP/REST API at" in last, "what scripts wait for is said when everything is open"
        assert get("/readyz")[0] == 200
        server.terminate()
        assert server.wait() == 0


@pytest.mark.proves("difference: A version is replaced in place under the same number")
def test_new_files_that_cannot_be_loaded_are_seen_while_the_old_ones_serve(tmp_path: Path, exported: Exported) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    shutil.copytree(exported(models.half_plus_two), tmp_path / "m" / "1")
    flags = ("--reload_replaced_versions", "--max_num_load_retries=1", "--load_retry_interval_micros=1000")
    observed = Observed(tmp_path, *flags)
    with observed.server, observed.client:
        graph = tmp_path / "m" / "1" / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
        saved.meta_graphs[0].graph_def.node[0].op = "NoSuchOp"
        graph.write_bytes(saved.SerializeToString())
        observed.server.wait_for("Giving up loading servable version {name: m version: 1}")
        (status,) = json.loads(observed.get("/v1/models/m")[1])["model_version_status"]
        assert (status["state"], status["status"]["error_code"]) == ("AVAILABLE", "NOT_FOUND")
        assert status["status"]["error_message"].startswith(
            "Files of this version were replaced and cannot be loaded; it serves as it was before: "
            "Op type not registered 'NoSuchOp'"
        )
        assert observed.metric(':pyserving:load_failures_total{model="m",version="1",status="NOT_FOUND"}') == 2
        assert observed.get("/readyz")[0] == 200
        answer = observed.client.prediction.Predict(predict_request("m", {"x": np.ones(1, np.float32)}), timeout=30)
        assert outputs(answer)["y"].tolist() == [2.5]
