"""Memory comes back: versions of a large model come and go, and the server does not grow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much memory a process has is read from /proc"),
]

LARGE_BYTES = 100_000_000
REQUEST = predict_request("large", {"x": np.array([1.0], np.float32)})


@pytest.fixture
def small_alone(exported: Exported, tmp_path: Path) -> Path:
    """A config of half_plus_two; `large` is for the test to add and remove."""
    config = tmp_path / "models.config"
    config.write_text(str(reload_request(half_plus_two=exported(models.half_plus_two)).config))
    return config


def reload_request(**version_folders: Path) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    for name, folder in version_folders.items():
        request.config.model_config_list.config.add(
            name=name, base_path=str(folder.parent), model_platform="tensorflow"
        )
    return request


def resident_bytes(server: ServerProcess) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cycles(config: Path, exported: Exported, count: int) -> Iterator[tuple[int, int]]:
    """The server's memory while `large` is loaded and when it is unloaded, of each cycle."""
    small, large = exported(models.half_plus_two), exported(models.large)
    without, with_large = reload_request(half_plus_two=small), reload_request(half_plus_two=small, large=large)
    with ServerProcess(f"--model_config_file={config}") as server, Client(server) as client:
        for cycle in range(1, count + 1):
            client.model.HandleReloadConfigRequest(with_large, timeout=60)
            assert outputs(client.prediction.Predict(REQUEST, timeout=60))["y"].shape == (1,)
            loaded = resident_bytes(server)
            client.model.HandleReloadConfigRequest(without, timeout=60)
            server.wait_for("Done unloading servable version {name: large version: 1}", cycle)
            yield loaded, resident_bytes(server)


def test_fifty_loads_and_unloads_leave_no_memory_behind(small_alone: Path, exported: Exported) -> None:
    unloaded = [after for _, after in cycles(small_alone, exported, 50)]
    print("MB after each unload:", [size >> 20 for size in unloaded])
    assert unloaded[49] <= 1.10 * unloaded[4]


def test_memory_of_an_unloaded_model_is_free(
    small_alone: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's own allocator would keep it for the next model, which hides who holds what."""
    monkeypatch.setenv("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    for loaded, unloaded in cycles(small_alone, exported, 3):
        assert loaded - unloaded > 0.9 * LARGE_BYTES
