"""Programs that `pyserving client` writes, run as they come out against a real server."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyserving import commands
from pyserving.commands.programs import LANGUAGES
from tests import models
from tests.commands.conftest import Served
from tests.interop.clients import attempt, needed

pytestmark = pytest.mark.slow
SECONDS = 120


@dataclass(frozen=True, slots=True)
class Case:
    """A signature, and the number that zeros make it answer."""

    model: str
    signature: str
    answer: float


CASES = {
    "predict": Case("half_plus_two", "serving_default", 2.0),
    "large": Case("brightness", "serving_default", 41.5),
    "classify": Case("half_plus_two", "classify_x_to_y", 2.0),
    "regress": Case("half_plus_two", "regress_x_to_y2", 3.0),
}


@pytest.fixture
def written(served: Served, capsys: Any) -> Callable[..., str]:
    """The program for MODEL in a language."""

    def write(model: object, language: str, *more: str) -> str:
        assert commands.run(["client", str(model), "--language", language, *served.addresses, *more]) == 0
        return str(capsys.readouterr().out)

    return write


class Toolchain:
    """What runs a file of a language, and in which environment."""

    def __init__(self, language: str, folder: Path) -> None:
        self.env = dict(os.environ)
        self.file, self.command = self._found(language, folder)

    def _found(self, language: str, folder: Path) -> tuple[str, Sequence[str]]:
        if language == "curl":
            needed("curl", "curl")
            return "ask.sh", ["sh"]
        if language == "go":
            self.env["GO111MODULE"] = "off"
            return "ask.go", [needed("go", "golang-go"), "run"]
        if language == "java":
            needed("javac", "default-jdk-headless")
            return "Ask.java", [needed("java", "default-jdk-headless")]
        if language == "js":
            packages = ["@grpc/grpc-js", "@grpc/proto-loader", "protobufjs"]
            npm = [needed("npm", "npm"), "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
            attempt("npm install @grpc/grpc-js", npm)
            self.env["NODE_PATH"] = str(folder / "node_modules")
            return "ask.js", [needed("node", "nodejs")]
        self.env["CUDA_VISIBLE_DEVICES"] = "-1"
        return "ask.py", [sys.executable]

    def run(self, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
        (folder / self.file).write_text(program)
        command = [*self.command, str(folder / self.file)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=SECONDS, cwd=folder)


@pytest.fixture(scope="module", params=LANGUAGES)
def toolchain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Toolchain]:
    return request.param, Toolchain(request.param, tmp_path_factory.mktemp(request.param))


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_program_written_for_a_folder_runs_as_it_comes_out(
    toolchain: tuple[str, Toolchain], written: Callable[..., str], served: Served, case: Case, tmp_path: Path
) -> None:
    language, tools = toolchain
    program = written(served.folder / case.model, language, "--signature", case.signature)
    done = tools.run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert case.answer in numbers(done.stdout)


def test_a_program_written_for_a_running_server_is_the_same(
    toolchain: tuple[str, Toolchain], written: Callable[..., str], served: Served
) -> None:
    language, _ = toolchain
    asked = written(f"127.0.0.1:{served.port}/brightness", language)
    assert asked == written(served.folder / "brightness" / "1", language)


def test_what_the_server_refuses_is_told_and_fails(
    toolchain: tuple[str, Toolchain], written: Callable[..., str], served: Served, tmp_path: Path
) -> None:
    language, tools = toolchain
    done = tools.run(written(served.folder / "brightness", language, "--name", "größer 'n 100%"), tmp_path)
    assert done.returncode != 0
    assert "Servable not found for request: Latest(größer 'n 100%)" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_every_type_that_tensorflows_python_can_send_goes_over_grpc(
    served: Served, tmp_path: Path, capsys: Any
) -> None:
    refused = []
    for name in [data_type.type_name for data_type in models.identity_types()]:
        asked = [str(served.folder / "identity"), "--language", "python-grpc", "--signature", name, *served.addresses]
        if commands.run(["client", *asked]) != 0:
            refused.append(name)
            continue
        (tmp_path / "ask.py").write_text(capsys.readouterr().out)
        runpy.run_path(str(tmp_path / "ask.py"))
        assert capsys.readouterr().out.startswith("y "), name
    assert set(refused) <= {"float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"}
