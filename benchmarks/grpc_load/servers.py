"""The servers that take turns under load: their commands, their processes, and what these cost."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.grpc_load import generator
from benchmarks.grpc_load.generator import GeneratorFailed, Load, Outcome
from benchmarks.grpc_load.models import MODEL_NAME, Model
from benchmarks.grpc_load.results import Sample
from benchmarks.grpc_load.workloads import WORKLOADS, Cell

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
"""That a server may take from its start to its first good answer."""
STOP_SECONDS = 40.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COUNT = re.compile(rf'^:tensorflow:serving:request_count{{model_name="{MODEL_NAME}",status="OK"}} (\d+)', re.MULTILINE)


class ServerFailed(Exception):
    """A server did not start, or has gone."""


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start a server. Words in braces stand for what it is told: see `fillings`."""

    name: str
    command: str
    """Words as a shell has them; the first may be NAME=VALUE, set in the environment."""
    workloads: tuple[str, ...] = WORKLOADS
    counts_answers: bool = False
    """Whether {rest_port} has a metrics page in TensorFlow Serving's form."""


def parse_server(text: str) -> ServerCommand:
    """`NAME=COMMAND` or `NAME@WORKLOAD,WORKLOAD=COMMAND`. Raises ValueError."""
    head, equals, command = text.partition("=")
    name, _, workloads = head.partition("@")
    chosen = tuple(workloads.split(",")) if workloads else WORKLOADS
    if not (equals and name and command) or not set(chosen) <= set(WORKLOADS):
        raise ValueError(f"not NAME[@WORKLOAD,...]=COMMAND with workloads of {', '.join(WORKLOADS)}: {text}")
    return ServerCommand(name, command, chosen)


_PYSERVING = (
    "{python} -m pyserving --port={port} --rest_api_port={rest_port} --model_name={model} "
    "--model_base_path={base_path} --grpc_transport="
)
_FLOOR = "{floor} {libtensorflow} {version_folder} {port} {input_tensor} {output_tensor} {input} {output}"
OURS = (
    ServerCommand("http2", _PYSERVING + "http2", counts_answers=True),
    ServerCommand("grpcio", _PYSERVING + "grpcio", counts_answers=True),
    ServerCommand("floor-inline", f"FLOOR_INLINE=1 {_FLOOR}"),
    ServerCommand("floor-pool", _FLOOR),
)
BARE = tuple(f"bare-{way}" for way in ("caller", "pool"))


def libtensorflow() -> Path:
    """The shared library with TensorFlow's C API in its Python package, found without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("TensorFlow is not installed")
    return Path(spec.submodule_search_locations[0], "libtensorflow_cc.so.2")


def fillings(model: Model, port: int, rest_port: int, floor: Path) -> dict[str, str]:
    """What the words in braces of a command stand for."""
    return {
        "python": sys.executable,
        "floor": str(floor),
        "libtensorflow": str(libtensorflow()),
        "port": str(port),
        "rest_port": str(rest_port),
        "model": MODEL_NAME,
        "base_path": model.base_path,
        "version_folder": model.version_folder,
        "signature": model.signature,
        "input": model.input,
        "output": model.output,
        "input_tensor": model.input_tensor,
        "output_tensor": model.output_tensor,
    }


def split_command(command: str, filled: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Variables to set, and the words to execute. Raises ServerFailed for an unknown word in braces."""
    try:
        words = [word.format(**filled) for word in shlex.split(command)]
    except (KeyError, ValueError, IndexError) as error:
        raise ServerFailed(f"cannot read its command: {error!r}") from None
    variables = {}
    while words and re.match(r"\w+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Child:
    """A process with a session of its own, so that all it starts is counted with it and stops with it."""

    def __init__(self, words: list[str], variables: Mapping[str, str], log: Path, **pipes: int) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"} | dict(variables),
                start_new_session=True,
                stderr=file,
                **({"stdout": file, "stdin": subprocess.DEVNULL} | pipes),
            )

    def stat_fields(self) -> list[list[str]]:
        """For every process of the session, what follows its name in /proc/PID/stat."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has gone meanwhile
            if int(fields[3]) == self.process.pid:
                found.append(fields)
        return found

    def cpu_seconds(self) -> float:
        """User and system time since the start."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self.stat_fields()) / _TICKS_PER_SECOND

    def rss_bytes(self) -> int:
        return sum(int(fields[21]) for fields in self.stat_fields()) * _PAGE_BYTES

    def check(self) -> None:
        if (status := self.process.poll()) is not None:
            raise ServerFailed(f"has gone with status {status}: {self.last_words()}")

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-5:])[-1000:]

    def stop(self) -> None:
        """Asks first; what does not listen is killed."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(seconds)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()


class Subject(Protocol):
    """What can be put under load."""

    name: str

    def wait_until_ready(self) -> None: ...

    def measure(self, cell: Cell, round: int, seconds: float, warmup: float) -> tuple[Sample, list[str]]:
        """Figures, and what was wrong. Raises ServerFailed or GeneratorFailed when there are none."""

    def stop(self) -> None: ...


class Server:
    """A gRPC server of one model."""

    def __init__(
        self, command: ServerCommand, model: Model, logs: Path, tools: Tools, encoding: str = "float_val"
    ) -> None:
        self.name = command.name
        self.model = model
        self._tools = tools
        self._encoding = encoding
        self.port, self._rest_port = free_ports(2)
        filled = fillings(model, self.port, self._rest_port, tools.floor)
        variables, words = split_command(command.command, filled)
        self._counts_answers = command.counts_answers
        self.child = Child(words, variables, logs / f"{command.name}.log")

    def wait_until_ready(self) -> None:
        """Until it has answered a call rightly."""
        until = time.monotonic() + START_SECONDS
        why = "it did not listen"
        while time.monotonic() < until:
            self.child.check()
            try:
                outcome = self._run(Load(self._encoding, calls=1, warmup=0, seconds=30))
            except GeneratorFailed as error:
                why = str(error)
            else:
                if outcome.ok and not (wrong := generator.troubles(outcome, self.model)):
                    return
                why = "; ".join(generator.troubles(outcome, self.model)) if not outcome.ok else "; ".join(wrong)
            time.sleep(0.3)
        raise ServerFailed(f"not ready within {START_SECONDS:.0f} s: {why}: {self.child.last_words()}")

    def start_load(self, load: Load) -> generator.Running:
        return generator.Running(self._tools.generator, self.port, self.model, load)

    def _run(self, load: Load) -> Outcome:
        return self.start_load(load).outcome()

    def measure(self, cell: Cell, round: int, seconds: float, warmup: float) -> tuple[Sample, list[str]]:
        self.child.check()
        load = Load(
            cell.encoding,
            cell.in_flight,
            vary_timeout=cell.vary_timeout,
            warmup=warmup,
            seconds=seconds,
            max_frame=self._tools.max_frame,
        )
        counted_before, cpu_before = self.counted(), self.child.cpu_seconds()
        outcome = self._run(load)
        cpu, counted = self.child.cpu_seconds() - cpu_before, self.counted() - counted_before
        wrong = generator.troubles(outcome, self.model)
        if self._counts_answers and counted != outcome.ok:
            wrong.append(f"the server counted {counted} OK answers, the client {outcome.ok}")
        figures = outcome.figures
        sample = Sample(
            self.name,
            cell,
            round,
            outcome.calls_per_second,
            figures["mean_us"],
            figures["p50_us"],
            figures["p99_us"],
            1e6 * cpu / max(1, figures["sent"]),
            self.child.rss_bytes(),
            outcome.client_cores,
        )
        return sample, wrong

    def counted(self) -> int:
        """OK answers since the start by the server's own count; 0 of a server that has none."""
        if not self._counts_answers:
            return 0
        address = f"http://127.0.0.1:{self._rest_port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(address, timeout=30) as page:
            found = _COUNT.search(page.read().decode())
        return int(found[1]) if found else 0

    def stop(self) -> None:
        self.child.stop()


class NotRunSo(Exception):
    """The server does not run this model in that way: there is nothing to compare with."""


class Bare:
    """A model's prepared run without a server, in as many threads as there would be calls in flight."""

    def __init__(self, name: str, model: Model, logs: Path) -> None:
        self.name = name
        words = [
            sys.executable,
            "-m",
            "benchmarks.grpc_load.bare",
            model.version_folder,
            model.input_tensor,
            model.output_tensor,
        ]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._child = Child([*words, model.inputs, name.removeprefix("bare-")], {}, logs / f"{self.name}.log", **pipes)

    def _line(self, seconds: float) -> str:
        out = self._child.process.stdout
        assert out is not None
        if not select.select([out], [], [], seconds)[0]:
            raise ServerFailed(f"no answer within {seconds:.0f} s")
        line = out.readline().decode()
        if not line:
            raise ServerFailed(f"has gone: {self._child.last_words()}")
        return line

    def wait_until_ready(self) -> None:
        while (line := self._line(START_SECONDS)) != "ready\n":
            if line == "absent\n":
                raise NotRunSo

    def measure(self, cell: Cell, round: int, seconds: float, warmup: float) -> tuple[Sample, list[str]]:
        self._child.check()
        assert self._child.process.stdin is not None
        cpu_before = self._child.cpu_seconds()
        self._child.process.stdin.write(f"{cell.in_flight} {warmup} {seconds}\n".encode())
        self._child.process.stdin.flush()
        figures = json.loads(self._line(warmup + seconds + 60))
        cpu = self._child.cpu_seconds() - cpu_before
        sample = Sample(
            self.name,
            cell,
            round,
            figures["calls_per_second"],
            figures["mean_us"],
            figures["p50_us"],
            figures["p99_us"],
            1e6 * cpu / max(1, figures["calls"]),
            self._child.rss_bytes(),
            0.0,
        )
        return sample, []

    def stop(self) -> None:
        self._child.stop()


@dataclass(frozen=True, slots=True)
class Tools:
    """What was built, and how it is used."""

    generator: Path
    floor: Path
    max_frame: int | None = None
