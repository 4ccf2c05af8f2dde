"""A real server with `--ssl_config_file`, asked by gRPC's own client and by curl; and starts that must not succeed."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import urllib.request

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from pyserving import protos
from tests.certificates import Authority, client_context
from tests.end_to_end.python_model import python_model
from tests.end_to_end.server_process import ServerProcess, free_port

pytestmark = pytest.mark.slow


def ssl_config(path, certificate, authority=None):
    config = protos.SSLConfig(server_key=str(certificate.key_path), server_cert=str(certificate.path))
    if authority is not None:
        config.client_verify, config.custom_ca = True, authority.pem.decode()
    path.write_text(text_format.MessageToString(config))
    return f"--ssl_config_file={path}"


def status(server, authority, certificate=None):
    keys = (certificate.key, certificate.pem) if certificate is not None else ()
    credentials = grpc.ssl_channel_credentials(authority.pem, *keys)
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    with grpc.secure_channel(server.address, credentials, options) as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)


def curl(authority, url, *more):
    if shutil.which("curl") is None:
        pytest.skip("needs the curl command")
    words = ["curl", "-sS", "--max-time", "30", "--cacert", authority.path, url, *more]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return python_model(tmp_path_factory.mktemp("tls"))


@pytest.mark.proves(
    "field SSLConfig.server_key",
    "field SSLConfig.server_cert",
    "field SSLConfig.custom_ca",
    "field SSLConfig.client_verify",
    "difference: TLS",
    "flag ssl_config_file",
)
@pytest.mark.parametrize("transport", ["grpcio", "http2"])
def test_both_ports_are_secured_and_the_certificate_is_renewed(model, authority, tmp_path, transport):
    before, after, client = (authority.issue(f"{name}-{transport}") for name in ("before", "after", "client"))
    flag = ssl_config(tmp_path / "ssl.config", before, authority)
    port = free_port()
    with ServerProcess(*model, flag, f"--grpc_transport={transport}", f"--rest_api_port={port}") as server:
        url = f"https://localhost:{port}/monitoring/prometheus/metrics"
        keys = ("--cert", client.path, "--key", client.key_path)
        assert status(server, authority, client).model_version_status[0].version == 1
        assert "request_count" in curl(authority, url, *keys).stdout
        assert curl(authority, url).returncode != 0
        with pytest.raises(grpc.RpcError) as refusal:
            status(server, authority)
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE

        ssl_config(tmp_path / "ssl.config", after, authority)
        server.wait_for("New connections are secured with the new certificates")
        assert f"CN={after.name}" in curl(authority, url, *keys, "-v").stderr.replace(" ", "")
        assert 'certificate_reloads_total{status="success"} 1' in curl(authority, url, *keys).stdout
        assert status(server, authority, client).model_version_status[0].version == 1
        server.terminate()
        assert server.wait() == 0


def https(authority, certificate, url, body=None):
    """The body of the answer, by the standard library's client."""
    context = client_context(authority, certificate, protocols=("http/1.1",))
    with urllib.request.urlopen(url, body, timeout=30, context=context) as answer:
        return answer.read().decode()


@pytest.mark.proves("difference: TLS")
@pytest.mark.parametrize("is_mutual", [False, True])
def test_rest_is_served_over_tls(model, authority, tmp_path, is_mutual):
    client = authority.issue(f"rest-client-{is_mutual}") if is_mutual else None
    keys = ("--cert", client.path, "--key", client.key_path) if is_mutual else ()
    server_certificate = authority.issue(f"rest-{is_mutual}")
    flag = ssl_config(tmp_path / "ssl.config", server_certificate, authority if is_mutual else None)
    port = free_port()
    with ServerProcess(*model, flag, f"--rest_api_port={port}"):
        base = f"https://localhost:{port}"
        for ask in (
            lambda path, body=None: https(authority, client, base + path, body and body.encode()),
            lambda path, body=None: curl(authority, base + path, *keys, *(("-d", body) if body else ())).stdout,
        ):
            answer = json.loads(ask("/v1/models/m:predict", '{"instances": [1.0, 2.0, 5.0]}'))
            assert answer == {"predictions": [2.5, 3.0, 4.5]}
            assert json.loads(ask("/v1/models/m"))["model_version_status"][0]["state"] == "AVAILABLE"
            assert "inputs" in ask("/v1/models/m/metadata")
            assert "request_count" in ask("/monitoring/prometheus/metrics")
            assert ask("/healthz") == "ok\n"
        with pytest.raises((OSError, http.client.HTTPException)):  # in the clear there is nothing to be had
            urllib.request.urlopen(f"http://localhost:{port}/healthz", timeout=30)
        if is_mutual:
            with pytest.raises((OSError, http.client.HTTPException)):
                https(authority, None, base + "/healthz")
            strangers = Authority(tmp_path, "strangers").issue("stranger")
            assert curl(authority, base + "/healthz", "--cert", strangers.path, "--key", strangers.key_path).returncode


def written(path, content):
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"server_cert": "/no/such.crt"},
            "NOT_FOUND: /no/such.crt; No such file or directory",
        ),
        (
            {"server_key": "/"},
            "FAILED_PRECONDITION: /; Is a directory",
        ),
        (
            {"server_cert": b"not a certificate"},
            "INVALID_ARGUMENT: Failed to BuildAndStart gRPC server: {server_cert}: not certificates in PEM form",
        ),
        (
            {"server_key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
            "INVALID_ARGUMENT: Failed to BuildAndStart gRPC server: {server_key}: not a private key in PEM form",
        ),
        (
            {"custom_ca": b"", "client_verify": True},
            "INVALID_ARGUMENT: {custom_ca}; Invalid argument",
        ),
    ],
)
def test_files_that_secure_nothing_end_the_start_before_a_port_opens(model, authority, tmp_path, fields, reason):
    good = authority.issue("good")
    values = {"server_key": str(good.key_path), "server_cert": str(good.path)}
    for name, value in fields.items():
        values[name] = written(tmp_path / name, value) if isinstance(value, bytes) else value
    (tmp_path / "ssl.config").write_text(text_format.MessageToString(protos.SSLConfig(**values)))
    flags = (f"--ssl_config_file={tmp_path}/ssl.config", f"--rest_api_port={free_port()}")
    with ServerProcess(*model, *flags, wait_for=None) as server:
        assert server.wait() == 255
        assert server.wait_for("Failed to start server").startswith(
            f"Failed to start server. Error: {reason.format(**values)}"
        )
        assert not [line for line in server.lines if "pages at port" in line]


@pytest.mark.proves("difference: TLS", "flag rest_api_ssl")
def test_the_http_port_can_be_left_plain(model, authority, tmp_path):
    flag = ssl_config(tmp_path / "ssl.config", authority.issue("plain"))
    port = free_port()
    with ServerProcess(*model, flag, "--norest_api_ssl", f"--rest_api_port={port}") as server:
        assert curl(authority, f"http://localhost:{port}/healthz").returncode == 0
        assert status(server, authority).model_version_status[0].version == 1


def test_a_key_that_does_not_belong_ends_the_start(model, authority, tmp_path):
    one, other = authority.issue("one"), authority.issue("another")
    config = protos.SSLConfig(server_key=str(one.key_path), server_cert=str(other.path))
    (tmp_path / "ssl.config").write_text(text_format.MessageToString(config))
    with ServerProcess(*model, f"--ssl_config_file={tmp_path}/ssl.config", wait_for=None) as server:
        assert server.wait() == 255
        line = server.wait_for("Failed to start server")
        assert line == (
            "Failed to start server. Error: INVALID_ARGUMENT: Failed to BuildAndStart gRPC server: "
            f"{one.key_path}: the key does not belong to the first certificate of {other.path}"
        )
