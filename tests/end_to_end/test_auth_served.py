"""A real server with `--auth_tokens_file`, asked by tensorflow-serving-api's stubs, curl and the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyserving.asgi import application
from tests import models
from tests.asgi_server import AsgiServer
from tests.conftest import Exported
from tests.end_to_end.client_requests import outputs, predict_request, status_request
from tests.end_to_end.server_process import ROOT, START_SECONDS, Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

BEARER = (("authorization", "Bearer first-s3cret"),)
KEY = (("x-api-key", "second-s3cret"),)
PREDICT = "/v1/models/m:predict"
BODY = b'{"instances": [1.0, 2.0, 5.0]}'
PREDICTIONS = [2.5, 3.0, 4.5]
PAGES = ("/v1/models/m", "/v1/models", "/v1/models/m/metadata", "/monitoring/prometheus/metrics", "/openapi.json", "/x")


@pytest.fixture(scope="module")
def base_path(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auth") / "m"
    folder.mkdir()
    shutil.copytree(exported(models.half_plus_two), folder / "1")
    return folder


class Guarded(ServerProcess):
    def __init__(self, base_path: Path, folder: Path, *flags: str) -> None:
        self.http_port = free_port()
        self.tokens = folder / "tokens"
        self.tokens.write_text("# who may ask\nteam: first-s3cret\nsecond-s3cret\n")
        super().__init__(
            f"--rest_api_port={self.http_port}",
            "--model_name=m",
            f"--model_base_path={base_path}",
            f"--auth_tokens_file={self.tokens}",
            *flags,
        )

    def http(self, path: str, token: str = "", body: bytes | None = None) -> tuple[int, bytes, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://localhost:{self.http_port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers


@pytest.fixture(scope="module", params=["grpcio", "http2"])
def server(request: Any, base_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    flag = f"--grpc_transport={request.param}"
    with Guarded(base_path, tmp_path_factory.mktemp("tokens"), flag) as server:
        yield server


@pytest.fixture
def client(server: Guarded) -> Iterator[Client]:
    with Client(server) as client:
        yield client


def predict(client: Client, metadata: Any = ()) -> list[float]:
    request = predict_request("m", {"x": np.array([1, 2, 5], np.float32)})
    answer = client.prediction.Predict(request, metadata=metadata, timeout=START_SECONDS)
    values: list[float] = outputs(answer)["y"].tolist()
    return values


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    code: grpc.StatusCode = refusal.value.code()
    return code


@pytest.mark.proves("difference: Who may ask", "flag auth_tokens_file")
def test_grpc_asks_for_a_token_however_often_a_request_was_answered(client: Client) -> None:
    for _ in range(50):  # enough for the model to run on the loop, where requests are answered without a call
        assert predict(client, BEARER) == PREDICTIONS
        assert predict(client, KEY) == PREDICTIONS
    for metadata in ((), (("authorization", "Bearer first"),), (("x-api-key", "first-s3cretX"),)):
        assert code_of(lambda metadata=metadata: predict(client, metadata)) is grpc.StatusCode.UNAUTHENTICATED
    assert predict(client, BEARER) == PREDICTIONS


def test_every_service_asks_for_one(client: Client) -> None:
    ask = client.model.GetModelStatus
    assert code_of(lambda: ask(status_request("m"), timeout=START_SECONDS)) is grpc.StatusCode.UNAUTHENTICATED
    assert ask(status_request("m"), metadata=KEY, timeout=START_SECONDS).model_version_status[0].version == 1
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    for path in (reflection, "/no.Service/Method"):
        assert code_of(lambda path=path: client.unary_unary(path)(b"")) is grpc.StatusCode.UNAUTHENTICATED


def test_probes_need_none(server: Guarded) -> None:
    with server.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="m")
        assert stub.Check(request, timeout=START_SECONDS).status == health_pb2.HealthCheckResponse.SERVING
        assert next(iter(stub.Watch(request))).status == health_pb2.HealthCheckResponse.SERVING
    assert [server.http(path)[0] for path in ("/healthz", "/readyz", "/readyz/m")] == [200, 200, 200]


@pytest.mark.proves("difference: Who may ask")
def test_http_asks_for_one(server: Guarded) -> None:
    for _ in range(20):
        status, said, _ = server.http(PREDICT, "second-s3cret", BODY)
        assert (status, json.loads(said)) == (200, {"predictions": PREDICTIONS})
    for token in ("", "second"):
        status, said, headers = server.http(PREDICT, token, BODY)
        assert (status, headers["WWW-Authenticate"], headers["Content-Type"]) == (401, "Bearer", "application/json")
        assert [*json.loads(said)] == ["error"]
    assert [server.http(path)[0] for path in PAGES] == [401] * len(PAGES)
    assert [server.http(path, "first-s3cret")[0] for path in PAGES[:-1]] == [200] * (len(PAGES) - 1)


def test_curl_sends_it_either_way(server: Guarded) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs the curl command")
    url = f"http://localhost:{server.http_port}{PREDICT}"
    for header in ("Authorization: Bearer first-s3cret", "X-API-Key: first-s3cret"):
        words = ["curl", "-sS", "--max-time", "30", "-H", header, "-d", BODY.decode(), url]
        said = subprocess.run(words, capture_output=True, check=True).stdout
        assert json.loads(said) == {"predictions": PREDICTIONS}


def test_the_commands_show_it(server: Guarded, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first-s3cret\n")
    words = [sys.executable, "-m", "pyserving", "predict", "m", '{"x": [1, 2, 5]}', "--target", server.address]

    def run(*more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words, *more], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)

    assert "UNAUTHENTICATED" in run().stderr
    assert json.loads(run("--token_file", str(tmp_path / "token")).stdout) == {"y": PREDICTIONS}
    assert json.loads(run(PYSERVING_TOKEN="second-s3cret").stdout) == {"y": PREDICTIONS}


def test_the_log_names_tokens_and_the_open_port_but_no_token(server: Guarded) -> None:
    assert server.wait_for("Requests must show one of the tokens of").endswith(": team, 1 without a name")
    assert server.wait_for("Tokens come in the clear to").endswith(
        f"to HTTP port {server.http_port}; --ssl_config_file would hide them"
    )
    assert "s3cret" not in "\n".join(server.lines)
    assert b"s3cret" not in server.http("/monitoring/prometheus/metrics", "first-s3cret")[1]


@pytest.mark.parametrize("transport", ["grpcio", "http2"])
def test_tokens_come_and_go_while_it_serves(base_path: Path, tmp_path: Path, transport: str) -> None:
    with Guarded(base_path, tmp_path, f"--grpc_transport={transport}") as server, Client(server) as client:
        for _ in range(20):
            assert predict(client, BEARER) == PREDICTIONS
            assert server.http(PREDICT, "first-s3cret", BODY)[0] == 200
        server.tokens.write_text("not a token")
        server.wait_for("The tokens stay as they were: ")
        assert predict(client, BEARER) == PREDICTIONS

        server.tokens.write_text("new: third\nsecond-s3cret")
        server.wait_for("count now: new, 1 without a name")
        assert code_of(lambda: predict(client, BEARER)) is grpc.StatusCode.UNAUTHENTICATED
        assert server.http(PREDICT, "first-s3cret", BODY)[0] == 401
        assert predict(client, KEY) == PREDICTIONS
        assert server.http(PREDICT, "third", BODY)[0] == 200
        page = server.http("/monitoring/prometheus/metrics", "third")[1].decode()
        for status in ("success", "fail"):
            assert f':pyserving:auth_token_reloads_total{{status="{status}"}} 1\n' in page
        assert ':pyserving:rejected_total{reason="unauthenticated"} 2\n' in page
        server.terminate()
        assert server.wait() == 0


@pytest.mark.proves("flag auth_exempt_health")
def test_health_may_be_closed_too(base_path: Path, tmp_path: Path) -> None:
    with Guarded(base_path, tmp_path, "--noauth_exempt_health") as server, server.channel() as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        code = code_of(lambda: check(health_pb2.HealthCheckRequest(), timeout=START_SECONDS))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert check(health_pb2.HealthCheckRequest(), metadata=KEY, timeout=START_SECONDS).status == 1
        assert (server.http("/healthz")[0], server.http("/healthz", "first-s3cret")[0]) == (401, 200)


def test_the_metrics_page_asks_for_one_even_where_health_pages_are(base_path: Path, tmp_path: Path) -> None:
    (tmp_path / "monitoring").write_text('prometheus_config { enable: true path: "/readyz/metrics" }')
    with Guarded(base_path, tmp_path, f"--monitoring_config_file={tmp_path}/monitoring") as server:
        asked = [server.http(path)[0] for path in ("/readyz/metrics", "/readyz/m", "/healthz")]
        assert asked == [401, 200, 200]
        assert b"request_count" in server.http("/readyz/metrics", "first-s3cret")[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "NOT_FOUND: {path}; No such file or directory"),
        ("", "INVALID_ARGUMENT: {path}; Invalid argument"),
        ("# none\n", "INVALID_ARGUMENT: {path} holds no token"),
        ("good\ns3cret s3cret\n", "INVALID_ARGUMENT: {path}, line 2: neither TOKEN nor NAME: TOKEN"),
    ],
)
def test_a_bad_file_ends_the_start(base_path: Path, tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
    flags = ("--model_name=m", f"--model_base_path={base_path}", f"--auth_tokens_file={path}")
    with ServerProcess(*flags, wait_for=None) as server:
        assert server.wait() == 255
        assert reason.format(path=path) in server.wait_for("Failed to start server. Error: ")
        assert "s3cret" not in "\n".join(server.lines)


async def test_the_asgi_application_asks_for_one(base_path: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("s3cret")
    flags = {"model_name": "m", "model_base_path": str(base_path), "auth_tokens_file": str(tmp_path / "tokens")}
    server = AsgiServer(application(**flags))

    async def meanwhile() -> None:
        status, headers, said = await server.ask(PREDICT, (BODY,), "POST")
        assert (status, headers[b"www-authenticate"], [*json.loads(said)]) == (401, b"Bearer", ["error"])
        status, _, said = await server.ask(PREDICT, (BODY,), "POST", headers=[(b"x-api-key", b"s3cret")])
        assert (status, json.loads(said)) == (200, {"predictions": PREDICTIONS})
        assert (await server.ask("/readyz"))[0] == 200
        assert (await server.ask("/openapi.json"))[0] == 401

    assert (await server.live(meanwhile))[-1]["type"] == "lifespan.shutdown.complete"
