"""REST :predict under load: this server, a C++ server of the least work, and FastAPI with orjson.

    python benchmarks/load_rest.py [--only tiny,image,floats] [--rounds 5] [--seconds 2] [--out FILE.md]

h2load (Debian: nghttp2-client) is the client, since it must not be what limits. All servers of a workload are up, one
is loaded at a time, and rounds take turns; a gate is the median of ratios of one round. Every answer's status is
counted, and each server's first answer is compared with what it should be.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.load_swap import machine  # noqa: E402

FLOOR = ROOT / ".bench" / "rest_floor" / "rest_floor"
START_SECONDS = 180.0
OURS, STAND_IN, FASTAPI, BARE = "pyserving", "floor", "fastapi", "bare"
_JSON = {"Content-Type": "application/json"}
_HEADERS = ["-H", "content-type: application/json"]
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Workload:
    """A model, and a request to it."""

    name: str
    export: Callable[[Path], None]
    request: bytes
    first: float
    """The first number of the answer."""
    concurrencies: Sequence[int]
    servers: Sequence[str] = (OURS, STAND_IN, FASTAPI)


@dataclass(frozen=True)
class Sample:
    rate: float
    """Answers a second."""
    mean_ms: float
    cpu_us: float
    """Of the server, for each answer."""


@dataclass
class Cell:
    workload: str
    concurrency: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def ratios(self, one: str, other: str, of: str = "rate") -> list[float]:
        """Round by round; none if one of them was not there."""
        pairs = zip(self.samples.get(one, []), self.samples.get(other, []), strict=False)
        return [getattr(a, of) / getattr(b, of) for a, b in pairs]


# Models, by the builder of graphs, so that all servers can name their tensors `x:0` and `y:0`.


def _export(path: Path, shape: Sequence[int | None], compute: Callable[[Any], Any]) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, shape, name="x")
        y = tf.identity(compute(x), name="y")
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})


def half_plus_two(path: Path) -> None:
    _export(path, [None], lambda x: x * 0.5 + 2.0)


def image_mean(path: Path) -> None:
    import tensorflow as tf

    _export(path, [None, 224, 224, 3], lambda x: tf.reduce_mean(x, [1, 2, 3]))


def many_floats(path: Path) -> None:
    import tensorflow as tf

    values = np.random.default_rng(1).normal(size=90_000).astype(np.float32)
    _export(path, [None], lambda x: tf.expand_dims(x, 1) + tf.constant(values))


def image_request() -> bytes:
    """A picture with values of four digits, as one that was scaled to lie between 0 and 1."""
    pixels = np.random.default_rng(1).random((1, 224, 224, 3)).round(8)
    return json.dumps({"instances": pixels.tolist()}).encode()


def workloads() -> list[Workload]:
    image = image_request()
    mean = float(np.mean(np.array(json.loads(image)["instances"], np.float32)))
    first = float(np.float32(np.random.default_rng(1).normal(size=1)[0]))
    return [
        Workload("tiny", half_plus_two, b'{"instances": [1.0, 2.0, 5.0]}', 2.5, (1, 32)),
        Workload("image", image_mean, image, mean, (1, 8), (OURS, STAND_IN)),
        Workload("floats", many_floats, b'{"instances": [0.0]}', first, (1,)),
    ]


# Servers


class Server:
    """A process that serves one workload's model."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/models/m:predict"
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wait_until_right(self, workload: Workload) -> None:
        """Until it answers; SystemExit when its answer is wrong, or it never comes."""
        end = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            try:
                request = urllib.request.Request(self.url, workload.request, _JSON)
                with urllib.request.urlopen(request, timeout=60) as response:
                    answer = np.array(json.load(response)["predictions"]).ravel()
            except OSError:
                time.sleep(0.2)  # it is starting
                continue
            if not math.isclose(float(answer[0]), workload.first, rel_tol=1e-3):
                sys.exit(f"{self.process.args!r} answers {answer[0]}, and not {workload.first}")
            return
        sys.exit(f"{self.process.args!r} does not answer")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def command_of(name: str, given: argparse.Namespace, folder: Path, port: int) -> list[str]:
    version = str(folder / "m" / "1")
    if name == STAND_IN:
        return [str(given.floor), version, str(port), "x:0", "y:0"]
    if name == FASTAPI:
        return [given.fastapi_python, "benchmarks/rest_floor/fastapi_server.py", version, str(port)]
    flags = ["--port=0", f"--grpc_socket_path={folder}/s", f"--rest_api_port={port}"]
    return [sys.executable, "-m", "pyserving", *flags, "--model_name=m", f"--model_base_path={folder}/m"]


# Load


def load(server: Server, request: Path, concurrency: int, seconds: float) -> Sample:
    """Keep-alive connections with one request in flight each."""
    command = ["h2load", "--h1", "-t1", f"-c{concurrency}", f"-D{seconds * 1e3:.0f}ms", "--warm-up-time=300ms"]
    before, began = server.cpu_seconds(), time.monotonic()
    done = subprocess.run([*command, f"-d{request}", *_HEADERS, server.url], capture_output=True, text=True, check=True)
    cpu, elapsed = server.cpu_seconds() - before, time.monotonic() - began
    said = done.stdout
    rate = _number(r"finished in [^,]+, ([0-9.]+) req/s", said)
    ok, bad = _number(r"status codes: ([0-9]+) 2xx", said), re.search(r"2xx, (.*)$", said, re.MULTILINE)
    if not ok or not bad or re.search(r"[1-9]", re.sub(r"[345]xx", "", bad[1])):
        sys.exit(f"not all answers of {server.url} were good:\n{said}")
    times = re.search(r"^time for request: +(\S+) +(\S+) +(\S+)", said, re.MULTILINE)
    mean_ms = _milliseconds(times[3]) if times else math.nan
    return Sample(rate, mean_ms, 1e6 * cpu / max(1.0, rate * elapsed))


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def bare_simdjson(request: bytes, seconds: float) -> Sample:
    """What parsing and converting alone would allow, with nothing checked."""
    import simdjson

    def once() -> None:
        numbers = simdjson.Parser().parse(request)["instances"].as_buffer(of_type="d")
        np.frombuffer(numbers, np.float64).astype(np.float32)

    once()
    count, cpu, began = 0, time.process_time(), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        once()
        count += 1
    return Sample(count / elapsed, 1e3 * elapsed / count, 1e6 * (time.process_time() - cpu) / count)


def measure(workload: Workload, given: argparse.Namespace, folder: Path) -> list[Cell]:
    (folder / "m").mkdir(parents=True)
    subprocess.run(  # TensorFlow is not to take this process's time
        [sys.executable, __file__, f"--export={workload.name}", str(folder / "m" / "1")],
        check=True,
        capture_output=True,
    )
    request = folder / "request.json"
    request.write_bytes(workload.request)
    cells = [Cell(workload.name, concurrency) for concurrency in workload.concurrencies]
    chosen = [name for name in workload.servers if name in given.servers]
    with ExitStack() as stack:
        servers = {}
        for name in chosen:
            port = free_port()
            command = command_of(name, given, folder, port)
            servers[name] = stack.enter_context(Server(command, port, folder / f"{name}.log"))
            servers[name].wait_until_right(workload)
        for turn in range(given.rounds):
            for cell in cells:
                for name in chosen[turn % len(chosen) :] + chosen[: turn % len(chosen)]:
                    sample = load(servers[name], request, cell.concurrency, given.seconds)
                    cell.samples.setdefault(name, []).append(sample)
                if workload.name == "image" and cell.concurrency == 1:
                    cell.samples.setdefault(BARE, []).append(bare_simdjson(workload.request, given.seconds / 2))
    return cells


# What came out


def table(cells: Sequence[Cell]) -> str:
    rows = ["| workload | in flight | server | answers/s | mean ms | server CPU µs |", "|---|---:|---|---:|---:|---:|"]
    for cell in cells:
        for name, samples in cell.samples.items():
            rate, mean, cpu = (
                statistics.median(getattr(sample, of) for sample in samples) for of in ("rate", "mean_ms", "cpu_us")
            )
            rows.append(f"| {cell.workload} | {cell.concurrency} | {name} | {rate:,.0f} | {mean:.3f} | {cpu:,.0f} |")
    return "\n".join(rows)


@dataclass(frozen=True)
class Gate:
    workload: str
    concurrency: int
    other: str
    least: float = 0.0
    of: str = "rate"
    most: float = math.inf

    def verdict(self, cells: Sequence[Cell]) -> tuple[str, bool | None]:
        """The line to print; None when nothing was measured to judge by."""
        wish = f">= {self.least}" if self.least else f"<= {self.most}"
        what = f"{self.workload}, {self.concurrency} in flight: {self.of} {wish} times that of {self.other}"
        for cell in cells:
            ratios = cell.ratios(OURS, self.other, self.of)
            if (cell.workload, cell.concurrency) == (self.workload, self.concurrency) and ratios:
                median = statistics.median(ratios)
                passed = self.least <= median <= self.most
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                return f"{'pass' if passed else 'FAIL'}  {what}: {median:.2f} ({spread})", passed
        return f"not measured  {what}", None


GATES = (
    Gate("image", 1, STAND_IN, 2.0),
    Gate("image", 8, STAND_IN, 1.2),
    Gate("image", 1, BARE, 0.6),
    Gate("floats", 1, FASTAPI, 3.0),
    Gate("tiny", 32, STAND_IN, 0.8),
    Gate("tiny", 32, FASTAPI, 5.0),
    Gate("tiny", 1, STAND_IN, of="mean_ms", most=1.2),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="tiny,image,floats", help="workloads, of %(default)s")
    parser.add_argument("--servers", default=f"{OURS},{STAND_IN},{FASTAPI}", help="of %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured for each server, cell and round")
    parser.add_argument("--floor", type=Path, default=FLOOR, help="the built floor; built when it is not there")
    parser.add_argument("--fastapi_python", default=sys.executable, help="a Python that has fastapi and uvicorn")
    parser.add_argument("--out", type=Path, help="where to write the table as well")
    parser.add_argument("--export", help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.export:
        {"tiny": half_plus_two, "image": image_mean, "floats": many_floats}[given.export](given.folder)
        return 0
    given.servers = given.servers.split(",")
    if STAND_IN in given.servers and not given.floor.exists():
        build = ["sh", "benchmarks/rest_floor/build.sh", str(given.floor.parent)]
        subprocess.run(build, cwd=ROOT, env=os.environ | {"PYTHON": sys.executable}, check=True)
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads():
            if workload.name in given.only.split(","):
                cells += measure(workload, given, Path(folder) / workload.name)
                print(table(cells), flush=True)
    verdicts = [gate.verdict(cells) for gate in GATES]
    text = "\n".join([table(cells), "", *(line for line, _ in verdicts), "", machine()])
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    return 1 if any(passed is False for _, passed in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
