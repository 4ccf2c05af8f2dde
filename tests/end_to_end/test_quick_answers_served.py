"""A small model on HTTP/2 connections of our own: it comes to run on the event loop, and versions change under it."""

from __future__ import annotations

import re
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import predict_request
from tests.end_to_end.server_process import START_SECONDS, Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

CALLERS = 4


@pytest.fixture
def base_path(tmp_path: Path, exported: Exported) -> Path:
    folder = tmp_path / "served" / "m"
    folder.mkdir(parents=True)
    shutil.copytree(exported(models.half_plus_two), folder / "1")
    return folder


class Server(ServerProcess):
    def __init__(self, base_path: Path) -> None:
        self.http_port = free_port()
        super().__init__(
            "--grpc_transport=http2",
            f"--rest_api_port={self.http_port}",
            "--model_name=m",
            f"--model_base_path={base_path}",
        )

    def runs_on_loop(self, version: int) -> int:
        with urllib.request.urlopen(
            f"http://localhost:{self.http_port}/monitoring/prometheus/metrics", timeout=30
        ) as page:
            text = page.read().decode()
        found = re.search(rf':pyserving:runs_total{{model="m",version="{version}",way="loop"}} (\d+)', text)
        return int(found[1]) if found else 0


@pytest.fixture
def server(base_path: Path) -> Iterator[Server]:
    with Server(base_path) as made:
        yield made


class Callers:
    """Threads that ask one after another, each for another number, until their block is left.

    `versions` are those that answered, of each thread in order and without repeats; `failures` what went wrong.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.answered = 0
        self.versions: list[list[int]] = [[] for _ in range(CALLERS)]
        self.failures: list[str] = []
        self._server = server
        self._news = threading.Condition()
        self._is_over = False
        self._threads = [threading.Thread(target=self._run, args=(seen,), daemon=True) for seen in self.versions]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        with self._news:
            target = self.answered + count
            self._news.wait_for(lambda: self.answered >= target or bool(self.failures), START_SECONDS)
            assert self.answered >= target, self.failures

    def _run(self, seen: list[int]) -> None:
        with Client(self._server) as client:
            number = 0.0
            while not self._is_over:
                number += 1.0
                self._ask(client, number, seen)

    def _ask(self, client: Client, number: float, seen: list[int]) -> None:
        try:
            answer: predict_pb2.PredictResponse = client.prediction.Predict(
                predict_request("m", {"x": np.array([number], np.float32)}), timeout=60
            )
        except grpc.RpcError as error:
            self._tell(f"{error.code().name}: {error.details()}")
            return
        if list(answer.outputs["y"].float_val) != [number / 2 + 2]:
            self._tell(f"{number} gave {answer}")
        if seen[-1:] != [answer.model_spec.version.value]:
            seen.append(answer.model_spec.version.value)
        self._tell()

    def _tell(self, failure: str = "") -> None:
        with self._news:
            self.answered += not failure
            self.failures += [failure] if failure else []
            self._news.notify_all()


def wait_for_runs_on_loop(server: Server, callers: Callers, version: int) -> None:
    for _ in range(1000):
        callers.wait_for_answers(100)
        if server.runs_on_loop(version) >= 100:
            return
    raise AssertionError(f"Version {version} does not run on the loop")


def versions_answering(server: Server) -> set[int]:
    """To twenty requests that are sent from now on."""
    with Client(server) as client:
        request = predict_request("m", {"x": np.array([1.0], np.float32)})
        return {client.prediction.Predict(request, timeout=60).model_spec.version.value for _ in range(20)}


def test_it_comes_to_run_on_the_loop_and_versions_change_under_it(
    server: Server, base_path: Path, exported: Exported
) -> None:
    with Callers(server) as callers:
        wait_for_runs_on_loop(server, callers, 1)
        shutil.copytree(exported(models.half_plus_two), base_path.parent / "draft")
        (base_path.parent / "draft").rename(base_path / "2")
        server.wait_for("Done unloading servable version {name: m version: 1}")
        runs = server.runs_on_loop(1)
        wait_for_runs_on_loop(server, callers, 2)
        assert server.runs_on_loop(1) == runs
    assert callers.failures == []
    assert callers.versions == [[1, 2]] * CALLERS


def test_who_asks_after_the_old_version_ended_is_never_answered_by_it(
    server: Server, base_path: Path, exported: Exported
) -> None:
    with Callers(server) as callers:
        wait_for_runs_on_loop(server, callers, 1)
        for version in (2, 3):
            shutil.copytree(exported(models.half_plus_two), base_path / str(version))
            server.wait_for(f"Done unloading servable version {{name: m version: {version - 1}}}")
            assert versions_answering(server) == {version}
        (base_path / "3").rename(base_path.parent / "3")
        server.wait_for("Done unloading servable version {name: m version: 3}")
        assert versions_answering(server) == {2}
        callers.wait_for_answers(20 * CALLERS)
    assert callers.failures == []
    assert callers.versions == [[1, 2, 3, 2]] * CALLERS
