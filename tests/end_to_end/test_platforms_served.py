"""What flags and files say of sessions, seen from outside: threads, answers, refusals and the log of real servers."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

from pyserving import machine, protos
from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
ADAPTER = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"


@pytest.fixture
def dense(exported: Exported) -> tuple[str, str]:
    """The flags of a server of `models.dense`."""
    return "--model_name=m", f"--model_base_path={exported(models.dense).parent}"


def ask(client: Client, model: str = "m", signature: str = "") -> np.ndarray:
    return outputs(client.prediction.Predict(predict_request(model, {"x": X}, signature), timeout=60))["y"]


def thread_names(server: ServerProcess) -> Counter[str]:
    tasks = Path(f"/proc/{server.process.pid}/task")
    return Counter((tasks / task / "comm").read_text().strip() for task in os.listdir(tasks))


@pytest.mark.proves(
    "flag tensorflow_session_parallelism",
    "flag tensorflow_intra_op_parallelism",
    "flag tensorflow_inter_op_parallelism",
    "flag tensorflow_session_config_file",
    "flag mixed_precision",
    "flag per_process_gpu_memory_fraction",
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are told by Linux")
def test_threads_and_precision_are_as_flags_say(dense: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "session.config"
    file.write_text("inter_op_parallelism_threads: 9 intra_op_parallelism_threads: 9")
    few = ("--tensorflow_inter_op_parallelism=2", "--tensorflow_intra_op_parallelism=3")
    rounded = ("--mixed_precision=bfloat16", "--per_process_gpu_memory_fraction=0.5")  # of no GPU, which is well
    counts, answers = [], []
    many = ("--tensorflow_session_parallelism=6", f"--tensorflow_session_config_file={file}")
    for flags in ((*few, *rounded), many):
        with ServerProcess(*dense, *flags) as server, Client(server) as client:
            answers.append(ask(client))
            counts.append(thread_names(server))
    less, more = counts
    assert (less["tf_Compute"], more["tf_Compute"]) == (2, 6), "between ops"
    # Those within ops have the name of the process, as others have of which there are equally many.
    assert more.total() - less.total() == (6 - 2) + (6 - 3)
    assert 1e-4 < np.abs(answers[0] - answers[1]).max() < 0.05 or machine.why_no_bfloat16() is not None


@pytest.mark.proves(
    "field PlatformConfigMap.platform_configs",
    "field SessionBundleConfig.batching_parameters",
    "field SessionBundleConfig.enable_session_metadata",
    "field SessionBundleConfig.mixed_precision",
    "metric :tensorflow:serving:mlmd_map",
    "flag platform_config_file",
)
def test_a_platform_config_file_says_how_each_platform_is_served(exported: Exported, tmp_path: Path) -> None:
    legacy = {
        "tensorflow": "batching_parameters { max_batch_size { value: 2 } } enable_session_metadata: true",
        "rounded": 'mixed_precision: "bfloat16"',
    }
    for name in legacy:
        version = Path(shutil.copytree(exported(models.dense), tmp_path / name / "1"))
        (version / "assets.extra").mkdir()
        (version / "assets.extra" / "mlmd_uuid").write_text("0-1-2")
    platforms, config, port = tmp_path / "platforms", tmp_path / "models", free_port()
    platforms.write_text(
        "".join(
            f'platform_configs {{ key: "{name}" value {{ source_adapter_config {{ [{ADAPTER}] {{ '
            f"legacy_config {{ {text} }} }} }} }} }}\n"
            for name, text in legacy.items()
        )
    )
    config.write_text(
        "model_config_list {"
        + "".join(f'config {{ name: "{n}" base_path: "{tmp_path}/{n}" model_platform: "{n}" }}\n' for n in legacy)
        + "}"
    )
    flags = (f"--platform_config_file={platforms}", f"--model_config_file={config}", f"--rest_api_port={port}")
    with ServerProcess(*flags, "--enable_batching=false") as server, Client(server) as client:
        server.wait_for("--enable_batching (--platform_config_file says it)")
        rounded = ask(client, "rounded")
        with pytest.raises(grpc.RpcError) as refusal:
            ask(client, "tensorflow")
        assert refusal.value.details() == "Task size 4 is larger than maximum input batch size 2"
        request = predict_request("tensorflow", {"x": X[:2]})
        exact = outputs(client.prediction.Predict(request, timeout=60))["y"]
        difference = np.abs(exact - rounded[:2]).max()
        assert difference < 0.05
        assert difference > 1e-4 or machine.why_no_bfloat16() is not None
        page = json.loads(fetch(port, "/v1/models"))
        execution = {model["name"]: model["versions"][0]["execution"] for model in page["models"]}
        assert execution["tensorflow"]["compiled"] == "batched"
        assert execution["rounded"]["compiled"] == "workers"
        metrics = fetch(port, "/monitoring/prometheus/metrics")
        assert ':tensorflow:serving:mlmd_map{model_name="tensorflow",version="1"} 0\n' in metrics
        assert 'mlmd_map{model_name="rounded"' not in metrics


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as page:
        content: bytes = page.read()
        return content.decode()


@pytest.mark.proves("difference: XLA", "flag xla_cpu_compilation_enabled", "flag xla_gpu_compilation_enabled")
def test_xla_can_be_forbidden_as_tensorflow_serving_does(dense: tuple[str, str]) -> None:
    flags = ("--xla_cpu_compilation_enabled=false", "--xla_gpu_compilation_enabled=false")
    with ServerProcess(*dense, *flags) as server, Client(server) as client:
        with pytest.raises(grpc.RpcError) as refusal:
            ask(client, signature="compiled")
        assert refusal.value.code() is grpc.StatusCode.INTERNAL
        assert (refusal.value.details() or "").startswith("XLA compilation disabled")
        assert ask(client).shape == X.shape


@pytest.mark.proves("field SavedModelConfig.session_overrides", "field SessionOverrides.disable_meta_optimizer")
def test_a_version_has_its_say_on_its_session(exported: Exported, tmp_path: Path) -> None:
    version = Path(shutil.copytree(exported(models.dense), tmp_path / "m" / "1"))
    (version / "assets.extra").mkdir()
    overrides = {"disable_meta_optimizer": True, "batch_op_rewriter_config": {}}
    content = protos.SavedModelConfig(session_overrides=overrides).SerializeToString()
    (version / "assets.extra" / "saved_model_config.pb").write_bytes(content)
    flags = ("--model_name=m", f"--model_base_path={tmp_path}/m", "--mixed_precision=bfloat16")
    with ServerProcess(*flags) as server, Client(server) as client:
        server.wait_for("is for the graph optimizer batch_op_rewriter. TensorFlow's Python package is without it")
        # Without the optimizer there is no mixed precision; XLA knows none either.
        np.testing.assert_allclose(ask(client), ask(client, signature="compiled"), rtol=1e-3, atol=1e-5)


@pytest.mark.proves("flag thread_pool_factory_config_file")
@pytest.mark.parametrize(
    ("flag", "text", "sentence"),
    [
        (
            "--thread_pool_factory_config_file",
            'thread_pool_factory_config { [a/tensorflow.serving.ModelSpec] { name: "m" } }',
            "INVALID_ARGUMENT: Couldn't find factory for config proto message type tensorflow.serving.ModelSpec",
        ),
        ("--platform_config_file", "platform_configs {\n key: 5\n}", "INVALID_ARGUMENT: Invalid protobuf file: '"),
        (
            "--platform_config_file",
            f'platform_configs {{ key: "other" value {{ source_adapter_config {{ [{ADAPTER}] {{}} }} }} }}',
            "INVALID_ARGUMENT: Model m requests unsupported platform tensorflow",
        ),
        ("--tensorflow_session_config_file", "\n  no_such_field: 1", "INVALID_ARGUMENT: Invalid protobuf file: '"),
    ],
)
def test_a_file_that_cannot_be_followed_ends_the_start(
    dense: tuple[str, str], tmp_path: Path, flag: str, text: str, sentence: str
) -> None:
    file = tmp_path / "file.config"
    file.write_text(text)
    with ServerProcess(*dense, f"{flag}={file}", wait_for="Failed to start server. Error: ") as server:
        assert server.wait() == 255
        assert server.wait_for("Failed to start server. Error: ").startswith(
            f"Failed to start server. Error: {sentence}"
        )
        if "Invalid protobuf" in sentence:
            assert ": 2:" in server.wait_for("Error parsing text-format "), "the place"
