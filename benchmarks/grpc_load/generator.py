"""Runs the load generator of `benchmarks/generator` and checks every answer it got."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from benchmarks.grpc_load.models import Model
from pyserving import protos
from pyserving.codec import tensor_proto
from pyserving.errors import ServingError

BUILT = Path(__file__).resolve().parents[2] / ".bench" / "generator" / "generator"
_SLACK_SECONDS = 60.0
"""More than the generator waits for the last answers."""


class GeneratorFailed(Exception):
    """No figures: the server was not there, or the generator did not end."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send; see generator.cc."""

    encoding: str
    in_flight: int = 1
    connections: int = 1
    vary_timeout: bool = False
    warmup: float = 0.5
    seconds: float = 2.0
    calls: int | None = None
    max_frame: int | None = None
    """Bytes of the largest DATA frame; None: as large as the server asks for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of the generator saw."""

    figures: dict[str, Any]

    @property
    def answers(self) -> list[tuple[int, int, bytes]]:
        """Each different answer: number of the request, how often it came, gRPC message."""
        return [(request, count, bytes.fromhex(message)) for request, count, message in self.figures["answers"]]

    @property
    def ok(self) -> int:
        return int(self.figures["statuses"].get("0", 0))

    @property
    def calls_per_second(self) -> float:
        return float(self.figures["measured"] / self.figures["measured_seconds"])

    @property
    def client_cores(self) -> float:
        return float(self.figures["cpu_seconds"] / self.figures["wall_seconds"])


class Running:
    """A generator at work; `outcome` waits for its end."""

    def __init__(self, binary: Path, port: int, model: Model, load: Load) -> None:
        self._seconds = load.warmup + load.seconds + _SLACK_SECONDS
        self._process = subprocess.Popen(
            [str(binary), *_arguments(port, model, load)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def is_over(self, within_seconds: float) -> bool:
        try:
            self._process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def outcome(self) -> Outcome:
        try:
            out, err = self._process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            raise GeneratorFailed("the generator did not end") from None
        finally:
            self.stop()
        if self._process.returncode:
            raise GeneratorFailed(err.strip() or f"exit status {self._process.returncode}")
        return Outcome(json.loads(out))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _arguments(port: int, model: Model, load: Load) -> list[str]:
    arguments = [
        f"--port={port}",
        f"--requests={model.requests[load.encoding]}",
        f"--connections={load.connections}",
        f"--in_flight={load.in_flight}",
        f"--warmup={load.warmup}",
        f"--seconds={load.seconds}",
    ]
    if load.calls is not None:
        arguments.append(f"--calls={load.calls}")
    if load.max_frame is not None:
        arguments.append(f"--max_frame={load.max_frame}")
    if load.vary_timeout:
        arguments.append("--vary_timeout")
    return arguments


def troubles(outcome: Outcome, model: Model) -> list[str]:
    """What was wrong with the calls of a run: sentences, none when all was well."""
    figures = outcome.figures
    found = []
    if failures := {status: n for status, n in figures["statuses"].items() if status != "0"}:
        found.append(f"calls failed: {failures}, the first with {figures['first_failure']}")
    elif figures["first_failure"]:
        found.append(figures["first_failure"])
    if figures["left_open"]:
        found.append(f"{figures['left_open']} calls were never answered")
    if figures["unkept_answers"]:
        found.append(f"{figures['unkept_answers']} answers were too many different ones to be looked at")
    expected = np.load(model.expected)
    for request, count, message in outcome.answers:
        if (why := _mistake(message, expected[request], model)) is not None:
            found.append(f"{count} answers to request {request} are wrong: {why}")
    if not outcome.ok:
        found.append("no call succeeded")
    return found


def _mistake(message: bytes, expected: np.ndarray, model: Model) -> str | None:
    if message[:1] != b"\0" or int.from_bytes(message[1:5], "big") != len(message) - 5:
        return "not one gRPC message"
    try:
        response = protos.PredictResponse.FromString(message[5:])
        if model.output not in response.outputs:
            return f"no output {model.output}"
        output = tensor_proto.decode(response.outputs[model.output])
    except (DecodeError, ServingError) as error:
        return str(error)
    if output.shape != expected.shape or not np.allclose(output, expected, rtol=1e-3, atol=1e-5):
        return f"{output.ravel()[:4]} of shape {output.shape}, expected {expected.ravel()[:4]} of {expected.shape}"
    return None
