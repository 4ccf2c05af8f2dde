"""What is inside the wheel that people install, and what it says of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

import pyserving

ROOT = Path(__file__).parents[1]
SOURCES = ["pyproject.toml", "README.md", "LICENSE"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built from a copy, by the build backend itself: no network, nothing left in the working tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in SOURCES:
        shutil.copy(ROOT / file, source)
    shutil.copytree(ROOT / "pyserving", source / "pyserving", ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    result = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    [path] = out.glob("*.whl")
    return ZipFile(path)


def described(wheel: ZipFile, file: str) -> str:
    """The text of one file of the wheel's dist-info folder."""
    return wheel.read(f"pyserving-{pyserving.__version__}.dist-info/{file}").decode()


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    return Parser().parsestr(described(wheel, "METADATA"))


def test_wheel_has_every_file_of_the_package_and_nothing_else(wheel: ZipFile) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pyserving").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted
    assert {"pyserving/serving.desc", "pyserving/protos.pyi", "pyserving/py.typed"} <= wanted


def test_both_commands_start_the_server(wheel: ZipFile) -> None:
    entry_points = ConfigParser(delimiters="=")
    entry_points.read_string(described(wheel, "entry_points.txt"))
    commands = dict(entry_points["console_scripts"])
    assert commands == {"pyserving": "pyserving.commands:main", "tensorflow_model_server": "pyserving.main:main"}
    assert "pyserving/main.py" in wheel.namelist()


def test_extras_bring_what_their_names_say(metadata: Message) -> None:
    extras = {
        "gpu": "tensorflow[and-cuda]",
        "text": "tensorflow-text",
        "forests": "ydf-tf",
        "tflite": "ai-edge-litert",
        "completion": "shtab",
        "remote": "s3fs",
        "demo": "scikit-learn",
    }
    required = metadata.get_all("Requires-Dist", [])
    for extra, distribution in extras.items():
        assert [line for line in required if line.startswith(distribution) and f'extra == "{extra}"' in line], extra
    assert {*extras, "dev"} == set(metadata.get_all("Provides-Extra", []))


def test_server_needs_neither_the_stock_client_nor_a_compiler_of_protos(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line for line in required if "tensorflow-serving-api" in line or "grpcio-tools" in line] == []
    assert [line for line in required if line.startswith("tensorflow>=")] != []


def test_licence_and_lowest_python_are_declared(wheel: ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert described(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_installed_protos_load_without_tensorflow(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import sys; from pyserving import protos; print(protos.PredictRequest.DESCRIPTOR.full_name, protos.__file__)"
    )
    code += "; assert 'tensorflow' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["tensorflow.serving.PredictRequest", str(tmp_path / "pyserving" / "protos.py")]
