"""Tools that speak HTTP/2 and know nothing of gRPC: curl, nghttp and h2load post its messages and read its trailers."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.end_to_end.client_requests import predict_request
from tests.interop.clients import SECONDS, needed
from tests.interop.conftest import Served

pytestmark = pytest.mark.slow

PREDICT = "tensorflow.serving.PredictionService/Predict"
FIELDS = ["-H", "content-type: application/grpc", "-H", "te: trailers"]


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A file with one gRPC message, a PredictRequest."""
    return posted(tmp_path, "m", 3)


def posted(folder: Path, model: str, size: int) -> Path:
    request = predict_request(model, {"x": np.arange(size, dtype=np.float32)}).SerializeToString()
    file = folder / "body"
    file.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
    return file


def output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(served: Served, folder: Path, *more: str, path: str = PREDICT) -> tuple[str, bytes]:
    """The status line, fields and trailers; and the body."""
    answer = folder / "answer"
    options = ["-sS", "--http2-prior-knowledge", "--dump-header", "-", "--output", str(answer)]
    head = output_of(needed("curl", "curl"), *options, *more, f"http://{served.address}/{path}")
    return head, answer.read_bytes() if answer.exists() else b""


@pytest.mark.parametrize("size", [3, 100_000])
def test_curl_posts_a_message_and_reads_answer_and_trailers(served, tmp_path, size):
    head, answer = curl(served, tmp_path, *FIELDS, "--data-binary", f"@{posted(tmp_path, 'm', size)}")
    assert head.startswith("HTTP/2 200")
    fields, trailers = head.strip().split("\r\n\r\n") if "\r\n\r\n" in head.strip() else head.strip().split("\n\n")
    assert "content-type: application/grpc" in fields
    assert trailers.split()[:2] == ["grpc-status:", "0"]
    assert int.from_bytes(answer[:5], "big") == len(answer) - 5
    response = predict_pb2.PredictResponse.FromString(answer[5:])
    expected = np.arange(size, dtype=np.float32) / 2 + 2
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), expected)


def test_curl_reads_the_status_of_an_error_with_its_message_percent_encoded(served, tmp_path):
    head, answer = curl(served, tmp_path, *FIELDS, "--data-binary", f"@{posted(tmp_path, 'größer', 1)}")
    assert head.startswith("HTTP/2 200")
    assert "grpc-status: 5" in head
    assert "grpc-message: Servable not found for request: Latest(gr%C3%B6%C3%9Fer)" in head
    assert not answer


def test_nghttp_pads_its_frames_and_finds_nothing_wrong(served, body):
    if served.transport == "grpcio":
        pytest.skip("grpcio's own server takes the padding of HEADERS for a part of the header block")
    command = [needed("nghttp", "nghttp2-client"), "--verbose", "--padding=100", f"--data={body}", *FIELDS]
    said = output_of(*command, f"http://{served.address}/{PREDICT}")
    assert "PADDED" in said
    assert re.search(r"recv \(stream_id=\d+\) grpc-status: 0", said), said
    assert "RST_STREAM" not in said


def test_nghttp_opens_many_streams_with_small_windows(served, body):
    windows = ["--window-bits=4", "--connection-window-bits=16"]
    command = [needed("nghttp", "nghttp2-client"), "--verbose", *windows, "--multiply=50", f"--data={body}", *FIELDS]
    said = output_of(*command, f"http://{served.address}/{PREDICT}")
    assert len(re.findall(r"grpc-status: 0", said)) == 50
    sizes = [int(size) for size in re.findall(r"recv DATA frame <length=(\d+)", said)]
    assert max(sizes) <= 15
    assert "RST_STREAM" not in said


def test_h2load_has_as_many_answers_as_the_server_says_were_right(served, body):
    """The tool counts HTTP's 200, whatever grpc-status says; so the server's own count is looked at as well."""
    before = served_right(served)
    command = [needed("h2load", "nghttp2-client"), "-n", "5000", "-c", "8", "-m", "32", "-d", str(body), *FIELDS]
    said = output_of(*command, f"http://{served.address}/{PREDICT}")
    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert served_right(served) - before == 5000


def served_right(served: Served) -> int:
    page = f"http://127.0.0.1:{served.metrics_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(page, timeout=SECONDS) as response:
        text = response.read().decode()
    found = re.search(r':tensorflow:serving:request_count\{model_name="m",status="OK"\} (\d+)', text)
    return int(found[1]) if found else 0
