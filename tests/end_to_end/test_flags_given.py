"""Flags given to real servers, many to each, and what is seen of them from outside.

Servers of one model in Python, which start in a second. Flags whose effect other tests see in a real process are marked
there; `tests/parity` knows that none is left out.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_management_pb2

from pyserving.machine import granted_cpus
from tests.end_to_end.client_requests import example, examples_request, outputs, predict_request
from tests.end_to_end.python_model import python_model
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

GATED = """
signatures = {{
    "serving_default": {{"inputs": {{"x": "float32"}}, "outputs": {{"y": "float32"}}}},
    "classify": {{"inputs": {{"inputs": "string"}}, "outputs": {{"scores": ("float32", [None, 1])}}}},
}}

def predict(signature_name, inputs):
    x = inputs["x"]
    if (x < 0).any():
        open("{gate}").read()  # as long as whoever opens it for writing keeps it open
    if (x > 1e6).any():
        raise ValueError("too much")
    return {{"y": x / 2 + 2}}
"""
"""A model whose answer to a negative number waits at a gate."""

LOGGED = """logging_config {{
    log_collector_config {{ filename_prefix: "{folder}/logs/m" }} sampling_config {{ sampling_rate: 1.0 }}
}}"""


class Served:
    """A server of the model `m`, version 1, with flags to be seen."""

    def __init__(self, folder: Path, *flags: str, more: str = "") -> None:
        self.folder = folder
        self.gate = folder / "gate"
        os.mkfifo(self.gate)
        self.port = free_port()
        served = python_model(folder, GATED.format(gate=self.gate), more)
        self.server = ServerProcess(*served, f"--rest_api_port={self.port}", *flags)
        self.client = Client(self.server)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.client.__exit__(*exception)
        self.server.__exit__(*exception)

    def predict(self, *x: float, **more: Any) -> Any:
        request = predict_request("m", {"x": np.array(x, np.float32)})
        return self.client.prediction.Predict(request, timeout=60, **more)

    def refusal(self, *x: float) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as refused:
            self.predict(*x)
        return refused.value.code().name, refused.value.details()

    def refusal_while_another_call_waits(self) -> tuple[str, str]:
        request = predict_request("m", {"x": np.array([-1], np.float32)})
        call = self.client.prediction.Predict.future(request, timeout=60)
        with open(self.gate, "w"):  # returns once the model waits there
            refused = self.refusal(1)
        assert outputs(call.result())["y"].tolist() == [1.5]
        return refused

    def cpu_seconds(self) -> float:
        spent = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")

    def ask(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


# One server, as a site of TensorFlow Serving may have it


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "monitoring").write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = (
        "--grpc_transport=grpcio",
        "--rest_api_enable_cors_support",
        "--grpc_channel_arguments=grpc.max_receive_message_length=20000",
        "--grpc_max_threads=1",
        "--noenable_grpc_healthcheck_service",
        "--noenable_profiler",
        "--noload_in_spare_time",
        "--enable_signature_method_name_check",
        "--enable_serialization_as_tensor_content",
        f"--monitoring_config_file={folder}/monitoring",
        "--allow_version_labels_for_unavailable_models",
        "--rest_api_num_threads=3",
        "--noremove_unused_fields_from_bundle_metagraph",
        "--noflush_filesystem_caches",
        "--skip_initialize_tpu",
        "--noservable_versions_always_present",
        "--rest_max_header_bytes=2000",
        "--rest_max_body_bytes=100000",
        "--rest_gzip_answers",
        "--rest_nonfinite=null",
        "--log_level=debug",
    )
    with Served(folder, *flags, more='version_labels { key: "next" value: 9 }') as made:
        yield made


@pytest.mark.proves(
    "flag rest_api_num_threads",
    "flag remove_unused_fields_from_bundle_metagraph",
    "flag flush_filesystem_caches",
    "flag skip_initialize_tpu",
)
def test_flags_without_effect_are_named(site: Served) -> None:
    warning = site.server.wait_for("Flags that change nothing here: ")
    for flag in ("rest_api_num_threads", "flush_filesystem_caches", "skip_initialize_tpu"):
        assert f"--{flag} (not applicable: " in warning
    assert "--remove_unused_fields_from_bundle_metagraph" in warning


@pytest.mark.proves("flag rest_api_enable_cors_support")
def test_pages_of_any_origin_may_ask(site: Served) -> None:
    status, headers, _ = site.ask("/v1/models/m", headers={"Origin": "http://a"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")


@pytest.mark.proves("flag grpc_channel_arguments")
def test_a_channel_argument_limits_messages(site: Served) -> None:
    code, details = site.refusal(*range(10_000))
    assert code == "RESOURCE_EXHAUSTED"
    assert "20000" in details


@pytest.mark.proves("flag grpc_max_threads", "difference: `--grpc_max_threads`")
def test_a_second_call_finds_no_thread(site: Served) -> None:
    assert site.refusal_while_another_call_waits() == ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted")


@pytest.mark.proves("flag enable_grpc_healthcheck_service", "difference: Health")
def test_health_can_be_left_out(site: Served) -> None:
    with site.server.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.proves("flag enable_profiler")
def test_the_profiler_can_be_left_out(site: Served) -> None:
    for method in ("Profile", "Terminate", "Monitor"):
        with pytest.raises(grpc.RpcError) as refused:
            site.client.unary_unary(f"/tensorflow.ProfilerService/{method}")(b"", timeout=60)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "")


@pytest.mark.proves("flag load_in_spare_time")
def test_loads_need_not_make_way(site: Served) -> None:
    site.server.wait_for("Loads make no way for requests")


@pytest.mark.proves("flag enable_signature_method_name_check")
def test_method_names_are_checked(site: Served) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        site.client.prediction.Classify(examples_request("m", [example(x=1.0)], "classify"), timeout=60)
    assert refused.value.details() == (
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/predict"
    )


@pytest.mark.proves("flag enable_serialization_as_tensor_content")
def test_answers_come_as_content(site: Served) -> None:
    y = site.predict(1, 2).outputs["y"]
    assert np.frombuffer(y.tensor_content, "<f4").tolist() == [2.5, 3.0]
    assert not y.float_val


@pytest.mark.proves("flag monitoring_config_file")
def test_the_metrics_page_is_where_its_file_says(site: Served) -> None:
    assert b"# TYPE :tensorflow:serving:request_count counter" in site.ask("/metrics")[2]
    assert site.ask("/monitoring/prometheus/metrics")[0] == 404


@pytest.mark.proves("flag allow_version_labels_for_unavailable_models")
def test_a_label_may_name_a_version_that_is_not_there(site: Served) -> None:
    request = predict_request("m", {"x": np.ones(1, np.float32)})
    request.model_spec.version_label = "next"
    with pytest.raises(grpc.RpcError) as refused:
        site.client.prediction.Predict(request, timeout=60)
    assert refused.value.details() == "Servable not found for request: Specific(m, 9)"


@pytest.mark.proves(
    "flag rest_max_header_bytes", "flag rest_max_body_bytes", "difference: Sizes and idleness over HTTP"
)
def test_large_heads_and_bodies_are_refused(site: Served) -> None:
    assert site.ask("/v1/models/m", headers={"X": "x" * 2000})[0] == 431
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.putrequest("POST", "/v1/models/m:predict")
    connection.putheader("Content-Length", "100001")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.proves("flag rest_gzip_answers", "difference: Compressed REST answers")
def test_large_answers_are_compressed(site: Served) -> None:
    body = json.dumps({"instances": [1.0] * 1000}).encode()
    _, headers, packed = site.ask("/v1/models/m:predict", body, {"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed))["predictions"] == [2.5] * 1000


@pytest.mark.proves("flag rest_nonfinite", "difference: NaN and infinities in REST answers")
def test_nan_is_null(site: Served) -> None:
    assert json.loads(site.ask("/v1/models/m:predict", b'{"instances": [NaN, 1.0]}')[2]) == {"predictions": [None, 2.5]}


@pytest.mark.proves("flag log_level")
def test_what_is_for_those_who_look_for_mistakes_is_logged(site: Served) -> None:
    assert site.refusal(1e7)[0] == "INTERNAL"
    assert " D " in site.server.wait_for("A run of ")


@pytest.mark.proves(
    "flag servable_versions_always_present", "difference: A base path vanishes, empties, or cannot be listed"
)
def test_the_last_version_goes(site: Served) -> None:
    """The last test of this server."""
    shutil.rmtree(site.folder / "m" / "1")
    site.server.wait_for("Done unloading servable version {name: m version: 1}")
    assert site.refusal(1) == ("NOT_FOUND", "Servable not found for request: Latest(m)")


# Another, with limits and transport of ours


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("strict")
    port = free_port()
    flags = (
        "--grpc_transport=http2",
        f"--port={port}",
        "--max_inflight_calls=1",
        "--rest_idle_timeout_seconds=0.2",
        "--rest_stall_timeout_seconds=0.2",
        "--request_log_max_queued_bytes=0",
    )
    with Served(folder, *flags, more=LOGGED.format(folder=folder)) as made:
        made.server.address = f"127.0.0.1:{port}"
        with Client(made.server) as client:
            made.client = client
            yield made


@pytest.mark.proves("flag port", "flag grpc_transport")
def test_the_port_answers(strict: Served) -> None:
    assert strict.predict(1).outputs["y"].float_val == [2.5]
    strict.server.wait_for(f"Running gRPC ModelServer at 0.0.0.0:{strict.server.address.rpartition(':')[2]} ...")


@pytest.mark.proves("flag max_inflight_calls")
def test_a_second_call_is_shed(strict: Served) -> None:
    code, details = strict.refusal_while_another_call_waits()
    assert code == "RESOURCE_EXHAUSTED"
    assert "--max_inflight_calls" in details


@pytest.mark.proves("flag rest_idle_timeout_seconds", "difference: Sizes and idleness over HTTP")
def test_an_idle_connection_is_closed(strict: Served) -> None:
    with strict.connection() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.proves("flag rest_stall_timeout_seconds", "difference: Sizes and idleness over HTTP")
def test_a_head_that_does_not_go_on_is_given_up(strict: Served) -> None:
    with strict.connection() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.proves("flag request_log_max_queued_bytes")
def test_what_finds_no_room_is_not_logged(strict: Served) -> None:
    strict.predict(1)
    strict.server.wait_for("could not be logged")
    page = strict.ask("/monitoring/prometheus/metrics")[2].decode()
    assert ':tensorflow:serving:request_log_count{model_name="m",status_code="RESOURCE_EXHAUSTED"}' in page


# A third, which does one thing at a time

GATED_LIFE = """
open("{gate}").read()

signatures = {{"serving_default": {{"inputs": {{"x": "float32"}}, "outputs": {{"y": "float32"}}}}}}

def predict(signature_name, inputs):
    return {{"y": inputs["x"]}}

def close():
    open("{gate}").read()
"""


@pytest.mark.proves(
    "flag num_load_threads", "flag num_unload_threads", "difference: A load or an unload that takes long, or hangs"
)
def test_with_one_thread_each_there_is_one_load_and_one_unload_at_a_time(tmp_path: Path) -> None:
    entries = ""
    for name in ("a", "b"):
        (tmp_path / name / "1").mkdir(parents=True)
        os.mkfifo(tmp_path / f"gate-{name}")
        (tmp_path / name / "1" / "model.py").write_text(GATED_LIFE.format(gate=tmp_path / f"gate-{name}"))
        entries += f'config {{ name: "{name}" base_path: "{tmp_path}/{name}" model_platform: "python" }}\n'
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{ {entries} }}")
    flags = (f"--model_config_file={config}", "--allow_python_models", "--num_load_threads=1", "--num_unload_threads=1")
    with ServerProcess(*flags, wait_for=None) as server:

        def pass_gates(begun: str, done: str) -> None:
            """First that of the model that begins first."""
            first = server.wait_for(begun).partition("{name: ")[2][0]
            gates = [tmp_path / f"gate-{name}" for name in (first, "b" if first == "a" else "a")]
            # Opening returns once the model waits there; the other one must not have come to its gate.
            with open(gates[0], "w"), pytest.raises(OSError, match="No such device or address"):
                os.open(gates[1], os.O_WRONLY | os.O_NONBLOCK)
            with open(gates[1], "w"):
                pass
            assert f"{{name: {first} version: 1}}" in server.wait_for(done)
            server.wait_for(done, 2)

        pass_gates(": Loading servable version", "Successfully loaded")
        server.wait_for("Running gRPC ModelServer at")
        with Client(server) as client:
            empty = model_management_pb2.ReloadConfigRequest()
            empty.config.model_config_list.SetInParent()
            client.model.HandleReloadConfigRequest(empty, timeout=60)
        pass_gates(": Unloading servable version", "Done unloading")


# A fourth, with little room


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("small")
    flags = (
        "--max_connections=3",
        "--busy_poll_micros=200000",
        "--request_log_max_file_bytes=5000",
        "--request_log_max_total_bytes=15000",
        "--request_log_max_file_seconds=1",
    )
    with Served(folder, *flags, more=LOGGED.format(folder=folder)) as made:
        yield made


@pytest.mark.proves("flag max_connections", "difference: Connections")
def test_one_connection_too_many_is_closed(small: Served) -> None:
    held = [small.connection() for _ in range(3)]
    for connection in held:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    with small.connection() as further:
        assert further.recv(100) == b""
    for connection in held:
        connection.close()


@pytest.mark.proves(
    "flag request_log_max_file_bytes", "flag request_log_max_total_bytes", "flag request_log_max_file_seconds"
)
def test_log_files_are_small_few_and_finished_in_time(small: Served) -> None:
    for number in range(40):
        small.predict(*[number] * 100)
    records_in_a_file = 5000 // 1000
    small.server.wait_for("Finished request log ", 40 // records_in_a_file)
    files = list((small.folder / "logs").iterdir())
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) <= 5000
    assert sum(sizes) <= 15_000
    small.predict(1)
    newest = small.server.wait_for("Finished request log ", 40 // records_in_a_file + 1).split()[-1]
    assert 0 < Path(newest).stat().st_size < 1000, "one record, whose file was finished by its age"


@pytest.mark.proves("flag busy_poll_micros")
@pytest.mark.skipif(granted_cpus() < 2, reason="nobody stays awake with less than two CPUs")
def test_it_stays_awake_after_requests_that_followed_one_another_closely(small: Served) -> None:
    deadline = time.monotonic() + 60
    spent = 0.0
    while spent < 0.05:  # in a fifth of a second without requests, of which other processes may take a part
        assert time.monotonic() < deadline
        for _ in range(20):
            small.predict(1)
        before, began = small.cpu_seconds(), time.monotonic()
        while time.monotonic() < began + 0.2:
            spent = small.cpu_seconds() - before
