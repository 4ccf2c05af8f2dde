"""A server for unmodified clients: two models, on each transport that gRPC can come by."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.server_process import ServerProcess, free_port

PLATFORM = 'model_platform: "tensorflow"'
TRANSPORTS = {
    "http2": [],
    # As it comes, grpcio's server sends clients away that ping oftener than every five minutes, and cancels calls when
    # a thousand and more have not been looked at yet.
    "grpcio": [
        "--grpc_channel_arguments=grpc.http2.max_ping_strikes=0,grpc.server.max_pending_requests=10000,"
        "grpc.server.max_pending_requests_hard_limit=10000"
    ],
}


@dataclass(frozen=True, slots=True)
class Served:
    """`m` is half_plus_two; `slow` counts as far as it is told to."""

    transport: str
    port: int
    metrics_port: int
    process: ServerProcess

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture(scope="session", params=list(TRANSPORTS))
def served(
    request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("interop")
    for name, export in (("m", models.half_plus_two), ("slow", models.slow)):
        shutil.copytree(exported(export), folder / name / "1")
    configs = [f'config {{ name: "{name}" base_path: "{folder / name}" {PLATFORM} }}' for name in ("m", "slow")]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    port, metrics_port = free_port(), free_port()
    flags = [
        f"--grpc_transport={request.param}",
        *TRANSPORTS[request.param],
        f"--port={port}",
        f"--rest_api_port={metrics_port}",
        f"--model_config_file={folder / 'models.config'}",
    ]
    with ServerProcess(*flags) as process:
        yield Served(request.param, port, metrics_port, process)
