"""Python models in a real server: refused unless allowed, then served and swapped like any other."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow

MODEL = """
import numpy as np

signatures = {{"serving_default": {{"inputs": {{"x": "float32"}}, "outputs": {{"y": "float32", "who": "string"}}}}}}

def predict(signature_name, inputs):
    if (inputs["x"] < 0).any():
        raise ValueError("negative")
    return {{"y": np.sqrt(inputs["x"]), "who": "version {version}"}}
"""
X = np.array([1, 4, 9], np.float32)


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """For a server of the model at `m`, which has version 1."""
    write(tmp_path, 1)
    config = f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/m" model_platform: "python" }} }}'
    (tmp_path / "models.config").write_text(config)
    return [f"--model_config_file={tmp_path}/models.config"]


def write(folder: Path, version: int) -> None:
    (folder / "m" / str(version)).mkdir(parents=True)
    (folder / "m" / str(version) / "model.py").write_text(MODEL.format(version=version))


@pytest.mark.proves("difference: Models of other frameworks", "flag allow_python_models")
def test_a_python_model_is_served_and_swapped(tmp_path: Path, flags: list[str]) -> None:
    with ServerProcess(*flags, "--allow_python_models") as server, Client(server) as client:
        answer = outputs(client.prediction.Predict(predict_request("m", {"x": X}), timeout=60))
        assert answer["y"].tolist() == [1, 2, 3]
        assert answer["who"] == b"version 1"
        with pytest.raises(grpc.RpcError) as failure:
            client.prediction.Predict(predict_request("m", {"x": -X}), timeout=60)
        assert failure.value.code() is grpc.StatusCode.INTERNAL
        assert failure.value.details() == f"{tmp_path}/m/1/model.py, line 8: ValueError: negative"
        write(tmp_path, 2)
        server.wait_for("Done unloading servable version {name: m version: 1}")
        answer = outputs(client.prediction.Predict(predict_request("m", {"x": X}), timeout=60))
        assert answer["who"] == b"version 2"
        assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.proves("difference: Models of other frameworks")
def test_without_the_flag_such_a_list_is_refused(flags: list[str]) -> None:
    with ServerProcess(*flags, wait_for=None) as server:
        assert server.wait() == 255
        server.wait_for("Model m requests unsupported platform python without --allow_python_models")
