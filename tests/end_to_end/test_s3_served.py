"""A server whose models lie in an S3 of the test's own, from the first version to the swap and to the end."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import predict_request, status_request
from tests.end_to_end.server_process import Client, ServerProcess, free_port
from tests.fake_s3 import FakeS3

pytestmark = pytest.mark.slow

REQUEST = predict_request("m", {"x": np.array([1.0, 2.0, 5.0], np.float32)})


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, exported: Exported) -> Iterator[FakeS3]:
    """With version 1 of half_plus_two."""
    with FakeS3() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        made.upload(exported(models.half_plus_two), "bucket", "models/m/1")
        yield made


def serving(cache: Path, *flags: str) -> ServerProcess:
    flags = (f"--model_cache_dir={cache}", "--model_name=m", "--file_system_poll_wait_seconds=1", *flags)
    return ServerProcess("--model_base_path=s3://bucket/models/m", *flags)


def copies(cache: Path) -> list[str]:
    """Versions that have a whole copy."""
    return sorted(path.parent.name for path in cache.glob("*/*/saved_model.pb"))


@pytest.mark.proves("difference: `s3://` and other remote file systems")
@pytest.mark.proves("flag model_cache_dir")
def test_versions_are_fetched_served_and_swapped_and_their_copies_go(
    s3: FakeS3, exported: Exported, tmp_path: Path
) -> None:
    port = free_port()
    with serving(tmp_path, f"--rest_api_port={port}", "--log_level=debug") as server, Client(server) as client:
        answer = client.prediction.Predict(REQUEST, timeout=30)
        assert (answer.model_spec.version.value, list(answer.outputs["y"].float_val)) == (1, [2.5, 3.0, 4.5])
        server.wait_for("Fetched servable version {name: m version: 1} from s3://bucket/models/m/1: ")
        assert copies(tmp_path) == ["1"]
        s3.upload(exported(half_plus_three), "bucket", "models/m/2")
        server.wait_for("Done unloading servable version {name: m version: 1}")
        answer = client.prediction.Predict(REQUEST, timeout=30)
        assert (answer.model_spec.version.value, list(answer.outputs["y"].float_val)) == (2, [3.5, 4.0, 5.5])
        assert copies(tmp_path) == ["2"]
        page = urllib.request.urlopen(f"http://localhost:{port}/monitoring/prometheus/metrics", timeout=30).read()
        samples = dict(line.rsplit(" ", 1) for line in page.decode().splitlines() if line.startswith(":pyserving:rem"))
        assert 5 < int(samples[':pyserving:remote_listings_total{model="m"}']) <= s3.count("LIST")
        uploaded = sum(len(stored.data) for stored in s3.buckets["bucket"].values())
        assert int(samples[':pyserving:remote_fetched_bytes_total{model="m"}']) == uploaded
        assert b'load_attempt_count{model_path="s3://bucket/models/m/2",status="success"} 1' in page
        server.terminate()
        assert server.wait() == 0
        assert list(tmp_path.iterdir()) == []
    assert "secret-of-the-test" not in "\n".join(server.lines)


def half_plus_three(path: Path) -> None:
    models.half_plus_two(path, two=3.0)


def test_a_version_that_cannot_be_loaded_says_why_and_leaves_no_copy(s3: FakeS3, tmp_path: Path) -> None:
    s3.put("bucket", "models/m/2/saved_model.pbtxt", b"meta_graphs {}\n")
    with serving(tmp_path) as server, Client(server) as client:
        server.wait_for("Attempt 1 to load servable version {name: m version: 2} failed")
        [newest] = client.model.GetModelStatus(status_request("m"), timeout=30).model_version_status
        assert (newest.version, newest.state, newest.status.error_code) == (2, 20, 5)
        assert "Could not find meta graph def matching supplied tags: { serve }" in newest.status.error_message
        assert str(tmp_path) not in newest.status.error_message
        assert list(tmp_path.iterdir()) == []


@pytest.mark.proves("difference: GetModelStatus of a model whose base path cannot be listed")
def test_a_bucket_that_is_denied_is_told_in_the_status_and_found_when_it_opens(s3: FakeS3, tmp_path: Path) -> None:
    s3.denied.add("bucket")
    with serving(tmp_path) as server, Client(server) as client:
        with pytest.raises(grpc.RpcError) as raised:
            client.model.GetModelStatus(status_request("m"), timeout=30)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        problem = "Could not list base path s3://bucket/models/m for servable m: Access Denied"
        assert raised.value.details().endswith(problem)
        s3.denied.clear()
        server.wait_for("Successfully loaded servable version {name: m version: 1}")


def test_a_server_that_is_stopped_breaks_off_a_download_that_hangs(
    s3: FakeS3, exported: Exported, tmp_path: Path
) -> None:
    with serving(tmp_path) as server:
        s3.hanging.add("models/m/2/variables/variables.data-00000-of-00001")
        s3.upload(exported(models.half_plus_two), "bucket", "models/m/2")
        server.wait_for("Fetching servable version {name: m version: 2} from s3://bucket/models/m/2: ")
        server.terminate()
        assert server.wait() == 0
        assert "Leaving while a model is still at work" not in "\n".join(server.lines)
        assert list(tmp_path.iterdir()) == []
