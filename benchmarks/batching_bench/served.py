"""Servers with and without batching, under the same load in turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np

from benchmarks.batching_bench.models import NAME, ROOT, Inputs, Model, request
from benchmarks.grpc_load.servers import free_ports
from pyserving import protos
from pyserving.codec import tensor_proto
from pyserving.executors.executor import Plan, open_executor

START_SECONDS = 120.0


class Server:
    """This server over HTTP/2, with one model."""

    def __init__(self, model: Model, generator: Path, *flags: str) -> None:
        self._requests = model.request_file()
        self._generator = generator
        self.port, self.rest_port = free_ports(2)
        words = [sys.executable, "-m", "pyserving", f"--port={self.port}", f"--rest_api_port={self.rest_port}"]
        words += [f"--model_name={NAME}", f"--model_base_path={model.base_path}", "--grpc_transport=http2", *flags]
        self._process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        grpc.channel_ready_future(channel).result(START_SECONDS)
        channel.close()

    def load(self, in_flight: int, seconds: float, connections: int = 1) -> dict[str, Any]:
        """The generator's figures. Raises RuntimeError for calls that fail."""
        done = subprocess.run(
            [
                *(str(self._generator), f"--port={self.port}", f"--requests={self._requests}"),
                *(f"--connections={connections}", f"--in_flight={in_flight // connections}"),
                *("--warmup=0.5", f"--seconds={seconds}"),
            ],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=True,
        )
        figures: dict[str, Any] = json.loads(done.stdout)
        if set(figures["statuses"]) != {"0"} or figures["left_open"]:
            raise RuntimeError(f"calls failed: {figures['statuses']}, {figures['first_failure']}")
        figures["rate"] = figures["measured"] / figures["measured_seconds"]
        return figures

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


@contextmanager
def servers(model: Model, generator: Path, **flags: Sequence[str]) -> Iterator[dict[str, Server]]:
    """By name; each keyword names a server and gives its flags."""
    running: dict[str, Server] = {}
    try:
        for name, given in flags.items():
            running[name] = Server(model, generator, *given)
        yield running
    finally:
        for server in running.values():
            server.stop()


def on_and_off(
    model: Model, generator: Path, loads: Sequence[tuple[int, int]], rounds: int, seconds: float
) -> dict[tuple[int, int], dict[str, float]]:
    """For each (in flight, connections): medians over the rounds of what batching on makes of off."""
    found = {}
    with servers(model, generator, on=["--enable_batching"], off=[]) as both:
        for server in both.values():
            server.load(32, 1.0)  # the server learns its model
        for in_flight, connections in loads:
            pairs = []
            for _ in range(rounds):
                pairs.append({name: server.load(in_flight, seconds, connections) for name, server in both.items()})
            found[in_flight, connections] = {
                "rate on": median(pair["on"]["rate"] for pair in pairs),
                "rate off": median(pair["off"]["rate"] for pair in pairs),
                "rate": median(pair["on"]["rate"] / pair["off"]["rate"] for pair in pairs),
                "p50": median(pair["on"]["p50_us"] / pair["off"]["p50_us"] for pair in pairs),
                "mean": median(pair["on"]["mean_us"] / pair["off"]["mean_us"] for pair in pairs),
            }
    return found


def bare(plan: Plan, inputs: Sequence[np.ndarray], seconds: float, threads: int = 2) -> float:
    """Rows a second of the fastest way through a model in a bare loop of threads."""
    return max(_bare_round(way.run, inputs, seconds, threads) for way in plan.ways)


def _bare_round(run: Callable[..., Any], inputs: Sequence[np.ndarray], seconds: float, threads: int) -> float:
    run(*inputs)
    runs = [0] * threads
    began = time.perf_counter()

    def loop(thread: int) -> None:
        while time.perf_counter() - began < seconds:
            run(*inputs)
            runs[thread] += 1

    working = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    return sum(runs) * len(inputs[0]) / (time.perf_counter() - began)


def against_bare(
    model: Model, generator: Path, rounds: int, seconds: float, sizes: Sequence[int] = (1, 2, 4, 8)
) -> dict[str, Any]:
    """Rows a second that the server makes at 16 in flight, beside the best size of a bare loop; in turns."""
    executor = open_executor("tensorflow", model.version_folder)
    definition = executor.signature_defs[model.signature]
    aliases = sorted(definition.inputs)
    plan = executor.plan(
        tuple(definition.inputs[alias].name for alias in aliases),
        tuple(info.name for info in definition.outputs.values()),
    )
    grid: dict[int, list[float]] = {size: [] for size in sizes}
    served = []
    with servers(model, generator, on=["--enable_batching"]) as running:
        running["on"].load(16, 3 * seconds)  # it learns which sizes pay
        for _ in range(rounds):
            for size in sizes:
                grid[size].append(
                    bare(plan, [np.repeat(model.inputs[0][alias], size, 0) for alias in aliases], seconds)
                )
            served.append(running["on"].load(16, 2 * seconds)["rate"])
    executor.close()
    medians = {size: median(rates) for size, rates in grid.items()}
    best = [max(grid[size][number] for size in sizes) for number in range(rounds)]
    return {
        "bare": medians,
        "served": median(served),
        "ratio": median(mine / theirs for mine, theirs in zip(served, best, strict=True)),
    }


def mixed_shapes(model: Model, generator: Path, calls: int = 40, threads: int = 8) -> dict[str, int]:
    """Errors, and answers that differ from those of one call after another."""
    with servers(model, generator, on=["--enable_batching"]) as running:
        address = f"127.0.0.1:{running['on'].port}"
        expected = [predict(address, model, inputs) for inputs in model.inputs]
        found = {"calls": 0, "errors": 0, "different": 0}
        counting = threading.Lock()

        def work(thread: int) -> None:
            with grpc.insecure_channel(address) as channel:
                for number in range(calls):
                    which = (thread + number) % len(model.inputs)
                    outcome = _outcome(channel, model, which, expected[which])
                    with counting:
                        found["calls"] += 1
                        found["errors"] += outcome is None
                        found["different"] += outcome is False

        working = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for each in working:
            each.start()
        for each in working:
            each.join()
    return found


def _outcome(channel: grpc.Channel, model: Model, which: int, expected: Inputs) -> bool | None:
    try:
        answer = _predict(channel, model, model.inputs[which])
    except grpc.RpcError:
        return None
    return all(np.allclose(answer[alias], expected[alias], rtol=1e-3, atol=1e-4) for alias in expected)


def predict(address: str, model: Model, inputs: Inputs) -> Inputs:
    with grpc.insecure_channel(address) as channel:
        return _predict(channel, model, inputs)


def _predict(channel: grpc.Channel, model: Model, inputs: Inputs) -> Inputs:
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    body = call(request(model.signature, inputs).SerializeToString(), timeout=60)
    response = protos.PredictResponse.FromString(body)
    return {alias: tensor_proto.decode(tensor) for alias, tensor in response.outputs.items()}
