"""TensorFlow Lite models in a real server: the same requests as for a SavedModel, and the same swap."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2

from tests import models, tflite_models
from tests.conftest import Exported
from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture
def folder(tmp_path: Path, exported: Exported) -> Path:
    """Version 1 of `m` holds both a model.tflite and a SavedModel that answers otherwise, that of `n` the latter alone;
    models.config lists them."""
    for name in ("m", "n"):
        shutil.copytree(exported(models.half_plus_two), tmp_path / name / "1")
    shutil.copy(exported(tflite_models.half_plus_two_lite) / "model.tflite", tmp_path / "m" / "1")
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}\n' for name in "mn"
    )
    (tmp_path / "models.config").write_text(f"model_config_list {{\n{entries}}}\n")
    return tmp_path


def check_saved_model(client: Client, name: str) -> None:
    answer = outputs(client.prediction.Predict(predict_request(name, {"x": X[0]}), timeout=60))
    assert answer["y"].tolist() == (X[0] / 2 + 2).tolist()


@pytest.mark.proves("flag prefer_tflite_model", "flag num_tflite_pools", "flag num_tflite_interpreters_per_pool")
def test_the_preferred_model_answers_where_there_is_one_and_is_swapped(folder: Path, exported: Exported) -> None:
    pools = ("--num_tflite_pools=2", "--num_tflite_interpreters_per_pool=2")
    flags = (f"--model_config_file={folder}/models.config", "--prefer_tflite_model", *pools)
    with ServerProcess(*flags) as server, Client(server) as client:
        check_saved_model(client, "n")
        many = np.tile(X, (300, 1))  # more rows than an interpreter is given at a time
        answer = outputs(client.prediction.Predict(predict_request("m", {"serving_default_x": many}), timeout=60))
        np.testing.assert_array_equal(answer["StatefulPartitionedCall"], many / 2 + 2)
        answer = outputs(client.prediction.Predict(predict_request("m", {"serving_default_x": X}), timeout=60))
        np.testing.assert_array_equal(answer["StatefulPartitionedCall"], X / 2 + 2)
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "m"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        client.prediction.GetModelMetadata(request, timeout=60).metadata["signature_def"].Unpack(signatures)
        assert list(signatures.signature_def["serving_default"].inputs) == ["serving_default_x"]
        with pytest.raises(grpc.RpcError) as refusal:
            client.prediction.Predict(predict_request("m", {"serving_default_x": X.astype(np.float64)}), timeout=60)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.value.details() == "Expects arg[0] to be float but double is provided"
        deep = predict_request("m", {"serving_default_x": X[0].reshape(*[1] * 20, 3)})
        with pytest.raises(grpc.RpcError) as refusal:
            client.prediction.Predict(deep, timeout=60)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.value.details() == "Input tensor serving_default_x:0 has 21 dimensions; the most is 4"
        shutil.copytree(exported(tflite_models.pair_lite), folder / "m" / "2")
        server.wait_for("Done unloading servable version {name: m version: 1}")
        pair = {"serving_default_a": X[0], "serving_default_b": X[1]}
        answer = outputs(client.prediction.Predict(predict_request("m", pair), timeout=60))
        assert answer["PartitionedCall"].tolist() == [5, 7, 9]


def test_without_the_flag_the_saved_model_is_served(folder: Path) -> None:
    with ServerProcess(f"--model_config_file={folder}/models.config") as server, Client(server) as client:
        for name in ("m", "n"):
            check_saved_model(client, name)
