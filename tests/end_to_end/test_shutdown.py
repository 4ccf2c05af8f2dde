"""A signal ends the server in good order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import predict_request
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow


def serving(tmp_path: Path, source: Path, *flags: str, **more: Any) -> ServerProcess:
    shutil.copytree(source, tmp_path / "m" / "1")
    return ServerProcess("--model_name=m", f"--model_base_path={tmp_path}/m", *flags, **more)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_admitted_request_is_answered(tmp_path: Path, exported: Exported, number: signal.Signals) -> None:
    """Calls keep coming while the signal arrives: each one is answered, or was refused before it began."""
    request = predict_request("m", {"x": np.ones(3, np.float32)})
    with serving(tmp_path, exported(models.half_plus_two)) as server, Client(server) as client:
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
    with serving(tmp_path, exported(models.slow)) as server, Client(server) as client:
        # Long enough to be running when the signal arrives, short enough for the grace period.
        call = client.prediction.Predict.future(predict_request("m", {"steps": np.int64(300_000)}), timeout=120)
        quick = client.prediction.Predict.future(predict_request("m", {"steps": np.int64(1)}), timeout=120)
        quick.result()
        server.terminate()
        server.wait_for("finishing what was admitted")
        assert call.result().model_spec.version.value == 1
        assert server.wait() == 0


def test_the_grace_period_ends_a_drain(tmp_path: Path, exported: Exported) -> None:
    with serving(tmp_path, exported(models.slow), "--shutdown_grace_seconds=0.2") as server, Client(server) as client:
        call = client.prediction.Predict.future(predict_request("m", {"steps": np.int64(10**12)}), timeout=120)
        client.prediction.Predict(predict_request("m", {"steps": np.int64(1)}), timeout=120)
        server.terminate()
        with pytest.raises(grpc.RpcError):
            call.result()
        assert server.wait() == 0


def test_a_second_signal_leaves_at_once(tmp_path: Path, exported: Exported) -> None:
    with serving(tmp_path, exported(models.slow), "--shutdown_grace_seconds=600") as server, Client(server) as client:
        call = client.prediction.Predict.future(predict_request("m", {"steps": np.int64(10**12)}), timeout=120)
        client.prediction.Predict(predict_request("m", {"steps": np.int64(1)}), timeout=120)
        server.terminate()
        server.wait_for("SIGTERM: finishing")
        while server.process.poll() is None:  # what comes together with the first signal is the same signal
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(timeout=0.1)
        assert server.wait() == 128 + signal.SIGTERM
        assert call.exception() is not None


def test_a_signal_during_start_up_ends_it(tmp_path: Path, exported: Exported) -> None:
    with serving(tmp_path, exported(models.half_plus_two), wait_for="Loading servable version") as server:
        server.terminate()
        assert server.wait() == 0
