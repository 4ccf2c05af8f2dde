"""A real server for commands to ask, with both of its ports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.server_process import ServerProcess, free_port

MODELS = {"half_plus_two": models.half_plus_two, "brightness": models.brightness, "identity": models.identity}


@dataclass(frozen=True, slots=True)
class Served:
    folder: Path
    port: int
    rest_port: int

    @property
    def addresses(self) -> list[str]:
        return ["--target", f"127.0.0.1:{self.port}", "--rest_target", f"127.0.0.1:{self.rest_port}"]


@pytest.fixture(scope="session")
def served(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    for name, export in MODELS.items():
        (folder / name).mkdir()
        (folder / name / "1").symlink_to(exported(export))
    configs = [f'config {{ name: "{m}" base_path: "{folder / m}" model_platform: "tensorflow" }}' for m in MODELS]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    port, rest_port = free_port(), free_port()
    flags = [f"--port={port}", f"--rest_api_port={rest_port}", f"--model_config_file={folder}/models.config"]
    with ServerProcess(*flags):
        yield Served(folder, port, rest_port)
