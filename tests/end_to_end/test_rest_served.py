"""The REST API of a real server, asked by the standard library's client and by curl."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyserving import protos
from tests import models
from tests.conftest import Exported
from tests.end_to_end.server_process import ServerProcess, free_port

pytestmark = pytest.mark.slow

CONFIG = """
model_config_list {{
  config {{ name: "half_plus_two" base_path: "{0}/half_plus_two" model_platform: "tensorflow"
           version_labels {{ key: "stable" value: 1 }} }}
  config {{ name: "echo" base_path: "{0}/echo" model_platform: "tensorflow" }}
  config {{ name: "slow" base_path: "{0}/slow" model_platform: "tensorflow" }}
  config {{ name: "identity" base_path: "{0}/identity" model_platform: "tensorflow" }}
}}
"""


class Served:
    """A server of several models, and a client with one connection to it."""

    def __init__(self, folder: Path, exported: Exported, *flags: str) -> None:
        for name, export in {
            "half_plus_two": models.half_plus_two,
            "echo": models.string_echo,
            "slow": models.slow,
            "identity": models.identity,
        }.items():
            (folder / name).mkdir()
            (folder / name / "1").symlink_to(exported(export))
        (folder / "models.config").write_text(CONFIG.format(folder))
        self.port = free_port()
        self.server = ServerProcess(
            f"--model_config_file={folder}/models.config", f"--rest_api_port={self.port}", *flags
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self, path: str, body: Any = None, method: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        self.client.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        response = self.client.getresponse()
        return response.status, response.read()

    def predict(self, model: str, request: Any) -> Any:
        status, body = self.ask(f"/v1/models/{model}:predict", json.dumps(request).encode())
        return json.loads(body) if status == 200 else (status, json.loads(body)["error"])

    def close(self) -> None:
        self.client.close()
        self.server.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("rest"), exported, "--rest_api_timeout_in_ms=500")
    yield served
    served.close()


def test_predict_row_by_row_and_by_columns(served: Served) -> None:
    assert served.ask("/v1/models/half_plus_two:predict", b'{"instances": [1.0, 2.0, 5.0]}') == (
        200,
        b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}',
    )
    assert served.predict("half_plus_two", {"inputs": {"x": 1.0}}) == {"outputs": 2.5}
    assert served.predict("half_plus_two/labels/stable", {"instances": [{"x": 1.0}]}) == {"predictions": [2.5]}
    assert served.predict("half_plus_two/versions/1", {"inputs": []}) == {"outputs": []}


@pytest.mark.proves("rest POST :classify", "rest POST :regress")
def test_classify_and_regress(served: Served) -> None:
    examples = [{"x": 80.0}, {"x": [3.0]}]
    body = json.dumps({"signature_name": "regress_x_to_y", "examples": examples}).encode()
    assert served.ask("/v1/models/half_plus_two:regress", body) == (200, b'{\n    "results": [42.0, 3.5]\n}')
    body = json.dumps({"signature_name": "classify_x_to_y", "examples": examples}).encode()
    assert served.ask("/v1/models/half_plus_two:classify", body) == (
        200,
        b'{\n    "results": [[["", 42.0]], [["", 3.5]]\n    ]\n}',
    )
    body = json.dumps({"signature_name": "regress_x_to_y", "examples": [{"x": 80}]}).encode()
    status, said = served.ask("/v1/models/half_plus_two:regress", body)
    assert status == 400
    assert b"Data types don't match" in said


def test_strings_and_bytes(served: Served) -> None:
    said = served.predict("echo", {"instances": ["a", {"b64": "aGk="}, "é"]})
    assert said == {
        "predictions": [{"echo": "a", "length": 1}, {"echo": "hi", "length": 2}, {"echo": "é", "length": 2}]
    }


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("float", [1.5, -0.25]),
        ("double", [0.1]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("uint8", [0, 255]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint64", [2**64 - 1]),
        ("bool", [True, False]),
        ("float", [[[1.0, 2.0], [3.0, 4.0]]]),
        ("int64", [[], []]),
    ],
)
def test_types_come_back_as_they_went(served: Served, signature: str, values: list[Any]) -> None:
    assert served.predict("identity", {"signature_name": signature, "instances": values}) == {"predictions": values}
    assert served.predict("identity", {"signature_name": signature, "inputs": values}) == {"outputs": values}


def test_what_the_graph_refuses_is_refused_in_its_words(served: Served) -> None:
    status, sentence = served.predict("slow", {"inputs": [1, 2]})
    assert status == 400
    assert sentence


@pytest.mark.proves("flag rest_api_timeout_in_ms")
def test_a_run_over_the_time_limit_is_a_504_and_not_the_connections_end(served: Served) -> None:
    assert served.predict("slow", {"inputs": 10**12}) == (504, "Timed out waiting for notification")
    assert served.predict("half_plus_two", {"instances": [1.0]}) == {"predictions": [2.5]}


def test_a_large_request(served: Served) -> None:
    rows = [[round(i * 0.001 + j, 3) for j in range(100)] for i in range(2000)]
    said = served.predict("identity", {"signature_name": "double", "instances": rows})
    assert said == {"predictions": rows}


def test_status_metadata_and_the_list(served: Served) -> None:
    status, body = served.ask("/v1/models/half_plus_two")
    assert status == 200
    assert body == (
        b'{\n "model_version_status": [\n  {\n   "version": "1",\n   "state": "AVAILABLE",\n'
        b'   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )
    status, body = served.ask("/v1/models/half_plus_two/metadata")
    metadata = json.loads(body)
    assert metadata["model_spec"] == {"name": "half_plus_two", "version": "1", "signature_name": ""}
    assert set(metadata["metadata"]["signature_def"]["signature_def"]) >= {"serving_default", "regress_x_to_y"}
    status, body = served.ask("/v1/models")
    assert [model["name"] for model in json.loads(body)["models"]] == ["half_plus_two", "echo", "slow", "identity"]
    status, body = served.ask("/openapi.json")
    assert "/v1/models/half_plus_two:regress" in json.loads(body)["paths"]


def test_requests_are_counted_with_those_of_grpc(served: Served) -> None:
    def counts() -> tuple[float, float, float]:
        _, page = served.ask("/monitoring/prometheus/metrics")
        values = dict(line.rpartition(" ")[::2] for line in page.decode().splitlines())
        latency = ':tensorflow:serving:request_latency_count{model_name="echo",API="predict",entrypoint="REST"}'
        runtime = ':tensorflow:serving:runtime_latency_count{model_name="echo",API="Predict",runtime="TF1"}'
        count = ':tensorflow:serving:request_count{model_name="echo",status="OK"}'
        return float(values.get(count, 0)), float(values.get(latency, 0)), float(values.get(runtime, 0))

    before = counts()
    served.predict("echo", {"instances": ["a"]})
    served.predict("echo", {})
    assert counts() == tuple(value + 1 for value in before)


def test_protobuf_bodies(served: Served) -> None:
    request = protos.PredictRequest()
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(3.0)
    body = request.SerializeToString()
    headers = {"Content-Type": "application/x-protobuf"}
    status, said = served.ask("/v1/models/half_plus_two:predict", body, headers=headers)
    response = protos.PredictResponse.FromString(said)
    assert (status, list(response.outputs["y"].float_val)) == (200, [3.5])


def test_compressed_and_chunked_bodies(served: Served) -> None:
    body = b'{"instances": [1.0]}'
    expected = (200, b'{\n    "predictions": [2.5\n    ]\n}')
    headers = {"Content-Encoding": "gzip"}
    assert served.ask("/v1/models/half_plus_two:predict", gzip.compress(body), headers=headers) == expected
    assert served.ask("/v1/models/half_plus_two:predict", iter([body[:7], body[7:]])) == expected


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    def post(value: int) -> bytes:
        body = b'{"inputs": %d.0}' % value
        return b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(b"".join(post(value) for value in range(100)))
        connection.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    answers = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in said.split(b"HTTP/1.1 200 OK")[1:]]
    assert answers == [{"outputs": value / 2 + 2} for value in range(100)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sends_a_large_body_after_a_100_continue(served: Served, tmp_path: Path) -> None:
    rows = [[0.5] * 1000] * 500
    (tmp_path / "request.json").write_text(json.dumps({"signature_name": "float", "instances": rows}))
    command = ["curl", "-sv", "--expect100-timeout", "60", f"{served.url}/v1/models/identity:predict"]
    done = subprocess.run(
        [*command, "-H", "Expect: 100-continue", "-d", f"@{tmp_path}/request.json"], capture_output=True, check=True
    )
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    assert json.loads(done.stdout) == {"predictions": rows}


def test_a_hostile_client_costs_nobody_else_anything(served: Served) -> None:
    """Deep nesting, a body that never ends, a head that never ends: others are answered meanwhile."""
    deep = b'{"unused": ' + b"[" * 500_000 + b"]" * 500_000 + b', "instances": [1.0]}'
    assert served.ask("/v1/models/half_plus_two:predict", deep)[0] == 200
    with (
        socket.create_connection(("127.0.0.1", served.port)) as slow,
        socket.create_connection(("127.0.0.1", served.port)) as endless,
    ):
        slow.sendall(b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nContent-Le")
        endless.sendall(b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        endless.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        assert served.predict("half_plus_two", {"instances": [1.0]}) == {"predictions": [2.5]}


def test_shutdown_answers_what_was_admitted(tmp_path: Path, exported: Exported) -> None:
    served = Served(tmp_path, exported)
    answers: list[Any] = []
    try:
        caller = threading.Thread(target=lambda: answers.append(served.predict("slow", {"inputs": 400_000})))
        caller.start()
        other = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        page = b""
        while b":pyserving:requests_in_flight{} 1\n" not in page and not answers:
            other.request("GET", "/monitoring/prometheus/metrics")
            page = other.getresponse().read()
        served.server.terminate()
        caller.join()
        other.close()
        assert served.server.wait() == 0
    finally:
        served.close()
    assert answers == [{"outputs": 400_000}]
