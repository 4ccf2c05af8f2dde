"""A signal ends the server in good order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import predict_request
from tests.end_to_end.python_model import python_model
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow


def serving(tmp_path: Path, source: Path, *flags: str, **more: Any) -> ServerProcess:
    shutil.copytree(source, tmp_path / "m" / "1")
    return ServerProcess("--model_name=m", f"--model_base_path={tmp_path}/m", *flags, **more)


class Slow:
    """A server of the slow model, and one long call in it."""

    def __init__(self, tmp_path: Path, exported: Exported, *flags: str) -> None:
        self._port = free_port()
        self.server = serving(tmp_path, exported(models.slow), f"--rest_api_port={self._port}", *flags)
        self.client = Client(self.server)

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.client.__exit__(*exception)
        self.server.__exit__(*exception)

    def long_call(self, steps: int) -> Any:
        """A Predict that has been admitted, and lasts for about a microsecond or a few a step."""
        call = self.client.prediction.Predict.future(predict_request("m", {"steps": np.int64(steps)}), timeout=120)
        page = f"http://127.0.0.1:{self._port}/monitoring/prometheus/metrics"
        while True:
            assert not call.done()
            with urllib.request.urlopen(page, timeout=30) as response:
                if b":pyserving:requests_in_flight{} 1\n" in response.read():
                    return call


@pytest.mark.proves("difference: SIGTERM, SIGINT")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_admitted_request_is_answered(tmp_path: Path, number: signal.Signals) -> None:
    """Calls keep coming while the signal arrives: each one is answered, or was refused before it began."""
    request = predict_request("m", {"x": np.ones(3, np.float32)})
    with ServerProcess(*python_model(tmp_path)) as server, Client(server) as client:
        client.prediction.Predict(request, timeout=60)
        refused = threading.Event()
        statuses: list[tuple[grpc.StatusCode, str]] = []

        def keep_asking() -> None:
            while not refused.is_set():
                try:
                    client.prediction.Predict(request, timeout=60)
                    statuses.append((grpc.StatusCode.OK, ""))
                except grpc.RpcError as error:
                    statuses.append((error.code(), error.details()))
                    refused.set()

        callers = [threading.Thread(target=keep_asking) for _ in range(8)]
        for caller in callers:
            caller.start()
        while len(statuses) < 200 and not refused.is_set():
            callers[0].join(timeout=0.01)
        server.process.send_signal(number)
        for caller in callers:
            caller.join()
        assert server.wait() == 0
        failed = [status for status in statuses if status[0] is not grpc.StatusCode.OK]
        # CANCELLED is grpcio's answer to what it has received and not handed over in the moment its ports close.
        assert {code for code, _ in failed} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, failed
        assert len(statuses) - len(failed) >= 200


def test_a_long_run_is_waited_for(tmp_path: Path, exported: Exported) -> None:
    with Slow(tmp_path, exported) as slow:
        call = slow.long_call(steps=300_000)
        slow.server.terminate()
        slow.server.wait_for("finishing what was admitted")
        assert call.result().model_spec.version.value == 1
        assert slow.server.wait() == 0


@pytest.mark.proves("difference: SIGTERM, SIGINT", "flag shutdown_grace_seconds")
def test_the_grace_period_ends_a_drain(tmp_path: Path, exported: Exported) -> None:
    with Slow(tmp_path, exported, "--shutdown_grace_seconds=0.2") as slow:
        call = slow.long_call(steps=10**12)
        slow.server.terminate()
        with pytest.raises(grpc.RpcError):
            call.result()
        assert slow.server.wait() == 0


@pytest.mark.proves("difference: SIGTERM, SIGINT")
def test_a_second_signal_leaves_at_once(tmp_path: Path, exported: Exported) -> None:
    with Slow(tmp_path, exported, "--shutdown_grace_seconds=600") as slow:
        call = slow.long_call(steps=10**12)
        slow.server.terminate()
        slow.server.wait_for("SIGTERM: finishing")
        while slow.server.process.poll() is None:  # what comes together with the first signal is the same signal
            slow.server.terminate()
            with suppress(subprocess.TimeoutExpired):
                slow.server.process.wait(timeout=0.1)
        assert slow.server.wait() == 128 + signal.SIGTERM
        assert call.exception() is not None


def test_a_signal_during_start_up_ends_it(tmp_path: Path, exported: Exported) -> None:
    with serving(tmp_path, exported(models.half_plus_two), wait_for="Loading servable version") as server:
        server.terminate()
        assert server.wait() == 0
