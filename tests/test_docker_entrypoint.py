"""The container image without a container engine: its entry script, its health check, and what its Dockerfile says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

ROOT = Path(__file__).parents[1]
FIXED_ARGUMENTS = ["--port=8500", "--rest_api_port=8501"]
FAKE_SERVER = """
import json, os, signal, sys
signals = {signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:], "environment": dict(os.environ)}), flush=True)
print(signal.sigwait(signals).name, flush=True)
sys.exit(7)
"""


class Container:
    """A clean folder tree with the entry script in it, and a server that says how it was started and stopped."""

    def __init__(self, root: Path) -> None:
        binaries = root / "usr" / "bin"
        binaries.mkdir(parents=True)
        self._entrypoint = Path(shutil.copy(ROOT / "docker" / "entrypoint.sh", binaries / "tf_serving_entrypoint.sh"))
        source = root / "fake_server.py"
        source.write_text(FAKE_SERVER)
        server = binaries / "tensorflow_model_server"
        server.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I '{source}' \"$@\"\n")
        server.chmod(0o755)
        self._path = f"{binaries}:/usr/bin:/bin"

    @contextmanager
    def run(self, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        """Start as an engine would; gives the process and what the server saw."""
        with subprocess.Popen(
            [self._entrypoint, *arguments], env={"PATH": self._path, **environment}, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                yield process, json.loads(process.stdout.readline())
            finally:
                process.kill()


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_model_is_found_where_the_official_image_looks_by_default(container: Container) -> None:
    with container.run() as (_, seen):
        assert seen["argv"] == [*FIXED_ARGUMENTS, "--model_name=model", "--model_base_path=/models/model"]


def test_model_name_and_base_path_come_from_the_environment(container: Container) -> None:
    with container.run(MODEL_NAME="half plus two", MODEL_BASE_PATH="/mnt/all models") as (_, seen):
        assert seen["argv"][2:] == ["--model_name=half plus two", "--model_base_path=/mnt/all models/half plus two"]


def test_further_arguments_are_passed_on_as_they_are(container: Container) -> None:
    further = ["--enable_batching", "--model_config_file=/models/my models.config", "", "a*b", "$HOME"]
    with container.run(*further) as (_, seen):
        assert seen["argv"][4:] == further


def test_environment_reaches_the_server(container: Container) -> None:
    with container.run(TF_CPP_MIN_LOG_LEVEL="2") as (_, seen):
        assert seen["environment"]["TF_CPP_MIN_LOG_LEVEL"] == "2"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_server_takes_the_process_and_so_its_signals_and_exit_code(container: Container, sent: signal.Signals) -> None:
    with container.run() as (process, seen):
        assert seen["pid"] == process.pid
        process.send_signal(sent)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == sent.name
        assert process.wait() == 7


@contextmanager
def health_service(answer: bytes) -> Iterator[int]:
    """A gRPC server whose grpc.health.v1.Health/Check gives these bytes; yields its port."""

    def check(request: bytes, _: grpc.ServicerContext) -> bytes:
        assert request == b"", "the whole server's health is asked for"
        return answer

    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(grace=None).wait()


def health_check(port: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSERVING_HEALTH_PORT": str(port)}
    script = [sys.executable, str(ROOT / "docker" / "healthcheck.py")]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_health_check_passes_while_the_server_says_serving() -> None:
    with health_service(b"\x08\x01") as port:  # status: SERVING
        result = health_check(port)
    assert (result.stdout, result.returncode) == ("SERVING\n", 0), result.stderr


@pytest.mark.slow
def test_health_check_fails_while_the_server_says_not_serving() -> None:
    with health_service(b"\x08\x02") as port:  # status: NOT_SERVING
        result = health_check(port)
    assert (result.stdout, result.returncode) == ("NOT_SERVING\n", 1), result.stderr


@pytest.mark.slow
def test_health_check_fails_where_nothing_listens() -> None:
    with health_service(b"") as port:
        pass
    result = health_check(port)
    assert result.stdout.startswith("UNAVAILABLE: ")
    assert result.returncode == 1


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile; comments dropped, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def values(instruction: str) -> list[str]:
    return [rest for name, rest in dockerfile() if name == instruction]


def copied() -> list[tuple[list[str], str]]:
    """(sources, destination) of each COPY out of the build context."""
    words = [rest.split() for rest in values("COPY") if "--from=" not in rest]
    return [(parts[:-1], parts[-1]) for parts in words]


def test_image_does_not_run_as_root() -> None:
    assert dockerfile()[-1][0] == "ENTRYPOINT"
    user = values("USER")[-1].partition(":")[0]
    assert int(user) > 0, "a number, which Kubernetes can check"


def test_image_starts_the_entry_script_without_a_shell_between() -> None:
    [path] = json.loads(values("ENTRYPOINT")[-1])
    assert (["docker/entrypoint.sh"], path) in copied()
    assert os.access(ROOT / "docker" / "entrypoint.sh", os.X_OK)


def test_image_has_the_server_where_the_official_one_has_it() -> None:
    """Manifests of Kubernetes name it as their command."""
    assert "/usr/bin/tensorflow_model_server" in " ".join(values("RUN")).split()


def test_image_checks_its_health_by_the_script() -> None:
    command = values("HEALTHCHECK")[-1].partition("CMD")[2]
    program, path = json.loads(command)
    assert program == "python"
    assert (["docker/healthcheck.py"], path) in copied()


def test_image_has_the_official_defaults_and_ports() -> None:
    assert values("ENV") == ["MODEL_NAME=model MODEL_BASE_PATH=/models"]
    assert values("EXPOSE") == ["8500 8501"]


def test_everything_the_image_copies_exists_and_is_not_ignored() -> None:
    sources = [source for group, _ in copied() for source in group]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if Path(source).parts[0] not in sent] == []
