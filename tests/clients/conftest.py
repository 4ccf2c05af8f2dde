"""One server for each gRPC transport, with a stand-in for every model that public clients ask for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.clients.old_clients import write_warmup_requests
from tests.clients.stand_ins import MODELS
from tests.conftest import Exported
from tests.end_to_end.server_process import Client, ServerProcess, free_port

EXTRA_CONFIG = {"default": "model_version_policy { all {} }"}


class Served:
    """A running server, the stubs of tensorflow-serving-api, and the address of its REST API."""

    def __init__(self, server: ServerProcess, client: Client, rest_port: int) -> None:
        self.server = server
        self.prediction = client.prediction
        self.model = client.model
        self.rest_port = rest_port
        self.url = f"http://127.0.0.1:{rest_port}"


Serve = Callable[[str], Served]


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    """A config file that lists them all."""
    folder = tmp_path_factory.mktemp("stand_ins")
    for name, versions in MODELS.items():
        for number, export in enumerate(versions, 1):
            shutil.copytree(exported(export), folder / name / str(number))
    (folder / "EAST" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 16 }")
    write_warmup_requests(folder / "resnet" / "1")
    config = folder / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" '
        f"{EXTRA_CONFIG.get(name, '')} }}\n"
        for name in MODELS
    )
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    return config


@pytest.fixture(scope="session")
def serve(served_models: Path) -> Iterator[Serve]:
    """`serve("http2")` is the server with that gRPC transport, started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(transport: str) -> Served:
            port = free_port()
            flags = (
                f"--model_config_file={served_models}",
                f"--rest_api_port={port}",
                f"--grpc_transport={transport}",
                "--enable_batching",
                "--enable_per_model_batching_parameters",
                "--max_num_load_retries=0",
            )
            server = stack.enter_context(ServerProcess(*flags))
            return Served(server, stack.enter_context(Client(server)), port)

        yield start
