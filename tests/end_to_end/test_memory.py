"""Memory comes back: versions of a large model come and go, and the server does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import ROOT, Client, ServerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much memory a process has is read from /proc"),
]

LARGE_BYTES = 100_000_000
X = np.array([1.0], np.float32)
NAMES = [f"large{number}" for number in range(5)]
"""Loaded and unloaded side by side, since a version that appears is looked at twice, half a second apart."""


@pytest.fixture
def small_alone(exported: Exported, tmp_path: Path) -> Path:
    """A config of half_plus_two; larger ones are for the test to add and remove."""
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


def test_fifty_loads_and_unloads_leave_no_memory_behind(small_alone: Path, exported: Exported) -> None:
    small, large = exported(models.half_plus_two), exported(models.large)
    without, with_large = (reload_request(half_plus_two=small, **dict.fromkeys(names, large)) for names in ([], NAMES))
    sizes = []
    with ServerProcess(f"--model_config_file={small_alone}") as server, Client(server) as client:
        for cycle in range(1, 11):
            client.model.HandleReloadConfigRequest(with_large, timeout=60)
            for name in NAMES:
                answer = client.prediction.Predict(predict_request(name, {"x": X}), timeout=60)
                assert outputs(answer)["y"].shape == (1,)
            client.model.HandleReloadConfigRequest(without, timeout=60)
            for name in NAMES:
                server.wait_for(f"Done unloading servable version {{name: {name} version: 1}}", cycle)
            sizes.append(resident_bytes(server))
    print("MB after each five unloads:", [size >> 20 for size in sizes])
    assert sizes[9] <= 1.10 * sizes[0]


RELEASED = """
import os, sys
from pyserving.executors import tf_session

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for _ in range(3):
    executor = tf_session.open_saved_model(sys.argv[1])
    loaded = resident_bytes()
    executor.close()
    print(loaded - resident_bytes())
"""


def test_a_closed_model_holds_none_of_its_memory(exported: Exported) -> None:
    """Without oneDNN's own allocator, which would keep it for the next model and hide who holds what."""
    lines = subprocess.run(
        [sys.executable, "-c", RELEASED, str(exported(models.large))],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert all(int(released) > 0.9 * LARGE_BYTES for released in lines), lines
    assert len(lines) == 3
