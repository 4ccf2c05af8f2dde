"""The command line of a real process: what it prints, how it leaves, and what keeps it from starting."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import status_request
from tests.end_to_end.python_model import python_model
from tests.end_to_end.server_process import ROOT, START_SECONDS, Client, ServerProcess

pytestmark = pytest.mark.slow

FAILED = 255


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "pyserving", *flags],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


@pytest.mark.proves("flag version")
def test_version_prints_two_lines() -> None:
    done = run("--version")
    first, second = done.stdout.splitlines()
    assert first.startswith("TensorFlow ModelServer: ")
    assert second.startswith("TensorFlow Library: 2.")
    assert done.returncode == 0


def test_help_prints_the_usage_and_fails_as_tensorflow_servings_does() -> None:
    done = run("--help")
    assert done.stdout.startswith("usage: ")
    assert "--model_base_path=" in done.stdout
    assert done.returncode == FAILED


def test_a_bad_value_is_named() -> None:
    done = run("--port=85a")
    assert done.stderr.startswith("Couldn't interpret value 85a for flag port.")
    assert done.returncode == FAILED


@pytest.mark.proves("flag use_alts_credentials")
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (
            ("--port=0", "--model_base_path=/x"),
            "INVALID_ARGUMENT: At least one of server_options.grpc_port or server_options.grpc_socket_path must be set",
        ),
        (("--model_base_path=/x", "--port=70000"), "INVALID_ARGUMENT: --port must be 65535 or less; was 70000"),
        (("--model_base_path=/x", "--rest_api_port=-5"), "INVALID_ARGUMENT: --rest_api_port must be 0 or more; was -5"),
        (
            ("--model_base_path=/x", "--port=0", "--grpc_socket_path=/no/such/folder/s"),
            "INVALID_ARGUMENT: Failed to BuildAndStart gRPC server: the folder of the socket /no/such/folder/s does",
        ),
        (("--model_base_path=relative",), "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; "),
        (("--model_config_file=/no/such",), "NOT_FOUND: /no/such; No such file or directory"),
        (("--model_base_path=/x", "--ssl_config_file=/no/such"), "NOT_FOUND: /no/such; No such file or directory"),
        (
            ("--model_base_path=/x", "--batching_parameters_file=/x"),
            "INVALID_ARGUMENT: server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true.",
        ),
        (
            ("--model_base_path=/x", "--use_alts_credentials"),
            "INVALID_ARGUMENT: --use_alts_credentials is not supported yet, and the server does not start unprotected.",
        ),
        (("--model_base_path=/x", "--grpc_channel_arguments=nothing"), "INVALID_ARGUMENT: --grpc_channel_arguments"),
    ],
)
def test_what_cannot_start_says_why(flags: tuple[str, ...], sentence: str) -> None:
    done = run(*flags)
    assert done.stdout.startswith(f"Failed to start server. Error: {sentence}")
    assert done.returncode == FAILED
    assert "Traceback" not in done.stderr


def test_a_config_that_does_not_parse_is_shown_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("model_config_list: { config: { nme: 'x' } }\n")
    done = run(f"--model_config_file={file}")
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:" in done.stderr
    assert f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'" in done.stdout
    assert done.returncode == FAILED


@pytest.mark.proves("difference: A port is taken")
@pytest.mark.parametrize("flag", ["--port", "--rest_api_port"])
def test_a_taken_port_is_named_at_once(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as holder:
        port = holder.getsockname()[1]
        done = run(f"--grpc_socket_path={tmp_path}/s", "--port=0", f"--model_base_path={tmp_path}", f"{flag}={port}")
    assert "Failed to start server. Error: " in done.stdout
    assert f":{port}" in done.stdout
    assert done.returncode == FAILED


@pytest.mark.proves(
    "difference: One of several models cannot be loaded at start",
    "flag saved_model_tags",
    "flag model_name",
    "flag model_base_path",
)
def test_nothing_to_serve_after_all_retries_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "m" / "3").mkdir(parents=True)
    (tmp_path / "m" / "3" / "saved_model.pbtxt").write_text("meta_graphs {}\n")
    done = run(
        f"--grpc_socket_path={tmp_path}/s",
        "--port=0",
        "--model_name=m",
        f"--model_base_path={tmp_path}/m",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000",
        "--saved_model_tags=serve,gpu",
    )
    assert (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: m version: 3} "
        "due to error: NOT_FOUND: Could not find meta graph def matching supplied tags: { gpu serve }." in done.stdout
    )
    assert done.returncode == FAILED


def model_config(folder: Path, *names: str) -> str:
    file = folder / "models.config"
    file.write_text(
        "model_config_list {\n"
        + "".join(f'config {{ name: "{n}" base_path: "{folder}/{n}" model_platform: "tensorflow" }}\n' for n in names)
        + "}\n"
    )
    return f"--model_config_file={file}"


@pytest.fixture
def good_and_bad(tmp_path: Path, exported: Exported) -> Path:
    """Models `a` and `b` that load, `bad` that does not, and `missing` that is not there."""
    for name in ("a", "b"):
        shutil.copytree(exported(models.half_plus_two), tmp_path / name / "1")
    (tmp_path / "bad" / "1").mkdir(parents=True)
    (tmp_path / "bad" / "1" / "saved_model.pbtxt").write_text("meta_graphs {}\n")
    return tmp_path


@pytest.mark.proves("difference: One of several models cannot be loaded at start", "flag model_config_file")
def test_one_bad_and_one_missing_model_do_not_keep_the_others_from_serving(good_and_bad: Path) -> None:
    with (
        ServerProcess(model_config(good_and_bad, "a", "bad", "b", "missing")) as server,
        Client(server) as client,
    ):
        for name in ("a", "b"):
            (status,) = client.model.GetModelStatus(status_request(name), timeout=30).model_version_status
            assert status.state == 30
        (status,) = client.model.GetModelStatus(status_request("bad"), timeout=30).model_version_status
        assert (status.state, status.status.error_code) == (20, 5), "LOADING, with the error of its last attempt"
        server.wait_for("bad      1 LOADING")
        server.wait_for("missing  empty")
        shutil.copytree(good_and_bad / "a", good_and_bad / "missing")
        server.wait_for("Successfully loaded servable version {name: missing version: 1}")


@pytest.mark.proves("difference: One of several models cannot be loaded at start", "flag strict_startup")
def test_a_strict_start_fails_when_one_model_fails(good_and_bad: Path) -> None:
    done = run(
        f"--grpc_socket_path={good_and_bad}/s",
        "--port=0",
        "--strict_startup",
        "--max_num_load_retries=0",
        model_config(good_and_bad, "a", "bad", "b"),
    )
    assert "UNKNOWN: 1 servable(s) did not become available: {{{name: bad version: 1} due to error: " in done.stdout
    assert "Running gRPC ModelServer" not in done.stderr
    assert done.returncode == FAILED


def test_an_unknown_argument_is_told_and_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    with ServerProcess(*python_model(tmp_path), "--no_such_flag=1", "--skip_initialize_tpu") as server:
        assert server.wait_for("unknown argument: --no_such_flag=1")
        assert server.wait_for("Flags that change nothing here: --skip_initialize_tpu (not applicable: TPUs are not")


def test_one_port_for_both_leaves_grpc_alone(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as probe:
        port = probe.getsockname()[1]
    flags = (f"--port={port}", f"--rest_api_port={port}")
    with ServerProcess(*python_model(tmp_path), *flags) as server, Client(server) as client:
        assert server.wait_for("server_options.http_port cannot be same as grpc_port.")
        (status,) = client.model.GetModelStatus(status_request("m"), timeout=30).model_version_status
        assert status.state == 30
